//! What outlives a controller, and what it tells collectors of metrics.

mod kit;

use std::{fs, path::Path};

use kit::{GIB, eventually, job};
use pocket_controller::{Controller, ControllerConfig, RunningController, StartError};
use pocket_proto::control::DeregisterJobRequest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn config(state: &Path) -> ControllerConfig {
    ControllerConfig {
        listen: "127.0.0.1:0".to_owned(),
        cluster_key: kit::key(),
        settle: std::time::Duration::ZERO,
        state: Some(state.to_owned()),
        ..ControllerConfig::default()
    }
}

async fn start(state: &Path) -> RunningController {
    let controller = Controller::start(config(state)).await;
    controller.expect("a free port and a sound file")
}

#[tokio::test]
async fn earlier_runs_are_known_to_the_next_controller_with_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("controller.state");
    let controller = start(&state).await;
    let endpoint = controller.endpoint().to_owned();
    let metadata = kit::metadata(&endpoint).await;
    let storage = kit::storage(&endpoint, 8 * GIB);
    metadata.member.agent.registered().await;
    storage.agent.registered().await;
    let client = kit::client(&endpoint);
    let id = client.register_job(job("nightly")).await.unwrap().job;
    if let Some(report) = metadata.held.jobs.lock().get_mut(&id) {
        report.used_bytes = GIB;
    }
    let used = || async { client.list_jobs("nightly").await.unwrap()[0].used_bytes == GIB };
    eventually("what it uses is reported", used).await;
    let end = DeregisterJobRequest {
        name: "nightly".to_owned(),
        job: 0,
    };
    assert!(client.deregister_job(end).await.unwrap());
    let written = || async {
        let text = fs::read_to_string(&state).unwrap();
        text.contains(" nightly\n")
    };
    eventually("the run is written while the controller lives", written).await;
    controller.stop().await;

    let controller = start(&state).await;
    let client = kit::client(controller.endpoint());
    let runs = client.list_runs("nightly").await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].capacity_bytes, GIB);
    assert_eq!(client.list_runs("other").await.unwrap(), []);
    controller.stop().await;
}

#[tokio::test]
async fn a_file_that_is_something_else_is_no_state_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    fs::write(&file, "buy milk\n").unwrap();
    let error = Controller::start(config(&file))
        .await
        .expect_err("not ours");
    assert!(matches!(error, StartError::State(_)), "{error:?}");
    assert!(error.to_string().contains("name another file"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "buy milk\n");
}

#[tokio::test]
async fn metrics_are_served_over_http() {
    let config = ControllerConfig {
        listen: "127.0.0.1:0".to_owned(),
        metrics: Some("127.0.0.1:0".to_owned()),
        ..ControllerConfig::default()
    };
    let controller = Controller::start(config).await.unwrap();
    let endpoint = controller.metrics_endpoint().expect("was asked for");
    let mut stream = TcpStream::connect(&endpoint).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\npocket_controller_jobs{state=\"running\"} 0\n"),
        "{answer}"
    );

    let taken = ControllerConfig {
        listen: "127.0.0.1:0".to_owned(),
        metrics: Some(endpoint),
        ..ControllerConfig::default()
    };
    let error = Controller::start(taken).await.expect_err("taken");
    assert!(error.to_string().contains("--metrics"), "{error}");
    controller.stop().await;
}
