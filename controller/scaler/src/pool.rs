//! One pool: looks at its servers, decides, acts, tells.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use pocket_controller_client::ControllerClient;
use pocket_policy::{Arbiter, Decision as Arbitration, ScalingSettings, Tier};
use pocket_proto::{
    ByteCount,
    control::{DrainServerRequest, PoolStatus, ServerRole, ServerStatus, StorageClass},
};
use tracing::{debug, warn};

use crate::{
    Instance, Scaler,
    decisions::{Decision, Decisions},
    threads::Threads,
    view::{Departing, View, is_in_use, used_bytes},
};

/// Which servers a pool is of. No server is of two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolKey {
    /// What they do.
    pub role: ServerRole,
    /// The class of storage servers: those of others come and go by hand, or are another pool.
    pub class: StorageClass,
    /// The tier of storage servers, where those of others are none of this pool's business; `None`: all
    /// count.
    pub tier: Option<Tier>,
}

impl PoolKey {
    /// Regular storage servers of every tier.
    pub const STORAGE: PoolKey = PoolKey {
        role: ServerRole::Storage,
        class: StorageClass::Regular,
        tier: None,
    };
    /// Metadata servers.
    pub const METADATA: PoolKey = PoolKey {
        role: ServerRole::Metadata,
        class: StorageClass::Regular,
        tier: None,
    };

    /// Whether a server is of this pool.
    pub(crate) fn has(self, server: &ServerStatus) -> bool {
        let of_class = self.role != ServerRole::Storage || server.storage_class() == self.class;
        server.role() == self.role
            && of_class
            && self.tier.is_none_or(|tier| server.tier == tier.name())
    }
}

/// Settings of a pool.
#[derive(Clone, Debug)]
pub struct AutoscaleSettings {
    /// Limits and ranges.
    pub scaling: ScalingSettings,
    /// What a storage server that is started holds.
    pub capacity_bytes: u64,
    /// What it moves; 0: not planned.
    pub bytes_per_second: u64,
    /// When blocks of a server that shall go are moved; `None`: it goes when it is empty.
    pub drain_deadline: Option<Duration>,
    /// Which servers it is of.
    pub of: PoolKey,
    /// Cores of the machine that all of them run on, where it is one: more servers would not bring more.
    pub cores: Option<u32>,
    /// Their node type, as the controller's price table calls it; `None`: the first of the tier.
    pub node: Option<String>,
}

/// A pool with what decides about it and what acts.
pub(crate) struct ScaledPool {
    scaler: Box<dyn Scaler>,
    settings: AutoscaleSettings,
    arbiter: Arbiter,
    threads: Option<Threads>,
    decisions: Decisions,
    departing: Departing,
}

impl ScaledPool {
    pub(crate) fn new(scaler: impl Scaler + 'static, settings: AutoscaleSettings) -> Self {
        ScaledPool {
            scaler: Box::new(scaler),
            arbiter: Arbiter::new(settings.scaling),
            threads: settings
                .cores
                .map(|cores| Threads::new(settings.scaling, cores)),
            settings,
            decisions: Decisions::default(),
            departing: Departing::default(),
        }
    }

    /// What one of its servers is called.
    pub(crate) fn name(&self) -> &'static str {
        match self.settings.of.role {
            ServerRole::Metadata => "metadata server",
            ServerRole::Storage | ServerRole::Unspecified => "storage server",
        }
    }

    /// Looks once, acts, and tells. `since_start`: the time on the clock of the decisions.
    pub(crate) async fn look(
        &mut self,
        client: &ControllerClient,
        since_start: Duration,
    ) -> Result<(), String> {
        if !self.scaler.leads() {
            return Err("another scaler leads".to_owned());
        }
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let instances = self
            .scaler
            .instances()
            .await
            .map_err(|error| text(&error))?;
        let reply = client.list_servers().await.map_err(|error| text(&error))?;
        self.departing.note(&reply, &instances);
        let view = View::of(reply, &instances, &self.departing, self.settings.of);
        if let Some(decision) = self.decide(&view, since_start) {
            match decision.after > decision.before {
                true => {
                    let count = decision.after - decision.before;
                    self.grow(client, &view, &instances, count).await;
                }
                false => self.shrink(client, &view, &instances, &decision).await,
            }
            self.decisions.note(self.name(), decision, Instant::now());
        }
        let now_ms = since_start.as_millis() as u64;
        let threads = self.threads.as_mut();
        if let Some(reason) = threads.and_then(|it| it.decide(&view.staying, now_ms)) {
            let servers = view.servers();
            let unchanged = Decision {
                before: servers,
                after: servers,
                reason,
            };
            self.decisions.note(self.name(), unchanged, Instant::now());
        }
        let status = PoolStatus {
            scaler: self.scaler.name().to_owned(),
            servers_min: self.settings.scaling.servers_min,
            servers_max: self.settings.scaling.servers_max,
            servers: view.servers(),
            capacity_bytes: self.settings.capacity_bytes,
            tier: self.settings.of.tier.map_or("", Tier::name).to_owned(),
            role: self.settings.of.role.into(),
            node: self.settings.node.clone().unwrap_or_default(),
            bandwidth_bytes_per_second: self.settings.bytes_per_second,
            decisions: self.decisions.show(Instant::now()),
        };
        client
            .report_pool(status)
            .await
            .map_err(|error| text(&error))
    }

    fn decide(&mut self, view: &View, since_start: Duration) -> Option<Decision> {
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
        let now_ms = since_start.as_millis() as u64;
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
    async fn grow(
        &self,
        client: &ControllerClient,
        view: &View,
        instances: &[Instance],
        count: u32,
    ) {
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
            match client.drain_server(request).await {
                Ok(_) => missing -= 1,
                Err(error) => debug!("{} does not stay: {error}", server.endpoint),
            }
        }
        if let Err(error) = self.scaler.start(missing).await {
            warn!("{missing} {}s cannot be started: {error}", self.name());
        }
    }

    /// Those whose turn it is go first, and of them those that are free, or have the fewest jobs: what
    /// others hold finds room on those that would have gone.
    async fn shrink(
        &self,
        client: &ControllerClient,
        view: &View,
        instances: &[Instance],
        decision: &Decision,
    ) {
        let ours = view.staying.iter().filter_map(|server| {
            let rank = rank(instances, server)?;
            let data = (is_in_use(server), used_bytes(server), server.reserved_bytes);
            // A metadata server goes when its jobs have ended; a storage server holds none.
            let held = (server.jobs, data);
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
            if let Err(error) = client.drain_server(request).await {
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
