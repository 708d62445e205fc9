//! The server over sockets: sessions that are resumed, requests that are repeated, jobs that end.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_meta::{MetaConfig, MetaServer, RunningMeta};
use pocket_meta_client::{MetaClient, MetaControlClient, Metadata, RecallHandler, SessionInfo};
use pocket_proto::control::CreateJobRequest;
use pocket_proto::session::*;
use pocket_proto::{
    ClusterKey, Credential, Failure, JobId, Operation as Frame, PROTOCOL_VERSION, Scope, Status,
};
use pocket_wire::Connection;
use prost::Message;
use support::{
    HasInode, Ledger, Operation, ROOT, Told, close, commit, create, lookup, make, open, remove,
    status, weight_map,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const JOB: JobId = JobId(77);
const DEADLINE: Duration = Duration::from_secs(5);

/// A server with one job.
struct Server {
    running: RunningMeta,
    control: MetaControlClient,
    ledger: Arc<Ledger>,
    key: ClusterKey,
}

impl Server {
    async fn start() -> Server {
        Server::with_lease(5000).await
    }

    async fn with_lease(lease_ms: u32) -> Server {
        let key = ClusterKey::from_passphrase("test");
        let config = MetaConfig {
            listen: "127.0.0.1:0".to_owned(),
            control_listen: "127.0.0.1:0".to_owned(),
            cluster_key: key.clone(),
            lease_ms,
            ..MetaConfig::default()
        };
        let ledger = Ledger::new();
        let running = MetaServer::start_with(config, ledger.clone())
            .await
            .unwrap();
        let control = MetaControlClient::connect(running.control_endpoint(), &key).unwrap();
        let server = Server {
            running,
            control,
            ledger,
            key,
        };
        server.create(JOB).await;
        server
    }

    async fn create(&self, job: JobId) {
        self.control.create_job(order(job)).await.unwrap();
    }

    fn credential(&self, job: JobId) -> Vec<u8> {
        let credential = Credential::issue(&self.key, Scope::Job(job));
        credential.as_bytes().to_vec()
    }

    async fn mount(&self) -> (MetaClient, Arc<Events>) {
        self.mount_at(self.running.endpoint()).await
    }

    async fn mount_at(&self, endpoint: &str) -> (MetaClient, Arc<Events>) {
        let events = Arc::new(Events::default());
        let credential = self.credential(JOB);
        let client = MetaClient::connect(endpoint, JOB, credential, "test", events.clone());
        let client = client.await.unwrap();
        *events.client.lock() = Some(client.clone());
        (client, events)
    }

    /// A session by hand.
    async fn connect(&self, session: u64) -> Result<(Connection, Session), Failure> {
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            credential: self.credential(JOB).into(),
            host: "test".to_owned(),
            session,
            ..Hello::default()
        };
        let endpoint = self.running.endpoint();
        let (connection, welcome) = Connection::connect(endpoint, hello, None, DEADLINE).await?;
        Ok((connection, welcome.session.unwrap()))
    }
}

fn order(job: JobId) -> CreateJobRequest {
    CreateJobRequest {
        job: job.0,
        name: format!("job-{job}"),
        capacity_bytes: 1 << 30,
        weight_map: Some(weight_map(1, 3)),
        ..CreateJobRequest::default()
    }
}

/// What a client was told; recalls are answered.
#[derive(Default)]
struct Events {
    client: Mutex<Option<MetaClient>>,
    recalls: watch::Sender<Vec<Recall>>,
    lost: watch::Sender<Vec<Status>>,
    renewed: watch::Sender<u32>,
}

impl RecallHandler for Events {
    fn recall(&self, recall: Recall, stamp: u64) {
        assert!(stamp > 0);
        let done = RecallDone {
            recall: recall.recall,
        };
        self.recalls.send_modify(|recalls| recalls.push(recall));
        if let Some(client) = &*self.client.lock() {
            client.tell(Operation::RecallDone(done)).unwrap();
        }
    }

    fn session_lost(&self, reason: Failure) {
        self.lost.send_modify(|lost| lost.push(reason.status));
    }

    fn session_renewed(&self, _: SessionInfo) {
        self.renewed.send_modify(|times| *times += 1);
    }
}

async fn call(client: &MetaClient, operation: Operation) -> Result<reply::Result, Failure> {
    Ok(client.call(operation).await?.result)
}

fn entry(result: reply::Result) -> Entry {
    match result {
        reply::Result::Entry(entry) => entry,
        reply::Result::Opened(opened) => opened.entry.unwrap(),
        other => panic!("no entry: {other:?}"),
    }
}

async fn raw_call(
    connection: &Connection,
    job: JobId,
    request: &Request,
) -> Result<reply::Result, Failure> {
    let body = request.encode_to_vec();
    let frame = connection
        .call(Frame::Metadata, job, &body, Bytes::new(), DEADLINE)
        .await?;
    Ok(Reply::decode(frame.body).unwrap().result.unwrap())
}

/// Passes bytes between mounts and a server, and can cut the line.
struct Proxy {
    endpoint: String,
    cut: watch::Sender<u32>,
}

impl Proxy {
    async fn to(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (cut, server) = (watch::Sender::new(0), server.to_owned());
        let cuts = cut.subscribe();
        tokio::spawn(async move {
            loop {
                let (mut mount, _) = listener.accept().await.unwrap();
                let mut server = TcpStream::connect(&server).await.unwrap();
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut mount, &mut server) => return,
                        _ = cuts.changed() => {}
                    }
                    // Requests still arrive, but the answer that comes next is lost.
                    let ((mut requests, _), (mut answers, mut to_server)) =
                        (mount.split(), server.split());
                    let mut lost = [0; 1 << 16];
                    tokio::select! {
                        _ = tokio::io::copy(&mut requests, &mut to_server) => {}
                        _ = answers.read(&mut lost) => {}
                    }
                });
            }
        });
        Proxy { endpoint, cut }
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

#[tokio::test]
async fn recalls_travel_between_mounts() {
    let server = Server::start().await;
    let ((one, _), (two, events)) = (server.mount().await, server.mount().await);
    let made = call(&one, make(ROOT, "f", FileKind::Regular)).await;
    let file = entry(made.unwrap()).inode();
    let seen = entry(call(&two, lookup(ROOT, "f")).await.unwrap());
    assert!(seen.name_valid_ms > 0 && seen.attributes_valid_ms > 0);
    call(&one, remove(ROOT, "f")).await.unwrap();
    let recalls = events.recalls.borrow().clone();
    assert_eq!(recalls.len(), 1);
    assert_eq!(recalls[0].attributes, [file]);
    assert!(matches!(
        call(&two, lookup(ROOT, "f")).await,
        Ok(reply::Result::Absent(_))
    ));
    one.close().await;
    assert!(call(&one, lookup(ROOT, "f")).await.is_err());
    server.running.stop().await;
}

#[tokio::test]
async fn session_outlives_its_connection() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.running.endpoint()).await;
    let (one, events) = server.mount_at(&proxy.endpoint).await;
    let file = entry(call(&one, create(ROOT, "f")).await.unwrap()).inode();
    let session = one.session().session;
    proxy.cut();
    call(&one, remove(ROOT, "f")).await.unwrap();
    // Still open, so still the same session.
    let left = entry(
        call(
            &one,
            Operation::GetAttributes(GetAttributes { inode: file }),
        )
        .await
        .unwrap(),
    );
    assert_eq!(left.links(), 0);
    assert_eq!(one.session().session, session);
    assert!(events.lost.borrow().is_empty());
    // What was told while the line was cut is not forgotten.
    proxy.cut();
    one.tell(close(file, true)).unwrap();
    let goes = async {
        let attributes = || Operation::GetAttributes(GetAttributes { inode: file });
        while call(&one, attributes()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        status(call(&one, attributes()).await)
    };
    let gone = tokio::time::timeout(Duration::from_secs(5), goes).await;
    assert_eq!(gone.unwrap(), Status::Stale);
}

#[tokio::test]
async fn recall_that_was_lost_with_its_connection_comes_again() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.running.endpoint()).await;
    let (one, _) = server.mount().await;
    let (two, events) = server.mount_at(&proxy.endpoint).await;
    call(&one, create(ROOT, "f")).await.unwrap();
    call(&two, lookup(ROOT, "f")).await.unwrap();
    proxy.cut();
    let start = Instant::now();
    call(&one, remove(ROOT, "f")).await.unwrap();
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    assert!(!events.recalls.borrow().is_empty());
    assert!(events.lost.borrow().is_empty());
}

#[tokio::test]
async fn mutations_are_done_once_whenever_the_line_is_cut() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.running.endpoint()).await;
    let (one, events) = server.mount_at(&proxy.endpoint).await;
    let made = Arc::new(AtomicU32::new(0));
    let proxy = Arc::new(proxy);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..10 {
        let (one, made, proxy) = (one.clone(), made.clone(), proxy.clone());
        workers.spawn(async move {
            for name in 0..30 {
                let name = format!("d{worker}-{name}");
                // A second time would find the name taken.
                call(&one, make(ROOT, &name, FileKind::Directory))
                    .await
                    .unwrap();
                if made.fetch_add(1, Ordering::Relaxed) % 20 == 0 {
                    proxy.cut();
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert!(events.lost.borrow().is_empty());
    let root = entry(
        call(
            &one,
            Operation::GetAttributes(GetAttributes { inode: ROOT }),
        )
        .await
        .unwrap(),
    );
    assert_eq!(root.links(), 302);
}

#[tokio::test]
async fn repeated_mutation_gets_the_first_answer_without_its_leases() {
    let server = Server::start().await;
    let (connection, session) = server.connect(0).await.unwrap();
    let request = Request {
        operation: Some(make(ROOT, "d", FileKind::Directory)),
        sequence: 9,
        told: 0,
    };
    let first = entry(raw_call(&connection, JOB, &request).await.unwrap());
    connection.close();
    let (connection, resumed) = server.connect(session.session).await.unwrap();
    assert_eq!(resumed.session, session.session);
    let again = entry(raw_call(&connection, JOB, &request).await.unwrap());
    assert_eq!(again.attributes, first.attributes);
    assert!(first.name_valid_ms > 0);
    assert_eq!((again.name_valid_ms, again.attributes_valid_ms), (0, 0));
    let other = Request {
        sequence: 10,
        ..request
    };
    assert_eq!(
        status(raw_call(&connection, JOB, &other).await),
        Status::Exists
    );
}

#[tokio::test]
async fn connection_that_was_replaced_is_heard_no_more() {
    let server = Server::start().await;
    let (old, session) = server.connect(0).await.unwrap();
    let (new, _) = server.connect(session.session).await.unwrap();
    let request = Request {
        operation: Some(lookup(ROOT, "f")),
        sequence: 0,
        told: 0,
    };
    assert_eq!(
        status(raw_call(&old, JOB, &request).await),
        Status::Unavailable
    );
    raw_call(&new, JOB, &request).await.unwrap();
}

#[tokio::test]
async fn lock_granted_while_the_connection_is_away_is_told_on_the_next() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.running.endpoint()).await;
    let (holder, _) = server.mount().await;
    let (waiter, events) = server.mount_at(&proxy.endpoint).await;
    let file = entry(call(&holder, create(ROOT, "f")).await.unwrap()).inode();
    let lock = |mode: LockMode, ticket| {
        Operation::SetLock(SetLock {
            inode: file,
            owner: Some(LockOwner {
                kind: LockKind::Flock.into(),
                owner: 1,
            }),
            range: None,
            mode: mode.into(),
            process: 1,
            ticket,
            wait: true,
        })
    };
    call(&holder, lock(LockMode::Exclusive, 1)).await.unwrap();
    let told = call(&waiter, lock(LockMode::Exclusive, 5)).await.unwrap();
    assert!(matches!(told, reply::Result::SetLock(reply) if reply.queued));
    proxy.cut();
    call(&holder, lock(LockMode::Unlocked, 0)).await.unwrap();
    let mut recalls = events.recalls.subscribe();
    let is_told = |recalls: &Vec<Recall>| recalls.iter().any(|recall| recall.granted == [5]);
    recalls.wait_for(is_told).await.unwrap();
    let told = call(&waiter, lock(LockMode::Exclusive, 5)).await.unwrap();
    assert!(matches!(told, reply::Result::SetLock(reply) if !reply.queued));
}

#[tokio::test]
async fn ended_session_is_renewed_and_says_so() {
    let server = Server::with_lease(200).await;
    let proxy = Proxy::to(server.running.endpoint()).await;
    let (one, events) = server.mount_at(&proxy.endpoint).await;
    let file = entry(call(&one, create(ROOT, "f")).await.unwrap()).inode();
    let session = one.session().session;
    // Whoever else resumes the session takes it away; then it ends.
    let (thief, _) = server.connect(session.0).await.unwrap();
    let goodbye = Request {
        operation: Some(Operation::Goodbye(Goodbye {})),
        sequence: 0,
        told: 0,
    };
    raw_call(&thief, JOB, &goodbye).await.unwrap();
    let mut renewed = events.renewed.subscribe();
    renewed.wait_for(|times| *times == 1).await.unwrap();
    assert_eq!(*events.lost.borrow(), [Status::SessionEnded]);
    assert_ne!(one.session().session, session);
    assert_eq!(
        entry(call(&one, lookup(ROOT, "f")).await.unwrap()).inode(),
        file
    );
}

#[tokio::test]
async fn dropped_job_is_gone_for_mounts_and_storage_servers() {
    let server = Server::start().await;
    let (one, events) = server.mount().await;
    assert!(server.control.drop_job(JOB, Vec::new()).await.unwrap());
    assert!(!server.control.drop_job(JOB, Vec::new()).await.unwrap());
    let mut lost = events.lost.subscribe();
    lost.wait_for(|lost| lost.contains(&Status::JobGone))
        .await
        .unwrap();
    let gone = call(&one, lookup(ROOT, "f")).await;
    assert_eq!(status(gone), Status::JobGone);
    assert!(one.tell(open(ROOT, false)).is_err());
    let refused = server.connect(0).await.map(|_| ());
    assert_eq!(status(refused), Status::JobGone);
    let dropped = server.ledger.told();
    assert_eq!(dropped.len(), 3);
    assert!(matches!(dropped[0], Told::DropJob { .. }));
}

#[tokio::test]
async fn server_that_comes_back_without_the_job_says_that_it_is_gone() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.running.endpoint()).await;
    let (one, _) = server.mount_at(&proxy.endpoint).await;
    let endpoint = server.running.endpoint().to_owned();
    let key = server.key.clone();
    server.running.stop().await;
    let config = MetaConfig {
        listen: endpoint,
        control_listen: "127.0.0.1:0".to_owned(),
        cluster_key: key,
        ..MetaConfig::default()
    };
    let running = MetaServer::start(config).await.unwrap();
    let gone = call(&one, lookup(ROOT, "f")).await;
    assert_eq!(status(gone), Status::JobGone);
    running.stop().await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let server = Server::start().await;
    let endpoint = server.running.endpoint();
    let events: Arc<Events> = Arc::default();
    let connect = |job, credential: Vec<u8>| {
        MetaClient::connect(endpoint, job, credential, "test", events.clone())
    };
    let other_key = ClusterKey::from_passphrase("other");
    let forged = Credential::issue(&other_key, Scope::Job(JOB));
    let forged = connect(JOB, forged.as_bytes().to_vec()).await;
    assert_eq!(status(forged), Status::Denied);
    let cluster = Credential::issue(&server.key, Scope::Cluster);
    let cluster = connect(JOB, cluster.as_bytes().to_vec()).await;
    assert_eq!(status(cluster), Status::Denied);
    // What a session has for storage servers opens no other.
    let (_, session) = server.connect(0).await.unwrap();
    let scope = Credential::verify(&server.key, &session.storage_credential).unwrap();
    let Scope::Session(own) = scope else {
        panic!("the credential of a session is {scope:?}");
    };
    assert_eq!((own.job, own.session.0), (JOB, session.session));
    let of_a_session = connect(JOB, session.storage_credential.to_vec()).await;
    let refused = of_a_session.unwrap_err();
    assert_eq!(refused.status, Status::Denied);
    assert!(refused.message.contains("for storage servers"), "{refused}");
    let unknown = connect(JobId(5), server.credential(JobId(5))).await;
    assert_eq!(status(unknown), Status::JobGone);
    // A mount of one job that names another.
    server.create(JobId(5)).await;
    let (connection, _) = server.connect(0).await.unwrap();
    let request = Request {
        operation: Some(lookup(ROOT, "f")),
        sequence: 0,
        told: 0,
    };
    let other = raw_call(&connection, JobId(5), &request).await;
    assert_eq!(status(other), Status::Denied);
    // A controller without the key.
    let intruder =
        MetaControlClient::connect(server.running.control_endpoint(), &other_key).unwrap();
    assert_eq!(
        status(intruder.drop_job(JOB, Vec::new()).await),
        Status::Denied
    );
    assert_eq!(
        status(intruder.create_job(order(JobId(6))).await),
        Status::Denied
    );
}

#[tokio::test]
async fn malformed_requests_are_answered_and_the_session_goes_on() {
    let server = Server::start().await;
    let (connection, _) = server.connect(0).await.unwrap();
    let garbage: &[&[u8]] = &[b"\xff\xff\xff", b"\x0a\x7f", b"not a message at all", b""];
    for body in garbage {
        let answer = connection
            .call(Frame::Metadata, JOB, body, Bytes::new(), DEADLINE)
            .await;
        assert_eq!(status(answer), Status::Malformed, "{body:?}");
    }
    let bad_time = Time {
        seconds: 0,
        nanoseconds: 1_000_000_000,
    };
    let senseless = [
        Operation::SetAttributes(SetAttributes {
            inode: ROOT,
            accessed: Some(bad_time),
            ..SetAttributes::default()
        }),
        Operation::Commit(Commit {
            inode: ROOT,
            modified: Some(bad_time),
            ..Commit::default()
        }),
        Operation::MakeNode(MakeNode {
            parent: ROOT,
            name: "x".into(),
            kind: 99,
            ..MakeNode::default()
        }),
    ];
    for operation in senseless {
        let request = Request {
            operation: Some(operation),
            sequence: 0,
            told: 0,
        };
        let answer = raw_call(&connection, JOB, &request).await;
        assert_eq!(status(answer), Status::Malformed);
    }
    let wrong = connection
        .call(Frame::ReadBlock, JOB, &[], Bytes::new(), DEADLINE)
        .await;
    assert_eq!(status(wrong), Status::Unsupported);
    let request = Request {
        operation: Some(lookup(ROOT, "f")),
        sequence: 0,
        told: 0,
    };
    raw_call(&connection, JOB, &request).await.unwrap();
}

#[tokio::test]
async fn what_is_no_frame_ends_its_connection_only() {
    let server = Server::start().await;
    let (one, _) = server.mount().await;
    let mut stranger = TcpStream::connect(server.running.endpoint()).await.unwrap();
    stranger
        .write_all(b"GET / HTTP/1.1\r\nHost: pocket\r\n\r\n and then some more bytes")
        .await
        .unwrap();
    // Closed with or without a reset.
    let _ = stranger.read(&mut [0; 64]).await;
    call(&one, lookup(ROOT, "f"))
        .await
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let refuse = async |order: CreateJobRequest| {
        let refused = server.control.create_job(order).await;
        assert_eq!(status(refused), Status::Invalid);
    };
    refuse(order(JobId(0))).await;
    refuse(CreateJobRequest {
        block_bytes: 12345,
        ..order(JobId(8))
    })
    .await;
    refuse(CreateJobRequest {
        weight_map: None,
        ..order(JobId(8))
    })
    .await;
    let empty = server.control.set_weight_map(JOB, WeightMap::default());
    assert_eq!(status(empty.await), Status::Invalid);
    let unknown = server.control.set_weight_map(JobId(8), weight_map(2, 1));
    assert_eq!(status(unknown.await), Status::JobGone);
}

#[tokio::test]
async fn created_again_a_job_keeps_its_names_and_takes_new_limits() {
    let server = Server::start().await;
    let (one, _) = server.mount().await;
    call(&one, create(ROOT, "f")).await.unwrap();
    let again = CreateJobRequest {
        capacity_bytes: 5,
        weight_map: Some(weight_map(2, 1)),
        ..order(JOB)
    };
    server.control.create_job(again).await.unwrap();
    assert!(matches!(
        call(&one, lookup(ROOT, "f")).await,
        Ok(reply::Result::Entry(_))
    ));
    let grant = Operation::GrantSpace(GrantSpace {
        wanted_bytes: 6,
        needed_bytes: 6,
        returned_bytes: 0,
    });
    assert_eq!(status(call(&one, grant).await), Status::QuotaExceeded);
}

#[tokio::test]
async fn thousands_of_jobs_do_not_know_of_each_other() {
    let server = Server::start().await;
    for job in 1..=2000 {
        server.create(JobId(job)).await;
    }
    for job in [1, 1000, 2000] {
        let events: Arc<Events> = Arc::default();
        let credential = server.credential(JobId(job));
        let endpoint = server.running.endpoint();
        let client = MetaClient::connect(endpoint, JobId(job), credential, "test", events);
        let client = client.await.unwrap();
        let found = call(&client, lookup(ROOT, "f")).await.unwrap();
        assert!(matches!(found, reply::Result::Absent(_)));
        let file = entry(call(&client, create(ROOT, "f")).await.unwrap()).inode();
        call(&client, commit(file, 1, 1)).await.unwrap();
        assert_eq!(client.session().job, JobId(job));
    }
    assert!(
        server
            .control
            .drop_job(JobId(1000), Vec::new())
            .await
            .unwrap()
    );
    server.running.stop().await;
}

#[tokio::test]
async fn repeated_mutation_does_not_give_the_directory_again() {
    let server = Server::start().await;
    let (connection, session) = server.connect(0).await.unwrap();
    let request = Request {
        operation: Some(make(ROOT, "d", FileKind::Directory)),
        sequence: 9,
        told: 0,
    };
    let first = entry(raw_call(&connection, JOB, &request).await.unwrap());
    assert!(first.exclusive && first.names == 0);
    connection.close();
    let (connection, _) = server.connect(session.session).await.unwrap();
    // Another mount makes a name there; the recall is answered.
    let (other, _events) = server.mount().await;
    let acknowledge = async {
        for recall in (1..4).cycle() {
            let done = Request {
                operation: Some(Operation::RecallDone(RecallDone { recall })),
                sequence: 0,
                told: 0,
            };
            raw_call(&connection, JOB, &done).await.unwrap();
        }
    };
    tokio::select! {
        made = call(&other, make(first.inode(), "x", FileKind::Regular)) => { made.unwrap(); }
        () = acknowledge => {}
    }
    let again = entry(raw_call(&connection, JOB, &request).await.unwrap());
    assert!(!again.exclusive, "given again: {again:?}");
}
