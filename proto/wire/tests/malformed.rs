//! What is not a proper conversation ends with a clear error for the one who holds it, and with
//! nothing for anybody else.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;

use pocket_proto::{
    BODY_BYTES_MAX, ClusterKey, Credential, HEADER_BYTES, Header, Operation, PROTOCOL_VERSION,
    Scope, Status, session::Hello,
};
use pocket_wire::{Connection, ServerLimits};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use prost::Message;
use std::time::Duration;
use support::{PATIENCE, TestServer, assert_hung_up, frame, read_frame};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn garbage_instead_of_a_greeting_is_hung_up_on() {
    let server = TestServer::start().await;
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: pocket\r\nAccept: */*\r\n\r\n".to_vec(),
        vec![0; 100],
        vec![0xff; 5000],
    ] {
        let mut socket = TcpStream::connect(&server.endpoint).await.unwrap();
        socket.write_all(&garbage).await.unwrap();
        assert_hung_up(&mut socket).await;
    }
    server.assert_alive().await;
}

#[test]
fn any_bytes_end_a_conversation_and_never_the_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(TestServer::start());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(
            &(any::<bool>(), vec(any::<u8>(), 0..300)),
            |(greet, bytes)| {
                runtime.block_on(async {
                    let mut socket = match greet {
                        true => server.greeted_socket().await,
                        false => TcpStream::connect(&server.endpoint).await.unwrap(),
                    };
                    // Refused halfway is fine.
                    let _ = socket.write_all(&bytes).await;
                    let _ = socket.shutdown().await;
                    assert_hung_up(&mut socket).await;
                });
                Ok(())
            },
        )
        .unwrap();
    runtime.block_on(server.assert_alive());
}

#[tokio::test]
async fn bytes_behind_a_greeting_that_are_no_frame_end_the_connection() {
    let server = TestServer::start().await;
    let mut socket = server.greeted_socket().await;
    socket.write_all(&[0xaa; HEADER_BYTES]).await.unwrap();
    assert_hung_up(&mut socket).await;
    server
        .service
        .until(|s| s.disconnected.load(Ordering::SeqCst) == 1)
        .await;
    server.assert_alive().await;
}

#[tokio::test]
async fn request_before_the_greeting_is_hung_up_on() {
    let server = TestServer::start().await;
    let mut socket = TcpStream::connect(&server.endpoint).await.unwrap();
    let request = frame(Operation::ReadBlock, 1, b"let me in");
    socket.write_all(&request).await.unwrap();
    assert_hung_up(&mut socket).await;
    assert_eq!(server.service.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn second_greeting_is_refused_and_the_connection_goes_on() {
    let server = TestServer::start().await;
    let mut socket = server.greeted_socket().await;
    let hello = server.hello().encode_to_vec();
    socket
        .write_all(&frame(Operation::Hello, 2, &hello))
        .await
        .unwrap();
    socket
        .write_all(&frame(Operation::Ping, 3, b""))
        .await
        .unwrap();
    let (refusal, _) = read_frame(&mut socket).await;
    assert_eq!((refusal.id, refusal.status), (2, Status::Malformed));
    let (pong, _) = read_frame(&mut socket).await;
    assert_eq!((pong.id, pong.status), (3, Status::Ok));
}

#[tokio::test]
async fn silent_connection_is_closed_at_the_greeting_deadline() {
    let server = TestServer::start_with(ServerLimits {
        hello_deadline: Duration::from_millis(50),
        ..ServerLimits::default()
    })
    .await;
    let mut socket = TcpStream::connect(&server.endpoint).await.unwrap();
    assert_hung_up(&mut socket).await;
}

#[tokio::test]
async fn oversized_body_ends_the_connection() {
    let server = TestServer::start_with(ServerLimits {
        body_bytes_max: 1000,
        ..ServerLimits::default()
    })
    .await;
    for bytes in [1001, BODY_BYTES_MAX, u32::MAX] {
        let mut socket = server.greeted_socket().await;
        let mut header = Header::request(Operation::ReadBlock, 1, support::JOB, 0).encode();
        header[..4].copy_from_slice(&bytes.to_le_bytes());
        socket.write_all(&header).await.unwrap();
        assert_hung_up(&mut socket).await;
    }
    assert_eq!(server.service.handled.load(Ordering::SeqCst), 0);
    server.assert_alive().await;
}

#[tokio::test]
async fn oversized_greeting_is_hung_up_on() {
    let server = TestServer::start().await;
    let mut socket = TcpStream::connect(&server.endpoint).await.unwrap();
    let _ = socket
        .write_all(&frame(Operation::Hello, 1, &[0; 5000]))
        .await;
    assert_hung_up(&mut socket).await;
}

#[tokio::test]
async fn greeting_that_is_no_message_is_refused_with_a_sentence() {
    let server = TestServer::start().await;
    let mut socket = TcpStream::connect(&server.endpoint).await.unwrap();
    socket
        .write_all(&frame(Operation::Hello, 1, &[0xff; 20]))
        .await
        .unwrap();
    let (header, sentence) = read_frame(&mut socket).await;
    assert_eq!(header.status, Status::Malformed);
    assert!(
        String::from_utf8(sentence)
            .unwrap()
            .contains("greeting cannot be read")
    );
}

#[tokio::test]
async fn half_a_frame_is_waited_for_and_then_served() {
    let server = TestServer::start().await;
    let mut socket = server.greeted_socket().await;
    for size in [10, 5000, 100_000] {
        let body: Vec<u8> = (0..size).map(|at| at as u8).collect();
        let request = frame(Operation::ReadBlock, 9, &body);
        for cut in [
            1,
            HEADER_BYTES - 1,
            HEADER_BYTES,
            HEADER_BYTES + 3,
            request.len() - 1,
        ] {
            // A byte at each end by itself, so that the server sees the frame in pieces.
            for piece in [&request[..cut], &request[cut..]] {
                socket.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let (header, echoed) = read_frame(&mut socket).await;
            assert_eq!((header.id, header.flags), (9, 3));
            assert_eq!(echoed, body);
        }
    }
}

#[tokio::test]
async fn other_protocol_version_is_refused_with_both_versions() {
    let server = TestServer::start().await;
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION + 41,
        ..server.hello()
    };
    let refused = Connection::connect(&server.endpoint, hello, None, PATIENCE).await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.status, Status::VersionMismatch);
    for version in [PROTOCOL_VERSION, PROTOCOL_VERSION + 41] {
        assert!(failure.message.contains(&version.to_string()), "{failure}");
    }
}

#[tokio::test]
async fn other_wire_version_is_hung_up_on_and_the_client_says_why() {
    let server = TestServer::start().await;
    let mut socket = server.greeted_socket().await;
    let mut request = frame(Operation::Ping, 1, b"");
    request[5] += 1;
    socket.write_all(&request).await.unwrap();
    assert_hung_up(&mut socket).await;

    // The other way round: a server that answers in another wire version.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let answering = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_frame(&mut socket).await;
        let mut reply = frame(Operation::Hello, 1, b"");
        reply[5] += 1;
        socket.write_all(&reply).await.unwrap();
        socket
    });
    let refused = Connection::connect(&endpoint, server.hello(), None, PATIENCE).await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    assert!(failure.message.contains("wire version 2"), "{failure}");
    answering.await.unwrap();
}

#[tokio::test]
async fn wrong_credential_is_denied_with_a_sentence() {
    let server = TestServer::start().await;
    let foreign = Credential::issue(&ClusterKey::from_passphrase("other"), Scope::Cluster);
    for credential in [&b""[..], b"guess", foreign.as_bytes()] {
        let hello = Hello {
            credential: bytes::Bytes::copy_from_slice(credential),
            ..server.hello()
        };
        let refused = Connection::connect(&server.endpoint, hello, None, PATIENCE).await;
        let failure = refused.unwrap_err();
        assert_eq!(failure.status, Status::Denied);
        assert!(failure.message.contains("credential"), "{failure}");
    }
    assert_eq!(server.service.connected.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn server_that_is_no_pocket_server_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let answering = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_frame(&mut socket).await;
        let _ = socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\nServer: other\r\n\r\n")
            .await;
        socket
    });
    let refused = Connection::connect(&endpoint, Hello::default(), None, PATIENCE).await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    assert!(failure.message.contains(&endpoint), "{failure}");
    assert!(failure.message.contains("not a pocket frame"), "{failure}");
    answering.await.unwrap();
}
