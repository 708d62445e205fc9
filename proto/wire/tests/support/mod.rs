//! A service to test the transport with, and raw sockets to mistreat it with.

// Each test binary uses a part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::{
    ClusterKey, Credential, Failure, HEADER_BYTES, Header, JobId, Operation, PROTOCOL_VERSION,
    Scope, Status,
    session::{Hello, Welcome},
};
use pocket_wire::{
    Answer, Connection, Handled, PushHandler, Pusher, ServerLimits, Service, authenticate, serve,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The job that test clients speak of.
pub const JOB: JobId = JobId(77);

/// What the service does with each operation.
///
/// - `ReadBlock`: echoes the body at once.
/// - `WriteBlock`: takes 24 bytes apart and answers how the body came.
/// - `TruncateBlocks`: echoes the body later, when [`TestService::release`] has a permit.
/// - `RemoveInodes`: panics later. `DropJob`: a failure with a sentence.
/// - `Metadata`: notes the body, and pushes it back where it starts with `push`.
pub struct TestService {
    pub key: ClusterKey,
    pub release: Semaphore,
    pub noted: Mutex<Vec<Bytes>>,
    pub news: Notify,
    pub handled: AtomicUsize,
    pub connected: AtomicUsize,
    pub disconnected: AtomicUsize,
    pub pushers: Mutex<Vec<Pusher>>,
    pub push_at_hello: AtomicUsize,
}

impl Default for TestService {
    fn default() -> Self {
        TestService {
            key: ClusterKey::from_passphrase("wire test"),
            release: Semaphore::new(0),
            noted: Mutex::default(),
            news: Notify::new(),
            handled: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            disconnected: AtomicUsize::new(0),
            pushers: Mutex::default(),
            push_at_hello: AtomicUsize::new(0),
        }
    }
}

impl TestService {
    /// Waits until `condition` holds; it is looked at whenever the service did something.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if condition(self) {
                    return;
                }
                news.await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .expect("the condition comes about");
    }
}

pub struct ArcService(pub Arc<TestService>);

impl Service for ArcService {
    type Peer = Pusher;

    async fn hello(&self, hello: Hello, pusher: Pusher) -> Result<(Pusher, Welcome), Failure> {
        authenticate(&self.0.key, &hello)?;
        for at in 0..self.0.push_at_hello.load(Ordering::SeqCst) {
            let body = Bytes::from(format!("early {at}"));
            assert!(pusher.push(Operation::Recall, JOB, body));
        }
        self.0.pushers.lock().push(pusher.clone());
        self.0.connected.fetch_add(1, Ordering::SeqCst);
        self.0.news.notify_waiters();
        let welcome = Welcome {
            server: 5,
            incarnation: 6,
            ..Welcome::default()
        };
        Ok((pusher, welcome))
    }

    fn head_bytes(&self, operation: Operation) -> usize {
        match operation {
            Operation::WriteBlock => 24,
            _ => 0,
        }
    }

    fn handle(&self, peer: &Arc<Pusher>, header: Header, body: Bytes) -> Handled {
        let service = Arc::clone(&self.0);
        service.handled.fetch_add(1, Ordering::SeqCst);
        let handled = match header.operation {
            Operation::ReadBlock => Handled::Now(Answer::ok(body).with_flags(3)),
            Operation::TruncateBlocks => {
                let service = Arc::clone(&self.0);
                Handled::later(async move {
                    service.release.acquire().await.unwrap().forget();
                    Answer::ok(body)
                })
            }
            Operation::RemoveInodes => Handled::later(async { panic!("as the test wants") }),
            Operation::DropJob => Handled::Now(Answer::failed(Failure::new(
                Status::QuotaExceeded,
                "nothing left of 7GiB",
            ))),
            _ => {
                if body.starts_with(b"push") {
                    peer.push(Operation::Recall, header.job, body.clone());
                }
                service.noted.lock().push(body);
                Handled::Now(Answer::empty())
            }
        };
        service.news.notify_waiters();
        handled
    }

    fn handle_with_head(
        &self,
        _peer: &Arc<Pusher>,
        _header: Header,
        head: &[u8],
        data: Bytes,
    ) -> Handled {
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        self.0.news.notify_waiters();
        Handled::Now(Answer::ok(data).with_head(Bytes::copy_from_slice(head)))
    }

    fn disconnected(&self, _peer: &Arc<Pusher>) {
        self.0.disconnected.fetch_add(1, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }
}

/// A server with a [`TestService`], stopped when dropped.
pub struct TestServer {
    pub endpoint: String,
    pub service: Arc<TestService>,
    pub stop: CancellationToken,
    pub serving: Option<tokio::task::JoinHandle<()>>,
    _stop: DropGuard,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(ServerLimits::default()).await
    }

    pub async fn start_with(limits: ServerLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let service = Arc::new(TestService::default());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(
            listener,
            Arc::new(ArcService(Arc::clone(&service))),
            limits,
            stop.clone(),
        ));
        TestServer {
            endpoint,
            service,
            stop: stop.clone(),
            serving: Some(serving),
            _stop: stop.drop_guard(),
        }
    }

    pub fn hello(&self) -> Hello {
        let credential = Credential::issue(&self.service.key, Scope::Job(JOB));
        Hello {
            protocol_version: PROTOCOL_VERSION,
            credential: Bytes::copy_from_slice(credential.as_bytes()),
            ..Hello::default()
        }
    }

    pub async fn connect(&self) -> Connection {
        self.connect_with(None).await
    }

    pub async fn connect_with(&self, pushes: Option<Arc<dyn PushHandler>>) -> Connection {
        let connected = Connection::connect(&self.endpoint, self.hello(), pushes, PATIENCE).await;
        connected.unwrap().0
    }

    /// A raw socket that has been greeted.
    pub async fn greeted_socket(&self) -> TcpStream {
        let mut socket = TcpStream::connect(&self.endpoint).await.unwrap();
        let hello = self.hello().encode_to_vec();
        let frame = frame(Operation::Hello, 1, &hello);
        socket.write_all(&frame).await.unwrap();
        let (header, _) = read_frame(&mut socket).await;
        assert_eq!(header.status, Status::Ok);
        socket
    }

    /// That the server still serves others.
    pub async fn assert_alive(&self) {
        let connection = self.connect().await;
        let reply = echo(&connection, Bytes::from_static(b"alive?"))
            .await
            .unwrap();
        assert_eq!(reply, "alive?");
    }
}

/// A request's bytes.
pub fn frame(operation: Operation, id: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Header::request(operation, id, JOB, body.len() as u32)
        .encode()
        .to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads one frame from a raw socket.
pub async fn read_frame(socket: &mut TcpStream) -> (Header, Vec<u8>) {
    let mut header = [0; HEADER_BYTES];
    timeout(PATIENCE, socket.read_exact(&mut header))
        .await
        .unwrap()
        .unwrap();
    let header = Header::decode(&header).unwrap();
    let mut body = vec![0; header.body_bytes as usize];
    timeout(PATIENCE, socket.read_exact(&mut body))
        .await
        .unwrap()
        .unwrap();
    (header, body)
}

/// Waits until the server hangs up; whatever it sends before is dropped.
pub async fn assert_hung_up(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is a way to hang up, too.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest))
        .await
        .expect("the server hangs up");
}

/// Has a body echoed.
pub async fn echo(connection: &Connection, body: Bytes) -> Result<Bytes, Failure> {
    connection
        .call(Operation::ReadBlock, JOB, &[], body, PATIENCE)
        .await
        .map(|reply| reply.body)
}

/// Collects pushes.
#[derive(Default)]
pub struct Collected {
    pub pushes: Mutex<Vec<Bytes>>,
}

impl PushHandler for Collected {
    fn push(&self, operation: Operation, body: Bytes) {
        assert_eq!(operation, Operation::Recall);
        self.pushes.lock().push(body);
    }
}
