//! Attributes and names that this mount knows need not be asked for, and those that it does not know
//! are.

#![allow(clippy::unwrap_used)]

mod support;

use pocket_fs::{RenameMode, SetAttributesRequest, XattrMode};
use pocket_proto::InodeId;
use support::{Client, Job, Op, inode_of, name, runtime};

/// Two mounts of one job: what the first one answers is compared with what the second one, which
/// has no lease and must ask, is told.
struct Mounts {
    one: Client,
    job: Job,
}

impl Mounts {
    async fn new() -> Self {
        let job = Job::start(4096).await;
        let one = Client::cold(&job).await;
        Mounts { one, job }
    }

    async fn assert_shows_the_truth(&self, inodes: &[InodeId]) {
        let other = self.job.mount().await;
        for inode in inodes {
            let truth = other.get_attributes(*inode).await.unwrap().value;
            assert_eq!(Some(self.one.stat(*inode).await), truth.attributes);
        }
        // Or its leases would have to lapse before the next change.
        other.shut_down().await.unwrap();
    }

    /// How often attributes or names were asked for, one by one.
    fn asked(&self) -> usize {
        self.one
            .tap
            .count(|op| matches!(op, Op::GetAttributes(_) | Op::Lookup(_)))
    }
}

#[test]
fn what_a_mount_changed_itself_shows_without_asking() {
    runtime().block_on(async {
        let mounts = Mounts::new().await;
        let (one_mount, fs) = (&mounts.one, &mounts.one.fs);
        let (one, two) = (
            one_mount.mkdir(InodeId::ROOT, b"one").await.unwrap(),
            one_mount.mkdir(InodeId::ROOT, b"two").await.unwrap(),
        );
        let file = one_mount
            .put(one, b"file", 0o644, b"content")
            .await
            .unwrap();
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
        let (one_mount, fs) = (&mounts.one, &mounts.one.fs);
        let file = one_mount
            .put(InodeId::ROOT, b"file", 0o644, b"content")
            .await
            .unwrap();
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
        assert_eq!(one_mount.stat(file).await.mode, 0o600);
        other.unlink(InodeId::ROOT, b"file").await.unwrap();
        assert!(fs.get_attributes(file).await.is_err());
    });
}

/// Files in the directory of the tests below: several pages.
const FILES: usize = 1000;

impl Mounts {
    /// A directory of many files, all made by another mount.
    async fn full_directory(&self) -> (Client, InodeId) {
        let other = Client::cold(&self.job).await;
        let directory = other.mkdir(InodeId::ROOT, b"full").await.unwrap();
        for number in 0..FILES {
            other.symlink(directory, &name('f', number)).await;
        }
        (other, directory)
    }

    async fn looks_up(&self, directory: InodeId, number: usize) -> Option<InodeId> {
        inode_at(&self.one, directory, number).await
    }
}

async fn inode_at(mount: &Client, directory: InodeId, number: usize) -> Option<InodeId> {
    let found = mount.look(directory, &name('f', number)).await?;
    Some(InodeId(found.inode))
}

/// How many of all names in that order are asked for one by one.
async fn asked_for(numbers: impl Iterator<Item = usize>) -> usize {
    let mounts = Mounts::new().await;
    let (other, directory) = mounts.full_directory().await;
    let before = mounts.asked();
    for number in numbers {
        let truth = inode_at(&other, directory, number).await;
        assert_eq!(mounts.looks_up(directory, number).await, truth);
    }
    mounts.asked() - before
}

#[test]
fn names_looked_up_one_after_another_are_read_ahead() {
    runtime().block_on(async {
        // In the order of a listing, the newest first.
        assert!(asked_for((0..FILES).rev()).await < FILES / 20);
        // The other way round all are read before half of that order is done.
        assert!(asked_for(0..FILES).await < FILES / 8);
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
        let (old, new) = (name('f', 200), name('f', 201));
        let moved = inode_at(&other, directory, 200).await;
        other.fs.unlink(directory, &name('f', 150)).await.unwrap();
        let replace = RenameMode::Replace;
        other
            .fs
            .rename((directory, &old), (directory, &new), replace)
            .await
            .unwrap();
        assert_eq!(mounts.looks_up(directory, 150).await, None);
        assert_eq!(mounts.looks_up(directory, 200).await, None);
        assert_eq!(mounts.looks_up(directory, 201).await, moved);

        let (old, new) = (name('f', 210), name('f', 211));
        let moved = inode_at(&other, directory, 210).await;
        mounts
            .one
            .fs
            .unlink(directory, &name('f', 151))
            .await
            .unwrap();
        mounts
            .one
            .fs
            .rename((directory, &old), (directory, &new), replace)
            .await
            .unwrap();
        assert_eq!(mounts.looks_up(directory, 151).await, None);
        assert_eq!(mounts.looks_up(directory, 210).await, None);
        assert_eq!(mounts.looks_up(directory, 211).await, moved);
    });
}
