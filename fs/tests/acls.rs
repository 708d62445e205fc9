//! Access control lists come with attributes: who asks for one is answered from what is held.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};

use pocket_fs::{AclKind, Errno, KernelCache, SetGroupId};
use pocket_proto::InodeId;
use support::{Client, Job, runtime};

/// For user 10, with a mask.
const LIST: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, //
    2, 0, 6, 0, 10, 0, 0, 0, //
    4, 0, 5, 0, 255, 255, 255, 255, //
    0x10, 0, 7, 0, 255, 255, 255, 255, //
    0x20, 0, 4, 0, 255, 255, 255, 255,
];

async fn list(mount: &Client, inode: InodeId, kind: AclKind) -> Vec<u8> {
    let acls = mount.fs.get_acls(inode).await.unwrap();
    let fs = &mount.fs;
    fs.hand_over_acl(inode, &acls, kind, |acl| acl.to_vec())
}

async fn set(mount: &Client, inode: InodeId, kind: AclKind, list: &[u8]) -> Result<(), Errno> {
    let keep = SetGroupId::Keep;
    mount.fs.set_acl(inode, kind, list, keep).await
}

#[test]
fn a_question_for_a_list_asks_no_server() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Client::warm(&job).await;
        let directory = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
        set(&mount, directory, AclKind::Default, &LIST)
            .await
            .unwrap();
        mount.stat(directory).await;
        mount.tap.forget();
        let file = mount.put(directory, b"f", 0o644, b"").await.unwrap();
        for _ in 0..10 {
            assert_eq!(list(&mount, directory, AclKind::Access).await, []);
            assert_eq!(list(&mount, directory, AclKind::Default).await, LIST);
            assert_eq!(list(&mount, file, AclKind::Access).await.len(), LIST.len());
        }
        mount.chmod(file, 0o600).await;
        assert_eq!(mount.tap.count(|_| true), 0);
    });
}

/// Counts what the kernel is told to drop.
#[derive(Default)]
struct Dropped(Mutex<Vec<InodeId>>);

impl KernelCache for Dropped {
    fn drop_name(&self, _: InodeId, _: &[u8]) {}
    fn drop_attributes(&self, inode: InodeId) {
        self.0.lock().unwrap().push(inode);
    }
    fn drop_data(&self, _: InodeId) {}
    fn drop_listing(&self, _: InodeId) {}
    fn drop_all_names(&self) -> bool {
        true
    }
}

#[test]
fn a_list_that_is_not_leased_any_more_is_dropped_by_the_kernel() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (one, two) = (Client::cold(&job).await, Client::cold(&job).await);
        let dropped = Arc::new(Dropped::default());
        one.fs.attach_kernel(dropped.clone());
        let file = one.put(InodeId::ROOT, b"f", 0o644, b"").await.unwrap();
        let before = one.fs.get_acls(file).await.unwrap();
        assert!(two.look(InodeId::ROOT, b"f").await.is_some());
        set(&two, file, AclKind::Access, &LIST).await.unwrap();
        dropped.0.lock().unwrap().clear();
        // Answered before the recall, handed over after it.
        let kind = AclKind::Access;
        one.fs
            .hand_over_acl(file, &before, kind, |acl| assert!(acl.is_empty()));
        assert_eq!(*dropped.0.lock().unwrap(), [file]);
        assert_eq!(list(&one, file, kind).await, LIST);
        assert_eq!(one.stat(file).await.mode, 0o774);
    });
}

#[test]
fn what_is_no_list_changes_nothing() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Client::cold(&job).await;
        let file = mount.put(InodeId::ROOT, b"f", 0o644, b"").await.unwrap();
        for (kind, value, errno) in [
            (AclKind::Access, &LIST[..20], libc::EINVAL),
            (AclKind::Access, &[2, 0, 0, 0, 0, 0, 0, 0][..], libc::EINVAL),
            (AclKind::Default, &LIST[..], libc::EACCES),
        ] {
            assert_eq!(set(&mount, file, kind, value).await, Err(Errno(errno)));
        }
        mount.symlink(InodeId::ROOT, b"l").await;
        let link = mount.look(InodeId::ROOT, b"l").await.unwrap().inode;
        let refused = set(&mount, InodeId(link), AclKind::Access, &LIST).await;
        assert_eq!(refused, Err(Errno(libc::EOPNOTSUPP)));
        assert_eq!(list(&mount, file, AclKind::Access).await, []);
        assert_eq!(mount.stat(file).await.mode, 0o644);
    });
}
