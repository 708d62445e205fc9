//! What a mount does ahead of the server in directories of its own: without asking, and exactly as
//! the server would have done it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use pocket_fs::{AclKind, NewNode, RenameMode, SetAttributesRequest, SetGroupId, TimeChange};
use pocket_proto::InodeId;
use pocket_proto::session::{Acls, Attributes, FileKind, Time};
use proptest::prelude::*;
use support::{Client, Job, Op, name, runtime};

/// Set-user-id, and executable by the group: what changes of owner and content have to see to.
const MODE: u32 = 0o4751;

/// What the server was asked and had to answer before the mount went on, since the last time.
fn asked(mount: &Client) -> usize {
    // Space and inode numbers are asked for long before they are needed.
    let asked = mount
        .tap
        .count(|op| !matches!(op, Op::GrantInodes(_) | Op::GrantSpace(_)));
    mount.tap.forget();
    asked
}

#[test]
fn nothing_is_asked_for_in_a_directory_of_ones_own() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Client::warm(&job).await;
        let directory = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
        asked(&mount);
        assert_eq!(mount.look(directory, b"f").await, None);
        mount.put(directory, b"f", MODE, b"content").await.unwrap();
        let file = InodeId(mount.look(directory, b"f").await.unwrap().inode);
        assert_eq!(mount.read(file).await, b"content"[..]);
        let inner = mount.mkdir(directory, b"inner").await.unwrap();
        mount.put(inner, b"g", MODE, &[1; 10]).await.unwrap();
        let moved = (inner, &b"h"[..]);
        mount
            .fs
            .rename((inner, b"g"), moved, RenameMode::Replace)
            .await
            .unwrap();
        mount.fs.unlink(inner, b"h").await.unwrap();
        mount.fs.rmdir(directory, b"inner").await.unwrap();
        mount.fs.get_attributes(directory).await.unwrap();
        assert_eq!(asked(&mount), 0);
    });
}

#[test]
fn names_of_a_directory_that_became_ones_own_are_read_once() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Client::warm(&job).await;
        // The root had names before this mount had it to itself.
        for number in 0..20 {
            mount.symlink(InodeId::ROOT, &name('r', number)).await;
            assert_eq!(mount.look(InodeId::ROOT, &name('x', number)).await, None);
        }
        asked(&mount);
        for number in 20..40 {
            assert_eq!(mount.look(InodeId::ROOT, &name('x', number)).await, None);
            mount.symlink(InodeId::ROOT, &name('r', number)).await;
        }
        assert!(mount.look(InodeId::ROOT, b"warm").await.is_some());
        assert_eq!(asked(&mount), 0);
    });
}

#[test]
fn another_mount_sees_at_once_what_was_done_ahead() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (one, two) = (Client::warm(&job).await, Client::cold(&job).await);
        let directory = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        for round in 0..50_u8 {
            one.put(directory, &name('f', round.into()), MODE, &[round; 5])
                .await
                .unwrap();
            if round % 10 == 9 {
                let seen = two.look(directory, &name('f', round.into())).await.unwrap();
                assert_eq!(two.read(InodeId(seen.inode)).await, [round; 5][..]);
                two.fs
                    .unlink(directory, &name('f', round.into()))
                    .await
                    .unwrap();
                assert_eq!(one.look(directory, &name('f', round.into())).await, None);
            }
        }
    });
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
    /// An access list of what is there.
    List(Place, List),
    /// The default list of a directory.
    DefaultList(bool, List),
    Look(Place),
    /// The other mount looks, and what was this mount's alone is no more.
    Disturb(Place),
}

type Place = (bool, u8);

#[derive(Clone, Copy, Debug)]
enum List {
    None,
    /// No more than a mode says.
    Minimal,
    /// With a user and a mask.
    Full,
}

impl List {
    /// As setxattr(2) takes it.
    fn bytes(self) -> Vec<u8> {
        const NOBODY: u32 = u32::MAX;
        let entries: &[(u16, u16, u32)] = match self {
            List::None => &[],
            List::Minimal => &[(1, 6, NOBODY), (4, 5, NOBODY), (0x20, 4, NOBODY)],
            List::Full => &[
                (1, 7, NOBODY),
                (2, 6, 10),
                (4, 5, NOBODY),
                (0x10, 6, NOBODY),
                (0x20, 1, NOBODY),
            ],
        };
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }
}

fn list() -> impl Strategy<Value = List> {
    prop_oneof![
        1 => Just(List::None),
        1 => Just(List::Minimal),
        2 => Just(List::Full),
    ]
}

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
        2 => (place(), list()).prop_map(|(place, list)| Step::List(place, list)),
        1 => (any::<bool>(), list()).prop_map(|(second, list)| Step::DefaultList(second, list)),
        2 => place().prop_map(Step::Look),
        1 => place().prop_map(Step::Disturb),
    ]
}

/// Does the steps on one mount, with whatever comes of them.
async fn work(one: &Client, two: &Client, directories: [InodeId; 2], steps: &[Step]) {
    let at = |place: Place| (directories[usize::from(place.0)], name('n', place.1.into()));
    for step in steps {
        match step.clone() {
            Step::Write(place, length) => {
                let (parent, name) = at(place);
                let _ = one.put(parent, &name, MODE, &vec![7; length.into()]).await;
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
                    one.change(inode, request(change)).await;
                }
            }
            Step::List(place, list) => {
                let (parent, name) = at(place);
                if let Some(found) = one.look(parent, &name).await {
                    let inode = InodeId(found.inode);
                    set_list(one, inode, AclKind::Access, list).await;
                }
            }
            Step::DefaultList(second, list) => {
                let directory = directories[usize::from(second)];
                set_list(one, directory, AclKind::Default, list).await;
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

/// Symbolic links have none.
async fn set_list(mount: &Client, inode: InodeId, kind: AclKind, list: List) {
    let bytes = list.bytes();
    let set = mount.fs.set_acl(inode, kind, &bytes, SetGroupId::Keep);
    let _ = set.await;
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

type Shown = (Attributes, Option<Box<Acls>>);

/// All that a mount shows of the directories.
async fn view(mount: &Client, directories: [InodeId; 2]) -> BTreeMap<Place, Shown> {
    let mut view = BTreeMap::new();
    for second in [false, true] {
        let directory = directories[usize::from(second)];
        let own = mount.fs.get_attributes(directory).await.unwrap().value;
        view.insert((second, 255), (own.attributes.unwrap(), own.acls));
        for number in 0..5_u8 {
            if let Some(found) = mount.look(directory, &name('n', number.into())).await {
                let entry = mount.fs.get_acls(InodeId(found.inode)).await.unwrap();
                view.insert((second, number), (found, entry.value.acls));
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
            let (one, two) = (Client::warm(&job).await, Client::cold(&job).await);
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
