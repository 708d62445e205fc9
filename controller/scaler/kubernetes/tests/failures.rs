//! An API server that is slow, busy, overtaken by others, forgetful or away.

#![allow(clippy::unwrap_used)]

mod kit;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::StatefulSet;
use kit::{
    Cluster, Fault, Kind, NAMESPACE, Role, SET, Verb, client, cluster, leader, leads, settings,
    shown, until,
};
use kube::{Api, api::DeleteParams};
use pocket_scaler::Scaler;
use pocket_scaler_kubernetes::{KubernetesScaler, StartError};
use serde_json::json;

fn name(ordinal: u32) -> String {
    format!("{SET}-{ordinal}")
}

/// Waits until exactly these are there and run.
async fn running(scaler: &KubernetesScaler, ordinals: &[u32]) {
    let lines = ordinals
        .iter()
        .map(|ordinal| format!("{}: Running", name(*ordinal)));
    let expected: Vec<_> = lines.collect();
    let end = Instant::now() + kit::LONG;
    loop {
        let now = shown(scaler).await;
        if now == expected {
            return;
        }
        assert!(Instant::now() < end, "{now:?} should be {expected:?}");
        tokio::task::yield_now().await;
    }
}

fn uid(cluster: &Cluster, ordinal: u32) -> String {
    let pods = cluster.pods();
    let pod = pods.into_iter().find(|(pod, _)| *pod == name(ordinal));
    pod.unwrap().1
}

#[tokio::test]
async fn only_drained_pods_go_and_those_from_the_top() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    scaler.start(5).await.unwrap();
    running(&scaler, &[0, 1, 2, 3, 4]).await;
    let kept: Vec<_> = (0..3).map(|ordinal| uid(&cluster, ordinal)).collect();

    // One that is below another waits for its turn.
    cluster.drained(&name(3));
    running(&scaler, &[0, 1, 2, 4]).await;
    assert_eq!(cluster.replicas(), 5);
    cluster.drained(&name(4));
    until("both have gone", || cluster.pods().len() == 3).await;
    assert_eq!(cluster.replicas(), 3);
    running(&scaler, &[0, 1, 2]).await;
    let now: Vec<_> = (0..3).map(|ordinal| uid(&cluster, ordinal)).collect();
    assert_eq!(now, kept, "the others are as they were");
    // Nobody deleted a pod by its name.
    assert_eq!(cluster.changes_asked(Kind::Pod), []);
    scaler.end().await;
}

#[tokio::test]
async fn a_drained_pod_below_others_is_made_anew_when_servers_are_wanted() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    scaler.start(3).await.unwrap();
    running(&scaler, &[0, 1, 2]).await;
    cluster.drained(&name(1));
    running(&scaler, &[0, 2]).await;
    let before = uid(&cluster, 1);
    // Two more: the one in between, and a new one at the top.
    scaler.start(2).await.unwrap();
    assert_eq!(scaler.instances().await.unwrap().len(), 4, "at once");
    running(&scaler, &[0, 1, 2, 3]).await;
    assert_ne!(uid(&cluster, 1), before);
    assert_eq!(cluster.replicas(), 4);
    let deleted = cluster.changes_asked(Kind::Pod);
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].name, Some(name(1)));
    assert_eq!(deleted[0].body["preconditions"]["uid"], json!(before));
    scaler.end().await;
}

#[tokio::test]
async fn nothing_is_lost_or_done_twice_when_others_change_the_set_meanwhile() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    for _ in 0..3 {
        cluster.fault(Verb::Patch, Kind::StatefulSet, Fault::Overtaken);
    }
    scaler.start(2).await.unwrap();
    assert_eq!((cluster.replicas(), cluster.faults_left()), (2, 0));
    let patches = cluster.changes_asked(Kind::StatefulSet);
    assert_eq!(patches.len(), 4);
    assert!(
        patches
            .iter()
            .all(|patch| patch.subresource.as_deref() == Some("scale"))
    );
    let versions = patches
        .iter()
        .map(|patch| patch.body["metadata"]["resourceVersion"].to_string());
    assert_eq!(
        versions.collect::<BTreeSet<_>>().len(),
        4,
        "each looks anew"
    );
    running(&scaler, &[0, 1]).await;

    // A set that changes all the time is left alone in the end, with an error.
    for _ in 0..6 {
        cluster.fault(Verb::Patch, Kind::StatefulSet, Fault::Overtaken);
    }
    let error = scaler.start(1).await.unwrap_err().to_string();
    assert!(error.contains("keeps being changed"), "{error}");
    assert_eq!(cluster.replicas(), 2);
    scaler.end().await;
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says_so() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    cluster.fault(Verb::Patch, Kind::StatefulSet, Fault::Throttled(1));
    let begun = Instant::now();
    scaler.start(1).await.unwrap();
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(cluster.changes_asked(Kind::StatefulSet).len(), 2);
    assert_eq!(cluster.replicas(), 1);

    cluster.fault(Verb::Patch, Kind::StatefulSet, Fault::Fails(503));
    cluster.fault(Verb::Get, Kind::StatefulSet, Fault::Fails(504));
    scaler.start(1).await.unwrap();
    assert_eq!((cluster.replicas(), cluster.faults_left()), (2, 0));
    scaler.end().await;
}

#[tokio::test]
async fn a_failure_is_told_and_the_next_try_does_what_was_wanted() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    cluster.fault(Verb::Patch, Kind::StatefulSet, Fault::Fails(500));
    let error = scaler.start(1).await.unwrap_err().to_string();
    assert!(error.contains("scripted to fail"), "{error}");
    assert_eq!(cluster.replicas(), 0);
    scaler.start(2).await.unwrap();
    running(&scaler, &[0, 1]).await;

    // Taking out is tried until it is done.
    for fault in [Fault::Fails(500), Fault::Overtaken, Fault::Fails(503)] {
        cluster.fault(Verb::Patch, Kind::StatefulSet, fault);
    }
    cluster.fault(Verb::List, Kind::Pod, Fault::Fails(500));
    cluster.drained(&name(1));
    until("it has gone", || cluster.replicas() == 1).await;
    running(&scaler, &[0]).await;
    assert_eq!(cluster.faults_left(), 0);
    scaler.end().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_made_up_for_by_the_watch() {
    let (cluster, server) = cluster().await;
    let short = settings("a", Duration::from_secs(2));
    let scaler = KubernetesScaler::start(client(&server), short)
        .await
        .unwrap();
    leads(&scaler).await;
    cluster.fault(Verb::Patch, Kind::StatefulSet, Fault::AnswerLost);
    let error = scaler.start(2).await.unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
    running(&scaler, &[0, 1]).await;
    assert_eq!(cluster.replicas(), 2);
    scaler.end().await;
}

#[tokio::test]
async fn watches_that_expire_break_or_are_refused_go_on() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    scaler.start(1).await.unwrap();
    running(&scaler, &[0]).await;
    let lists = || cluster.asked(Verb::List, Kind::Pod);

    // A connection breaks: the watch goes on where it was, nothing is listed.
    let before = lists();
    cluster.break_watches();
    cluster.set_replicas(2);
    running(&scaler, &[0, 1]).await;
    assert_eq!(lists(), before);

    // What happened meanwhile is forgotten: an event in the stream says so (410 Gone).
    cluster.break_watches();
    cluster.set_replicas(3);
    cluster.forget();
    running(&scaler, &[0, 1, 2]).await;
    assert!(lists() > before, "all is listed anew");

    // The same said as an answer to the request, then a busy and a broken server.
    let before = lists();
    for fault in [Fault::Fails(410), Fault::Throttled(1), Fault::Fails(500)] {
        cluster.fault(Verb::Watch, Kind::Pod, fault);
    }
    cluster.fault(Verb::List, Kind::Pod, Fault::Fails(500));
    cluster.break_watches();
    cluster.set_replicas(4);
    running(&scaler, &[0, 1, 2, 3]).await;
    until("every fault was met", || cluster.faults_left() == 0).await;
    assert!(lists() >= before + 2);
    scaler.end().await;
}

#[tokio::test]
async fn pods_that_cannot_start_show_and_are_not_asked_for_twice() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    cluster.hold(true);
    scaler.start(2).await.unwrap();
    until("they are there", || cluster.pods().len() == 2).await;
    let waiting = ["Starting", "Starting"];
    let states = async || -> Vec<String> {
        let lines = shown(&scaler).await.into_iter();
        lines
            .map(|line| line.rsplit_once(": ").unwrap().1.to_owned())
            .collect()
    };
    assert_eq!(states().await, waiting);
    cluster.hold(false);
    running(&scaler, &[0, 1]).await;
    scaler.end().await;
}

#[tokio::test]
async fn the_role_allows_what_is_asked_for_and_nothing_else() {
    let (cluster, server) = cluster().await;
    let scaler = leader(&server).await;
    scaler.start(3).await.unwrap();
    running(&scaler, &[0, 1, 2]).await;
    cluster.drained(&name(0));
    running(&scaler, &[1, 2]).await;
    scaler.start(1).await.unwrap();
    running(&scaler, &[0, 1, 2]).await;
    cluster.drained(&name(2));
    until("it has gone", || cluster.replicas() == 2).await;
    until("the watches are long over", || {
        cluster.asked(Verb::Watch, Kind::Pod) > 0
    })
    .await;
    scaler.end().await;

    let (refused, used) = cluster.rules();
    assert!(refused.is_empty(), "{refused:?}");
    let rules = Role::shipped().rules;
    assert_eq!(used, (0..rules.len()).collect(), "every rule is needed");
    let verbs: BTreeSet<_> = cluster.permissions_used();
    let granted: BTreeSet<_> = rules
        .iter()
        .flat_map(|rule| {
            let resources = rule.resources.iter().flatten();
            resources.flat_map(|of| rule.verbs.iter().map(move |verb| format!("{verb} {of}")))
        })
        .collect();
    assert_eq!(verbs, granted, "every verb is needed");

    let sets: Api<StatefulSet> = Api::namespaced(client(&server), NAMESPACE);
    let outcome = sets.delete(SET, &DeleteParams::default()).await;
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("cannot delete resource statefulsets"),
        "{error}"
    );
    let other = sets.get("another").await.unwrap_err().to_string();
    assert!(other.contains("cannot get"), "{other}");
}

#[tokio::test]
async fn what_cannot_be_scaled_is_refused_with_what_to_do() {
    let (cluster, server) = cluster().await;
    cluster.remove_set();
    let start = || KubernetesScaler::start(client(&server), settings("a", Duration::from_secs(2)));
    let error = start().await.err().unwrap();
    assert!(matches!(error, StartError::NoSet { .. }), "{error}");
    assert!(
        error.to_string().contains("apply the manifests first"),
        "{error}"
    );
    // A server that fails is asked again.
    cluster.fault(Verb::Get, Kind::StatefulSet, Fault::Fails(500));
    let error = start().await.err().unwrap();
    assert!(matches!(error, StartError::NoSet { .. }), "{error}");
    assert_eq!(cluster.faults_left(), 0);
}
