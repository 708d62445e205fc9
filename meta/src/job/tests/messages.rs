//! What passes between a mount and the server: wishes become requests, and lines carry them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::session::*;
use tokio::sync::oneshot;

use crate::session::{Answer, RecallSink};

pub(super) type Place = (u64, Bytes);

/// What a program on the mount wants, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Lookup(Place),
    Make(Place),
    MakeDirectory(Place),
    Remove(Place),
    Rename(Place, Place),
    GetMode(u64),
    SetMode(u64, u32),
    Open {
        inode: u64,
        write: bool,
    },
    /// All that is open of a file.
    Close(u64),
    /// A record lock on the whole file. `gives_up`: if it is queued, it is cancelled.
    Lock {
        inode: u64,
        mode: LockMode,
        gives_up: bool,
    },
    Unlock(u64),
    GrantInodes,
}

impl Wish {
    pub(super) fn changes(&self) -> Vec<&Place> {
        match self {
            Wish::Make(at) | Wish::MakeDirectory(at) | Wish::Remove(at) => vec![at],
            Wish::Rename(from, to) => vec![from, to],
            _ => Vec::new(),
        }
    }

    pub(super) fn touches(&self, place: &Place) -> bool {
        self.changes().contains(&place) || matches!(self, Wish::Lookup(at) if at == place)
    }
}

/// What the server sends: in order.
pub(super) enum Down {
    Recall(Recall),
    Reply {
        call: u64,
        stamp: u64,
        answer: Answer,
    },
}

/// The server's end of a connection.
#[derive(Default)]
pub(super) struct Line {
    pub(super) frames: VecDeque<Down>,
    pub(super) pushes: u64,
    pub(super) closed: bool,
}

pub(super) struct LineSink(pub(super) Arc<Mutex<Line>>);

impl RecallSink for LineSink {
    fn push(&self, recall: &Recall) {
        let mut line = self.0.lock();
        line.pushes += 1;
        line.frames.push_back(Down::Recall(recall.clone()));
    }

    fn close(&self) {
        self.0.lock().closed = true;
    }
}

/// What the mount sends: in order.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) request: Request,
    /// The number of a call; `None`: one-way.
    pub(super) call: Option<u64>,
}

/// A request that the server works on.
pub(super) struct Computing {
    pub(super) call: u64,
    pub(super) pushes: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
}

pub(super) fn ahead(inode: u64) -> Ahead {
    Ahead {
        time: Some(Time::default()),
        inode,
        epoch: 1,
    }
}

pub(super) fn make(at: &Place, kind: FileKind, ahead: Option<Ahead>) -> MakeNode {
    MakeNode {
        parent: at.0,
        name: at.1.clone(),
        kind: kind.into(),
        mode: 0o755,
        ahead,
        ..MakeNode::default()
    }
}

pub(super) fn remove(at: &Place, ahead: Option<Ahead>) -> Remove {
    Remove {
        parent: at.0,
        name: at.1.clone(),
        directory: false,
        ahead,
    }
}

pub(super) fn rename(from: &Place, to: &Place, ahead: Option<Ahead>) -> Rename {
    Rename {
        parent: from.0,
        name: from.1.clone(),
        new_parent: to.0,
        new_name: to.1.clone(),
        ahead,
        ..Rename::default()
    }
}

pub(super) fn lock(inode: u64, mode: LockMode, ticket: u64) -> SetLock {
    SetLock {
        inode,
        owner: Some(LockOwner {
            kind: LockKind::Record.into(),
            owner: 1,
        }),
        range: Some(LockRange {
            first: 0,
            last: i64::MAX as u64,
        }),
        mode: mode.into(),
        process: 1,
        ticket,
        wait: mode != LockMode::Unlocked,
    }
}
