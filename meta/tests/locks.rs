//! Advisory locks between sessions: who is told what, and when locks are free again.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use pocket_proto::session::*;
use pocket_proto::{Failure, Status};
use support::*;

const PROCESS: LockOwner = LockOwner {
    kind: LockKind::Record as i32,
    owner: 10,
};
const ANOTHER: LockOwner = LockOwner {
    kind: LockKind::Record as i32,
    owner: 11,
};

/// For requests that nobody speaks of again.
fn next_ticket() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn set(inode: u64, owner: LockOwner, mode: LockMode, (first, last): (u64, u64)) -> SetLock {
    SetLock {
        inode,
        owner: Some(owner),
        range: Some(LockRange { first, last }),
        mode: mode.into(),
        process: 4711,
        ticket: next_ticket(),
        wait: false,
    }
}

fn exclusive(inode: u64) -> SetLock {
    set(inode, PROCESS, LockMode::Exclusive, (0, 99))
}

fn unlock(inode: u64) -> SetLock {
    set(inode, PROCESS, LockMode::Unlocked, (0, 99))
}

trait Locks {
    async fn lock(&self, lock: SetLock) -> Result<SetLockReply, Failure>;
    async fn wait_with(&self, ticket: u64, lock: SetLock) -> bool;
    async fn in_the_way(&self, inode: u64, mode: LockMode) -> GetLockReply;
    async fn granted(&self) -> Vec<u64>;
}

impl Locks for Mount {
    async fn lock(&self, lock: SetLock) -> Result<SetLockReply, Failure> {
        match self.call(Operation::SetLock(lock)).await? {
            reply::Result::SetLock(reply) => Ok(reply),
            other => panic!("no lock: {other:?}"),
        }
    }

    /// Whether it has to wait.
    async fn wait_with(&self, ticket: u64, lock: SetLock) -> bool {
        self.lock(SetLock {
            ticket,
            wait: true,
            ..lock
        })
        .await
        .unwrap()
        .queued
    }

    async fn in_the_way(&self, inode: u64, mode: LockMode) -> GetLockReply {
        let request = GetLock {
            inode,
            owner: Some(ANOTHER),
            range: Some(LockRange {
                first: 5,
                last: 1000,
            }),
            mode: mode.into(),
        };
        match self.call(Operation::GetLock(request)).await.unwrap() {
            reply::Result::GetLock(reply) => reply,
            other => panic!("no lock: {other:?}"),
        }
    }

    /// The tickets of the next recall.
    async fn granted(&self) -> Vec<u64> {
        self.await_recall().await;
        self.recalled().granted
    }
}

#[tokio::test(start_paused = true)]
async fn locks_exclude_between_sessions_and_tell_who_is_in_the_way() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    assert!(one.lock(exclusive(file)).await.unwrap().holds);
    let refused = two.lock(exclusive(file)).await;
    assert_eq!(status(refused), Status::Again);
    let told = one.in_the_way(file, LockMode::Shared).await;
    assert_eq!((told.mode(), told.process), (LockMode::Exclusive, 4711));
    assert_eq!(told.range, Some(LockRange { first: 0, last: 99 }));
    // A process of another mount is nobody here.
    let told = two.in_the_way(file, LockMode::Shared).await;
    assert_eq!((told.mode(), told.process), (LockMode::Exclusive, 0));
    assert!(!one.lock(unlock(file)).await.unwrap().holds);
    let told = two.in_the_way(file, LockMode::Exclusive).await;
    assert_eq!(told.mode(), LockMode::Unlocked);
    two.lock(exclusive(file)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_it_is_granted() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    assert!(!one.wait_with(1, exclusive(file)).await);
    assert!(two.wait_with(1, exclusive(file)).await);
    assert!(
        two.wait_with(2, set(file, ANOTHER, LockMode::Shared, (0, 0)))
            .await
    );
    one.lock(unlock(file)).await.unwrap();
    assert_eq!(two.granted().await, [1]);
    two.lock(unlock(file)).await.unwrap();
    assert_eq!(two.granted().await, [2]);
    assert!(one.recalled().granted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_is_granted_to_the_next() {
    let job = job();
    let [one, two, three] = [(); 3].map(|()| Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    one.lock(exclusive(file)).await.unwrap();
    assert!(two.wait_with(1, exclusive(file)).await);
    assert!(three.wait_with(1, exclusive(file)).await);
    // One gives up while it waits, the other at the moment when it is granted.
    two.done(Operation::CancelLock(CancelLock { ticket: 1 }))
        .await
        .unwrap();
    one.lock(unlock(file)).await.unwrap();
    assert_eq!(three.granted().await, [1]);
    assert!(one.wait_with(7, exclusive(file)).await);
    three
        .done(Operation::CancelLock(CancelLock { ticket: 1 }))
        .await
        .unwrap();
    assert_eq!(one.granted().await, [7]);
    assert!(two.recalled().granted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_between_sessions_is_refused() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let files = [one.touch(ROOT, "f").await, one.touch(ROOT, "g").await];
    one.lock(exclusive(files[0])).await.unwrap();
    two.lock(exclusive(files[1])).await.unwrap();
    assert!(one.wait_with(1, exclusive(files[1])).await);
    let refused = two.lock(SetLock {
        wait: true,
        ..exclusive(files[0])
    });
    assert_eq!(status(refused.await), Status::Deadlock);
    two.lock(unlock(files[1])).await.unwrap();
    assert_eq!(one.granted().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn locks_are_free_when_their_owner_lets_go_of_all() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    one.lock(exclusive(file)).await.unwrap();
    one.lock(set(file, PROCESS, LockMode::Shared, (200, 300)))
        .await
        .unwrap();
    one.lock(set(file, ANOTHER, LockMode::Shared, (200, 300)))
        .await
        .unwrap();
    assert!(two.wait_with(1, exclusive(file)).await);
    assert!(
        two.wait_with(2, set(file, ANOTHER, LockMode::Exclusive, (200, 200)))
            .await
    );
    let release = ReleaseLocks {
        inode: file,
        owner: Some(PROCESS),
    };
    one.done(Operation::ReleaseLocks(release)).await.unwrap();
    assert_eq!(two.granted().await, [1]);
    assert_eq!(
        one.in_the_way(file, LockMode::Exclusive)
            .await
            .range
            .unwrap()
            .first,
        0
    );
}

#[tokio::test(start_paused = true)]
async fn locks_are_free_when_the_session_has_the_file_open_no_more() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = one.opened(create(ROOT, "f")).await.unwrap();
    one.opened(open(file, false)).await.unwrap();
    one.lock(exclusive(file)).await.unwrap();
    assert!(two.wait_with(1, exclusive(file)).await);
    one.done(close(file, true)).await.unwrap();
    assert!(two.recalled().granted.is_empty());
    one.done(close(file, false)).await.unwrap();
    assert_eq!(two.granted().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn locks_are_free_when_the_session_leaves_or_lapses() {
    let job = job();
    let waiting = Mount::new(&job);
    let file = waiting.touch(ROOT, "f").await;
    let leaving = Mount::new(&job);
    leaving.lock(exclusive(file)).await.unwrap();
    assert!(waiting.wait_with(1, exclusive(file)).await);
    leaving.metadata.leave();
    assert_eq!(waiting.granted().await, [1]);
    waiting.lock(unlock(file)).await.unwrap();
    let dying = Mount::new(&job);
    dying.lock(exclusive(file)).await.unwrap();
    assert!(waiting.wait_with(2, exclusive(file)).await);
    let died = tokio::time::Instant::now();
    drop(dying);
    assert_eq!(waiting.granted().await, [2]);
    assert!(died.elapsed() < 2 * LEASE);
}

#[tokio::test(start_paused = true)]
async fn requests_that_make_no_sense_are_refused() {
    let job = job();
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    let whole = exclusive(file);
    let nobody = LockOwner { kind: 9, owner: 1 };
    for (lock, expected) in [
        (
            SetLock {
                owner: None,
                ..whole
            },
            Status::Malformed,
        ),
        (
            SetLock {
                owner: Some(nobody),
                ..whole
            },
            Status::Malformed,
        ),
        (
            SetLock {
                range: None,
                ..whole
            },
            Status::Malformed,
        ),
        (SetLock { mode: 77, ..whole }, Status::Malformed),
        (
            set(file, PROCESS, LockMode::Shared, (2, 1)),
            Status::Invalid,
        ),
        (
            set(file, PROCESS, LockMode::Unlocked, (0, u64::MAX)),
            Status::Invalid,
        ),
        (exclusive(file + 1), Status::Stale),
    ] {
        assert_eq!(status(one.lock(lock).await), expected, "{lock:?}");
    }
    assert!(!one.lock(unlock(file + 1)).await.unwrap().holds);
    let cancel = CancelLock { ticket: u64::MAX };
    one.done(Operation::CancelLock(cancel)).await.unwrap();
}
