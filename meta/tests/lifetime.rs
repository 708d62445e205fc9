//! Files that go by themselves: when their time is over, and when they were read.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use pocket_meta::LocalJob;
use pocket_proto::Status;
use pocket_proto::session::*;
use support::{
    Mount, Operation, ROOT, close, commit, create, job, link, make, open, remove, status, truncate,
};
use tokio::time::timeout;

/// Longer than any time to live here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const TTL: &str = "user.pocket.ttl";
const READ_ONCE: &str = "user.pocket.delete_after_read";

fn set(inode: u64, name: &str, value: &str) -> Operation {
    Operation::SetXattr(SetXattr {
        inode,
        name: Bytes::copy_from_slice(name.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..SetXattr::default()
    })
}

async fn value(mount: &Mount, inode: u64, name: &str) -> Result<Bytes, Status> {
    let get = Operation::GetXattr(GetXattr {
        inode,
        name: Bytes::copy_from_slice(name.as_bytes()),
    });
    match mount.call(get).await.map_err(|failure| failure.status)? {
        reply::Result::Xattr(xattr) => Ok(xattr.value),
        other => panic!("no attribute: {other:?}"),
    }
}

/// Waits until a name leads nowhere.
async fn gone(mount: &Mount, parent: u64, name: &str) {
    let absent = async {
        while mount.lookup(parent, name).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let waited = timeout(PATIENCE, absent).await;
    waited.unwrap_or_else(|_| panic!("{name} is there after {PATIENCE:?}"));
}

/// A directory whose attribute what is made in it takes over.
async fn directory(mount: &Mount, attribute: &str, value: &str) -> u64 {
    let made = mount.mkdir(ROOT, "d").await;
    mount.done(set(made, attribute, value)).await.unwrap();
    made
}

fn read_to(inode: u64, read_bytes: u64) -> Operation {
    Operation::Close(Close {
        inode,
        write: false,
        read_bytes: Some(read_bytes),
    })
}

#[tokio::test]
async fn what_is_made_takes_its_time_to_live_from_its_directory() {
    let job: LocalJob = job();
    let mount = Mount::new(&job);
    let d = directory(&mount, TTL, "10m").await;
    let below = mount.mkdir(d, "below").await;
    let file = mount.touch(below, "f").await;
    for inode in [d, below, file] {
        assert_eq!(value(&mount, inode, TTL).await.unwrap(), "10m");
    }
    let removed = Operation::RemoveXattr(RemoveXattr {
        inode: file,
        name: Bytes::from_static(TTL.as_bytes()),
    });
    mount.done(removed).await.unwrap();
    assert_eq!(value(&mount, file, TTL).await, Err(Status::NoAttribute));
    for wrong in ["", "0", "-1s", "soon", "1w"] {
        let refused = mount.done(set(file, TTL, wrong)).await;
        assert_eq!(status(refused), Status::Invalid, "{wrong}");
    }
    let refused = mount.done(set(file, READ_ONCE, "yes")).await;
    assert_eq!(status(refused), Status::Invalid);
}

#[tokio::test]
async fn files_and_empty_directories_go_when_their_time_is_over_and_everyone_is_told() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let d = directory(&one, TTL, "1s").await;
    let file = one.touch(d, "f").await;
    one.entry(link(file, ROOT, "named")).await.unwrap();
    two.lookup(ROOT, "d").await.unwrap();
    two.lookup(d, "f").await.unwrap();
    two.opened(open(file, false)).await.unwrap();
    two.recalled();
    gone(&one, d, "f").await;
    // All its names go, and not while anybody counts on them.
    gone(&one, ROOT, "named").await;
    let recalled = two.recalled();
    assert!(recalled.names.contains(&(d, Bytes::from_static(b"f"))));
    // It lives on while it is open.
    let left = two.attributes(file).await.unwrap();
    assert_eq!(left.attributes.unwrap().link_count, 0);
    gone(&one, ROOT, "d").await;
    assert!(two.lookup(ROOT, "d").await.is_err());
}

#[tokio::test]
async fn a_file_that_is_written_or_was_changed_lately_stays() {
    let job = job();
    let mount = Mount::new(&job);
    let d = directory(&mount, TTL, "2s").await;
    let (written, _) = mount.opened(create(d, "written")).await.unwrap();
    let changed = mount.touch(d, "changed").await;
    mount.touch(d, "old").await;
    let forever = mount.touch(ROOT, "forever").await;
    // Its turn comes before that of the one that is made last.
    let last = mount.mkdir(d, "last").await;
    mount.done(set(last, TTL, "1s")).await.unwrap();
    gone(&mount, d, "last").await;
    mount.entry(commit(changed, 0, 0)).await.unwrap();
    gone(&mount, d, "old").await;
    assert!(mount.lookup(d, "changed").await.is_ok());
    assert!(mount.lookup(d, "written").await.is_ok());
    gone(&mount, d, "changed").await;
    assert!(mount.lookup(d, "written").await.is_ok());
    mount.done(close(written, true)).await.unwrap();
    gone(&mount, d, "written").await;
    assert!(mount.attributes(forever).await.is_ok());
}

#[tokio::test]
async fn a_mount_that_has_the_directory_to_itself_is_heard_before_anything_goes_there() {
    let job = job();
    let mount = Mount::new(&job);
    let d = directory(&mount, TTL, "1s").await;
    mount.touch(d, "f").await;
    let other = Mount::new(&job);
    gone(&other, d, "f").await;
    let recalled = mount.recalled();
    assert!(recalled.directories.contains(&d), "{recalled:?}");
}

#[tokio::test]
async fn a_file_that_was_read_to_the_end_goes_with_its_last_close() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let d = directory(&one, READ_ONCE, "1").await;
    assert!(one.attributes(d).await.unwrap().read_once);
    let (file, _) = one.opened(create(d, "f")).await.unwrap();
    one.write(file, 1000).await;
    one.done(close(file, true)).await.unwrap();
    let entry = two.lookup(d, "f").await.unwrap();
    assert!(entry.read_once);

    // Not all of it.
    two.opened(open(file, false)).await.unwrap();
    two.done(read_to(file, 999)).await.unwrap();
    // All of it, but written since.
    two.opened(open(file, false)).await.unwrap();
    one.opened(open(file, false)).await.unwrap();
    two.done(read_to(file, 1000)).await.unwrap();
    one.entry(truncate(file, 2000)).await.unwrap();
    one.done(close(file, false)).await.unwrap();
    // All of it, by one of two that have it open.
    one.opened(open(file, false)).await.unwrap();
    two.opened(open(file, false)).await.unwrap();
    two.done(read_to(file, 2000)).await.unwrap();
    // Another that is used up goes; this one is held.
    let (second, _) = one.opened(create(d, "second")).await.unwrap();
    one.done(close(second, true)).await.unwrap();
    two.opened(open(second, false)).await.unwrap();
    two.done(read_to(second, 0)).await.unwrap();
    gone(&one, d, "second").await;
    assert!(one.lookup(d, "f").await.is_ok());
    one.done(close(file, false)).await.unwrap();
    gone(&one, d, "f").await;
    assert_eq!(one.status().await.used_bytes, 0);
}

#[tokio::test]
async fn a_lost_session_reads_nothing_to_the_end_but_ends_its_opens() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let d = directory(&one, READ_ONCE, "1").await;
    let (file, other) = (one.touch(d, "f").await, one.touch(d, "other").await);
    let three = Mount::new(&job);
    for inode in [file, other] {
        two.opened(open(inode, false)).await.unwrap();
    }
    three.opened(open(file, false)).await.unwrap();
    three.done(read_to(file, 0)).await.unwrap();
    two.metadata.leave();
    gone(&one, d, "f").await;
    assert!(one.lookup(d, "other").await.is_ok());
    one.done(remove(d, "other")).await.unwrap();
    one.entry(make(d, "f", FileKind::Regular)).await.unwrap();
}
