//! The queue of jobs that wait for room where the cluster cannot grow: first come, first served,
//! with a place and a reason for everyone.
//!
//! Strictly in order: a small job that would fit does not overtake a large one, or the large one
//! would never get its turn.

use std::collections::VecDeque;

/// Registrations that may wait; more are refused at once.
const WAITING_MAX: usize = 10_000;

/// The right to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Who waits, in order.
#[derive(Clone, Debug, Default)]
pub struct AdmissionQueue {
    waiting: VecDeque<Waiting>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    ticket: Ticket,
    reason: String,
}

impl AdmissionQueue {
    /// A place at the end, with what is missing; `None` if too many wait already.
    pub fn join(&mut self, reason: impl Into<String>) -> Option<Ticket> {
        if self.waiting.len() >= WAITING_MAX {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let reason = reason.into();
        self.waiting.push_back(Waiting { ticket, reason });
        Some(ticket)
    }

    /// Gives a place up: admitted, cancelled or tired of waiting. Idempotent.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Ok(at) = self.find(ticket) {
            self.waiting.remove(at);
        }
    }

    /// Whether nobody is before it: it may take what there is. A newcomer, who has no ticket, may
    /// if nobody waits.
    pub fn may_go(&self, ticket: Option<Ticket>) -> bool {
        match ticket {
            Some(ticket) => self.place(ticket) == Some(1),
            None => self.waiting.is_empty(),
        }
    }

    /// 1 for the next to be admitted.
    pub fn place(&self, ticket: Ticket) -> Option<usize> {
        self.find(ticket).ok().map(|at| at + 1)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Another reason than before.
    pub fn explain(&mut self, ticket: Ticket, reason: impl Into<String>) {
        if let Ok(at) = self.find(ticket) {
            self.waiting[at].reason = reason.into();
        }
    }

    /// "place 2 of 5 in the queue: needs 4GiB, 1GiB are free"; `None` if it does not wait.
    pub fn sentence(&self, ticket: Ticket) -> Option<String> {
        let at = self.find(ticket).ok()?;
        let (place, all, reason) = (at + 1, self.waiting.len(), &self.waiting[at].reason);
        Some(format!("place {place} of {all} in the queue: {reason}"))
    }

    /// Those of all, in order.
    pub fn sentences(&self) -> Vec<String> {
        let tickets = self.waiting.iter().map(|waiting| waiting.ticket);
        tickets.filter_map(|ticket| self.sentence(ticket)).collect()
    }

    /// Tickets grow, so the queue is sorted by them.
    fn find(&self, ticket: Ticket) -> Result<usize, usize> {
        self.waiting
            .binary_search_by_key(&ticket, |waiting| waiting.ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order_and_move_up() {
        let mut queue = AdmissionQueue::default();
        assert!(queue.may_go(None) && queue.is_empty());
        let [a, b, c] = ["a", "b", "c"].map(|why| queue.join(why).expect("room"));
        assert_eq!(
            [a, b, c].map(|t| queue.place(t)),
            [Some(1), Some(2), Some(3)]
        );
        assert!(queue.may_go(Some(a)) && !queue.may_go(Some(b)) && !queue.may_go(None));
        queue.leave(b);
        queue.leave(b);
        assert_eq!([a, b, c].map(|t| queue.place(t)), [Some(1), None, Some(2)]);
        assert_eq!((queue.len(), queue.is_empty()), (2, false));
        assert_eq!(
            queue.sentences(),
            [
                "place 1 of 2 in the queue: a",
                "place 2 of 2 in the queue: c"
            ]
        );
        queue.explain(c, "needs 4GiB");
        let sentence = queue.sentence(c).expect("waits");
        assert_eq!(sentence, "place 2 of 2 in the queue: needs 4GiB");
        queue.leave(a);
        assert!(queue.may_go(Some(c)) && !queue.may_go(Some(a)));
        assert_eq!((queue.len(), queue.sentence(a)), (1, None));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = AdmissionQueue::default();
        let first = queue.join("").expect("room");
        for _ in 1..WAITING_MAX {
            queue.join("").expect("room");
        }
        assert_eq!(queue.join(""), None);
        queue.leave(first);
        assert!(queue.join("").is_some());
    }
}
