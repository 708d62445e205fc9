//! A controller on a real socket, with metadata servers that only pretend and storage servers
//! that are nothing but their heartbeats.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(unreachable_pub, dead_code)]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pocket_controller::{Controller, ControllerConfig, RunningController};
use pocket_controller_client::{ControllerClient, Report, ServerAgent, ServerIdentity};
use pocket_proto::{
    ClusterKey, Credential, Incarnation, PROTOCOL_VERSION, Scope, ServerId,
    control::{
        CreateJobReply, CreateJobRequest, DropJobReply, DropJobRequest, HeartbeatReply, Hints,
        JobReport, RegisterJobRequest, ServerRole, SetWeightMapReply, SetWeightMapRequest,
        StorageClass,
        metadata_control_server::{MetadataControl, MetadataControlServer},
    },
};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

pub const GIB: u64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(20);

pub fn key() -> ClusterKey {
    ClusterKey::from_passphrase("of these tests")
}

/// A controller on a port of its own, which creates jobs from the start.
pub async fn controller() -> RunningController {
    controller_at("127.0.0.1:0", Duration::ZERO).await
}

/// An address that nobody serves and nobody else is given as long as the socket lives; a server may
/// listen there.
pub fn reserved() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option of sockets");
    socket
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .expect("a free port");
    let address = socket.local_addr().expect("is bound");
    (address.to_string(), socket)
}

pub async fn controller_at(listen: &str, settle: Duration) -> RunningController {
    let config = ControllerConfig {
        listen: listen.to_owned(),
        cluster_key: key(),
        settle,
        ..ControllerConfig::default()
    };
    Controller::start(config).await.expect("a free port")
}

pub fn client(endpoint: &str) -> ControllerClient {
    ControllerClient::connect(endpoint).expect("an endpoint")
}

pub fn job(name: &str) -> RegisterJobRequest {
    RegisterJobRequest {
        name: name.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        ..RegisterJobRequest::default()
    }
}

pub fn job_of(name: &str, capacity_bytes: u64) -> RegisterJobRequest {
    RegisterJobRequest {
        hints: Some(Hints {
            capacity_bytes: Some(capacity_bytes),
            ..Hints::default()
        }),
        ..job(name)
    }
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A registered server; dropping it falls silent.
pub struct Member {
    pub agent: ServerAgent,
    pub id: ServerId,
    _stop: DropGuard,
}

fn identity(role: ServerRole, endpoint: &str) -> ServerIdentity {
    ServerIdentity {
        server: ServerId::random(),
        incarnation: Incarnation::random(),
        role,
        endpoint: endpoint.to_owned(),
        control_endpoint: String::new(),
        tier: String::new(),
        capacity_bytes: 0,
        bandwidth_bytes_per_second: 0,
        class: StorageClass::Regular,
        cluster_key: key(),
    }
}

/// A storage server that only reports. Its endpoint is never called.
pub fn storage(controller: &str, capacity_bytes: u64) -> Member {
    let id = ServerId::random();
    let identity = ServerIdentity {
        server: id,
        tier: "dram".to_owned(),
        capacity_bytes,
        ..identity(ServerRole::Storage, &format!("storage-{id}:7303"))
    };
    member(controller, identity, Vec::new, |_| {})
}

fn member(
    controller: &str,
    identity: ServerIdentity,
    jobs: impl Fn() -> Vec<JobReport> + Send + Sync + 'static,
    on_reply: impl Fn(HeartbeatReply) + Send + Sync + 'static,
) -> Member {
    let stop = CancellationToken::new();
    let id = identity.server;
    let agent = ServerAgent::spawn(
        controller,
        identity,
        move || Report {
            jobs: jobs(),
            ..Report::default()
        },
        on_reply,
        stop.clone(),
    );
    Member {
        agent: agent.expect("an endpoint"),
        id,
        _stop: stop.drop_guard(),
    }
}

/// What a pretended metadata server holds and was asked.
#[derive(Default)]
pub struct Held {
    /// Since when each job has had no mount; meaningless while it has one.
    idle_since: Mutex<BTreeMap<u64, Instant>>,
    pub jobs: Mutex<BTreeMap<u64, JobReport>>,
    /// Of the newest reply to a heartbeat.
    pub storage_servers: Mutex<Vec<u64>>,
    pub creations: AtomicUsize,
    pub drops: AtomicUsize,
    /// Commands are taken and never answered.
    pub hangs: AtomicBool,
}

impl Held {
    pub fn set_mounts(&self, job: u64, mounts: u32) {
        self.idle_since.lock().insert(job, Instant::now());
        if let Some(report) = self.jobs.lock().get_mut(&job) {
            report.mounts = mounts;
        }
    }

    fn reports(&self) -> Vec<JobReport> {
        let idle_since = self.idle_since.lock();
        let idle = |job: &u64| {
            idle_since
                .get(job)
                .map_or(0, |since| since.elapsed().as_secs())
        };
        let jobs = self.jobs.lock();
        let report = |(id, report): (&u64, &JobReport)| JobReport {
            idle_seconds: if report.mounts == 0 { idle(id) } else { 0 },
            ..report.clone()
        };
        jobs.iter().map(report).collect()
    }

    pub fn epoch(&self, job: u64) -> Option<u32> {
        let jobs = self.jobs.lock();
        let map = jobs.get(&job)?.job.as_ref()?.weight_map.as_ref()?;
        Some(map.epoch)
    }

    pub fn map_servers(&self, job: u64) -> Vec<u64> {
        let jobs = self.jobs.lock();
        let map = jobs
            .get(&job)
            .and_then(|r| r.job.as_ref()?.weight_map.as_ref());
        let servers = map.map(|map| map.servers.clone()).unwrap_or_default();
        servers
            .into_iter()
            .filter_map(|s| Some(s.server?.server))
            .collect()
    }

    async fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let credential = request.metadata().get_bin("x-pocket-credential-bin");
        let bytes = credential
            .and_then(|value| value.to_bytes().ok())
            .unwrap_or_default();
        match Credential::verify(&key(), &bytes) {
            Ok(Scope::Cluster) => {}
            _ => return Err(Status::permission_denied("not the controller")),
        }
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct Commands(Arc<Held>);

#[tonic::async_trait]
impl MetadataControl for Commands {
    async fn create_job(
        &self,
        request: Request<CreateJobRequest>,
    ) -> Result<Response<CreateJobReply>, Status> {
        self.0.check(&request).await?;
        self.0.creations.fetch_add(1, Ordering::SeqCst);
        let job = request.into_inner();
        let report = JobReport {
            job: Some(job.clone()),
            ..JobReport::default()
        };
        self.0.idle_since.lock().insert(job.job, Instant::now());
        self.0.jobs.lock().insert(job.job, report);
        Ok(Response::new(CreateJobReply {}))
    }

    async fn drop_job(
        &self,
        request: Request<DropJobRequest>,
    ) -> Result<Response<DropJobReply>, Status> {
        self.0.check(&request).await?;
        self.0.drops.fetch_add(1, Ordering::SeqCst);
        let existed = self
            .0
            .jobs
            .lock()
            .remove(&request.into_inner().job)
            .is_some();
        Ok(Response::new(DropJobReply { existed }))
    }

    async fn set_weight_map(
        &self,
        request: Request<SetWeightMapRequest>,
    ) -> Result<Response<SetWeightMapReply>, Status> {
        self.0.check(&request).await?;
        let request = request.into_inner();
        if let Some(report) = self.0.jobs.lock().get_mut(&request.job)
            && let Some(job) = &mut report.job
        {
            job.weight_map = request.weight_map;
        }
        Ok(Response::new(SetWeightMapReply {}))
    }
}

/// A metadata server that takes commands and holds jobs, but no names.
pub struct Metadata {
    pub held: Arc<Held>,
    pub member: Member,
    _stop: DropGuard,
}

pub async fn metadata(controller: &str) -> Metadata {
    let held = Arc::new(Held::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = listener.local_addr().expect("is bound").to_string();
    let stop = CancellationToken::new();
    let server = tonic::transport::Server::builder()
        .add_service(MetadataControlServer::new(Commands(Arc::clone(&held))))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
    tokio::spawn(server);
    let identity = ServerIdentity {
        control_endpoint: endpoint.clone(),
        ..identity(ServerRole::Metadata, &format!("for-mounts.{endpoint}"))
    };
    let (for_jobs, for_reply) = (Arc::clone(&held), Arc::clone(&held));
    let jobs = move || for_jobs.reports();
    let on_reply = move |reply: HeartbeatReply| {
        let servers = reply.storage_servers.iter().map(|s| s.server).collect();
        *for_reply.storage_servers.lock() = servers;
    };
    Metadata {
        held,
        member: member(controller, identity, jobs, on_reply),
        _stop: stop.drop_guard(),
    }
}

/// A controller with one metadata server and storage servers of 8 GiB, all registered.
pub struct World {
    pub controller: RunningController,
    pub client: ControllerClient,
    pub metadata: Metadata,
    pub storage: Vec<Member>,
}

pub async fn world(storage_servers: usize) -> World {
    let controller = controller().await;
    let endpoint = controller.endpoint().to_owned();
    let metadata = metadata(&endpoint).await;
    let storage: Vec<_> = (0..storage_servers)
        .map(|_| storage(&endpoint, 8 * GIB))
        .collect();
    metadata.member.agent.registered().await;
    for member in &storage {
        member.agent.registered().await;
    }
    World {
        client: client(&endpoint),
        controller,
        metadata,
        storage,
    }
}
