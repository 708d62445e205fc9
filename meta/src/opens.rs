//! Who has which file open, and how.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pocket_proto::session::OpenMode;
use pocket_proto::{InodeId, SessionId};

use crate::namespace::IdHasher;

/// Open files of a job.
#[derive(Debug, Default)]
pub(crate) struct Opens(HashMap<InodeId, FileOpens, BuildHasherDefault<IdHasher>>);

/// The opens of one file; never none.
#[derive(Debug, Default)]
struct FileOpens {
    by_session: Vec<SessionOpen>,
    /// How often the size was set since it was opened first.
    cuts: u64,
}

/// The opens of one file by one session.
#[derive(Clone, Copy, Debug)]
struct SessionOpen {
    session: SessionId,
    readers: u32,
    writers: u32,
    mode: OpenMode,
    /// Recalls sent to the session when it was last told that it may cache.
    recalls: u64,
    /// It changes no blocks before it was told that it may: the file is being cut, or was.
    paused: bool,
    /// Recalls sent to the session when it was last told that it may change blocks.
    resumed: u64,
}

/// What closing left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The session has the file open no more.
    pub(crate) by_session: bool,
    /// Nobody writes it any more, but somebody did.
    pub(crate) by_last_writer: bool,
    /// The session held it open for writing when it closed all at once.
    pub(crate) was_writing: bool,
}

impl Opens {
    /// Counts an open. True if it is the session's first of this inode.
    pub(crate) fn add(&mut self, inode: InodeId, session: SessionId, write: bool) -> bool {
        let opens = &mut self.0.entry(inode).or_default().by_session;
        let position = opens.iter().position(|open| open.session == session);
        let position = position.unwrap_or_else(|| {
            opens.push(SessionOpen {
                session,
                readers: 0,
                writers: 0,
                mode: OpenMode::Cached,
                recalls: 0,
                paused: false,
                resumed: 0,
            });
            opens.len() - 1
        });
        let open = &mut opens[position];
        let is_first = open.readers + open.writers == 0;
        match write {
            true => open.writers += 1,
            false => open.readers += 1,
        }
        is_first
    }

    /// Takes an open back; nothing if there is none of the kind.
    pub(crate) fn remove(&mut self, inode: InodeId, session: SessionId, write: bool) -> Closed {
        let Some(FileOpens {
            by_session: opens, ..
        }) = self.0.get_mut(&inode)
        else {
            return Closed::default();
        };
        let Some(at) = opens.iter().position(|open| open.session == session) else {
            return Closed::default();
        };
        let open = &mut opens[at];
        let count = match write {
            true => &mut open.writers,
            false => &mut open.readers,
        };
        if *count == 0 {
            return Closed::default();
        }
        *count -= 1;
        let by_session = open.readers + open.writers == 0;
        if by_session {
            opens.swap_remove(at);
        }
        let closed = Closed {
            by_session,
            by_last_writer: write && opens.iter().all(|open| open.writers == 0),
            was_writing: write,
        };
        if opens.is_empty() {
            self.0.remove(&inode);
        }
        closed
    }

    /// Takes back all opens of a session.
    pub(crate) fn remove_all(&mut self, inode: InodeId, session: SessionId) -> Closed {
        let Some(FileOpens {
            by_session: opens, ..
        }) = self.0.get_mut(&inode)
        else {
            return Closed::default();
        };
        let Some(at) = opens.iter().position(|open| open.session == session) else {
            return Closed::default();
        };
        let was_writing = opens.swap_remove(at).writers > 0;
        let closed = Closed {
            by_session: true,
            by_last_writer: was_writing && opens.iter().all(|open| open.writers == 0),
            was_writing,
        };
        if opens.is_empty() {
            self.0.remove(&inode);
        }
        closed
    }

    /// Whether anyone has it open.
    pub(crate) fn is_open(&self, inode: InodeId) -> bool {
        self.0.contains_key(&inode)
    }

    /// Whether anyone has it open for writing.
    pub(crate) fn is_written(&self, inode: InodeId) -> bool {
        self.of(inode).iter().any(|open| open.writers > 0)
    }

    /// Whether two or more sessions have it open, one of them for writing.
    pub(crate) fn is_shared(&self, inode: InodeId) -> bool {
        let opens = self.of(inode);
        opens.len() > 1 && opens.iter().any(|open| open.writers > 0)
    }

    /// Whether a session other than `session` has it open for writing.
    pub(crate) fn is_written_elsewhere(&self, inode: InodeId, session: SessionId) -> bool {
        let mut opens = self.of(inode).iter();
        opens.any(|open| open.session != session && open.writers > 0)
    }

    /// Sessions other than `session` that may hold data of it back.
    pub(crate) fn cached_elsewhere(
        &self,
        inode: InodeId,
        session: SessionId,
    ) -> impl Iterator<Item = SessionId> {
        let opens = self.of(inode).iter();
        opens
            .filter(move |open| open.session != session && open.mode == OpenMode::Cached)
            .map(|open| open.session)
    }

    /// The session may cache from now on; so many recalls were sent to it before.
    pub(crate) fn go_cached(&mut self, inode: InodeId, session: SessionId, recalls: u64) {
        if let Some(open) = self.of_session(inode, session) {
            open.mode = OpenMode::Cached;
            open.recalls = recalls;
        }
    }

    /// The session is told that it has to go through to the servers.
    pub(crate) fn go_through(&mut self, inode: InodeId, session: SessionId) {
        if let Some(open) = self.of_session(inode, session) {
            open.mode = OpenMode::Through;
        }
    }

    /// The session goes through, as its recall of number `recall` asked, unless it was told since
    /// that it may cache: then it heard of the recall before that.
    pub(crate) fn went_through(&mut self, inode: InodeId, session: SessionId, recall: u64) {
        if let Some(open) = self.of_session(inode, session)
            && open.recalls < recall
        {
            open.mode = OpenMode::Through;
        }
    }

    /// Sessions other than `session` that may be changing its blocks.
    pub(crate) fn changing_elsewhere(
        &self,
        inode: InodeId,
        session: SessionId,
    ) -> impl Iterator<Item = SessionId> {
        let opens = self.of(inode).iter();
        opens
            .filter(move |open| open.session != session && open.writers > 0 && !open.paused)
            .map(|open| open.session)
    }

    /// Whether the session may change no blocks of it for now.
    pub(crate) fn is_paused(&self, inode: InodeId, session: SessionId) -> bool {
        let mut opens = self.of(inode).iter();
        opens.any(|open| open.session == session && open.paused)
    }

    /// The session may change blocks from now on; so many recalls were sent to it before.
    pub(crate) fn resume(&mut self, inode: InodeId, session: SessionId, recalls: u64) {
        if let Some(open) = self.of_session(inode, session) {
            open.paused = false;
            open.resumed = recalls;
        }
    }

    /// The session changes no blocks, as its recall of number `recall` asked, unless it was told
    /// since that it may.
    pub(crate) fn pause(&mut self, inode: InodeId, session: SessionId, recall: u64) {
        if let Some(open) = self.of_session(inode, session)
            && open.resumed < recall
        {
            open.paused = true;
        }
    }

    /// The file's size was set: what is read of it at this time may be from before or after.
    pub(crate) fn count_cut(&mut self, inode: InodeId) {
        if let Some(opens) = self.0.get_mut(&inode) {
            opens.cuts += 1;
        }
    }

    /// How often the file's size was set while it was open.
    pub(crate) fn cuts(&self, inode: InodeId) -> u64 {
        self.0.get(&inode).map_or(0, |opens| opens.cuts)
    }

    fn of_session(&mut self, inode: InodeId, session: SessionId) -> Option<&mut SessionOpen> {
        let mut opens = self.0.get_mut(&inode)?.by_session.iter_mut();
        opens.find(|open| open.session == session)
    }

    fn of(&self, inode: InodeId) -> &[SessionOpen] {
        let opens = self.0.get(&inode);
        opens.map_or(&[], |opens| opens.by_session.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: InodeId = InodeId(5);
    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);

    #[test]
    fn shared_means_two_sessions_and_a_writer() {
        let mut opens = Opens::default();
        opens.add(FILE, ONE, true);
        opens.add(FILE, ONE, false);
        assert!(!opens.is_shared(FILE));
        opens.add(FILE, TWO, false);
        assert!(opens.is_shared(FILE));
        assert!(opens.is_written_elsewhere(FILE, TWO));
        assert!(!opens.is_written_elsewhere(FILE, ONE));
        opens.remove(FILE, ONE, true);
        assert!(!opens.is_shared(FILE));
    }

    #[test]
    fn late_acknowledgement_leaves_a_newer_open_cached() {
        let mut opens = Opens::default();
        opens.add(FILE, ONE, false);
        opens.go_cached(FILE, ONE, 7);
        opens.went_through(FILE, ONE, 7);
        assert_eq!(opens.cached_elsewhere(FILE, TWO).count(), 1);
        opens.went_through(FILE, ONE, 8);
        assert_eq!(opens.cached_elsewhere(FILE, TWO).count(), 0);
    }

    #[test]
    fn writers_elsewhere_are_paused_until_they_are_told_to_go_on() {
        let mut opens = Opens::default();
        opens.add(FILE, ONE, true);
        opens.add(FILE, TWO, false);
        let changing = |opens: &Opens, except| opens.changing_elsewhere(FILE, except).count();
        assert_eq!(changing(&opens, ONE), 0, "a reader changes nothing");
        assert_eq!(changing(&opens, TWO), 1);
        opens.pause(FILE, ONE, 3);
        assert_eq!(changing(&opens, TWO), 0);
        opens.resume(FILE, ONE, 3);
        opens.pause(FILE, ONE, 3);
        assert_eq!(changing(&opens, TWO), 1, "it was told so after that recall");
        opens.pause(FILE, ONE, 4);
        assert_eq!(changing(&opens, TWO), 0);
    }

    #[test]
    fn closing_tells_what_it_ended() {
        let mut opens = Opens::default();
        assert!(opens.add(FILE, ONE, true));
        assert!(!opens.add(FILE, ONE, false));
        assert_eq!(opens.remove(FILE, TWO, true), Closed::default());
        let closed = opens.remove(FILE, ONE, true);
        assert!(closed.by_last_writer && !closed.by_session);
        assert_eq!(opens.remove(FILE, ONE, true), Closed::default());
        assert!(opens.is_open(FILE));
        let closed = opens.remove(FILE, ONE, false);
        assert!(!closed.by_last_writer && closed.by_session);
        assert!(!opens.is_open(FILE));
    }

    #[test]
    fn lost_session_takes_all_its_opens_with_it() {
        let mut opens = Opens::default();
        opens.add(FILE, ONE, true);
        opens.add(FILE, ONE, true);
        opens.add(FILE, TWO, false);
        let closed = opens.remove_all(FILE, ONE);
        assert!(closed.by_last_writer && closed.was_writing);
        assert!(opens.is_open(FILE));
        assert!(!opens.remove_all(FILE, TWO).was_writing);
        assert!(!opens.is_open(FILE));
    }
}
