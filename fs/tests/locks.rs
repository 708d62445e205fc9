//! Locks of two mounts, with no kernel between: waiting, giving up, closing, and losing them.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pocket_fs::{
    Caller, CreateRequest, Errno, FileSystem, HandleId, LockKind, LockMode, LockOwner,
    LockPatience, LockRequest, OpenRequest,
};
use pocket_proto::InodeId;

const BLOCK_BYTES: u32 = 4096;
const DEADLINE: Duration = Duration::from_secs(10);

const PROCESS: LockOwner = LockOwner {
    kind: LockKind::Record,
    id: 1,
};

/// A lock of the whole file; `None` unlocks.
fn whole(owner: LockOwner, mode: Option<LockMode>) -> LockRequest {
    LockRequest {
        owner,
        first: 0,
        last: i64::MAX as u64,
        mode,
        process: 4711,
    }
}

fn exclusive() -> LockRequest {
    whole(PROCESS, Some(LockMode::Exclusive))
}

async fn create(fs: &Arc<FileSystem>) -> HandleId {
    let create = CreateRequest {
        parent: InodeId::ROOT,
        name: b"f",
        mode: 0o644,
        umask: 0,
        flags: libc::O_RDWR,
        clear_set_id: false,
        caller: Caller { uid: 0, gid: 0 },
    };
    fs.create(create).await.expect("created").value.1.handle
}

async fn open(fs: &Arc<FileSystem>, flags: i32) -> HandleId {
    let inode = support::inode_of(fs, b"f").await;
    let open = OpenRequest {
        flags,
        clear_set_id: false,
    };
    fs.open(inode, open).await.expect("opened").handle
}

async fn try_lock(fs: &FileSystem, handle: HandleId, request: LockRequest) -> Result<(), Errno> {
    fs.set_lock(handle, request, LockPatience::None).await
}

/// Polls once: the request is on its way then, or at its end.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn who_waits_is_granted_when_the_other_mount_unlocks() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, two) = (job.mount().await, job.mount().await);
        let mine = create(&one).await;
        let theirs = open(&two, libc::O_RDWR).await;
        try_lock(&one, mine, exclusive()).await.expect("free");
        assert_eq!(
            try_lock(&two, theirs, exclusive()).await,
            Err(Errno(libc::EAGAIN))
        );
        let found = two.get_lock(theirs, exclusive()).await.expect("told");
        assert_eq!(found.expect("in the way").process, 0);
        let mut wait = Box::pin(two.set_lock(theirs, exclusive(), LockPatience::Waits));
        assert!(poll_once(wait.as_mut()).is_pending());
        try_lock(&one, mine, whole(PROCESS, None))
            .await
            .expect("unlocked");
        tokio::time::timeout(DEADLINE, wait)
            .await
            .expect("granted")
            .expect("granted");
        assert_eq!(
            try_lock(&one, mine, exclusive()).await,
            Err(Errno(libc::EAGAIN))
        );
    });
}

#[test]
fn a_wait_that_is_dropped_leaves_the_queue_and_gives_back_what_it_got() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let [one, two, three] = [job.mount().await, job.mount().await, job.mount().await];
        let mine = create(&one).await;
        let theirs = open(&two, libc::O_RDWR).await;
        let last = open(&three, libc::O_RDWR).await;
        for is_granted_first in [false, true] {
            try_lock(&one, mine, exclusive()).await.expect("free");
            let mut wait = Box::pin(two.set_lock(theirs, exclusive(), LockPatience::Waits));
            assert!(poll_once(wait.as_mut()).is_pending());
            if is_granted_first {
                try_lock(&one, mine, whole(PROCESS, None))
                    .await
                    .expect("unlocked");
                let found = three.get_lock(last, exclusive()).await.expect("told");
                assert!(found.is_some(), "granted, and nobody has looked");
            }
            drop(wait);
            try_lock(&one, mine, whole(PROCESS, None))
                .await
                .expect("unlocked");
            try_lock(&three, last, exclusive()).await.expect("free");
            three.release_locks(last, PROCESS).await;
        }
    });
}

#[test]
fn closing_gives_up_the_locks_of_the_process_or_of_the_open_file() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let (one, two) = (job.mount().await, job.mount().await);
        let mine = create(&one).await;
        let theirs = open(&two, libc::O_RDWR).await;
        let is_free = async || {
            let found = two.get_lock(theirs, exclusive()).await.expect("told");
            found.is_none()
        };
        // A process closes any descriptor: the kernel names the process.
        let other = open(&one, libc::O_RDONLY).await;
        try_lock(&one, mine, exclusive()).await.expect("free");
        one.release_locks(other, LockOwner { id: 2, ..PROCESS })
            .await;
        assert!(!is_free().await);
        one.release_locks(other, PROCESS).await;
        assert!(is_free().await);
        // An open file is closed for the last time: the kernel names nobody.
        let file = LockOwner { id: 3, ..PROCESS };
        let lock = whole(file, Some(LockMode::Exclusive));
        try_lock(&one, other, lock).await.expect("free");
        one.release(mine).await;
        assert!(!is_free().await);
        one.release(other).await;
        assert!(is_free().await);
    });
}

#[test]
fn closing_tells_of_locks_once_there_are_any() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let one = job.mount().await;
        let mine = create(&one).await;
        let inode = support::inode_of(&one, b"f").await;
        let read = OpenRequest {
            flags: libc::O_RDONLY,
            clear_set_id: false,
        };
        assert!(one.open(inode, read).await.expect("opened").read_only);
        try_lock(&one, mine, exclusive()).await.expect("free");
        assert!(!one.open(inode, read).await.expect("opened").read_only);
    });
}

#[test]
fn handles_of_files_whose_locks_were_lost_answer_eio() {
    support::runtime().block_on(async {
        let job = support::Job::start(BLOCK_BYTES).await;
        let one = job.mount().await;
        let mine = create(&one).await;
        let reader = open(&one, libc::O_RDONLY).await;
        try_lock(&one, mine, exclusive()).await.expect("free");
        let mut wait = Box::pin(one.set_lock(
            reader,
            whole(LockOwner { id: 2, ..PROCESS }, Some(LockMode::Exclusive)),
            LockPatience::Waits,
        ));
        assert!(poll_once(wait.as_mut()).is_pending());
        job.end().await;
        let told = tokio::time::timeout(DEADLINE, wait).await.expect("told");
        assert_eq!(told, Err(Errno(libc::EIO)));
        let eio = Errno(libc::EIO);
        for handle in [mine, reader] {
            assert_eq!(one.read(handle, 0, 1).await.err(), Some(eio));
            assert_eq!(one.fsync(handle).await, Err(eio));
            assert_eq!(try_lock(&one, handle, exclusive()).await, Err(eio));
        }
        assert_eq!(one.flush(mine).await, Err(eio));
        one.release(mine).await;
        one.release(reader).await;
        assert_eq!(one.gauges().handles, 0);
    });
}
