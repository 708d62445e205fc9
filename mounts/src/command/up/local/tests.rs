//! Stand-ins for storage servers: what is looked after are real processes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pocket_scaler::conformance::{World, check};

use super::*;

/// Announces itself as a storage server does, with its process as the port, and ends in order when
/// asked to.
const STAND_IN: &str = r#"#!/bin/sh
trap 'exit 0' TERM
echo "{\"role\":\"storage\",\"endpoint\":\"127.0.0.1:$$\",\"pid\":$$}"
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
async fn processes_of_this_machine_conform_and_none_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("server");
    fs::write(&program, STAND_IN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let scaler = LocalScaler::new(program, Vec::new(), None);
    check(&scaler, &Processes).await.unwrap();
    let running: Vec<_> = scaler
        .instances()
        .await
        .unwrap()
        .into_iter()
        .filter_map(|instance| instance.endpoint)
        .collect();
    assert_eq!(running.len(), 2);
    scaler.end().await;
    for endpoint in running {
        assert!(!Processes.serves(&endpoint).await, "{endpoint}");
    }
}
