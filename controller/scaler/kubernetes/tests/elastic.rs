//! The whole of it: a real controller, metadata server and storage servers, the autoscaler, and the
//! scripted API server, whose pods are those storage servers.

#![allow(clippy::unwrap_used)]

mod kit;

use std::{
    collections::{BTreeMap, HashSet},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kit::{Cluster, LONG, leader, until};
use parking_lot::Mutex;
use pocket_controller::{Controller, ControllerConfig};
use pocket_controller_client::ControllerClient;
use pocket_meta::{MetaConfig, MetaServer};
use pocket_policy::{ScalingSettings, Tier};
use pocket_proto::{
    ByteCount, ClusterKey, PROTOCOL_VERSION, ServerId,
    control::{DeregisterJobRequest, Hints, RegisterJobRequest, ServerRole, StorageClass},
};
use pocket_scaler::{AutoscaleSettings, Autoscaler};
use pocket_storage::{StorageConfig, StorageServer, Store, StoreBandwidth};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1 << 20;
const LOCAL: &str = "127.0.0.1:0";

fn key() -> ClusterKey {
    ClusterKey::from_passphrase("of this test")
}

/// Runs a storage server in each pod, as machines do, on addresses of this one.
struct Machines {
    cluster: Arc<Cluster>,
    controller: String,
    port: u16,
    /// By uid of the pod.
    running: Mutex<BTreeMap<String, JoinHandle<()>>>,
    /// Pods (uids) whose servers were drained.
    left: Mutex<HashSet<String>>,
    addresses: AtomicUsize,
    /// Servers that had to end before they were drained.
    cut_short: AtomicUsize,
}

impl Machines {
    /// Starts servers in new pods and ends those whose pods are gone.
    fn follow(self: &Arc<Self>) {
        let pods = self.cluster.pods();
        let mut running = self.running.lock();
        running.retain(|uid, server| {
            let stays = pods.iter().any(|(_, there)| there == uid);
            if !stays && !self.left.lock().contains(uid) {
                self.cut_short.fetch_add(1, Ordering::Relaxed);
                server.abort();
            }
            stays
        });
        for (name, uid) in pods {
            let machines = Arc::clone(self);
            let pod = uid.clone();
            let serve = || tokio::spawn(async move { machines.serve(&name, pod).await });
            running.entry(uid).or_insert_with(serve);
        }
    }

    /// A server's life, until it was drained.
    async fn serve(&self, pod: &str, uid: String) {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        // An address per pod, and other ones for other processes that run this test.
        let process = std::process::id() % 60_000;
        let ip = format!("127.{}.{}.{number}", 1 + process / 250, 1 + process % 250);
        let config = StorageConfig {
            listen: format!("{ip}:{}", self.port),
            server: ServerId::random(),
            capacity: ByteCount(64 * MIB),
            store: Store::Dram,
            bandwidth: StoreBandwidth::Unknown,
            class: StorageClass::Regular,
            cluster_key: key(),
            controller: Some(self.controller.clone()),
            advertise: None,
        };
        let server = StorageServer::start(config).await.unwrap();
        self.cluster.runs(pod, &ip);
        server.dismissed().await;
        server.stop().await;
        self.left.lock().insert(uid);
        self.cluster.drained(pod);
    }
}

async fn storage_servers(client: &ControllerClient) -> usize {
    let reply = client.list_servers().await.unwrap();
    let storage = reply
        .servers
        .iter()
        .filter(|server| server.role() == ServerRole::Storage);
    storage
        .filter(|server| server.alive && server.leave.is_none())
        .count()
}

/// Registers a job that finds room only when servers have come.
async fn register(client: &ControllerClient, name: &str, capacity_bytes: u64) {
    let request = RegisterJobRequest {
        name: name.to_owned(),
        keep: true,
        protocol_version: PROTOCOL_VERSION,
        hints: Some(Hints {
            capacity_bytes: Some(capacity_bytes),
            ..Hints::default()
        }),
        ..RegisterJobRequest::default()
    };
    let registered = async {
        while client.register_job(request.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, registered).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_with_jobs_and_go_with_them_and_none_goes_that_was_not_drained() {
    let port = TcpListener::bind(LOCAL)
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let cluster = Cluster::new(1, port);
    cluster.hold(true);
    let api = kit::ApiServer::start(Arc::clone(&cluster)).await;
    let controller = ControllerConfig {
        listen: LOCAL.to_owned(),
        cluster_key: key(),
        settle: Duration::ZERO,
        ..ControllerConfig::default()
    };
    let controller = Controller::start(controller).await.unwrap();
    let address = controller.endpoint().to_owned();
    let meta = MetaConfig {
        listen: LOCAL.to_owned(),
        control_listen: LOCAL.to_owned(),
        cluster_key: key(),
        controller: Some(address.clone()),
        ..MetaConfig::default()
    };
    let _meta = MetaServer::start(meta).await.unwrap();
    let machines = Arc::new(Machines {
        cluster: Arc::clone(&cluster),
        controller: address.clone(),
        port,
        running: Mutex::default(),
        left: Mutex::default(),
        addresses: AtomicUsize::new(1),
        cut_short: AtomicUsize::new(0),
    });
    let scaler = leader(&api).await;
    let client = ControllerClient::connect(&address).unwrap();
    let settings = AutoscaleSettings {
        scaling: ScalingSettings {
            servers_min: 1,
            servers_max: 4,
            ..ScalingSettings::default()
        },
        capacity_bytes: 64 * MIB,
        bytes_per_second: 0,
        drain_deadline: Some(Duration::ZERO),
        tier: Some(Tier::Dram),
    };
    let stop = CancellationToken::new();
    let autoscaler = Autoscaler::new(client.clone(), scaler.clone(), settings);
    let running = tokio::spawn(autoscaler.run(stop.clone()));
    let follow = || machines.follow();
    let settled = |replicas: u64| {
        let cluster = Arc::clone(&cluster);
        move || {
            follow();
            cluster.replicas() == replicas && cluster.pods().len() as u64 == replicas
        }
    };

    until("the first server is there", settled(1)).await;
    let job = tokio::spawn({
        let client = client.clone();
        async move { register(&client, "big", 150 * MIB).await }
    });
    until("three pods hold the job", settled(3)).await;
    until("it is registered", || {
        follow();
        job.is_finished()
    })
    .await;
    assert_eq!(storage_servers(&client).await, 3);

    let end = DeregisterJobRequest {
        name: "big".to_owned(),
        ..DeregisterJobRequest::default()
    };
    assert!(client.deregister_job(end).await.unwrap());
    until("one pod is left", settled(1)).await;
    assert_eq!(storage_servers(&client).await, 1);
    assert_eq!(machines.cut_short.load(Ordering::Relaxed), 0);
    // It is the lowest, as it was from the beginning.
    assert!(cluster.pods()[0].0.ends_with("-0"));
    let pool = client.list_servers().await.unwrap().pool.unwrap();
    assert_eq!((pool.scaler.as_str(), pool.servers), ("kubernetes", 1));
    stop.cancel();
    running.await.unwrap();
    scaler.end().await;
}
