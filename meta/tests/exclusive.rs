//! Directories that one session has to itself, and what it does there ahead of the server.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use pocket_meta_client::Metadata;
use pocket_proto::Status;
use pocket_proto::session::*;
use support::*;
use tokio::time::{Instant, sleep};

/// A mount that does things ahead.
struct Maker {
    mount: Arc<Mount>,
    next: u64,
}

impl Maker {
    async fn new(mount: &Arc<Mount>) -> Self {
        Maker {
            mount: Arc::clone(mount),
            next: mount.numbers().await,
        }
    }

    /// Tells of a file made ahead; answers its inode.
    fn create(&mut self, parent: u64, name: &str) -> u64 {
        let inode = self.next;
        self.next += 1;
        self.tell(create_ahead(parent, name, inode, 1));
        inode
    }

    fn tell(&self, operation: Operation) {
        self.mount.metadata.tell(operation).unwrap();
    }
}

fn create_ahead(parent: u64, name: &str, inode: u64, epoch: u32) -> Operation {
    match create(parent, name) {
        Operation::Create(create) => Operation::Create(Create {
            ahead: ahead(inode, epoch),
            ..create
        }),
        other => panic!("not a create: {other:?}"),
    }
}

fn remove_ahead(parent: u64, name: &str) -> Operation {
    match remove(parent, name) {
        Operation::Remove(remove) => Operation::Remove(Remove {
            ahead: ahead(0, 0),
            ..remove
        }),
        other => panic!("not a remove: {other:?}"),
    }
}

async fn is_exclusive(mount: &Mount, directory: u64) -> bool {
    mount.attributes(directory).await.unwrap().exclusive
}

#[tokio::test(start_paused = true)]
async fn who_makes_a_directory_has_it_to_itself_until_someone_looks() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let made = one.entry(make(ROOT, "d", FileKind::Directory)).await;
    let made = made.unwrap();
    assert!(made.exclusive);
    assert_eq!(made.names, 0);
    let directory = made.inode();
    one.touch(directory, "f").await;
    assert!(is_exclusive(&one, directory).await);
    // Its attributes are nobody's alone.
    assert!(!is_exclusive(&two, directory).await);
    assert!(one.recalled().is_empty());
    assert!(two.lookup(directory, "f").await.is_ok());
    assert_eq!(one.recalled().directories, [directory]);
    assert!(!is_exclusive(&one, directory).await);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_changing_a_directory_alone_gets_it() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    for name in ["a", "b", "c"] {
        one.touch(ROOT, name).await;
        assert!(!is_exclusive(&one, ROOT).await, "{name}");
    }
    one.touch(ROOT, "d").await;
    assert!(is_exclusive(&one, ROOT).await);
    let listed = two.list(ROOT).await;
    assert_eq!(listed.len(), 4);
    assert_eq!(one.recalled().directories, [ROOT]);
    // The other one holds names of it now.
    for name in ["e", "f", "g", "h", "i"] {
        one.touch(ROOT, name).await;
    }
    assert!(!is_exclusive(&one, ROOT).await);
}

#[tokio::test(start_paused = true)]
async fn everything_told_before_the_directory_is_given_back_is_seen() {
    let job = job();
    let one = Arc::new(Mount::with(&job, Manners::Stubborn));
    let two = Mount::new(&job);
    let directory = one.mkdir(ROOT, "d").await;
    let mut maker = Maker::new(&one).await;
    let looking = async { two.lookup(directory, "f").await.unwrap().inode() };
    let making = async {
        one.await_recall().await;
        let inode = maker.create(directory, "f");
        maker.create(directory, "g");
        maker.tell(remove_ahead(directory, "g"));
        one.acknowledge(1);
        inode
    };
    let (seen, made) = tokio::join!(looking, making);
    assert_eq!(seen, made);
    assert_eq!(two.list(directory).await, ["f"]);
    let attributes = two.attributes(made).await.unwrap().attributes.unwrap();
    assert_eq!(attributes.created.unwrap().seconds, 77);
    assert_eq!(attributes.mode, 0o644);
}

#[tokio::test(start_paused = true)]
async fn what_a_mount_may_have_told_its_kernel_of_names_is_recalled_afterwards() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let directory = one.mkdir(ROOT, "d").await;
    two.lookup(directory, "a").await.unwrap_err();
    assert_eq!(one.recalled().directories, [directory]);
    // Any name may be known there, present or absent.
    two.touch(directory, "b").await;
    assert_eq!(one.recalled().names, [(directory, "b".into())]);
    // In time it is not.
    sleep(LEASE).await;
    two.touch(directory, "c").await;
    assert!(one.recalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn name_changed_by_another_is_recalled_with_the_directory() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let directory = one.mkdir(ROOT, "d").await;
    two.touch(directory, "f").await;
    let recalled = one.recalled();
    assert_eq!(recalled.directories, [directory]);
    assert_eq!(recalled.names, [(directory, "f".into())]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ones_own_is_not_changed_ahead() {
    let wrong: [fn(u64, u64) -> Operation; 6] = [
        |_, inode| create_ahead(ROOT, "f", inode, 1),
        |directory, inode| create_ahead(directory, "f", inode + 1, 1),
        |directory, inode| create_ahead(directory, "f", inode, 9),
        |directory, inode| create_ahead(directory, "there", inode, 1),
        |directory, _| remove_ahead(directory, "absent"),
        |_, _| remove_ahead(ROOT, "d"),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let job = job();
        let one = Arc::new(Mount::new(&job));
        let directory = one.mkdir(ROOT, "d").await;
        one.touch(directory, "there").await;
        let maker = Maker::new(&one).await;
        maker.tell(wrong(directory, maker.next));
        one.await_loss().await;
        let two = Mount::new(&job);
        assert_eq!(two.list(ROOT).await, ["d"], "{number}");
        assert_eq!(two.list(directory).await, ["there"], "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn mount_that_does_not_give_back_is_ended_after_its_lease() {
    let job = job();
    let one = Mount::with(&job, Manners::Stubborn);
    let two = Mount::new(&job);
    let directory = one.mkdir(ROOT, "d").await;
    let start = Instant::now();
    two.lookup(directory, "f").await.unwrap_err();
    assert!(start.elapsed() <= LEASE * 11 / 10);
    one.await_loss().await;
}

#[tokio::test(start_paused = true)]
async fn directory_is_not_removed_over_what_its_owner_makes() {
    let job = job();
    let one = Arc::new(Mount::with(&job, Manners::Stubborn));
    let two = Mount::new(&job);
    let directory = one.mkdir(ROOT, "d").await;
    let mut maker = Maker::new(&one).await;
    let rmdir = Operation::Remove(Remove {
        parent: ROOT,
        name: "d".into(),
        directory: true,
        ahead: None,
    });
    let removing = two.done(rmdir);
    let making = async {
        one.await_recall().await;
        maker.create(directory, "f");
        one.acknowledge(1);
    };
    let (removed, ()) = tokio::join!(removing, making);
    assert_eq!(status(removed), Status::NotEmpty);
}

#[tokio::test(start_paused = true)]
async fn many_mounts_that_create_in_one_directory_do_not_recall_each_other_for_every_name() {
    const MOUNTS: usize = 64;
    const NAMES: usize = 10;
    let job = job();
    let mounts: Vec<_> = (0..MOUNTS).map(|_| Mount::new(&job)).collect();
    let directory = mounts[0].mkdir(ROOT, "d").await;
    for round in 0..NAMES {
        for (number, mount) in mounts.iter().enumerate() {
            let name = format!("{number}-{round}");
            // As a kernel does it.
            mount.lookup(directory, &name).await.unwrap_err();
            mount.opened(create(directory, &name)).await.unwrap();
        }
    }
    let recalls: usize = mounts.iter().map(Mount::recalls).sum();
    // The first one's lease, and the few names that were looked up before it was plain that many
    // change the directory.
    assert!(recalls <= MOUNTS / 8, "{recalls} recalls");
}

#[tokio::test(start_paused = true)]
async fn one_writer_among_many_readers_recalls_only_what_they_have_seen() {
    const READERS: usize = 20;
    const NAMES: usize = 100;
    let job = job();
    let writer = Mount::new(&job);
    let readers: Vec<_> = (0..READERS).map(|_| Mount::new(&job)).collect();
    let directory = writer.mkdir(ROOT, "d").await;
    for number in 0..NAMES {
        let name = format!("{number}");
        writer.opened(create(directory, &name)).await.unwrap();
        for reader in &readers {
            reader.lookup(directory, &name).await.unwrap();
        }
    }
    assert_eq!(writer.recalls(), 1);
    let recalls: usize = readers.iter().map(Mount::recalls).sum();
    assert_eq!(recalls, 0);
    // Whoever waits for a name to appear is told of it.
    readers[0].lookup(directory, "next").await.unwrap_err();
    writer.opened(create(directory, "next")).await.unwrap();
    assert_eq!(readers[0].recalled().names, [(directory, "next".into())]);
}

#[tokio::test(start_paused = true)]
async fn inode_numbers_are_granted_once() {
    let job = job();
    let one = Arc::new(Mount::new(&job));
    let first = Maker::new(&one).await.next;
    let second = Maker::new(&one).await.next;
    assert!(second >= first + 100);
    let made = one.touch(ROOT, "f").await;
    assert!(made >= second + 100);
}
