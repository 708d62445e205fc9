//! SIGINT and SIGTERM during a benchmark: remembered, so that the run ends at its next step and cleans up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that was ended by SIGINT, as shells report it.
const EXIT_INTERRUPTED: i32 = 130;

/// Whether the user has asked to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over both signals for the rest of the process. A second one ends the process at once.
    pub(super) fn watch() -> anyhow::Result<Self> {
        let interrupt = Interrupt::default();
        let asked = Arc::clone(&interrupt.asked);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot listen for signals")?;
        let listener = move || {
            runtime.block_on(async {
                let streams = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                );
                let (Ok(mut interrupts), Ok(mut terminations)) = streams else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupts.recv() => {}
                        _ = terminations.recv() => {}
                    }
                    if asked.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_INTERRUPTED);
                    }
                    eprintln!("interrupted: cleaning up; once more to leave at once");
                }
            });
        };
        std::thread::Builder::new()
            .name("bench-signals".into())
            .spawn(listener)
            .context("cannot listen for signals")?;
        Ok(interrupt)
    }

    /// Fails once the user has asked to stop.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.asked.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}
