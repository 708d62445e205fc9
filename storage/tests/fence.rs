//! Storage servers and sessions that are over: what they ask for changes nothing any more.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Credential, Failure, Fence, Fill, HEADER_BYTES, Scope,
    SessionId, SessionScope, Status, session::StorageServer as ServerAddress,
};
use pocket_storage::StorageServer;
use pocket_storage_client::{BlockStore, StorageClient, StorageClientOptions};
use support::{
    FILE, FIRST, ISSUER, JOB, OTHER_JOB, address_of, client, client_of, cluster, config,
    credential, key, range, start, vouch, vouch_on,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const OLD: Bytes = Bytes::from_static(b"old!");
const NEW: Bytes = Bytes::from_static(b"new!");

/// The sessions that go on, of those there have been.
fn fence(edition: u64, newest: u64, live: &[u64]) -> Fence {
    Fence {
        issuer: ISSUER,
        edition,
        newest: SessionId(newest),
        live: live.iter().map(|id| SessionId(*id)).collect(),
    }
}

async fn content(address: &ServerAddress) -> Bytes {
    let read = client(JOB).read(address, range(0, 100)).await.unwrap();
    read.bytes
}

/// Passes connections on to a server. What goes there can be held back on the way.
struct Relay {
    endpoint: String,
    connections: Arc<AtomicUsize>,
    /// The first so many connections ...
    state: watch::Sender<Held>,
    held_bytes: watch::Sender<usize>,
    answered_bytes: watch::Sender<usize>,
}

/// How many connections, the first ones, ...
#[derive(Clone, Copy, Default)]
struct Held {
    /// ... do not pass on what goes to the server, ...
    back: usize,
    /// ... or have ended for the client.
    ended: usize,
}

impl Relay {
    async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay {
            endpoint: listener.local_addr().unwrap().to_string(),
            connections: Arc::default(),
            state: watch::Sender::default(),
            held_bytes: watch::Sender::default(),
            answered_bytes: watch::Sender::default(),
        };
        let (target, connections) = (target.to_owned(), Arc::clone(&relay.connections));
        let (state, held, answered) = (
            relay.state.clone(),
            relay.held_bytes.clone(),
            relay.answered_bytes.clone(),
        );
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let far = TcpStream::connect(&target).await.unwrap();
                let (from_near, to_near) = near.into_split();
                let (from_far, to_far) = far.into_split();
                let (back, ended) = (state.subscribe(), state.subscribe());
                tokio::spawn(to_server((from_near, to_far), (back, number), held.clone()));
                let answered = answered.clone();
                tokio::spawn(to_client((from_far, to_near), (ended, number), answered));
            }
        });
        relay
    }

    fn address(&self, server: &ServerAddress) -> ServerAddress {
        ServerAddress {
            endpoint: self.endpoint.clone(),
            ..server.clone()
        }
    }

    /// Holds back what comes on the connections there are.
    fn hold(&self) {
        let back = self.connections.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.back = back);
    }

    /// Until so many bytes are on the way.
    async fn holds(&self, bytes: usize) {
        let mut held = self.held_bytes.subscribe();
        held.wait_for(|held| *held >= bytes).await.unwrap();
    }

    /// Ends the connections there are, as far as their client can tell.
    fn end(&self) {
        let ended = self.connections.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.ended = ended);
    }

    fn release(&self) {
        self.state.send_modify(|state| state.back = 0);
    }

    /// Releases, and returns when the server has answered what was held back.
    async fn release_and_hear(&self) {
        let mut answered = self.answered_bytes.subscribe();
        let before = *answered.borrow_and_update();
        self.release();
        answered
            .wait_for(|answered| *answered >= before + HEADER_BYTES)
            .await
            .unwrap();
    }
}

async fn until(state: &mut watch::Receiver<Held>, is_so: impl Fn(&Held) -> bool) {
    state.wait_for(is_so).await.map(drop).unwrap();
}

async fn to_server(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    (mut state, number): (watch::Receiver<Held>, usize),
    held_bytes: watch::Sender<usize>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if number < state.borrow().back {
            held_bytes.send_modify(|held| *held += length);
        }
        until(&mut state, |state| number >= state.back).await;
        to.write_all(&bytes[..length]).await.unwrap();
    }
}

async fn to_client(
    (mut from, to): (OwnedReadHalf, OwnedWriteHalf),
    (mut state, number): (watch::Receiver<Held>, usize),
    answered_bytes: watch::Sender<usize>,
) {
    let mut bytes = vec![0; 64 << 10];
    let mut to = Some(to);
    loop {
        tokio::select! {
            read = from.read(&mut bytes) => {
                let Ok(length @ 1..) = read else { return };
                answered_bytes.send_modify(|answered| *answered += length);
                if let Some(to) = &mut to {
                    // A client that has gone needs no answer.
                    let _ = to.write_all(&bytes[..length]).await;
                }
            }
            () = until(&mut state, |state| number < state.ended), if to.is_some() => to = None,
        }
    }
}

#[tokio::test]
async fn write_that_was_on_its_way_when_its_session_was_fenced_changes_nothing() {
    let (server, address) = start(1 << 20).await;
    let relay = Relay::start(&address.endpoint).await;
    let through = relay.address(&address);
    let (stopped, other) = (client(JOB), client_of(JOB, SessionId(2)));
    // Over each of its connections once, so that all are open.
    for _ in 0..StorageClientOptions::default().connections {
        let write = stopped.write(&through, FILE, FIRST, 0, OLD.into());
        write.await.unwrap();
    }

    relay.hold();
    let late = tokio::spawn(async move {
        let late = stopped.write(&through, FILE, FIRST, 2, OLD.into()).await;
        (stopped, through, late)
    });
    relay.holds(OLD.len()).await;
    cluster()
        .fence(&address, JOB, &fence(1, 2, &[2]))
        .await
        .unwrap();
    let write = other.write(&address, FILE, FIRST, 0, NEW.into());
    write.await.unwrap();
    relay.release();
    let (stopped, through, late) = late.await.unwrap();
    let failure = late.unwrap_err();
    assert_eq!(failure.status, Status::SessionEnded);
    assert!(failure.message.contains("begin another"), "{failure}");
    assert_eq!(content(&address).await, NEW);

    // Nor does what it asks for later, over whatever connection; reading does no harm.
    let anew = client(JOB);
    for (store, address) in [
        (&stopped, &through),
        (&stopped, &address),
        (&anew, &address),
    ] {
        let write = store.write(address, FILE, FIRST, 0, OLD.into()).await;
        assert_eq!(write.unwrap_err().status, Status::SessionEnded);
        assert_eq!(store.read(address, range(0, 4)).await.unwrap().bytes, NEW);
    }
    assert_eq!(server.used_bytes(), 512);
    // A session that begins later may.
    let next = client_of(JOB, SessionId(3));
    next.write(&address, FILE, FIRST, 0, OLD.into())
        .await
        .unwrap();
    assert_eq!(content(&address).await, OLD);
}

/// A metadata server's truncation, asked again when its connection ended, is done once: what was
/// written behind its answer stays.
#[tokio::test]
async fn truncation_that_was_repeated_cuts_nothing_late() {
    let (_server, address) = start(1 << 20).await;
    let relay = Relay::start(&address.endpoint).await;
    let through = relay.address(&address);
    let (cutting, mount) = (cluster(), client(JOB));
    let write = mount.write(&address, FILE, FIRST, 0, OLD.into());
    write.await.unwrap();
    // So that it is connected.
    cutting
        .truncate(&through, JOB, FILE, FIRST, 4)
        .await
        .unwrap();

    relay.hold();
    let cut = tokio::spawn(async move { cutting.truncate(&through, JOB, FILE, FIRST, 1).await });
    relay.holds(HEADER_BYTES).await;
    relay.end();
    cut.await.unwrap().unwrap();
    assert_eq!(content(&address).await, "o");
    let write = mount.write(&address, FILE, FIRST, 0, NEW.into());
    write.await.unwrap();
    relay.release_and_hear().await;
    assert_eq!(content(&address).await, NEW);
}

/// A write that was given up because the server was silent is not done behind a later one of the
/// same mount, over whichever of its connections.
#[tokio::test]
async fn write_that_was_given_up_changes_nothing_behind_a_later_one() {
    let (_server, address) = start(1 << 20).await;
    let relay = Relay::start(&address.endpoint).await;
    let through = relay.address(&address);
    let options = StorageClientOptions {
        silence_max: Duration::from_millis(100),
        retry_after: Duration::ZERO,
        ..StorageClientOptions::default()
    };
    let connections = options.connections;
    let mount = StorageClient::new(JOB, credential(JOB), options);
    let write = |data: Bytes| mount.write(&through, FILE, FIRST, 0, data.into());
    for _ in 0..connections {
        write(OLD).await.unwrap();
    }
    relay.hold();
    for _ in 0..connections {
        let given_up = write(OLD).await.unwrap_err();
        assert_eq!(given_up.status, Status::Unavailable);
    }
    write(NEW).await.unwrap();
    relay.release_and_hear().await;
    assert_eq!(content(&address).await, NEW);
}

#[tokio::test]
async fn no_operation_of_a_fenced_session_changes_anything() {
    let (server, address) = start(1 << 20).await;
    let (stopped, other) = (client(JOB), client_of(JOB, SessionId(2)));
    for block in [0, 1] {
        let write = other.write(&address, FILE, BlockIndex(block), 0, NEW.into());
        write.await.unwrap();
    }
    cluster()
        .fence(&address, JOB, &fence(1, 2, &[2]))
        .await
        .unwrap();
    let span = BlockSpan {
        inode: FILE,
        first: FIRST,
        count: 9,
    };
    let second = BlockAddress {
        block: BlockIndex(1),
        ..range(0, 2)
    };
    let changes = [
        stopped.truncate(&address, FILE, FIRST, 0).await,
        stopped
            .allocate(&address, range(0, 4096), Fill::Missing)
            .await,
        stopped.allocate(&address, range(0, 4), Fill::All).await,
        stopped.punch(&address, range(0, 4)).await,
        stopped.drop_blocks(&address, span).await,
        stopped.copy(&address, second, range(2, 2)).await,
    ];
    for change in changes {
        assert_eq!(change.unwrap_err().status, Status::SessionEnded);
    }
    assert_eq!((server.used_bytes(), content(&address).await), (1024, NEW));
    // The cluster's own servers may always.
    cluster()
        .truncate(&address, JOB, FILE, FIRST, 1)
        .await
        .unwrap();
    assert_eq!(content(&address).await, "n");
}

#[tokio::test]
async fn fence_concerns_its_job_and_its_metadata_server_only() {
    let (_server, address) = start(1 << 20).await;
    let cluster = cluster();
    cluster
        .fence(&address, OTHER_JOB, &fence(1, 9, &[]))
        .await
        .unwrap();
    let foreign = Fence {
        issuer: pocket_proto::Incarnation(1),
        ..fence(1, 9, &[])
    };
    cluster.fence(&address, JOB, &foreign).await.unwrap();
    let (own, other) = (client(JOB), client(OTHER_JOB));
    let write = own.write(&address, FILE, FIRST, 0, NEW.into());
    write.await.unwrap();
    let write = other.write(&address, FILE, FIRST, 0, NEW.into());
    assert_eq!(write.await.unwrap_err().status, Status::SessionEnded);
}

#[tokio::test]
async fn server_out_of_touch_with_the_metadata_server_serves_no_mount_until_it_is_in_touch() {
    let server = StorageServer::start(config(1 << 20)).await.unwrap();
    let address = address_of(&server);
    let failure = client(JOB)
        .write(&address, FILE, FIRST, 0, OLD.into())
        .await
        .unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    assert!(failure.message.contains("not in touch"), "{failure}");
    // What it holds may have been removed or cut meanwhile.
    let failure = client(JOB).read(&address, range(0, 4)).await.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    let span = BlockSpan {
        inode: FILE,
        first: FIRST,
        count: 1,
    };
    let failure = client(JOB).list(&address, span).await.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);

    let store = client(JOB);
    let late = store.write(&address, FILE, FIRST, 0, NEW.into());
    let (late, ()) = tokio::join!(late, vouch(&address));
    late.unwrap();
    assert_eq!(content(&address).await, NEW);
}

#[tokio::test]
async fn only_a_sessions_own_credential_changes_blocks() {
    let (server, address) = start(1 << 20).await;
    let scope = SessionScope {
        job: JOB,
        session: SessionId(1),
        issuer: ISSUER,
    };
    let refused = async |job, credential: &[u8]| -> Failure {
        let options = StorageClientOptions::default();
        let store = StorageClient::new(job, credential.to_vec(), options);
        let write = store.write(&address, FILE, FIRST, 0, OLD.into()).await;
        write.unwrap_err()
    };
    let genuine = Credential::issue(&key(), Scope::Session(scope));
    let foreign = refused(OTHER_JOB, genuine.as_bytes()).await;
    assert_eq!(foreign.status, Status::Denied);
    assert!(foreign.message.contains("is for job"), "{foreign}");

    let of_the_job = Credential::issue(&key(), Scope::Job(JOB));
    let too_little = refused(JOB, of_the_job.as_bytes()).await;
    assert_eq!(too_little.status, Status::Denied);
    assert!(
        too_little.message.contains("opens a session"),
        "{too_little}"
    );

    let mut forged = genuine.as_bytes().to_vec();
    forged[9] ^= 3; // Another session's number.
    let other_key = pocket_proto::ClusterKey::from_passphrase("another");
    let strange = Credential::issue(&other_key, Scope::Session(scope));
    for credential in [&forged, strange.as_bytes()] {
        let failure = refused(JOB, credential).await;
        assert_eq!(failure.status, Status::Denied);
        assert!(failure.message.contains("cluster key"), "{failure}");
    }
    let cut = refused(JOB, &genuine.as_bytes()[1..]).await;
    assert_eq!(cut.status, Status::Denied);
    assert!(cut.message.contains("expected"), "{cut}");
    assert_eq!(server.used_bytes(), 0);
}

#[tokio::test]
async fn restarted_server_takes_nothing_of_a_session_that_was_fenced_before() {
    let (server, address) = start(1 << 20).await;
    cluster()
        .fence(&address, JOB, &fence(1, 2, &[2]))
        .await
        .unwrap();
    let config = pocket_storage::StorageConfig {
        listen: address.endpoint.clone(),
        server: server.server_id(),
        ..config(1 << 20)
    };
    server.stop().await;
    let server = StorageServer::start(config).await.unwrap();
    let reborn = address_of(&server);
    let stopped = client(JOB);
    let write = stopped.write(&reborn, FILE, FIRST, 0, OLD.into()).await;
    assert_eq!(write.unwrap_err().status, Status::Unavailable);
    // A metadata server tells its fences before it vouches.
    cluster()
        .fence(&reborn, JOB, &fence(1, 2, &[2]))
        .await
        .unwrap();
    vouch_on(&reborn).await;
    let write = stopped.write(&reborn, FILE, FIRST, 0, OLD.into()).await;
    assert_eq!(write.unwrap_err().status, Status::SessionEnded);
    assert_eq!(server.used_bytes(), 0);
}
