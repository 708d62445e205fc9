//! Which metadata server takes a new job.

use pocket_proto::ServerId;

/// What a living metadata server carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MetadataLoad {
    pub(crate) server: ServerId,
    pub(crate) jobs: usize,
    pub(crate) inodes: u64,
    /// It did not answer lately.
    pub(crate) suspect: bool,
}

/// The servers to try, best first: those that answer, fewest jobs, fewest inodes.
pub(crate) fn order_of_preference(mut servers: Vec<MetadataLoad>) -> Vec<ServerId> {
    servers.sort_unstable_by_key(|load| (load.suspect, load.jobs, load.inodes, load.server));
    servers.into_iter().map(|load| load.server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewest_jobs_then_fewest_inodes_and_suspects_last() {
        let load = |server, jobs, inodes, suspect| MetadataLoad {
            server: ServerId(server),
            jobs,
            inodes,
            suspect,
        };
        for (loads, order) in [
            (vec![], vec![]),
            (
                vec![
                    load(1, 2, 0, false),
                    load(2, 1, 900, false),
                    load(3, 1, 9, false),
                ],
                vec![3, 2, 1],
            ),
            (
                vec![load(1, 0, 0, true), load(2, 50, 900, false)],
                vec![2, 1],
            ),
        ] {
            let order: Vec<_> = order.into_iter().map(ServerId).collect();
            assert_eq!(order_of_preference(loads), order);
        }
    }
}
