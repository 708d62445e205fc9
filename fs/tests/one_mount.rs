//! Programs of one mount that use a file at the same time, and data that could not be stored.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pocket_fs::{Errno, OpenRequest, SetAttributesRequest, WriteRequest};
use pocket_proto::InodeId;
use support::{Client, Job, Op, runtime};

const BLOCK_BYTES: u32 = 4096;

/// Cuts a file while another program opens and writes it: that comes before or after, and is not
/// lost in between.
async fn write_beside(is_cut: fn(&Op) -> bool, cut: impl AsyncFnOnce(Arc<Client>, InodeId)) {
    let job = Job::start(BLOCK_BYTES).await;
    let client = Arc::new(Client::cold(&job).await);
    let inode = client
        .put(InodeId::ROOT, b"f", 0o644, b"old and long")
        .await;
    let inode = inode.unwrap();
    let passes = client.tap.hold(is_cut);
    let cutting = cut(Arc::clone(&client), inode);
    let writer = Arc::clone(&client);
    let writing = tokio::spawn(async move {
        let handle = writer.open(inode, libc::O_RDWR).await;
        writer.write(handle, b"new").await.unwrap();
        handle
    });
    let meanwhile = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        passes.add_permits(1);
        writing.await.unwrap()
    };
    let ((), handle) = tokio::join!(cutting, meanwhile);
    let read = client.fs.read(handle, 0, 100).await.unwrap().into_bytes();
    assert_eq!(read, &b"new"[..]);
    assert_eq!(client.stat(inode).await.size_bytes, 3);
}

#[test]
fn opening_with_o_trunc_spares_what_another_program_writes_meanwhile() {
    let is_cut = |op: &Op| matches!(op, Op::Open(open) if open.truncate);
    runtime().block_on(write_beside(is_cut, async |client, inode| {
        client.open(inode, libc::O_WRONLY | libc::O_TRUNC).await;
    }));
}

#[test]
fn truncating_by_name_spares_what_another_program_writes_meanwhile() {
    let is_cut = |op: &Op| matches!(op, Op::SetAttributes(set) if set.size_bytes.is_some());
    runtime().block_on(write_beside(is_cut, async |client, inode| {
        let nothing = SetAttributesRequest {
            size_bytes: Some(0),
            ..SetAttributesRequest::default()
        };
        client.change(inode, nothing).await;
    }));
}

#[test]
fn block_that_could_not_be_stored_is_eio_even_beside_what_was_written_since() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let client = Client::cold(&job).await;
        let old = vec![b'o'; 1000];
        let inode = client.put(InodeId::ROOT, b"f", 0o644, &old).await.unwrap();
        let open = OpenRequest {
            flags: libc::O_RDWR,
            clear_set_id: false,
        };
        let handle = client.fs.open(inode, open).await.unwrap().handle;
        job.store.is_full.store(true, Ordering::Relaxed);
        client.write(handle, b"new").await.unwrap();
        assert!(client.fs.flush(handle).await.is_err());
        job.store.is_full.store(false, Ordering::Relaxed);
        let behind = WriteRequest {
            offset: 500,
            ..WriteRequest::default()
        };
        let data = Bytes::from_static(b"newer");
        client.fs.write(handle, behind, data).await.unwrap();
        let read = async |offset: u64, length: u32| {
            let read = client.fs.read(handle, offset, length).await;
            read.map(|data| data.into_bytes())
        };
        assert_eq!(read(500, 5).await.unwrap(), &b"newer"[..]);
        assert_eq!(
            read(0, 3).await,
            Err(Errno(libc::EIO)),
            "not what was there before"
        );
        assert_eq!(read(400, 200).await, Err(Errno(libc::EIO)));
    });
}

/// An open is answered before a commit that was begun before it, and heard of after all is closed.
#[test]
fn what_is_appended_while_the_file_is_being_closed_comes_behind_what_was_written() {
    runtime().block_on(async {
        let job = Job::start(BLOCK_BYTES).await;
        let client = Client::cold(&job).await;
        let inode = client.put(InodeId::ROOT, b"f", 0o644, b"").await.unwrap();
        // So that it is not this mount's alone.
        let other = Client::cold(&job).await;
        assert!(other.look(InodeId::ROOT, b"f").await.is_some());

        let first = client.open(inode, libc::O_WRONLY).await;
        client.write(first, b"first").await.unwrap();
        let commits = client.tap.hold(|op| matches!(op, Op::Commit(_)));
        let closing = {
            let fs = Arc::clone(&client.fs);
            tokio::spawn(async move {
                fs.flush(first).await.unwrap();
                fs.release(first).await;
            })
        };
        settle().await;
        let opens = client.tap.hold_answers(|op| matches!(op, Op::Open(_)));
        let opening = {
            let fs = Arc::clone(&client.fs);
            let open = OpenRequest {
                flags: libc::O_WRONLY | libc::O_APPEND,
                clear_set_id: false,
            };
            tokio::spawn(async move { fs.open(inode, open).await.unwrap().handle })
        };
        settle().await;
        commits.add_permits(100);
        closing.await.unwrap();
        opens.add_permits(100);
        let second = opening.await.unwrap();
        let append = WriteRequest {
            append: true,
            ..WriteRequest::default()
        };
        let data = Bytes::from_static(b", second");
        client.fs.write(second, append, data).await.unwrap();
        client.fs.flush(second).await.unwrap();
        client.fs.release(second).await;
        assert_eq!(other.read(inode).await, &b"first, second"[..]);
    });
}

/// Lets everything run that does not wait for the test.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
