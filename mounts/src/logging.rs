//! The log of a process: lines on standard error, whose level a signal can change.
//!
//! `-v` sets the level at the start, `POCKET_LOG` gives directives of tracing-subscriber
//! (`pocket_fs=trace,info`) instead, and SIGUSR2 moves to the next level while running.

use std::{
    convert::Infallible,
    env,
    io::{self, IsTerminal},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Context;
use tracing::{info, warn};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::signals::LevelRequests;

/// Environment variable with directives.
const VARIABLE: &str = "POCKET_LOG";
/// What SIGUSR2 goes through, and `-v` counts along.
const LEVELS: [&str; 4] = ["warn", "info", "debug", "trace"];
/// Libraries that have nothing to say to whoever debugs Pocket, and say much.
const QUIET: &str =
    "h2=warn,hyper=warn,hyper_util=warn,tower=warn,tonic=warn,kube_client=off,kube_runtime=off";

/// How much is logged when nobody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// What a person must look at.
    Warnings,
    /// And what servers do.
    Information,
}

/// The log of this process.
#[derive(Debug)]
pub struct Log {
    level: AtomicUsize,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts the log, once per process; `more` is how often `-v` was given.
    pub fn start(usual: Verbosity, more: u8) -> anyhow::Result<Log> {
        let usual = match usual {
            Verbosity::Warnings => 0,
            Verbosity::Information => 1,
        };
        let level = (usual + usize::from(more)).min(LEVELS.len() - 1);
        let filter = match env::var(VARIABLE) {
            Ok(directives) => EnvFilter::try_new(&directives)
                .with_context(|| format!("{VARIABLE}='{directives}' cannot be understood"))?,
            Err(_) => filter(level),
        };
        let (filter, handle) = reload::Layer::new(filter);
        let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(colours);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()
            .context("cannot start the log")?;
        Ok(Log {
            level: AtomicUsize::new(level),
            filter: handle,
        })
    }

    /// Moves to the next level with each request, for ever.
    pub async fn cycle_on(&self, requests: &mut LevelRequests) -> Infallible {
        loop {
            requests.received().await;
            self.cycle();
        }
    }

    fn cycle(&self) {
        let next = next_level(self.level.load(Ordering::Relaxed));
        // Said on both sides of the change: one of them lets it through.
        info!("the log level becomes {}", LEVELS[next]);
        if let Err(error) = self.filter.reload(filter(next)) {
            warn!("cannot change the log level: {error}");
            return;
        }
        self.level.store(next, Ordering::Relaxed);
        info!("the log level is {}", LEVELS[next]);
    }
}

fn next_level(level: usize) -> usize {
    (level + 1) % LEVELS.len()
}

fn filter(level: usize) -> EnvFilter {
    let level = LEVELS[level.min(LEVELS.len() - 1)];
    // At the last level the libraries speak too.
    let directives = match level {
        "trace" => level.to_owned(),
        _ => format!("{level},{QUIET}"),
    };
    EnvFilter::try_new(directives).expect("directives of constants are sound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_come_round() {
        let mut seen = vec![0];
        for _ in 0..LEVELS.len() {
            seen.push(next_level(seen[seen.len() - 1]));
        }
        assert_eq!(seen, [0, 1, 2, 3, 0]);
    }

    #[test]
    fn every_level_makes_a_filter() {
        for level in 0..10 {
            assert!(filter(level).max_level_hint().is_some());
        }
    }
}
