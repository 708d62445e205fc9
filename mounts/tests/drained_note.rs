//! A storage server that is started again after it was drained, as containers are.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use common::{POCKET, Run, command, pocket, signal, until};
use nix::sys::signal::Signal;
use pocket_scaler::DRAINED;
use serde_json::Value;

/// A process, killed with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = command(POCKET, &[arguments, &["--json"]].concat());
        Server(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Where it says that it listens.
    fn endpoint(&mut self) -> String {
        let mut line = String::new();
        let output = self.0.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        said["endpoint"].as_str().unwrap().to_owned()
    }

    fn code(&mut self) -> Option<i32> {
        let mut code = None;
        until("it has ended", || {
            code = self.0.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }
}

fn alive(controller: &str) -> usize {
    let nodes: Run = pocket(&["nodes", "--json", "--controller", controller]);
    nodes.assert_code(0);
    let nodes: Value = serde_json::from_str(&nodes.stdout).unwrap();
    let nodes = nodes.as_array().unwrap().iter();
    nodes.filter(|node| node["alive"] == true).count()
}

fn says(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn a_drained_server_that_is_started_again_takes_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let (own, told) = (folder.path().join("own"), folder.path().join("told"));
    let mut controller = Server::start(&["controller", "--listen", "127.0.0.1:0"]);
    let controller = &controller.endpoint();
    let storage = ["storage", "--listen", "127.0.0.1:0", "--capacity", "64MiB"];
    let storage = [&storage[..], &["--controller", controller]].concat();
    let notes = ["--drained-note", own.to_str().unwrap()];
    let notes = [&notes[..], &["--drained-note", told.to_str().unwrap()]].concat();
    let noted = [&storage[..], &notes].concat();
    let mut other = Server::start(&storage);
    other.endpoint();
    let mut first = Server::start(&noted);
    let endpoint = first.endpoint();
    until("both are known", || alive(controller) == 2);

    let drain = ["node", "drain", &endpoint, "--deadline", "0s", "--wait"];
    let drained = pocket(&[&drain[..], &["--controller", controller]].concat());
    drained.assert_code(0);
    assert!(drained.stdout.contains("has gone"), "{drained:?}");
    assert_eq!(alive(controller), 1);
    assert_eq!(first.code(), Some(0));
    assert_eq!(
        (says(&own), says(&told)),
        (DRAINED.to_owned(), DRAINED.to_owned())
    );

    // The file that outlives the process is enough, and others are told anew.
    fs::remove_file(&told).unwrap();
    let mut again = Server::start(&noted);
    until("it says what it is", || says(&told) == DRAINED);
    assert_eq!(alive(controller), 1);
    signal(again.0.id() as i32, Signal::SIGTERM);
    assert_eq!(again.code(), Some(0));
}
