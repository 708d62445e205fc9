//! Names in a directory that are made, removed, renamed and linked by all.

use std::{
    fs::{self, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::atomic::AtomicBool,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags},
    unistd::linkat,
};
use pocket_tests::history::{
    Event, History,
    names::{Action, Outcome},
};
use rand::{Rng, rngs::StdRng};

use super::{
    clients::{on_all, rounds},
    findings::Findings,
    place::Place,
};

/// Names of a round, and what each client does with them.
const NAMES: u8 = 3;
const STEPS: usize = 7;

pub(super) fn names(places: &[Place], seed: u64, stop: &AtomicBool, findings: &Findings) {
    rounds(stop, |number| {
        // By each mount in turn: who makes a directory has it to itself at first.
        let folder = format!("rounds/{number}");
        let maker = &places[number as usize % places.len()];
        let made = fs::create_dir(maker.enter().join(&folder));
        if let Err(error) = made {
            findings.unknown("mkdir", &error);
            return;
        }
        let history = History::new();
        on_all(places, seed ^ (number << 8), |client, place, dice| {
            for _ in 0..STEPS {
                let root = place.enter();
                name_step(client, &root.join(&folder), dice, &history, findings);
            }
        });
        findings.names.lock().unwrap().push(history.into_events());
    });
}

fn name_step(
    client: usize,
    folder: &Path,
    dice: &mut StdRng,
    history: &History<(Action, Outcome)>,
    findings: &Findings,
) {
    let mut name = || dice.random_range(0..NAMES);
    let (one, other) = (name(), name());
    let path = |name: u8| folder.join(name.to_string());
    let note = |call, action, result: io::Result<Outcome>| {
        let now = Some(history.now());
        let (ret, outcome) = match result {
            Ok(outcome) => (now, outcome),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => (now, Outcome::Missing),
                io::ErrorKind::AlreadyExists => (now, Outcome::Exists),
                _ => {
                    findings.unknown("names", &error);
                    (None, Outcome::Unknown)
                }
            },
        };
        if ret.is_some() || !matches!(action, Action::Look(_)) {
            history.add(Event {
                client,
                call,
                ret,
                operation: (action, outcome),
            });
        }
    };
    let call = history.now();
    match dice.random_range(0..12) {
        0..3 => {
            let action = Action::Create(one, findings.value());
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path(one));
            match made {
                // Whoever cannot tell the number has made something, unless its mount died before
                // the file was closed.
                Ok(file) => {
                    let number = file.metadata().map(|status| Outcome::Inode(status.ino()));
                    let closed = nix::unistd::close(file).map_err(io::Error::from);
                    let made = number.and_then(|number| closed.map(|()| number));
                    note(call, action, made.map_err(known_as_unknown));
                }
                Err(error) => note(call, action, Err(error)),
            }
        }
        3..5 => {
            let done = fs::remove_file(path(one)).map(|()| Outcome::Done);
            note(call, Action::Unlink(one), done);
        }
        5..8 => {
            let done = fs::rename(path(one), path(other)).map(|()| Outcome::Done);
            note(call, Action::Rename(one, other), done);
        }
        8..10 => {
            let mut look = OpenOptions::new();
            let look = look.read(true).custom_flags(libc::O_PATH);
            let found = look.open(path(one));
            let found = found.and_then(|file| Ok((file.metadata()?.ino(), file)));
            let inode = found.as_ref().map(|(inode, _)| *inode).ok();
            let (found, file) = match found {
                Ok((inode, file)) => (Ok(Outcome::Inode(inode)), Some(file)),
                Err(error) => (Err(error), None),
            };
            note(call, Action::Look(one), found);
            if let (Some(inode), Some(file)) = (inode, file) {
                let call = history.now();
                let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                let done = linkat(AT_FDCWD, opened.as_str(), AT_FDCWD, &path(other), follow);
                let done = done.map(|()| Outcome::Done).map_err(io::Error::from);
                note(call, Action::Link(inode, other), done);
            }
        }
        _ => {
            let found = fs::symlink_metadata(path(one));
            let found = found.map(|status| Outcome::Inode(status.ino()));
            note(call, Action::Look(one), found);
        }
    }
}

/// An error that would say something if it came from another call.
fn known_as_unknown(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::ESTALE.into(),
        _ => error,
    }
}
