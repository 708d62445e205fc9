//! Waiting in the queue: a call of a client has its place, and is woken when its turn has come.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pocket_policy::Ticket;
use pocket_proto::{
    Failure,
    control::{RegisterJobRequest, register_job_reply::Queued},
};
use tokio::{sync::Notify, time::sleep_until};

use super::{Acting, REGISTER_PATIENCE, stopping};

/// A client that waits in the queue is told its place so often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A bell for every call that waits for room.
#[derive(Debug, Default)]
pub(super) struct Bells(Mutex<HashMap<Ticket, Arc<Notify>>>);

impl Bells {
    fn of(&self, ticket: Ticket) -> Arc<Notify> {
        Arc::clone(self.0.lock().entry(ticket).or_default())
    }

    /// The call has ended.
    fn forget(&self, ticket: Ticket) {
        self.0.lock().remove(&ticket);
    }

    /// Wakes these, or has them look again if they are just about to wait.
    pub(super) fn ring(&self, tickets: &[Ticket]) {
        if tickets.is_empty() {
            return;
        }
        let bells = self.0.lock();
        for bell in tickets.iter().filter_map(|ticket| bells.get(ticket)) {
            bell.notify_one();
        }
    }
}

/// A call's place in the queue: left when dropped, as when the client hangs up, unless the client was
/// told that it is kept.
pub(super) struct Place<'a> {
    acting: &'a Acting,
    pub(super) ticket: Option<Ticket>,
    /// The client asks again if it is told to.
    comes_back: bool,
    /// When it is told.
    told_at: Instant,
}

impl<'a> Place<'a> {
    /// The place that the client was told before, if any.
    pub(super) fn resume(acting: &'a Acting, request: &RegisterJobRequest) -> Self {
        let ticket = request
            .ticket
            .and_then(|key| acting.with(|cluster, _| cluster.resume(key, &request.name)));
        let patience = match request.ticket {
            Some(_) => TOLD_EVERY,
            None => REGISTER_PATIENCE,
        };
        Place {
            acting,
            ticket,
            comes_back: request.ticket.is_some(),
            told_at: Instant::now() + patience,
        }
    }

    /// Waits for its turn or for `until`, and says what the client is told when it has waited for long:
    /// `failure` if it does not come back.
    pub(super) async fn wait(
        &mut self,
        until: Option<Instant>,
        failure: Failure,
    ) -> Result<Option<Queued>, Failure> {
        let Some(ticket) = self.ticket else {
            return Err(failure);
        };
        if Instant::now() < self.told_at {
            let bell = self.acting.bells.of(ticket);
            let until = until.unwrap_or(self.told_at).min(self.told_at);
            tokio::select! {
                () = bell.notified() => {}
                () = sleep_until(until.into()) => {}
                () = self.acting.stop.cancelled() => return Err(stopping()),
            }
            return Ok(None);
        }
        if !self.comes_back {
            return Err(failure);
        }
        self.ticket = None;
        self.acting.bells.forget(ticket);
        Ok(self
            .acting
            .with(|cluster, now| cluster.keep_place(ticket, now)))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.acting.bells.forget(ticket);
            self.acting.with(|cluster, _| cluster.leave_queue(ticket));
        }
    }
}
