//! Connections that take each other's place: what comes late on one of them changes nothing.
//!
//! A client that has lost a connection asks again on the next, and what it had asked before may still
//! lie in the socket of the first. Done late, it would undo what others have changed since. So a
//! connection is welcomed only when those of earlier turns change nothing any more.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use pocket_proto::{Failure, Status};

/// The lines of connections there are.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<u64, Weak<Line>>>);

/// Connections that follow each other.
#[derive(Default)]
struct Line {
    newest: AtomicU64,
    /// Held for reading while a change is made.
    changing: RwLock<()>,
}

/// A connection's place in its line.
pub(crate) struct Turn {
    line: Arc<Line>,
    number: u64,
}

impl Turns {
    /// The place of a connection that is being greeted. When this returns, no earlier one changes
    /// anything any more; waits for what one is changing just now.
    ///
    /// Errors: [`Status::Unavailable`] if it comes too late itself.
    pub(crate) async fn take(&self, line: u64, number: u64) -> Result<Turn, Failure> {
        let turn = Turn {
            line: self.line(line),
            number,
        };
        if turn.line.newest.fetch_max(number, Ordering::SeqCst) > number {
            return Err(superseded());
        }
        let line = Arc::clone(&turn.line);
        let waited = tokio::task::spawn_blocking(move || drop(line.changing.write()));
        match waited.await {
            Ok(()) => Ok(turn),
            Err(error) => Err(Failure::new(Status::Internal, error.to_string())),
        }
    }

    fn line(&self, number: u64) -> Arc<Line> {
        let mut lines = self.0.lock();
        if let Some(line) = lines.get(&number).and_then(Weak::upgrade) {
            return line;
        }
        if lines.len() == lines.capacity() {
            // A line is of use while one of its connections, or a change made for it, is left.
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::default();
        lines.insert(number, Arc::downgrade(&line));
        line
    }
}

impl Turn {
    /// Makes a change, unless a later connection has taken this one's place; that waits until it is
    /// made.
    pub(crate) fn admit<R>(
        &self,
        change: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        // Looked at first as well, so that the late wait for nobody.
        self.check()?;
        let _changing = self.line.changing.read();
        self.check()?;
        change()
    }

    fn check(&self) -> Result<(), Failure> {
        match self.line.newest.load(Ordering::SeqCst) > self.number {
            true => Err(superseded()),
            false => Ok(()),
        }
    }
}

fn superseded() -> Failure {
    Failure::new(
        Status::Unavailable,
        "another connection has taken the place of this one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: u64 = 7;

    #[tokio::test]
    async fn nothing_is_changed_on_a_connection_that_another_took_the_place_of() {
        let turns = Turns::default();
        let first = turns.take(LINE, 1).await.unwrap();
        let stranger = turns.take(LINE + 1, 1).await.unwrap();
        assert_eq!(first.admit(|| Ok(1)), Ok(1));
        let second = turns.take(LINE, 2).await.unwrap();
        let late = first.admit(|| -> Result<(), _> { panic!("it is too late") });
        assert_eq!(late.unwrap_err().status, Status::Unavailable);
        assert_eq!(second.admit(|| Ok(2)), Ok(2));
        assert_eq!(stranger.admit(|| Ok(3)), Ok(3));
        // A greeting that was under way for long.
        let late = turns.take(LINE, 1).await.map(drop);
        assert_eq!(late.unwrap_err().status, Status::Unavailable);
        assert_eq!(second.admit(|| Ok(4)), Ok(4));
    }

    #[tokio::test]
    async fn next_connection_waits_for_the_change_under_way() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(LINE, 1).await.unwrap();
        let (begun, in_change) = tokio::sync::oneshot::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let changing = tokio::task::spawn_blocking(move || {
            first.admit(|| {
                begun.send(()).unwrap();
                ends.recv().unwrap();
                Ok(())
            })
        });
        in_change.await.unwrap();
        let next = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(LINE, 2).await.map(drop) }
        });
        while turns.line(LINE).newest.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!next.is_finished());
        end.send(()).unwrap();
        assert_eq!(changing.await.unwrap(), Ok(()));
        assert_eq!(next.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn lines_that_nobody_is_in_are_forgotten() {
        let turns = Turns::default();
        let kept = turns.take(LINE, 5).await.unwrap();
        for line in 100..1000 {
            turns.take(line, 1).await.map(drop).unwrap();
        }
        assert!(turns.0.lock().len() < 100);
        let late = turns.take(LINE, 4).await.map(drop);
        assert!(late.is_err(), "a line that somebody is in");
        drop(kept);
    }
}
