//! Fences told late, and debts of jobs that ended.

use pocket_proto::{BlockIndex, InodeId, SessionId};

use super::*;
use crate::blocks::fake::Fake;

const JOB: JobId = JobId(1);

fn fence(edition: u64) -> Fence {
    Fence {
        issuer: Incarnation(1),
        edition,
        newest: SessionId(9),
        live: Vec::new(),
    }
}

fn vouched_for() -> Vouched {
    let vouched = Vouched::new(StorageServer::default());
    assert!(vouched.begin_vouch(Some(Instant::now())));
    vouched
}

#[tokio::test(start_paused = true)]
async fn older_fence_told_late_does_not_take_the_place_of_a_newer() {
    let vouched = vouched_for();
    vouched.owe(JOB, fence(4));
    vouched.owe(JOB, fence(3));
    assert_eq!(vouched.next_owed(), Some((JOB, fence(4))));
    vouched.acknowledge(JOB, 3);
    assert_eq!(vouched.next_owed(), Some((JOB, fence(4))));
    let waited = timeout_at(Instant::now(), vouched.await_fence(JOB, 4)).await;
    assert!(waited.is_err(), "only the third fence is acknowledged");
    vouched.acknowledge(JOB, 4);
    vouched.await_fence(JOB, 4).await;
    assert_eq!(vouched.next_owed(), None);
}

#[tokio::test(start_paused = true)]
async fn acknowledged_fence_is_not_waited_for_because_an_older_is_told_again() {
    let vouched = vouched_for();
    vouched.owe(JOB, fence(4));
    vouched.acknowledge(JOB, 4);
    vouched.owe(JOB, fence(3));
    let began = Instant::now();
    vouched.await_fence(JOB, 4).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn debts_of_a_job_that_was_dropped_are_paid() {
    let blocks = Arc::new(Fake::new(Status::JobGone));
    let stop = CancellationToken::new();
    let vouching = Vouching::new(Arc::clone(&blocks) as _, TaskTracker::new(), stop.clone());
    let vouching = Arc::new(vouching);
    let server = StorageServer::default();
    let debts = [
        Debt::Cut(JOB, InodeId(1), (BlockIndex(0), 0)),
        Debt::Inodes(JOB, vec![InodeId(2)]),
        Debt::Job(JobId(2)),
    ];
    for debt in debts {
        vouching.note_debt(&server, debt);
    }
    let is_due = || {
        let known = vouching.servers.lock();
        known
            .values()
            .any(|vouched| !vouched.state.lock().debts.is_empty())
    };
    assert!(is_due());
    assert!(vouching.is_indebted(&server));
    vouching.begin(JobId(3), vec![server.clone()], None);
    sleep(VOUCH_LASTS).await;
    assert!(!vouching.is_indebted(&server) && !is_due());
    assert!(*blocks.vouches.lock() > 1, "others use it");
    stop.cancel();
}
