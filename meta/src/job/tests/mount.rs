//! A mount as the protocol sees it: what it asks, what it believes it may count on, what it owes.
//!
//! It does what the file system core and its kernel do about leases, as simply as possible, and
//! takes as much as it may: what it was leased it believes for as long as it was told to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::session::*;
use pocket_proto::{Failure, Status};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::LEASE;
use super::messages::{Computing, Down, Line, Place, Up, Wish, ahead, lock, make, remove, rename};
use crate::job::Caller;
use crate::session::Answer;

/// A call without an answer yet.
pub(super) struct Call {
    number: u64,
    request: Request,
    asked: Instant,
    /// One-way messages sent before.
    told_before: u64,
    /// `None`: a sign of life.
    wish: Option<Wish>,
}

/// How things stand with a mount's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Runs,
    /// By SIGSTOP: its kernel goes on with what it was told.
    Stopped(Instant),
    Killed,
}

pub(super) struct Mount {
    pub(super) life: Life,
    pub(super) caller: Caller,
    /// The server has ended the session.
    pub(super) lost: bool,
    pub(super) line: Arc<Mutex<Line>>,
    pub(super) connected: bool,
    pub(super) up: VecDeque<Up>,
    pub(super) computing: Vec<Computing>,
    /// Answers that are on their way out of the server, to be overtaken by recalls.
    pub(super) computed: VecDeque<(u64, u64, Answer)>,
    pub(super) script: VecDeque<Wish>,
    pub(super) calls: Vec<Call>,
    /// Recalls processed and not acknowledged.
    pub(super) owed: VecDeque<u64>,
    told: VecDeque<Request>,
    told_total: u64,
    numbers: u64,
    received: u64,
    received_through: u64,
    first_stamp: u64,
    heard: Instant,
    pub(super) names: HashMap<Place, (Option<u64>, Instant)>,
    pub(super) modes: HashMap<u64, (u32, Instant)>,
    /// Directories that it has to itself, with all names.
    pub(super) own: HashMap<u64, BTreeMap<Bytes, u64>>,
    /// Names there that the server was asked to change: it knows better.
    pub(super) unknown: BTreeSet<Place>,
    granted_inodes: VecDeque<u64>,
    /// Opens for reading, opens for writing, and whether they go through.
    pub(super) opens: HashMap<u64, (u32, u32, bool)>,
    pub(super) locks: HashMap<u64, LockMode>,
    /// The lock that it waits for.
    waits: Option<(u64, u64, LockMode)>,
    granted: BTreeSet<u64>,
}

impl Mount {
    pub(super) fn new(caller: Caller, line: Arc<Mutex<Line>>, now: Instant) -> Self {
        Mount {
            life: Life::Runs,
            caller,
            lost: false,
            line,
            connected: true,
            up: VecDeque::new(),
            computing: Vec::new(),
            computed: VecDeque::new(),
            script: VecDeque::new(),
            calls: Vec::new(),
            owed: VecDeque::new(),
            told: VecDeque::new(),
            told_total: 0,
            numbers: 0,
            received: 0,
            received_through: 0,
            first_stamp: 0,
            heard: now,
            names: HashMap::new(),
            modes: HashMap::new(),
            own: HashMap::new(),
            unknown: BTreeSet::new(),
            granted_inodes: VecDeque::new(),
            opens: HashMap::new(),
            locks: HashMap::new(),
            waits: None,
            granted: BTreeSet::new(),
        }
    }

    /// Until when the server keeps the session in any case; mounts count on a tenth less.
    pub(super) fn in_touch_until(&self) -> Instant {
        self.heard + LEASE * 9 / 10
    }

    pub(super) fn is_in_touch(&self, now: Instant) -> bool {
        !self.lost && now < self.in_touch_until()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }

    pub(super) fn can_ask(&self) -> bool {
        let busy = self.calls.iter().any(|call| call.wish.is_some()) || self.is_waiting();
        !self.script.is_empty() && !busy && !self.lost
    }

    pub(super) fn needs_sign_of_life(&self, now: Instant) -> bool {
        let is_asking = self.calls.iter().any(|call| call.wish.is_none());
        !is_asking && !self.lost && now >= self.heard + LEASE / 3
    }

    pub(super) fn is_touching(&self, place: &Place) -> bool {
        let mut wishes = self.calls.iter().filter_map(|call| call.wish.as_ref());
        wishes.any(|wish| wish.touches(place))
    }

    pub(super) fn is_setting_mode(&self, inode: u64) -> bool {
        let mut wishes = self.calls.iter().filter_map(|call| call.wish.as_ref());
        wishes.any(|wish| matches!(wish, Wish::SetMode(at, _) if *at == inode))
    }

    /// The number of the last message about what it did ahead of the server, if any is kept.
    pub(super) fn told_ahead(&self) -> u64 {
        let ahead = |request: &&Request| {
            use request::Operation as O;
            matches!(
                request.operation,
                Some(O::MakeNode(_) | O::Remove(_) | O::Rename(_))
            )
        };
        self.told
            .iter()
            .rev()
            .find(ahead)
            .map_or(0, |request| request.told)
    }

    /// Has heard everything and owes nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.script.is_empty()
            && !self.is_waiting()
            && self.calls.is_empty()
            && self.owed.is_empty()
            && self.up.is_empty()
            && self.computed.is_empty()
            && self.line.lock().frames.is_empty()
    }

    /// Recalls that were sent and not dealt with: if the session is ended over them, what the mount
    /// believes until it hears of that is not the server's affair.
    pub(super) fn is_behind(&self) -> bool {
        let line = self.line.lock();
        let mut frames = line.frames.iter();
        !self.owed.is_empty() || frames.any(|frame| matches!(frame, Down::Recall(_)))
    }

    /// Takes up the next wish: from what is known here, ahead of the server, or by asking.
    pub(super) fn ask(&mut self, now: Instant) {
        use request::Operation as O;
        let Some(wish) = self.script.pop_front() else {
            return;
        };
        if self.is_answered_here(&wish, now) {
            return;
        }
        for at in wish.changes() {
            self.unknown.insert(at.clone());
        }
        let operation = match &wish {
            Wish::Lookup((parent, name)) => O::Lookup(Lookup {
                parent: *parent,
                name: name.clone(),
            }),
            Wish::Make(at) => O::MakeNode(make(at, FileKind::Regular, None)),
            Wish::MakeDirectory(at) => O::MakeNode(make(at, FileKind::Directory, None)),
            Wish::Remove(at) => O::Remove(remove(at, None)),
            Wish::Rename(from, to) => O::Rename(rename(from, to, None)),
            Wish::GetMode(inode) => O::GetAttributes(GetAttributes { inode: *inode }),
            Wish::SetMode(inode, mode) => O::SetAttributes(SetAttributes {
                inode: *inode,
                mode: Some(*mode),
                ..SetAttributes::default()
            }),
            Wish::Open { inode, write } => O::Open(Open {
                inode: *inode,
                write: *write,
                truncate: false,
                clear_set_id: false,
            }),
            Wish::Close(inode) => {
                let Some((readers, writers, _)) = self.opens.remove(inode) else {
                    return;
                };
                // The last close of a mount gives up its locks.
                self.locks.remove(inode);
                for (count, write) in [(readers, false), (writers, true)] {
                    let inode = *inode;
                    (0..count).for_each(|_| {
                        self.tell(O::Close(Close {
                            inode,
                            write,
                            ..Close::default()
                        }))
                    });
                }
                return;
            }
            Wish::Lock { inode, mode, .. } => {
                let ticket = self.numbers + 1;
                // Whoever asks for less counts on no more.
                if let Some(held) = self.locks.get_mut(inode)
                    && *mode == LockMode::Shared
                {
                    *held = LockMode::Shared;
                }
                O::SetLock(lock(*inode, *mode, ticket))
            }
            Wish::Unlock(inode) => {
                // Whoever unlocks counts on the lock no more.
                self.locks.remove(inode);
                O::SetLock(lock(*inode, LockMode::Unlocked, 0))
            }
            Wish::GrantInodes => O::GrantInodes(GrantInodes { wanted: 8 }),
        };
        self.call(operation, Some(wish), now);
    }

    /// Where the mount has the directory to itself, or holds a lease.
    fn is_answered_here(&mut self, wish: &Wish, now: Instant) -> bool {
        use request::Operation as O;
        if !self.is_in_touch(now) {
            return false;
        }
        let is_own = |at: &Place| self.knows(at);
        match wish {
            Wish::Lookup(at) => {
                is_own(at) || self.names.get(at).is_some_and(|(_, until)| *until > now)
            }
            Wish::GetMode(inode) => self.modes.get(inode).is_some_and(|(_, until)| *until > now),
            Wish::Make(at) if is_own(at) => {
                if self.own[&at.0].contains_key(&at.1) {
                    return true;
                }
                let Some(inode) = self.granted_inodes.pop_front() else {
                    return false;
                };
                let ahead = Some(ahead(inode));
                self.own_names(at.0).insert(at.1.clone(), inode);
                self.tell(O::MakeNode(make(at, FileKind::Regular, ahead)));
                true
            }
            Wish::Remove(at) if is_own(at) => {
                if self.own_names(at.0).remove(&at.1).is_some() {
                    self.tell(O::Remove(remove(at, Some(ahead(0)))));
                }
                true
            }
            Wish::Rename(from, to) if from != to && is_own(from) && is_own(to) => {
                if let Some(inode) = self.own_names(from.0).remove(&from.1) {
                    self.own_names(to.0).insert(to.1.clone(), inode);
                    self.tell(O::Rename(rename(from, to, Some(ahead(0)))));
                }
                true
            }
            _ => false,
        }
    }

    /// Whether nobody can know better what a name leads to.
    pub(super) fn knows(&self, at: &Place) -> bool {
        self.own.contains_key(&at.0) && !self.unknown.contains(at)
    }

    fn own_names(&mut self, directory: u64) -> &mut BTreeMap<Bytes, u64> {
        self.own.entry(directory).or_default()
    }

    pub(super) fn sign_of_life(&mut self, now: Instant) {
        self.call(request::Operation::KeepAlive(KeepAlive {}), None, now);
    }

    fn call(&mut self, operation: request::Operation, wish: Option<Wish>, now: Instant) {
        self.numbers += 1;
        let looks = matches!(
            wish,
            None | Some(Wish::Lookup(_) | Wish::GetMode(_) | Wish::GrantInodes)
        );
        let request = Request {
            operation: Some(operation),
            sequence: if looks { 0 } else { self.numbers },
            told: 0,
        };
        self.send(request.clone(), Some(self.numbers));
        self.calls.push(Call {
            number: self.numbers,
            request,
            asked: now,
            told_before: self.told_total,
            wish,
        });
    }

    fn tell(&mut self, operation: request::Operation) {
        self.told_total += 1;
        let request = Request {
            operation: Some(operation),
            sequence: 0,
            told: self.told_total,
        };
        self.told.push_back(request.clone());
        self.send(request, None);
    }

    fn send(&mut self, request: Request, call: Option<u64>) {
        if self.connected {
            self.up.push_back(Up { request, call });
        }
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some(recall) = self.owed.pop_front() {
            self.tell(request::Operation::RecallDone(RecallDone { recall }));
        }
    }

    pub(super) fn take_computed(&mut self) {
        let mut kept = Vec::new();
        for mut computing in std::mem::take(&mut self.computing) {
            match computing.answer.try_recv() {
                Ok(answer) => self.computed.push_back((
                    computing.call,
                    self.first_stamp + computing.pushes,
                    answer,
                )),
                Err(oneshot::error::TryRecvError::Empty) => kept.push(computing),
                // The session was ended meanwhile, and the connection with it.
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
        self.computing = kept;
    }

    /// The number of the newest recall that was sent before a request is taken up.
    pub(super) fn stamp(&self, pushes: u64) -> u64 {
        self.first_stamp + pushes
    }

    /// The connection is lost, and what is on it.
    pub(super) fn disconnect(&mut self) {
        self.connected = false;
        self.up.clear();
        self.computing.clear();
        self.computed.clear();
        self.line.lock().frames.clear();
    }

    /// Goes on over another connection: says again what may not have been heard.
    pub(super) fn resume(&mut self, caller: Caller, line: Arc<Mutex<Line>>) {
        self.caller = caller;
        self.line = line;
        self.connected = true;
        self.first_stamp = self.received;
        let told: Vec<_> = self.told.iter().cloned().collect();
        told.into_iter()
            .for_each(|request| self.send(request, None));
        let again = self.calls.iter();
        let again: Vec<_> = again
            .map(|call| (call.request.clone(), call.number))
            .collect();
        for (request, number) in again {
            self.send(request, Some(number));
        }
    }

    /// The server has ended the session: nothing is counted on any more.
    pub(super) fn lose(&mut self) {
        let script = std::mem::take(&mut self.script);
        *self = Mount {
            script,
            lost: true,
            life: self.life,
            connected: false,
            ..Mount::new(self.caller, Arc::default(), self.heard)
        };
    }

    /// Takes the next frame of the line.
    pub(super) fn deliver(&mut self, now: Instant) {
        let frame = self.line.lock().frames.pop_front();
        match frame {
            Some(Down::Recall(recall)) => self.recalled(recall),
            Some(Down::Reply {
                call,
                stamp,
                answer,
            }) => self.answered(call, stamp, answer, now),
            None => {}
        }
    }

    fn recalled(&mut self, recall: Recall) {
        self.received += 1;
        if !recall.through.is_empty() {
            self.received_through = self.received;
        }
        for directory in &recall.directories {
            // The kernel was told of names for as long as this mount was in touch.
            let until = self.in_touch_until();
            for (name, inode) in self.own.remove(directory).into_iter().flatten() {
                let place = (*directory, name);
                if !self.unknown.contains(&place) {
                    self.names.insert(place, (Some(inode), until));
                }
            }
            self.unknown.retain(|(parent, _)| parent != directory);
        }
        let named = recall.names.iter();
        let named: Vec<Place> = named.map(|name| (name.parent, name.name.clone())).collect();
        // A directory that is being changed is locked by the kernel: all names are dropped then.
        if named.iter().any(|place| self.is_touching(place)) {
            self.names.clear();
        }
        let dropped = |place: &Place| named.contains(place) || recall.all_names.contains(&place.0);
        self.names.retain(|place, _| !dropped(place));
        for inode in &recall.attributes {
            self.modes.remove(inode);
        }
        for inode in &recall.through {
            if let Some(open) = self.opens.get_mut(inode) {
                open.2 = true;
            }
        }
        self.granted.extend(&recall.granted);
        self.take_granted();
        self.owed.push_back(recall.recall);
    }

    fn take_granted(&mut self) {
        if let Some((ticket, inode, mode)) = self.waits
            && self.granted.contains(&ticket)
        {
            self.waits = None;
            self.locks.insert(inode, mode);
        }
    }

    fn answered(&mut self, number: u64, stamp: u64, answer: Answer, now: Instant) {
        let Some(at) = self.calls.iter().position(|call| call.number == number) else {
            return;
        };
        let call = self.calls.remove(at);
        let answer = answer.map(|body| Reply::decode(body).expect("a reply"));
        if matches!(&answer, Err(failure) if failure.status == Status::SessionEnded) {
            self.lose();
            return;
        }
        self.heard = self.heard.max(call.asked);
        let last = call.told_before;
        self.told.retain(|request| request.told > last);
        let Some(wish) = call.wish else {
            return;
        };
        let until = |valid_ms: u32| {
            let valid = std::time::Duration::from_millis(valid_ms.into());
            (self.received <= stamp && valid_ms > 0).then(|| call.asked + valid)
        };
        match answer {
            Err(failure) => self.refused(&wish, &failure),
            Ok(reply) => {
                let result = reply.result.expect("a result");
                let name_until = match &result {
                    reply::Result::Entry(entry) => until(entry.name_valid_ms),
                    reply::Result::Absent(absent) => until(absent.name_valid_ms),
                    _ => None,
                };
                let entries = match &result {
                    reply::Result::Entry(entry) => Some(entry),
                    reply::Result::Opened(opened) => opened.entry.as_ref(),
                    _ => None,
                };
                let modes: Vec<_> = entries
                    .into_iter()
                    .chain(&reply.changed)
                    .filter_map(|entry| {
                        let attributes = entry.attributes.as_ref()?;
                        let until = until(entry.attributes_valid_ms);
                        Some((attributes.inode, (attributes.mode, until)))
                    })
                    .collect();
                for (inode, (mode, until)) in modes {
                    self.modes.remove(&inode);
                    if let Some(until) = until {
                        self.modes.insert(inode, (mode, until));
                    }
                }
                self.done(wish, result, name_until, stamp, call.number);
            }
        }
        let _ = now;
    }

    fn refused(&mut self, wish: &Wish, failure: &Failure) {
        let usual = match wish {
            Wish::Make(_) | Wish::MakeDirectory(_) => failure.status == Status::Exists,
            Wish::Remove(_) | Wish::Rename(..) => failure.status == Status::NotFound,
            Wish::Lock { .. } => failure.status == Status::Deadlock,
            _ => false,
        };
        assert!(usual, "{wish:?}: {failure:?}");
        self.names.retain(|place, _| !wish.touches(place));
    }

    fn done(
        &mut self,
        wish: Wish,
        result: reply::Result,
        name_until: Option<Instant>,
        stamp: u64,
        ticket: u64,
    ) {
        let moved = match &wish {
            Wish::Rename(from, to) if from != to => self.names.get(from).copied().zip(Some(to)),
            _ => None,
        };
        let moved = moved.map(|(name, to)| (to.clone(), name));
        self.names.retain(|place, _| !wish.touches(place));
        match (&wish, result) {
            (Wish::Lookup(at) | Wish::Make(at) | Wish::MakeDirectory(at), result) => {
                let (inode, alone) = match &result {
                    reply::Result::Entry(entry) => {
                        let inode = entry.attributes.as_ref().map(|attributes| attributes.inode);
                        (inode, entry.exclusive && entry.names == 0)
                    }
                    _ => (None, false),
                };
                if let Some(until) = name_until {
                    self.names.insert(at.clone(), (inode, until));
                }
                if let Some(inode) = inode
                    && alone
                    && matches!(wish, Wish::MakeDirectory(_))
                {
                    match self.received <= stamp {
                        true => drop(self.own.insert(inode, BTreeMap::new())),
                        false => {
                            self.tell(request::Operation::ShareDirectory(ShareDirectory { inode }))
                        }
                    }
                }
            }
            // The kernel moves what it knows of the name, with its validity.
            (Wish::Rename(..), _) => self.names.extend(moved),
            (Wish::Open { inode, write }, reply::Result::Opened(opened)) => {
                let through = opened.mode() == OpenMode::Through || self.received_through > stamp;
                let open = self.opens.entry(*inode).or_default();
                open.0 += u32::from(!write);
                open.1 += u32::from(*write);
                open.2 |= through;
            }
            (
                Wish::Lock {
                    inode,
                    mode,
                    gives_up,
                },
                reply::Result::SetLock(reply),
            ) => match (reply.queued, gives_up) {
                (false, _) => drop(self.locks.insert(*inode, *mode)),
                (true, false) => {
                    self.waits = Some((ticket, *inode, *mode));
                    self.take_granted();
                }
                (true, true) => self.tell(request::Operation::CancelLock(CancelLock { ticket })),
            },
            (Wish::GrantInodes, reply::Result::GrantInodes(granted)) => {
                let end = granted.first + u64::from(granted.count);
                self.granted_inodes.extend(granted.first..end);
            }
            _ => {}
        }
    }
}
