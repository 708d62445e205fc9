//! One mount cuts a file while another writes it: each write is wholly before the cut, or wholly
//! behind it.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pocket_fs::{FileSystem, HandleId, SetAttributesRequest, WriteRequest};
use pocket_proto::InodeId;
use support::{Client, Job, Op};
use tokio::task::JoinHandle;

const BLOCK_BYTES: u32 = 4096;
const OLD: &[u8] = b"what was there before";
const LONGER: &[u8] = b"what comes after it, which is longer";

/// A file that two mounts have open for writing.
struct Shared {
    job: Job,
    one: Client,
    other: Client,
    inode: InodeId,
    handle: HandleId,
    others: HandleId,
}

impl Shared {
    async fn start() -> Self {
        let job = Job::start(BLOCK_BYTES).await;
        let (one, other) = (Client::cold(&job).await, Client::cold(&job).await);
        let (inode, handle) = one.create(InodeId::ROOT, b"log", 0o644).await.unwrap();
        append(&one.fs, handle, OLD).await.unwrap().unwrap();
        one.fs.flush(handle).await.unwrap();
        let others = other.open(inode, libc::O_RDWR).await;
        append(&one.fs, handle, b".").await.unwrap().unwrap();
        Shared {
            job,
            one,
            other,
            inode,
            handle,
            others,
        }
    }

    fn cut(&self) -> JoinHandle<()> {
        let (fs, inode) = (Arc::clone(&self.one.fs), self.inode);
        let change = SetAttributesRequest {
            size_bytes: Some(0),
            ..SetAttributesRequest::default()
        };
        tokio::spawn(async move {
            fs.set_attributes(inode, change).await.unwrap();
        })
    }

    async fn content(&self) -> Bytes {
        let seen = self.other.read(self.inode).await;
        assert_eq!(self.one.read(self.inode).await, seen);
        seen
    }
}

fn append(
    fs: &Arc<FileSystem>,
    handle: HandleId,
    data: &'static [u8],
) -> JoinHandle<Result<u32, pocket_fs::Errno>> {
    let fs = Arc::clone(fs);
    let append = WriteRequest {
        append: true,
        ..WriteRequest::default()
    };
    tokio::spawn(async move { fs.write(handle, append, Bytes::from_static(data)).await })
}

/// Lets everything run that does not wait for the test.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_append_while_another_mount_cuts_the_file_comes_behind_the_cut() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        let cuts = shared.job.store.cuts.hold();
        let cutting = shared.cut();
        settle().await;
        let appending = append(&shared.other.fs, shared.others, b"new");
        settle().await;
        cuts.add_permits(100);
        cutting.await.unwrap();
        appending.await.unwrap().unwrap();
        assert_eq!(shared.content().await, &b"new"[..]);
    });
}

#[test]
fn a_cut_waits_for_a_write_of_another_mount_that_is_stored_and_not_yet_committed() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        let commits = shared.other.tap.hold(|op| matches!(op, Op::Commit(_)));
        let fs = Arc::clone(&shared.other.fs);
        let handle = shared.others;
        let first = Bytes::from_static(b"WHAT");
        let writing =
            tokio::spawn(async move { fs.write(handle, WriteRequest::default(), first).await });
        settle().await;
        let cutting = shared.cut();
        settle().await;
        assert!(!cutting.is_finished(), "the write was cut in the middle");
        commits.add_permits(100);
        writing.await.unwrap().unwrap();
        cutting.await.unwrap();
        assert_eq!(shared.content().await, Bytes::new());
    });
}

#[test]
fn a_read_from_before_a_cut_shows_nothing_that_was_written_after_it_and_is_not_committed() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        let reads = shared.job.store.reads.hold();
        let (fs, handle) = (Arc::clone(&shared.other.fs), shared.others);
        let reading = tokio::spawn(async move { fs.read(handle, 0, 1 << 20).await });
        settle().await;
        shared.cut().await.unwrap();
        let commits = shared.one.tap.hold(|op| matches!(op, Op::Commit(_)));
        let writing = append(&shared.one.fs, shared.handle, LONGER);
        settle().await;
        reads.add_permits(100);
        let seen = reading.await.unwrap().unwrap().into_bytes();
        assert_eq!(seen, Bytes::new());
        commits.add_permits(100);
        writing.await.unwrap().unwrap();
        assert_eq!(shared.content().await, LONGER);
    });
}

#[test]
fn a_read_while_its_own_mount_appends_behind_a_cut_of_another_ends_where_the_file_does() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        let asking = shared
            .other
            .tap
            .hold(|op| matches!(op, Op::GetAttributes(_)));
        let (fs, handle) = (Arc::clone(&shared.other.fs), shared.others);
        let reading = tokio::spawn(async move { fs.read(handle, 0, 1 << 20).await });
        settle().await;
        shared.cut().await.unwrap();
        let appending = append(&shared.other.fs, shared.others, b"new");
        appending.await.unwrap().unwrap();
        asking.add_permits(100);
        let seen = reading.await.unwrap().unwrap().into_bytes();
        assert_eq!(seen, &b"new"[..]);
    });
}

#[test]
fn a_mount_that_made_way_for_a_cut_writes_on_with_one_request_more() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        shared.cut().await.unwrap();
        let asked = |op: &Op| matches!(op, Op::ReserveAppend(_));
        shared.other.tap.forget();
        for round in 0..3 {
            let fs = &shared.other.fs;
            let write = WriteRequest {
                offset: 3 * round,
                ..WriteRequest::default()
            };
            let data = Bytes::from_static(b"abc");
            fs.write(shared.others, write, data).await.unwrap();
        }
        assert_eq!(shared.other.tap.count(asked), 1);
        assert_eq!(shared.content().await, &b"abcabcabc"[..]);
    });
}

#[test]
fn cuts_of_two_mounts_at_once_both_end() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        let cuts = shared.job.store.cuts.hold();
        let first = shared.cut();
        let fs = Arc::clone(&shared.other.fs);
        let inode = shared.inode;
        let second = tokio::spawn(async move {
            let change = SetAttributesRequest {
                size_bytes: Some(3),
                ..SetAttributesRequest::default()
            };
            fs.set_attributes(inode, change).await.unwrap();
        });
        settle().await;
        cuts.add_permits(100);
        first.await.unwrap();
        second.await.unwrap();
        let content = shared.content().await;
        assert!(
            content == b"\0\0\0"[..] || content.is_empty(),
            "{content:?}"
        );
    });
}

#[test]
fn an_append_that_fails_leaves_no_gap_before_the_next() {
    support::runtime().block_on(async {
        let shared = Shared::start().await;
        shared.cut().await.unwrap();
        let is_full = &shared.job.store.is_full;
        is_full.store(true, Ordering::Relaxed);
        let failed = append(&shared.one.fs, shared.handle, b"fails").await;
        assert!(failed.unwrap().is_err());
        is_full.store(false, Ordering::Relaxed);
        append(&shared.other.fs, shared.others, b"next")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(shared.content().await, &b"next"[..]);
    });
}
