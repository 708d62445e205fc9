//! Whether operations can have taken effect one after the other, each between its call and its
//! return (Herlihy and Wing 1990), by the search of Wing and Gong (1993) with Lowe's memory of
//! states seen (2017).

use std::{collections::HashSet, fmt::Debug, hash::Hash};

use super::Event;

/// What operations do, one after the other.
pub trait Model {
    /// What there is between two operations.
    type State: Clone + Eq + Hash;
    /// An operation and what came of it.
    type Operation: Clone + Debug;

    /// What there may be after the operation; nothing if something else must have come of it. If what
    /// came of it is not known: nothing if it does nothing.
    fn apply(state: &Self::State, operation: &Self::Operation) -> Vec<Self::State>;

    /// The operation without what came of it; `None` for one that changes nothing in any case.
    fn unknown(operation: &Self::Operation) -> Option<Self::Operation>;
}

/// Events of a history that is searched at once.
const EVENTS_MAX: usize = 128;

/// Looks for an order. Where there is none, returns the part of the history that shows it, as
/// short as may be.
pub fn check<M: Model>(
    initial: &M::State,
    events: &[Event<M::Operation>],
) -> Result<(), Vec<Event<M::Operation>>> {
    if is_linearizable::<M>(initial, events) {
        return Ok(());
    }
    let mut returns: Vec<u64> = events.iter().filter_map(|event| event.ret).collect();
    returns.sort_unstable();
    let prefixes = returns.into_iter().map(|end| prefix::<M>(events, end));
    let mut shown = prefixes
        .into_iter()
        .find(|events| !is_linearizable::<M>(initial, events))
        .unwrap_or_else(|| events.to_vec());
    // What changes nothing can be left out.
    for at in (0..shown.len()).rev() {
        if M::unknown(&shown[at].operation).is_none() {
            let mut fewer = shown.clone();
            fewer.remove(at);
            if !is_linearizable::<M>(initial, &fewer) {
                shown = fewer;
            }
        }
    }
    Err(shown)
}

/// What had happened by then: what had not returned may have been done or not.
fn prefix<M: Model>(events: &[Event<M::Operation>], end: u64) -> Vec<Event<M::Operation>> {
    let begun = events.iter().filter(|event| event.call <= end);
    let cut = begun.filter_map(|event| match event.ret {
        Some(ret) if ret <= end => Some(event.clone()),
        _ => Some(Event {
            ret: None,
            operation: M::unknown(&event.operation)?,
            ..event.clone()
        }),
    });
    cut.collect()
}

fn is_linearizable<M: Model>(initial: &M::State, events: &[Event<M::Operation>]) -> bool {
    assert!(
        events.len() <= EVENTS_MAX,
        "{} events at once",
        events.len()
    );
    let mut search = Search::<M> {
        events,
        seen: HashSet::new(),
    };
    search.go_on(0, initial)
}

struct Search<'a, M: Model> {
    events: &'a [Event<M::Operation>],
    /// What was done, and what was there then.
    seen: HashSet<(u128, M::State)>,
}

impl<M: Model> Search<'_, M> {
    fn go_on(&mut self, done: u128, state: &M::State) -> bool {
        let events = self.events;
        let left = || (0..events.len()).filter(move |at| done & (1 << at) == 0);
        let Some(horizon) = left().filter_map(|at| events[at].ret).min() else {
            return true;
        };
        for at in left().filter(|&at| events[at].call <= horizon) {
            for next in M::apply(state, &events[at].operation) {
                let done = done | (1 << at);
                if self.seen.insert((done, next.clone())) && self.go_on(done, &next) {
                    return true;
                }
            }
        }
        false
    }
}
