//! Calls and one-way messages: order, concurrency, failures, deadlines.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use pocket_proto::{BODY_BYTES_MAX, HEADER_BYTES, Operation, Status};
use pocket_wire::Connection;
use prost::Message;
use support::{JOB, PATIENCE, TestServer, echo, frame, read_frame};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

fn pattern(bytes: usize, seed: usize) -> Bytes {
    (0..bytes).map(|at| (at * 31 + seed) as u8).collect()
}

#[tokio::test]
async fn bodies_of_any_length_come_back() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    for bytes in [
        0,
        1,
        63,
        64,
        88,
        89,
        4096,
        8191,
        8192,
        8193,
        16_384,
        16_385,
        1 << 20,
        3_000_001,
    ] {
        let body = pattern(bytes, bytes);
        assert_eq!(
            echo(&connection, body.clone()).await.unwrap(),
            body,
            "{bytes} bytes"
        );
    }
}

#[tokio::test]
async fn body_is_head_and_data_and_comes_apart_where_the_service_wants() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    for bytes in [0, 10, 100, 9000, 1 << 20] {
        let (head, data) = (pattern(24, 1), pattern(bytes, 2));
        let reply = connection
            .call(Operation::WriteBlock, JOB, &head, data.clone(), PATIENCE)
            .await
            .unwrap();
        assert_eq!(reply.body[..24], head);
        assert_eq!(reply.body[24..], data);
    }
    // A body shorter than its head.
    let reply = connection
        .call(Operation::WriteBlock, JOB, b"short", Bytes::new(), PATIENCE)
        .await
        .unwrap();
    assert_eq!(reply.body, "short");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_at_once_each_get_their_own_reply() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let calls: Vec<_> = (0..10_000)
        .map(|at| {
            let connection = connection.clone();
            tokio::spawn(async move {
                let body = pattern(at % 3000, at);
                assert_eq!(echo(&connection, body.clone()).await.unwrap(), body);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_small_calls_share_a_connection() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let calls: Vec<_> = (0..400)
        .map(|at| {
            let connection = connection.clone();
            tokio::spawn(async move {
                let bytes = if at % 8 == 0 { 1 << 20 } else { at };
                let body = pattern(bytes, at);
                assert_eq!(echo(&connection, body.clone()).await.unwrap(), body);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn later_answer_does_not_hold_up_those_behind_it() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let slow = connection.clone();
    let slow = tokio::spawn(async move {
        let body = Bytes::from_static(b"slow");
        slow.call(Operation::TruncateBlocks, JOB, &[], body, PATIENCE)
            .await
    });
    server
        .service
        .until(|s| s.handled.load(Ordering::SeqCst) == 1)
        .await;
    assert_eq!(
        echo(&connection, Bytes::from_static(b"fast"))
            .await
            .unwrap(),
        "fast"
    );
    assert!(!slow.is_finished());
    server.service.release.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().body, "slow");
}

#[tokio::test]
async fn one_way_messages_and_calls_arrive_in_the_order_they_were_made() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let mut expected = Vec::new();
    for at in 0..2000 {
        let body = Bytes::from(format!("{at}"));
        expected.push(body.clone());
        match at % 5 {
            4 => {
                let call = connection.call(Operation::Metadata, JOB, &body, Bytes::new(), PATIENCE);
                call.await.unwrap();
            }
            _ => connection
                .send(Operation::Metadata, JOB, &body, Bytes::new())
                .unwrap(),
        }
    }
    server.service.until(|s| s.noted.lock().len() == 2000).await;
    assert_eq!(*server.service.noted.lock(), expected);
}

#[tokio::test]
async fn call_polled_once_is_on_its_way_before_a_later_message() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let mut call = pin!(connection.call(Operation::Metadata, JOB, b"call", Bytes::new(), PATIENCE));
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut nobody).is_pending());
    connection
        .send(Operation::Metadata, JOB, b"message", Bytes::new())
        .unwrap();
    server.service.until(|s| s.noted.lock().len() == 2).await;
    assert_eq!(*server.service.noted.lock(), ["call", "message"]);
    call.await.unwrap();
}

#[test]
fn call_first_polled_on_a_foreign_thread_completes_in_a_task() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, connection) = runtime.block_on(async {
        let server = TestServer::start().await;
        let connection = server.connect().await;
        (server, connection)
    });
    // As a session thread of FUSE does it: inside the runtime's context, but no worker of it.
    let _context = runtime.enter();
    let body = Bytes::from_static(b"inline");
    let mut call = Box::pin(async move { echo(&connection, body).await });
    let first = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let reply = match first {
        Poll::Ready(reply) => reply,
        Poll::Pending => {
            let moved = runtime.spawn(call);
            runtime.block_on(moved).unwrap()
        }
    };
    assert_eq!(reply.unwrap(), "inline");
    drop(server);
}

#[tokio::test]
async fn failure_arrives_with_status_and_sentence() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let failure = connection
        .call(Operation::DropJob, JOB, &[], Bytes::new(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.status, Status::QuotaExceeded);
    assert_eq!(failure.message, "nothing left of 7GiB");
}

#[tokio::test]
async fn handler_that_panics_fails_its_request_alone() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let failure = connection
        .call(Operation::RemoveInodes, JOB, &[], Bytes::new(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.status, Status::Internal);
    assert_eq!(
        echo(&connection, Bytes::from_static(b"on")).await.unwrap(),
        "on"
    );
}

#[tokio::test]
async fn body_longer_than_any_frame_is_refused_here_and_now() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let body = Bytes::from(vec![0; BODY_BYTES_MAX as usize + 1]);
    let failure = echo(&connection, body).await.unwrap_err();
    assert_eq!(failure.status, Status::Invalid);
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn ping_is_answered_by_the_transport() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let reply = connection
        .call(Operation::Ping, JOB, &[], Bytes::new(), PATIENCE)
        .await
        .unwrap();
    assert!(reply.body.is_empty());
    assert_eq!(server.service.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn unanswered_call_fails_at_its_deadline_and_ends_the_connection() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let start = Instant::now();
    let deadline = Duration::from_millis(100);
    let overdue = connection.call(Operation::TruncateBlocks, JOB, &[], Bytes::new(), deadline);
    let patient = connection.call(Operation::TruncateBlocks, JOB, &[], Bytes::new(), PATIENCE);
    let (overdue, patient) = tokio::join!(overdue, patient);
    assert!(start.elapsed() >= deadline && start.elapsed() < PATIENCE / 2);
    for outcome in [overdue, patient] {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.status, Status::Unavailable);
        assert!(failure.message.contains(&server.endpoint), "{failure}");
    }
    assert!(connection.is_closed());
    server.assert_alive().await;
}

#[tokio::test]
async fn call_given_up_by_its_caller_does_not_disturb_others() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    {
        let mut call = pin!(connection.call(
            Operation::TruncateBlocks,
            JOB,
            b"given up",
            Bytes::new(),
            PATIENCE
        ));
        let first = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(first.is_pending());
    }
    server.service.release.add_permits(1);
    for at in 0..100 {
        let body = pattern(10, at);
        assert_eq!(echo(&connection, body.clone()).await.unwrap(), body);
    }
}

#[tokio::test]
async fn unreachable_server_is_unavailable_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = Connection::connect(&endpoint, Default::default(), None, PATIENCE).await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    assert!(failure.message.contains(&endpoint), "{failure}");
}

#[tokio::test]
async fn server_that_does_not_greet_is_unavailable_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let deadline = Duration::from_millis(50);
    let start = Instant::now();
    let refused = Connection::connect(&endpoint, Default::default(), None, deadline).await;
    assert_eq!(refused.unwrap_err().status, Status::Unavailable);
    assert!(start.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn peer_gone_within_a_frame_fails_the_calls_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let dying = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        welcome(&mut socket).await;
        let (header, _) = read_frame(&mut socket).await;
        let mut reply = header.reply(Status::Ok, 1 << 20).encode().to_vec();
        reply.extend_from_slice(&[1; 100_000]);
        socket.write_all(&reply).await.unwrap();
    });
    let hello = Default::default();
    let (connection, _) = Connection::connect(&endpoint, hello, None, PATIENCE)
        .await
        .unwrap();
    let failure = echo(&connection, Bytes::from_static(b"die"))
        .await
        .unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    assert!(failure.message.contains("within a frame"), "{failure}");
    timeout(PATIENCE, connection.closed()).await.unwrap();
    let failure = echo(&connection, Bytes::new()).await.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    dying.await.unwrap();
}

#[tokio::test]
async fn reply_that_nobody_asked_for_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let confused = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        welcome(&mut socket).await;
        let (header, _) = read_frame(&mut socket).await;
        for id in [u64::MAX, header.id ^ 1 << 40, 1 << 31] {
            let reply = frame(header.operation, id, b"not yours");
            socket.write_all(&reply).await.unwrap();
        }
        let reply = frame(header.operation, header.id, b"yours");
        socket.write_all(&reply).await.unwrap();
        socket
    });
    let hello = Default::default();
    let (connection, _) = Connection::connect(&endpoint, hello, None, PATIENCE)
        .await
        .unwrap();
    assert_eq!(echo(&connection, Bytes::new()).await.unwrap(), "yours");
    confused.await.unwrap();
}

#[tokio::test]
async fn client_gone_within_a_frame_is_a_disconnection() {
    let server = TestServer::start().await;
    for cut in [3, HEADER_BYTES, HEADER_BYTES + 5000] {
        let mut socket = server.greeted_socket().await;
        let request = frame(Operation::WriteBlock, 1, &[7; 100_000]);
        socket.write_all(&request[..cut]).await.unwrap();
    }
    server
        .service
        .until(|s| s.disconnected.load(Ordering::SeqCst) == 3)
        .await;
    assert_eq!(server.service.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn last_clone_dropped_is_a_disconnection() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let clone = connection.clone();
    drop(connection);
    assert_eq!(echo(&clone, Bytes::from_static(b"on")).await.unwrap(), "on");
    drop(clone);
    server
        .service
        .until(|s| s.disconnected.load(Ordering::SeqCst) == 1)
        .await;
}

#[tokio::test]
async fn stopped_server_ends_its_connections_and_then_itself() {
    let mut server = TestServer::start().await;
    let connection = server.connect().await;
    let pending = connection.clone();
    let pending = tokio::spawn(async move {
        pending
            .call(Operation::TruncateBlocks, JOB, &[], Bytes::new(), PATIENCE)
            .await
    });
    let service = Arc::clone(&server.service);
    service
        .until(|s| s.handled.load(Ordering::SeqCst) == 1)
        .await;
    server.stop.cancel();
    let serving = server.serving.take().unwrap();
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!(
        pending.await.unwrap().unwrap_err().status,
        Status::Unavailable
    );
    timeout(PATIENCE, connection.closed()).await.unwrap();
    assert_eq!(service.disconnected.load(Ordering::SeqCst), 1);
}

async fn welcome(socket: &mut TcpStream) {
    let (header, _) = read_frame(socket).await;
    let body = pocket_proto::session::Welcome {
        protocol_version: pocket_proto::PROTOCOL_VERSION,
        ..Default::default()
    }
    .encode_to_vec();
    let reply = header.reply(Status::Ok, body.len() as u32).encode();
    socket
        .write_all(&[&reply[..], &body].concat())
        .await
        .unwrap();
}
