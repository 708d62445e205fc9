//! The queue of jobs that wait for room where the cluster cannot grow: first come, first served,
//! with a place and a reason for everyone.
//!
//! Strictly in order: a small job that would fit does not overtake a large one, or the large one
//! would never get its turn. Only those that wait for servers of another class are not in the way.

use std::collections::VecDeque;

use pocket_proto::control::StorageClass;

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
    /// The servers it waits for.
    class: StorageClass,
    reason: String,
}

impl AdmissionQueue {
    /// A place at the end of those who wait for servers of this class, with what is missing; `None` if
    /// too many wait already.
    pub fn join(&mut self, class: StorageClass, reason: impl Into<String>) -> Option<Ticket> {
        if self.waiting.len() >= WAITING_MAX {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let reason = reason.into();
        self.waiting.push_back(Waiting {
            ticket,
            class,
            reason,
        });
        Some(ticket)
    }

    /// Gives a place up: admitted, cancelled or tired of waiting. Idempotent.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Ok(at) = self.find(ticket) {
            self.waiting.remove(at);
        }
    }

    /// It waits for servers of another class from now on, at the place that its ticket gives it.
    pub fn wait_for(&mut self, ticket: Ticket, class: StorageClass) {
        if let Ok(at) = self.find(ticket) {
            self.waiting[at].class = class;
        }
    }

    /// Whether nobody who waits for servers of this class is before it: it may take what there is. A
    /// newcomer, who has no ticket, may if nobody waits for them.
    pub fn may_go(&self, class: StorageClass, ticket: Option<Ticket>) -> bool {
        self.first(class) == ticket
    }

    /// Who is the next to be admitted to servers of this class.
    pub fn first(&self, class: StorageClass) -> Option<Ticket> {
        let mut of_class = self.waiting.iter().filter(|waiting| waiting.class == class);
        of_class.next().map(|waiting| waiting.ticket)
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
        let waiting = &self.waiting[at];
        let before = self.waiting.range(..=at);
        let place = before.filter(|other| other.class == waiting.class).count();
        Some(waiting.sentence(place, self.waiting_for(waiting.class)))
    }

    /// Those of all, in order.
    pub fn sentences(&self) -> Vec<String> {
        let classes = [StorageClass::Regular, StorageClass::LongRunning];
        let all = classes.map(|class| self.waiting_for(class));
        let mut places = [0; 2];
        let sentence = |waiting: &Waiting| {
            let class = usize::from(waiting.class == classes[1]);
            places[class] += 1;
            waiting.sentence(places[class], all[class])
        };
        self.waiting.iter().map(sentence).collect()
    }

    fn waiting_for(&self, class: StorageClass) -> usize {
        let of_class = self.waiting.iter().filter(|waiting| waiting.class == class);
        of_class.count()
    }

    /// Tickets grow, so the queue is sorted by them.
    fn find(&self, ticket: Ticket) -> Result<usize, usize> {
        self.waiting
            .binary_search_by_key(&ticket, |waiting| waiting.ticket)
    }
}

impl Waiting {
    fn sentence(&self, place: usize, all: usize) -> String {
        let servers = match self.class {
            StorageClass::Regular => "",
            StorageClass::LongRunning => " for long-running servers",
        };
        format!(
            "place {place} of {all} in the queue{servers}: {}",
            self.reason
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGULAR: StorageClass = StorageClass::Regular;
    const LONG_RUNNING: StorageClass = StorageClass::LongRunning;

    #[test]
    fn places_are_in_order_and_move_up() {
        let mut queue = AdmissionQueue::default();
        assert!(queue.may_go(REGULAR, None) && queue.is_empty());
        let [a, b, c] = ["a", "b", "c"].map(|why| queue.join(REGULAR, why).expect("room"));
        assert!(queue.may_go(REGULAR, Some(a)));
        assert!(!queue.may_go(REGULAR, Some(b)) && !queue.may_go(REGULAR, None));
        queue.leave(b);
        queue.leave(b);
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
        assert!(queue.may_go(REGULAR, Some(c)) && !queue.may_go(REGULAR, Some(a)));
        assert_eq!((queue.len(), queue.sentence(a)), (1, None));
    }

    #[test]
    fn who_waits_for_servers_of_one_class_is_not_in_the_way_of_others() {
        let mut queue = AdmissionQueue::default();
        let [a, c] = ["a", "c"].map(|why| queue.join(LONG_RUNNING, why).expect("room"));
        assert!(queue.may_go(REGULAR, None) && !queue.may_go(LONG_RUNNING, None));
        let b = queue.join(REGULAR, "b").expect("room");
        assert_eq!(queue.first(LONG_RUNNING), Some(a));
        assert_eq!(queue.first(REGULAR), Some(b));
        let sentences = [
            "place 1 of 2 in the queue for long-running servers: a",
            "place 2 of 2 in the queue for long-running servers: c",
            "place 1 of 1 in the queue: b",
        ];
        assert_eq!(queue.sentences(), sentences);
        assert_eq!(
            [a, c, b].map(|t| queue.sentence(t).unwrap_or_default()),
            sentences
        );
        // Who came first is first wherever it comes to wait.
        queue.wait_for(a, REGULAR);
        assert_eq!(
            (queue.first(REGULAR), queue.first(LONG_RUNNING)),
            (Some(a), Some(c))
        );
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = AdmissionQueue::default();
        let first = queue.join(REGULAR, "").expect("room");
        for _ in 1..WAITING_MAX {
            queue.join(REGULAR, "").expect("room");
        }
        assert_eq!(queue.join(REGULAR, ""), None);
        queue.leave(first);
        assert!(queue.join(REGULAR, "").is_some());
    }
}
