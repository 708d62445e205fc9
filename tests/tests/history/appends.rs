//! Records appended by all to one file, and then to the next.

use std::{
    fs::OpenOptions,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use pocket_tests::history::{Event, appends::Record};
use rand::Rng;

use super::{clients::on_all, findings::Findings, place::Place};

/// Appends through one descriptor.
const APPENDS: u32 = 8;
/// Records of a file: two blocks or so, which is why some files are whole when a server has lost its.
const RECORDS: u32 = 8 * APPENDS;

/// The file to which a record belongs.
pub(super) fn file_of(record: u32) -> String {
    format!("appends-{}", record / RECORDS)
}

pub(super) fn append(places: &[Place], seed: u64, stop: &AtomicBool, findings: &Findings) {
    on_all(places, seed, |client, place, dice| {
        while !stop.load(Ordering::Relaxed) {
            let first = findings.records.fetch_add(APPENDS, Ordering::Relaxed);
            let mut options = OpenOptions::new();
            let options = options.append(true).create(true);
            let opened = options.open(place.enter().join(file_of(first)));
            let mut file = match opened {
                Ok(file) => file,
                Err(error) => {
                    findings.unknown("open", &error);
                    continue;
                }
            };
            let mut events = Vec::new();
            for number in first..first + APPENDS {
                let operation = Record {
                    number,
                    bytes: dice.random_range(8..3000),
                };
                let call = findings.now();
                let content = operation.content();
                let written = file.write(&content);
                let ret = written.as_ref().ok().map(|_| findings.now());
                events.push(Event {
                    client,
                    call,
                    ret,
                    operation,
                });
                match written {
                    Ok(bytes) => assert_eq!(bytes, content.len(), "part of an append"),
                    Err(error) => {
                        findings.unknown("append", &error);
                        break;
                    }
                }
            }
            // What was buffered is lost if the close says so.
            if let Err(error) = nix::unistd::close(file) {
                findings.unknown("close", &error.into());
                events.iter_mut().for_each(|event| event.ret = None);
            }
            findings.appends.lock().unwrap().append(&mut events);
        }
    });
}
