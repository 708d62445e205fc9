//! Attributes and names that this mount knows need not be asked for, and those that it does not know
//! are.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_fs::{
    Caller, CreateRequest, FileSystem, NewNode, NodeRequest, RenameMode, SetAttributesRequest,
    WriteRequest, XattrMode,
};
use pocket_meta::LocalMetadata;
use pocket_meta_client::{Answered, Metadata, SessionInfo};
use pocket_proto::session::{Attributes, request};
use pocket_proto::{Failure, InodeId};
use support::{Job, inode_of, runtime};

const CALLER: Caller = Caller { uid: 0, gid: 0 };

/// Counts how often attributes or names are asked for, one by one.
struct Counting {
    inner: LocalMetadata,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Metadata for Counting {
    async fn call(&self, operation: request::Operation) -> Result<Answered, Failure> {
        if let request::Operation::GetAttributes(_) | request::Operation::Lookup(_) = operation {
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

/// Two mounts of one job: what the first one answers is compared with what the second one, which
/// has no lease and must ask, is told.
struct Mounts {
    fs: Arc<FileSystem>,
    asked: Arc<AtomicUsize>,
    job: Job,
}

impl Mounts {
    async fn new() -> Self {
        let job = Job::start(4096).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let count = |inner| -> Arc<dyn Metadata> {
            Arc::new(Counting {
                inner,
                asked: counter,
            })
        };
        let fs = job.mount_through(count).await;
        Mounts { fs, asked, job }
    }

    /// What stat(2) shows after the kernel has dropped what it knew.
    async fn stat(&self, inode: InodeId) -> Attributes {
        let leased = self.fs.get_attributes(inode).await.unwrap();
        self.fs
            .hand_over_entry(&leased, |entry, _| entry.attributes.unwrap())
    }

    async fn assert_shows_the_truth(&self, inodes: &[InodeId]) {
        let other = self.job.mount().await;
        for inode in inodes {
            let truth = other.get_attributes(*inode).await.unwrap().value;
            assert_eq!(Some(self.stat(*inode).await), truth.attributes);
        }
        // Or its leases would have to lapse before the next change.
        other.shut_down().await.unwrap();
    }

    async fn directory(&self, name: &[u8]) -> InodeId {
        let made = self
            .fs
            .make_node(NodeRequest {
                parent: InodeId::ROOT,
                name,
                node: NewNode::Directory,
                mode: 0o755,
                caller: CALLER,
            })
            .await
            .unwrap();
        InodeId(made.value.attributes.unwrap().inode)
    }

    async fn file(&self, parent: InodeId, name: &[u8], content: &'static [u8]) -> InodeId {
        let create = CreateRequest {
            parent,
            name,
            mode: 0o644,
            flags: libc::O_WRONLY | libc::O_CREAT,
            caller: CALLER,
        };
        let (entry, opened) = self.fs.create(create).await.unwrap().value;
        let (handle, data) = (opened.handle, Bytes::from_static(content));
        self.fs
            .write(handle, WriteRequest::default(), data)
            .await
            .unwrap();
        self.fs.flush(handle).await.unwrap();
        self.fs.release(handle).await;
        InodeId(entry.attributes.unwrap().inode)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[test]
fn what_a_mount_changed_itself_shows_without_asking() {
    runtime().block_on(async {
        let mounts = Mounts::new().await;
        let fs = &mounts.fs;
        let (one, two) = (
            mounts.directory(b"one").await,
            mounts.directory(b"two").await,
        );
        let file = mounts.file(one, b"file", b"content").await;
        mounts
            .assert_shows_the_truth(&[InodeId::ROOT, one, file])
            .await;
        fs.link(file, two, b"link").await.unwrap();
        fs.rename((one, b"file"), (two, b"moved"), RenameMode::Replace)
            .await
            .unwrap();
        mounts.assert_shows_the_truth(&[one, two]).await;
        fs.unlink(two, b"link").await.unwrap();
        mounts.assert_shows_the_truth(&[two, file]).await;
        fs.rename((InodeId::ROOT, b"one"), (two, b"one"), RenameMode::Replace)
            .await
            .unwrap();
        mounts
            .assert_shows_the_truth(&[InodeId::ROOT, one, two])
            .await;
        assert_eq!(mounts.asked(), 0);
    });
}

#[test]
fn what_was_changed_otherwise_is_asked_for() {
    runtime().block_on(async {
        let mounts = Mounts::new().await;
        let fs = &mounts.fs;
        let file = mounts.file(InodeId::ROOT, b"file", b"content").await;
        fs.set_xattr(file, b"user.a", b"b", XattrMode::Set)
            .await
            .unwrap();
        mounts.assert_shows_the_truth(&[file]).await;

        let other = mounts.job.mount().await;
        assert_eq!(inode_of(&other, b"file").await, file);
        let change = SetAttributesRequest {
            mode: Some(0o600),
            ..SetAttributesRequest::default()
        };
        other.set_attributes(file, change).await.unwrap();
        assert_eq!(mounts.stat(file).await.mode, 0o600);
        other.unlink(InodeId::ROOT, b"file").await.unwrap();
        assert!(fs.get_attributes(file).await.is_err());
    });
}

/// Files in the directory of the tests below: several pages.
const FILES: usize = 1000;

fn name(number: usize) -> Vec<u8> {
    format!("file-{number}").into_bytes()
}

impl Mounts {
    /// A directory of many files, all made by another mount.
    async fn full_directory(&self) -> (Arc<FileSystem>, InodeId) {
        let other = self.job.mount().await;
        let make = async |parent, name: &[u8], node| {
            let node = NodeRequest {
                parent,
                name,
                node,
                mode: 0o777,
                caller: CALLER,
            };
            let made = other.make_node(node).await.unwrap().value;
            InodeId(made.attributes.unwrap().inode)
        };
        let directory = make(InodeId::ROOT, b"full", NewNode::Directory).await;
        for number in 0..FILES {
            make(directory, &name(number), NewNode::Symlink(b"target")).await;
        }
        (other, directory)
    }

    async fn looks_up(&self, directory: InodeId, number: usize) -> Option<InodeId> {
        let leased = self.fs.lookup(directory, &name(number)).await.unwrap();
        let entry = self.fs.hand_over_entry(&leased, |entry, _| entry.clone());
        Some(InodeId(entry.attributes?.inode))
    }
}

#[test]
fn names_looked_up_one_after_another_are_read_ahead() {
    runtime().block_on(async {
        let mounts = Mounts::new().await;
        let (other, directory) = mounts.full_directory().await;
        let before = mounts.asked();
        for number in 0..FILES {
            let truth = inode_at(&other, directory, number).await;
            assert_eq!(mounts.looks_up(directory, number).await, truth);
        }
        assert!(mounts.asked() - before < FILES / 20);
    });
}

#[test]
fn names_read_ahead_are_taken_back_when_they_change() {
    runtime().block_on(async {
        let mounts = Mounts::new().await;
        let (other, directory) = mounts.full_directory().await;
        for number in 0..100 {
            mounts.looks_up(directory, number).await.unwrap();
        }
        let (old, new) = (name(200), name(201));
        let moved = inode_at(&other, directory, 200).await;
        other.unlink(directory, &name(150)).await.unwrap();
        let replace = RenameMode::Replace;
        other
            .rename((directory, &old), (directory, &new), replace)
            .await
            .unwrap();
        assert_eq!(mounts.looks_up(directory, 150).await, None);
        assert_eq!(mounts.looks_up(directory, 200).await, None);
        assert_eq!(mounts.looks_up(directory, 201).await, moved);

        let (old, new) = (name(210), name(211));
        let moved = inode_at(&other, directory, 210).await;
        mounts.fs.unlink(directory, &name(151)).await.unwrap();
        mounts
            .fs
            .rename((directory, &old), (directory, &new), replace)
            .await
            .unwrap();
        assert_eq!(mounts.looks_up(directory, 151).await, None);
        assert_eq!(mounts.looks_up(directory, 210).await, None);
        assert_eq!(mounts.looks_up(directory, 211).await, moved);
    });
}

async fn inode_at(fs: &Arc<FileSystem>, directory: InodeId, number: usize) -> Option<InodeId> {
    let entry = fs.lookup(directory, &name(number)).await.unwrap().value;
    Some(InodeId(entry.attributes?.inode))
}
