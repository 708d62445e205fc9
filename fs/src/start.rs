//! Starting work without waking anybody for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

/// Polls `operation` once right here. Most requests to a server leave with that poll, and an
/// operation that needs none ends with it. What is still pending becomes a task of `runtime` when
/// what it waits for has come, started by whoever brought that: until then no thread is woken for
/// it.
pub fn start(runtime: &Handle, operation: impl Future<Output = ()> + Send + 'static) {
    let _runtime = runtime.enter();
    let mut operation: Operation = Box::pin(operation);
    let parked = Arc::new(Parked {
        runtime: runtime.clone(),
        state: Mutex::new(State::Starting),
    });
    let waker = Waker::from(Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    if operation.as_mut().poll(&mut context).is_pending() {
        parked.park(operation);
    }
}

type Operation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An operation between its first poll and its life as a task.
struct Parked {
    runtime: Handle,
    state: Mutex<State>,
}

enum State {
    /// Being polled for the first time.
    Starting,
    /// Woken during that poll.
    Woken,
    /// Waits.
    Waiting(Operation),
    /// A task by now, or at its end.
    Gone,
}

impl Parked {
    fn park(&self, operation: Operation) {
        let mut state = self.state.lock();
        if let State::Woken = *state {
            *state = State::Gone;
            drop(state);
            self.runtime.spawn(operation);
        } else {
            *state = State::Waiting(operation);
        }
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Waiting(operation) => {
                drop(state);
                self.runtime.spawn(operation);
            }
            State::Starting | State::Woken => *state = State::Woken,
            State::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[test]
    fn operation_that_waits_for_nothing_ends_on_the_spot() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (done, mut outcome) = oneshot::channel();
        start(runtime.handle(), async move { done.send(1).unwrap() });
        assert_eq!(outcome.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn operation_goes_on_whenever_it_is_woken() {
        let (begin, begun) = oneshot::channel::<()>();
        let (done, outcome) = oneshot::channel();
        let again = Arc::new(Notify::new());
        let waits = Arc::clone(&again);
        start(&Handle::current(), async move {
            begun.await.unwrap();
            waits.notified().await;
            done.send(2).unwrap();
        });
        begin.send(()).unwrap();
        again.notify_one();
        assert_eq!(outcome.await, Ok(2));
    }

    #[tokio::test]
    async fn operation_woken_during_its_first_poll_goes_on() {
        let (done, outcome) = oneshot::channel();
        start(&Handle::current(), async move {
            let mut polled = false;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                match std::mem::replace(&mut polled, true) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            })
            .await;
            done.send(3).unwrap();
        });
        assert_eq!(outcome.await, Ok(3));
    }

    #[tokio::test]
    async fn operation_whose_peer_goes_away_hears_of_it() {
        let (peer, answer) = oneshot::channel::<()>();
        let (done, outcome) = oneshot::channel();
        start(&Handle::current(), async move {
            done.send(answer.await.is_err()).unwrap();
        });
        drop(peer);
        assert_eq!(outcome.await, Ok(true));
    }
}
