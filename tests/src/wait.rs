//! Waiting on conditions: the only place of the suites that lets time pass.
//!
//! A test never sleeps for "long enough"; it names what it waits for and how long that may take.

use std::time::{Duration, Instant};

/// How often a condition is looked at. Short beside what the suites wait for, long beside what a
/// look costs (a stat, a connect).
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with `what` if that takes longer than `deadline`.
/// Returns how long it took.
#[track_caller]
pub fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let some = || condition().then_some(());
    let begun = Instant::now();
    if try_until(deadline, some).is_none() {
        panic!("waited {deadline:?} in vain for: {what}");
    }
    begun.elapsed()
}

/// Waits until `look` sees something; `None` if that takes longer than `deadline`.
pub fn try_until<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
}

/// Runs `work` on a thread of its own and panics with `what` if it has not ended by `deadline`.
/// This is how "nothing hangs" is claimed of a call that may block in the kernel: the thread is
/// left behind then, and the test fails.
#[track_caller]
pub fn within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    match receiver.recv_timeout(deadline) {
        Ok(result) => result,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
            panic!("not done within {deadline:?}: {what}")
        }
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a worker sends before it ends"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_holds_is_not_waited_for() {
        let long = Duration::from_secs(3600);
        assert!(until(long, "nothing", || true) < Duration::from_secs(5));
        assert_eq!(try_until(Duration::ZERO, || None::<()>), None);
    }

    #[test]
    #[should_panic(expected = "not done within")]
    fn work_that_hangs_fails_the_test() {
        let (_open, forever) = std::sync::mpsc::channel::<()>();
        let _ = within(Duration::from_millis(1), "a hang", move || forever.recv());
    }

    #[test]
    #[should_panic(expected = "the worker's own words")]
    fn a_panic_of_the_work_is_the_tests_panic() {
        within(Duration::from_secs(60), "a panic", || {
            panic!("the worker's own words")
        })
    }
}
