//! A mount's session as its job sees it: what it holds, and what it was told and asked.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use pocket_proto::session::Recall;
use pocket_proto::{Failure, InodeId, SessionId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::leases::Grantee;
use crate::limits::{REPLIES_BYTES_MAX, REPLIES_KEPT};

/// What a request comes to: a reply's body, or why not.
pub(crate) type Answer = Result<Bytes, Failure>;

/// The way to a mount, for what it did not ask for.
pub(crate) trait RecallSink: Send + Sync {
    /// Sends a recall, in order with others; must not block. A recall that gets lost is sent
    /// again when the session is resumed.
    fn push(&self, recall: &Recall);

    /// Ends the connection.
    fn close(&self);
}

/// A session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// Where the mount is, for people.
    pub(crate) host: String,
    /// The connection in use, and its number: those before it are heard no more.
    sink: Option<Box<dyn RecallSink>>,
    pub(crate) line: u64,
    /// When it last gave a sign of life.
    pub(crate) heard: Instant,
    /// Bytes that it may still write.
    pub(crate) granted_bytes: u64,
    /// What it has open.
    pub(crate) opens: HashSet<InodeId>,
    /// Directories that it has to itself.
    pub(crate) directories: HashSet<InodeId>,
    /// Inode numbers that it may still use, in this order.
    pub(crate) inodes: VecDeque<Range<u64>>,
    /// Number of the last one-way message that was heard.
    pub(crate) told: u64,
    pub(crate) replies: Replies,
    /// It is over, and ends as soon as no storage server takes changes of it any more. Nothing is
    /// heard from it.
    pub(crate) is_fenced: bool,
    recalls: u64,
    pending: BTreeMap<u64, PendingRecall>,
}

/// A recall that is to be acknowledged.
pub(crate) struct PendingRecall {
    pub(crate) recall: Recall,
    pub(crate) sent: Instant,
    /// Whom to tell.
    pub(crate) waiter: oneshot::Sender<()>,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        host: String,
        sink: Box<dyn RecallSink>,
        now: Instant,
    ) -> Self {
        Session {
            id,
            host,
            sink: Some(sink),
            line: 1,
            heard: now,
            granted_bytes: 0,
            opens: HashSet::new(),
            directories: HashSet::new(),
            inodes: VecDeque::new(),
            told: 0,
            replies: Replies::default(),
            is_fenced: false,
            recalls: 0,
            pending: BTreeMap::new(),
        }
    }

    /// As whom leases are given to it.
    pub(crate) fn grantee(&self) -> Grantee {
        Grantee {
            session: self.id,
            recalls: self.recalls,
            regardless: false,
        }
    }

    /// Goes on over another connection. What it has not acknowledged is asked again there.
    pub(crate) fn resume(&mut self, sink: Box<dyn RecallSink>, now: Instant) {
        if let Some(old) = self.sink.take() {
            old.close();
        }
        self.line += 1;
        self.heard = now;
        for pending in self.pending.values() {
            sink.push(&pending.recall);
        }
        self.sink = Some(sink);
    }

    /// What it has left unsaid or unanswered for so long, until now, is not held against it.
    pub(crate) fn excuse(&mut self, silence: Duration, now: Instant) {
        let later = |then: Instant| then.max(now.min(then + silence));
        self.heard = later(self.heard);
        for pending in self.pending.values_mut() {
            pending.sent = later(pending.sent);
        }
    }

    /// The connection of number `line` has ended.
    pub(crate) fn disconnect(&mut self, line: u64) {
        if self.line == line {
            self.sink = None;
        }
    }

    /// Closes the connection, if there is one.
    pub(crate) fn hang_up(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.close();
        }
    }

    /// Leaves the connection to be closed by the mount.
    pub(crate) fn leave(&mut self) {
        self.sink = None;
    }

    /// Takes the next of the inode numbers granted. Grants before it never reached the mount:
    /// answers how many numbers of theirs nobody will use. None if it is not the next of any grant.
    pub(crate) fn use_inode(&mut self, inode: InodeId) -> Option<u64> {
        let at = self
            .inodes
            .iter()
            .position(|range| range.start == inode.0)?;
        let lost = self.inodes.drain(..at);
        let lost = lost.map(|range| range.end - range.start).sum();
        let first = self.inodes.front_mut()?;
        first.start += 1;
        if first.is_empty() {
            self.inodes.pop_front();
        }
        Some(lost)
    }

    /// Inode numbers granted and not used yet.
    pub(crate) fn unused_inodes(&self) -> u64 {
        self.inodes
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Sends a recall. What is returned completes when it was acknowledged, or the session ended.
    pub(crate) fn recall(&mut self, mut recall: Recall, now: Instant) -> oneshot::Receiver<()> {
        self.recalls += 1;
        recall.recall = self.recalls;
        if let Some(sink) = &self.sink {
            sink.push(&recall);
        }
        let (waiter, acknowledged) = oneshot::channel();
        let pending = PendingRecall {
            recall,
            sent: now,
            waiter,
        };
        self.pending.insert(self.recalls, pending);
        acknowledged
    }

    /// Takes an acknowledgement: returns what was recalled, unless that was acknowledged before.
    pub(crate) fn acknowledge(&mut self, recall: u64) -> Option<PendingRecall> {
        self.pending.remove(&recall)
    }

    /// Recalls not acknowledged yet, and when the oldest of them was sent.
    pub(crate) fn pending_recalls(&self) -> (usize, Option<Instant>) {
        let oldest = self.pending.values().next();
        (self.pending.len(), oldest.map(|pending| pending.sent))
    }

    /// Whether it is being asked to pause its changes of this file.
    pub(crate) fn is_asked_to_pause(&self, inode: InodeId) -> bool {
        let mut pending = self.pending.values();
        pending.any(|pending| pending.recall.paused.contains(&inode.0))
    }

    /// Whether it is being told to go through to the servers for this file.
    pub(crate) fn is_recalled_through(&self, inode: InodeId) -> bool {
        let mut pending = self.pending.values();
        pending.any(|pending| pending.recall.through.contains(&inode.0))
    }
}

/// Answers to a session's last mutations, for those that are asked again.
#[derive(Default)]
pub(crate) struct Replies {
    by_sequence: HashMap<u64, Kept>,
    answered: VecDeque<u64>,
    bytes: usize,
}

enum Kept {
    /// Being worked on; others wait for the same answer.
    UnderWay(Vec<oneshot::Sender<Answer>>),
    Answered(Answer),
}

/// What is known of a mutation that comes in.
pub(crate) enum Repeated {
    /// Nothing: it is new.
    No,
    /// Its answer.
    Answered(Answer),
    /// It is worked on; the answer comes here.
    UnderWay(oneshot::Receiver<Answer>),
}

impl Replies {
    /// Looks up a mutation by its number.
    pub(crate) fn find(&mut self, sequence: u64) -> Repeated {
        match self.by_sequence.get_mut(&sequence) {
            None => Repeated::No,
            Some(Kept::Answered(answer)) => Repeated::Answered(answer.clone()),
            Some(Kept::UnderWay(waiters)) => {
                let (waiter, answer) = oneshot::channel();
                waiters.push(waiter);
                Repeated::UnderWay(answer)
            }
        }
    }

    /// Notes that a mutation takes longer.
    pub(crate) fn begin(&mut self, sequence: u64) {
        self.by_sequence
            .insert(sequence, Kept::UnderWay(Vec::new()));
    }

    /// Keeps an answer, and forgets the oldest one if there are too many.
    pub(crate) fn keep(&mut self, sequence: u64, answer: &Answer) {
        let before = self
            .by_sequence
            .insert(sequence, Kept::Answered(answer.clone()));
        if let Some(Kept::UnderWay(waiters)) = before {
            for waiter in waiters {
                // One that asked again and then went away needs no answer.
                let _ = waiter.send(answer.clone());
            }
        }
        self.answered.push_back(sequence);
        self.bytes += length(answer);
        while self.answered.len() > REPLIES_KEPT || self.bytes > REPLIES_BYTES_MAX {
            let Some(oldest) = self.answered.pop_front() else {
                return;
            };
            if let Some(Kept::Answered(answer)) = self.by_sequence.remove(&oldest) {
                self.bytes -= length(&answer);
            }
        }
    }
}

fn length(answer: &Answer) -> usize {
    match answer {
        Ok(reply) => reply.len(),
        Err(failure) => failure.message.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_the_last_mutations_only() {
        let mut replies = Replies::default();
        for sequence in 1..=REPLIES_KEPT as u64 + 1 {
            replies.keep(sequence, &Ok(Bytes::new()));
        }
        assert!(matches!(replies.find(1), Repeated::No));
        assert!(matches!(replies.find(2), Repeated::Answered(Ok(_))));
        assert_eq!(replies.by_sequence.len(), REPLIES_KEPT);
    }

    #[test]
    fn long_answers_are_kept_while_there_is_room() {
        let mut replies = Replies::default();
        let long = Ok(Bytes::from(vec![0; REPLIES_BYTES_MAX / 4]));
        for sequence in 1..=5 {
            replies.keep(sequence, &long);
        }
        assert!(matches!(replies.find(1), Repeated::No));
        assert!(matches!(replies.find(2), Repeated::Answered(Ok(_))));
        assert_eq!(replies.bytes, REPLIES_BYTES_MAX);
    }

    #[test]
    fn mutation_asked_again_while_under_way_gets_the_one_answer() {
        let mut replies = Replies::default();
        replies.begin(1);
        let Repeated::UnderWay(mut waiting) = replies.find(1) else {
            panic!("not known to be under way");
        };
        replies.keep(1, &Ok(Bytes::from_static(b"x")));
        assert_eq!(waiting.try_recv(), Ok(Ok(Bytes::from_static(b"x"))));
    }
}
