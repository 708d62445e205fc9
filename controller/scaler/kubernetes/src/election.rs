//! Of several scalers, one acts: the holder of a Lease (`coordination.k8s.io`).
//!
//! The holder renews the lease; others take it when its record has not changed for as long as it
//! says, by their own clocks, so that clocks need not agree. The holder believes itself for two
//! thirds of that time, counted from before it asked for the renewal, by a clock that goes on while
//! the machine sleeps: one that was paused finds that it leads no more before it does anything. Each
//! change of the lease names the version that was read (409 if another was faster).

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Error, api::PostParams, core::ObjectMeta};
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    answer::{CONFLICT, code, words},
    backoff::jitter,
};

/// Most time that giving the lease back may take at the end.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);

/// Settings of an election.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The name of the Lease.
    pub name: String,
    /// This scaler, as no other and no earlier one is called.
    pub holder: String,
    /// A lease that is not renewed is anybody's after this time; in whole seconds, 1 at least.
    pub duration: Duration,
}

/// Whether this scaler leads.
#[derive(Clone)]
pub(crate) struct Leadership {
    /// Until when on the clock of [`now`].
    until: Arc<Mutex<Option<Duration>>>,
}

impl Leadership {
    pub(crate) fn none() -> Self {
        Leadership {
            until: Arc::default(),
        }
    }

    /// How long this scaler may act from now on.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let left = (*self.until.lock())?.checked_sub(now())?;
        (!left.is_zero()).then_some(left)
    }
}

/// Time since the machine started, sleep included.
fn now() -> Duration {
    let clock = clock_gettime(ClockId::CLOCK_BOOTTIME);
    // Any Linux since 2.6.39 has it; without it nobody leads.
    clock.map_or(Duration::MAX, Duration::from)
}

/// Takes part in the election.
pub(crate) struct Election {
    api: Api<Lease>,
    settings: LeaseSettings,
    leadership: Leadership,
    /// Told when leadership begins.
    changed: watch::Sender<()>,
    seen: Option<Seen>,
}

/// Another's lease as it was last found, and since when it has been so.
struct Seen {
    spec: LeaseSpec,
    since: Duration,
}

impl Election {
    pub(crate) fn new(
        api: Api<Lease>,
        settings: LeaseSettings,
        leadership: Leadership,
        changed: watch::Sender<()>,
    ) -> Self {
        Election {
            api,
            settings,
            leadership,
            changed,
            seen: None,
        }
    }

    /// Tries to lead and to go on leading until `stop`, and then gives the lease back.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.round()).await.is_some() {}
        let led = self.leadership.until.lock().take().is_some();
        if led {
            // Whoever waits for the lease waits a little longer then.
            match timeout(RELEASE_DEADLINE, self.release()).await {
                Ok(Ok(())) => info!("another may lead"),
                Ok(Err(error)) => debug!("the lease is not given back: {}", words(&error)),
                Err(_) => debug!("the lease is not given back in time"),
            }
        }
    }

    async fn round(&mut self) {
        let led = self.leadership.time_left().is_some();
        // One that does not answer must not keep the next try from being made in time.
        let patience = self.settings.duration / 3;
        let asked = now();
        match timeout(patience, self.hold()).await {
            Ok(Ok(true)) => {
                let until = asked.saturating_add(self.settings.duration * 2 / 3);
                *self.leadership.until.lock() = Some(until);
                if !led {
                    info!(holder = self.settings.holder, "leading");
                    self.changed.send_replace(());
                }
            }
            Ok(Ok(false)) => {
                if self.leadership.until.lock().take().is_some() {
                    warn!("leading no more: another scaler holds the lease");
                }
            }
            Ok(Err(error)) if code(&error) == Some(CONFLICT) => {
                debug!("another was faster to change the lease");
            }
            Ok(Err(error)) => warn!("the lease cannot be had now: {}", words(&error)),
            Err(_) => warn!("the lease cannot be had now: no answer within {patience:?}"),
        }
        sleep(jitter(self.settings.duration / 7)).await;
    }

    /// Takes or renews the lease; whether it is held now.
    async fn hold(&mut self) -> Result<bool, Error> {
        let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
            let mut lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.settings.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: None,
            };
            lease.spec = Some(self.record(None));
            self.api.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_take(&spec) {
            return Ok(false);
        }
        let renewed = Lease {
            metadata: lease.metadata,
            spec: Some(self.record(Some(spec))),
        };
        let name = &self.settings.name;
        self.api
            .replace(name, &PostParams::default(), &renewed)
            .await?;
        self.seen = None;
        Ok(true)
    }

    fn may_take(&mut self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.settings.holder {
            return true;
        }
        let seconds = spec.lease_duration_seconds.unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        match &self.seen {
            Some(seen) if seen.spec == *spec => now() >= seen.since.saturating_add(duration),
            _ => {
                self.seen = Some(Seen {
                    spec: spec.clone(),
                    since: now(),
                });
                false
            }
        }
    }

    /// The lease as this scaler's, after it was `before`.
    fn record(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let at = Some(MicroTime(Timestamp::now()));
        let mut record = before.unwrap_or_default();
        if record.holder_identity.as_ref() != Some(&self.settings.holder) {
            let transitions = record.lease_transitions;
            record.lease_transitions = Some(transitions.map_or(0, |times| times.saturating_add(1)));
            record.acquire_time = at.clone();
        }
        let seconds = self.settings.duration.as_secs().max(1);
        record.holder_identity = Some(self.settings.holder.clone());
        record.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        record.renew_time = at;
        record
    }

    async fn release(&self) -> Result<(), Error> {
        let mut lease = self.api.get(&self.settings.name).await?;
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_ref() == Some(&self.settings.holder)
        {
            spec.holder_identity = Some(String::new());
            let name = &self.settings.name;
            self.api
                .replace(name, &PostParams::default(), &lease)
                .await?;
        }
        Ok(())
    }
}
