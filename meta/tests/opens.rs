//! Open files: sharing between sessions, and files without names.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use pocket_meta_client::Metadata;
use pocket_proto::Status;
use pocket_proto::session::*;
use support::*;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn removed_file_can_be_opened_for_a_moment_by_who_has_just_looked_it_up() {
    const GRACE: std::time::Duration = std::time::Duration::from_millis(250);
    let job = graceful_job(GRACE);
    let (one, other) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = one.opened(create(ROOT, "f")).await.unwrap();
    one.done(close(file, true)).await.unwrap();
    other.done(remove(ROOT, "f")).await.unwrap();
    one.opened(open(file, false)).await.unwrap();
    tokio::time::sleep(GRACE * 4).await;
    assert_eq!(one.attributes(file).await.unwrap().links(), 0);
    one.done(close(file, false)).await.unwrap();
    tokio::time::sleep(GRACE * 4).await;
    assert_eq!(status(one.attributes(file).await), Status::Stale);
}

#[tokio::test(start_paused = true)]
async fn file_is_cached_until_a_second_session_opens_it_beside_a_writer() {
    let job = job();
    let (writer, reader) = (Mount::new(&job), Mount::new(&job));
    let (file, mode) = writer.opened(create(ROOT, "f")).await.unwrap();
    assert_eq!(mode, OpenMode::Cached);
    let (_, mode) = writer.opened(open(file, false)).await.unwrap();
    assert_eq!(mode, OpenMode::Cached);
    let (_, mode) = reader.opened(open(file, false)).await.unwrap();
    assert_eq!(mode, OpenMode::Through);
    assert_eq!(writer.recalled().through, [file]);
    assert!(reader.recalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn readers_share_a_cached_file_until_one_session_writes_it() {
    let job = job();
    let (one, two, three) = (Mount::new(&job), Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    for mount in [&one, &two] {
        let (_, mode) = mount.opened(open(file, false)).await.unwrap();
        assert_eq!(mode, OpenMode::Cached);
    }
    let (_, mode) = three.opened(open(file, true)).await.unwrap();
    assert_eq!(mode, OpenMode::Through);
    assert_eq!(one.recalled().through, [file]);
    assert_eq!(two.recalled().through, [file]);
    // They know already.
    let (_, mode) = three.opened(open(file, true)).await.unwrap();
    assert_eq!(mode, OpenMode::Through);
    assert!(one.recalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn sharing_ends_with_the_closes() {
    let job = job();
    let (writer, reader) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = writer.opened(create(ROOT, "f")).await.unwrap();
    reader.opened(open(file, false)).await.unwrap();
    writer.done(close(file, true)).await.unwrap();
    let (_, mode) = reader.opened(open(file, false)).await.unwrap();
    assert_eq!(mode, OpenMode::Cached);
}

#[tokio::test(start_paused = true)]
async fn open_waits_until_the_writer_has_written_back() {
    let job = job();
    let reader = Mount::new(&job);
    let writer = Mount::with(&job, Manners::Stubborn);
    let (file, _) = writer.opened(create(ROOT, "f")).await.unwrap();
    writer.grant(1000, 1000).await.unwrap();
    let operation = open(file, false);
    let opening = reader.entry(operation);
    let writing_back = async {
        writer.await_recall().await;
        writer.entry(commit(file, 1000, 1000)).await.unwrap();
        writer.acknowledge(1);
    };
    let (entry, ()) = tokio::join!(opening, writing_back);
    assert_eq!(entry.unwrap().size(), 1000);
}

#[tokio::test(start_paused = true)]
async fn third_session_waits_for_the_same_writer() {
    let job = job();
    let (two, three) = (Mount::new(&job), Mount::new(&job));
    let writer = Mount::with(&job, Manners::Stubborn);
    let (file, _) = writer.opened(create(ROOT, "f")).await.unwrap();
    let (open_two, open_three) = (open(file, false), open(file, false));
    let writing_back = async {
        writer.await_recall().await;
        writer.opened(open(file, false)).await.unwrap();
        tokio::task::yield_now().await;
        writer.entry(commit(file, 7, 0)).await.unwrap();
        writer.acknowledge(1);
        writer.acknowledge(2);
    };
    let (second, third, ()) =
        tokio::join!(two.entry(open_two), three.entry(open_three), writing_back);
    assert_eq!(second.unwrap().size(), 7);
    assert_eq!(third.unwrap().size(), 7);
}

#[tokio::test(start_paused = true)]
async fn writer_that_does_not_write_back_is_ended() {
    let job = job();
    let reader = Mount::new(&job);
    let writer = Mount::with(&job, Manners::Stubborn);
    let (file, _) = writer.opened(create(ROOT, "f")).await.unwrap();
    let start = Instant::now();
    let (_, mode) = reader.opened(open(file, false)).await.unwrap();
    assert!(start.elapsed() <= LEASE + LEASE / 10);
    assert_eq!(mode, OpenMode::Cached);
    writer.await_loss().await;
}

#[tokio::test(start_paused = true)]
async fn opening_for_writing_recalls_attributes_and_they_are_not_leased_meanwhile() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    two.attributes(file).await.unwrap();
    one.opened(open(file, true)).await.unwrap();
    assert_eq!(two.recalled().attributes, [file]);
    let entry = two.attributes(file).await.unwrap();
    assert_eq!(entry.attributes_valid_ms, 0);
    let entry = one.attributes(file).await.unwrap();
    assert!(entry.attributes_valid_ms > 0);
    one.done(close(file, true)).await.unwrap();
    let entry = two.attributes(file).await.unwrap();
    assert!(entry.attributes_valid_ms > 0);
}

#[tokio::test(start_paused = true)]
async fn new_size_is_learned_by_all_who_have_the_file_open() {
    let job = job();
    let (reader, other) = (Mount::new(&job), Mount::new(&job));
    let file = other.touch(ROOT, "f").await;
    reader.opened(open(file, false)).await.unwrap();
    other.entry(truncate(file, 7)).await.unwrap();
    assert_eq!(reader.recalled().through, [file]);
    // Nobody shares it: whoever opens it now may cache again.
    let (_, mode) = reader.opened(open(file, false)).await.unwrap();
    assert_eq!(mode, OpenMode::Cached);
    other.entry(chmod(file, 0o600)).await.unwrap();
    assert!(reader.recalled().through.is_empty());
}

#[tokio::test(start_paused = true)]
async fn announced_open_of_a_shared_file_is_told_to_go_through() {
    let job = job();
    let (reader, writer) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = writer.opened(create(ROOT, "f")).await.unwrap();
    reader.metadata.tell(open(file, false)).unwrap();
    reader.await_recall().await;
    writer.await_recall().await;
    assert_eq!(reader.recalled().through, [file]);
    assert_eq!(writer.recalled().through, [file]);
}

#[tokio::test(start_paused = true)]
async fn failed_open_counts_for_nothing() {
    let job = job();
    let one = Mount::new(&job);
    let directory = one.mkdir(ROOT, "d").await;
    let opened = one.opened(open(directory, true)).await;
    assert_eq!(status(opened), Status::IsDirectory);
    let removing = Operation::Remove(Remove {
        parent: ROOT,
        name: "d".into(),
        directory: true,
        ahead: None,
    });
    one.done(removing).await.unwrap();
    assert_eq!(status(one.attributes(directory).await), Status::Stale);
    assert_eq!(
        status(one.opened(open(directory, false)).await),
        Status::Stale
    );
}

#[tokio::test(start_paused = true)]
async fn file_without_names_lives_until_the_last_close_of_any_session() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = one.opened(create(ROOT, "f")).await.unwrap();
    one.write(file, 100).await;
    two.opened(open(file, false)).await.unwrap();
    two.done(remove(ROOT, "f")).await.unwrap();
    one.done(close(file, true)).await.unwrap();
    assert_eq!(two.attributes(file).await.unwrap().size(), 100);
    assert_eq!(one.status().await.used_bytes, 100);
    assert!(ledger.told().is_empty());
    two.done(close(file, false)).await.unwrap();
    assert_eq!(status(two.attributes(file).await), Status::Stale);
    assert_eq!(one.status().await.used_bytes, 0);
    ledger
        .await_told(|told| matches!(told, Told::Remove { inodes, .. } if *inodes == [file]))
        .await;
    // One block, one server.
    assert_eq!(ledger.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn file_made_without_a_name_goes_with_its_close_or_its_session() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let (closed, mode) = one.opened(create_temporary(true)).await.unwrap();
    assert_eq!(mode, OpenMode::Cached);
    one.write(closed, 100).await;
    let entry = one.attributes(closed).await.unwrap();
    assert_eq!((entry.links(), entry.attributes_valid_ms), (0, 0));
    assert!(one.list(ROOT).await.is_empty());
    one.done(close(closed, true)).await.unwrap();
    assert_eq!(status(one.attributes(closed).await), Status::Stale);
    let lost = Mount::new(&job);
    let (orphan, _) = lost.opened(create_temporary(true)).await.unwrap();
    lost.write(orphan, 100).await;
    assert_eq!(one.attributes(orphan).await.unwrap().size(), 100);
    drop(lost);
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(status(one.attributes(orphan).await), Status::Stale);
    assert_eq!(one.status().await.used_bytes, 0);
    for file in [closed, orphan] {
        ledger
            .await_told(|told| matches!(told, Told::Remove { inodes, .. } if *inodes == [file]))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn file_made_without_a_name_is_named_once_if_it_may_be() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    assert!(two.lookup(ROOT, "f").await.is_err());
    let (file, _) = one.opened(create_temporary(true)).await.unwrap();
    let linked = one.entry(link(file, ROOT, "f")).await.unwrap();
    assert_eq!((linked.inode(), linked.links()), (file, 1));
    assert!(linked.attributes_valid_ms > 0);
    assert_eq!(two.recalled().names, [(ROOT, "f".into())]);
    one.done(close(file, true)).await.unwrap();
    assert_eq!(two.lookup(ROOT, "f").await.unwrap().inode(), file);
    let (file, _) = one.opened(open(file, true)).await.unwrap();
    two.done(remove(ROOT, "f")).await.unwrap();
    let again = one.entry(link(file, ROOT, "f")).await;
    assert_eq!(status(again), Status::NotFound);
    let (never, _) = one.opened(create_temporary(false)).await.unwrap();
    let named = one.entry(link(never, ROOT, "f")).await;
    assert_eq!(status(named), Status::NotFound);
}

#[tokio::test(start_paused = true)]
async fn replaced_file_lives_on_while_open() {
    let job = job();
    let one = Mount::new(&job);
    let (old, _) = one.opened(create(ROOT, "f")).await.unwrap();
    let new = one.touch(ROOT, "g").await;
    one.done(rename((ROOT, "g"), (ROOT, "f"))).await.unwrap();
    assert_eq!(one.attributes(old).await.unwrap().links(), 0);
    assert_eq!(one.lookup(ROOT, "f").await.unwrap().inode(), new);
    one.done(close(old, true)).await.unwrap();
    assert_eq!(status(one.attributes(old).await), Status::Stale);
}

#[tokio::test(start_paused = true)]
async fn blocks_of_a_lost_writer_are_dropped_wherever_they_are() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let writer = Mount::new(&job);
    let (file, _) = writer.opened(create(ROOT, "f")).await.unwrap();
    drop(writer);
    tokio::time::sleep(LEASE * 2).await;
    one.done(remove(ROOT, "f")).await.unwrap();
    for id in 1..=3 {
        ledger
            .await_told(|told| {
                matches!(told, Told::Remove { server, inodes }
                    if *server == id && *inodes == [file])
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn create_opens_what_is_there_unless_exclusive() {
    let job = job();
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    let (opened, _) = one.opened(create(ROOT, "f")).await.unwrap();
    assert_eq!(opened, file);
    let exclusive = Operation::Create(Create {
        parent: ROOT,
        name: "f".into(),
        exclusive: true,
        ..Create::default()
    });
    assert_eq!(status(one.opened(exclusive).await), Status::Exists);
    one.mkdir(ROOT, "d").await;
    let directory = one.opened(create(ROOT, "d")).await;
    assert_eq!(status(directory), Status::IsDirectory);
}

#[tokio::test(start_paused = true)]
async fn appends_of_several_sessions_do_not_overlap() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let (file, _) = one.opened(create(ROOT, "f")).await.unwrap();
    two.opened(open(file, true)).await.unwrap();
    let mut expected = 0;
    for mount in [&one, &two, &one, &one, &two] {
        let reserve = Operation::ReserveAppend(ReserveAppend {
            inode: file,
            length_bytes: 10,
        });
        match mount.call(reserve).await.unwrap() {
            reply::Result::ReserveAppend(reply) => assert_eq!(reply.offset_bytes, expected),
            other => panic!("no reservation: {other:?}"),
        }
        expected += 10;
    }
    tokio::time::advance(Duration::from_millis(1)).await;
}
