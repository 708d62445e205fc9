//! What a mount does ahead of the server in directories of its own: without asking, and exactly as
//! the server would have done it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_fs::{
    Caller, CreateRequest, Errno, FileSystem, NewNode, NodeRequest, OpenRequest, RenameMode,
    SetAttributesRequest, TimeChange, WriteRequest,
};
use pocket_meta::LocalMetadata;
use pocket_meta_client::{Answered, Metadata, SessionInfo};
use pocket_proto::session::{Attributes, FileKind, Time, request};
use pocket_proto::{Failure, InodeId};
use proptest::prelude::*;
use support::{Job, runtime};

const CALLER: Caller = Caller {
    uid: 1000,
    gid: 100,
};

/// Counts what the server is asked for and has to answer before the mount goes on.
struct Counting {
    inner: LocalMetadata,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Metadata for Counting {
    async fn call(&self, operation: request::Operation) -> Result<Answered, Failure> {
        // Space and inode numbers are asked for long before they are needed.
        use request::Operation::{GrantInodes, GrantSpace};
        if !matches!(operation, GrantInodes(_) | GrantSpace(_)) {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.call(operation).await
    }

    fn tell(&self, operation: request::Operation) -> Result<(), Failure> {
        self.inner.tell(operation)
    }

    fn in_touch_for(&self) -> Duration {
        self.inner.in_touch_for()
    }

    fn is_settled(&self) -> bool {
        self.inner.is_settled()
    }

    fn newest_epoch(&self) -> u32 {
        self.inner.newest_epoch()
    }

    fn session(&self) -> SessionInfo {
        self.inner.session()
    }
}

/// A mount whose questions are counted.
struct Mount {
    fs: Arc<FileSystem>,
    asked: Arc<AtomicUsize>,
}

impl Mount {
    /// One that has inode numbers at hand.
    async fn of(job: &Job) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let fs = job
            .mount_through(|inner| {
                Arc::new(Counting {
                    inner,
                    asked: counter,
                })
            })
            .await;
        let mount = Mount { fs, asked };
        // The first thing made in a directory of its own makes it ask for numbers.
        let first = mount.mkdir(InodeId::ROOT, b"warm").await.unwrap();
        for number in 0..100_u8 {
            mount.symlink(first, &numbered(b'a', number)).await;
        }
        mount
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    async fn make(
        &self,
        parent: InodeId,
        name: &[u8],
        node: NewNode<'_>,
        mode: u32,
    ) -> Result<InodeId, Errno> {
        let node = NodeRequest {
            parent,
            name,
            node,
            mode,
            caller: CALLER,
        };
        let made = self.fs.make_node(node).await?;
        Ok(self.given(&made))
    }

    /// The inode of an entry, handed over as the kernel gets it.
    fn given(&self, leased: &pocket_fs::Leased<pocket_proto::session::Entry>) -> InodeId {
        self.fs.hand_over_entry(leased, |entry, _| {
            InodeId(entry.attributes.map_or(0, |attributes| attributes.inode))
        })
    }

    async fn mkdir(&self, parent: InodeId, name: &[u8]) -> Result<InodeId, Errno> {
        self.make(parent, name, NewNode::Directory, 0o755).await
    }

    async fn symlink(&self, parent: InodeId, name: &[u8]) {
        let link = NewNode::Symlink(b"target");
        self.make(parent, name, link, 0o777).await.unwrap();
    }

    async fn write(&self, parent: InodeId, name: &[u8], content: Vec<u8>) -> Result<(), Errno> {
        let create = CreateRequest {
            parent,
            name,
            mode: 0o4751,
            flags: libc::O_WRONLY | libc::O_CREAT,
            caller: CALLER,
        };
        let opened = self.fs.create(create).await?.value.1;
        let written = Bytes::from(content);
        self.fs
            .write(opened.handle, WriteRequest::default(), written)
            .await?;
        self.fs.flush(opened.handle).await?;
        self.fs.release(opened.handle).await;
        Ok(())
    }

    async fn look(&self, parent: InodeId, name: &[u8]) -> Option<Attributes> {
        let found = self.fs.lookup(parent, name).await.unwrap();
        self.fs.hand_over_entry(&found, |entry, _| entry.attributes)
    }

    async fn read(&self, inode: InodeId) -> Vec<u8> {
        let open = OpenRequest {
            flags: libc::O_RDONLY,
        };
        let opened = self.fs.open(inode, open).await.unwrap();
        let data = self.fs.read(opened.handle, 0, 1 << 20).await.unwrap();
        self.fs.release(opened.handle).await;
        data.into_bytes().to_vec()
    }
}

fn numbered(letter: u8, number: u8) -> Vec<u8> {
    format!("{}{number}", char::from(letter)).into_bytes()
}

#[test]
fn nothing_is_asked_for_in_a_directory_of_ones_own() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Mount::of(&job).await;
        let directory = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
        mount.asked();
        assert_eq!(mount.look(directory, b"f").await, None);
        mount
            .write(directory, b"f", b"content".to_vec())
            .await
            .unwrap();
        let file = InodeId(mount.look(directory, b"f").await.unwrap().inode);
        assert_eq!(mount.read(file).await, b"content");
        let inner = mount.mkdir(directory, b"inner").await.unwrap();
        mount.write(inner, b"g", vec![1; 10]).await.unwrap();
        let moved = (inner, &b"h"[..]);
        mount
            .fs
            .rename((inner, b"g"), moved, RenameMode::Replace)
            .await
            .unwrap();
        mount.fs.unlink(inner, b"h").await.unwrap();
        mount.fs.rmdir(directory, b"inner").await.unwrap();
        mount.fs.get_attributes(directory).await.unwrap();
        assert_eq!(mount.asked(), 0);
    });
}

#[test]
fn names_of_a_directory_that_became_ones_own_are_read_once() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Mount::of(&job).await;
        // The root had names before this mount had it to itself.
        for number in 0..20_u8 {
            mount.symlink(InodeId::ROOT, &numbered(b'r', number)).await;
            assert_eq!(
                mount.look(InodeId::ROOT, &numbered(b'x', number)).await,
                None
            );
        }
        mount.asked();
        for number in 20..40_u8 {
            assert_eq!(
                mount.look(InodeId::ROOT, &numbered(b'x', number)).await,
                None
            );
            mount.symlink(InodeId::ROOT, &numbered(b'r', number)).await;
        }
        assert!(mount.look(InodeId::ROOT, b"warm").await.is_some());
        assert_eq!(mount.asked(), 0);
    });
}

#[test]
fn another_mount_sees_at_once_what_was_done_ahead() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (one, two) = (Mount::of(&job).await, Mount::of_again(&job).await);
        let directory = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        for round in 0..50_u8 {
            one.write(directory, &numbered(b'f', round), vec![round; 5])
                .await
                .unwrap();
            if round % 10 == 9 {
                let seen = two.look(directory, &numbered(b'f', round)).await.unwrap();
                assert_eq!(two.read(InodeId(seen.inode)).await, [round; 5]);
                two.fs
                    .unlink(directory, &numbered(b'f', round))
                    .await
                    .unwrap();
                assert_eq!(one.look(directory, &numbered(b'f', round)).await, None);
            }
        }
    });
}

impl Mount {
    async fn of_again(job: &Job) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let way = |inner| -> Arc<dyn Metadata> {
            Arc::new(Counting {
                inner,
                asked: counter,
            })
        };
        let fs = job.mount_through(way).await;
        Mount { fs, asked }
    }
}

/// A step of random work on two directories and a handful of names.
#[derive(Clone, Debug)]
enum Step {
    Write(Place, u16),
    Make(Place, u8),
    Remove(Place, bool),
    Rename(Place, Place),
    Link(Place, Place),
    Change(Place, Change),
    Look(Place),
    /// The other mount looks, and what was this mount's alone is no more.
    Disturb(Place),
}

type Place = (bool, u8);

#[derive(Clone, Copy, Debug)]
enum Change {
    Mode(u32),
    Owner(u32),
    Times(i64),
    Now,
}

fn place() -> impl Strategy<Value = Place> {
    (any::<bool>(), 0..5_u8)
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        (0..0o10000_u32).prop_map(Change::Mode),
        (0..5_u32).prop_map(Change::Owner),
        (-5..100_i64).prop_map(Change::Times),
        Just(Change::Now),
    ];
    prop_oneof![
        5 => (place(), 0..9000_u16).prop_map(|(place, length)| Step::Write(place, length)),
        4 => (place(), 0..3_u8).prop_map(|(place, kind)| Step::Make(place, kind)),
        4 => (place(), any::<bool>()).prop_map(|(place, kind)| Step::Remove(place, kind)),
        3 => (place(), place()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (place(), place()).prop_map(|(from, to)| Step::Link(from, to)),
        4 => (place(), change).prop_map(|(place, change)| Step::Change(place, change)),
        2 => place().prop_map(Step::Look),
        1 => place().prop_map(Step::Disturb),
    ]
}

/// Does the steps on one mount, with whatever comes of them.
async fn work(one: &Mount, two: &Mount, directories: [InodeId; 2], steps: &[Step]) {
    let at = |place: Place| (directories[usize::from(place.0)], numbered(b'n', place.1));
    for step in steps {
        match step.clone() {
            Step::Write(place, length) => {
                let (parent, name) = at(place);
                let _ = one.write(parent, &name, vec![7; length.into()]).await;
            }
            Step::Make(place, kind) => {
                let (parent, name) = at(place);
                let node = match kind {
                    0 => NewNode::Directory,
                    1 => NewNode::Symlink(b"somewhere"),
                    _ => NewNode::Other(FileKind::Fifo, 0),
                };
                let _ = one.make(parent, &name, node, 0o2755).await;
            }
            Step::Remove(place, directory) => {
                let (parent, name) = at(place);
                let _ = match directory {
                    true => one.fs.rmdir(parent, &name).await,
                    false => one.fs.unlink(parent, &name).await,
                };
            }
            Step::Rename(from, to) => {
                let ((from, name), (to, new)) = (at(from), at(to));
                let (from, to) = ((from, &name[..]), (to, &new[..]));
                let _ = one.fs.rename(from, to, RenameMode::Replace).await;
            }
            Step::Link(from, to) => {
                let ((from, name), (to, new)) = (at(from), at(to));
                if let Some(linked) = one.look(from, &name).await {
                    let _ = one.fs.link(InodeId(linked.inode), to, &new).await;
                }
            }
            Step::Change(place, change) => {
                let (parent, name) = at(place);
                if let Some(changed) = one.look(parent, &name).await {
                    let inode = InodeId(changed.inode);
                    let done = one.fs.set_attributes(inode, request(change)).await;
                    one.given(&done.unwrap());
                }
            }
            Step::Look(place) => {
                let (parent, name) = at(place);
                one.look(parent, &name).await;
            }
            Step::Disturb(place) => {
                let (parent, name) = at(place);
                two.look(parent, &name).await;
            }
        }
    }
}

fn request(change: Change) -> SetAttributesRequest {
    let nothing = SetAttributesRequest::default();
    match change {
        Change::Mode(mode) => SetAttributesRequest {
            mode: Some(mode),
            ..nothing
        },
        Change::Owner(gid) => SetAttributesRequest {
            gid: Some(gid),
            ..nothing
        },
        Change::Times(seconds) => SetAttributesRequest {
            modified: Some(TimeChange::To(Time {
                seconds,
                nanoseconds: 3,
            })),
            ..nothing
        },
        Change::Now => SetAttributesRequest {
            accessed: Some(TimeChange::Now),
            ..nothing
        },
    }
}

/// All that a mount shows of the directories.
async fn view(mount: &Mount, directories: [InodeId; 2]) -> BTreeMap<Place, Attributes> {
    let mut view = BTreeMap::new();
    for second in [false, true] {
        let directory = directories[usize::from(second)];
        let own = mount.fs.get_attributes(directory).await.unwrap().value;
        view.insert((second, 255), own.attributes.unwrap());
        for number in 0..5 {
            if let Some(found) = mount.look(directory, &numbered(b'n', number)).await {
                view.insert((second, number), found);
            }
        }
    }
    view
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_done_ahead_is_what_the_server_has_done(steps in prop::collection::vec(step(), 1..60)) {
        let (shown, truth) = runtime().block_on(async {
            let job = Job::start(4096).await;
            let (one, two) = (Mount::of(&job).await, Mount::of_again(&job).await);
            let first = one.mkdir(InodeId::ROOT, b"first").await.unwrap();
            let group = NewNode::Directory;
            let second = one.make(InodeId::ROOT, b"second", group, 0o2775).await.unwrap();
            work(&one, &two, [first, second], &steps).await;
            let shown = view(&one, [first, second]).await;
            (shown, view(&two, [first, second]).await)
        });
        prop_assert_eq!(shown, truth);
    }
}
