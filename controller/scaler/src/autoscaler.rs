//! The loop: looks, decides, acts, tells.

use std::time::{Duration, Instant};

use pocket_controller_client::ControllerClient;
use pocket_policy::{Arbiter, Decision as Arbitration, ScalingSettings};
use pocket_proto::{
    ByteCount,
    control::{DrainServerRequest, PoolStatus, ServerStatus},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    Instance, Scaler,
    decisions::{Decision, Decisions},
    view::{View, used_bytes},
};

/// Time between two looks: whoever waits for room waits for this, and for a server's start.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Settings of an autoscaler.
#[derive(Clone, Copy, Debug)]
pub struct AutoscaleSettings {
    /// Limits and ranges.
    pub scaling: ScalingSettings,
    /// What a server that is started holds.
    pub capacity_bytes: u64,
    /// What it moves; 0: not planned.
    pub bytes_per_second: u64,
    /// When blocks of a server that shall go are moved; `None`: it goes when it is empty.
    pub drain_deadline: Option<Duration>,
}

/// Keeps the number of storage servers right.
pub struct Autoscaler<S> {
    client: ControllerClient,
    scaler: S,
    settings: AutoscaleSettings,
    arbiter: Arbiter,
    decisions: Decisions,
    started: Instant,
}

impl<S: Scaler> Autoscaler<S> {
    /// An autoscaler of the controller's cluster. Does nothing before [`Autoscaler::run`].
    pub fn new(client: ControllerClient, scaler: S, settings: AutoscaleSettings) -> Self {
        Autoscaler {
            client,
            scaler,
            settings,
            arbiter: Arbiter::new(settings.scaling),
            decisions: Decisions::default(),
            started: Instant::now(),
        }
    }

    /// Looks and acts until stopped. A controller that is away is waited for.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = stop.run_until_cancelled(self.look()).await;
            if let Some(Err(failure)) = looked {
                debug!("nothing is decided: {failure}");
            }
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let instances = self
            .scaler
            .instances()
            .await
            .map_err(|error| text(&error))?;
        let reply = self
            .client
            .list_servers()
            .await
            .map_err(|error| text(&error))?;
        let view = View::of(reply, &instances);
        if let Some(decision) = self.decide(&view) {
            match decision.after > decision.before {
                true => self.grow(&view, decision.after - decision.before).await,
                false => self.shrink(&view, &instances, &decision).await,
            }
            self.decisions.note(decision, Instant::now());
        }
        let status = PoolStatus {
            scaler: self.scaler.name().to_owned(),
            servers_min: self.settings.scaling.servers_min,
            servers_max: self.settings.scaling.servers_max,
            servers: view.servers(),
            capacity_bytes: self.settings.capacity_bytes,
            decisions: self.decisions.show(Instant::now()),
        };
        self.client
            .report_pool(status)
            .await
            .map_err(|error| text(&error))
    }

    fn decide(&mut self, view: &View) -> Option<Decision> {
        let before = view.servers();
        let most = self.settings.scaling.servers_max;
        let lacking = view
            .lacking(&self.settings)
            .min(most.saturating_sub(before));
        if lacking > 0 {
            return Some(Decision {
                before,
                after: before + lacking,
                reason: format!("jobs wait for {}", ByteCount(view.wanted_bytes)),
            });
        }
        let now_ms = self.started.elapsed().as_millis() as u64;
        match self.arbiter.decide(&view.pool(&self.settings), now_ms) {
            Arbitration::Scale {
                servers, reason, ..
            } if servers != before => Some(Decision {
                before,
                after: servers,
                reason,
            }),
            _ => None,
        }
    }

    /// Servers that have just begun to leave stay; for the rest new ones are started.
    async fn grow(&self, view: &View, count: u32) {
        let mut missing = count;
        for server in view.may_stay.iter().take(count as usize) {
            let request = DrainServerRequest {
                server: server.endpoint.clone(),
                undo: true,
                ..DrainServerRequest::default()
            };
            match self.client.drain_server(request).await {
                Ok(_) => missing -= 1,
                Err(error) => debug!("{} does not stay: {error}", server.endpoint),
            }
        }
        if let Err(error) = self.scaler.start(missing).await {
            warn!("{missing} storage servers cannot be started: {error}");
        }
    }

    /// Those that hold least go first.
    async fn shrink(&self, view: &View, instances: &[Instance], decision: &Decision) {
        let ours = |server: &&ServerStatus| {
            let mut endpoints = instances.iter().filter_map(|i| i.endpoint.as_deref());
            endpoints.any(|endpoint| endpoint == server.endpoint)
        };
        let mut candidates: Vec<_> = view.staying.iter().filter(ours).collect();
        candidates.sort_by_key(|server| (used_bytes(server), server.reserved_bytes));
        let count = decision.before - decision.after;
        for server in candidates.into_iter().take(count as usize) {
            let request = DrainServerRequest {
                server: server.endpoint.clone(),
                undo: false,
                reason: decision.reason.clone(),
                deadline_seconds: self.settings.drain_deadline.map(|d| d.as_secs()),
            };
            if let Err(error) = self.client.drain_server(request).await {
                warn!("{} cannot be drained: {error}", server.endpoint);
            }
        }
    }
}
