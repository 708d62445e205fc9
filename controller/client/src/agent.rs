//! A server's side of its registration: registers, reports every second, registers again when the
//! controller does not know it, and goes on trying while the controller is away.

use std::{future::pending, time::Duration};

use pocket_proto::{
    ClusterKey, Credential, Incarnation, PROTOCOL_VERSION, Scope, ServerId,
    control::{
        HeartbeatReply, HeartbeatRequest, JobReport, JobTraffic, Leave, LeaveStage,
        RegisterServerRequest, ServerRole, StorageClass, Usage,
    },
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{ControllerClient, ControllerError};

/// Time between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// First pause after a failed registration; doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// A controller that comes back waits about 3 s for the servers it had: stay well below.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A controller that is away for less (it starts, it restarts) is worth no warning.
const AWAY_WARN_AFTER: Duration = Duration::from_secs(5);

/// Who a server is, as it registers itself.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// Its id: random, kept over a restart only where its data are.
    pub server: ServerId,
    /// The life of its data.
    pub incarnation: Incarnation,
    /// Metadata or storage.
    pub role: ServerRole,
    /// Where mounts reach it, "host:port".
    pub endpoint: String,
    /// Metadata servers: where the controller reaches it, "host:port"; else empty.
    pub control_endpoint: String,
    /// Storage servers: "dram", "nvme", "ssd" or "hdd"; else empty.
    pub tier: String,
    /// Storage servers: bytes it can hold; else 0.
    pub capacity_bytes: u64,
    /// What its network gives, in bytes per second; 0 where not known.
    pub bandwidth_bytes_per_second: u64,
    /// Storage servers: what it is there for.
    pub class: StorageClass,
    /// Proves that it belongs to the cluster.
    pub cluster_key: ClusterKey,
}

/// What a server says in a heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it uses.
    pub usage: Usage,
    /// Metadata servers: every job they hold.
    pub jobs: Vec<JobReport>,
    /// Storage servers: every job that moved anything since the last report.
    pub traffic: Vec<JobTraffic>,
    /// Storage servers: how far their leaving is; they say it when they register, too.
    pub leave: Option<Leave>,
    /// Metadata servers: storage servers that were to be emptied and that no job needs any more.
    pub evacuated: Vec<ServerId>,
}

/// The task that keeps a server registered. Runs until the stop token is cancelled.
#[derive(Debug)]
pub struct ServerAgent {
    registered: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl ServerAgent {
    /// Starts the agent. Fails only if the endpoint makes no sense: a controller that is away is
    /// waited for.
    ///
    /// `report` is called for every heartbeat and `on_reply` for every reply of a controller that
    /// knows this server; neither may block. Must be called within a tokio runtime.
    pub fn spawn(
        endpoint: &str,
        identity: ServerIdentity,
        report: impl Fn() -> Report + Send + Sync + 'static,
        on_reply: impl Fn(HeartbeatReply) + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> Result<ServerAgent, ControllerError> {
        let client = ControllerClient::connect(endpoint)?;
        let (registered_sender, registered) = watch::channel(false);
        let credential = Credential::issue(&identity.cluster_key, Scope::Cluster);
        let agent = Agent {
            client,
            identity,
            credential: credential.as_bytes().to_vec(),
            report,
            on_reply,
            registered: registered_sender,
            away: Away::default(),
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = agent.run() => {}
            }
        });
        Ok(ServerAgent { registered, task })
    }

    /// Whether the controller knew this server when last heard from.
    pub fn is_registered(&self) -> bool {
        *self.registered.borrow()
    }

    /// Waits until the controller knows this server, for as long as that takes. Ends also when
    /// the agent is stopped.
    pub async fn registered(&self) {
        // An error means that the agent has stopped.
        let _ = self.registered.clone().wait_for(|known| *known).await;
    }

    /// Waits until the agent has ended, after its stop token was cancelled.
    pub async fn stopped(self) {
        // The task panics only if a callback does; that is the callback's to report.
        let _ = self.task.await;
    }
}

struct Agent<S, R> {
    client: ControllerClient,
    identity: ServerIdentity,
    credential: Vec<u8>,
    report: S,
    on_reply: R,
    registered: watch::Sender<bool>,
    away: Away,
}

impl<S, R> Agent<S, R>
where
    S: Fn() -> Report,
    R: Fn(HeartbeatReply),
{
    async fn run(mut self) {
        loop {
            self.register().await;
            self.report_while_known().await;
            self.registered.send_replace(false);
        }
    }

    /// Tries until the controller has taken the registration.
    async fn register(&mut self) {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            match self.client.register_server(self.registration()).await {
                Ok(()) => return,
                Err(error) => self.away.note(self.client.endpoint(), &error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Sends heartbeats, the first at once, until the controller no longer knows this server.
    /// While the controller is away the heartbeats go on: they find it when it is back.
    async fn report_while_known(&mut self) {
        let mut ticks = interval_at(Instant::now(), HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.client.heartbeat(self.heartbeat()).await {
                Ok(reply) if reply.known => {
                    self.away.over(self.client.endpoint());
                    if reply.next_in_ms > 0 {
                        let soon = Duration::from_millis(reply.next_in_ms.into());
                        ticks.reset_after(soon.min(HEARTBEAT_INTERVAL));
                    }
                    let dismissed = reply.leave.as_ref().map(Leave::stage);
                    (self.on_reply)(reply);
                    self.registered.send_replace(true);
                    if dismissed == Some(LeaveStage::Gone) {
                        // The controller has forgotten this server, which is to end.
                        return pending().await;
                    }
                }
                Ok(_) => return,
                Err(error) => {
                    self.away.note(self.client.endpoint(), &error);
                    self.registered.send_replace(false);
                }
            }
        }
    }

    fn registration(&self) -> RegisterServerRequest {
        let identity = &self.identity;
        RegisterServerRequest {
            server: identity.server.0,
            incarnation: identity.incarnation.0,
            role: identity.role.into(),
            endpoint: identity.endpoint.clone(),
            control_endpoint: identity.control_endpoint.clone(),
            tier: identity.tier.clone(),
            capacity_bytes: identity.capacity_bytes,
            bandwidth_bytes_per_second: identity.bandwidth_bytes_per_second,
            protocol_version: PROTOCOL_VERSION,
            credential: self.credential.clone().into(),
            leave: (self.report)().leave,
            storage_class: identity.class.into(),
        }
    }

    fn heartbeat(&self) -> HeartbeatRequest {
        let report = (self.report)();
        HeartbeatRequest {
            server: self.identity.server.0,
            incarnation: self.identity.incarnation.0,
            usage: Some(report.usage),
            jobs: report.jobs,
            traffic: report.traffic,
            credential: self.credential.clone().into(),
            leave: report.leave,
            evacuated: report.evacuated.iter().map(|server| server.0).collect(),
        }
    }
}

/// Says once, not every second, that the controller is away, and once that it is back.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    /// Whether it was said that the controller is away, and that it refuses this server.
    said_away: bool,
    said_refused: bool,
}

impl Away {
    fn note(&mut self, endpoint: &str, error: &ControllerError) {
        let since = *self.since.get_or_insert_with(Instant::now);
        match error {
            ControllerError::Refused { .. } if !self.said_refused => {
                // A person must act: the key, the version or the identity is wrong.
                error!(endpoint, "the controller refuses this server: {error}");
                self.said_refused = true;
            }
            ControllerError::Refused { .. } => {}
            _ if !self.said_away && since.elapsed() >= AWAY_WARN_AFTER => {
                warn!(endpoint, "still trying: {error}");
                self.said_away = true;
            }
            _ => {}
        }
    }

    fn over(&mut self, endpoint: &str) {
        let Away {
            said_away,
            said_refused,
            ..
        } = std::mem::take(self);
        if said_away || said_refused {
            info!(endpoint, "the controller is back");
        }
    }
}
