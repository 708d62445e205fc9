//! Directories that are removed with all that is in them, by one request.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use pocket_proto::Status;
use pocket_proto::session::*;
use support::{HasInode, Mount, Operation, ROOT, close, create, job, make, open, status};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than are removed at a time.
const FILES: u32 = 600;

fn remove_tree(parent: u64, name: &str) -> Operation {
    Operation::RemoveTree(RemoveTree {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
    })
}

async fn removal(mount: &Mount, operation: Operation) -> Removal {
    match mount.call(operation).await.unwrap() {
        reply::Result::Removal(removal) => removal,
        other => panic!("no removal: {other:?}"),
    }
}

async fn done(mount: &Mount, begun: Removal) -> Removal {
    let ended = async {
        loop {
            let number = begun.removal;
            let get = Operation::GetRemoval(GetRemoval { removal: number });
            let removal = removal(mount, get).await;
            if removal.done {
                return removal;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("a removal ends")
}

#[tokio::test]
async fn a_tree_goes_at_once_and_what_was_in_it_behind() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let empty = one.status().await.inodes;
    let tree = one.mkdir(ROOT, "tree").await;
    let mut names = 1;
    for below in ["a", "b"] {
        let directory = one.mkdir(tree, below).await;
        let deep = one.mkdir(directory, "deep").await;
        for file in 0..FILES {
            one.touch(deep, &file.to_string()).await;
        }
        names += 2 + u64::from(FILES);
    }
    // Of what others know they are told; what they have open lives on.
    let a = two.lookup(tree, "a").await.unwrap().inode();
    let deep = two.lookup(a, "deep").await.unwrap().inode();
    let kept = two.lookup(deep, "7").await.unwrap().inode();
    two.opened(open(kept, false)).await.unwrap();
    two.lookup(ROOT, "tree").await.unwrap();
    two.recalled();

    let begun = removal(&one, remove_tree(ROOT, "tree")).await;
    assert!(two.lookup(ROOT, "tree").await.is_err());
    one.mkdir(ROOT, "tree").await;
    let ended = done(&one, begun).await;
    assert_eq!(ended.removed, names);
    let recalled = two.recalled();
    assert!(recalled.names.contains(&(deep, Bytes::from_static(b"7"))));
    assert!(two.attributes(kept).await.is_ok());
    two.done(close(kept, false)).await.unwrap();
    let freed = async {
        while one.status().await.inodes > empty + 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed)
        .await
        .expect("its inodes are freed");
}

#[tokio::test]
async fn nothing_is_put_into_a_tree_that_is_gone_by_a_mount_that_had_it_to_itself() {
    let job = job();
    let (one, two) = (Mount::new(&job), Mount::new(&job));
    let tree = one.mkdir(ROOT, "tree").await;
    let below = one.mkdir(tree, "below").await;
    let begun = removal(&two, remove_tree(ROOT, "tree")).await;
    let ended = done(&two, begun).await;
    assert_eq!(ended.removed, 2);
    let recalled = one.recalled().directories;
    assert!(
        recalled.contains(&tree) && recalled.contains(&below),
        "{recalled:?}"
    );
    let refused = one.opened(create(tree, "f")).await;
    assert!(matches!(status(refused), Status::NotFound | Status::Stale));
}

#[tokio::test]
async fn what_is_no_directory_is_no_tree() {
    let job = job();
    let mount = Mount::new(&job);
    mount
        .entry(make(ROOT, "file", FileKind::Regular))
        .await
        .unwrap();
    for (name, expected) in [
        ("file", Status::NotDirectory),
        ("none", Status::NotFound),
        ("..", Status::Invalid),
    ] {
        let refused = mount.call(remove_tree(ROOT, name)).await;
        assert_eq!(status(refused), expected, "{name}");
    }
    let unknown = Operation::GetRemoval(GetRemoval { removal: 7 });
    assert_eq!(status(mount.call(unknown).await), Status::NotFound);
}
