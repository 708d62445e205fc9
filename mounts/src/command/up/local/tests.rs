//! Stand-ins for servers: what is looked after are real processes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pocket_scaler::conformance::{World, check};

use super::*;

/// Announces itself as a server of the role that is its argument does, with its process as the port, and
/// ends in order when asked to.
const STAND_IN: &str = r#"#!/bin/sh
trap 'exit 0' TERM
echo "{\"role\":\"$1\",\"endpoint\":\"127.0.0.1:$$\",\"pid\":$$}"
while :; do sleep 0.05; done
"#;

struct Processes;

fn process(endpoint: &str) -> Pid {
    let (_, port) = endpoint.rsplit_once(':').unwrap();
    Pid::from_raw(port.parse().unwrap())
}

#[async_trait]
impl World for Processes {
    async fn crash(&self, endpoint: &str) {
        kill(process(endpoint), Signal::SIGKILL).unwrap();
    }

    async fn leave(&self, endpoint: &str) {
        kill(process(endpoint), Signal::SIGTERM).unwrap();
    }

    async fn serves(&self, endpoint: &str) -> bool {
        Path::new(&format!("/proc/{}", process(endpoint))).exists()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_servers_of_this_machine_conform_and_none_is_left_behind() {
    conforms_and_leaves_none_behind("storage server", "storage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_servers_of_this_machine_conform_and_none_is_left_behind() {
    conforms_and_leaves_none_behind("metadata server", "meta").await;
}

async fn conforms_and_leaves_none_behind(name: &'static str, role: &str) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("server");
    fs::write(&program, STAND_IN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let scaler = LocalScaler::new(name, program, vec![role.to_owned()], None);
    check(&scaler, &Processes).await.unwrap();
    let instances = scaler.instances().await.unwrap();
    assert!(
        instances
            .iter()
            .all(|instance| instance.name.starts_with(name))
    );
    let running: Vec<_> = instances
        .into_iter()
        .filter_map(|instance| instance.endpoint)
        .collect();
    assert_eq!(running.len(), 2);
    scaler.end().await;
    for endpoint in running {
        assert!(!Processes.serves(&endpoint).await, "{endpoint}");
    }
}
