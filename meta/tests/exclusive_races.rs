//! Directories of one session's own, and what others do there at the wrong moment.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use pocket_meta_client::Metadata;
use pocket_proto::session::*;
use support::*;

/// The owner has removed the last name and answered; the message is on its way.
#[tokio::test(start_paused = true)]
async fn refusals_are_decided_when_the_owner_was_asked() {
    let job = job();
    let one = Arc::new(Mount::with(&job, Manners::Stubborn));
    let two = Mount::new(&job);
    let directory = one.mkdir(ROOT, "d").await;
    one.touch(directory, "f").await;
    let rmdir = Operation::Remove(Remove {
        parent: ROOT,
        name: "d".into(),
        directory: true,
        ahead: None,
    });
    let removing = two.done(rmdir);
    let owner = async {
        let asked = tokio::time::timeout(Duration::from_secs(1), one.await_recall()).await;
        let gone = Operation::Remove(Remove {
            parent: directory,
            name: "f".into(),
            directory: false,
            ahead: ahead(0, 0),
        });
        one.metadata.tell(gone).unwrap();
        one.metadata
            .tell(Operation::RecallDone(RecallDone { recall: 1 }))
            .unwrap();
        asked.is_ok()
    };
    let (removed, asked) = tokio::join!(removing, owner);
    assert!(
        removed.is_ok() && asked,
        "{removed:?}, owner asked: {asked}"
    );
}

/// As above, for an open with O_CREAT of what the owner has removed.
#[tokio::test(start_paused = true)]
async fn create_of_a_name_in_anothers_directory_asks_it_first() {
    let job = job();
    let one = Arc::new(Mount::with(&job, Manners::Stubborn));
    let two = Mount::new(&job);
    let directory = one.mkdir(ROOT, "d").await;
    one.touch(directory, "f").await;
    let creating = two.opened(create(directory, "f"));
    let owner = async {
        one.await_recall().await;
        let asked = one.recalled().directories;
        let gone = Operation::Remove(Remove {
            parent: directory,
            name: "f".into(),
            directory: false,
            ahead: ahead(0, 0),
        });
        one.metadata.tell(gone).unwrap();
        one.metadata
            .tell(Operation::RecallDone(RecallDone { recall: 1 }))
            .unwrap();
        asked
    };
    let (opened, asked) = tokio::join!(creating, owner);
    let named = two.lookup(directory, "f").await.map(|entry| entry.inode());
    assert_eq!(
        asked,
        [directory],
        "opened {:?}, the name leads to {named:?}",
        opened.unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn epoch_0_is_refused() {
    let job = job();
    let one = Arc::new(Mount::new(&job));
    let directory = one.mkdir(ROOT, "d").await;
    let inode = one.numbers().await;
    let create = Operation::Create(Create {
        parent: directory,
        name: "f".into(),
        mode: 0o644,
        write: true,
        ahead: ahead(inode, 0),
        ..Create::default()
    });
    one.metadata.tell(create).unwrap();
    let _ = one.grant(4096, 4096).await;
    let _ = one.entry(commit(inode, 4096, 4096)).await;
    let _ = one
        .entry(Operation::SetAttributes(SetAttributes {
            inode,
            size_bytes: Some(0),
            ..SetAttributes::default()
        }))
        .await;
}

/// A name moves out of an own directory, with what the mount's kernel knows of it.
#[tokio::test(start_paused = true)]
async fn name_moved_out_of_an_own_directory_is_recalled() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let own = one.mkdir(ROOT, "own").await;
    one.touch(own, "f").await;
    // Lookups in it are answered by the mount itself meanwhile.
    tokio::time::sleep(LEASE * 13).await;
    assert!(one.attributes(own).await.unwrap().exclusive);
    two.lookup(ROOT, "other").await.unwrap_err();
    let rename = Operation::Rename(Rename {
        parent: own,
        name: "f".into(),
        new_parent: ROOT,
        new_name: "b".into(),
        ..Rename::default()
    });
    one.done(rename).await.unwrap();
    one.recalled();
    let gone = Operation::Remove(Remove {
        parent: ROOT,
        name: "b".into(),
        directory: false,
        ahead: None,
    });
    two.done(gone).await.unwrap();
    let recalled = one.recalled();
    assert_eq!(recalled.names, [(ROOT, "b".into())], "{recalled:?}");
}
