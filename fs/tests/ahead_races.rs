//! What a mount does ahead of the server, with something else in between at the wrong moment.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use pocket_fs::{Errno, NewNode, RenameMode, XattrMode};
use pocket_meta_client::RecallHandler;
use pocket_proto::session::Recall;
use pocket_proto::{InodeId, Status};
use support::{Client, Job, Op, name, runtime};

const MODE: u32 = 0o644;

/// Waits until it is so, for longer than a session lasts that is not heard of.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it never came to be");
}

/// A recall that begins while something is made ahead, and inode numbers run short.
#[test]
fn recall_during_make_ahead_does_not_deadlock() {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let job = Job::start(4096).await;
            let mount = Client::cold(&job).await;
            let own = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
            mount.symlink(own, b"one").await;
            // Numbers come in the background.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let inbox = Arc::clone(&mount.inbox);
            let (was_free, free) = mpsc::channel();
            // While the mount asks for more numbers, on its way out of making something.
            mount.tap.on_answer(
                |op| matches!(op, Op::GrantInodes(_)),
                move || {
                    let (recalled, is_recalled) = mpsc::channel();
                    std::thread::spawn(move || {
                        let recall = Recall {
                            recall: 1000,
                            attributes: vec![999],
                            ..Recall::default()
                        };
                        inbox.recall(recall, 1000);
                        recalled.send(()).unwrap();
                    });
                    let free = is_recalled.recv_timeout(Duration::from_secs(3)).is_ok();
                    was_free.send(free).unwrap();
                    true
                },
            );
            for number in 0..64 {
                mount.symlink(own, &name('n', number)).await;
            }
            assert!(free.try_recv().expect("no more numbers were asked for"));
            done.send(()).unwrap();
        });
    });
    outcome
        .recv_timeout(Duration::from_secs(5))
        .expect("the mount is deadlocked");
}

/// The answer that grants numbers is lost.
#[test]
fn lost_grant_of_numbers_does_not_end_the_session() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let mount = Client::cold(&job).await;
        let own = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
        mount
            .tap
            .on_answer(|op| matches!(op, Op::GrantInodes(_)), || false);
        for number in 0..5 {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let made = mount
                .make(own, &name('n', number), NewNode::Symlink(b"t"), 0o777)
                .await;
            assert!(made.is_ok(), "{number}: {made:?}");
        }
        mount.fs.stat_fs().await.expect("session lives");
    });
}

/// A file leaves its own directory by a rename that is asked.
#[test]
fn file_moved_to_shared_directory_is_not_changed_ahead() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let two = Client::cold(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let file = one.put(own, b"f", MODE, b"x").await.unwrap();
        two.look(InodeId::ROOT, b"nothing").await;
        one.fs
            .rename((own, b"f"), (InodeId::ROOT, b"f"), RenameMode::Replace)
            .await
            .unwrap();
        assert_eq!(two.look(InodeId::ROOT, b"f").await.unwrap().mode, 0o644);
        one.chmod(file, 0o600).await;
        assert_eq!(two.stat(file).await.mode, 0o600);
    });
}

/// Something else changes while an asked operation in an own directory is under way.
#[test]
fn asked_change_of_own_directory_shows_on_a_busy_mount() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Arc::new(Client::warm(&job).await);
        let from = one.mkdir(InodeId::ROOT, b"from").await.unwrap();
        let to = one.mkdir(InodeId::ROOT, b"to").await.unwrap();
        let other = one.mkdir(InodeId::ROOT, b"other").await.unwrap();
        one.mkdir(from, b"sub").await.unwrap();
        assert_eq!(one.stat(from).await.link_count, 3);
        let busy = Arc::clone(&one);
        let handle = tokio::runtime::Handle::current();
        one.tap.on_answer(
            |op| matches!(op, Op::Rename(_)),
            move || {
                let work = async move { busy.symlink(other, b"busy").await };
                std::thread::spawn(move || handle.block_on(work))
                    .join()
                    .unwrap();
                true
            },
        );
        one.fs
            .rename((from, b"sub"), (to, b"sub"), RenameMode::Replace)
            .await
            .unwrap();
        let two = Client::cold(&job).await;
        let (shown, truth) = (one.stat(from).await, two.stat(from).await);
        assert_eq!(
            (shown.link_count, shown.modified),
            (truth.link_count, truth.modified)
        );
    });
}

/// Two threads change a file of this mount's own ahead.
#[test]
fn commit_and_chmod_ahead_do_not_lose_each_other() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let (file, handle) = one.create(own, b"f", MODE).await.unwrap();
        one.write(handle, b"content").await.unwrap();
        let (fs, rt) = (Arc::clone(&one.fs), tokio::runtime::Handle::current());
        let (closed, is_closed) = mpsc::channel();
        let (stuck, is_stuck) = mpsc::channel::<()>();
        // While chmod tells, the other thread closes the file.
        one.tap.on_tell(
            |op| matches!(op, Op::SetAttributes(_)),
            move || {
                std::thread::spawn(move || {
                    rt.block_on(async move {
                        fs.flush(handle).await.unwrap();
                        fs.release(handle).await;
                    });
                    closed.send(()).unwrap();
                });
                // It gets as far as it can meanwhile.
                let _ = is_stuck.recv_timeout(Duration::from_millis(100));
                true
            },
        );
        one.chmod(file, 0o600).await;
        is_closed.recv_timeout(Duration::from_secs(5)).unwrap();
        drop(stuck);
        let read = one.read(file).await;
        assert_eq!(
            (one.stat(file).await.size_bytes, &read[..]),
            (7, &b"content"[..])
        );
    });
}

/// The session is lost with a commit that was told; fsync comes after it was renewed.
#[test]
fn fsync_after_a_lost_told_commit_fails() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let (file, handle) = one.create(own, b"f", MODE).await.unwrap();
        one.write(handle, b"content").await.unwrap();
        one.tap.on_tell(|op| matches!(op, Op::Commit(_)), || false);
        // As close(2) of a duplicate does.
        one.fs.flush(handle).await.unwrap();
        one.inbox.session_lost(Status::SessionEnded.into());
        one.inbox.session_renewed(one.info.clone());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let synced = one.fs.fsync(handle).await;
        let two = Client::cold(&job).await;
        assert!(
            synced.is_err(),
            "fsync: {synced:?}, but the file has {} bytes",
            two.stat(file).await.size_bytes
        );
    });
}

/// A name is lost with the session; whoever syncs its directory, opened before or since, is told once.
#[test]
fn fsync_of_a_directory_tells_of_names_that_were_lost_with_the_session() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let other = one.mkdir(InodeId::ROOT, b"other").await.unwrap();
        one.fs.sync_directory(own).await.unwrap();
        one.tap.on_tell(|op| matches!(op, Op::Create(_)), || false);
        one.create(own, b"f", MODE).await.unwrap();
        one.inbox.session_lost(Status::SessionEnded.into());
        one.inbox.session_renewed(one.info.clone());
        one.fs.sync_directory(other).await.unwrap();
        let told = one.fs.sync_directory(own).await;
        assert_eq!(told, Err(Errno(libc::EIO)));
        one.fs.sync_directory(own).await.unwrap();
        assert_eq!(Client::cold(&job).await.look(own, b"f").await, None);
    });
}

/// The same if the directory was another mount's business by then.
#[test]
fn fsync_of_a_directory_that_was_given_back_tells_of_names_that_were_lost() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        one.fs.sync_directory(own).await.unwrap();
        one.tap.on_tell(|op| matches!(op, Op::Create(_)), || false);
        one.create(own, b"f", MODE).await.unwrap();
        let recall = Recall {
            recall: 1 << 40,
            directories: vec![own.0],
            ..Recall::default()
        };
        one.inbox.recall(recall, 1 << 40);
        one.inbox.session_lost(Status::SessionEnded.into());
        one.inbox.session_renewed(one.info.clone());
        let told = one.fs.sync_directory(own).await;
        assert_eq!(told, Err(Errno(libc::EIO)));
    });
}

/// fsync through another handle, and what is not a commit.
#[test]
fn fsync_waits_whichever_handle_was_told_through() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let file = one.put(own, b"f", MODE, b"content").await.unwrap();
        one.tap.forget();
        let handle = one.open(file, libc::O_RDONLY).await;
        one.fs.fsync(handle).await.unwrap();
        assert!(
            one.tap.count(|op| matches!(op, Op::KeepAlive(_))) > 0,
            "closed and opened again"
        );
    });
}

/// fsync fails; the next one asks again.
#[test]
fn fsync_that_failed_is_not_forgotten() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let (_, handle) = one.create(own, b"f", MODE).await.unwrap();
        one.write(handle, b"content").await.unwrap();
        one.tap
            .on_answer(|op| matches!(op, Op::KeepAlive(_)), || false);
        one.fs.fsync(handle).await.unwrap_err();
        one.tap.forget();
        one.fs.fsync(handle).await.unwrap();
        assert!(
            one.tap.count(|op| matches!(op, Op::KeepAlive(_))) > 0,
            "second fsync asked nobody"
        );
    });
}

/// setxattr of an own directory.
#[test]
fn xattr_of_own_directory_changes_its_time() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        one.stat(own).await;
        one.fs
            .set_xattr(own, b"user.a", b"b", XattrMode::Set)
            .await
            .unwrap();
        let two = Client::cold(&job).await;
        assert_eq!(one.stat(own).await.changed, two.stat(own).await.changed);
    });
}

/// rmdir of an own directory in a shared one.
#[test]
fn removed_own_directory_has_no_links() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let two = Client::cold(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        two.look(InodeId::ROOT, b"nothing").await;
        one.fs.rmdir(InodeId::ROOT, b"own").await.unwrap();
        if let Ok(found) = one.fs.get_attributes(own).await {
            assert_eq!(found.value.attributes.unwrap().link_count, 0);
        }
    });
}

/// Another mount renames an own directory.
#[test]
fn own_directory_renamed_by_another_shows_its_time() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::warm(&job).await;
        let two = Client::cold(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        two.fs
            .rename(
                (InodeId::ROOT, b"own"),
                (InodeId::ROOT, b"new"),
                RenameMode::Replace,
            )
            .await
            .unwrap();
        // A directory's own times may lag by a second.
        eventually(async || one.stat(own).await.changed == two.stat(own).await.changed).await;
    });
}

/// A writer is lost before it committed: who had the content cached and who had not agree.
#[test]
fn content_cached_before_a_lost_writer_is_not_given_out() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Client::cold(&job).await;
        let file = one.put(InodeId::ROOT, b"f", MODE, b"aaaa").await.unwrap();
        let read = async |mount: &Client| {
            mount.look(InodeId::ROOT, b"f").await;
            mount.read(file).await
        };
        assert_eq!(read(&one).await, &b"aaaa"[..]);
        let two = Client::cold(&job).await;
        let handle = two.open(file, libc::O_WRONLY).await;
        two.write(handle, b"bbbb").await.unwrap();
        let fs = Arc::clone(&two.fs);
        // The block reaches its server, the commit does not.
        tokio::spawn(async move { fs.send_first_write(handle).await })
            .await
            .unwrap();
        two.tap.on_tell(|op| matches!(op, Op::Commit(_)), || false);
        drop(two);
        let three = Client::cold(&job).await;
        // Until the server gives the lost writer up, the file is what it was.
        eventually(async || read(&three).await == b"bbbb"[..] && read(&one).await == b"bbbb"[..])
            .await;
    });
}
