//! INTERRUPT: requests that may be answered before their operation has ended.
//!
//! The kernel sends an INTERRUPT, once per request, when the waiting thread gets a signal, any
//! signal. Who waits for a lock is to be told of it. Who waits for data is not, as with any local
//! file: a program that handles the signal must not see a read fail. It only must not be kept from
//! dying; so the thread is looked at, now and then if need be, until it is dying or has its answer.
//!
//! Requests whose first poll brings their answer are never entered here. Those that must run to
//! their end (whatever changes something) are not either.
//!
//! An INTERRUPT can be read by one thread before another has entered its request. It is kept for a
//! while then, and the request finds it when it is entered. The protocol also knows the answer
//! EAGAIN, by which the kernel sends it once more; that is not used: with several descriptors the
//! answer would have to be written to the one that the request was read from, which is not known,
//! and for a request that runs to its end the kernel would ask again and again, without a pause.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::dying;

const SHARDS: usize = 16;
/// Interrupts of requests not known, per shard: more cannot come in the moment that it takes to
/// enter a request that was read. Older ones were for requests that have been answered.
const EARLY_MAX: usize = 16;
/// How often an interrupted thread is looked at that was not dying. The kernel tells of no second
/// signal.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Only a signal that the thread dies of.
    Killed,
    /// Any signal: for requests that may wait for long, as for a lock.
    Signalled,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Interrupts {
    shards: [Mutex<Shard>; SHARDS],
    /// Where threads are watched.
    runtime: Handle,
}

#[derive(Debug, Default)]
struct Shard {
    waiting: HashMap<u64, Waiting>,
    early: VecDeque<u64>,
}

#[derive(Debug)]
struct Waiting {
    thread: u32,
    until: Until,
    waker: Waker,
    interrupted: bool,
}

impl Interrupts {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Interrupts {
            shards: Default::default(),
            runtime,
        })
    }

    fn shard(&self, unique: u64) -> &Mutex<Shard> {
        // Requests have even numbers.
        &self.shards[(unique / 2) as usize % SHARDS]
    }

    /// What resolves when the wait for a request is to end. It is entered when it is first polled.
    pub(crate) fn watch(self: &Arc<Self>, unique: u64, thread: u32, until: Until) -> Interrupted {
        Interrupted {
            table: Arc::clone(self),
            unique,
            thread,
            until,
            entered: false,
        }
    }

    /// An INTERRUPT for the request `unique` has come.
    pub(crate) fn deliver(self: &Arc<Self>, unique: u64) {
        let mut shard = self.shard(unique).lock();
        match shard.waiting.get(&unique) {
            Some(waiting) => {
                let (thread, until) = (waiting.thread, waiting.until);
                drop(shard);
                self.act(unique, thread, until);
            }
            None => {
                if shard.early.len() == EARLY_MAX {
                    shard.early.pop_front();
                }
                shard.early.push_back(unique);
            }
        }
    }

    fn act(self: &Arc<Self>, unique: u64, thread: u32, until: Until) {
        match until {
            Until::Signalled => self.interrupt(unique),
            Until::Killed => {
                let table = Arc::clone(self);
                self.runtime
                    .spawn(async move { table.look_after(unique, thread).await });
            }
        }
    }

    /// Interrupts the request when its thread is dying. Ends with the request.
    async fn look_after(&self, unique: u64, thread: u32) {
        while self.is_waiting(unique) {
            if dying::is_dying(thread) {
                return self.interrupt(unique);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn is_waiting(&self, unique: u64) -> bool {
        self.shard(unique).lock().waiting.contains_key(&unique)
    }

    fn interrupt(&self, unique: u64) {
        let mut shard = self.shard(unique).lock();
        if let Some(waiting) = shard.waiting.get_mut(&unique) {
            waiting.interrupted = true;
            let waker = waiting.waker.clone();
            drop(shard);
            waker.wake();
        }
    }
}

/// See [`Interrupts::watch`].
#[derive(Debug)]
pub(crate) struct Interrupted {
    table: Arc<Interrupts>,
    unique: u64,
    thread: u32,
    until: Until,
    entered: bool,
}

impl Interrupted {
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let mut shard = self.table.shard(self.unique).lock();
        if let Some(waiting) = shard.waiting.get_mut(&self.unique) {
            waiting.waker.clone_from(context.waker());
            return match waiting.interrupted {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        let waiting = Waiting {
            thread: self.thread,
            until: self.until,
            waker: context.waker().clone(),
            interrupted: false,
        };
        shard.waiting.insert(self.unique, waiting);
        self.entered = true;
        let early = shard.early.iter().position(|&early| early == self.unique);
        if let Some(at) = early {
            shard.early.remove(at);
            drop(shard);
            self.table.act(self.unique, self.thread, self.until);
        }
        Poll::Pending
    }
}

impl Drop for Interrupted {
    fn drop(&mut self) {
        if self.entered {
            self.table
                .shard(self.unique)
                .lock()
                .waiting
                .remove(&self.unique);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const UNIQUE: u64 = 42;

    fn table() -> Arc<Interrupts> {
        Interrupts::new(Handle::current())
    }

    fn sleeper() -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    async fn wait(interrupted: &mut Interrupted) {
        poll_fn(|context| interrupted.poll(context)).await;
    }

    fn poll(interrupted: &mut Interrupted) -> Poll<()> {
        interrupted.poll(&Context::from_waker(Waker::noop()))
    }

    fn is_empty(table: &Interrupts) -> bool {
        let mut shards = table.shards.iter();
        shards.all(|shard| shard.lock().waiting.is_empty())
    }

    #[tokio::test]
    async fn who_waits_for_a_lock_hears_of_any_signal() {
        let table = table();
        let mut interrupted = table.watch(UNIQUE, std::process::id(), Until::Signalled);
        assert!(poll(&mut interrupted).is_pending());
        table.deliver(UNIQUE);
        wait(&mut interrupted).await;
        drop(interrupted);
        assert!(is_empty(&table));
    }

    #[tokio::test]
    async fn an_interrupt_that_comes_before_its_request_is_kept() {
        let table = table();
        table.deliver(UNIQUE);
        let mut interrupted = table.watch(UNIQUE, std::process::id(), Until::Signalled);
        wait(&mut interrupted).await;
    }

    #[tokio::test]
    async fn interrupts_of_unknown_requests_are_bounded() {
        let table = table();
        for unique in 0..10_000 {
            table.deliver(unique * 2);
        }
        let kept: usize = table
            .shards
            .iter()
            .map(|shard| shard.lock().early.len())
            .sum();
        assert_eq!(kept, SHARDS * EARLY_MAX);
    }

    #[tokio::test]
    async fn a_thread_that_lives_keeps_waiting_for_its_data() {
        let table = table();
        let mut child = sleeper();
        let mut interrupted = table.watch(UNIQUE, child.id(), Until::Killed);
        assert!(poll(&mut interrupted).is_pending());
        table.deliver(UNIQUE);
        let long = 3 * LOOK_INTERVAL;
        let waited = tokio::time::timeout(long, wait(&mut interrupted)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(waited.is_err());
    }

    #[test]
    fn what_nobody_interrupts_leaves_nothing_behind() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let table = Interrupts::new(runtime.handle().clone());
        let mut interrupted = table.watch(UNIQUE, 1, Until::Killed);
        assert!(is_empty(&table));
        assert!(poll(&mut interrupted).is_pending());
        assert!(!is_empty(&table));
        drop(interrupted);
        assert!(is_empty(&table));
    }
}
