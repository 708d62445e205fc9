//! The signals that a serving process knows. To be listened to before anybody can think that the
//! process serves: until then they do what they do to any process, and end it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// All of them, each to be waited for on its own.
#[derive(Debug)]
pub struct Signals {
    /// The process is to end.
    pub end: EndSignals,
    /// The log is to change its level.
    pub level: LevelRequests,
    /// Ignored: a daemon has no terminal to lose, and a server must survive the end of a login.
    _hang_up: Signal,
}

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

/// SIGUSR2.
#[derive(Debug)]
pub struct LevelRequests(Signal);

impl Signals {
    /// Starts to listen. Must be called within a runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            end: EndSignals {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            },
            level: LevelRequests(signal(SignalKind::user_defined2())?),
            _hang_up: signal(SignalKind::hangup())?,
        })
    }
}

impl EndSignals {
    /// Waits for one of them, and names it.
    pub async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl LevelRequests {
    /// Waits for the next one.
    pub async fn received(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime ends, and no more will ever come.
            std::future::pending().await
        }
    }
}
