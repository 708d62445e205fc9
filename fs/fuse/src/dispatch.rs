//! Running operations on behalf of the threads that read the kernel's requests.

use std::future::Future;

use tokio::runtime::{EnterGuard, Handle};

/// Starts operations where the kernel's requests are read.
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

    /// Runs an operation: on the spot while it needs nothing from elsewhere, as a task from then.
    pub(crate) fn run(&self, operation: impl Future<Output = ()> + Send + 'static) {
        pocket_fs::start(&self.runtime, operation);
    }
}
