//! Several scalers, of which one acts.

#![allow(clippy::unwrap_used)]

mod kit;

use std::{future::poll_fn, task::Poll, time::Duration};

use kit::{Fault, Kind, Verb, client, cluster, knows, leads, settings, until};
use pocket_scaler::Scaler;
use pocket_scaler_kubernetes::KubernetesScaler;

const LEASE: Duration = Duration::from_secs(2);

async fn scaler(server: &kit::ApiServer, holder: &str) -> KubernetesScaler {
    let settings = settings(holder, LEASE);
    KubernetesScaler::start(client(server), settings)
        .await
        .unwrap()
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_follows_at_once_when_it_ends() {
    let (cluster, server) = cluster().await;
    let first = scaler(&server, "first").await;
    leads(&first).await;
    let second = scaler(&server, "second").await;
    knows(&second).await;
    let refused = second.start(1).await.unwrap_err();
    assert_eq!(refused.to_string(), "another scaler leads");
    first.start(1).await.unwrap();
    first.end().await;
    assert!(!first.leads());
    leads(&second).await;
    assert_eq!(cluster.lease(), Some(("second".to_owned(), 1)));
    // It goes on from what there is.
    second.start(1).await.unwrap();
    assert_eq!(cluster.replicas(), 2);
    second.end().await;
    assert_eq!(cluster.lease(), Some((String::new(), 1)));
}

#[tokio::test]
async fn who_cannot_renew_its_lease_acts_no_more_before_another_leads() {
    let (cluster, server) = cluster().await;
    let first = scaler(&server, "first").await;
    leads(&first).await;
    // The API server answers the first one no more; it has a connection of its own.
    let cut = kit::ApiServer::start(std::sync::Arc::clone(&cluster)).await;
    let second = scaler(&cut, "second").await;
    knows(&second).await;
    drop(server);
    until("the first gives up by itself", || {
        assert!(!(first.leads() && second.leads()), "two lead");
        !first.leads()
    })
    .await;
    assert_eq!(
        first.start(1).await.unwrap_err().to_string(),
        "another scaler leads"
    );
    leads(&second).await;
    assert!(!first.leads());
    second.start(1).await.unwrap();
    assert_eq!(cluster.replicas(), 1);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_request_is_not_waited_for_longer_than_its_scaler_leads() {
    let (cluster, server) = cluster().await;
    let first = scaler(&server, "first").await;
    leads(&first).await;
    cluster.fault(Verb::Get, Kind::StatefulSet, Fault::Silent);
    let error = first.start(1).await.unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
    assert_eq!(cluster.changes_asked(Kind::StatefulSet), []);
    first.end().await;
}

#[tokio::test]
async fn who_was_paused_does_not_act_on_what_it_read_before() {
    let (cluster, server) = cluster().await;
    let first = scaler(&server, "first").await;
    leads(&first).await;
    let second = scaler(&server, "second").await;
    knows(&second).await;
    // Both are paused as one process is: nothing of them runs, while time goes on.
    let before = cluster.changes_asked(Kind::StatefulSet).len();
    let starting = first.start(1);
    tokio::pin!(starting);
    // It has begun, and has asked for what there is.
    let pending = poll_fn(|context| Poll::Ready(starting.as_mut().poll(context).is_pending()));
    assert!(pending.await);
    std::thread::park_timeout(LEASE * 2);
    assert!(!first.leads());
    let outcome = starting.await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(cluster.changes_asked(Kind::StatefulSet).len(), before);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_lease_that_others_change_or_that_is_not_answered_for_is_tried_for_again() {
    let (cluster, server) = cluster().await;
    for fault in [Fault::Fails(500), Fault::Silent, Fault::Fails(409)] {
        cluster.fault(Verb::Create, Kind::Lease, fault);
    }
    cluster.fault(Verb::Get, Kind::Lease, Fault::Throttled(1));
    let first = scaler(&server, "first").await;
    leads(&first).await;
    cluster.fault(Verb::Update, Kind::Lease, Fault::Overtaken);
    until("the conflict was met", || cluster.faults_left() == 0).await;
    let renewals = cluster.asked(Verb::Update, Kind::Lease);
    until("it is renewed again", || {
        cluster.asked(Verb::Update, Kind::Lease) > renewals
    })
    .await;
    assert!(first.leads());
    assert_eq!(cluster.lease(), Some(("first".to_owned(), 0)));
    first.end().await;
}
