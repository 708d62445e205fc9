//! `pocket up --autoscale`: storage servers come and go with the jobs.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, Run, Up, can_mount, is_alive, processes_naming, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;

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
