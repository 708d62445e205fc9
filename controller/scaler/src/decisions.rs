//! The latest decisions, for people.

use std::{collections::VecDeque, time::Instant};

use pocket_proto::control::pool_status;
use tracing::info;

/// Decisions remembered.
const DECISIONS_MAX: usize = 32;

/// What was decided lately.
#[derive(Debug, Default)]
pub(crate) struct Decisions(VecDeque<(Instant, Decision)>);

/// A decision to have another number of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) before: u32,
    pub(crate) after: u32,
    pub(crate) reason: String,
}

impl Decisions {
    pub(crate) fn note(&mut self, of: &str, decision: Decision, now: Instant) {
        let Decision {
            before,
            after,
            reason,
        } = &decision;
        info!(before, after, reason, "decided about {of}s");
        if self.0.len() >= DECISIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, decision));
    }

    pub(crate) fn show(&self, now: Instant) -> Vec<pool_status::Decision> {
        let shown = self.0.iter().map(|(at, decision)| pool_status::Decision {
            age_seconds: now.saturating_duration_since(*at).as_secs(),
            before: decision.before,
            after: decision.after,
            reason: decision.reason.clone(),
        });
        shown.collect()
    }
}
