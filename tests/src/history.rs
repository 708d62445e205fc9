//! Histories: what concurrent programs saw of one job, and whether a file system that keeps its
//! promises can have shown it to them.
//!
//! A history is a list of operations with the times of their calls and returns. Who was told an
//! error that says nothing of what was done (a server or a mount was stopped or killed meanwhile)
//! may have had its way, at any later time, or not. The judges are pure functions of a history:
//! [`linear`] searches for an order in which the operations took effect one after the other,
//! [`names`] and [`registers`] say what they do then, [`appends`] and [`locks`] look at what needs
//! no search. Each is itself tested with histories that it must refuse.

pub mod appends;
pub mod linear;
pub mod locks;
pub mod names;
pub mod registers;

use std::{sync::Mutex, time::Instant};

/// An operation as its caller saw it; times in nanoseconds since the history began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<O> {
    /// Who called, for people.
    pub client: usize,
    /// When it was called.
    pub call: u64,
    /// When it returned what `operation` says; `None`: whatever it does may be done at any time
    /// after the call, or never.
    pub ret: Option<u64>,
    /// What was called, and what came of it.
    pub operation: O,
}

/// Events of many threads, in no order.
#[derive(Debug)]
pub struct History<O> {
    begun: Instant,
    events: Mutex<Vec<Event<O>>>,
}

impl<O> History<O> {
    /// An empty history, which begins now.
    pub fn new() -> Self {
        History {
            begun: Instant::now(),
            events: Mutex::new(Vec::new()),
        }
    }

    /// The time of this history.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Adds an event.
    pub fn add(&self, event: Event<O>) {
        let mut events = self.events.lock().unwrap_or_else(|held| held.into_inner());
        events.push(event);
    }

    /// All events, in the order of their calls.
    pub fn into_events(self) -> Vec<Event<O>> {
        let events = self.events.into_inner();
        let mut events = events.unwrap_or_else(|held| held.into_inner());
        events.sort_by_key(|event| event.call);
        events
    }
}

impl<O> Default for History<O> {
    fn default() -> Self {
        Self::new()
    }
}

/// Events as lines, with times in microseconds after the first call.
pub fn print<O: std::fmt::Debug>(events: &[Event<O>]) -> String {
    let first = events.iter().map(|event| event.call).min().unwrap_or(0);
    let micros = |time: u64| format!("{:.1}", (time - first) as f64 / 1000.0);
    let line = |event: &Event<O>| {
        let end = event.ret.map_or_else(|| "?".to_owned(), micros);
        let begin = micros(event.call);
        format!(
            "{begin:>12} .. {end:>12}  client {}: {:?}\n",
            event.client, event.operation
        )
    };
    events.iter().map(line).collect()
}
