//! When an operation of an engine is done: now, or when its medium answers.

use std::{future::Future, pin::Pin};

/// The outcome of an operation, at hand or awaited. An engine in memory never makes its callers
/// wait, and pays nothing for those that must.
pub enum Completion<T> {
    /// It is done.
    Now(T),
    /// It was begun, and goes on whether or not this is polled; done when this is ready.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T: Send + 'static> Completion<T> {
    /// Boxes a future as the outcome.
    pub fn later(outcome: impl Future<Output = T> + Send + 'static) -> Self {
        Completion::Later(Box::pin(outcome))
    }

    /// Waits for the outcome.
    pub async fn finished(self) -> T {
        match self {
            Completion::Now(outcome) => outcome,
            Completion::Later(outcome) => outcome.await,
        }
    }
}
