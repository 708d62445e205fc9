//! Jobs over real sockets: registered, joined, ended, lapsed.

mod kit;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use kit::{GIB, eventually, job, job_of, world};
use pocket_controller_client::ControllerError;
use pocket_proto::{
    Credential, JobId, Scope, Status,
    control::{DeregisterJobRequest, RegisterJobRequest},
};

fn by_name(name: &str) -> DeregisterJobRequest {
    DeregisterJobRequest {
        name: name.to_owned(),
        job: 0,
    }
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, ControllerError>) -> (Status, String) {
    match outcome.expect_err("refused") {
        ControllerError::Refused { status, message } => (status, message),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn a_registered_job_is_on_its_metadata_server_with_a_credential_of_its_own() {
    let world = world(2).await;
    let reply = world
        .client
        .register_job(job_of("x", 10 * GIB))
        .await
        .unwrap();
    assert!(reply.created);
    let scope = Credential::verify(&kit::key(), &reply.credential);
    assert_eq!(scope, Ok(Scope::Job(JobId(reply.job))));
    let allocation = reply.allocation.unwrap();
    assert_eq!(allocation.capacity_bytes, 10 * GIB);
    assert_eq!(allocation.weight_map.unwrap().servers.len(), 2);
    assert!(allocation.reasons.iter().any(|r| r.contains("as hinted")));
    assert_eq!(world.metadata.held.map_servers(reply.job).len(), 2);
    let listed = world.client.list_jobs("").await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "x"));
    assert_eq!(listed[0].metadata_server, world.metadata.member.id.0);
    assert!(world.client.list_jobs("y").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_registrations_of_a_name_at_once_create_one_job() {
    let world = world(1).await;
    let mounts: Vec<_> = (0..32)
        .map(|_| {
            let client = kit::client(world.controller.endpoint());
            tokio::spawn(async move { client.register_job(job("x")).await.unwrap() })
        })
        .collect();
    let mut created = 0;
    let mut ids = Vec::new();
    for mount in mounts {
        let reply = mount.await.unwrap();
        created += usize::from(reply.created);
        ids.push(reply.job);
    }
    ids.dedup();
    assert_eq!((created, ids.len()), (1, 1));
    assert_eq!(world.metadata.held.creations.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn refusals_arrive_as_the_sentences_they_are() {
    let world = world(2).await;
    let version = RegisterJobRequest {
        protocol_version: 9,
        ..job("x")
    };
    let existing_only = RegisterJobRequest {
        existing_only: true,
        ..job("x")
    };
    for (request, status, part) in [
        (job(".."), Status::Invalid, "starts with '.'"),
        (job_of("x", 0), Status::Invalid, "hint capacity is 0B"),
        (version, Status::VersionMismatch, "the same release"),
        (existing_only, Status::NotFound, "no job 'x'"),
        (
            job_of("x", 17 * GIB),
            Status::NoSpace,
            "asks for 17GiB but the cluster has 16GiB free of 16GiB on 2 storage servers: \
             ask for --capacity 16GiB or less",
        ),
    ] {
        let (actual, message) = refusal(world.client.register_job(request).await);
        assert_eq!(actual, status, "{message}");
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(world.metadata.held.creations.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn deregistering_drops_the_job_once_and_may_be_repeated() {
    let world = world(1).await;
    let first = world
        .client
        .register_job(job_of("x", 8 * GIB))
        .await
        .unwrap();
    assert!(world.client.deregister_job(by_name("x")).await.unwrap());
    assert!(world.metadata.held.jobs.lock().is_empty());
    assert!(!world.client.deregister_job(by_name("x")).await.unwrap());
    assert_eq!(world.metadata.held.drops.load(Ordering::SeqCst), 1);
    // All its space is free at once, and its name.
    let second = world
        .client
        .register_job(job_of("x", 8 * GIB))
        .await
        .unwrap();
    assert!(second.created && second.job != first.job);
    let by_id = DeregisterJobRequest {
        name: String::new(),
        job: second.job,
    };
    assert!(world.client.deregister_job(by_id).await.unwrap());
}

#[tokio::test]
async fn a_job_ends_a_lease_after_its_last_mount_unless_kept() {
    let world = world(1).await;
    let short = |name: &str, keep| RegisterJobRequest {
        lease_seconds: 1,
        keep,
        ..job_of(name, GIB)
    };
    let mounted = world
        .client
        .register_job(short("mounted", false))
        .await
        .unwrap();
    world.metadata.held.set_mounts(mounted.job, 1);
    world
        .client
        .register_job(short("kept", true))
        .await
        .unwrap();
    world
        .client
        .register_job(short("never-mounted", false))
        .await
        .unwrap();
    let left = |count: usize| {
        let world = &world;
        move || async move { world.client.list_jobs("").await.unwrap().len() == count }
    };
    eventually("the job without a mount lapses", left(2)).await;
    world.metadata.held.set_mounts(mounted.job, 0);
    eventually("the job whose mount left lapses", left(1)).await;
    let jobs = world.client.list_jobs("").await.unwrap();
    assert_eq!((jobs[0].name.as_str(), jobs[0].keep), ("kept", true));
    assert_eq!(world.metadata.held.jobs.lock().len(), 1);
}

#[tokio::test]
async fn a_metadata_server_that_hangs_is_passed_over_within_the_deadline() {
    let world = world(1).await;
    let spare = kit::metadata(world.controller.endpoint()).await;
    spare.member.agent.registered().await;
    world.metadata.held.hangs.store(true, Ordering::SeqCst);
    let start = Instant::now();
    for name in ["a", "b"] {
        let reply = world.client.register_job(job_of(name, GIB)).await.unwrap();
        assert!(spare.held.jobs.lock().contains_key(&reply.job));
    }
    assert!(start.elapsed() < Duration::from_secs(8));

    // With nobody else the answer is an error, in time and to the point.
    spare.held.hangs.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let (status, message) = refusal(world.client.register_job(job_of("c", GIB)).await);
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(status, Status::Unavailable);
    assert!(message.contains("metadata server"), "{message}");
    assert_eq!(world.client.list_jobs("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_a_job_or_none_but_no_half_of_one() {
    let world = world(1).await;
    world.metadata.held.hangs.store(true, Ordering::SeqCst);
    let impatient = kit::client(world.controller.endpoint());
    let call = impatient.register_job(job("x"));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), call)
            .await
            .is_err()
    );
    drop(impatient);
    world.metadata.held.hangs.store(false, Ordering::SeqCst);
    let reply = world.client.register_job(job("x")).await.unwrap();
    assert!(world.metadata.held.jobs.lock().contains_key(&reply.job));
    assert_eq!(world.client.list_jobs("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deregistration_that_cannot_be_done_yet_is_done_later() {
    let world = world(1).await;
    world.client.register_job(job("x")).await.unwrap();
    world.metadata.held.hangs.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let (status, message) = refusal(world.client.deregister_job(by_name("x")).await);
    assert!(start.elapsed() < Duration::from_secs(7));
    assert_eq!(status, Status::Unavailable);
    assert!(message.contains("will end as soon as"), "{message}");
    world.metadata.held.hangs.store(false, Ordering::SeqCst);
    let gone = || async { world.metadata.held.jobs.lock().is_empty() };
    eventually("the job is dropped", gone).await;
}
