//! A way to the server on which a test sees what passes, holds it up, or loses it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pocket_meta::LocalMetadata;
use pocket_meta_client::{Answered, Metadata, SessionInfo};
use pocket_proto::session::request;
use pocket_proto::{Failure, Status};
use tokio::sync::Semaphore;

pub(crate) type Op = request::Operation;

/// Which operations are meant.
type Fits = fn(&Op) -> bool;
/// Those that fit wait for permits.
type Held = Mutex<Option<(Fits, Arc<Semaphore>)>>;
/// Done once, with the first operation that fits; whether that goes on.
type Once<T> = Mutex<Option<(Fits, T)>>;
type Hook = Box<dyn FnOnce() -> bool + Send>;

/// The test's hands on the way.
#[derive(Default)]
pub(crate) struct Tap {
    calls: Mutex<Vec<Op>>,
    tells: Mutex<Vec<Op>>,
    out_of_touch: AtomicBool,
    told: Once<Hook>,
    answered: Once<Hook>,
    held: Held,
    answers_held: Held,
    unsettled: AtomicBool,
    recalls: AtomicUsize,
}

impl Tap {
    /// Does `hook` once, before a message that fits is told; if it answers false, that is lost.
    pub(crate) fn on_tell(&self, fits: Fits, hook: impl FnOnce() -> bool + Send + 'static) {
        *self.told.lock().unwrap() = Some((fits, Box::new(hook)));
    }

    /// Does `hook` once, behind a call that fits; if it answers false, the answer is lost.
    pub(crate) fn on_answer(&self, fits: Fits, hook: impl FnOnce() -> bool + Send + 'static) {
        *self.answered.lock().unwrap() = Some((fits, Box::new(hook)));
    }

    /// Calls that fit wait until the answer has permits for them.
    pub(crate) fn hold(&self, fits: Fits) -> Arc<Semaphore> {
        hold(&self.held, fits)
    }

    /// Answers to calls that fit wait until the answer to this has permits for them.
    pub(crate) fn hold_answers(&self, fits: Fits) -> Arc<Semaphore> {
        hold(&self.answers_held, fits)
    }

    /// How many calls fitted, since the last [`Tap::forget`].
    pub(crate) fn count(&self, fits: Fits) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|op| fits(op))
            .count()
    }

    /// How many messages that were told fitted, since the last [`Tap::forget`].
    pub(crate) fn count_told(&self, fits: Fits) -> usize {
        let tells = self.tells.lock().unwrap();
        tells.iter().filter(|op| fits(op)).count()
    }

    /// From now on nobody knows whether the server keeps the session.
    pub(crate) fn lose_touch(&self) {
        self.out_of_touch.store(true, Ordering::Relaxed);
    }

    /// How many recalls were acknowledged.
    pub(crate) fn recalls(&self) -> usize {
        self.recalls.load(Ordering::Relaxed)
    }

    /// Counts from here.
    pub(crate) fn forget(&self) {
        self.calls.lock().unwrap().clear();
        self.tells.lock().unwrap().clear();
    }
}

fn hold(held: &Held, fits: Fits) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    *held.lock().unwrap() = Some((fits, Arc::clone(&gate)));
    gate
}

fn gate(held: &Held, operation: &Op) -> Option<Arc<Semaphore>> {
    let held = held.lock().unwrap();
    let (_, gate) = held.as_ref().filter(|(fits, _)| fits(operation))?;
    Some(Arc::clone(gate))
}

fn take<T>(once: &Once<T>, operation: &Op) -> Option<T> {
    let mut once = once.lock().unwrap();
    let fits = once.as_ref().is_some_and(|(fits, _)| fits(operation));
    once.take_if(|_| fits).map(|(_, hook)| hook)
}

/// A session with a tap on it.
pub(crate) struct Tapped {
    pub(crate) inner: LocalMetadata,
    pub(crate) tap: Arc<Tap>,
}

#[async_trait]
impl Metadata for Tapped {
    async fn call(&self, operation: Op) -> Result<Answered, Failure> {
        let tap = &self.tap;
        tap.calls.lock().unwrap().push(operation.clone());
        let hook = take(&tap.answered, &operation);
        if let Some(gate) = gate(&tap.held, &operation) {
            gate.acquire().await.unwrap().forget();
        }
        let late = gate(&tap.answers_held, &operation);
        let answer = self.inner.call(operation).await;
        if let Some(gate) = late {
            gate.acquire().await.unwrap().forget();
        }
        if hook.is_some_and(|hook| !hook()) {
            return Err(Failure::new(Status::Unavailable, "the answer is lost"));
        }
        tap.unsettled.store(false, Ordering::Relaxed);
        answer
    }

    fn tell(&self, operation: Op) -> Result<(), Failure> {
        self.tap.unsettled.store(true, Ordering::Relaxed);
        self.tap.tells.lock().unwrap().push(operation.clone());
        if let Op::RecallDone(_) = operation {
            self.tap.recalls.fetch_add(1, Ordering::Relaxed);
        }
        if take(&self.tap.told, &operation).is_some_and(|hook| !hook()) {
            return Ok(());
        }
        self.inner.tell(operation)
    }

    fn in_touch_for(&self) -> Duration {
        match self.tap.out_of_touch.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => self.inner.in_touch_for(),
        }
    }

    fn is_settled(&self) -> bool {
        !self.tap.unsettled.load(Ordering::Relaxed)
    }

    fn newest_epoch(&self) -> u32 {
        self.inner.newest_epoch()
    }

    fn session(&self) -> SessionInfo {
        self.inner.session()
    }
}
