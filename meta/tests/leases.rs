//! Leases on names and attributes, between sessions of one job.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use pocket_meta_client::Metadata;
use pocket_proto::Status;
use pocket_proto::session::*;
use support::*;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn name_and_attributes_are_recalled_from_the_others_who_hold_them() {
    let job = job();
    let (one, two, three) = (Mount::new(&job), Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    assert!(two.lookup(ROOT, "f").await.unwrap().name_valid_ms > 0);
    assert!(three.lookup(ROOT, "g").await.unwrap_err() > 0);

    one.done(remove(ROOT, "f")).await.unwrap();
    let recalled = two.recalled();
    assert_eq!(recalled.names, [(ROOT, "f".into())]);
    assert_eq!(recalled.attributes, [file]);
    assert!(three.recalled().is_empty());
    assert!(one.recalled().is_empty());

    one.touch(ROOT, "g").await;
    assert_eq!(three.recalled().names, [(ROOT, "g".into())]);
    assert!(two.recalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn rename_recalls_both_names_and_both_inodes() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let old = one.touch(ROOT, "old").await;
    let new = one.touch(ROOT, "new").await;
    two.lookup(ROOT, "old").await.unwrap();
    two.lookup(ROOT, "new").await.unwrap();
    one.done(rename((ROOT, "old"), (ROOT, "new")))
        .await
        .unwrap();
    let recalled = two.recalled();
    assert_eq!(recalled.names, [(ROOT, "old".into()), (ROOT, "new".into())]);
    assert_eq!(recalled.attributes, [old, new]);
    assert_eq!(two.lookup(ROOT, "new").await.unwrap().inode(), old);
}

#[tokio::test(start_paused = true)]
async fn every_change_of_attributes_recalls_them() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    let set_xattr = Operation::SetXattr(SetXattr {
        inode: file,
        name: "user.a".into(),
        ..SetXattr::default()
    });
    for change in [
        chmod(file, 0o600),
        truncate(file, 5),
        commit(file, 10, 0),
        link(file, ROOT, "g"),
        set_xattr,
        remove(ROOT, "g"),
    ] {
        let entry = two.attributes(file).await.unwrap();
        assert!(entry.attributes_valid_ms > 0);
        one.call(change.clone()).await.unwrap();
        assert_eq!(two.recalled().attributes, [file], "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_that_change_nothing_recall_nothing() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    two.lookup(ROOT, "f").await.unwrap();
    let nothing = SetAttributes {
        inode: file,
        ..SetAttributes::default()
    };
    one.entry(Operation::SetAttributes(nothing)).await.unwrap();
    let nothing = Commit {
        inode: file,
        ..Commit::default()
    };
    one.entry(Operation::Commit(nothing)).await.unwrap();
    let taken = one.entry(make(ROOT, "f", FileKind::Directory)).await;
    assert_eq!(status(taken), Status::Exists);
    one.done(rename((ROOT, "f"), (ROOT, "f"))).await.unwrap();
    assert!(two.recalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn directories_change_inside_without_recalls_but_not_their_mode() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let directory = one.mkdir(ROOT, "d").await;
    let entry = two.attributes(directory).await.unwrap();
    assert!((1..=1000).contains(&entry.attributes_valid_ms));
    one.touch(directory, "f").await;
    assert!(two.recalled().is_empty());
    one.entry(chmod(directory, 0o700)).await.unwrap();
    assert_eq!(two.recalled().attributes, [directory]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_leased_while_it_is_being_recalled() {
    let job = job();
    let one = Mount::new(&job);
    let stubborn = Mount::with(&job, Manners::Stubborn);
    let file = one.touch(ROOT, "f").await;
    stubborn.lookup(ROOT, "f").await.unwrap();

    let remove = remove(ROOT, "f");
    let removing = one.call(remove);
    tokio::pin!(removing);
    tokio::select! {
        biased;
        _ = &mut removing => panic!("answered before the recall was"),
        () = stubborn.await_recall() => {}
    }
    // Others are served meanwhile, the recalled session too, but may cache nothing of it.
    for mount in [&stubborn, &Mount::new(&job)] {
        let entry = mount.lookup(ROOT, "f").await.unwrap();
        assert_eq!((entry.name_valid_ms, entry.attributes_valid_ms), (0, 0));
        let entry = mount.attributes(file).await.unwrap();
        assert_eq!(entry.attributes_valid_ms, 0);
    }
    stubborn.acknowledge(1);
    removing.await.unwrap();
    assert!(stubborn.lookup(ROOT, "f").await.unwrap_err() > 0);
}

#[tokio::test(start_paused = true)]
async fn two_changes_that_recall_the_same_object_are_both_done() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let stubborn = Mount::with(&job, Manners::Stubborn);
    let file = one.touch(ROOT, "f").await;
    stubborn.lookup(ROOT, "f").await.unwrap();
    let acknowledging = async {
        stubborn.await_recall().await;
        stubborn.acknowledge(2);
        tokio::task::yield_now().await;
        stubborn.acknowledge(1);
    };
    let (one_done, two_done, ()) = tokio::join!(
        one.call(chmod(file, 0o600)),
        two.call(remove(ROOT, "f")),
        acknowledging
    );
    two_done.unwrap();
    // Whichever came first: the chmod was done, or its file was gone.
    assert!(one_done.is_ok() || status(one_done) == Status::Stale);
    // No mark was left behind; the directory was contended for a while.
    sleep(LEASE).await;
    assert!(one.lookup(ROOT, "f").await.unwrap_err() > 0);
}

#[tokio::test(start_paused = true)]
async fn conditions_are_checked_again_after_a_recall() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let stubborn = Mount::with(&job, Manners::Stubborn);
    stubborn.lookup(ROOT, "f").await.unwrap_err();
    let made = tokio::join!(
        one.entry(make(ROOT, "f", FileKind::Directory)),
        two.entry(make(ROOT, "f", FileKind::Regular)),
        async {
            stubborn.await_recall().await;
            tokio::task::yield_now().await;
            stubborn.acknowledge(1);
            stubborn.acknowledge(2);
        }
    );
    let outcomes = [made.0.is_ok(), made.1.is_ok()];
    assert!(outcomes == [true, false] || outcomes == [false, true]);
}

#[tokio::test(start_paused = true)]
async fn stubborn_session_delays_until_its_lease_lapses_and_is_ended() {
    let job = job();
    let one = Mount::new(&job);
    let stubborn = Mount::with(&job, Manners::Stubborn);
    let file = one.touch(ROOT, "f").await;
    stubborn.attributes(file).await.unwrap();
    let start = Instant::now();
    one.entry(chmod(file, 0o600)).await.unwrap();
    let waited = start.elapsed();
    assert!(waited > Duration::ZERO && waited <= LEASE, "{waited:?}");
    stubborn.await_loss().await;
    assert!(start.elapsed() <= LEASE + LEASE / 10);
    let ended = stubborn.call(lookup(ROOT, "f")).await;
    assert_eq!(status(ended), Status::SessionEnded);
}

#[tokio::test(start_paused = true)]
async fn mute_session_is_ended_and_the_others_go_on() {
    let job = job();
    let one = Mount::new(&job);
    let mute = Mount::new(&job);
    let (file, _) = mute.opened(create(ROOT, "f")).await.unwrap();
    mute.done(remove(ROOT, "f")).await.unwrap();
    mute.grant(1000, 1000).await.unwrap();
    drop(mute);
    assert_eq!(one.status().await.used_bytes, 1000);
    assert_eq!(one.attributes(file).await.unwrap().links(), 0);
    sleep(LEASE + LEASE / 10).await;
    assert_eq!(one.status().await.used_bytes, 0);
    assert_eq!(status(one.attributes(file).await), Status::Stale);
}

#[tokio::test(start_paused = true)]
async fn session_that_gives_signs_of_life_stays() {
    let job = job();
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    sleep(LEASE * 10).await;
    one.attributes(file).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn orderly_leave_ends_the_session_at_once() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = two.opened(create(ROOT, "f")).await.unwrap();
    two.done(remove(ROOT, "f")).await.unwrap();
    two.grant(500, 500).await.unwrap();
    two.metadata.leave();
    assert_eq!(one.status().await.used_bytes, 0);
    assert_eq!(status(one.attributes(file).await), Status::Stale);
    assert_eq!(status(two.attributes(ROOT).await), Status::SessionEnded);
}

#[tokio::test(start_paused = true)]
async fn contended_directory_is_not_leased_and_so_not_recalled() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    one.touch(ROOT, "a").await;
    two.touch(ROOT, "b").await;
    let entry = one.lookup(ROOT, "a").await.unwrap();
    assert_eq!(entry.name_valid_ms, 0);
    assert!(entry.attributes_valid_ms > 0);
    assert_eq!(two.lookup(ROOT, "c").await.unwrap_err(), 0);
    sleep(LEASE).await;
    two.recalled();
    for name in 0..100 {
        one.touch(ROOT, &format!("one{name}")).await;
        two.touch(ROOT, &format!("two{name}")).await;
    }
    assert!(one.recalled().names.len() <= 1);
    assert!(two.recalled().names.len() <= 1);
    sleep(Duration::from_secs(3)).await;
    assert!(one.lookup(ROOT, "a").await.unwrap().name_valid_ms > 0);
}

#[tokio::test(start_paused = true)]
async fn name_moved_by_its_holder_is_still_recalled_from_it() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let directory = one.mkdir(ROOT, "d").await;
    one.touch(ROOT, "f").await;
    one.done(rename((ROOT, "f"), (directory, "g")))
        .await
        .unwrap();
    two.done(remove(directory, "g")).await.unwrap();
    assert!(one.recalled().names.contains(&(directory, "g".into())));
}

#[tokio::test(start_paused = true)]
async fn one_way_requests_are_done_in_order() {
    let job = job();
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    one.metadata.tell(open(file, false)).unwrap();
    one.done(remove(ROOT, "f")).await.unwrap();
    assert_eq!(one.attributes(file).await.unwrap().links(), 0);
    one.metadata.tell(close(file, false)).unwrap();
    assert_eq!(status(one.attributes(file).await), Status::Stale);
}

#[tokio::test(start_paused = true)]
async fn stamps_tell_which_replies_are_older_than_a_recall() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    let before = two.metadata.call(lookup(ROOT, "f")).await.unwrap();
    assert_eq!(before.stamp, 0);
    one.entry(chmod(file, 0o600)).await.unwrap();
    let after = two.metadata.call(lookup(ROOT, "f")).await.unwrap();
    assert_eq!(after.stamp, 1);
}

#[tokio::test(start_paused = true)]
async fn ended_job_is_gone_for_its_sessions() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    job.end().await;
    assert_eq!(status(one.call(lookup(ROOT, "f")).await), Status::JobGone);
    one.await_loss().await;
    assert_eq!(ledger.told().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_whiteout_recalls_the_name_that_it_takes_the_place_of() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "old").await;
    two.lookup(ROOT, "old").await.unwrap();
    two.lookup(ROOT, "new").await.unwrap_err();
    let whiteout = |exchange| {
        Operation::Rename(Rename {
            parent: ROOT,
            name: "old".into(),
            new_parent: ROOT,
            new_name: "new".into(),
            exchange,
            whiteout: Some(Owner { uid: 7, gid: 8 }),
            ..Rename::default()
        })
    };
    assert_eq!(status(one.done(whiteout(true)).await), Status::Invalid);
    assert!(two.recalled().is_empty());
    one.done(whiteout(false)).await.unwrap();
    let mut recalled = two.recalled().names;
    recalled.sort();
    assert_eq!(recalled, [(ROOT, "new".into()), (ROOT, "old".into())]);
    assert_eq!(two.lookup(ROOT, "new").await.unwrap().inode(), file);
    for mount in [&one, &two] {
        let left = mount.lookup(ROOT, "old").await.unwrap();
        let attributes = left.attributes.unwrap();
        assert_eq!(attributes.kind(), FileKind::CharacterDevice);
        assert_eq!(
            (attributes.uid, attributes.gid, attributes.device),
            (7, 8, 0)
        );
    }
}
