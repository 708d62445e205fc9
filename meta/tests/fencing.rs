//! Sessions that do not answer, and the storage servers that are to take nothing more from them.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use pocket_meta::LocalJob;
use pocket_meta_client::Metadata;
use pocket_proto::session::*;
use pocket_proto::{Fence, Status, VOUCH_LASTS};
use support::*;
use tokio::time::Instant;

const SERVERS: usize = 3;

/// A job of three storage servers, a mount that answers nothing and has a file to itself, and
/// another mount.
async fn scene() -> (LocalJob, Arc<Ledger>, Mount, Mount, u64) {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let (mute, other) = (Mount::with(&job, Manners::Stubborn), Mount::new(&job));
    let (file, mode) = mute.opened(create(ROOT, "f")).await.unwrap();
    assert_eq!(mode, OpenMode::Cached);
    let vouched = |heard: &Vec<(u64, Heard)>| heard.len() >= 2 * SERVERS;
    ledger.heard.subscribe().wait_for(vouched).await.unwrap();
    (job, ledger, mute, other, file)
}

/// What a server has heard, in order.
fn heard_by(ledger: &Ledger, server: u64) -> Vec<Heard> {
    let heard = ledger.heard.borrow();
    let heard = heard.iter().filter(|(by, _)| *by == server);
    heard.map(|(_, heard)| heard.clone()).collect()
}

fn fences(heard: &[Heard]) -> Vec<&Fence> {
    heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Fence(_, fence) => Some(fence),
            Heard::Vouch(_) => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_mute_session_holds_is_given_to_others_once_every_storage_server_has_fenced_it() {
    let (_job, ledger, mute, other, file) = scene().await;
    ledger.gate.send_replace(false);
    let start = Instant::now();
    let opening = tokio::spawn(async move { (other.opened(open(file, true)).await, other) });
    let sent = |sent: &usize| *sent == SERVERS;
    ledger.fences.subscribe().wait_for(sent).await.unwrap();
    assert!(start.elapsed() <= LEASE + LEASE / 10);
    assert!(!opening.is_finished());
    // It is not heard any more, whatever it says.
    assert_eq!(status(mute.attributes(file).await), Status::SessionEnded);
    assert_eq!(
        status(mute.done(remove(ROOT, "f")).await),
        Status::SessionEnded
    );
    ledger.gate.send_replace(true);
    let (opened, other) = opening.await.unwrap();
    assert_eq!(opened, Ok((file, OpenMode::Cached)));
    assert!(
        start.elapsed() <= LEASE + LEASE / 10,
        "{:?}",
        start.elapsed()
    );
    for server in 1..=SERVERS as u64 {
        let heard = heard_by(&ledger, server);
        let [fence] = fences(&heard)[..] else {
            panic!("server {server} has heard {heard:?}");
        };
        assert!(fence.admits(other.metadata.session().session));
        assert!(!fence.admits(mute.metadata.session().session));
    }
}

#[tokio::test(start_paused = true)]
async fn unreachable_storage_server_delays_while_it_is_vouched_for_and_is_fenced_before_it_is_again()
 {
    let (job, ledger, _mute, other, file) = scene().await;
    let start = Instant::now();
    let opening = tokio::spawn(async move { other.opened(open(file, true)).await });
    // It goes away at the worst moment.
    tokio::time::sleep_until(start + LEASE - Duration::from_millis(100)).await;
    ledger.fail(2, Status::Unavailable);
    let before = heard_by(&ledger, 2);
    opening.await.unwrap().unwrap();
    let waited = start.elapsed();
    assert!(waited > LEASE + VOUCH_LASTS / 2, "{waited:?}");
    assert!(waited <= LEASE + VOUCH_LASTS + LEASE / 10, "{waited:?}");
    assert_eq!(heard_by(&ledger, 2), before);

    // The next one waits for it no more.
    let (mute, other) = (Mount::with(&job, Manners::Stubborn), Mount::new(&job));
    let (file, _) = mute.opened(create(ROOT, "g")).await.unwrap();
    let start = Instant::now();
    other.opened(open(file, true)).await.unwrap();
    assert!(
        start.elapsed() <= LEASE + LEASE / 10,
        "{:?}",
        start.elapsed()
    );

    ledger.heal(2);
    let again = |heard: &Vec<(u64, Heard)>| {
        let of_it = heard.iter().filter(|(by, _)| *by == 2);
        of_it.count() >= before.len() + 2
    };
    ledger.heard.subscribe().wait_for(again).await.unwrap();
    let heard = heard_by(&ledger, 2);
    let Heard::Fence(_, fence) = &heard[before.len()] else {
        panic!("vouched for first: {heard:?}");
    };
    assert!(!fence.admits(mute.metadata.session().session));
    assert!(matches!(heard[before.len() + 1], Heard::Vouch(_)));
}

#[tokio::test(start_paused = true)]
async fn storage_server_that_was_away_for_long_or_is_gone_delays_nobody() {
    for status in [Status::Unavailable, Status::Lost] {
        let (_job, ledger, _mute, other, file) = scene().await;
        ledger.fail(2, status);
        let start = Instant::now();
        other.opened(open(file, true)).await.unwrap();
        let waited = start.elapsed();
        assert!(waited <= LEASE + LEASE / 10, "{status}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn storage_server_that_joins_later_is_told_of_fences_before_it_is_vouched_for() {
    let (job, ledger, mute, other, file) = scene().await;
    other.opened(open(file, true)).await.unwrap();
    job.set_weight_map(weight_map(2, 4)).unwrap();
    let joined = |heard: &Vec<(u64, Heard)>| heard.iter().any(|(by, _)| *by == 4);
    ledger.heard.subscribe().wait_for(joined).await.unwrap();
    let heard = heard_by(&ledger, 4);
    let Heard::Fence(_, fence) = &heard[0] else {
        panic!("vouched for first: {heard:?}");
    };
    assert!(!fence.admits(mute.metadata.session().session));
    assert!(fence.admits(other.metadata.session().session));
}

#[tokio::test(start_paused = true)]
async fn mounts_are_not_blamed_for_the_time_that_the_server_stood_still() {
    let job = job();
    let mount = Mount::new(&job);
    tokio::time::sleep(LEASE / 2).await;
    let file = mount.touch(ROOT, "f").await;
    // Time passes for everybody, and nobody runs meanwhile.
    tokio::time::advance(3 * LEASE).await;
    tokio::time::sleep(LEASE / 2).await;
    assert!(mount.attributes(file).await.is_ok());
}
