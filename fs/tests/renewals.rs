//! Sessions that are lost and renewed: what is open is counted once, and nothing older is believed
//! or written.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pocket_fs::{Errno, HandleId, KernelCache, WriteRequest};
use pocket_meta_client::RecallHandler;
use pocket_proto::session::StorageServer;
use pocket_proto::{BlockIndex, Failure, InodeId, Status};
use pocket_storage_client::BlockStore;
use support::{Client, Job, Op, runtime};

const BLOCK_BYTES: u32 = 4096;
const DEADLINE: Duration = Duration::from_secs(10);

/// A mount with a file, and another that has seen it, so that it is not the first one's alone.
async fn with_file(job: &Job) -> (Client, InodeId, Client) {
    let client = Client::cold(job).await;
    let inode = client
        .put(InodeId::ROOT, b"f", 0o644, b"old")
        .await
        .unwrap();
    let other = Client::cold(job).await;
    assert_eq!(
        other.look(InodeId::ROOT, b"f").await.unwrap().inode,
        inode.0
    );
    client.tap.forget();
    (client, inode, other)
}

fn lose_session(client: &Client) {
    let reason = Failure::new(Status::SessionEnded, "the test says so");
    client.inbox.session_lost(reason);
}

fn renew_session(client: &Client) {
    client.inbox.session_renewed(client.info.clone());
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect(what);
}

#[test]
fn what_is_open_is_counted_once_in_the_next_session() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let (client, inode, _other) = with_file(&job).await;
        client.open(inode, libc::O_RDONLY).await;
        client.tap.forget();
        lose_session(&client);
        renew_session(&client);
        // Before the first one is opened anew.
        client.open(inode, libc::O_RDWR).await;
        settle().await;
        assert_eq!(client.tap.count(|op| matches!(op, Op::Open(_))), 2);
    });
}

#[test]
fn handle_that_is_closed_before_it_is_counted_anew_takes_no_other_with_it() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let (client, inode, _other) = with_file(&job).await;
        let first = client.open(inode, libc::O_RDONLY).await;
        client.tap.forget();
        lose_session(&client);
        renew_session(&client);
        client.fs.release(first).await;
        settle().await;
        assert_eq!(client.tap.count(|op| matches!(op, Op::Open(_))), 0);
        assert_eq!(client.tap.count_told(|op| matches!(op, Op::Close(_))), 0);
        let second = client.open(inode, libc::O_RDWR).await;
        client.fs.release(second).await;
        assert_eq!(client.tap.count_told(|op| matches!(op, Op::Close(_))), 1);
    });
}

#[test]
fn open_that_is_not_answered_is_asked_for_again() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let (client, inode, _other) = with_file(&job).await;
        let handle = client.open(inode, libc::O_RDONLY).await;
        client.tap.forget();
        client
            .tap
            .on_answer(|op| matches!(op, Op::Open(_)), || false);
        lose_session(&client);
        renew_session(&client);
        eventually("it is asked for again", async || {
            client.tap.count(|op| matches!(op, Op::Open(_))) == 2
        })
        .await;
        assert_eq!(
            &client.fs.read(handle, 0, 9).await.unwrap().into_bytes()[..],
            b"old"
        );
    });
}

/// What a mount has in memory may have been replaced if the server gave the mount up; it asks.
#[test]
fn data_in_memory_are_read_only_while_the_session_is_known_to_live() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let (client, inode, _other) = with_file(&job).await;
        let handle = client.open(inode, libc::O_RDONLY).await;
        let read = async || {
            let read = client.fs.read(handle, 0, 9).await;
            read.map(|data| data.into_bytes())
        };
        assert_eq!(read().await.unwrap(), &b"old"[..]);
        let new = Bytes::from_static(b"new").into();
        let server = StorageServer::default();
        let block = BlockIndex(0);
        job.store
            .write(&server, inode, block, 0, new)
            .await
            .unwrap();
        assert_eq!(read().await.unwrap(), &b"old"[..], "from memory");
        client.tap.lose_touch();
        let is_sign = |op: &Op| matches!(op, Op::KeepAlive(_));
        client.tap.on_answer(is_sign, || false);
        assert_eq!(read().await, Err(Errno(libc::EIO)));
        let (inbox, info) = (Arc::clone(&client.inbox), client.info.clone());
        client.tap.on_answer(is_sign, move || {
            inbox.session_lost(Failure::new(Status::SessionEnded, "the test says so"));
            inbox.session_renewed(info);
            true
        });
        assert_eq!(read().await.unwrap(), &b"new"[..]);
    });
}

/// A kernel that drops pages when it is let.
#[derive(Default)]
struct Kernel {
    attributes: Mutex<Vec<InodeId>>,
    pages: Mutex<Vec<InodeId>>,
    may_drop: Mutex<bool>,
    let_go: Condvar,
}

impl KernelCache for Kernel {
    fn drop_name(&self, _: InodeId, _: &[u8]) {}

    fn drop_attributes(&self, inode: InodeId) {
        self.attributes.lock().unwrap().push(inode);
    }

    fn drop_data(&self, inode: InodeId) {
        let may_drop = self.may_drop.lock().unwrap();
        let waited = self
            .let_go
            .wait_timeout_while(may_drop, DEADLINE, |may| !*may);
        drop(waited.unwrap());
        self.pages.lock().unwrap().push(inode);
    }

    fn drop_listing(&self, _: InodeId) {}
    fn drop_all_names(&self) -> bool {
        true
    }
}

#[test]
fn pages_are_not_written_after_the_session_before_they_are_dropped() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let (client, inode, _other) = with_file(&job).await;
        let kernel = Arc::new(Kernel::default());
        client.fs.attach_kernel(kernel.clone());
        let handle = client.open(inode, libc::O_RDWR).await;
        lose_session(&client);
        renew_session(&client);
        let write = async |handle: HandleId, pages: bool| {
            let request = WriteRequest {
                pages,
                ..WriteRequest::default()
            };
            let data = Bytes::from_static(b"new");
            client.fs.write(handle, request, data).await
        };
        // The kernel may write pages through any handle.
        let other = client.open(inode, libc::O_RDWR).await;
        for handle in [handle, other] {
            assert_eq!(write(handle, true).await, Err(Errno(libc::EIO)));
        }
        assert_eq!(write(other, false).await, Ok(3));
        *kernel.may_drop.lock().unwrap() = true;
        kernel.let_go.notify_all();
        eventually("pages are trusted again", async || {
            write(other, true).await == Ok(3)
        })
        .await;
        assert_eq!(*kernel.pages.lock().unwrap(), [inode]);
    });
}

#[test]
fn attributes_that_the_kernel_was_given_go_with_the_session() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let (client, inode, _other) = with_file(&job).await;
        let kernel = Arc::new(Kernel::default());
        client.fs.attach_kernel(kernel.clone());
        client.stat(inode).await;
        lose_session(&client);
        eventually("attributes are dropped", async || {
            kernel.attributes.lock().unwrap().contains(&inode)
        })
        .await;
    });
}
