//! Mounts that cache as a kernel does, and obey recalls, never show what is no longer so.
//!
//! Random operations, some of them at the same time, by three mounts on few names. A mount caches
//! names and attributes for as long as replies allow, moves what it has cached when it renames, and
//! is slow to put replies into its cache. Whenever all is quiet, whatever is cached must be true.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_meta::{LocalJob, LocalMetadata};
use pocket_meta_client::{Answered, Metadata, RecallHandler, SessionInfo};
use pocket_proto::Failure;
use pocket_proto::session::*;
use proptest::prelude::*;
use support::{HasInode, Operation, ROOT, chmod, job, lookup, make, remove, rename};
use tokio::time::{Instant, sleep};

const MOUNTS: usize = 3;

type Name = (u64, Bytes);

/// A mount with a cache.
struct Mount {
    metadata: Arc<LocalMetadata>,
    cache: Arc<Cache>,
}

#[derive(Default)]
struct Cache {
    metadata: OnceLock<Weak<LocalMetadata>>,
    state: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    names: HashMap<Name, (Option<u64>, Instant)>,
    attributes: HashMap<u64, (Attributes, Instant)>,
    names_recalled: HashMap<Name, u64>,
    /// All names of a directory.
    directories_recalled: HashMap<u64, u64>,
    attributes_recalled: HashMap<u64, u64>,
}

impl RecallHandler for Cache {
    fn recall(&self, recall: Recall, stamp: u64) {
        let mut state = self.state.lock();
        for name in recall.names {
            let name = (name.parent, name.name);
            state.names.remove(&name);
            state.names_recalled.insert(name, stamp);
        }
        for directory in recall.all_names {
            state.names.retain(|name, _| name.0 != directory);
            state.directories_recalled.insert(directory, stamp);
        }
        for inode in recall.attributes {
            state.attributes.remove(&inode);
            state.attributes_recalled.insert(inode, stamp);
        }
        drop(state);
        let done = Operation::RecallDone(RecallDone {
            recall: recall.recall,
        });
        let metadata = self.metadata.get().and_then(Weak::upgrade).unwrap();
        metadata.tell(done).unwrap();
    }

    fn session_lost(&self, _: Failure) {}

    fn session_renewed(&self, _: SessionInfo) {}
}

impl Cached {
    /// Whether a name that came with an answer of this stamp was recalled since.
    fn is_recalled(&self, name: &Name, stamp: u64) -> bool {
        let all = self.directories_recalled.get(&name.0);
        let one = self.names_recalled.get(name);
        all.into_iter().chain(one).any(|at| *at > stamp)
    }

    fn put_name(&mut self, name: Name, inode: Option<u64>, valid_ms: u32, stamp: u64) {
        if self.is_recalled(&name, stamp) || valid_ms == 0 {
            self.names.remove(&name);
            return;
        }
        let until = Instant::now() + Duration::from_millis(valid_ms.into());
        self.names.insert(name, (inode, until));
    }

    /// A kernel holds its locks over a rename: recalls of the names come in when it is done.
    fn arrive(&mut self, name: Name, cached: Option<(Option<u64>, Instant)>, stamp: u64) {
        if let Some(cached) = cached
            && !self.is_recalled(&name, stamp)
        {
            self.names.insert(name, cached);
        }
    }

    fn put_attributes(&mut self, entry: &Entry, stamp: u64) {
        let inode = entry.inode();
        let recalled = self.attributes_recalled.get(&inode);
        if recalled.is_some_and(|at| *at > stamp) || entry.attributes_valid_ms == 0 {
            self.attributes.remove(&inode);
            return;
        }
        let until = Instant::now() + Duration::from_millis(entry.attributes_valid_ms.into());
        let attributes = entry.attributes.unwrap();
        self.attributes.insert(inode, (attributes, until));
    }
}

#[derive(Clone, Debug)]
enum Action {
    Lookup(Place),
    Make(Place, bool),
    Remove(Place),
    Rename(Place, Place, bool),
    Link(Place, Place),
    Chmod(Place, u32),
}

/// A name in the root, or in the directory that one of its names leads to.
#[derive(Clone, Debug)]
struct Place {
    directory: Option<&'static str>,
    name: &'static str,
}

impl Mount {
    fn new(job: &LocalJob) -> Mount {
        let cache = Arc::new(Cache::default());
        let metadata = Arc::new(job.connect(cache.clone()).unwrap());
        cache.metadata.set(Arc::downgrade(&metadata)).unwrap();
        Mount { metadata, cache }
    }

    async fn call(&self, operation: Operation, slow: usize) -> Result<Answered, Failure> {
        let answered = self.metadata.call(operation).await;
        for _ in 0..slow {
            tokio::task::yield_now().await;
        }
        answered
    }

    /// From the cache, else from the server and into the cache.
    async fn lookup(&self, name: &Name, slow: usize) -> Option<u64> {
        if let Some((inode, until)) = self.cache.state.lock().names.get(name)
            && *until > Instant::now()
        {
            return *inode;
        }
        let text = std::str::from_utf8(&name.1).unwrap();
        let answered = self.call(lookup(name.0, text), slow).await.ok()?;
        let mut state = self.cache.state.lock();
        match answered.result {
            reply::Result::Entry(entry) => {
                state.put_attributes(&entry, answered.stamp);
                let inode = Some(entry.inode());
                state.put_name(name.clone(), inode, entry.name_valid_ms, answered.stamp);
                inode
            }
            reply::Result::Absent(absent) => {
                state.put_name(name.clone(), None, absent.name_valid_ms, answered.stamp);
                None
            }
            other => panic!("no lookup: {other:?}"),
        }
    }

    async fn resolve(&self, place: &Place, slow: usize) -> Option<Name> {
        let name = Bytes::from_static(place.name.as_bytes());
        match place.directory {
            None => Some((ROOT, name)),
            Some(directory) => {
                let directory = (ROOT, Bytes::from_static(directory.as_bytes()));
                Some((self.lookup(&directory, slow).await?, name))
            }
        }
    }

    async fn act(&self, action: &Action, slow: usize) -> Option<()> {
        match action {
            Action::Lookup(place) => {
                let name = self.resolve(place, slow).await?;
                self.lookup(&name, slow).await?;
            }
            Action::Make(place, directory) => {
                let name = self.resolve(place, slow).await?;
                let kind = match directory {
                    true => FileKind::Directory,
                    false => FileKind::Regular,
                };
                let operation = make(name.0, place.name, kind);
                self.change(operation, name, slow).await?;
            }
            Action::Remove(place) => {
                let name = self.resolve(place, slow).await?;
                let inode = self.lookup(&name, slow).await?;
                let mut operation = remove(name.0, place.name);
                if let Operation::Remove(remove) = &mut operation {
                    let state = self.cache.state.lock();
                    let attributes = state.attributes.get(&inode);
                    remove.directory = attributes
                        .is_some_and(|(attributes, _)| attributes.kind() == FileKind::Directory);
                }
                self.call(operation, slow).await.ok()?;
                let mut state = self.cache.state.lock();
                state.names.remove(&name);
                state.attributes.remove(&inode);
            }
            Action::Rename(old, new, exchange) => {
                self.rename(old, new, *exchange, slow).await?;
            }
            Action::Link(from, to) => {
                let from = self.resolve(from, slow).await?;
                let inode = self.lookup(&from, slow).await?;
                let name = self.resolve(to, slow).await?;
                let operation = Operation::Link(Link {
                    inode,
                    parent: name.0,
                    name: name.1.clone(),
                });
                self.change(operation, name, slow).await?;
            }
            Action::Chmod(place, mode) => {
                let name = self.resolve(place, slow).await?;
                let inode = self.lookup(&name, slow).await?;
                let answered = self.call(chmod(inode, *mode), slow).await.ok()?;
                let reply::Result::Entry(entry) = answered.result else {
                    panic!("no entry");
                };
                let mut state = self.cache.state.lock();
                state.put_attributes(&entry, answered.stamp);
            }
        }
        Some(())
    }

    /// A mutation that answers with the entry of its new name.
    async fn change(&self, operation: Operation, name: Name, slow: usize) -> Option<()> {
        let answered = self.call(operation, slow).await.ok()?;
        let reply::Result::Entry(entry) = answered.result else {
            panic!("no entry");
        };
        let mut state = self.cache.state.lock();
        state.put_attributes(&entry, answered.stamp);
        let inode = Some(entry.inode());
        state.put_name(name, inode, entry.name_valid_ms, answered.stamp);
        Some(())
    }

    /// The kernel has looked both names up, and moves what it has cached along, times and all.
    async fn rename(&self, old: &Place, new: &Place, exchange: bool, slow: usize) -> Option<()> {
        let from = self.resolve(old, slow).await?;
        let to = self.resolve(new, slow).await?;
        let moved = self.lookup(&from, slow).await?;
        let target = self.lookup(&to, slow).await;
        if target == Some(moved) {
            return Some(());
        }
        let mut operation = rename((from.0, old.name), (to.0, new.name));
        if let Operation::Rename(rename) = &mut operation {
            rename.exchange = exchange;
        }
        let answered = self.metadata.call(operation).await.ok()?;
        let mut state = self.cache.state.lock();
        let (source, replaced) = (state.names.remove(&from), state.names.remove(&to));
        for inode in [Some(moved), target].into_iter().flatten() {
            state.attributes.remove(&inode);
        }
        state.arrive(to, source, answered.stamp);
        if exchange {
            state.arrive(from, replaced, answered.stamp);
        }
        Some(())
    }
}

/// Whatever is cached and still valid is what the server has.
async fn check(mounts: &[Mount], oracle: &support::Mount) {
    let now = Instant::now();
    for mount in mounts {
        let (names, attributes) = {
            let state = mount.cache.state.lock();
            (state.names.clone(), state.attributes.clone())
        };
        for ((parent, name), (inode, until)) in names {
            if until <= now {
                continue;
            }
            let text = std::str::from_utf8(&name).unwrap();
            let truth = match oracle.call(lookup(parent, text)).await {
                Ok(reply::Result::Entry(entry)) => Some(entry.inode()),
                Ok(_) => None,
                // What is below a removed directory is not reached by any path.
                Err(_) => continue,
            };
            assert_eq!(inode, truth, "name {text} in {parent}");
        }
        for (inode, (cached, until)) in attributes {
            if until <= now {
                continue;
            }
            let truth = oracle.attributes(inode).await.unwrap().attributes.unwrap();
            assert_eq!(cached.mode, truth.mode, "mode of {inode}");
            if cached.kind() != FileKind::Directory {
                assert_eq!(cached, truth, "attributes of {inode}");
            }
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    let directory = prop::option::of(prop::sample::select(vec!["a", "b"]));
    let name = prop::sample::select(vec!["a", "b", "c"]);
    (directory, name).prop_map(|(directory, name)| Place { directory, name })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => place().prop_map(Action::Lookup),
        3 => (place(), any::<bool>()).prop_map(|(place, directory)| Action::Make(place, directory)),
        2 => place().prop_map(Action::Remove),
        3 => (place(), place(), any::<bool>())
            .prop_map(|(old, new, exchange)| Action::Rename(old, new, exchange)),
        1 => (place(), place()).prop_map(|(from, to)| Action::Link(from, to)),
        2 => (place(), 0..0o777u32).prop_map(|(place, mode)| Action::Chmod(place, mode)),
    ]
}

/// What each mount does at the same time, how slow it is, and a pause afterwards.
#[derive(Clone, Debug)]
struct Round {
    actions: Vec<(usize, Action, usize)>,
    pause_ms: u64,
}

fn round() -> impl Strategy<Value = Round> {
    let pause = prop_oneof![4 => Just(0), 1 => 0..3000u64];
    let actions = prop::collection::vec((0..MOUNTS, action(), 0..8usize), 1..4);
    (actions, pause).prop_map(|(mut actions, pause_ms)| {
        // One thing at a time for each mount, as for a single process on it.
        actions.sort_by_key(|(mount, ..)| *mount);
        actions.dedup_by_key(|(mount, ..)| *mount);
        Round { actions, pause_ms }
    })
}

async fn play(rounds: Vec<Round>) {
    let job = job();
    let mounts: Vec<_> = (0..MOUNTS).map(|_| Mount::new(&job)).collect();
    for round in rounds {
        let mut actions = round.actions.iter().map(async |(mount, action, slow)| {
            mounts[*mount].act(action, *slow).await;
        });
        let (first, second, third) = (actions.next(), actions.next(), actions.next());
        tokio::join!(maybe(first), maybe(second), maybe(third));
        // Another session each time, so that its own leases do not add up.
        let oracle = support::Mount::new(&job);
        check(&mounts, &oracle).await;
        oracle.metadata.leave();
        sleep(Duration::from_millis(round.pause_ms)).await;
    }
}

async fn maybe(action: Option<impl Future<Output = ()>>) {
    if let Some(action) = action {
        action.await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn caches_that_obey_recalls_are_never_wrong(
        rounds in prop::collection::vec(round(), 1..60)
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(play(rounds));
    }
}
