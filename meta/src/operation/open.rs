//! Opening a file, and deciding whether its data may be cached.
//!
//! The open is counted first, so that whoever comes next sees it. Then those who cache what they
//! may no longer cache let go: their attributes if this open writes, their data if the file is
//! shared from now on. Until they did, nothing is answered.

use pocket_proto::session::{Entry, Open, OpenMode, Opened, Recall, reply};
use pocket_proto::{Failure, InodeId, Status};

use super::{Context, CountedOpen, Step};
use crate::job::Touches;
use crate::limits::OPENS_PER_SESSION_MAX;
use crate::namespace::{AttributeChange, Content};

/// An open on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening<'a> {
    pub(super) inode: InodeId,
    pub(super) write: bool,
    pub(super) truncate: bool,
    /// Cutting the file takes its set-id bits away.
    pub(super) clear_set_id: bool,
    /// The name that led here, to be leased with the entry.
    pub(super) name: Option<(InodeId, &'a [u8])>,
}

pub(super) fn open(context: &mut Context<'_>, request: &Open) -> Result<Step, Failure> {
    context.open(Opening {
        inode: InodeId(request.inode),
        write: request.write,
        truncate: request.truncate,
        clear_set_id: request.clear_set_id,
        name: None,
    })
}

impl Context<'_> {
    pub(super) fn open(&mut self, opening: Opening<'_>) -> Result<Step, Failure> {
        let Opening { inode, write, .. } = opening;
        if self.end_truncation()? {
            return self.answer_open(opening);
        }
        // Whoever writes is told that it may, which a cut under way must not miss.
        if (write || opening.truncate) && self.is_cut_elsewhere(inode) {
            return Ok(Step::AwaitCut(inode));
        }
        if self.progress.opened.is_none() {
            self.check_openable(opening)?;
            self.check_open_limit()?;
            self.count_open(inode, write);
            self.progress.opened = Some(CountedOpen { inode, write });
        }
        let changed = [inode];
        let touches = Touches {
            attributes: if write || opening.truncate {
                &changed
            } else {
                &[]
            },
            through: (opening.truncate || self.state.opens.is_shared(inode)).then_some(inode),
            cut: opening.truncate.then_some(inode),
            ..Touches::default()
        };
        if let Some(awaited) = self.recall(touches) {
            return Ok(Step::Recall(awaited));
        }
        if opening.truncate {
            if self.state.is_moving(inode) {
                return Ok(self.await_moves());
            }
            let change = AttributeChange {
                size_bytes: Some(0),
                clear_set_id: opening.clear_set_id,
                ..AttributeChange::default()
            };
            if let Some(truncation) = self.apply(inode, &change)? {
                return Ok(self.begin_truncation(truncation));
            }
        }
        self.answer_open(opening)
    }

    fn check_openable(&self, opening: Opening<'_>) -> Result<(), Status> {
        match self.state.namespace.inode(opening.inode)?.content {
            Content::File(_) => Ok(()),
            Content::Directory(_) if !opening.write && !opening.truncate => Ok(()),
            Content::Directory(_) => Err(Status::IsDirectory),
            _ => Err(Status::Invalid),
        }
    }

    pub(super) fn check_open_limit(&self) -> Result<(), Failure> {
        let session = self.state.sessions.get(&self.session);
        if session.is_none_or(|session| session.opens.len() < OPENS_PER_SESSION_MAX) {
            return Ok(());
        }
        let what = format!("a mount has at most {OPENS_PER_SESSION_MAX} files open");
        Err(Failure::new(Status::LimitReached, what))
    }

    pub(super) fn count_open(&mut self, inode: InodeId, write: bool) {
        let is_first = self.state.opens.add(inode, self.session, write);
        if is_first && let Some(session) = self.state.sessions.get_mut(&self.session) {
            session.opens.insert(inode);
        }
    }

    fn answer_open(&mut self, opening: Opening<'_>) -> Result<Step, Failure> {
        let inode = opening.inode;
        let session = self.state.sessions.get(&self.session);
        let recalls = session.map_or(0, |session| session.grantee().recalls);
        if opening.write {
            self.state.opens.resume(inode, self.session, recalls);
        }
        // What is buffered while the file is cut would be stored before that is over.
        let mode = if self.state.opens.is_shared(inode) || self.is_cut_elsewhere(inode) {
            self.share_own(inode);
            OpenMode::Through
        } else {
            let opens = &mut self.state.opens;
            opens.go_cached(inode, self.session, recalls);
            OpenMode::Cached
        };
        let entry: Entry = match opening.name {
            Some((parent, name)) if self.leads_to(parent, name, inode) => {
                self.named_entry(parent, name, inode)?
            }
            _ => self.entry(inode)?,
        };
        Ok(Step::Done(reply::Result::Opened(Opened {
            entry: Some(entry),
            mode: mode.into(),
        })))
    }

    /// This session's own opens of a shared file: it learns from the answer that it has to go
    /// through. What it holds back from before is written back when a recall asks, which is on its
    /// way already; and if it hears no answer, a recall has to tell it.
    fn share_own(&mut self, inode: InodeId) {
        let now = self.now.tick;
        let Some(session) = self.state.sessions.get_mut(&self.session) else {
            return;
        };
        if session.is_recalled_through(inode) {
            return;
        }
        if self.one_way {
            let recall = Recall {
                through: vec![inode.0],
                ..Recall::default()
            };
            // Nobody waits: the session held nothing back when it opened.
            drop(session.recall(recall, now));
        } else {
            self.state.opens.go_through(inode, self.session);
        }
    }

    /// Whether a name still leads where it did when it was looked up.
    fn leads_to(&self, parent: InodeId, name: &[u8], inode: InodeId) -> bool {
        self.state.namespace.lookup(parent, name) == Ok(Some(inode))
    }
}
