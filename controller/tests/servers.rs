//! Servers over real sockets: registered by their agents, dead, back, and a controller that is
//! restarted or not there.

mod kit;

use std::time::{Duration, Instant};

use kit::{GIB, eventually, job, job_of, world};
use pocket_controller::Controller;
use pocket_controller_client::{ControllerClient, ControllerError};
use pocket_proto::{
    ClusterKey, Credential, JobId, PROTOCOL_VERSION, Scope, Status,
    control::{HeartbeatRequest, RegisterServerRequest, ServerRole},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

#[tokio::test]
async fn servers_are_listed_and_metadata_servers_hear_of_storage_servers() {
    let world = world(2).await;
    let reply = world.client.list_servers().await.unwrap();
    assert_eq!(reply.version, env!("CARGO_PKG_VERSION"));
    let of_role = |role: ServerRole| reply.servers.iter().filter(move |s| s.role() == role);
    assert_eq!(of_role(ServerRole::Metadata).count(), 1);
    assert_eq!(of_role(ServerRole::Storage).count(), 2);
    assert!(reply.servers.iter().all(|server| server.alive));
    let heard = || async { world.metadata.held.storage_servers.lock().len() == 2 };
    eventually("the metadata server hears of both", heard).await;
}

#[tokio::test]
async fn a_storage_server_that_dies_leaves_the_maps_of_running_jobs() {
    let mut world = world(2).await;
    let reply = world
        .client
        .register_job(job_of("x", 4 * GIB))
        .await
        .unwrap();
    world.metadata.held.set_mounts(reply.job, 1);
    let dead = world.storage.pop().unwrap();
    let survivor = world.storage[0].id.0;
    let dead_id = dead.id.0;
    drop(dead);
    let start = Instant::now();
    let moved = || async { world.metadata.held.map_servers(reply.job) == [survivor] };
    eventually("the map leaves the dead server out", moved).await;
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(world.metadata.held.epoch(reply.job), Some(2));
    let servers = world.client.list_servers().await.unwrap().servers;
    let dead = servers.iter().find(|server| server.server == dead_id);
    assert!(dead.is_some_and(|server| !server.alive), "shown as dead");

    let joined = kit::storage(world.controller.endpoint(), 8 * GIB);
    let moved = || async {
        world
            .metadata
            .held
            .map_servers(reply.job)
            .contains(&joined.id.0)
    };
    eventually("the map takes the new server in", moved).await;
    assert_eq!(world.metadata.held.epoch(reply.job), Some(3));
}

#[tokio::test]
async fn a_restarted_controller_knows_servers_and_jobs_again() {
    let world = world(2).await;
    let before = world
        .client
        .register_job(job_of("x", 4 * GIB))
        .await
        .unwrap();
    let endpoint = world.controller.endpoint().to_owned();
    world.controller.stop().await;
    let away = || async { !world.metadata.member.agent.is_registered() };
    eventually("the agent notices", away).await;

    let settle = Duration::from_secs(3);
    let controller = kit::controller_at(&endpoint, settle).await;
    // At once, by name: the job is joined and not made a second time.
    let after = world
        .client
        .register_job(job_of("x", 4 * GIB))
        .await
        .unwrap();
    assert_eq!((after.created, after.job), (false, before.job));
    assert_eq!(after.allocation, before.allocation);
    world.metadata.member.agent.registered().await;
    for member in &world.storage {
        member.agent.registered().await;
    }
    let reply = world.client.register_job(job_of("new", GIB)).await.unwrap();
    assert!(reply.created);
    assert_eq!(world.client.list_servers().await.unwrap().servers.len(), 3);
    assert_eq!(
        world.metadata.held.epoch(before.job),
        Some(1),
        "nothing had to change"
    );
    controller.stop().await;
}

#[tokio::test]
async fn servers_may_start_before_their_controller() {
    let (endpoint, _reservation) = kit::reserved();
    let early = kit::storage(&endpoint, GIB);
    let client = kit::client(&endpoint);
    let error = client.list_jobs("").await.unwrap_err();
    assert!(matches!(error, ControllerError::Unreachable { .. }));
    let _controller = kit::controller_at(&endpoint, Duration::ZERO).await;
    early.agent.registered().await;
    assert_eq!(client.list_servers().await.unwrap().servers.len(), 1);
}

#[tokio::test]
async fn a_registration_waits_for_a_controller_that_is_started_again() {
    let (endpoint, _reservation) = kit::reserved();
    let dying = TcpListener::bind(&endpoint).await.unwrap();
    let client = kit::client(&endpoint);
    let registered = tokio::spawn(async move { client.register_job(job("x")).await });
    // It ends with the request in hand.
    drop(dying.accept().await.unwrap());
    drop(dying);
    let _controller = kit::controller_at(&endpoint, Duration::ZERO).await;
    let _servers = (kit::storage(&endpoint, GIB), kit::metadata(&endpoint).await);
    assert!(registered.await.unwrap().unwrap().created);
}

fn registration(credential: &Credential) -> RegisterServerRequest {
    RegisterServerRequest {
        server: 1,
        incarnation: 1,
        role: ServerRole::Storage.into(),
        endpoint: "s:1".to_owned(),
        tier: "dram".to_owned(),
        capacity_bytes: GIB,
        protocol_version: PROTOCOL_VERSION,
        credential: credential.as_bytes().to_vec().into(),
        ..RegisterServerRequest::default()
    }
}

#[tokio::test]
async fn only_the_cluster_key_makes_a_server() {
    let controller = kit::controller().await;
    let client = kit::client(controller.endpoint());
    let strange_key = ClusterKey::from_passphrase("another");
    for credential in [
        Credential::issue(&strange_key, Scope::Cluster),
        Credential::issue(&kit::key(), Scope::Job(JobId(1))),
    ] {
        let error = client
            .register_server(registration(&credential))
            .await
            .unwrap_err();
        assert_eq!(error.status(), Status::Denied);
        assert!(error.to_string().contains("cluster key"), "{error}");
        let heartbeat = HeartbeatRequest {
            server: 1,
            incarnation: 1,
            credential: credential.as_bytes().to_vec().into(),
            ..HeartbeatRequest::default()
        };
        let error = client.heartbeat(heartbeat).await.unwrap_err();
        assert_eq!(error.status(), Status::Denied);
    }
    let genuine = Credential::issue(&kit::key(), Scope::Cluster);
    let old = RegisterServerRequest {
        protocol_version: 0,
        ..registration(&genuine)
    };
    let error = client.register_server(old).await.unwrap_err();
    assert_eq!(error.status(), Status::VersionMismatch);
    assert!(client.list_servers().await.unwrap().servers.is_empty());
    client
        .register_server(registration(&genuine))
        .await
        .unwrap();
    assert_eq!(client.list_servers().await.unwrap().servers.len(), 1);
}

#[tokio::test]
async fn without_a_controller_the_error_names_the_endpoint_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (nobody, _reservation) = kit::reserved();
    let silent_endpoint = silent.local_addr().unwrap().to_string();
    let rude_endpoint = rude.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = rude.accept().await {
            // Gone before it is read, perhaps; that is as rude.
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let start = Instant::now();
    let call = |endpoint: String| async move {
        let client = ControllerClient::connect(&endpoint).unwrap();
        let error = client.list_jobs("").await.unwrap_err();
        assert_eq!(error.status(), Status::Unavailable);
        assert!(error.to_string().contains(&endpoint), "{error}");
    };
    tokio::join!(call(silent_endpoint), call(rude_endpoint), call(nobody));
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn without_servers_the_error_says_what_to_start() {
    let controller = kit::controller().await;
    let client = kit::client(controller.endpoint());
    let start = Instant::now();
    let error = client.register_job(job("x")).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(6));
    assert!(error.to_string().contains("pocket meta"), "{error}");
}

#[tokio::test]
async fn a_registration_waits_for_servers_that_are_just_starting() {
    let controller = kit::controller().await;
    let client = kit::client(controller.endpoint());
    let registration = tokio::spawn(async move { client.register_job(job("x")).await });
    let metadata = kit::metadata(controller.endpoint()).await;
    metadata.member.agent.registered().await;
    let _storage = kit::storage(controller.endpoint(), GIB);
    assert!(registration.await.unwrap().unwrap().created);
}

#[tokio::test]
async fn stopping_does_not_wait_for_who_waits() {
    let controller = kit::controller().await;
    let client = kit::client(controller.endpoint());
    let metadata = kit::metadata(controller.endpoint()).await;
    metadata.member.agent.registered().await;
    let waiting = tokio::spawn(async move { client.register_job(job("x")).await });
    let start = Instant::now();
    controller.stop().await;
    assert!(start.elapsed() < Duration::from_secs(3));
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.status(), Status::Unavailable);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let controller = kit::controller().await;
    let config = pocket_controller::ControllerConfig {
        listen: controller.endpoint().to_owned(),
        ..Default::default()
    };
    let error = Controller::start(config).await.unwrap_err();
    assert!(error.to_string().contains(controller.endpoint()), "{error}");
}
