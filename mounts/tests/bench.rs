//! `pocket bench` as a user runs it, on plain directories of this machine.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A directory in memory where there is one; it disappears with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let path = parent.join(format!("pocket-bench-{test}.{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn is_empty(&self, name: &str) -> bool {
        fs::read_dir(self.0.join(name)).unwrap().next().is_none()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn bench(directory: &Path, repeat: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocket"));
    command
        .arg("bench")
        .arg(directory)
        .args(["--scale", "0.01", "--repeat", repeat]);
    command
        .arg("--tree")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    command
}

fn failure(output: Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn every_row_is_measured_in_every_directory_and_nothing_is_left_behind() {
    let scratch = Scratch::new("rows");
    let (one, other) = (scratch.directory("one"), scratch.directory("other"));
    let mut command = bench(&one, "1");
    let output = command
        .arg("--against")
        .arg(&other)
        .arg("--second-mount")
        .arg(&one)
        .arg("--json")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    let rows = report["rows"].as_array().unwrap();
    for section in ["a", "b", "c", "d", "e", "f", "g"] {
        assert!(
            rows.iter().any(|row| row["section"] == section),
            "no row of section {section}"
        );
    }
    for row in rows {
        let of_the_second_mount =
            row["section"] == "g" || row["key"].as_str().unwrap().starts_with("shuffle2");
        assert!(row["medians"][0].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["medians"][1].is_null(), of_the_second_mount, "{row}");
        assert_eq!(row["advantages"].as_array().unwrap().len(), 1, "{row}");
    }
    assert!(scratch.is_empty("one") && scratch.is_empty("other"));
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let scratch = Scratch::new("interrupted");
    let directory = scratch.directory("one");
    let mut running = bench(&directory, "1000")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line says that the first section has begun, the second that it has worked in the directory.
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines();
    assert!(
        lines
            .nth(1)
            .unwrap()
            .unwrap()
            .contains(directory.to_str().unwrap())
    );
    kill(
        Pid::from_raw(running.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(!running.wait().unwrap().success());
    assert!(
        rest.iter().any(|line| line.contains("interrupted")),
        "{rest:?}"
    );
    assert!(scratch.is_empty("one"));
}

#[test]
fn a_users_mistake_is_explained() {
    let scratch = Scratch::new("mistakes");
    let directory = scratch.directory("one");
    let twice = bench(&directory, "1")
        .arg("--against")
        .arg(&directory)
        .output()
        .unwrap();
    assert!(failure(twice).contains("is given twice"));
    let no_second_mount = bench(&directory, "1")
        .args(["--sections", "g"])
        .output()
        .unwrap();
    assert!(failure(no_second_mount).contains("--second-mount"));
    let missing = bench(&scratch.0.join("nowhere"), "1").output().unwrap();
    assert!(failure(missing).contains("nowhere"));
    let too_large = bench(&directory, "1")
        .args(["--sections", "a", "--cap", "0"])
        .output()
        .unwrap();
    assert!(failure(too_large).contains("cap 0"));
}
