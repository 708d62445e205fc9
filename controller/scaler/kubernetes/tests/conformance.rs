//! What every scaler must do, of pods behind a scripted API server.

#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;

use async_trait::async_trait;
use kit::{Cluster, cluster, leader};
use pocket_scaler::conformance::{World, check};

struct Pods(Arc<Cluster>);

#[async_trait]
impl World for Pods {
    async fn crash(&self, endpoint: &str) {
        self.0.crashed(&self.0.pod_at(endpoint).unwrap());
    }

    async fn leave(&self, endpoint: &str) {
        self.0.drained(&self.0.pod_at(endpoint).unwrap());
    }

    async fn serves(&self, endpoint: &str) -> bool {
        self.0.pod_at(endpoint).is_some()
    }
}

#[tokio::test]
async fn pods_of_a_statefulset_conform() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    check(&scaler, &Pods(Arc::clone(&cluster))).await.unwrap();
    scaler.end().await;
    assert_eq!(cluster.replicas(), 2);
    let (refused, _) = cluster.rules();
    assert!(refused.is_empty(), "{refused:?}");
}
