//! Calls that wait for their replies.
//!
//! A slot per call, found by the reply's id without hashing. A call given up by its caller keeps
//! its slot until the reply or the deadline, because the request has gone out.

use parking_lot::Mutex;
use pocket_proto::{Failure, Status};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use crate::ReplyFrame;

/// Calls in flight on one connection at most; further ones wait for their turn.
pub(crate) const CALLS_MAX: usize = 4096;

pub(crate) type Outcome = Result<ReplyFrame, Failure>;

/// The table of a connection's calls.
pub(crate) struct Pending {
    slots: Mutex<Slots>,
    room: Semaphore,
    /// A call came that ends before the watchdog would look.
    sooner: Notify,
}

struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    next_watch: Instant,
    end: Option<Failure>,
}

struct Slot {
    /// Grows at each use, so that a late reply meets nobody else's call.
    generation: u32,
    call: Option<Call>,
}

struct Call {
    made: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Outcome>,
}

/// A call's place in the table. Dropped before [`Ticket::sent`], it is as if it never was.
pub(crate) struct Ticket<'a> {
    pending: &'a Pending,
    id: u64,
    sent: bool,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Pending {
            slots: Mutex::new(Slots {
                slots: Vec::new(),
                free: Vec::new(),
                next_watch: Instant::now(),
                end: None,
            }),
            room: Semaphore::new(CALLS_MAX),
            sooner: Notify::new(),
        }
    }

    /// Waits for a free slot and takes it. Does not wait unless [`CALLS_MAX`] are in flight.
    pub(crate) async fn admit(
        &self,
        made: Instant,
        deadline: Instant,
    ) -> Result<(Ticket<'_>, oneshot::Receiver<Outcome>), Failure> {
        let permit = match self.room.try_acquire() {
            Ok(permit) => permit,
            Err(_) => timeout_at(deadline, self.room.acquire())
                .await
                .map_err(|_| {
                    Failure::new(
                        Status::Unavailable,
                        format!("{CALLS_MAX} requests are waiting for their replies already"),
                    )
                })?
                .expect("the semaphore is never closed"),
        };
        let (reply, receiver) = oneshot::channel();
        let id = self.slots.lock().insert(
            Call {
                made,
                deadline,
                reply,
            },
            &self.sooner,
        )?;
        // Given back when the slot is emptied.
        permit.forget();
        let ticket = Ticket {
            pending: self,
            id,
            sent: false,
        };
        Ok((ticket, receiver))
    }

    /// Completes the call `id`; false if there is none, or no longer.
    pub(crate) fn complete(&self, id: u64, outcome: Outcome) -> bool {
        let call = self.slots.lock().remove(id);
        let Some(call) = call else {
            return false;
        };
        self.room.add_permits(1);
        // The caller may have gone; then nobody misses the reply.
        let _ = call.reply.send(outcome);
        true
    }

    /// Fails all calls, those in the table and those to come.
    pub(crate) fn fail_all(&self, failure: &Failure) {
        let calls: Vec<Call> = {
            let mut slots = self.slots.lock();
            slots.end.get_or_insert_with(|| failure.clone());
            slots.take_all()
        };
        self.room.add_permits(calls.len());
        for call in calls {
            let _ = call.reply.send(Err(failure.clone()));
        }
    }

    /// Looks at the calls in flight, for a watchdog that looks again at `next` (moved forward to
    /// the earliest deadline) or when [`Pending::sooner`] says so.
    pub(crate) fn look(&self, next: Instant) -> Look {
        let mut slots = self.slots.lock();
        let (mut earliest, mut oldest) = (next, None);
        for call in slots.slots.iter().filter_map(|slot| slot.call.as_ref()) {
            earliest = earliest.min(call.deadline);
            oldest = Some(oldest.map_or(call.made, |oldest: Instant| oldest.min(call.made)));
        }
        slots.next_watch = earliest;
        Look {
            next: earliest,
            oldest,
        }
    }

    /// Ends when a call came that is due before the watchdog looks again.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }
}

/// What a watchdog sees.
pub(crate) struct Look {
    /// When to look again; past, if some call is overdue.
    pub(crate) next: Instant,
    /// When the oldest call in flight was made.
    pub(crate) oldest: Option<Instant>,
}

impl Slots {
    fn insert(&mut self, call: Call, sooner: &Notify) -> Result<u64, Failure> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        if call.deadline < self.next_watch {
            self.next_watch = call.deadline;
            sooner.notify_one();
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                call: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.call = Some(call);
        // Never 0, which is the id of frames without a reply.
        Ok(u64::from(slot.generation) << 32 | u64::from(index + 1))
    }

    fn remove(&mut self, id: u64) -> Option<Call> {
        let index = (id as u32).checked_sub(1)?;
        let slot = self.slots.get_mut(index as usize)?;
        if u64::from(slot.generation) != id >> 32 {
            return None;
        }
        let call = slot.call.take()?;
        self.free.push(index);
        Some(call)
    }

    fn take_all(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(call) = slot.call.take() {
                self.free.push(index as u32);
                calls.push(call);
            }
        }
        calls
    }
}

impl Ticket<'_> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The request has gone out: its slot now waits for the reply.
    pub(crate) fn sent(mut self) {
        self.sent = true;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.sent && self.pending.slots.lock().remove(self.id).is_some() {
            self.pending.room.add_permits(1);
        }
    }
}
