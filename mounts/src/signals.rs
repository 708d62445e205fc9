//! Signals that end a process in an orderly way, and one that must not.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM, from the moment of [`EndSignals::listen`] on. SIGHUP is ignored from then
/// on too: a daemon has no terminal to lose, and a server must survive the end of a login.
#[derive(Debug)]
pub(crate) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    _hang_up: Signal,
}

impl EndSignals {
    /// Starts to listen. Must be called within a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(EndSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them, and names it.
    pub(crate) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
