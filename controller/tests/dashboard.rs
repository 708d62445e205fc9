//! The dashboard over HTTP: its page, what it asks for, and that it is nowhere unless asked for.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use pocket_controller::{Controller, ControllerConfig, RunningController};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn start(dashboard: Option<String>) -> RunningController {
    let config = ControllerConfig {
        listen: "127.0.0.1:0".to_owned(),
        settle: Duration::ZERO,
        dashboard,
        ..ControllerConfig::default()
    };
    Controller::start(config).await.expect("free ports")
}

async fn ask(endpoint: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).await.expect("it listens");
    let whole = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(whole.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The fields of an answer in JSON.
fn fields(answer: &str) -> serde_json::Value {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn the_dashboard_is_a_page_and_what_it_asks_for() {
    let controller = start(Some("127.0.0.1:0".to_owned())).await;
    let endpoint = controller.dashboard_endpoint().expect("was asked for");
    let page = ask(&endpoint, "GET /").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for part in [
        "content-security-policy: default-src 'none'; script-src 'nonce-",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "content-type: text/html; charset=utf-8",
        "<title>Pocket</title>",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let state = fields(&ask(&endpoint, "GET /api/state").await);
    assert_eq!(state["servers"].as_array().map(Vec::len), Some(0));
    assert_eq!(state["jobs"].as_array().map(Vec::len), Some(0));
    assert_eq!(state["pools"], serde_json::json!([]));

    // A sample comes every second.
    let second = async {
        loop {
            let history = fields(&ask(&endpoint, "GET /api/history/0").await);
            if history["last"].as_u64() >= Some(2) {
                return history;
            }
        }
    };
    let history = tokio::time::timeout(Duration::from_secs(30), second).await;
    let history = history.expect("there are samples");
    assert_eq!(history["samples"][0]["number"], 1);
    let last = history["last"].as_u64().unwrap();
    let newer = fields(&ask(&endpoint, &format!("GET /api/history/{last}")).await);
    assert!(newer["samples"].as_array().unwrap().len() < 2, "{newer}");

    for path in [
        "/metrics",
        "/api/history/x",
        "/api/history/-1",
        "/../etc/passwd",
        "/?a",
    ] {
        let found = ask(&endpoint, &format!("GET {path}")).await;
        let expected = if path == "/?a" { " 200 " } else { " 404 " };
        assert!(found.contains(expected), "{path}: {found}");
    }
    assert!(ask(&endpoint, "POST /").await.contains(" 405 "));
    controller.stop().await;
}

#[tokio::test]
async fn the_dashboard_is_nowhere_unless_asked_for_and_never_twice() {
    let first = start(None).await;
    assert_eq!(first.dashboard_endpoint(), None);
    let other = start(Some("127.0.0.1:0".to_owned())).await;
    let config = ControllerConfig {
        listen: "127.0.0.1:0".to_owned(),
        dashboard: other.dashboard_endpoint(),
        ..ControllerConfig::default()
    };
    let error = Controller::start(config).await.expect_err("it is taken");
    assert!(error.to_string().contains("--dashboard"), "{error}");
    first.stop().await;
    other.stop().await;
}
