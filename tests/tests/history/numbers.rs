//! Files whose content is a number: read, written and cut from open to close, and through
//! descriptors that all have open.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
};

use pocket_tests::errno_of;
use pocket_tests::history::{
    Event, History,
    registers::{Access, EMPTY},
};
use rand::Rng;

use super::{
    clients::{on_all, rounds},
    findings::Findings,
    place::Place,
};

/// Bytes of a file that holds a number: that number again and again.
pub(super) const REGISTER_BYTES: usize = 4096;
/// What each client does in a round with the file that all have open.
const STEPS: usize = 7;

fn content(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(REGISTER_BYTES / 8)
}

/// Writes, cuts or reads the number of a file.
fn access(file: &File, access: Access) -> io::Result<Access> {
    match access {
        Access::Write(value) => file.write_all_at(&content(value), 0).map(|()| access),
        Access::Cut => file.set_len(0).map(|()| access),
        Access::Read(_) => {
            let mut found = vec![0; REGISTER_BYTES];
            if file.read_at(&mut found, 0)? == 0 {
                return Ok(Access::Read(EMPTY));
            }
            let value = u64::from_le_bytes(found[..8].try_into().unwrap());
            assert!(found == content(value), "a content that nobody wrote");
            Ok(Access::Read(value))
        }
    }
}

/// A file that all have open; then each write is seen by every later read. Every other time they
/// have it open to be read, which they may do from memory, and open it once more for each write.
pub(super) fn shared_registers(
    places: &[Place],
    seed: u64,
    stop: &AtomicBool,
    findings: &Findings,
) {
    rounds(stop, |number| {
        let name = format!("shared-{number}");
        let written = fs::write(places[0].enter().join(&name), content(0));
        if let Err(error) = written {
            findings.unknown("write", &error);
            return;
        }
        let writes_anew = number % 2 == 1;
        let mut kept = OpenOptions::new();
        kept.read(true).write(!writes_anew);
        let opened: io::Result<Vec<_>> = places
            .iter()
            .map(|place| kept.open(place.enter().join(&name)))
            .collect();
        let files = match opened {
            Ok(files) => files,
            Err(error) => {
                findings.unknown("open", &error);
                return;
            }
        };
        let history = History::new();
        on_all(places, seed ^ (number << 8), |client, place, dice| {
            for _ in 0..STEPS {
                let wanted = match dice.random_range(0..8) {
                    0..3 => Access::Write(findings.value()),
                    3 => Access::Cut,
                    _ => Access::Read(0),
                };
                let call = history.now();
                let result = match wanted {
                    Access::Write(_) | Access::Cut if writes_anew => {
                        change_anew(place, &name, wanted)
                    }
                    _ => access(&files[client], wanted),
                };
                note_access(client, call, wanted, result, &history, findings);
            }
        });
        findings.shared.lock().unwrap().push(history.into_events());
    });
}

/// Opens the file to write to it, or to cut it with that.
fn change_anew(place: &Place, name: &str, wanted: Access) -> io::Result<Access> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(wanted == Access::Cut);
    let file = options.open(place.enter().join(name))?;
    if let Access::Write(_) = wanted {
        access(&file, wanted)?;
    }
    nix::unistd::close(file)?;
    Ok(wanted)
}

/// A file that each opens anew. Every other time a writer cuts it first, by opening it.
pub(super) fn registers(places: &[Place], seed: u64, stop: &AtomicBool, findings: &Findings) {
    let history = &findings.registers;
    on_all(places, seed, |client, place, dice| {
        while !stop.load(Ordering::Relaxed) {
            let (wanted, cuts) = match dice.random_range(0..10) {
                0..2 => (Access::Write(findings.value()), true),
                2..4 => (Access::Write(findings.value()), false),
                _ => (Access::Read(0), false),
            };
            let path = place.enter();
            let path = path.join("register");
            let mut call = history.now();
            let opened = match wanted {
                Access::Read(_) => File::open(path),
                _ => OpenOptions::new().write(true).truncate(cuts).open(path),
            };
            if cuts {
                let cut = opened.as_ref().map(|_| Access::Cut);
                let cut = cut.map_err(|error| errno_of(error).into());
                note_access(client, call, Access::Cut, cut, history, findings);
                call = history.now();
            }
            let result = opened.and_then(|file| {
                let found = access(&file, wanted)?;
                nix::unistd::close(file)?;
                Ok(found)
            });
            note_access(client, call, wanted, result, history, findings);
        }
    });
}

fn note_access(
    client: usize,
    call: u64,
    wanted: Access,
    result: io::Result<Access>,
    history: &History<Access>,
    findings: &Findings,
) {
    let (ret, operation) = match result {
        Ok(operation) => (Some(history.now()), operation),
        Err(error) => {
            findings.unknown("access", &error);
            (None, wanted)
        }
    };
    if ret.is_some() || !matches!(wanted, Access::Read(_)) {
        history.add(Event {
            client,
            call,
            ret,
            operation,
        });
    }
}
