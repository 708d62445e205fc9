//! What the programs noted, and what is judged of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;
use pocket_tests::{
    errno_of,
    history::{
        Event, History, appends,
        appends::Record,
        linear, locks,
        locks::Hold,
        names::{Action, Directory, Names, Outcome, mark_overlaps},
        print,
        registers::{Access, Register, close_to_open},
    },
    try_until,
};

use super::{appends::file_of, numbers::REGISTER_BYTES};

/// Until what was appended can be read in the end.
const READABLE_DEADLINE: Duration = Duration::from_secs(20);

/// What was done to the names of one directory.
type NameHistory = Vec<Event<(Action, Outcome)>>;

/// What all clients noted.
pub(super) struct Findings {
    pub(super) names: Mutex<Vec<NameHistory>>,
    pub(super) shared: Mutex<Vec<Vec<Event<Access>>>>,
    pub(super) registers: History<Access>,
    pub(super) appends: Mutex<Vec<Event<Record>>>,
    pub(super) holds: Mutex<Vec<Hold>>,
    /// What the counter was when it was incremented by one.
    pub(super) counted: Mutex<Vec<u64>>,
    /// Calls that failed with an error that says nothing of what was done.
    errors: Mutex<BTreeMap<String, usize>>,
    /// Numbers used so far.
    values: AtomicU64,
    pub(super) records: AtomicU32,
}

/// What a run may have done to blocks that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    AllThere,
    /// A storage server lost what it had: that reads as EIO.
    SomeLost,
}

/// How much was judged.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) known: usize,
    pub(super) unknown: usize,
    /// Events of the workload that has least.
    pub(super) least: usize,
    /// Files that cannot be read any more.
    #[allow(dead_code, reason = "printed")]
    lost: usize,
    #[allow(dead_code, reason = "printed")]
    errors: BTreeMap<String, usize>,
}

impl Findings {
    /// Makes what the workloads share.
    pub(super) fn prepare(root: &Path) -> Self {
        fs::create_dir(root.join("rounds")).unwrap();
        for name in ["register", "flock", "records"] {
            fs::write(root.join(name), vec![0; REGISTER_BYTES]).unwrap();
        }
        Findings {
            names: Mutex::default(),
            shared: Mutex::default(),
            registers: History::new(),
            appends: Mutex::default(),
            holds: Mutex::default(),
            counted: Mutex::default(),
            errors: Mutex::default(),
            values: AtomicU64::new(0),
            records: AtomicU32::new(0),
        }
    }

    /// The time of appends and locks.
    pub(super) fn now(&self) -> u64 {
        self.registers.now()
    }

    /// A number that nobody wrote before; not 0.
    pub(super) fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes an error that says nothing of what was done.
    pub(super) fn unknown(&self, what: &str, error: &io::Error) {
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
    pub(super) fn judge(self, root: &Path, blocks: Blocks) -> Tally {
        let (appended, lost) = judge_appends(self.appends.into_inner().unwrap(), root, blocks);
        let events = BTreeMap::from([
            ("names", judge_names(self.names.into_inner().unwrap())),
            ("shared", judge_shared(self.shared.into_inner().unwrap())),
            ("registers", judge_registers(self.registers)),
            ("appends", appended),
            ("locks", judge_locks(&self.holds.into_inner().unwrap())),
            ("counted", judge_counter(self.counted.into_inner().unwrap())),
        ]);
        println!("{events:?}");
        let errors = self.errors.into_inner().unwrap();
        Tally {
            known: events.values().sum(),
            unknown: errors.values().sum(),
            least: events.values().copied().min().unwrap_or_default(),
            lost,
            errors,
        }
    }
}

// Each answers how many events it judged.

#[track_caller]
fn judge_names(rounds: Vec<NameHistory>) -> usize {
    let events = rounds.iter().map(Vec::len).sum();
    for mut round in rounds {
        mark_overlaps(&mut round);
        if let Err(shown) = linear::check::<Names>(&Directory::default(), &round) {
            panic!("no order of these explains them:\n{}", print(&shown));
        }
    }
    events
}

#[track_caller]
fn judge_shared(rounds: Vec<Vec<Event<Access>>>) -> usize {
    let events = rounds.iter().map(Vec::len).sum();
    for round in rounds {
        if let Err(shown) = linear::check::<Register>(&0, &round) {
            panic!("no order of these explains them:\n{}", print(&shown));
        }
    }
    events
}

#[track_caller]
fn judge_registers(registers: History<Access>) -> usize {
    let events = registers.into_events();
    if let Err(shown) = close_to_open(&events) {
        panic!("a read misses what was closed before:\n{}", print(&shown));
    }
    events.len()
}

/// Answers the number of files that cannot be read as well.
#[track_caller]
fn judge_appends(events: Vec<Event<Record>>, root: &Path, blocks: Blocks) -> (usize, usize) {
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        let file = file_of(event.operation.number);
        files.entry(file).or_default().push(event);
    }
    let (mut judged, mut lost) = (0, 0);
    for (file, events) in files {
        match read_in_the_end(&root.join(&file), blocks) {
            Some(content) => {
                if let Err(what) = appends::check(&events, &content) {
                    panic!("{file}: {what}");
                }
                judged += events.len();
            }
            None => lost += 1,
        }
    }
    (judged, lost)
}

/// What a file holds, if that is not lost.
#[track_caller]
fn read_in_the_end(path: &Path, blocks: Blocks) -> Option<Vec<u8>> {
    let read = || match fs::read(path) {
        // Whoever made it died with it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        outcome => outcome.ok(),
    };
    if blocks == Blocks::SomeLost {
        return read();
    }
    let found = try_until(READABLE_DEADLINE, read);
    assert!(found.is_some(), "{} cannot be read", path.display());
    found
}

#[track_caller]
fn judge_locks(holds: &[Hold]) -> usize {
    if let Some((one, other)) = locks::conflict(holds) {
        panic!("held at once:\n{one:?}\n{other:?}");
    }
    holds.len()
}

#[track_caller]
fn judge_counter(mut counted: Vec<u64>) -> usize {
    counted.sort_unstable();
    if let Some(twice) = counted.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("the counter was {} for two who locked it", twice[0]);
    }
    counted.len()
}
