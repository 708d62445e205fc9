//! Two mounts of one job, with no kernel between: what one does while the other has a file open.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use pocket_fs::{
    Caller, CreateRequest, FileSystem, HandleId, OpenRequest, SetAttributesRequest, WriteData,
    WriteRequest,
};
use pocket_proto::InodeId;
use support::{Client, Op};

const BLOCK_BYTES: u32 = 4096;

async fn create(fs: &Arc<FileSystem>, name: &[u8]) -> HandleId {
    let create = CreateRequest {
        parent: InodeId::ROOT,
        name,
        mode: 0o644,
        umask: 0,
        flags: libc::O_RDWR,
        clear_set_id: false,
        caller: Caller { uid: 0, gid: 0 },
    };
    fs.create(create).await.expect("created").value.1.handle
}

async fn write(fs: &Arc<FileSystem>, handle: HandleId, offset: u64, data: &'static [u8]) {
    let write = WriteRequest {
        offset,
        ..WriteRequest::default()
    };
    let written = match fs.try_write(handle, write, WriteData::Borrowed(data)) {
        Some(written) => written,
        None => fs.write(handle, write, Bytes::from_static(data)).await,
    };
    assert_eq!(written.expect("written") as usize, data.len());
}

async fn truncate(fs: &Arc<FileSystem>, name: &[u8], size: u64) {
    let inode = support::inode_of(fs, name).await;
    let change = SetAttributesRequest {
        size_bytes: Some(size),
        ..SetAttributesRequest::default()
    };
    fs.set_attributes(inode, change).await.expect("cut");
}

async fn size(fs: &Arc<FileSystem>, name: &[u8]) -> u64 {
    let entry = fs.lookup(InodeId::ROOT, name).await.expect("found").value;
    entry.attributes.expect("has attributes").size_bytes
}

async fn content(fs: &Arc<FileSystem>, name: &[u8]) -> Bytes {
    let inode = support::inode_of(fs, name).await;
    let open = OpenRequest {
        flags: libc::O_RDONLY,
        clear_set_id: false,
    };
    let handle = fs.open(inode, open).await.expect("opened").handle;
    let data = fs.read(handle, 0, 1 << 20).await.expect("read");
    fs.release(handle).await;
    data.into_bytes()
}

#[test]
fn a_write_after_another_mount_cut_the_file_makes_it_as_long_as_the_write() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, other) = (job.mount().await, job.mount().await);
        let handle = create(&one, b"f").await;
        truncate(&one, b"f", 49_152).await;
        truncate(&other, b"f", 0).await;
        write(&one, handle, 0, b"after the cut").await;
        one.flush(handle).await.expect("flushed");
        assert_eq!(size(&other, b"f").await, 13);
        assert_eq!(content(&other, b"f").await, &b"after the cut"[..]);
    });
}

#[test]
fn what_is_written_is_seen_by_all_after_a_sync_of_the_mount() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, other) = (job.mount().await, job.mount().await);
        let (first, second) = (create(&one, b"f").await, create(&one, b"g").await);
        write(&one, first, 0, b"one").await;
        write(&one, second, 0, b"and two").await;
        one.sync_fs().await.expect("brought to the servers");
        assert_eq!(one.gauges().write_bytes, 0);
        assert_eq!((size(&other, b"f").await, size(&other, b"g").await), (3, 7));
    });
}

#[test]
fn a_commit_does_not_undo_the_cut_of_another_mount() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, other) = (job.mount().await, job.mount().await);
        let handle = create(&one, b"f").await;
        write(&one, handle, 0, &[7; 100]).await;
        one.flush(handle).await.expect("flushed");
        truncate(&other, b"f", 10).await;
        write(&one, handle, 5, b"x").await;
        one.release(handle).await;
        assert_eq!(size(&other, b"f").await, 10);
    });
}

#[test]
fn buffered_data_come_before_what_is_written_once_the_file_is_shared() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, other) = (job.mount().await, job.mount().await);
        let handle = create(&one, b"f").await;
        write(&one, handle, 0, b"buffered").await;
        assert_eq!(content(&other, b"f").await, &b"buffered"[..]);
        write(&one, handle, 0, b"BUFF").await;
        assert_eq!(content(&other, b"f").await, &b"BUFFered"[..]);
    });
}

#[test]
fn a_reader_with_the_file_open_sees_the_cut_and_what_follows() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, other) = (job.mount().await, job.mount().await);
        let handle = create(&one, b"f").await;
        write(&one, handle, 0, &[1; 9000]).await;
        one.release(handle).await;
        let inode = support::inode_of(&other, b"f").await;
        let open = OpenRequest {
            flags: libc::O_RDONLY,
            clear_set_id: false,
        };
        let reader = other.open(inode, open).await.expect("opened").handle;
        assert_eq!(other.read(reader, 0, 9000).await.expect("read").len(), 9000);
        truncate(&one, b"f", 0).await;
        assert!(other.read(reader, 0, 9000).await.expect("read").is_empty());
        assert_eq!(size(&other, b"f").await, 0);
    });
}

#[test]
fn an_append_comes_behind_what_was_buffered_before_the_file_was_shared() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (first_mount, other) = (Client::cold(&job).await, job.mount().await);
        // What is written is on its way, and not told of yet.
        let passed = first_mount.tap.hold(|op| matches!(op, Op::Commit(_)));
        let one = first_mount.fs;
        let handle = create(&one, b"log").await;
        let append = WriteRequest {
            append: true,
            ..WriteRequest::default()
        };
        let first = Bytes::from_static(b"first ");
        one.write(handle, append, first).await.expect("appended");
        // The file becomes shared while what was buffered is on its way.
        let inode = support::inode_of(&other, b"log").await;
        let open = OpenRequest {
            flags: libc::O_RDWR,
            clear_set_id: false,
        };
        let sharing = Arc::clone(&other);
        let opening = tokio::spawn(async move { sharing.open(inode, open).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let second = Bytes::from_static(b"second");
        let appender = Arc::clone(&one);
        let appending = tokio::spawn(async move { appender.write(handle, append, second).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        passed.add_permits(100);
        appending.await.expect("ran").expect("appended");
        opening.await.expect("ran").expect("opened");
        assert_eq!(content(&other, b"log").await, &b"first second"[..]);
    });
}

#[test]
fn a_file_is_cached_again_when_it_is_opened_anew_after_it_was_shared() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, other) = (Client::cold(&job).await, Client::cold(&job).await);
        let (inode, handle) = one.create(InodeId::ROOT, b"f", 0o644).await.unwrap();
        let buffered = |handle| {
            let data = WriteData::Borrowed(b"data");
            let tried = one.fs.try_write(handle, WriteRequest::default(), data);
            tried.is_some_and(|written| written == Ok(4))
        };
        // Takes the space, too.
        write(&one.fs, handle, 0, b"data").await;
        assert!(buffered(handle));
        let others = other.open(inode, libc::O_RDWR).await;
        assert!(!buffered(handle), "each write goes to the servers");
        other.fs.release(others).await;
        one.fs.release(handle).await;
        let again = one.open(inode, libc::O_RDWR).await;
        write(&one.fs, again, 0, b"data").await;
        assert!(buffered(again));
    });
}

/// Reading in order has blocks fetched ahead, by tasks that may come to it when the file is closed.
#[test]
fn what_is_fetched_for_a_file_that_was_closed_is_not_found_by_who_opens_it_anew() {
    const OLD: [u8; 16 * BLOCK_BYTES as usize] = [b'o'; 16 * BLOCK_BYTES as usize];
    const NEW: [u8; 16 * BLOCK_BYTES as usize] = [b'n'; 16 * BLOCK_BYTES as usize];
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (writer, reader) = (job.mount().await, job.mount().await);
        let handle = create(&writer, b"f").await;
        write(&writer, handle, 0, &OLD).await;
        writer.flush(handle).await.expect("flushed");
        writer.release(handle).await;
        let inode = support::inode_of(&reader, b"f").await;
        let open = |flags| OpenRequest {
            flags,
            clear_set_id: false,
        };
        let opened = reader.open(inode, open(libc::O_RDONLY)).await;
        let handle = opened.expect("opened").handle;
        for block in 0..2 {
            let offset = block * u64::from(BLOCK_BYTES);
            let read = reader.read(handle, offset, BLOCK_BYTES).await;
            assert_eq!(
                read.expect("read").into_bytes(),
                OLD[..BLOCK_BYTES as usize]
            );
        }
        reader.release(handle).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }

        let opened = writer.open(inode, open(libc::O_WRONLY)).await;
        let handle = opened.expect("opened").handle;
        write(&writer, handle, 0, &NEW).await;
        writer.flush(handle).await.expect("flushed");
        writer.release(handle).await;
        assert!(content(&reader, b"f").await == NEW[..]);
    });
}
