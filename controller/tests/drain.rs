//! Metadata servers that are drained, over real sockets: no new jobs, those they have to their end.

mod kit;

use kit::{GIB, World, eventually, job_of, world};
use pocket_controller_client::ControllerError;
use pocket_proto::{
    Status,
    control::{
        DeregisterJobRequest, DrainServerReply, DrainServerRequest, LeaveStage, RegisterJobRequest,
        ServerStatus,
    },
};

async fn drain(
    world: &World,
    server: &str,
    undo: bool,
) -> Result<DrainServerReply, ControllerError> {
    let request = DrainServerRequest {
        server: server.to_owned(),
        undo,
        reason: "it is old".to_owned(),
        deadline_seconds: Some(0),
    };
    world.client.drain_server(request).await
}

async fn end(world: &World, name: &str) {
    let request = DeregisterJobRequest {
        name: name.to_owned(),
        ..DeregisterJobRequest::default()
    };
    let ended = world.client.deregister_job(request).await;
    assert!(ended.expect("a job can be ended"));
}

async fn status_of(world: &World, server: u64) -> Option<ServerStatus> {
    let reply = world.client.list_servers().await;
    let servers = reply.expect("the controller answers").servers;
    servers.into_iter().find(|status| status.server == server)
}

#[tokio::test]
async fn a_drained_metadata_server_keeps_its_jobs_until_they_end_and_takes_no_others() {
    let world = world(1).await;
    let first = &world.metadata;
    let kept = RegisterJobRequest {
        persist: true,
        lease_seconds: 3_600,
        ..job_of("kept", GIB)
    };
    let kept = world.client.register_job(kept).await.unwrap();
    first.held.set_mounts(kept.job, 1);
    let second = kit::metadata(world.controller.endpoint()).await;
    second.member.agent.registered().await;
    let id = first.member.id.0;

    let reply = drain(&world, &first.member.id.to_string(), false)
        .await
        .unwrap();
    assert_eq!((reply.server, reply.jobs), (id, 1));
    let leave = reply.leave.unwrap();
    assert_eq!(
        (leave.stage(), leave.deadline_seconds),
        (LeaveStage::Closed, None)
    );
    for number in 0..4 {
        let name = format!("new{number}");
        let new = world.client.register_job(job_of(&name, GIB)).await.unwrap();
        assert_ne!(new.metadata_endpoint, reply.endpoint);
        second.held.set_mounts(new.job, 1);
    }
    let creations = first
        .held
        .creations
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(creations, 1);
    let joined = world
        .client
        .register_job(job_of("kept", GIB))
        .await
        .unwrap();
    assert_eq!(
        (joined.job, joined.metadata_endpoint),
        (kept.job, reply.endpoint)
    );
    // A job that nobody has mounted is one: it was to be kept.
    first.held.set_mounts(kept.job, 0);
    let shown = status_of(&world, id).await.unwrap();
    assert_eq!(
        (shown.jobs, shown.leave.unwrap().stage()),
        (1, LeaveStage::Closed)
    );

    assert_eq!(
        drain(&world, &first.member.id.to_string(), true)
            .await
            .unwrap()
            .leave,
        None
    );
    let after = world
        .client
        .register_job(job_of("after", GIB))
        .await
        .unwrap();
    assert!(
        first.held.jobs.lock().contains_key(&after.job),
        "the one with fewer jobs again"
    );
    drain(&world, &first.member.id.to_string(), false)
        .await
        .unwrap();
    for name in ["kept", "after"] {
        end(&world, name).await;
    }
    let told = || async {
        let leave = first.held.leave.lock().clone();
        leave.is_some_and(|leave| leave.stage() == LeaveStage::Gone)
    };
    eventually("it is dismissed", told).await;
    assert_eq!(
        status_of(&world, id).await,
        None,
        "it is not listed as dead"
    );
    assert_eq!(second.held.jobs.lock().len(), 4);
}

#[tokio::test]
async fn a_job_that_comes_late_to_a_drained_metadata_server_holds_it() {
    let world = world(1).await;
    let second = kit::metadata(world.controller.endpoint()).await;
    second.member.agent.registered().await;
    let job = world.client.register_job(job_of("j", GIB)).await.unwrap();
    let holds = |held: &kit::Held| held.jobs.lock().contains_key(&job.job);
    let (with, without) = match holds(&world.metadata.held) {
        true => (&world.metadata, &second),
        false => (&second, &world.metadata),
    };
    with.held.set_mounts(job.job, 1);
    // It says that it holds a job that the controller knows to be another's.
    let report = with.held.jobs.lock().get(&job.job).cloned().unwrap();
    without.held.jobs.lock().insert(job.job, report);
    let server = without.member.id;
    drain(&world, &server.to_string(), false).await.unwrap();
    let sealed = || async {
        let leave = without.held.leave.lock().clone();
        leave.is_some_and(|leave| leave.stage() == LeaveStage::Sealed)
    };
    eventually("it is sealed", sealed).await;
    let late = drain(&world, &server.to_string(), true).await.unwrap_err();
    assert!(late.to_string().contains("about to end"), "{late}");
    assert!(status_of(&world, server.0).await.is_some());
    without.held.jobs.lock().clear();
    let gone = || async { status_of(&world, server.0).await.is_none() };
    eventually("it has gone", gone).await;
}

#[tokio::test]
async fn the_last_metadata_server_is_not_drained_and_a_new_controller_goes_on() {
    let world = world(1).await;
    let only = world.metadata.member.id;
    let refused = drain(&world, &only.to_string(), false).await.unwrap_err();
    assert_eq!(refused.status(), Status::Invalid);
    assert!(
        refused.to_string().contains("last metadata server"),
        "{refused}"
    );

    let job = world.client.register_job(job_of("j", GIB)).await.unwrap();
    world.metadata.held.set_mounts(job.job, 1);
    let endpoint = world.controller.endpoint().to_owned();
    let second = kit::metadata(&endpoint).await;
    second.member.agent.registered().await;
    drain(&world, &only.to_string(), false).await.unwrap();
    let World {
        controller,
        client,
        metadata,
        storage,
    } = world;
    controller.stop().await;
    let away = || async { !metadata.member.agent.is_registered() };
    eventually("the agent notices", away).await;
    let controller = kit::controller_at(&endpoint, std::time::Duration::from_secs(1)).await;
    let world = World {
        controller,
        client,
        metadata,
        storage,
    };
    world.metadata.member.agent.registered().await;
    let shown = status_of(&world, only.0).await.unwrap();
    assert_eq!(shown.leave.unwrap().reason, "it is old");
    end(&world, "j").await;
    let gone = || async { status_of(&world, only.0).await.is_none() };
    eventually("it has gone", gone).await;
}
