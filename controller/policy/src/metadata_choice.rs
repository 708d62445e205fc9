//! Which metadata server takes a new job: one where the predicted load stays in range, in operations
//! and in the memory that names take.

use pocket_proto::ServerId;

/// What a metadata server does on one core, in operations a second (paper, section 6.2).
pub const METADATA_OPERATIONS_PER_SECOND: u64 = 90_000;
/// Inodes that its 16 GB of memory hold at some 400 bytes each (m5.xlarge, as there).
pub const METADATA_INODES: u64 = 40_000_000;
/// Operations a second that one task asks for at its peak (paper, section 6.2: 75).
const TASK_OPERATIONS_PER_SECOND: u64 = 75;
/// Operations around every object: lookup, create or open, commit and close.
const OPERATIONS_PER_OBJECT: u64 = 4;
/// Size of objects where nobody says: the median of the paper's sort (1.6 MB).
const OBJECT_BYTES: u64 = 1_600_000;
/// A server is in range below this part of what it can do (paper: 80 %).
const RANGE_PERCENT: u64 = 80;
/// The most inodes that a metadata server lets a job have.
const INODES_OF_A_JOB_MAX: u64 = 10_000_000;

/// What is known of a job's load on its metadata server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataDemand {
    /// Its capacity, in bytes.
    pub capacity_bytes: u64,
    /// Its throughput, in bytes per second.
    pub bytes_per_second: u64,
    /// Tasks at once, where known.
    pub tasks: Option<u32>,
    /// Mean size of its objects, where known (from earlier runs).
    pub object_bytes: Option<u64>,
}

impl MetadataDemand {
    /// Operations a second at the peak: what its throughput takes in objects, but no more than its
    /// tasks can ask for.
    pub fn operations_per_second(self) -> u64 {
        let objects = self.bytes_per_second / self.object_bytes();
        let of_objects = objects.saturating_mul(OPERATIONS_PER_OBJECT);
        match self.tasks {
            None => of_objects,
            Some(tasks) => of_objects.min(u64::from(tasks) * TASK_OPERATIONS_PER_SECOND),
        }
    }

    /// Inodes when it holds the most: as many objects as fill its capacity.
    pub fn inodes(self) -> u64 {
        (self.capacity_bytes / self.object_bytes()).min(INODES_OF_A_JOB_MAX)
    }

    fn object_bytes(self) -> u64 {
        self.object_bytes.unwrap_or(OBJECT_BYTES).max(1)
    }
}

/// What a living metadata server carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataLoad {
    /// The server.
    pub server: ServerId,
    /// Jobs on it.
    pub jobs: usize,
    /// Their inodes, predicted or as they are.
    pub inodes: u64,
    /// What its memory holds.
    pub inodes_max: u64,
    /// Predicted of its jobs together, at their peaks.
    pub operations_per_second: u64,
    /// What it can do.
    pub operations_per_second_max: u64,
    /// It did not answer lately.
    pub suspect: bool,
}

/// The servers to try, best first: those that answer, those that stay in range with a job of this
/// `demand`, fewest jobs, least load, fewest inodes.
pub fn order_of_preference(
    mut servers: Vec<MetadataLoad>,
    demand: MetadataDemand,
) -> Vec<ServerId> {
    // In millionths of what there is.
    let part = |used: u64, more: u64, all: u64| {
        (u128::from(used) + u128::from(more)) * 1_000_000 / u128::from(all.max(1))
    };
    let after = |load: &MetadataLoad| {
        let (operations, inodes) = (demand.operations_per_second(), demand.inodes());
        let all = load.operations_per_second_max;
        let operations = part(load.operations_per_second, operations, all);
        operations.max(part(load.inodes, inodes, load.inodes_max))
    };
    servers.sort_unstable_by_key(|load| {
        let jobs = (load.jobs, load.operations_per_second, load.inodes);
        // Where all leave their range, the least loaded is the least wrong.
        let after = after(load);
        let excess = (after > u128::from(RANGE_PERCENT) * 10_000).then_some(after);
        (load.suspect, excess, jobs, load.server)
    });
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
            operations_per_second: 0,
            operations_per_second_max: 90_000,
            inodes_max: 10_000,
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
            let demand = MetadataDemand::default();
            assert_eq!(order_of_preference(loads, demand), order);
        }
    }

    #[test]
    fn a_job_goes_where_its_load_stays_in_range() {
        let load = |server, jobs, operations_per_second| MetadataLoad {
            server: ServerId(server),
            jobs,
            inodes: 0,
            operations_per_second,
            operations_per_second_max: 10_000,
            inodes_max: u64::MAX,
            suspect: false,
        };
        let loads = vec![load(1, 1, 7_500), load(2, 9, 100), load(3, 1, 9_000)];
        let order = |more: u64| -> Vec<u64> {
            // Objects of a byte: four operations each.
            let demand = MetadataDemand {
                bytes_per_second: more / 4,
                object_bytes: Some(1),
                ..MetadataDemand::default()
            };
            let order = order_of_preference(loads.clone(), demand).into_iter();
            order.map(|server| server.0).collect()
        };
        assert_eq!(order(500), [1, 2, 3], "just in range, and fewer jobs");
        assert_eq!(order(504), [2, 1, 3]);
        assert_eq!(
            order(20_000),
            [2, 1, 3],
            "the least loaded if none is in range"
        );
    }

    #[test]
    fn a_job_of_many_objects_goes_where_there_is_memory_for_their_names() {
        let load = |server, jobs, inodes| MetadataLoad {
            server: ServerId(server),
            jobs,
            inodes,
            inodes_max: 1_000,
            operations_per_second: 0,
            operations_per_second_max: 10_000,
            suspect: false,
        };
        let loads = vec![load(1, 1, 700), load(2, 9, 100)];
        let order = |capacity_bytes| -> Vec<u64> {
            let demand = MetadataDemand {
                capacity_bytes,
                object_bytes: Some(10),
                ..MetadataDemand::default()
            };
            let order = order_of_preference(loads.clone(), demand).into_iter();
            order.map(|server| server.0).collect()
        };
        assert_eq!(order(1_000), [1, 2], "just in range, and fewer jobs");
        assert_eq!(order(1_010), [2, 1]);
        let endless = MetadataDemand {
            capacity_bytes: u64::MAX,
            object_bytes: Some(0),
            ..MetadataDemand::default()
        };
        assert_eq!(endless.inodes(), INODES_OF_A_JOB_MAX);
        assert_eq!(MetadataDemand::default().inodes(), 0);
    }

    #[test]
    fn load_follows_objects_but_no_more_than_tasks_ask() {
        let demand = |tasks, object_bytes| MetadataDemand {
            capacity_bytes: 0,
            bytes_per_second: 1_600_000_000,
            tasks,
            object_bytes,
        };
        assert_eq!(demand(None, None).operations_per_second(), 4_000);
        assert_eq!(demand(None, Some(16_000)).operations_per_second(), 400_000);
        assert_eq!(
            demand(Some(100), Some(16_000)).operations_per_second(),
            7_500
        );
        assert_eq!(MetadataDemand::default().operations_per_second(), 0);
    }
}
