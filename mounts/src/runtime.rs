//! The asynchronous runtime of a command.

use std::{future::Future, thread};

use anyhow::Context;

/// A server answers while a thread computes: two at least.
const WORKERS_MIN: usize = 2;

/// Runs a future to its end on a runtime of its own. Work that still blocks then is left behind
/// rather than waited for.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let workers = thread::available_parallelism().map_or(WORKERS_MIN, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.max(WORKERS_MIN))
        .thread_name("pocket")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_background();
    outcome
}
