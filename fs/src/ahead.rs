//! Operations that are done here first and told to the server then.
//!
//! In a directory that this mount has to itself ([`crate::exclusive`]) it knows what will come of
//! an operation. So it tells the server what has been done, in order, and answers without waiting.
//! A recall of the directory is acknowledged behind everything that was told, so nobody can see the
//! server lag. What the server cannot do after all ends the session, and with it everything that
//! was built on the belief.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pocket_proto::session::{
    Ahead, Attributes, Entry, FileKind, GrantInodes, Layout, Time, reply, request,
};
use pocket_proto::{Inherited, InodeId};
use tokio::runtime::Handle;

use crate::exclusive::{Change, Heritage, Known, Owned};
use crate::inode_cache::Tick;
use crate::operation::Caller;
use crate::{FileSystem, Leased, start};

/// Inode numbers asked for at once: at first, and at most.
const INODES_WANTED_MIN: u32 = 64;
const INODES_WANTED_MAX: u32 = 4096;
/// Files that this mount has open; with more, the server is asked whether it takes another.
const OPENS_MAX: usize = 500_000;

/// Inode numbers that the server has granted, to be used in order.
pub(crate) struct InodeNumbers {
    granted: Mutex<Granted>,
    asking: AtomicBool,
    short: AtomicBool,
}

struct Granted {
    ranges: VecDeque<Range<u64>>,
    left: u64,
    wanted: u32,
}

impl InodeNumbers {
    pub(crate) fn new() -> Self {
        InodeNumbers {
            granted: Mutex::new(Granted {
                ranges: VecDeque::new(),
                left: 0,
                wanted: INODES_WANTED_MIN,
            }),
            asking: AtomicBool::new(false),
            short: AtomicBool::new(false),
        }
    }

    /// Has `tell` tell of an inode of the next number; if it does not, the number is still the
    /// next. The second value says that more should be asked for.
    fn spend<R>(&self, tell: impl FnOnce(InodeId) -> Option<R>) -> (Option<R>, bool) {
        let mut granted = self.granted.lock();
        let told = granted
            .ranges
            .front()
            .map(|first| InodeId(first.start))
            .and_then(tell);
        if told.is_some() {
            granted.left -= 1;
            if let Some(first) = granted.ranges.front_mut() {
                first.start += 1;
                if first.is_empty() {
                    granted.ranges.pop_front();
                }
            }
        }
        let short = granted.left < u64::from(granted.wanted / 2);
        (told, short)
    }

    /// The session that they were granted to is over.
    pub(crate) fn clear(&self) {
        let mut granted = self.granted.lock();
        granted.ranges.clear();
        granted.left = 0;
    }
}

/// What is to be made.
pub(crate) struct New<'a> {
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) umask: u32,
    pub(crate) caller: Caller,
    pub(crate) device: u32,
    /// Of a symbolic link.
    pub(crate) target: &'a [u8],
}

/// What a directory is, for what programs expect: the server says the same.
const DIRECTORY_BYTES: u64 = 4096;
const SET_GROUP_ID: u32 = 0o2000;

impl FileSystem {
    /// Whether anything may be done ahead now: the server must not have ended the session.
    pub(crate) fn is_in_touch(&self) -> bool {
        !self.metadata.in_touch_for().is_zero()
    }

    /// The time for something done ahead.
    pub(crate) fn ahead_at(time: Time) -> Ahead {
        Ahead {
            time: Some(time),
            inode: 0,
            epoch: 0,
        }
    }

    /// Makes an inode with the next number and tells the server of it as `describe` says. None if
    /// that cannot be done ahead. To be called while no recall can begin.
    pub(crate) fn make_ahead(
        self: &Arc<Self>,
        heritage: &Heritage,
        new: &New<'_>,
        describe: impl FnOnce(Ahead) -> request::Operation,
    ) -> Option<(Entry, InodeId)> {
        let layout = match new.kind {
            FileKind::Regular => Some(self.newest_layout()?),
            _ => None,
        };
        if self.handles.len() >= OPENS_MAX {
            return None;
        }
        let time = crate::file::now();
        let (made, short) = self.numbers.spend(|inode| {
            let ahead = Ahead {
                inode: inode.0,
                epoch: layout.as_ref().map_or(0, |layout| layout.epoch),
                ..FileSystem::ahead_at(time)
            };
            let made = describe(ahead);
            let told = match &made {
                // Nothing is promised of an open file before it is closed or synced, and then this
                // has left with what is told there.
                request::Operation::Create(create) if create.write => self.metadata.tell_soon(made),
                _ => self.metadata.tell(made),
            };
            told.ok()?;
            Some(inode)
        });
        if short {
            // Not here: the first poll would take the lock of coherence a second time, and a recall
            // may wait for it in between.
            self.numbers.short.store(true, Ordering::Relaxed);
        }
        let inode = made?;
        let Inherited { mode, acls } =
            heritage
                .acls
                .hand_on(new.kind, new.mode & 0o7777, new.umask);
        let mut attributes = made_attributes(inode, new, heritage.group, time);
        attributes.mode |= mode;
        let entry = Entry {
            attributes: Some(attributes),
            acls: (!acls.is_empty()).then(|| Box::new(acls)),
            layout,
            read_once: heritage.read_once
                && matches!(new.kind, FileKind::Regular | FileKind::Directory),
            attributes_valid_ms: self.object_lease_ms,
            name_valid_ms: self.object_lease_ms,
            ..Entry::default()
        };
        Some((entry, inode))
    }

    /// Takes note of what was made ahead at a name.
    pub(crate) fn show_made(
        &self,
        parent: InodeId,
        name: &[u8],
        entry: &Entry,
        owned: Owned,
    ) -> Tick {
        let made = entry.attributes.unwrap_or_default();
        let links = i32::from(made.kind() == FileKind::Directory);
        let known = Known::Present(InodeId(made.inode));
        self.show_name(parent, name, known, made.created.unwrap_or_default(), links);
        self.keep_owned(entry, owned)
    }

    /// Takes note of a name that was changed ahead; `links` is by how many directories the
    /// parent's own changed.
    pub(crate) fn show_name(
        &self,
        parent: InodeId,
        name: &[u8],
        known: Known,
        time: Time,
        links: i32,
    ) {
        self.inodes.forget(parent);
        self.names.changed(parent, name);
        self.listings.forget(parent);
        let at = self.inodes.tick();
        let change = Change { time, links, at };
        self.exclusive.changed(parent, name, known, change);
    }

    /// An answer that this mount gives itself, at this moment.
    pub(crate) fn answered_here<T>(&self, value: T, since: Tick, stamp: (u64, u64)) -> Leased<T> {
        Leased {
            value,
            stamp: stamp.0,
            asked: Instant::now(),
            since,
            session: stamp.1,
            done_in: None,
        }
    }

    /// Keeps the attributes of an inode that is this mount's own.
    pub(crate) fn keep_owned(&self, entry: &Entry, owned: Owned) -> Tick {
        let attributes = entry.attributes.unwrap_or_default();
        let inode = InodeId(attributes.inode);
        let validity = match attributes.kind() {
            // As long as it is this mount's alone, its attributes are with its names.
            FileKind::Directory => Duration::ZERO,
            _ => Duration::from_millis(u64::from(self.object_lease_ms)),
        };
        self.inodes
            .keep_owned(inode, entry.clone(), validity, owned)
    }

    /// Whether nobody but this mount knows the inode.
    pub(crate) fn is_owned(&self, inode: InodeId) -> bool {
        let owned = self.inodes.owned(inode);
        owned.is_some_and(|owned| self.exclusive.is_owned(owned))
    }

    /// Changes attributes of a file that nobody but this mount knows, and tells the server. None if
    /// that cannot be done ahead. To be called while no recall can begin.
    pub(crate) fn change_owned(
        &self,
        inode: InodeId,
        operation: impl FnOnce() -> request::Operation,
        change: impl FnOnce(&mut Entry),
    ) -> Option<(Entry, Tick)> {
        if !self.is_in_touch() {
            return None;
        }
        let validity = Duration::from_millis(u64::from(self.object_lease_ms));
        self.inodes.update_owned(inode, validity, |entry, owned| {
            let fit = entry.attributes?.kind() != FileKind::Directory;
            if !fit || !self.exclusive.is_owned(owned) {
                return None;
            }
            self.metadata.tell(operation()).ok()?;
            change(entry);
            Some(owned)
        })
    }

    /// Where a new file's blocks go. None if the newest map is not at hand.
    fn newest_layout(&self) -> Option<Layout> {
        let epoch = self.metadata.newest_epoch();
        let edition = self.maps.edition(epoch)?;
        Some(Layout {
            epoch,
            block_bytes: self.block_bytes,
            exceptions: Vec::new(),
            edition,
        })
    }

    /// To be called behind [`FileSystem::make_ahead`], once recalls can begin again.
    pub(crate) fn refill_numbers(self: &Arc<Self>) {
        if self.numbers.short.swap(false, Ordering::Relaxed) {
            self.ask_for_numbers();
        }
    }

    /// Asks for more inode numbers in the background.
    pub(crate) fn ask_for_numbers(self: &Arc<Self>) {
        if self.numbers.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let fs = Arc::clone(self);
        start(&Handle::current(), async move {
            fs.fetch_numbers().await;
            fs.numbers.asking.store(false, Ordering::Release);
        });
    }

    async fn fetch_numbers(&self) {
        let wanted = self.numbers.granted.lock().wanted;
        let request = request::Operation::GrantInodes(GrantInodes { wanted });
        let answer = match self.call(request).await {
            Ok(answer) => answer,
            Err(failure) => {
                // The server is asked for everything then, and says what is wrong.
                tracing::debug!(%failure, "no inode numbers granted");
                return;
            }
        };
        let reply::Result::GrantInodes(reply) = &answer.value else {
            return;
        };
        self.coherence.stamped(|_, session| {
            if session != answer.session || reply.count == 0 {
                return;
            }
            let mut granted = self.numbers.granted.lock();
            let end = reply.first.saturating_add(u64::from(reply.count));
            granted.ranges.push_back(reply.first..end);
            granted.left += u64::from(reply.count);
            granted.wanted = (granted.wanted * 2).min(INODES_WANTED_MAX);
        });
    }
}

/// But for the permission bits.
fn made_attributes(inode: InodeId, new: &New<'_>, group: Option<u32>, time: Time) -> Attributes {
    let is_directory = new.kind == FileKind::Directory;
    let handed_on = match (group, is_directory) {
        (Some(_), true) => SET_GROUP_ID,
        _ => 0,
    };
    let owner = new.caller.owner();
    Attributes {
        inode: inode.0,
        kind: new.kind.into(),
        mode: handed_on,
        link_count: if is_directory { 2 } else { 1 },
        uid: owner.uid,
        gid: group.unwrap_or(owner.gid),
        device: new.device,
        size_bytes: match new.kind {
            FileKind::Directory => DIRECTORY_BYTES,
            FileKind::Symlink => new.target.len() as u64,
            _ => 0,
        },
        allocated_bytes: 0,
        allocated_behind: false,
        accessed: Some(time),
        modified: Some(time),
        changed: Some(time),
        created: Some(time),
    }
}
