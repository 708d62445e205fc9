//! `pocket up --long-running`: the data of jobs that persist lie on servers of their own.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, fs};

use common::{Folder, Run, Up, until};
use serde_json::Value;

const MIB: usize = 1 << 20;

fn json(ran: &Run) -> Value {
    ran.assert_code(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Living storage servers of a class that stay, and what each holds.
fn held(up: &Up, class: &str) -> BTreeMap<String, u64> {
    let nodes = json(&up.pocket(&["nodes", "--json"]));
    let of_class = nodes.as_array().unwrap().iter().filter(|node| {
        node["role"] == "storage"
            && node["alive"] == true
            && node["leaving"].is_null()
            && node["class"] == class
    });
    let held = of_class.map(|node| {
        let endpoint = node["endpoint"].as_str().unwrap().to_owned();
        (endpoint, node["used_bytes"].as_u64().unwrap())
    });
    held.collect()
}

fn sum(up: &Up, class: &str) -> usize {
    held(up, class).values().sum::<u64>() as usize
}

/// A file of so many bytes, none like its neighbours.
fn file(folder: &Folder, name: &str, bytes: usize) -> String {
    let path = folder.join(name);
    let data: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    fs::write(&path, data).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The object is what the file is.
fn assert_reads_back(up: &Up, folder: &Folder, object: &str, file: &str) {
    let copy = folder.join("copy");
    up.pocket(&["get", object, copy.to_str().unwrap()])
        .assert_code(0);
    assert!(
        fs::read(copy).unwrap() == fs::read(file).unwrap(),
        "{object}"
    );
}

#[test]
fn data_of_jobs_that_persist_are_on_long_running_servers_until_they_are_removed() {
    let up = Up::start(&[
        "--storage-servers",
        "1",
        "--long-running",
        "1",
        "--capacity",
        "64MiB",
    ]);
    let folder = Folder::new();
    let data = file(&folder, "data", 5 * MIB);
    let sized = ["--capacity", "32MiB"];
    let put = |object: &str, more: &[&str]| {
        up.pocket(&[&["put", object, &data], more, &sized].concat())
            .assert_code(0);
    };
    put("kept/x", &["--persist", "--ttl", "1h"]);
    until("the data are told of", || {
        sum(&up, "long-running") >= 5 * MIB
    });
    assert_eq!(sum(&up, "regular"), 0);
    put("other/x", &["--keep"]);
    until("the data are told of", || sum(&up, "regular") >= 5 * MIB);
    assert!(sum(&up, "long-running") < 6 * MIB);

    let nodes = up.pocket(&["nodes"]).stdout;
    assert_eq!(nodes.matches("dram, long-running").count(), 1, "{nodes}");
    let status = up.pocket(&["status"]).stdout;
    assert!(
        status.contains("2 servers alive, 1 long-running"),
        "{status}"
    );
    let planned = |capacity: &str| {
        let ran = up.pocket(&["plan", "--persist", "--capacity", capacity]);
        ran.assert_code(0);
        ran.stdout
    };
    assert!(planned("1MiB").contains("1 long-running server with"));
    assert!(planned("1GiB").contains("would be refused: pocket storage --class long-running"));

    // What does not fit there is refused, though there is room elsewhere.
    let refused = up.pocket(&["put", "huge/x", &data, "--persist", "--capacity", "65MiB"]);
    refused.assert_code(1);
    assert!(
        refused
            .stderr
            .contains("pocket storage --class long-running"),
        "{refused:?}"
    );
    up.pocket(&["job", "deregister", "kept"]).assert_code(0);
    until("the data are gone", || sum(&up, "long-running") == 0);
    assert!(sum(&up, "regular") >= 5 * MIB);
}

#[test]
fn blocks_of_a_drained_long_running_server_move_to_another_one() {
    let up = Up::start(&[
        "--storage-servers",
        "1",
        "--long-running",
        "2",
        "--capacity",
        "64MiB",
    ]);
    let folder = Folder::new();
    let data = file(&folder, "data", 20 * MIB);
    let put = ["put", "kept/x", &data, "--persist", "--capacity", "40MiB"];
    up.pocket(&put).assert_code(0);
    until("the data are told of", || {
        sum(&up, "long-running") >= 20 * MIB
    });
    let before = held(&up, "long-running");
    assert!(before.values().all(|bytes| *bytes > 0), "{before:?}");
    let (leaving, other) = (before.keys().next().unwrap(), before.keys().nth(1).unwrap());
    up.pocket(&["node", "drain", leaving, "--deadline", "0s"])
        .assert_code(0);
    until("the other one has all", || {
        held(&up, "long-running").get(other).copied() >= Some((20 * MIB) as u64)
    });
    assert_reads_back(&up, &folder, "kept/x", &data);
    assert_eq!(sum(&up, "regular"), 0);
    // Those that remain have nowhere to go.
    let refused = up.pocket(&["node", "drain", other]);
    refused.assert_code(1);
    assert!(
        refused
            .stderr
            .contains("the last long-running storage server"),
        "{refused:?}"
    );
}

#[test]
fn a_scaler_lets_long_running_servers_be_while_others_come_and_go() {
    let scaled = [
        "--autoscale",
        "--min",
        "1",
        "--max",
        "2",
        "--drain-deadline",
        "0s",
    ];
    let up = Up::start(&[&scaled[..], &["--long-running", "1", "--capacity", "64MiB"]].concat());
    let folder = Folder::new();
    let data = file(&folder, "data", 5 * MIB);
    let put = ["put", "kept/x", &data, "--persist", "--capacity", "48MiB"];
    up.pocket(&put).assert_code(0);
    let large = ["put", "large/x", &data, "--keep", "--capacity", "100MiB"];
    up.pocket(&large).assert_code(0);
    assert_eq!(held(&up, "regular").len(), 2);
    // For who waits for long-running servers none is started.
    let waits = [
        "put",
        "more/x",
        &data,
        "--persist",
        "--capacity",
        "48MiB",
        "--wait",
        "1s",
    ];
    let refused = up.pocket(&waits);
    refused.assert_code(1);
    assert!(refused.stderr.contains("long-running"), "{refused:?}");
    up.pocket(&["job", "deregister", "large"]).assert_code(0);
    until("one server has gone", || held(&up, "regular").len() == 1);
    assert_eq!(held(&up, "long-running").len(), 1);
    assert_reads_back(&up, &folder, "kept/x", &data);
    let pool = || json(&up.pocket(&["status", "--json"]))["pool"].clone();
    until("the scaler tells of one server", || pool()["servers"] == 1);
    let pool = pool();
    assert_eq!(pool["servers_max"], 2);
    let decisions = pool["decisions"].as_array().unwrap().iter();
    let changes: Vec<_> = decisions
        .map(|d| (d["before"].as_u64(), d["after"].as_u64()))
        .collect();
    for change in [(Some(1), Some(2)), (Some(2), Some(1))] {
        assert!(changes.contains(&change), "{changes:?}");
    }
    let most = changes
        .iter()
        .flat_map(|&(before, after)| [before, after])
        .max();
    assert_eq!(most, Some(Some(2)), "the long-running one is not counted");
}
