//! What a mount does ahead of the server, with something else in between at the wrong moment.

#![allow(clippy::unwrap_used, dead_code)]
mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_fs::{
    Caller, CreateRequest, Errno, FileSystem, HandleId, NewNode, NodeRequest, OpenRequest,
    RecallInbox, RenameMode, SetAttributesRequest, WriteRequest, XattrMode,
};
use pocket_meta::LocalMetadata;
use pocket_meta_client::{Answered, Metadata, RecallHandler, SessionInfo};
use pocket_proto::session::{Attributes, Recall, request};
use pocket_proto::{Failure, InodeId, Status};
use support::{Job, runtime};

type Op = request::Operation;
type TellHook = Box<dyn FnOnce() -> bool + Send>;
/// A hook, and what it waits for.
type Slot = Mutex<Option<(fn(&Op) -> bool, TellHook)>>;

/// `tell`: runs once, before the message that matches; false drops it. `after_call`: runs once,
/// behind the answer of a call that matches; false loses the answer.
#[derive(Default)]
struct Hooks {
    unsettled: std::sync::atomic::AtomicBool,
    tell: Slot,
    after_call: Slot,
    calls: Mutex<Vec<String>>,
}

struct Hooked {
    inner: LocalMetadata,
    hooks: Arc<Hooks>,
}

fn take(slot: &Slot, op: &Op) -> Option<TellHook> {
    let mut slot = slot.lock().unwrap();
    if slot.as_ref().is_some_and(|(fits, _)| fits(op)) {
        return slot.take().map(|(_, hook)| hook);
    }
    None
}

#[async_trait]
impl Metadata for Hooked {
    async fn call(&self, operation: Op) -> Result<Answered, Failure> {
        let name = format!("{operation:?}");
        self.hooks
            .calls
            .lock()
            .unwrap()
            .push(name.split('(').next().unwrap().to_owned());
        let hook = take(&self.hooks.after_call, &operation);
        let answer = self.inner.call(operation).await;
        if let Some(hook) = hook
            && !hook()
        {
            return Err(Failure::new(Status::Unavailable, "lost answer"));
        }
        self.hooks
            .unsettled
            .store(false, std::sync::atomic::Ordering::Relaxed);
        answer
    }
    fn tell(&self, operation: Op) -> Result<(), Failure> {
        self.hooks
            .unsettled
            .store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(hook) = take(&self.hooks.tell, &operation)
            && !hook()
        {
            return Ok(());
        }
        self.inner.tell(operation)
    }
    fn in_touch_for(&self) -> Duration {
        self.inner.in_touch_for()
    }
    fn newest_epoch(&self) -> u32 {
        self.inner.newest_epoch()
    }
    fn is_settled(&self) -> bool {
        !self
            .hooks
            .unsettled
            .load(std::sync::atomic::Ordering::Relaxed)
    }
    fn session(&self) -> SessionInfo {
        self.inner.session()
    }
}

struct Mount {
    fs: Arc<FileSystem>,
    hooks: Arc<Hooks>,
    inbox: Arc<RecallInbox>,
    info: SessionInfo,
}

const CALLER: Caller = Caller {
    uid: 1000,
    gid: 100,
};

impl Mount {
    async fn cold(job: &Job) -> Mount {
        let hooks = Arc::new(Hooks::default());
        let with = Arc::clone(&hooks);
        let mut info = None;
        let (fs, inbox) = job
            .mount_and_inbox(|inner| {
                info = Some(inner.session());
                Arc::new(Hooked { inner, hooks: with })
            })
            .await;
        Mount {
            fs,
            hooks,
            inbox,
            info: info.unwrap(),
        }
    }
    async fn new(job: &Job, warm: &[u8]) -> Mount {
        let mount = Mount::cold(job).await;
        let first = mount.mkdir(InodeId::ROOT, warm).await.unwrap();
        for number in 0..100_u8 {
            mount
                .symlink(first, &[b'a', b'0' + number / 10, b'0' + number % 10])
                .await;
            tokio::task::yield_now().await;
        }
        mount
    }
    fn on_tell(&self, fits: fn(&Op) -> bool, hook: impl FnOnce() -> bool + Send + 'static) {
        *self.hooks.tell.lock().unwrap() = Some((fits, Box::new(hook)));
    }
    fn on_answer(&self, fits: fn(&Op) -> bool, hook: impl FnOnce() -> bool + Send + 'static) {
        *self.hooks.after_call.lock().unwrap() = Some((fits, Box::new(hook)));
    }
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.hooks.calls.lock().unwrap())
    }
    async fn make(
        &self,
        parent: InodeId,
        name: &[u8],
        node: NewNode<'_>,
    ) -> Result<InodeId, Errno> {
        let made = self
            .fs
            .make_node(NodeRequest {
                parent,
                name,
                node,
                mode: 0o755,
                caller: CALLER,
            })
            .await?;
        Ok(self
            .fs
            .hand_over_entry(&made, |e, _| InodeId(e.attributes.unwrap().inode)))
    }
    async fn mkdir(&self, parent: InodeId, name: &[u8]) -> Result<InodeId, Errno> {
        self.make(parent, name, NewNode::Directory).await
    }
    async fn symlink(&self, parent: InodeId, name: &[u8]) {
        self.make(parent, name, NewNode::Symlink(b"t"))
            .await
            .unwrap();
    }
    async fn create(&self, parent: InodeId, name: &[u8]) -> (InodeId, HandleId) {
        let create = CreateRequest {
            parent,
            name,
            mode: 0o644,
            flags: libc::O_RDWR | libc::O_CREAT,
            caller: CALLER,
        };
        let made = self.fs.create(create).await.unwrap();
        self.fs.hand_over(&made, |(entry, opened), _| {
            (InodeId(entry.attributes.unwrap().inode), opened.handle)
        })
    }
    async fn file(&self, parent: InodeId, name: &[u8], content: &[u8]) -> InodeId {
        let (inode, handle) = self.create(parent, name).await;
        if !content.is_empty() {
            self.fs
                .write(
                    handle,
                    WriteRequest::default(),
                    Bytes::copy_from_slice(content),
                )
                .await
                .unwrap();
        }
        self.fs.flush(handle).await.unwrap();
        self.fs.release(handle).await;
        inode
    }
    async fn look(&self, parent: InodeId, name: &[u8]) -> Option<Attributes> {
        let found = self.fs.lookup(parent, name).await.unwrap();
        self.fs.hand_over_entry(&found, |entry, _| entry.attributes)
    }
    async fn stat(&self, inode: InodeId) -> Attributes {
        let found = self.fs.get_attributes(inode).await.unwrap();
        self.fs
            .hand_over_entry(&found, |entry, _| entry.attributes.unwrap())
    }
    async fn chmod(&self, inode: InodeId, mode: u32) {
        let change = SetAttributesRequest {
            mode: Some(mode),
            ..Default::default()
        };
        let done = self.fs.set_attributes(inode, change).await.unwrap();
        self.fs.hand_over_entry(&done, |_, _| ());
    }
}

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
            let mount = Mount::cold(&job).await;
            let own = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
            mount.symlink(own, b"one").await;
            // Numbers come in the background.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let inbox = Arc::clone(&mount.inbox);
            let (was_free, free) = mpsc::channel();
            // While the mount asks for more numbers, on its way out of making something.
            mount.on_answer(
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
            for number in 0..64_u8 {
                mount
                    .symlink(own, &[b'n', b'0' + number / 10, b'0' + number % 10])
                    .await;
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
        let mount = Mount::cold(&job).await;
        let own = mount.mkdir(InodeId::ROOT, b"own").await.unwrap();
        mount.on_answer(|op| matches!(op, Op::GrantInodes(_)), || false);
        for number in 0..5_u8 {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let made = mount
                .make(own, &[b'n', b'0' + number], NewNode::Symlink(b"t"))
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
        let one = Mount::new(&job, b"w1").await;
        let two = Mount::cold(&job).await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let file = one.file(own, b"f", b"x").await;
        two.look(InodeId::ROOT, b"nothing").await;
        one.fs
            .rename((own, b"f"), (InodeId::ROOT, b"f"), RenameMode::Replace)
            .await
            .unwrap();
        assert_eq!(two.look(InodeId::ROOT, b"f").await.unwrap().mode, 0o644);
        one.calls();
        one.chmod(file, 0o600).await;
        assert_eq!(
            two.stat(file).await.mode,
            0o600,
            "calls of one: {:?}",
            one.calls()
        );
    });
}

/// Something else changes while an asked operation in an own directory is under way.
#[test]
fn asked_change_of_own_directory_shows_on_a_busy_mount() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Mount::new(&job, b"w1").await;
        let from = one.mkdir(InodeId::ROOT, b"from").await.unwrap();
        let to = one.mkdir(InodeId::ROOT, b"to").await.unwrap();
        let other = one.mkdir(InodeId::ROOT, b"other").await.unwrap();
        one.mkdir(from, b"sub").await.unwrap();
        assert_eq!(one.stat(from).await.link_count, 3);
        let (fs, handle) = (Arc::clone(&one.fs), tokio::runtime::Handle::current());
        one.on_answer(
            |op| matches!(op, Op::Rename(_)),
            move || {
                let busy = std::thread::spawn(move || {
                    handle.block_on(async move {
                        fs.make_node(NodeRequest {
                            parent: other,
                            name: b"busy",
                            node: NewNode::Symlink(b"t"),
                            mode: 0o777,
                            caller: CALLER,
                        })
                        .await
                        .unwrap();
                    })
                });
                busy.join().unwrap();
                true
            },
        );
        one.fs
            .rename((from, b"sub"), (to, b"sub"), RenameMode::Replace)
            .await
            .unwrap();
        let two = Mount::cold(&job).await;
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
        let one = Mount::new(&job, b"w1").await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let (file, handle) = one.create(own, b"f").await;
        one.fs
            .write(
                handle,
                WriteRequest::default(),
                Bytes::from_static(b"content"),
            )
            .await
            .unwrap();
        let (fs, rt) = (Arc::clone(&one.fs), tokio::runtime::Handle::current());
        let (closed, is_closed) = mpsc::channel();
        let (stuck, is_stuck) = mpsc::channel::<()>();
        // While chmod tells, the other thread closes the file.
        one.on_tell(
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
        let opened = one
            .fs
            .open(
                file,
                OpenRequest {
                    flags: libc::O_RDONLY,
                },
            )
            .await
            .unwrap();
        let read = one
            .fs
            .read(opened.handle, 0, 100)
            .await
            .unwrap()
            .into_bytes();
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
        let one = Mount::new(&job, b"w1").await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let (file, handle) = one.create(own, b"f").await;
        one.fs
            .write(
                handle,
                WriteRequest::default(),
                Bytes::from_static(b"content"),
            )
            .await
            .unwrap();
        one.on_tell(|op| matches!(op, Op::Commit(_)), || false);
        // As close(2) of a duplicate does.
        one.fs.flush(handle).await.unwrap();
        one.inbox.session_lost(Status::SessionEnded.into());
        one.inbox.session_renewed(one.info.clone());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let synced = one.fs.fsync(handle).await;
        let two = Mount::cold(&job).await;
        assert!(
            synced.is_err(),
            "fsync: {synced:?}, but the file has {} bytes",
            two.stat(file).await.size_bytes
        );
    });
}

/// fsync through another handle, and what is not a commit.
#[test]
fn fsync_waits_whichever_handle_was_told_through() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Mount::new(&job, b"w1").await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let file = one.file(own, b"f", b"content").await;
        one.calls();
        let opened = one
            .fs
            .open(
                file,
                OpenRequest {
                    flags: libc::O_RDONLY,
                },
            )
            .await
            .unwrap();
        one.fs.fsync(opened.handle).await.unwrap();
        assert!(
            one.calls().contains(&"KeepAlive".to_owned()),
            "closed and opened again"
        );
    });
}

/// 7b. fsync fails; the next one says that all is well.
#[test]
fn fsync_that_failed_is_not_forgotten() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Mount::new(&job, b"w1").await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        let (_, handle) = one.create(own, b"f").await;
        one.fs
            .write(
                handle,
                WriteRequest::default(),
                Bytes::from_static(b"content"),
            )
            .await
            .unwrap();
        one.on_answer(|op| matches!(op, Op::KeepAlive(_)), || false);
        one.fs.fsync(handle).await.unwrap_err();
        one.calls();
        one.fs.fsync(handle).await.unwrap();
        assert!(
            one.calls().contains(&"KeepAlive".to_owned()),
            "second fsync asked nobody"
        );
    });
}

/// setxattr of an own directory.
#[test]
fn xattr_of_own_directory_changes_its_time() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Mount::new(&job, b"w1").await;
        let own = one.mkdir(InodeId::ROOT, b"own").await.unwrap();
        one.stat(own).await;
        one.fs
            .set_xattr(own, b"user.a", b"b", XattrMode::Set)
            .await
            .unwrap();
        let two = Mount::cold(&job).await;
        assert_eq!(one.stat(own).await.changed, two.stat(own).await.changed);
    });
}

/// rmdir of an own directory in a shared one.
#[test]
fn removed_own_directory_has_no_links() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let one = Mount::new(&job, b"w1").await;
        let two = Mount::cold(&job).await;
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
        let one = Mount::new(&job, b"w1").await;
        let two = Mount::cold(&job).await;
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
        let one = Mount::cold(&job).await;
        let file = one.file(InodeId::ROOT, b"f", b"aaaa").await;
        let read = async |mount: &Mount| {
            mount.look(InodeId::ROOT, b"f").await;
            let opened = mount
                .fs
                .open(
                    file,
                    OpenRequest {
                        flags: libc::O_RDONLY,
                    },
                )
                .await
                .unwrap();
            let data = mount
                .fs
                .read(opened.handle, 0, 100)
                .await
                .unwrap()
                .into_bytes();
            mount.fs.release(opened.handle).await;
            data
        };
        assert_eq!(read(&one).await, &b"aaaa"[..]);
        let two = Mount::cold(&job).await;
        let opened = two
            .fs
            .open(
                file,
                OpenRequest {
                    flags: libc::O_WRONLY,
                },
            )
            .await
            .unwrap();
        two.fs
            .write(
                opened.handle,
                WriteRequest::default(),
                Bytes::from_static(b"bbbb"),
            )
            .await
            .unwrap();
        let fs = Arc::clone(&two.fs);
        // The block reaches its server, the commit does not.
        tokio::spawn(async move { fs.send_first_write(opened.handle).await })
            .await
            .unwrap();
        two.on_tell(|op| matches!(op, Op::Commit(_)), || false);
        drop(two);
        let three = Mount::cold(&job).await;
        // Until the server gives the lost writer up, the file is what it was.
        eventually(async || read(&three).await == b"bbbb"[..] && read(&one).await == b"bbbb"[..])
            .await;
    });
}
