//! What a plan says of a job that persists: which class of servers it would be on.

use pocket_proto::{
    ByteCount,
    control::{ServerRole, ServerStatus, StorageClass},
};

/// Long-running servers that take data, as far as that matters to a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LongRunning {
    servers: usize,
    capacity_bytes: u64,
    free_bytes: u64,
}

impl LongRunning {
    /// Those among the servers of a cluster.
    pub(super) fn among(servers: &[ServerStatus]) -> Self {
        let takes_data = |server: &&ServerStatus| {
            server.role() == ServerRole::Storage
                && server.storage_class() == StorageClass::LongRunning
                && server.alive
                && server.leave.is_none()
        };
        let mut sum = LongRunning::default();
        for server in servers.iter().filter(takes_data) {
            let free = server.capacity_bytes.saturating_sub(server.reserved_bytes);
            sum.servers += 1;
            sum.capacity_bytes = sum.capacity_bytes.saturating_add(server.capacity_bytes);
            sum.free_bytes = sum.free_bytes.saturating_add(free);
        }
        sum
    }

    /// What becomes of a job that persists and of which this capacity was hinted.
    pub(super) fn sentence(self, hinted_bytes: Option<u64>) -> String {
        let LongRunning {
            servers,
            capacity_bytes,
            free_bytes,
        } = self;
        let start = "pocket storage --class long-running starts one";
        let there = match servers {
            0 => {
                return format!(
                    "it persists, and the cluster has no long-running servers: it goes to regular \
                     ones ({start})"
                );
            }
            1 => "1 long-running server".to_owned(),
            _ => format!("{servers} long-running servers"),
        };
        let fits = match hinted_bytes {
            Some(bytes) if bytes > capacity_bytes => format!(", and would be refused: {start}"),
            Some(bytes) if bytes > free_bytes => {
                format!(", and would wait there for others to end: {start}")
            }
            _ => String::new(),
        };
        format!(
            "it persists, so it goes to the cluster's {there} with {} free of {}{fits}",
            ByteCount(free_bytes),
            ByteCount(capacity_bytes),
        )
    }
}

/// The same where no cluster is asked.
pub(super) fn without_a_cluster() -> String {
    "it persists, so it goes to long-running servers where the cluster has any, else to regular ones: \
     name a --controller to learn which"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use pocket_proto::control::Leave;

    use super::*;

    #[test]
    fn long_running_servers_that_take_data_decide_what_becomes_of_the_job() {
        let server = |class: StorageClass| ServerStatus {
            role: ServerRole::Storage.into(),
            storage_class: class.into(),
            alive: true,
            capacity_bytes: 4 << 30,
            reserved_bytes: 1 << 30,
            ..ServerStatus::default()
        };
        let dead = ServerStatus {
            alive: false,
            ..server(StorageClass::LongRunning)
        };
        let leaving = ServerStatus {
            leave: Some(Leave::default()),
            ..server(StorageClass::LongRunning)
        };
        let others = [dead, leaving, server(StorageClass::Regular)];
        let none = LongRunning::among(&others).sentence(None);
        assert!(
            none.contains("goes to regular ones (pocket storage"),
            "{none}"
        );
        let long_running = vec![server(StorageClass::LongRunning); 2];
        let both = LongRunning::among(&[&others[..], &long_running].concat());
        for (hinted, says) in [
            (None, "2 long-running servers with 6GiB free of 8GiB"),
            (Some(6 << 30), "with 6GiB free of 8GiB"),
            (Some(7 << 30), "of 8GiB, and would wait there"),
            (
                Some(9 << 30),
                "of 8GiB, and would be refused: pocket storage",
            ),
        ] {
            let told = both.sentence(hinted);
            assert!(told.contains(says), "{told}");
        }
        assert!(both.sentence(Some(6 << 30)).ends_with("8GiB"));
    }
}
