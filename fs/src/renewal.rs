//! Recalls, and sessions that end: where the metadata server reaches into the mount.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use pocket_meta_client::{RecallHandler, SessionInfo};
use pocket_proto::session::{Open, Recall, RecallDone, reply, request};
use pocket_proto::{Failure, InodeId, Status};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::file::File;
use crate::operation::Access;
use crate::{FileSystem, KernelCache};

/// The kernel drops a name as soon as no operation of this mount is under way in the directory.
/// One may be, and may itself wait for this recall: then all names are dropped at once instead,
/// which waits for nothing.
const DROP_NAME_PATIENCE: Duration = Duration::from_millis(20);
/// Dropping pages writes dirty ones back through this very mount, and waits for nothing else. Within
/// the lease there is to be time left to acknowledge a recall.
const DROP_DATA_PATIENCE: Duration = Duration::from_secs(3);
/// Before opens are asked for again that were not answered.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// Open files whose pages are dropped at the same time when a session is lost.
const DROPS_MAX: usize = 16;

/// Receives recalls for a file system that is about to exist.
#[derive(Default)]
pub struct RecallInbox {
    target: OnceLock<(Weak<FileSystem>, Handle)>,
}

impl RecallInbox {
    /// An inbox to connect a session with.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on recalls go to `fs`, handled on the calling runtime. Must be called from within
    /// one, once.
    pub fn attach(&self, fs: &Arc<FileSystem>) {
        let _ = self.target.set((Arc::downgrade(fs), Handle::current()));
        // It may have been renewed since the file system was made.
        let first = fs.metadata.session();
        fs.coherence.name_session(first.session);
        fs.stores.renew(0, first.storage_credential);
    }

    fn target(&self) -> Option<(Arc<FileSystem>, &Handle)> {
        let (fs, runtime) = self.target.get()?;
        Some((fs.upgrade()?, runtime))
    }
}

impl RecallHandler for RecallInbox {
    fn recall(&self, recall: Recall, stamp: u64) {
        let Some((fs, runtime)) = self.target() else {
            return;
        };
        let through = !recall.through.is_empty() || !recall.paused.is_empty();
        let mut listings = Vec::new();
        if recall.granted.is_empty() {
            fs.coherence.begin_recall(stamp, through, || {
                for inode in recall.attributes.iter().chain(&recall.through) {
                    fs.inodes.forget(InodeId(*inode));
                }
                for name in &recall.names {
                    fs.names.forget(InodeId(name.parent), &name.name);
                    fs.listings.forget(InodeId(name.parent));
                }
                for directory in &recall.directories {
                    fs.exclusive.give_back(InodeId(*directory));
                    fs.inodes.forget(InodeId(*directory));
                    fs.listings.forget(InodeId(*directory));
                }
                for directory in &recall.all_names {
                    fs.names.forget_all(InodeId(*directory));
                    fs.listings.forget(InodeId(*directory));
                }
                listings = fs.end_listings(&recall);
            });
        } else {
            // Comes alone, and takes nothing back.
            for ticket in &recall.granted {
                fs.locks.granted(*ticket);
            }
        }
        let session = fs.coherence.session();
        runtime.spawn(async move { fs.obey(recall, listings, session).await });
    }

    fn session_lost(&self, reason: Failure) {
        let Some((fs, runtime)) = self.target() else {
            return;
        };
        tracing::warn!(%reason, "session with the metadata server lost");
        fs.counts.sessions_lost.add(1);
        let (mut files, mut known, mut listings) = (Vec::new(), Vec::new(), Vec::new());
        let session = fs.coherence.begin_session(|| {
            // No file is opened meanwhile.
            let open = fs.files.all().into_iter();
            files.extend(open.map(|file| (fs.is_owned(file.inode), file)));
            known = fs.inodes.take_all();
            fs.names.clear();
            fs.listings.clear();
            listings = fs.kernel_listings.end_all();
            let changed = fs.exclusive.clear();
            if !fs.metadata.is_settled() {
                fs.lost_names.note(changed);
            }
            fs.numbers.clear();
        });
        fs.space.reset();
        let unlocked = fs.locks.lose_session();
        for (owned, file) in &files {
            let kept = file.abandon(&reason, *owned, session);
            if unlocked.contains(&file.inode) {
                file.with(|state| state.lose_locks());
            }
            fs.drop_blocks(file, kept);
        }
        fs.kernel().drop_all_names();
        let files = files.into_iter().map(|(_, file)| file).collect();
        known.extend(fs.kernel_acls.take_all());
        runtime.spawn(async move {
            fs.drop_listings(listings).await;
            fs.drop_known(known, files).await;
        });
    }

    fn session_renewed(&self, info: SessionInfo) {
        let Some((fs, runtime)) = self.target() else {
            return;
        };
        tracing::info!(session = %info.session, "session with the metadata server renewed");
        fs.coherence.name_session(info.session);
        let credential = info.storage_credential.clone();
        fs.stores.renew(fs.coherence.session(), credential);
        if let Err(failure) = fs.maps.learn(&info.weight_map) {
            tracing::warn!(%failure, "weight map of the renewed session");
        }
        runtime.spawn(async move { fs.reopen_all().await });
    }
}

impl FileSystem {
    /// Drops what a recall of a session names, and the listings that end with it, and acknowledges it.
    async fn obey(self: Arc<Self>, recall: Recall, listings: Vec<InodeId>, session: u64) {
        let kernel = self.kernel();
        self.drop_listings(listings).await;
        for inode in &recall.attributes {
            kernel.drop_attributes(InodeId(*inode));
            if let Some(file) = self.files.get(InodeId(*inode)) {
                file.forget_mode();
            }
        }
        for directory in &recall.directories {
            // Its own attributes were this mount's, too.
            kernel.drop_attributes(InodeId(*directory));
        }
        for inode in &recall.through {
            self.go_through(InodeId(*inode)).await;
        }
        for inode in &recall.paused {
            if let Some(file) = self.files.get(InodeId(*inode)) {
                self.pause(&file, session, recall.recall).await;
            }
        }
        if !recall.names.is_empty() {
            let lapsed = self.metadata.in_touch_for();
            drop_names(Arc::clone(&kernel), recall.names, lapsed).await;
        }
        if !recall.all_names.is_empty() && !kernel.drop_all_names() {
            // An older kernel: it knows them for no longer than this mount could vouch for.
            tokio::time::sleep(self.metadata.in_touch_for()).await;
        }
        if self.coherence.session() != session {
            // Another session's recalls have the same numbers.
            return;
        }
        let done = RecallDone {
            recall: recall.recall,
        };
        if let Err(failure) = self.metadata.tell(request::Operation::RecallDone(done)) {
            tracing::debug!(%failure, "recall not acknowledged");
            return;
        }
        self.counts.recalls.add(1);
    }

    /// Ends the kernel's listings of the directories that a recall names, or names of which it names.
    /// Answers those of which pages are to be dropped.
    fn end_listings(&self, recall: &Recall) -> Vec<InodeId> {
        let names = recall.names.iter().map(|name| name.parent);
        let whole = recall.directories.iter().chain(&recall.all_names);
        let mut ending: Vec<_> = names.chain(whole.copied()).map(InodeId).collect();
        ending.dedup();
        ending.retain(|directory| self.kernel_listings.end(*directory));
        ending
    }

    /// Has the kernel drop its listings of directories whose leases have ended. If that takes long, it
    /// goes on.
    pub(crate) async fn drop_listings(&self, directories: Vec<InodeId>) {
        if directories.is_empty() {
            return;
        }
        let dropping = self.start_dropping_listings(directories);
        if tokio::time::timeout(DROP_DATA_PATIENCE, dropping)
            .await
            .is_err()
        {
            tracing::debug!("listings are dropped late");
        }
    }

    /// Must be called from within a runtime.
    pub(crate) fn start_dropping_listings(&self, directories: Vec<InodeId>) -> JoinHandle<()> {
        let (kernel, listings) = (self.kernel(), Arc::clone(&self.kernel_listings));
        tokio::task::spawn_blocking(move || {
            for directory in directories {
                kernel.drop_listing(directory);
                listings.dropped(directory);
            }
        })
    }

    /// The session is lost: has the kernel drop the attributes that it was given under it, and all
    /// pages of files that are open, which were distrusted.
    async fn drop_known(&self, known: Vec<InodeId>, files: Vec<Arc<File>>) {
        let kernel = self.kernel();
        let attributes = move || {
            for inode in known {
                kernel.drop_attributes(inode);
            }
        };
        let _ = tokio::task::spawn_blocking(attributes).await;
        stream::iter(files)
            .for_each_concurrent(DROPS_MAX, |file| async move {
                let _ = self.start_dropping_pages(file.inode).await;
                file.with(|state| state.trust_pages());
            })
            .await;
    }

    /// From now on the file's reads and writes go to the servers; what is buffered goes first.
    async fn go_through(self: &Arc<Self>, inode: InodeId) {
        let Some(file) = self.files.get(inode) else {
            return;
        };
        file.with(|state| state.share());
        if let Err(overdue) = self.drop_pages(inode).await {
            // Others are told that they may write: what comes of the pages later is refused.
            file.with(|state| state.distrust_pages());
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                let _ = overdue.await;
                file.with(|state| state.trust_pages());
            });
        }
        if let Err(failure) = self.flush_file(&file).await {
            tracing::warn!(%inode, %failure, "a file that became shared was not committed");
        }
        self.drop_kept(&file);
    }

    /// Finishes and commits the changes of a file's blocks that are under way, and begins no others.
    async fn pause(self: &Arc<Self>, file: &Arc<File>, session: u64, recall: u64) {
        file.pause(session, recall);
        file.changed().await;
        if let Err(failure) = self.flush_file(file).await {
            tracing::warn!(inode = %file.inode, %failure, "a file that is to be cut was not committed");
        }
    }

    /// Has the kernel drop a file's pages; what was stored through a mapping is written first, and
    /// buffered here. Fails if that takes long, and goes on.
    pub(crate) async fn drop_pages(&self, inode: InodeId) -> Result<(), JoinHandle<()>> {
        let mut dropping = self.start_dropping_pages(inode);
        match tokio::time::timeout(DROP_DATA_PATIENCE, &mut dropping).await {
            Ok(_) => Ok(()),
            Err(_) => {
                tracing::debug!(%inode, "pages of a file are dropped late");
                Err(dropping)
            }
        }
    }

    fn start_dropping_pages(&self, inode: InodeId) -> JoinHandle<()> {
        let kernel = self.kernel();
        tokio::task::spawn_blocking(move || kernel.drop_data(inode))
    }

    /// Opens at the new session what is open on this mount, until that is lost as well.
    async fn reopen_all(self: Arc<Self>) {
        let session = self.coherence.session();
        let mut files = self.files.all();
        while !files.is_empty() && self.coherence.session() == session {
            let mut again = Vec::new();
            for file in files {
                match self.reopen(&file).await {
                    Ok(()) => {}
                    // It is not known what became of it; it does no harm to be asked later.
                    Err(failure) if failure.status == Status::Unavailable => again.push(file),
                    Err(failure) => self.give_up(&file, &failure),
                }
            }
            files = again;
            if !files.is_empty() {
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
        }
    }

    fn give_up(&self, file: &Arc<File>, failure: &Failure) {
        tracing::warn!(inode = %file.inode, %failure, "open file lost with the session");
        let session = self.coherence.session();
        let kept = file.abandon(failure, false, session);
        self.drop_blocks(file, kept);
        file.with(|state| state.dead = Some(dead_status(failure.status)));
    }

    /// Has the server count those handles of a file that no living session counts.
    pub(crate) async fn reopen(&self, file: &File) -> Result<(), Failure> {
        loop {
            let _one = file.counting.lock().await;
            let taken = file.with(|state| (state.counts.take_uncounted(), state.era()));
            let (Some(access), era) = taken else {
                return Ok(());
            };
            let open = Open {
                inode: file.inode.0,
                write: access == Access::Write,
                truncate: false,
                clear_set_id: false,
            };
            let answer = self.call(request::Operation::Open(open)).await;
            let counts = answer
                .as_ref()
                .is_ok_and(|answer| self.hand_over(answer, |_, freshness| freshness.counts));
            file.with(|state| state.counts.note(access, state.era() == era, counts));
            let answer = answer?;
            // The file stays as it was made when the session was lost: it goes through, whatever
            // the server would allow, until it is opened anew.
            if let reply::Result::Opened(opened) = &answer.value
                && let Some(entry) = &opened.entry
            {
                file.refresh(entry, answer.since);
            }
        }
    }
}

/// What an operation on a file that could not be reopened answers.
fn dead_status(status: Status) -> Status {
    match status {
        Status::Stale | Status::NotFound | Status::JobGone => Status::Stale,
        _ => Status::Lost,
    }
}

/// `lapsed`: in so long the kernel knows none of the names any more, whatever it was told.
async fn drop_names(
    kernel: Arc<dyn KernelCache>,
    names: Vec<pocket_proto::session::recall::Name>,
    lapsed: Duration,
) {
    let worker = Arc::clone(&kernel);
    let mut dropped = tokio::task::spawn_blocking(move || {
        for name in names {
            worker.drop_name(InodeId(name.parent), &name.name);
        }
    });
    if tokio::time::timeout(DROP_NAME_PATIENCE, &mut dropped)
        .await
        .is_err()
        && !kernel.drop_all_names()
    {
        // An older kernel: the names go when the operation in their way has ended. That may itself
        // wait for this recall.
        tracing::debug!("names are dropped late: an operation in the directory is under way");
        let _ = tokio::time::timeout(lapsed, dropped).await;
    }
}
