//! A job's space: grants, commits, truncation and relocation.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use pocket_proto::Status;
use pocket_proto::session::*;
use support::*;

#[tokio::test(start_paused = true)]
async fn job_can_be_filled_to_the_last_byte_and_not_beyond() {
    let job = job();
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    one.write(file, CAPACITY - 1).await;
    assert_eq!(one.grant(2, 2).await, Err(Status::QuotaExceeded));
    assert_eq!(one.grant(2, 1).await, Ok(1));
    one.entry(commit(file, CAPACITY, 1)).await.unwrap();
    let status = one.status().await;
    assert_eq!(status.used_bytes, CAPACITY);
    assert_eq!(one.grant(1, 1).await, Err(Status::QuotaExceeded));
    one.done(remove(ROOT, "f")).await.unwrap();
    assert_eq!(one.status().await.used_bytes, 0);
    assert_eq!(one.grant(CAPACITY, CAPACITY).await, Ok(CAPACITY));
}

#[tokio::test(start_paused = true)]
async fn bytes_move_between_grant_and_file() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    assert_eq!(one.grant(1000, 1000).await, Ok(1000));
    one.entry(commit(file, 600, 600)).await.unwrap();
    assert_eq!(two.status().await.used_bytes, 1000);
    one.entry(commit(file, 600, -100)).await.unwrap();
    assert_eq!(two.status().await.used_bytes, 1000);
    one.metadata.leave();
    assert_eq!(two.status().await.used_bytes, 500);
}

#[tokio::test(start_paused = true)]
async fn returned_space_can_be_granted_to_another() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    assert_eq!(one.grant(CAPACITY, CAPACITY).await, Ok(CAPACITY));
    assert_eq!(two.grant(1, 1).await, Err(Status::QuotaExceeded));
    let returned = Operation::GrantSpace(GrantSpace {
        returned_bytes: 10,
        ..GrantSpace::default()
    });
    one.call(returned).await.unwrap();
    assert_eq!(two.grant(10, 10).await, Ok(10));
}

#[tokio::test(start_paused = true)]
async fn room_that_a_job_makes_itself_ends_the_wait_for_more_at_once() {
    let returned = Operation::GrantSpace(GrantSpace {
        returned_bytes: 10,
        ..GrantSpace::default()
    });
    let full = async |file_bytes| {
        let job = growing_job();
        let (one, two) = (Mount::new(&job), Mount::new(&job));
        let file = one.touch(ROOT, "f").await;
        one.write(file, file_bytes).await;
        one.grant(CAPACITY, CAPACITY - file_bytes).await.unwrap();
        (job, one, two, file)
    };
    for (file_bytes, makes_room) in [
        (10, remove(ROOT, "f")),
        (10, returned),
        (CAPACITY - 10, Operation::Goodbye(Goodbye {})),
    ] {
        let (_job, one, two, _) = full(file_bytes).await;
        let begun = tokio::time::Instant::now();
        let waiting = two.grant(10, 10);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            granted = &mut waiting => panic!("there was no room: {granted:?}"),
            status = one.status() => assert_eq!(status.used_bytes, CAPACITY),
        }
        let (granted, _) = tokio::join!(waiting, one.call(makes_room.clone()));
        assert_eq!(
            (granted, begun.elapsed()),
            (Ok(10), Duration::ZERO),
            "{makes_room:?}"
        );
    }
    // What is too little for it wakes nobody, and the wait has an end.
    let (_job, one, two, file) = full(10).await;
    let begun = tokio::time::Instant::now();
    let (granted, _) = tokio::join!(two.grant(11, 11), one.entry(truncate(file, 0)));
    assert_eq!(granted, Err(Status::QuotaExceeded));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn truncation_drops_blocks_before_it_is_answered() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    one.write(file, 3 * BLOCK).await;
    ledger.gate.send_replace(false);
    let operation = truncate(file, BLOCK + 5);
    let truncating = one.entry(operation);
    tokio::pin!(truncating);
    let meanwhile = async {
        loop {
            let entry = two.attributes(file).await.unwrap();
            if entry.size() == BLOCK + 5 {
                // Visible, but not to be cached before it is certain.
                assert_eq!(entry.attributes_valid_ms, 0);
                return;
            }
        }
    };
    tokio::select! {
        biased;
        _ = &mut truncating => panic!("answered before blocks were dropped"),
        () = meanwhile => {}
    }
    ledger.gate.send_replace(true);
    assert_eq!(truncating.await.unwrap().size(), BLOCK + 5);
    let told = ledger.told();
    assert!(!told.is_empty());
    for told in told {
        let Told::Truncate {
            inode, first, keep, ..
        } = told
        else {
            panic!("no truncation: {told:?}");
        };
        assert_eq!((inode, first, keep), (file, 1, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn writers_elsewhere_pause_for_a_truncation_and_go_on_behind_it() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let file = one.touch(ROOT, "f").await;
    two.opened(open(file, true)).await.unwrap();
    one.write(file, 5000).await;
    let reserve = |length_bytes| {
        Operation::ReserveAppend(ReserveAppend {
            inode: file,
            length_bytes,
        })
    };
    let reserved = |reply| match reply {
        Ok(reply::Result::ReserveAppend(reserved)) => reserved,
        other => panic!("no reservation: {other:?}"),
    };
    let before = reserved(two.call(reserve(10)).await);
    assert_eq!(before.offset_bytes, 5000);
    ledger.gate.send_replace(false);
    let (truncating, reserving) = {
        let truncating = one.entry(truncate(file, 0));
        tokio::pin!(truncating);
        tokio::select! {
            biased;
            _ = &mut truncating => panic!("answered before blocks were dropped"),
            () = async { while two.attributes(file).await.unwrap().size() > 0 { tokio::task::yield_now().await } } => {}
        }
        assert!(two.recalled().paused.contains(&file));
        let reserving = two.call(reserve(7));
        tokio::pin!(reserving);
        tokio::select! {
            biased;
            _ = &mut reserving => panic!("reserved while the file is cut"),
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
        }
        ledger.gate.send_replace(true);
        tokio::join!(truncating, reserving)
    };
    assert_eq!(truncating.unwrap().size(), 0);
    let behind = reserved(reserving);
    assert_eq!(behind.offset_bytes, 0);
    // Whatever was pushed since it was asked for: this counts for more than the pause.
    assert!(behind.recalls > before.recalls);
}

#[tokio::test(start_paused = true)]
async fn truncation_of_an_empty_file_asks_nobody() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    let reopened = Operation::Open(Open {
        inode: file,
        write: true,
        truncate: true,
        clear_set_id: false,
    });
    one.opened(reopened).await.unwrap();
    assert!(ledger.told().is_empty());
    // Of one that was not, a write that was repeated may have told too little.
    one.entry(truncate(file, 50 << 30)).await.unwrap();
    one.entry(truncate(file, 0)).await.unwrap();
    assert!(!ledger.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn open_with_truncate_empties_the_file_and_its_account() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    one.write(file, 5000).await;
    let reopened = Operation::Create(Create {
        parent: ROOT,
        name: "f".into(),
        write: true,
        truncate: true,
        clear_set_id: false,
        ..Create::default()
    });
    assert_eq!(one.entry(reopened).await.unwrap().size(), 0);
    assert_eq!(one.status().await.used_bytes, 0);
    assert_eq!(ledger.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn truncation_that_fails_leaves_the_size_and_no_open() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    one.write(file, 5000).await;
    for id in 1..=3 {
        ledger.fail(id, Status::Unavailable);
    }
    let reopened = Operation::Open(Open {
        inode: file,
        write: true,
        truncate: true,
        clear_set_id: false,
    });
    assert_eq!(status(one.opened(reopened).await), Status::Unavailable);
    let entry = one.attributes(file).await.unwrap();
    assert_eq!(entry.size(), 5000);
    assert!(entry.attributes_valid_ms > 0);
    one.done(remove(ROOT, "f")).await.unwrap();
    assert_eq!(status(one.attributes(file).await), Status::Stale);
}

#[tokio::test(start_paused = true)]
async fn servers_that_lost_their_blocks_are_skipped() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    one.write(file, 50 * BLOCK).await;
    ledger.fail(2, Status::Lost);
    assert_eq!(one.entry(truncate(file, 1)).await.unwrap().size(), 1);
}

#[tokio::test(start_paused = true)]
async fn relocated_block_is_remembered_in_the_layout() {
    let job = job();
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    let map = match one
        .call(Operation::GetWeightMap(GetWeightMap { epoch: 1 }))
        .await
        .unwrap()
    {
        reply::Result::WeightMap(map) => map,
        other => panic!("no map: {other:?}"),
    };
    let placement = pocket_proto::Placement::new(&map).unwrap();
    let inode = pocket_proto::InodeId(file);
    let mut failed = placement
        .server_of(inode, pocket_proto::BlockIndex(4))
        .server;
    let mut tried = vec![failed];
    for _ in 0..2 {
        let server = relocate(&one, file, failed).await.unwrap();
        let entry = one.attributes(file).await.unwrap();
        let exceptions = entry.layout.unwrap().exceptions;
        assert_eq!(exceptions, [BlockException { block: 4, server }]);
        // Who comes later with the old word is told the new one.
        assert_eq!(relocate(&one, file, failed).await.unwrap(), server);
        assert!(!tried.contains(&server));
        tried.push(server);
        failed = server;
    }
    assert_eq!(relocate(&one, file, failed).await, Err(Status::NoSpace));
}

/// Away from where the map has it.
async fn relocate(mount: &Mount, inode: u64, failed_server: u64) -> Result<u64, Status> {
    relocate_block(mount, inode, 4, failed_server).await
}

async fn relocate_block(
    mount: &Mount,
    inode: u64,
    block: u64,
    failed_server: u64,
) -> Result<u64, Status> {
    let relocate = Operation::Relocate(Relocate {
        inode,
        block,
        failed_server,
        reason: 0,
    });
    match mount
        .call(relocate)
        .await
        .map_err(|failure| failure.status)?
    {
        reply::Result::Relocate(reply) => Ok(reply.server.unwrap().server),
        other => panic!("not relocated: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn new_files_take_the_newest_map_and_old_ones_keep_theirs() {
    let job = job();
    let one = Mount::new(&job);
    let old = one.touch(ROOT, "old").await;
    job.set_weight_map(weight_map(2, 5)).unwrap();
    let new = one.touch(ROOT, "new").await;
    for (inode, epoch) in [(old, 1), (new, 2)] {
        let layout = one.attributes(inode).await.unwrap().layout.unwrap();
        assert_eq!((layout.epoch, layout.block_bytes), (epoch, BLOCK as u32));
        let map = Operation::GetWeightMap(GetWeightMap { epoch });
        match one.call(map).await.unwrap() {
            reply::Result::WeightMap(map) => assert_eq!(map.epoch, epoch),
            other => panic!("no map: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn removals_are_retried_while_a_server_is_away() {
    let ledger = Ledger::new();
    let job = job_with(ledger.clone());
    let one = Mount::new(&job);
    let file = one.touch(ROOT, "f").await;
    one.write(file, 100).await;
    for id in 1..=3 {
        ledger.fail(id, Status::Unavailable);
    }
    one.done(remove(ROOT, "f")).await.unwrap();
    ledger.await_count(3).await;
}

#[tokio::test(start_paused = true)]
async fn listing_of_files_with_long_layouts_comes_in_pieces() {
    let job = job();
    let one = Mount::new(&job);
    let placement = pocket_proto::Placement::new(&weight_map(1, 3)).unwrap();
    for name in 0..80 {
        let file = one.touch(ROOT, &format!("f{name}")).await;
        let inode = pocket_proto::InodeId(file);
        let blocks = (0..3000).filter(|&block| {
            let server = placement.server_of(inode, pocket_proto::BlockIndex(block));
            server.server == 1
        });
        for block in blocks {
            relocate_block(&one, file, block, 1).await.unwrap();
        }
    }
    let (entries, end) = one.read_directory(ROOT, 0).await;
    assert!(!end && entries.len() < 82);
    assert_eq!(one.list(ROOT).await.len(), 80);
}
