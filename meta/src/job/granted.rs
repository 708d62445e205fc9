//! Telling mounts of the locks that they waited for.

use std::collections::BTreeMap;

use pocket_proto::SessionId;
use pocket_proto::session::Recall;
use tokio::time::Instant;

use super::JobState;

impl JobState {
    /// Tells those who were granted what they waited for: to be called behind whatever may have
    /// made room. They hear of it over any number of connections, as of every recall.
    pub(crate) fn tell_granted(&mut self) {
        let tickets = self.locks.take_granted();
        if tickets.is_empty() {
            return;
        }
        let mut by_session: BTreeMap<SessionId, Vec<u64>> = BTreeMap::new();
        for ticket in tickets {
            by_session
                .entry(ticket.session)
                .or_default()
                .push(ticket.number);
        }
        let now = Instant::now();
        for (session, granted) in by_session {
            let recall = Recall {
                granted,
                ..Recall::default()
            };
            if let Some(session) = self.sessions.get_mut(&session) {
                // Nobody waits for the acknowledgement, but it is asked for until it comes.
                drop(session.recall(recall, now));
            }
        }
    }
}
