//! Running an operation: on the spot while it needs nothing from elsewhere, as a task from then.

use std::future::Future;
use std::task::{Context, Waker};

use tokio::runtime::{EnterGuard, Handle};

/// Starts operations on behalf of the threads that read the kernel's requests.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    runtime: Handle,
}

impl Dispatcher {
    pub(crate) fn new(runtime: Handle) -> Self {
        Dispatcher { runtime }
    }

    /// Lets the calling thread start tasks while the guard lives.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Polls `operation` once right here. Most requests to a server leave with that poll, and an
    /// operation that needs none ends with it. What is still pending goes on as a task, whose own
    /// first poll registers it with whatever it waits for.
    pub(crate) fn run(&self, operation: impl Future<Output = ()> + Send + 'static) {
        let _runtime = self.runtime.enter();
        let mut operation = Box::pin(operation);
        let mut context = Context::from_waker(Waker::noop());
        if operation.as_mut().poll(&mut context).is_pending() {
            self.runtime.spawn(operation);
        }
    }
}
