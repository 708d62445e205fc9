//! `pocket up` and the commands that use a cluster.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, io::Write, process::Stdio};

use common::{Folder, POCKET, Run, Up, command, is_alive, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn small() -> Up {
    Up::start(&["--storage-servers", "2", "--capacity", "64MiB"])
}

fn json(ran: &Run) -> Value {
    ran.assert_code(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn objects_come_back_as_they_went() {
    let up = small();
    let folder = Folder::new();
    let (source, copy) = (folder.join("source"), folder.join("copy"));
    // More than a block, and no multiple of one.
    let data: Vec<u8> = (0..3_500_001_u32).map(|i| (i % 251) as u8).collect();
    fs::write(&source, &data).unwrap();
    let (source, copy) = (source.to_str().unwrap(), copy.to_str().unwrap());
    up.pocket(&["put", "objects/a/b/data", source, "--keep"])
        .assert_code(0);
    up.pocket(&["get", "objects/a/b/data", copy]).assert_code(0);
    assert!(fs::read(copy).unwrap() == data);

    // Into a directory under the file's own name, and replaced by something shorter.
    up.pocket(&["put", "objects/a/", source]).assert_code(0);
    fs::write(source, "short").unwrap();
    up.pocket(&["put", "objects/a/b/data", source])
        .assert_code(0);
    let got = up.pocket(&["get", "objects/a/b/data"]);
    got.assert_code(0);
    assert_eq!(got.stdout, "short");

    let listed = json(&up.pocket(&["ls", "objects/a", "--json"]));
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|o| &o["name"])
        .collect();
    assert_eq!(names, ["b", "source"]);
    assert_eq!(listed[1]["size_bytes"], 3_500_001);
    let table = up.pocket(&["ls", "objects"]);
    assert!(table.stdout.contains("drwxr-xr-x") || table.stdout.contains("drwxrwxrwx"));

    let refused = up.pocket(&["rm", "objects/a"]);
    refused.assert_code(1);
    assert!(refused.stderr.contains("give -r"), "{refused:?}");
    up.pocket(&["rm", "objects/a/source"]).assert_code(0);
    up.pocket(&["rm", "-r", "objects/a"]).assert_code(0);
    assert_eq!(
        json(&up.pocket(&["ls", "objects", "--json"])),
        Value::Array(Vec::new())
    );
}

#[test]
fn standard_input_becomes_an_object() {
    let up = small();
    let arguments = ["put", "stdin/x", "-", "--controller", &up.controller];
    let mut child = command(POCKET, &arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(up.pocket(&["get", "stdin/x", "-"]).stdout, "piped");
}

#[test]
fn missing_jobs_and_objects_are_told_apart() {
    let up = small();
    for arguments in [
        &["get", "nojob/x"][..],
        &["ls", "nojob"],
        &["rm", "nojob/x"],
        &["job", "show", "nojob"],
        &["job", "deregister", "nojob"],
    ] {
        let ran = up.pocket(arguments);
        ran.assert_code(1);
        assert!(ran.stderr.contains("nojob"), "{ran:?}");
    }
    up.pocket(&["put", "job/x", "/etc/hostname", "--keep"])
        .assert_code(0);
    for arguments in [&["get", "job/y"][..], &["ls", "job/y"], &["rm", "job/y"]] {
        let ran = up.pocket(arguments);
        ran.assert_code(1);
        assert!(ran.stderr.contains("job/y: No such file"), "{ran:?}");
    }
    let through = up.pocket(&["get", "job/x/y"]);
    assert!(through.stderr.contains("Not a directory"), "{through:?}");
    up.pocket(&["get", "job"]).assert_code(1);
}

#[test]
fn an_object_that_does_not_fit_leaves_the_former_one() {
    let up = small();
    let folder = Folder::new();
    let big = folder.join("big");
    fs::File::create(&big).unwrap().set_len(3 << 20).unwrap();
    let sized = ["--capacity", "1MiB", "--max-capacity", "1MiB", "--keep"];
    let put = |from: &str| up.pocket(&[&["put", "full/x", from], &sized[..]].concat());
    put("/etc/hostname").assert_code(0);
    let ran = put(big.to_str().unwrap());
    ran.assert_code(1);
    assert!(
        ran.stderr.contains("uota") || ran.stderr.contains("No space"),
        "{ran:?}"
    );
    let listed = json(&up.pocket(&["ls", "full", "--json"]));
    let size = fs::metadata("/etc/hostname").unwrap().len();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["size_bytes"], size);
}

#[test]
fn reading_commands_show_the_cluster() {
    let up = small();
    up.pocket(&[
        "put",
        "shown/x",
        "/etc/hostname",
        "--keep",
        "--capacity",
        "1MiB",
    ])
    .assert_code(0);
    let status = json(&up.pocket(&["status", "--json"]));
    assert_eq!(status["storage_servers"]["alive"], 2);
    assert_eq!(status["metadata_servers"]["alive"], 1);
    assert_eq!(status["capacity_bytes"], 128 << 20);
    assert_eq!(status["jobs"], 1);
    let nodes = json(&up.pocket(&["nodes", "--json"]));
    assert_eq!(nodes.as_array().unwrap().len(), 3);
    let jobs = json(&up.pocket(&["jobs", "--json"]));
    assert_eq!(jobs[0]["name"], "shown");
    let job = json(&up.pocket(&["job", "show", "shown", "--json"]));
    assert_eq!(job["keep"], true);
    assert_eq!(job["hints"]["capacity_bytes"], 1 << 20);
    for (arguments, part) in [
        (&["status"][..], "2 servers alive"),
        (&["nodes"], "dram"),
        (&["jobs"], "kept until deregistered"),
        (&["job", "show", "shown"], "storage server"),
    ] {
        let ran = up.pocket(arguments);
        ran.assert_code(0);
        assert!(ran.stdout.contains(part), "{ran:?}");
    }
    up.pocket(&["job", "deregister", "shown"]).assert_code(0);
    assert_eq!(
        json(&up.pocket(&["jobs", "--json"])),
        Value::Array(Vec::new())
    );
}

#[test]
fn a_signal_ends_every_process() {
    for way in [Signal::SIGINT, Signal::SIGTERM] {
        let mut up = small();
        signal(up.process(), way);
        assert_eq!(up.wait(), Some(0));
        assert!(up.servers.iter().all(|(_, process)| !is_alive(*process)));
    }
}

#[test]
fn no_process_outlives_a_killed_parent() {
    let mut up = small();
    signal(up.process(), Signal::SIGKILL);
    up.wait();
    for (role, process) in &up.servers {
        until(&format!("the {role} has ended"), || !is_alive(*process));
    }
}

#[test]
fn a_dead_server_is_reported_and_the_rest_goes_on() {
    let arguments = [
        "up",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--capacity",
        "64MiB",
    ];
    let folder = Folder::new();
    let errors = folder.join("errors");
    let mut child = command(POCKET, &arguments)
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let storage = &ready["servers"][2];
    assert_eq!(storage["role"], "storage");
    signal(storage["pid"].as_i64().unwrap() as i32, Signal::SIGKILL);
    until("its death is reported", || {
        let said = fs::read_to_string(&errors).unwrap();
        said.contains("storage server 1") && said.contains("killed by SIGKILL")
    });
    let controller = ready["controller"].as_str().unwrap();
    common::pocket(&["status", "--controller", controller]).assert_code(0);
    signal(child.id() as i32, Signal::SIGTERM);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_taken_address_is_told() {
    let up = small();
    let ran = common::pocket(&["up", "--listen", &up.controller]);
    ran.assert_code(1);
    assert!(
        ran.stderr.contains("the controller did not start"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("cannot listen"), "{ran:?}");
}

#[test]
fn a_mount_that_waits_for_room_is_gone_with_its_command() {
    if !common::can_mount() {
        return;
    }
    let up = small();
    let (occupied, folder) = (Folder::new(), Folder::new());
    let occupant = ["occupant", occupied.text(), "--capacity", "100MiB"];
    up.mount(&occupant).assert_code(0);
    for how in [Signal::SIGINT, Signal::SIGKILL] {
        let arguments = ["waits", folder.text(), "--capacity", "120MiB"];
        let mut waiting = command(common::POCKET_MOUNT, &arguments);
        waiting.args(["--controller", &up.controller]);
        let mut waiting = waiting.stdout(Stdio::null()).spawn().unwrap();
        let is_queued = || up.pocket(&["jobs"]).stdout.contains("waiting: place 1");
        until("the mount waits", is_queued);
        signal(waiting.id() as i32, how);
        assert!(!waiting.wait().unwrap().success());
        until("its place is free", || !is_queued());
        until("its process is gone", || {
            common::processes_naming(folder.text()).is_empty()
        });
    }
    let unmounted = common::run("umount", &[occupied.text()]);
    unmounted.assert_code(0);
}
