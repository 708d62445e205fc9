//! The loop: looks, decides, acts, tells.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use pocket_controller_client::ControllerClient;
use pocket_policy::{Arbiter, Decision as Arbitration, ScalingSettings, Tier};
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
    view::{Departing, View, is_in_use, used_bytes},
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
    /// The tier of the servers that are started, where those of others are none of this one's
    /// business; `None`: all count.
    pub tier: Option<Tier>,
}

/// Keeps the number of storage servers right.
pub struct Autoscaler<S> {
    client: ControllerClient,
    scaler: S,
    settings: AutoscaleSettings,
    arbiter: Arbiter,
    decisions: Decisions,
    departing: Departing,
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
            departing: Departing::default(),
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
        if !self.scaler.leads() {
            return Err("another scaler leads".to_owned());
        }
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
        self.departing.note(&reply, &instances);
        let view = View::of(reply, &instances, &self.departing, self.settings.tier);
        if let Some(decision) = self.decide(&view) {
            match decision.after > decision.before {
                true => {
                    let count = decision.after - decision.before;
                    self.grow(&view, &instances, count).await;
                }
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
            tier: self.settings.tier.map_or("", Tier::name).to_owned(),
            bandwidth_bytes_per_second: self.settings.bytes_per_second,
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
        let lacking = view.lacking().min(most.saturating_sub(before));
        if lacking > 0 {
            self.arbiter.started_by_others();
            return Some(Decision {
                before,
                after: before + lacking,
                reason: match view.wanted_bytes {
                    0 => "jobs wait for room".to_owned(),
                    bytes => format!("jobs wait for {}", ByteCount(bytes)),
                },
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

    /// Servers that have just begun to leave stay, the last to go first; for the rest new ones are
    /// started.
    async fn grow(&self, view: &View, instances: &[Instance], count: u32) {
        let mut missing = count;
        let mut may_stay: Vec<_> = view.may_stay.iter().collect();
        may_stay.sort_by_key(|server| rank(instances, server));
        for server in may_stay.into_iter().take(count as usize) {
            if !self.scaler.leads() {
                return;
            }
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

    /// Those whose turn it is go first, and of them those that are free: what others hold finds room on
    /// those that would have gone.
    async fn shrink(&self, view: &View, instances: &[Instance], decision: &Decision) {
        let ours = view.staying.iter().filter_map(|server| {
            let rank = rank(instances, server)?;
            let held = (is_in_use(server), used_bytes(server), server.reserved_bytes);
            Some((Reverse(rank), held, server))
        });
        let mut candidates: Vec<_> = ours.collect();
        candidates.sort_by_key(|(rank, held, _)| (*rank, *held));
        let count = decision.before - decision.after;
        for (_, _, server) in candidates.into_iter().take(count as usize) {
            if !self.scaler.leads() {
                return;
            }
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

/// The rank of a server among those that the scaler looks after; none if it is not one of them.
fn rank(instances: &[Instance], server: &ServerStatus) -> Option<u32> {
    let mut instances = instances.iter();
    let found = instances.find(|i| i.endpoint.as_deref() == Some(server.endpoint.as_str()));
    found.map(|instance| instance.rank)
}
