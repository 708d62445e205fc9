//! A mount's view of one job: what all operations share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use pocket_meta_client::Metadata;
use pocket_proto::session::{Entry, FileKind, GetAttributes, reply, request};
use pocket_proto::{Failure, InodeId, Status};
use pocket_storage_client::BlockStore;

use crate::ahead::InodeNumbers;
use crate::budget::Budget;
use crate::coherence::{Coherence, Freshness, KernelCache, Leased, NoKernelCache};
use crate::config::FileSystemConfig;
use crate::control::Control;
use crate::exclusive::{ExclusiveDirectories, Known};
use crate::file::{BlockCache, Contents, OpenFiles};
use crate::handle::Handles;
use crate::inode_cache::{InodeCache, Tick};
use crate::kernel_acls::KernelAcls;
use crate::kernel_listings::KernelListings;
use crate::listings::Listings;
use crate::locks::MountLocks;
use crate::lost_names::LostNames;
use crate::maps::Maps;
use crate::metrics::Counts;
use crate::name_cache::NameCache;
use crate::space::Space;
use crate::stores::Stores;

/// An inode that this mount changes all the time is looked at so often before it is taken as found.
const LOOKS_MAX: u32 = 5;

/// One job's files, as one mount sees them. Operations are in `operation/`, one file each.
pub struct FileSystem {
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) stores: Stores,
    pub(crate) config: FileSystemConfig,
    pub(crate) maps: Maps,
    pub(crate) space: Space,
    pub(crate) coherence: Coherence,
    pub(crate) inodes: InodeCache,
    pub(crate) names: NameCache,
    pub(crate) listings: Listings,
    pub(crate) exclusive: ExclusiveDirectories,
    pub(crate) lost_names: LostNames,
    pub(crate) numbers: InodeNumbers,
    pub(crate) block_bytes: u32,
    pub(crate) object_lease_ms: u32,
    pub(crate) files: OpenFiles,
    pub(crate) blocks: BlockCache,
    pub(crate) contents: Contents,
    pub(crate) handles: Handles,
    pub(crate) locks: MountLocks,
    pub(crate) write_budget: Budget,
    pub(crate) read_budget: Budget,
    /// A writer is sending what idle files hold, to make room.
    pub(crate) making_room: AtomicBool,
    pub(crate) kernel_acls: KernelAcls,
    pub(crate) kernel_listings: Arc<KernelListings>,
    pub(crate) counts: Counts,
    pub(crate) control: Control,
    kernel: RwLock<Arc<dyn KernelCache>>,
}

/// What a mount holds at the moment; all but the last two are zero when nothing is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Open handles, files and directories.
    pub handles: usize,
    /// Buffered bytes not yet on a storage server.
    pub write_bytes: u64,
    /// Bytes held for readers.
    pub read_bytes: u64,
    /// Bytes of small files kept for whoever opens them next.
    pub content_bytes: u64,
    /// Bytes of space granted and not used.
    pub granted_bytes: i64,
}

impl FileSystem {
    /// A file system over a metadata session and a way to storage servers in its name.
    ///
    /// Fails where the job has no storage server, or the memory budget is too small to work with.
    pub fn new(
        metadata: Arc<dyn Metadata>,
        storage: Arc<dyn BlockStore>,
        config: FileSystemConfig,
    ) -> Result<Arc<Self>, Failure> {
        if config.memory_bytes < FileSystemConfig::MEMORY_BYTES_MIN {
            let least = FileSystemConfig::MEMORY_BYTES_MIN >> 20;
            return Err(Failure::new(
                Status::Invalid,
                format!(
                    "a memory budget of {} bytes is too small: give at least {least}MiB",
                    config.memory_bytes
                ),
            ));
        }
        let maps = Maps::new(Arc::clone(&metadata));
        let session = metadata.session();
        maps.learn(&session.weight_map)?;
        // A quarter each for blocks held and for reads in flight; half for writes.
        let quarter = config.memory_bytes / 4;
        let coherence = Coherence::default();
        coherence.name_session(session.session);
        Ok(Arc::new(FileSystem {
            maps,
            space: Space::new(Arc::clone(&metadata)),
            coherence,
            inodes: InodeCache::new(),
            names: NameCache::new(),
            listings: Listings::new(),
            exclusive: ExclusiveDirectories::new(),
            lost_names: LostNames::new(),
            numbers: InodeNumbers::new(),
            block_bytes: session.block_bytes,
            object_lease_ms: u32::try_from(session.object_lease.as_millis()).unwrap_or(u32::MAX),
            files: OpenFiles::default(),
            blocks: BlockCache::new(quarter / 2),
            contents: Contents::new(quarter / 2),
            handles: Handles::default(),
            locks: MountLocks::default(),
            write_budget: Budget::new(quarter * 2),
            read_budget: Budget::new(quarter),
            making_room: AtomicBool::new(false),
            kernel_acls: KernelAcls::default(),
            kernel_listings: Arc::default(),
            counts: Counts::default(),
            control: Control::default(),
            kernel: RwLock::new(Arc::new(NoKernelCache)),
            metadata,
            stores: Stores::new(storage),
            config,
        }))
    }

    /// From now on recalls reach into this kernel's caches.
    pub fn attach_kernel(&self, kernel: Arc<dyn KernelCache>) {
        *self.kernel.write() = kernel;
    }

    pub(crate) fn kernel(&self) -> Arc<dyn KernelCache> {
        Arc::clone(&self.kernel.read())
    }

    /// Whether nothing may be changed through this mount.
    pub fn is_read_only(&self) -> bool {
        self.config.read_only
    }

    /// What this mount holds now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            handles: self.handles.len(),
            write_bytes: self.write_budget.used(),
            read_bytes: self.blocks.bytes() + self.read_budget.used(),
            content_bytes: self.contents.bytes(),
            granted_bytes: self.space.free_bytes(),
        }
    }

    /// Writes back and commits everything, and leaves the job in an orderly way. Answers the first
    /// failure to write back; the rest is logged.
    pub async fn shut_down(self: &Arc<Self>) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for file in self.files.all() {
            if let Err(failure) = self.flush_file(&file).await {
                tracing::error!(inode = %file.inode, %failure, "not written back at shutdown");
                outcome = outcome.and(Err(failure));
            }
        }
        let goodbye = request::Operation::Goodbye(Default::default());
        if let Err(failure) = self.metadata.call(goodbye).await {
            // The server finds out by itself; nothing is lost by that.
            tracing::debug!(%failure, "left without a goodbye");
        }
        outcome
    }

    /// Asks the metadata server, and notes what is needed to hand the answer over.
    pub(crate) async fn call(
        &self,
        operation: request::Operation,
    ) -> Result<Leased<reply::Result>, Failure> {
        let (asked, since) = (Instant::now(), self.inodes.tick());
        let session = self.coherence.session();
        let moves = matches!(&operation, request::Operation::Rename(rename) if rename.parent != rename.new_parent);
        let answer = self.metadata.call(operation).await?;
        let changed = Leased {
            value: answer.changed,
            stamp: answer.stamp,
            asked,
            since,
            session,
            done_in: Some(answer.session),
        };
        self.learn_changed(&changed);
        if moves {
            // In a directory that moved, ".." leads elsewhere now; the kernel minds names only.
            let moved = changed.value.iter().filter_map(|entry| entry.attributes);
            let moved = moved.map(|attributes| InodeId(attributes.inode));
            let listed = moved.filter(|directory| self.kernel_listings.end(*directory));
            self.drop_listings(listed.collect()).await;
        }
        let result = changed.with(answer.result);
        if let reply::Result::Entry(entry) = &result.value {
            self.hand_over(&result, |_, freshness| {
                self.learn_directory(entry, freshness, since);
            });
        }
        Ok(result)
    }

    /// Takes note of whether a directory is this mount's alone, as the server just said.
    fn learn_directory(&self, entry: &Entry, freshness: Freshness, since: Tick) {
        let Some(attributes) = &entry.attributes else {
            return;
        };
        if attributes.kind() != FileKind::Directory {
            return;
        }
        let inode = InodeId(attributes.inode);
        if !entry.exclusive {
            self.exclusive.give_back(inode);
        } else if !freshness.recalled {
            let is_late = self.inodes.changed_since(since);
            self.exclusive.granted(inode, entry, since, is_late);
        }
    }

    /// Takes note of other inodes that an operation changed: the kernel has dropped their
    /// attributes, and will ask for them with the next operation.
    fn learn_changed(&self, changed: &Leased<Vec<Entry>>) {
        if changed.value.is_empty() {
            return;
        }
        self.hand_over(changed, |entries, freshness| {
            for entry in entries {
                self.learn_directory(entry, freshness, changed.since);
                let Some(attributes) = &entry.attributes else {
                    continue;
                };
                // It may have moved: ".." leads elsewhere then.
                self.listings.forget(InodeId(attributes.inode));
                if freshness.lease_left(entry.attributes_valid_ms).is_zero() {
                    self.inodes.forget(InodeId(attributes.inode));
                } else {
                    self.keep(entry, freshness, changed.since);
                }
            }
        });
    }

    /// The attributes of an inode that this mount holds a lease on.
    pub(crate) fn kept_entry(&self, inode: InodeId) -> Option<Leased<Entry>> {
        self.kept(|| Some((inode, Duration::ZERO)))
    }

    /// What a name leads to, where this mount knows that without asking: an entry without
    /// attributes if the name is absent.
    pub(crate) fn kept_name(&self, directory: InodeId, name: &[u8]) -> Option<Leased<Entry>> {
        let object_lease = Duration::from_millis(u64::from(self.object_lease_ms));
        match self.exclusive.find(directory, name) {
            Some(Known::Present(_)) => {}
            Some(Known::Absent) => return self.kept_absence(directory, name),
            Some(Known::Unknown) | None => {
                return self.kept(|| self.names.find(directory, name));
            }
        }
        self.kept(|| match self.exclusive.find(directory, name)? {
            Known::Present(inode) => Some((inode, object_lease)),
            Known::Absent | Known::Unknown => None,
        })
    }

    /// That a name is not there, if it is still known.
    fn kept_absence(&self, directory: InodeId, name: &[u8]) -> Option<Leased<Entry>> {
        if !self.is_in_touch() {
            return None;
        }
        self.coherence.stamped(|stamp, session| {
            let known = self.exclusive.find(directory, name)?;
            let absent = Entry {
                name_valid_ms: self.object_lease_ms,
                ..Entry::default()
            };
            let since = self.inodes.tick();
            (known == Known::Absent).then(|| self.answered_here(absent, since, (stamp, session)))
        })
    }

    /// An entry that needs no asking for: of the inode that `find` answers, with how long its name
    /// is leased. No recall can begin meanwhile.
    fn kept(&self, find: impl FnOnce() -> Option<(InodeId, Duration)>) -> Option<Leased<Entry>> {
        if !self.is_in_touch() {
            return None;
        }
        let milliseconds = |left: Duration| u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        self.coherence.stamped(|stamp, session| {
            let (inode, name_left) = find()?;
            let name_valid_ms = milliseconds(name_left);
            if let Some(entry) = self.exclusive.attributes(inode) {
                let kept = Entry {
                    attributes_valid_ms: self.object_lease_ms,
                    name_valid_ms,
                    ..entry
                };
                return Some(self.answered_here(kept, self.inodes.tick(), (stamp, session)));
            }
            let (entry, since, left) = self.inodes.get(inode)?;
            let kept = Entry {
                attributes_valid_ms: milliseconds(left),
                name_valid_ms,
                ..entry
            };
            Some(self.answered_here(kept, since, (stamp, session)))
        })
    }

    /// As [`FileSystem::call`], for operations that answer an entry: as the server has it.
    pub(crate) async fn call_entry(
        &self,
        operation: request::Operation,
    ) -> Result<Leased<Entry>, Failure> {
        self.call(operation).await?.map(|result| match result {
            reply::Result::Entry(entry) => Ok(entry),
            _ => Err(unexpected()),
        })
    }

    /// As [`FileSystem::call_entry`], with what this mount has buffered shown in it.
    pub(crate) async fn call_shown(
        &self,
        operation: request::Operation,
    ) -> Result<Leased<Entry>, Failure> {
        self.shown(self.call_entry(operation).await?).await
    }

    /// What was answered about an inode, with what this mount has buffered shown in it. If this
    /// mount has changed the inode since it was asked, by a commit perhaps, the answer may be older
    /// than what programs have seen, and no buffer tells: then the inode is looked at anew.
    pub(crate) async fn shown(&self, leased: Leased<Entry>) -> Result<Leased<Entry>, Failure> {
        let name_valid_ms = leased.value.name_valid_ms;
        let (about, mut since) = (leased.with(()), leased.since);
        let mut entry = self.overlaid(leased.value);
        for _ in 0..LOOKS_MAX {
            let inode = entry.attributes.map(|attributes| InodeId(attributes.inode));
            let Some(inode) = inode.filter(|&inode| self.inodes.is_newer(inode, since)) else {
                return Ok(Leased {
                    since,
                    ..about.with(entry)
                });
            };
            let anew = match self.kept_entry(inode) {
                Some(kept) => kept,
                None => self.fetch_attributes(inode).await?,
            };
            since = anew.since;
            entry = self.overlaid(anew.value);
            entry.name_valid_ms = name_valid_ms;
        }
        // It changes faster than it can be looked at.
        entry.attributes_valid_ms = 0;
        Ok(about.with(entry))
    }

    /// As [`FileSystem::call`], for operations that answer only that they are done.
    pub(crate) async fn call_done(&self, operation: request::Operation) -> Result<(), Failure> {
        match self.call(operation).await?.value {
            reply::Result::Done(_) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Attributes and layout as the server has them now.
    pub(crate) async fn fetch_attributes(&self, inode: InodeId) -> Result<Leased<Entry>, Failure> {
        let request = GetAttributes { inode: inode.0 };
        self.call_entry(request::Operation::GetAttributes(request))
            .await
    }

    /// An entry with what this mount has buffered shown in its attributes. What a commit is about
    /// to change must not be cached.
    pub(crate) fn overlaid(&self, mut entry: Entry) -> Entry {
        if let Some(attributes) = &mut entry.attributes
            && let Some(file) = self.files.get(InodeId(attributes.inode))
            && file.overlay(attributes)
        {
            entry.attributes_valid_ms = 0;
        }
        entry
    }

    /// Hands an entry to the kernel (in `give`) with as much validity as its lease has left, and
    /// keeps it for opens.
    pub fn hand_over_entry<R>(
        &self,
        leased: &Leased<Entry>,
        give: impl FnOnce(&Entry, Freshness) -> R,
    ) -> R {
        self.hand_over(leased, |entry, freshness| {
            self.keep(entry, freshness, leased.since);
            give(entry, freshness)
        })
    }

    /// Keeps the entry as long as its lease runs.
    pub(crate) fn keep(&self, entry: &Entry, freshness: Freshness, since: Tick) {
        if let Some(attributes) = &entry.attributes {
            let inode = InodeId(attributes.inode);
            let validity = freshness.lease_left(entry.attributes_valid_ms);
            self.inodes.keep(inode, entry, validity, since);
        }
    }

    /// Hands anything else over; see [`FileSystem::hand_over_entry`].
    pub fn hand_over<T, R>(&self, leased: &Leased<T>, give: impl FnOnce(&T, Freshness) -> R) -> R {
        let in_touch = self.metadata.in_touch_for();
        self.coherence.hand_over(leased, in_touch, give)
    }

    /// This mount has changed a name, or may have: what was read before is out of date.
    pub(crate) fn name_changed(&self, directory: InodeId, name: &[u8]) {
        self.inodes.names_changed();
        self.names.changed(directory, name);
        self.listings.forget(directory);
        self.exclusive.doubt(directory, name);
    }

    /// The server was asked to change a name. If its answer is missing it may do so yet.
    pub(crate) fn name_asked<T>(
        &self,
        directory: InodeId,
        name: &[u8],
        outcome: &Result<T, Failure>,
    ) {
        self.name_changed(directory, name);
        if let Err(failure) = outcome
            && failure.status == Status::Unavailable
        {
            self.exclusive.give_back(directory);
            if self.kernel_listings.end(directory) {
                self.start_dropping_listings(vec![directory]);
            }
        }
    }

    pub(crate) fn refuse_if_read_only(&self) -> Result<(), crate::Errno> {
        if self.config.read_only {
            Err(crate::Errno(libc::EROFS))
        } else {
            Ok(())
        }
    }
}

/// The server answered something else than was asked.
pub(crate) fn unexpected() -> Failure {
    Failure::new(
        Status::Malformed,
        "the metadata server answered another question",
    )
}
