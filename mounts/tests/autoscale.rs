//! `pocket up --autoscale`: servers come and go with the jobs.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use common::{Folder, Run, Up, can_mount, is_alive, processes_naming, signal, until};
use nix::sys::signal::Signal;
use pocket_controller_client::{Report, ServerAgent, ServerIdentity};
use pocket_proto::{
    ClusterKey, Incarnation, ServerId,
    control::{ServerRole, StorageClass, Usage},
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

fn elastic() -> Up {
    let limits = ["--autoscale", "--min", "1", "--max", "3"];
    let size = ["--capacity", "64MiB", "--drain-deadline", "0s"];
    Up::start(&[&limits[..], &size].concat())
}

fn json(ran: &Run) -> Value {
    ran.assert_code(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Living storage servers that stay.
fn staying(up: &Up) -> Vec<String> {
    let nodes = json(&up.pocket(&["nodes", "--json"]));
    let storage = nodes.as_array().unwrap().iter().filter(|node| {
        node["role"] == "storage" && node["alive"] == true && node["leaving"].is_null()
    });
    let endpoints = storage.map(|node| node["endpoint"].as_str().unwrap().to_owned());
    endpoints.collect()
}

/// Processes that report to this cluster's controller.
fn servers_of(up: &Up) -> Vec<i32> {
    processes_naming(&format!("--controller {}", up.controller).replace(' ', "\0"))
}

#[test]
fn a_job_that_needs_more_servers_gets_them_and_they_go_when_it_ends() {
    if !can_mount() {
        return;
    }
    let up = elastic();
    assert_eq!(staying(&up).len(), 1);
    let folder = Folder::new();
    // More than there is: it waits for servers instead of being refused.
    let mounted = up.mount(&["big", folder.text(), "--capacity", "150MiB"]);
    mounted.assert_code(0);
    assert_eq!(staying(&up).len(), 3);
    for number in 0..40_u8 {
        std::fs::write(folder.join(&format!("f{number}")), vec![number; 3 << 20]).unwrap();
    }
    for number in 0..40_u8 {
        let found = std::fs::read(folder.join(&format!("f{number}"))).unwrap();
        assert!(found == vec![number; 3 << 20], "file {number}");
    }
    let refused = up.pocket(&["put", "more/x", "/etc/hostname", "--capacity", "300MiB"]);
    refused.assert_code(1);

    nix::mount::umount2(folder.path(), nix::mount::MntFlags::empty()).unwrap();
    up.pocket(&["job", "deregister", "big"]).assert_code(0);
    until("the servers have gone", || staying(&up).len() == 1);
    until("their processes have ended", || servers_of(&up).len() == 2);
    let status = json(&up.pocket(&["status", "--json"]));
    let decisions = status["pool"]["decisions"].as_array().unwrap();
    let changes: Vec<_> = decisions
        .iter()
        .map(|d| (&d["before"], &d["after"]))
        .collect();
    assert_eq!(
        changes,
        [(&Value::from(1), &3.into()), (&3.into(), &1.into())]
    );
    let shown = up.pocket(&["status"]).stdout;
    assert!(shown.contains("1 to 3: jobs wait for 150MiB"), "{shown}");
    assert!(
        shown.contains("3 to 1: everything was below its range"),
        "{shown}"
    );
}

#[test]
fn a_crashed_server_is_started_again_and_none_outlives_the_cluster() {
    let mut up = elastic();
    let storage = |up: &Up| {
        let all = servers_of(up).into_iter();
        let line = |process: &i32| std::fs::read(format!("/proc/{process}/cmdline"));
        let is_storage = |process: &i32| {
            line(process).is_ok_and(|l| l.split(|b| *b == 0).any(|w| w == b"storage"))
        };
        all.filter(is_storage).collect::<Vec<_>>()
    };
    let first = storage(&up);
    assert_eq!(first.len(), 1);
    signal(first[0], Signal::SIGKILL);
    until("another one is started", || {
        let now = storage(&up);
        now.len() == 1 && now != first
    });
    until("it takes data", || staying(&up).len() == 1);

    // Killed itself, it leaves none behind.
    let all = servers_of(&up);
    assert!(all.len() >= 2);
    signal(up.process(), Signal::SIGKILL);
    up.wait();
    until("all have ended", || {
        !all.iter().any(|process| is_alive(*process))
    });
}

const KEY: &str = "of this test";

/// A metadata server that is nothing but its reports, of so many operations a second.
struct Reporter {
    operations: Arc<AtomicU64>,
    _agent: ServerAgent,
    _runtime: Runtime,
}

impl Reporter {
    fn start(controller: &str) -> Self {
        let operations = Arc::new(AtomicU64::new(0));
        let reported = Arc::clone(&operations);
        let report = move || Report {
            usage: Usage {
                operations_per_second: reported.load(Ordering::Relaxed),
                ..Usage::default()
            },
            ..Report::default()
        };
        let identity = ServerIdentity {
            server: ServerId::random(),
            incarnation: Incarnation::random(),
            role: ServerRole::Metadata,
            endpoint: "reporter:1".to_owned(),
            control_endpoint: "reporter:2".to_owned(),
            tier: String::new(),
            class: StorageClass::Regular,
            capacity_bytes: 0,
            bandwidth_bytes_per_second: 0,
            cluster_key: ClusterKey::from_passphrase(KEY),
        };
        let runtime = Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let agent = runtime.block_on(async {
            let agent = ServerAgent::spawn(controller, identity, report, |_| {}, stop).unwrap();
            agent.registered().await;
            agent
        });
        Reporter {
            operations,
            _agent: agent,
            _runtime: runtime,
        }
    }
}

#[test]
fn metadata_servers_come_with_their_load_and_go_when_their_jobs_have_ended() {
    let limits = ["--autoscale", "--max", "1", "--metadata-max", "3"];
    let all = [&limits[..], &["--capacity", "64MiB"]].concat();
    let up = Up::start_with(&all, &[("POCKET_CLUSTER_KEY", KEY)]);
    let reporter = Reporter::start(&up.controller);
    let metadata = |up: &Up| -> Vec<Value> {
        let nodes = json(&up.pocket(&["nodes", "--json"]));
        let of_role = |node: &&Value| node["role"] == "meta" && node["alive"] == true;
        nodes
            .as_array()
            .unwrap()
            .iter()
            .filter(of_role)
            .cloned()
            .collect()
    };
    assert_eq!(metadata(&up).len(), 2);
    let processes = servers_of(&up).len();
    // Two of them do 180,000 operations a second at most.
    reporter.operations.store(150_000, Ordering::Relaxed);
    until("a third is started", || metadata(&up).len() == 3);
    for job in ["one", "two"] {
        let name = format!("{job}/x");
        let put = ["put", &name, "/etc/hostname", "--capacity", "8MiB"];
        up.pocket(&put).assert_code(0);
    }
    let jobs: Vec<_> = metadata(&up)
        .iter()
        .map(|node| node["jobs"].clone())
        .collect();
    assert_eq!(
        jobs.iter().filter(|jobs| **jobs == 1).count(),
        2,
        "{jobs:?}"
    );

    reporter.operations.store(0, Ordering::Relaxed);
    let leaving = |up: &Up| {
        metadata(up)
            .into_iter()
            .find(|node| !node["leaving"].is_null())
    };
    until("one is to go", || leaving(&up).is_some());
    let left = leaving(&up).unwrap();
    assert_eq!(
        (&left["leaving"]["stage"], &left["jobs"]),
        (&"draining".into(), &1.into())
    );
    assert_eq!(servers_of(&up).len(), processes + 1, "its job goes on");
    for job in ["one", "two"] {
        up.pocket(&["job", "deregister", job]).assert_code(0);
    }
    until("it has gone", || metadata(&up).len() == 2);
    until("its process has ended", || {
        servers_of(&up).len() == processes
    });
    let shown = up.pocket(&["status"]).stdout;
    assert!(
        shown.contains("2 to 3: the rate of operations was above its range for 3 s"),
        "{shown}"
    );
    assert!(
        shown.contains("3 to 2: everything was below its range for 5 s"),
        "{shown}"
    );
    assert!(
        shown.contains("local: 2 of 1 to 3 metadata servers"),
        "{shown}"
    );
}
