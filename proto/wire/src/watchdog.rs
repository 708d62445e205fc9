//! When a peer is given up.
//!
//! A call past its deadline ends the connection. So does silence, where the client limits it: a
//! peer that owes answers and moves no byte. Deadlines of bulk transfers can then be generous, for
//! a peer that is slow because many ask it at once is not dead.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::pending::Pending;

/// The watchdog looks at least so often: silence is noticed so much later at most.
const WATCH_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// What moves on a connection.
#[derive(Default)]
pub(crate) struct Progress {
    bytes: AtomicU64,
    /// 0: not limited.
    silence_max_ms: AtomicU64,
}

impl Progress {
    /// Notes bytes received, or taken by the socket.
    pub(crate) fn note(&self, bytes: usize) {
        // A count that is compared with itself needs no order.
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn limit_silence(&self, silence_max: Duration) {
        let milliseconds = u64::try_from(silence_max.as_millis()).unwrap_or(u64::MAX);
        self.silence_max_ms
            .store(milliseconds.max(1), Ordering::Relaxed);
    }

    fn silence_max(&self) -> Option<Duration> {
        let milliseconds = self.silence_max_ms.load(Ordering::Relaxed);
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }
}

/// Ends when the peer must be given up, and says why.
pub(crate) async fn watch(pending: &Pending, progress: &Progress) -> &'static str {
    let mut seen_bytes = 0;
    let mut moved_at = Instant::now();
    loop {
        let now = Instant::now();
        let bytes = progress.bytes.load(Ordering::Relaxed);
        if bytes != seen_bytes {
            (seen_bytes, moved_at) = (bytes, now);
        }
        let look = pending.look(now + WATCH_INTERVAL_MAX);
        if look.next <= now {
            return "a request was not answered in time";
        }
        if let (Some(oldest), Some(silence_max)) = (look.oldest, progress.silence_max())
            && now.duration_since(moved_at.max(oldest)) >= silence_max
        {
            return "it is silent while requests wait";
        }
        tokio::select! {
            () = sleep_until(look.next) => {}
            () = pending.sooner() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SILENCE_MAX: Duration = Duration::from_secs(3);

    fn impatient() -> Progress {
        let progress = Progress::default();
        progress.limit_silence(SILENCE_MAX);
        progress
    }

    /// A call that waits for its reply for as long as the ticket is kept.
    async fn call(pending: &Pending, deadline: Duration) -> impl Sized {
        let made = Instant::now();
        pending.admit(made, made + deadline).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_may_be_silent() {
        let (pending, progress) = (Pending::new(), impatient());
        drop(call(&pending, HOUR).await);
        assert!(timeout(HOUR, watch(&pending, &progress)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_while_a_call_waits_ends_the_connection() {
        let (pending, progress) = (Pending::new(), impatient());
        // Silence before the call does not count.
        let start = Instant::now() + HOUR;
        let late_call = async {
            advance(HOUR).await;
            let _call = call(&pending, HOUR).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            why = watch(&pending, &progress) => assert!(why.contains("silent"), "{why}"),
            () = late_call => {}
        }
        let waited = start.elapsed();
        assert!(waited >= SILENCE_MAX, "{waited:?}");
        assert!(waited <= SILENCE_MAX + WATCH_INTERVAL_MAX, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_moves_is_waited_for_until_the_deadline() {
        let (pending, progress) = (Pending::new(), impatient());
        let start = Instant::now();
        let deadline = Duration::from_secs(60);
        let _call = call(&pending, deadline).await;
        let moving = async {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                progress.note(1);
            }
        };
        tokio::select! {
            why = watch(&pending, &progress) => assert!(why.contains("in time"), "{why}"),
            () = moving => {}
        }
        assert_eq!(start.elapsed(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn call_due_sooner_than_the_next_look_is_noticed_in_time() {
        let (pending, progress) = (Pending::new(), Progress::default());
        let start = Instant::now();
        let deadline = Duration::from_millis(7);
        let hurried = async {
            let _call = call(&pending, deadline).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            _ = watch(&pending, &progress) => {}
            () = hurried => {}
        }
        assert_eq!(start.elapsed(), deadline);
    }
}
