//! The programs: what they do, and what they note of it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, FcntlArg, fcntl},
    unistd::linkat,
};
use pocket_tests::{
    errno_of,
    history::{
        Event, History, appends,
        appends::Record,
        linear, locks,
        locks::Hold,
        names::{Action, Directory, Names, Outcome},
        print,
        registers::{Access, Register, close_to_open},
    },
    until,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Names of a round, and what each client does with them.
const NAMES: u8 = 3;
const STEPS: usize = 7;
/// Bytes of a file that holds a number: that number again and again.
const REGISTER_BYTES: usize = 4096;
/// Appends through one descriptor.
const APPENDS: usize = 8;
/// Bytes that are locked, of fcntl's locks.
const LOCKED_BYTES: u64 = 4;
/// Until the file of appends can be read whole in the end.
const READABLE_DEADLINE: Duration = Duration::from_secs(20);

type Work = fn(&[PathBuf], u64, &AtomicBool, &Findings);

/// Each runs until it is told to stop, with a client on every root.
pub(super) const WORKLOADS: [Work; 6] = [
    names,
    shared_registers,
    registers,
    append,
    flock,
    lock_records,
];

/// What was done to the names of one directory.
type NameHistory = Vec<Event<(Action, Outcome)>>;

/// What all clients noted.
pub(super) struct Findings {
    names: Mutex<Vec<NameHistory>>,
    shared: Mutex<Vec<Vec<Event<Access>>>>,
    registers: History<Access>,
    appends: History<Record>,
    holds: Mutex<Vec<Hold>>,
    /// What the counter was when it was incremented by one.
    counted: Mutex<Vec<u64>>,
    /// Calls that failed with an error that says nothing of what was done.
    errors: Mutex<BTreeMap<String, usize>>,
    /// Numbers used so far.
    values: AtomicU64,
    records: AtomicU32,
}

/// How much was judged.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) known: usize,
    pub(super) unknown: usize,
    /// Events of the workload that has least.
    pub(super) least: usize,
    #[allow(dead_code, reason = "printed")]
    errors: BTreeMap<String, usize>,
}

impl Findings {
    /// Makes what the workloads share.
    pub(super) fn prepare(roots: &[PathBuf]) -> Self {
        let root = &roots[0];
        fs::create_dir(root.join("rounds")).unwrap();
        for name in ["register", "flock", "records"] {
            fs::write(root.join(name), vec![0; REGISTER_BYTES]).unwrap();
        }
        fs::write(root.join("appends"), "").unwrap();
        Findings {
            names: Mutex::default(),
            shared: Mutex::default(),
            registers: History::new(),
            appends: History::new(),
            holds: Mutex::default(),
            counted: Mutex::default(),
            errors: Mutex::default(),
            values: AtomicU64::new(0),
            records: AtomicU32::new(0),
        }
    }

    /// A number that nobody wrote before; not 0.
    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn unknown(&self, what: &str, error: &io::Error) {
        let errno = errno_of(error);
        let usual = [
            Errno::EIO,
            Errno::ESTALE,
            Errno::ETIMEDOUT,
            Errno::EAGAIN,
            // Of a mount that is gone.
            Errno::ENOTCONN,
            Errno::ECONNABORTED,
        ];
        assert!(usual.contains(&errno), "{what}: {error}");
        let mut errors = self.errors.lock().unwrap();
        *errors.entry(format!("{what}: {errno:?}")).or_default() += 1;
    }

    /// Judges everything; panics with the shortest history that cannot be.
    #[track_caller]
    pub(super) fn judge(self, root: &Path) -> Tally {
        let mut counts = Vec::new();
        for round in self.names.into_inner().unwrap() {
            counts.push(("names", round.len()));
            if let Err(shown) = linear::check::<Names>(&Directory::default(), &round) {
                panic!("no order of these explains them:\n{}", print(&shown));
            }
        }
        for round in self.shared.into_inner().unwrap() {
            counts.push(("shared", round.len()));
            if let Err(shown) = linear::check::<Register>(&0, &round) {
                panic!("no order of these explains them:\n{}", print(&shown));
            }
        }
        let registers = self.registers.into_events();
        counts.push(("registers", registers.len()));
        if let Err(shown) = close_to_open(&registers) {
            panic!("a read misses what was closed before:\n{}", print(&shown));
        }
        let appends = self.appends.into_events();
        counts.push(("appends", appends.len()));
        let mut content = Vec::new();
        until(READABLE_DEADLINE, "the appends to be readable", || {
            let read = fs::read(root.join("appends"));
            read.map(|read| content = read).is_ok()
        });
        if let Err(what) = appends::check(&appends, &content) {
            panic!("appends: {what}");
        }
        let holds = self.holds.into_inner().unwrap();
        counts.push(("locks", holds.len()));
        if let Some((one, other)) = locks::conflict(&holds) {
            panic!("held at once:\n{one:?}\n{other:?}");
        }
        let mut counted = self.counted.into_inner().unwrap();
        counts.push(("counted", counted.len()));
        counted.sort_unstable();
        if let Some(twice) = counted.windows(2).find(|pair| pair[0] == pair[1]) {
            panic!("the counter was {} for two who locked it", twice[0]);
        }
        let errors = self.errors.into_inner().unwrap();
        let mut events = BTreeMap::<_, usize>::new();
        for (workload, count) in counts {
            *events.entry(workload).or_default() += count;
        }
        println!("{events:?}");
        Tally {
            known: events.values().sum(),
            unknown: errors.values().sum(),
            least: events.values().copied().min().unwrap_or_default(),
            errors,
        }
    }
}

/// Runs a client on every root; each has dice of its own.
fn on_all(roots: &[PathBuf], seed: u64, client: impl Fn(usize, &Path, &mut StdRng) + Sync) {
    thread::scope(|scope| {
        for (index, root) in roots.iter().enumerate() {
            let client = &client;
            let seed = seed.wrapping_mul(31).wrapping_add(index as u64);
            scope.spawn(move || client(index, root, &mut StdRng::seed_from_u64(seed)));
        }
    });
}

/// Repeats rounds until told to stop.
fn rounds(stop: &AtomicBool, mut round: impl FnMut(u64)) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        round(number);
        number += 1;
    }
}

// --- names -----------------------------------------------------------------------------------

fn names(roots: &[PathBuf], seed: u64, stop: &AtomicBool, findings: &Findings) {
    rounds(stop, |number| {
        // By each mount in turn: who makes a directory has it to itself at first.
        let folder = format!("rounds/{number}");
        let maker = &roots[number as usize % roots.len()];
        if let Err(error) = fs::create_dir(maker.join(&folder)) {
            findings.unknown("mkdir", &error);
            return;
        }
        let history = History::new();
        on_all(roots, seed ^ (number << 8), |client, root, dice| {
            let folder = root.join(&folder);
            (0..STEPS).for_each(|_| name_step(client, &folder, dice, &history, findings));
        });
        let mut all = findings.names.lock().unwrap();
        all.push(history.into_events());
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
        let (ret, outcome) = match result {
            Ok(outcome) => (Some(history.now()), outcome),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => (Some(history.now()), Outcome::Missing),
                io::ErrorKind::AlreadyExists => (Some(history.now()), Outcome::Exists),
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
                // Whoever cannot tell the number has made something.
                Ok(file) => match file.metadata() {
                    Ok(status) => note(call, action, Ok(Outcome::Inode(status.ino()))),
                    Err(error) => note(call, action, Err(known_as_unknown(error))),
                },
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

// --- numbers ---------------------------------------------------------------------------------

fn content(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(REGISTER_BYTES / 8)
}

/// Writes or reads the number of a file.
fn access(file: &File, access: Access) -> io::Result<Access> {
    match access {
        Access::Write(value) => file.write_all_at(&content(value), 0).map(|()| access),
        Access::Read(_) => {
            let mut found = vec![0; REGISTER_BYTES];
            file.read_exact_at(&mut found, 0)?;
            let value = u64::from_le_bytes(found[..8].try_into().unwrap());
            assert!(found == content(value), "a content that nobody wrote");
            Ok(Access::Read(value))
        }
    }
}

fn read_and_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// A file that all have open; then each write is seen by every later read.
fn shared_registers(roots: &[PathBuf], seed: u64, stop: &AtomicBool, findings: &Findings) {
    rounds(stop, |number| {
        let name = format!("shared-{number}");
        if let Err(error) = fs::write(roots[0].join(&name), content(0)) {
            findings.unknown("write", &error);
            return;
        }
        let opened: io::Result<Vec<_>> = roots
            .iter()
            .map(|root| read_and_write().open(root.join(&name)))
            .collect();
        let files = match opened {
            Ok(files) => files,
            Err(error) => {
                findings.unknown("open", &error);
                return;
            }
        };
        let history = History::new();
        on_all(roots, seed ^ (number << 8), |client, _, dice| {
            for _ in 0..STEPS {
                let wanted = match dice.random_bool(0.5) {
                    true => Access::Write(findings.value()),
                    false => Access::Read(0),
                };
                let call = history.now();
                let result = access(&files[client], wanted);
                note_access(client, call, wanted, result, &history, findings);
            }
        });
        findings.shared.lock().unwrap().push(history.into_events());
    });
}

/// A file that each opens anew.
fn registers(roots: &[PathBuf], seed: u64, stop: &AtomicBool, findings: &Findings) {
    let history = &findings.registers;
    on_all(roots, seed, |client, root, dice| {
        while !stop.load(Ordering::Relaxed) {
            let wanted = match dice.random_bool(0.4) {
                true => Access::Write(findings.value()),
                false => Access::Read(0),
            };
            let call = history.now();
            let result = match wanted {
                Access::Write(_) => OpenOptions::new().write(true).open(root.join("register")),
                Access::Read(_) => File::open(root.join("register")),
            };
            let result = result.and_then(|file| {
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
    if ret.is_some() || matches!(wanted, Access::Write(_)) {
        history.add(Event {
            client,
            call,
            ret,
            operation,
        });
    }
}

// --- appends ---------------------------------------------------------------------------------

fn append(roots: &[PathBuf], seed: u64, stop: &AtomicBool, findings: &Findings) {
    let history = &findings.appends;
    on_all(roots, seed, |client, root, dice| {
        while !stop.load(Ordering::Relaxed) {
            let opened = OpenOptions::new().append(true).open(root.join("appends"));
            let mut file = match opened {
                Ok(file) => file,
                Err(error) => {
                    findings.unknown("open", &error);
                    continue;
                }
            };
            let mut events = Vec::new();
            for _ in 0..APPENDS {
                let operation = Record {
                    number: findings.records.fetch_add(1, Ordering::Relaxed),
                    bytes: dice.random_range(8..3000),
                };
                let call = history.now();
                let content = operation.content();
                let written = file.write(&content);
                let ret = written.as_ref().ok().map(|_| history.now());
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
            events.into_iter().for_each(|event| history.add(event));
        }
    });
}

// --- locks -----------------------------------------------------------------------------------

/// A lock that was asked for and granted, and what was done under it.
fn hold(
    (client, family): (usize, &'static str),
    (range, exclusive): (Range<u64>, bool),
    file: &File,
    from: u64,
    findings: &Findings,
) {
    let now = || findings.registers.now();
    let mut until = from;
    let mut word = [0; 8];
    // A read tells that the lock was there when it was called.
    let called = now();
    let read = file.read_exact_at(&mut word, 0);
    let done = read.and_then(|()| {
        until = called;
        if exclusive && family == "flock" {
            let (called, value) = (now(), u64::from_le_bytes(word));
            file.write_all_at(&(value + 1).to_le_bytes(), 0)?;
            until = called;
            findings.counted.lock().unwrap().push(value);
        }
        let called = now();
        file.read_exact_at(&mut word, 0)?;
        until = called;
        Ok(())
    });
    if let Err(error) = done {
        findings.unknown(family, &error);
    }
    findings.holds.lock().unwrap().push(Hold {
        client,
        family,
        range,
        exclusive,
        from,
        until,
    });
}

/// Locks of open files, and a counter in the file that is locked.
fn flock(roots: &[PathBuf], seed: u64, stop: &AtomicBool, findings: &Findings) {
    on_all(roots, seed, |client, root, dice| {
        while !stop.load(Ordering::Relaxed) {
            let exclusive = dice.random_bool(0.7);
            let locked = read_and_write().open(root.join("flock")).and_then(|file| {
                match exclusive {
                    true => file.lock()?,
                    false => file.lock_shared()?,
                }
                Ok((file, findings.registers.now()))
            });
            match locked {
                Ok((file, from)) => {
                    let what = (0..u64::MAX, exclusive);
                    hold((client, "flock"), what, &file, from, findings);
                    if let Err(error) = file.unlock() {
                        findings.unknown("unlock", &error);
                    }
                }
                Err(error) => findings.unknown("flock", &error),
            }
        }
    });
}

/// Locks of processes, which this process is on each mount.
fn lock_records(roots: &[PathBuf], seed: u64, stop: &AtomicBool, findings: &Findings) {
    let lock = |file: &File, kind: i32, range: &Range<u64>| -> io::Result<()> {
        let lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: range.start as i64,
            l_len: (range.end - range.start) as i64,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_SETLKW(&lock))?;
        Ok(())
    };
    on_all(roots, seed, |client, root, dice| {
        while !stop.load(Ordering::Relaxed) {
            let file = match read_and_write().open(root.join("records")) {
                Ok(file) => file,
                Err(error) => {
                    findings.unknown("open", &error);
                    continue;
                }
            };
            for _ in 0..APPENDS {
                let start = dice.random_range(0..LOCKED_BYTES);
                let range = start..dice.random_range(start..LOCKED_BYTES) + 1;
                let exclusive = dice.random_bool(0.6);
                let kind = match exclusive {
                    true => libc::F_WRLCK,
                    false => libc::F_RDLCK,
                };
                let locked = lock(&file, kind, &range);
                let from = findings.registers.now();
                let done = locked.and_then(|()| {
                    let what = (range.clone(), exclusive);
                    hold((client, "fcntl"), what, &file, from, findings);
                    lock(&file, libc::F_UNLCK, &range)
                });
                if let Err(error) = done {
                    findings.unknown("fcntl", &error);
                    break;
                }
            }
        }
    });
}
