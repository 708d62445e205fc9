//! What `.pocket` tells that the file system does not know: the mount's settings, and its job.

use std::{fmt::Write, time::Duration};

use async_trait::async_trait;
use pocket_controller_client::ControllerClient;
use pocket_fs::ControlSource;
use pocket_proto::{
    Bandwidth, ByteCount, JobId,
    control::{Allocation, RegisterJobReply},
};
use tokio::time::timeout;

use crate::view::JobView;

/// Whoever opens `.pocket/job` waits so long for the controller.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct MountControl {
    /// The job's name.
    pub(crate) job: String,
    /// Settings, each with its name.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// What the controller answered when this mount registered.
    pub(crate) registration: RegisterJobReply,
    /// The way to it.
    pub(crate) controller: ControllerClient,
}

#[async_trait]
impl ControlSource for MountControl {
    fn config(&self) -> String {
        lines(self.settings.iter().cloned())
    }

    async fn job(&self) -> String {
        let id = self.registration.job;
        match timeout(PATIENCE, self.controller.list_jobs(&self.job)).await {
            Ok(Ok(jobs)) => match jobs.into_iter().find(|job| job.job == id) {
                Some(status) => lines(JobView::from(status).details()),
                None => self.registered("the controller does not know the job any more"),
            },
            Ok(Err(error)) => self.registered(&error.to_string()),
            Err(_) => self.registered("the controller does not answer"),
        }
    }
}

impl MountControl {
    /// What was known when this mount registered, and why no more is.
    fn registered(&self, why: &str) -> String {
        let Allocation {
            capacity_bytes,
            bandwidth_bytes_per_second: bytes_per_second,
            weight_map,
            reasons,
        } = self.registration.allocation.clone().unwrap_or_default();
        let map = weight_map.unwrap_or_default();
        let mut known = vec![
            ("job", self.job.clone()),
            ("id", JobId(self.registration.job).to_string()),
            ("capacity", ByteCount(capacity_bytes).to_string()),
            ("bandwidth", Bandwidth { bytes_per_second }.to_string()),
            ("epoch", map.epoch.to_string()),
        ];
        let servers = map
            .servers
            .into_iter()
            .filter_map(|weighted| weighted.server);
        known.extend(servers.map(|server| {
            let text = format!("{} {}", server.endpoint, server.tier);
            ("storage server", text)
        }));
        known.extend(reasons.into_iter().map(|reason| ("because", reason)));
        known.push(("as of", format!("the time of the mount ({why})")));
        lines(known)
    }
}

fn lines(known: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut text = String::new();
    for (label, value) in known {
        // A value of one line each; writing to a string does not fail.
        let value = value.replace('\n', " ");
        let _ = writeln!(text, "{label:<16} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_controller_the_job_is_told_as_it_was_registered() {
        let registration = RegisterJobReply {
            job: 7,
            allocation: Some(Allocation {
                capacity_bytes: 1 << 30,
                reasons: vec!["capacity as hinted".to_owned()],
                ..Allocation::default()
            }),
            ..RegisterJobReply::default()
        };
        let control = MountControl {
            job: "sort".to_owned(),
            settings: vec![("mount point", "/pocket/sort\nof mine".to_owned())],
            registration,
            // Nobody listens there.
            controller: ControllerClient::connect("127.0.0.1:1").unwrap(),
        };
        let job = control.job().await;
        for part in [
            "sort",
            "1GiB",
            "capacity as hinted",
            "the time of the mount",
        ] {
            assert!(job.contains(part), "{part} in {job}");
        }
        assert_eq!(control.config(), "mount point      /pocket/sort of mine\n");
    }
}
