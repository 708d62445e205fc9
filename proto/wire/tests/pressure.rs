//! Pushes, and peers that do not take what they are sent.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use pocket_proto::{Failure, Operation, Status};
use pocket_wire::{Connection, ServerLimits};
use support::{Collected, JOB, PATIENCE, TestServer, assert_hung_up, echo, frame, read_frame};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

/// More than the sockets of a connection hold in both directions together.
const MORE_THAN_SOCKETS_HOLD: usize = 64 << 20;

#[tokio::test]
async fn pushes_arrive_in_order_and_before_the_replies_behind_them() {
    let server = TestServer::start().await;
    let collected = Arc::new(Collected::default());
    let connection = server.connect_with(Some(Arc::clone(&collected) as _)).await;
    for at in 0..100_u64 {
        let reply = connection
            .call(
                Operation::Metadata,
                JOB,
                format!("push {at}").as_bytes(),
                Bytes::new(),
                PATIENCE,
            )
            .await
            .unwrap();
        // The request's own push came after it was taken up.
        assert_eq!(reply.pushes_before, at);
        assert_eq!(collected.pushes.lock().len() as u64, at + 1);
    }
    let expected: Vec<_> = (0..100).map(|at| format!("push {at}")).collect();
    assert_eq!(*collected.pushes.lock(), expected);
}

#[tokio::test]
async fn reply_overtaken_by_a_push_names_fewer_pushes() {
    let server = TestServer::start().await;
    let collected = Arc::new(Collected::default());
    let connection = server.connect_with(Some(Arc::clone(&collected) as _)).await;
    let slow = connection.clone();
    let slow = tokio::spawn(async move {
        slow.call(Operation::TruncateBlocks, JOB, &[], Bytes::new(), PATIENCE)
            .await
    });
    server
        .service
        .until(|s| s.handled.load(Ordering::SeqCst) == 1)
        .await;
    let pusher = server.service.pushers.lock()[0].clone();
    assert!(pusher.push(Operation::Recall, JOB, Bytes::from_static(b"overtaking")));
    server.service.release.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().pushes_before, 0);
    assert_eq!(*collected.pushes.lock(), ["overtaking"]);
    let reply = connection
        .call(Operation::Ping, JOB, &[], Bytes::new(), PATIENCE)
        .await;
    assert_eq!(reply.unwrap().pushes_before, 1);
}

#[tokio::test]
async fn pushes_made_while_greeting_arrive_behind_the_welcome() {
    let server = TestServer::start().await;
    server.service.push_at_hello.store(3, Ordering::SeqCst);
    let collected = Arc::new(Collected::default());
    let connection = server.connect_with(Some(Arc::clone(&collected) as _)).await;
    let reply = connection
        .call(Operation::Ping, JOB, &[], Bytes::new(), PATIENCE)
        .await;
    assert_eq!(reply.unwrap().pushes_before, 3);
    assert_eq!(*collected.pushes.lock(), ["early 0", "early 1", "early 2"]);
}

#[tokio::test]
async fn peer_that_takes_no_pushes_is_closed() {
    let server = TestServer::start_with(ServerLimits {
        queued_bytes_max: 1 << 20,
        ..ServerLimits::default()
    })
    .await;
    let mut socket = server.greeted_socket().await;
    let pusher = server.service.pushers.lock()[0].clone();
    let body = Bytes::from(vec![0; 1 << 20]);
    let mut pushed = 0;
    while pusher.push(Operation::Recall, JOB, body.clone()) {
        pushed += body.len();
        assert!(pushed <= MORE_THAN_SOCKETS_HOLD, "pushes are bounded");
        tokio::task::yield_now().await;
    }
    assert!(pusher.is_closed());
    assert_hung_up(&mut socket).await;
    server
        .service
        .until(|s| s.disconnected.load(Ordering::SeqCst) == 1)
        .await;
}

#[tokio::test]
async fn server_reads_no_more_requests_than_its_client_takes_answers() {
    const ANSWER_BYTES: usize = 1 << 20;
    let server = TestServer::start_with(ServerLimits {
        queued_bytes_max: 2 << 20,
        ..ServerLimits::default()
    })
    .await;
    let socket = server.greeted_socket().await;
    let (mut reading, mut writing) = socket.into_split();
    let requests = MORE_THAN_SOCKETS_HOLD / ANSWER_BYTES * 2;
    let mut sending = tokio::spawn(async move {
        let request = frame(Operation::ReadBlock, 1, &vec![5; ANSWER_BYTES]);
        for _ in 0..requests {
            writing.write_all(&request).await.unwrap();
        }
        writing
    });
    // Nothing is read here, so the server must stop, and with it the sender.
    let stuck = timeout(Duration::from_millis(500), &mut sending).await;
    assert!(
        stuck.is_err(),
        "the server takes all requests and holds all answers"
    );
    assert!(server.service.handled.load(Ordering::SeqCst) < requests);
    server.assert_alive().await;
    // Reading goes on where it stood, and nothing was lost.
    let expected = requests * frame(Operation::ReadBlock, 1, &vec![5; ANSWER_BYTES]).len();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    while received < expected {
        let now = tokio::io::AsyncReadExt::read(&mut reading, &mut buffer)
            .await
            .unwrap();
        assert!(now > 0, "all answers arrive");
        received += now;
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn client_that_takes_no_answers_is_closed_in_the_end() {
    let server = TestServer::start_with(ServerLimits {
        queued_bytes_max: 1 << 20,
        stall_deadline: Duration::from_millis(100),
        ..ServerLimits::default()
    })
    .await;
    let mut socket = server.greeted_socket().await;
    let request = frame(Operation::ReadBlock, 1, &vec![5; 1 << 20]);
    // The service still holds its end of the connection; the socket must go all the same.
    let told = async {
        for _ in 0..MORE_THAN_SOCKETS_HOLD >> 20 {
            if socket.write_all(&request).await.is_err() {
                break;
            }
        }
    };
    timeout(PATIENCE, told).await.expect("the client is told");
    server
        .service
        .until(|s| s.disconnected.load(Ordering::SeqCst) == 1)
        .await;
    server.assert_alive().await;
}

#[tokio::test]
async fn calls_to_a_peer_that_reads_nothing_fail_at_their_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let deaf = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (header, _) = read_frame(&mut socket).await;
        let body = prost::Message::encode_to_vec(&pocket_proto::session::Welcome {
            protocol_version: pocket_proto::PROTOCOL_VERSION,
            ..Default::default()
        });
        let reply = header.reply(Status::Ok, body.len() as u32).encode();
        socket
            .write_all(&[&reply[..], &body].concat())
            .await
            .unwrap();
        socket
    });
    let hello = Default::default();
    let (connection, _) = Connection::connect(&endpoint, hello, None, PATIENCE)
        .await
        .unwrap();
    let _socket = deaf.await.unwrap();
    let body = Bytes::from(vec![0; 1 << 20]);
    let calls: Vec<_> = (0..MORE_THAN_SOCKETS_HOLD >> 20)
        .map(|_| {
            let (connection, body) = (connection.clone(), body.clone());
            tokio::spawn(async move {
                let deadline = Duration::from_millis(300);
                connection
                    .call(Operation::WriteBlock, JOB, &[], body, deadline)
                    .await
            })
        })
        .collect();
    for call in calls {
        let failure = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap_err();
        assert_eq!(failure.status, Status::Unavailable);
    }
    assert!(connection.is_closed());
}

#[tokio::test]
async fn one_way_messages_to_a_peer_that_reads_nothing_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server = TestServer::start().await;
    // A relay that passes the greeting on and then stops to read.
    let target = server.endpoint.clone();
    let relay = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
        let (header, body) = read_frame(&mut near).await;
        far.write_all(&[&header.encode()[..], &body].concat())
            .await
            .unwrap();
        let (header, body) = read_frame(&mut far).await;
        near.write_all(&[&header.encode()[..], &body].concat())
            .await
            .unwrap();
        (near, far)
    });
    let connected = Connection::connect(&endpoint, server.hello(), None, PATIENCE).await;
    let (connection, _) = connected.unwrap();
    let (mut near, _far) = relay.await.unwrap();
    let body = Bytes::from(vec![0; 1 << 20]);
    let mut sent = 0;
    let refusal: Failure = loop {
        match connection.send(Operation::Metadata, JOB, b"", body.clone()) {
            Ok(()) => sent += 1,
            Err(failure) => break failure,
        }
        assert!(
            sent <= MORE_THAN_SOCKETS_HOLD >> 20,
            "one-way messages are bounded"
        );
        tokio::task::yield_now().await;
    };
    assert_eq!(refusal.status, Status::LimitReached);
    assert!(!connection.is_closed());
    // Everything that was taken arrives once the peer reads again.
    for _ in 0..sent {
        let (header, body) = read_frame(&mut near).await;
        assert_eq!((header.id, body.len()), (0, 1 << 20));
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_refused() {
    let server = TestServer::start_with(ServerLimits {
        connections_max: 2,
        ..ServerLimits::default()
    })
    .await;
    let first = server.connect().await;
    let second = server.connect().await;
    let third = Connection::connect(&server.endpoint, server.hello(), None, PATIENCE).await;
    assert_eq!(third.unwrap_err().status, Status::Unavailable);
    drop(first);
    server
        .service
        .until(|s| s.disconnected.load(Ordering::SeqCst) == 1)
        .await;
    // The place is free a moment after the service was told.
    let connect = async {
        loop {
            let hello = server.hello();
            if let Ok((connection, _)) =
                Connection::connect(&server.endpoint, hello, None, PATIENCE).await
            {
                return connection;
            }
        }
    };
    let third = timeout(PATIENCE, connect).await.unwrap();
    for connection in [second, third] {
        assert_eq!(
            echo(&connection, Bytes::from_static(b"on")).await.unwrap(),
            "on"
        );
    }
}
