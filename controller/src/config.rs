//! Settings of a controller.

use std::{path::PathBuf, time::Duration};

use pocket_policy::Catalogue;
use pocket_proto::ClusterKey;

/// Settings of a controller. `ControllerConfig::default()` suits a cluster of processes.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Where to listen, "host:port"; port 0 takes any free one.
    pub listen: String,
    /// The secret shared by the cluster's servers; job credentials are issued with it.
    pub cluster_key: ClusterKey,
    /// A server not heard from for so long is dead. Heartbeats come every second.
    pub heartbeat_timeout: Duration,
    /// A dead server is listed for so long; then it is forgotten, and with it the jobs of a
    /// metadata server (which come back if it does).
    pub forget_after: Duration,
    /// For so long after its start a controller creates no job, since a metadata server that it
    /// has not heard from yet may hold one of that name. Joining a known job never waits. Zero
    /// where the servers are known to be as new as the controller: an embedded cluster, tests.
    pub settle: Duration,
    /// Node types and prices, and what jobs without hints get.
    pub catalogue: Catalogue,
    /// The file that outlives the controller: what earlier runs of jobs needed. Without one that is
    /// forgotten at its end.
    pub state: Option<PathBuf>,
    /// Where to serve metrics, "host:port"; port 0 takes any free one. Nowhere unless given.
    pub metrics: Option<String>,
    /// Where to serve the dashboard, "host:port"; port 0 takes any free one. Nowhere unless given:
    /// it asks for no credential.
    pub dashboard: Option<String>,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        ControllerConfig {
            listen: "0.0.0.0:7300".to_owned(),
            cluster_key: ClusterKey::open(),
            heartbeat_timeout: Duration::from_secs(3),
            forget_after: Duration::from_secs(300),
            settle: Duration::from_secs(3),
            catalogue: Catalogue::default(),
            state: None,
            metrics: None,
            dashboard: None,
        }
    }
}
