//! Registrations that wait for room: each has a place, a reason, and a key by which its client comes
//! back to it. A client asks again and again, so that one that goes away gives its place up.

use std::time::{Duration, Instant};

use pocket_policy::{self as policy, Demand, JobTerms, Ticket, Wanted};
use pocket_proto::{
    Failure, JobId, Status,
    control::{StorageClass, register_job_reply::Queued},
};
use tracing::info;

use super::{Cluster, registration::RegisterStep};

/// A place is kept for so long after its client was answered.
const PLACE_KEPT: Duration = Duration::from_secs(10);

/// A registration in the queue.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// By which its client comes back; drawn at random, so that nobody takes another one's place.
    key: u64,
    pub(super) name: String,
    pub(super) demand: Demand,
    persist: bool,
    pub(super) since: Instant,
    /// Calls of its client that are under way.
    calls: u32,
    /// When the last of them was answered.
    answered: Instant,
}

impl Waiting {
    /// Bytes that it asks for, as far as that is known.
    pub(super) fn asks_bytes(&self) -> u64 {
        match self.demand.capacity_bytes {
            Wanted::Exactly(bytes) | Wanted::Expected(bytes) => bytes,
            // It takes what there is.
            Wanted::UpTo(_) => 0,
        }
    }
}

impl Cluster {
    /// The place that an earlier call of the client was told, if it still has it. To be given to
    /// [`Cluster::keep_place`] or to [`Cluster::leave_queue`] in the end.
    pub(crate) fn resume(&mut self, key: u64, name: &str) -> Option<Ticket> {
        let ticket = *self.places.get(&key)?;
        let waiting = self.waiting.get_mut(&ticket)?;
        if waiting.name != name {
            return None;
        }
        waiting.calls += 1;
        Some(ticket)
    }

    /// The client is answered and will ask again; what it is told. `None` if it does not wait.
    pub(crate) fn keep_place(&mut self, ticket: Ticket, now: Instant) -> Option<Queued> {
        let waiting = self.waiting.get_mut(&ticket)?;
        waiting.calls = waiting.calls.saturating_sub(1);
        waiting.answered = now;
        Some(Queued {
            ticket: waiting.key,
            sentence: self.queue.sentence(ticket)?,
        })
    }

    /// A registration has come to its end, one way or another. Idempotent.
    pub(crate) fn leave_queue(&mut self, ticket: Ticket) {
        self.queue.leave(ticket);
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.places.remove(&waiting.key);
            // The next one may go.
            self.changed = true;
        }
    }

    /// Places whose clients do not ask any more are given up.
    pub(super) fn lapse_places(&mut self, now: Instant) {
        let silent = |waiting: &Waiting| {
            waiting.calls == 0 && now.saturating_duration_since(waiting.answered) >= PLACE_KEPT
        };
        let lapsed = self.waiting.iter().filter(|(_, waiting)| silent(waiting));
        let lapsed: Vec<_> = lapsed.map(|(ticket, _)| *ticket).collect();
        for ticket in lapsed {
            if let Some(waiting) = self.waiting.get(&ticket) {
                info!(
                    name = waiting.name,
                    "whoever waited to register the job has gone"
                );
            }
            self.leave_queue(ticket);
        }
    }

    /// Since when it has waited; `None` for who does not.
    pub(super) fn waits_since(&self, ticket: Option<Ticket>) -> Option<Instant> {
        Some(self.waiting.get(&ticket?)?.since)
    }

    /// Takes or keeps a place in the queue; the failure tells it, with the reason.
    pub(super) fn wait_in_turn(
        &mut self,
        failure: Failure,
        terms: &JobTerms,
        ticket: &mut Option<Ticket>,
        now: Instant,
    ) -> RegisterStep {
        let Failure { status, message } = failure;
        if ticket.is_none() {
            let class = self.class_of_newcomer(terms.persist);
            *ticket = self.queue.join(class, message.clone());
        }
        let Some(ticket) = *ticket else {
            let message = format!("{message}; and too many jobs wait for room already");
            return RegisterStep::Refused(Failure::new(Status::LimitReached, message));
        };
        if !self.waiting.contains_key(&ticket) {
            let past = self.history.forecast(&terms.profile);
            let waiting = Waiting {
                key: JobId::random().0,
                name: terms.name.clone(),
                demand: policy::demand(&terms.hints, &self.catalogue, past.as_ref()),
                persist: terms.persist,
                since: now,
                calls: 1,
                answered: now,
            };
            self.places.insert(waiting.key, ticket);
            self.waiting.insert(ticket, waiting);
            self.decisions.queued += 1;
        }
        self.queue.explain(ticket, message.clone());
        let message = self.queue.sentence(ticket).unwrap_or(message);
        RegisterStep::Wait(Failure::new(status, message), None)
    }

    /// Those who wait to register a job that persists, in their order.
    pub(super) fn waiting_to_persist(&self) -> Vec<Ticket> {
        let persistent = self.waiting.iter().filter(|(_, waiting)| waiting.persist);
        persistent.map(|(ticket, _)| *ticket).collect()
    }

    /// Those who wait for regular servers, in their order.
    pub(super) fn waiting_for_regular(&self) -> impl Iterator<Item = &Waiting> {
        let apart = self.has_long_running();
        let waiting = self.waiting.values();
        waiting.filter(move |waiting| !(apart && waiting.persist))
    }

    /// Who waits for room and may have found some, or has it as another registered the same job: the
    /// first for servers of each class where `changed` says that anything has happened.
    pub(crate) fn take_woken(&mut self, changed: bool) -> Vec<Ticket> {
        let classes = [StorageClass::Regular, StorageClass::LongRunning];
        let mut woken: Vec<_> = match changed {
            true => classes
                .iter()
                .filter_map(|class| self.queue.first(*class))
                .collect(),
            false => Vec::new(),
        };
        let registered = std::mem::take(&mut self.registered);
        if !registered.is_empty() {
            let joins = self
                .waiting
                .iter()
                .filter(|(_, waiting)| registered.contains(&waiting.name));
            woken.extend(joins.map(|(ticket, _)| *ticket));
        }
        woken
    }
}
