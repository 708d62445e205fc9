//! A scripted API server: the part of Kubernetes that a scaler meets, with real HTTP, real JSON, and
//! the answers of a real one where things go wrong.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test program uses a part of it"
)]

mod cluster;
mod http;
mod manifests;
mod objects;
mod role;

use std::{sync::Arc, time::Duration};

use kube::{Client, Config};
use pocket_scaler::Scaler;
use pocket_scaler_kubernetes::{KubernetesScaler, KubernetesSettings, LeaseSettings};
use tokio::time::Instant;

pub use cluster::Cluster;
pub use http::ApiServer;
pub use manifests::{Manifest, folder, manifests, strictly};
pub use objects::{Fault, Kind, Request, Verb};
pub use role::Role;

/// Longer than anything under test may take.
pub const LONG: Duration = Duration::from_secs(60);
pub const NAMESPACE: &str = "pocket";
pub const SET: &str = "pocket-storage-dram";
pub const LEASE: &str = "pocket-scaler";

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let at = std::panic::Location::caller();
    let (what, mut condition) = (what.to_owned(), condition);
    async move {
        let end = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < end, "waited in vain until {what} ({at})");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Servers that show, as "storage-1: Running".
pub async fn shown(scaler: &KubernetesScaler) -> Vec<String> {
    let instances = scaler.instances().await.unwrap();
    let line = |i: &pocket_scaler::Instance| format!("{}: {:?}", i.name, i.state);
    instances.iter().map(line).collect()
}

pub fn settings(holder: &str, lease: Duration) -> KubernetesSettings {
    KubernetesSettings {
        namespace: NAMESPACE.to_owned(),
        statefulset: SET.to_owned(),
        lease: LeaseSettings {
            name: LEASE.to_owned(),
            holder: holder.to_owned(),
            duration: lease,
        },
    }
}

/// A cluster of no pods, with the set of the manifests.
pub async fn cluster() -> (Arc<Cluster>, ApiServer) {
    let cluster = Cluster::new(0, 7303);
    let server = ApiServer::start(Arc::clone(&cluster)).await;
    (cluster, server)
}

pub fn client(server: &ApiServer) -> Client {
    let mut config = Config::new(server.url().parse().unwrap());
    config.default_namespace = NAMESPACE.to_owned();
    Client::try_from(config).unwrap()
}

/// A scaler that leads and knows the pods.
pub async fn leader(server: &ApiServer) -> KubernetesScaler {
    let settings = settings("a", Duration::from_secs(15));
    let scaler = KubernetesScaler::start(client(server), settings)
        .await
        .unwrap();
    leads(&scaler).await;
    scaler
}

pub async fn leads(scaler: &KubernetesScaler) {
    until("it leads", || scaler.leads()).await;
    knows(scaler).await;
}

/// Waits until a scaler knows the pods.
pub async fn knows(scaler: &KubernetesScaler) {
    let end = Instant::now() + LONG;
    while scaler.instances().await.is_err() {
        assert!(Instant::now() < end, "the pods stay unknown");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
