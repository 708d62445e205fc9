//! Clients of servers that die, return and stand still.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Fill, HeldBlock, ServerId, Status,
    session::StorageServer as ServerAddress,
};
use pocket_storage::{StorageConfig, StorageServer};
use pocket_storage_client::{BlockStore, ClusterStorage, StorageClient, StorageClientOptions};
use support::{
    FILE, FIRST, JOB, address_of, client, config, credential, key, range, start, vouch_on,
};
use tokio::net::TcpListener;

const DATA: Bytes = Bytes::from_static(b"data");

/// A fresh server on the address of another.
async fn restart(address: &ServerAddress, server: ServerId) -> pocket_storage::RunningServer {
    let server = StorageServer::start(StorageConfig {
        listen: address.endpoint.clone(),
        server,
        ..config(1 << 20)
    })
    .await
    .unwrap();
    vouch_on(&address_of(&server)).await;
    server
}

#[tokio::test]
async fn dead_server_is_unavailable_quickly() {
    let (server, address) = start(1 << 20).await;
    let store = client(JOB);
    store
        .write(&address, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap();
    server.stop().await;
    let start = Instant::now();
    for _ in 0..100 {
        let read = store.read(&address, range(0, 4)).await.unwrap_err();
        assert_eq!(read.status, Status::Unavailable);
        assert!(read.message.contains(&address.endpoint), "{read}");
        let written = store
            .write(&address, FILE, FIRST, 0, DATA.into())
            .await
            .unwrap_err();
        assert_eq!(written.status, Status::Unavailable);
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn requests_in_flight_fail_when_their_server_dies() {
    let (server, address) = start(1 << 30).await;
    let store = Arc::new(client(JOB));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, address) = (Arc::clone(&store), address.clone());
            tokio::spawn(async move {
                let data = Bytes::from(vec![1; 1 << 20]);
                loop {
                    let block = pocket_proto::BlockIndex(writer);
                    let written = store
                        .write(&address, FILE, block, 0, data.clone().into())
                        .await;
                    if let Err(failure) = written {
                        return failure;
                    }
                }
            })
        })
        .collect();
    store
        .write(&address, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap();
    server.stop().await;
    let start = Instant::now();
    for writer in writers {
        assert_eq!(writer.await.unwrap().status, Status::Unavailable);
    }
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn server_of_another_incarnation_has_lost_the_blocks() {
    let (server, address) = start(1 << 20).await;
    let store = client(JOB);
    store
        .write(&address, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap();
    let id = server.server_id();
    server.stop().await;
    let server = restart(&address, id).await;
    for _ in 0..2 {
        let read = store.read(&address, range(0, 4)).await.unwrap_err();
        assert_eq!(read.status, Status::Lost);
        let written = store
            .write(&address, FILE, FIRST, 0, DATA.into())
            .await
            .unwrap_err();
        assert_eq!(written.status, Status::ServerFull);
        let truncated = store.truncate(&address, FILE, FIRST, 0).await.unwrap_err();
        assert_eq!(truncated.status, Status::Lost);
    }
    let cluster = ClusterStorage::new(&key(), StorageClientOptions::default());
    let dropped = cluster.drop_job(&address, JOB).await.unwrap_err();
    assert_eq!(dropped.status, Status::Lost);
    // Its new life is another server.
    let reborn = address_of(&server);
    store
        .write(&reborn, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap();
    assert_eq!(store.read(&reborn, range(0, 4)).await.unwrap().bytes, DATA);
    assert_eq!(
        store.read(&address, range(0, 4)).await.unwrap_err().status,
        Status::Lost
    );
}

#[tokio::test]
async fn other_server_on_the_same_address_is_not_mistaken() {
    let (server, address) = start(1 << 20).await;
    server.stop().await;
    let _other = restart(&address, ServerId::random()).await;
    let store = client(JOB);
    assert_eq!(
        store.read(&address, range(0, 4)).await.unwrap_err().status,
        Status::Lost
    );
    let written = store
        .write(&address, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap_err();
    assert_eq!(written.status, Status::ServerFull);
}

#[tokio::test]
async fn server_that_stands_still_costs_its_deadline_once_and_then_fails_fast() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = ServerAddress {
        server: 1,
        incarnation: 1,
        endpoint: listener.local_addr().unwrap().to_string(),
        tier: "dram".to_owned(),
    };
    let options = StorageClientOptions {
        connect_deadline: Duration::from_millis(200),
        retry_after: Duration::from_secs(60),
        ..StorageClientOptions::default()
    };
    let store = Arc::new(StorageClient::new(JOB, credential(JOB), options));
    let start = Instant::now();
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let (store, address) = (Arc::clone(&store), address.clone());
            tokio::spawn(async move { store.read(&address, range(0, 4)).await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap_err().status, Status::Unavailable);
    }
    // One attempt for all, not one each.
    assert!(start.elapsed() < Duration::from_secs(2));
    let start = Instant::now();
    assert_eq!(
        store.read(&address, range(0, 4)).await.unwrap_err().status,
        Status::Unavailable
    );
    assert!(start.elapsed() < Duration::from_millis(100));
}

#[tokio::test]
async fn server_that_falls_silent_while_it_owes_answers_is_given_up() {
    let (server, address) = start(1 << 20).await;
    let relay = Relay::start(address.endpoint.clone()).await;
    let through = ServerAddress {
        endpoint: relay.endpoint.clone(),
        ..address_of(&server)
    };
    let options = StorageClientOptions {
        connections: 1,
        silence_max: Duration::from_millis(300),
        connect_deadline: Duration::from_millis(300),
        ..StorageClientOptions::default()
    };
    let store = StorageClient::new(JOB, credential(JOB), options);
    store
        .write(&through, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap();
    relay.freeze();
    let start = Instant::now();
    let failure = store.read(&through, range(0, 4)).await.unwrap_err();
    assert_eq!(failure.status, Status::Unavailable);
    assert!(failure.message.contains("silent"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn lost_connection_is_opened_again_unnoticed() {
    let (server, address) = start(1 << 20).await;
    let relay = Relay::start(address.endpoint.clone()).await;
    let through = ServerAddress {
        endpoint: relay.endpoint.clone(),
        ..address_of(&server)
    };
    let store = client(JOB);
    for round in 0..10 {
        store
            .write(&through, FILE, FIRST, 0, DATA.into())
            .await
            .unwrap();
        assert_eq!(
            store.read(&through, range(0, 4)).await.unwrap().bytes,
            DATA,
            "{round}"
        );
        relay.cut();
    }
    assert!(relay.connections.load(Ordering::SeqCst) > 2);
}

#[tokio::test]
async fn wrong_credential_is_denied_not_unavailable() {
    let (_server, address) = start(1 << 20).await;
    let store = StorageClient::new(JOB, b"guess".to_vec(), StorageClientOptions::default());
    let failure = store.read(&address, range(0, 4)).await.unwrap_err();
    assert_eq!(failure.status, Status::Denied);
}

#[tokio::test]
async fn connections_to_a_server_are_few_and_shared() {
    let (server, address) = start(64 << 20).await;
    let relay = Relay::start(address.endpoint.clone()).await;
    let through = ServerAddress {
        endpoint: relay.endpoint.clone(),
        ..address_of(&server)
    };
    let store = Arc::new(client(JOB));
    let writers: Vec<_> = (0..100)
        .map(|writer| {
            let (store, through) = (Arc::clone(&store), through.clone());
            tokio::spawn(async move {
                let block = pocket_proto::BlockIndex(writer);
                store.write(&through, FILE, block, 0, DATA.into()).await
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(relay.connections.load(Ordering::SeqCst), 2);
}

/// Passes connections on to a server until they are cut or frozen.
struct Relay {
    endpoint: String,
    connections: Arc<AtomicUsize>,
    orders: tokio::sync::broadcast::Sender<Order>,
}

#[derive(Clone, Copy)]
enum Order {
    Cut,
    Freeze,
}

impl Relay {
    async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let (orders, _) = tokio::sync::broadcast::channel(1);
        let (count, ordering) = (Arc::clone(&connections), orders.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut orders = ordering.subscribe();
                let target = target.clone();
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        order = orders.recv() => if let Ok(Order::Freeze) = order {
                            std::future::pending::<()>().await;
                        },
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Relay {
            endpoint,
            connections,
            orders,
        }
    }

    fn cut(&self) {
        // Nobody listens where no connection is open.
        let _ = self.orders.send(Order::Cut);
    }

    fn freeze(&self) {
        let _ = self.orders.send(Order::Freeze);
    }
}

#[tokio::test]
async fn space_of_blocks_is_made_told_copied_and_freed() {
    let (server, address) = start(1 << 20).await;
    let store = client(JOB);
    let other = BlockIndex(9);
    let to = BlockAddress {
        block: other,
        ..range(0, 600)
    };
    store
        .write(&address, FILE, FIRST, 0, DATA.into())
        .await
        .unwrap();
    let grown = store
        .allocate(&address, range(100, 500), Fill::Missing)
        .await;
    assert_eq!(grown, Ok(512));
    assert_eq!(store.copy(&address, range(0, 600), to).await, Ok(1024));
    assert_eq!(store.punch(&address, range(1, 2)).await, Ok(0));
    let zeroed = store.allocate(&address, range(3, 1), Fill::All).await;
    assert_eq!(zeroed, Ok(0));
    let read = store.read(&address, range(0, 4)).await.unwrap();
    assert_eq!(read.bytes[..], [DATA[0], 0, 0, 0]);
    let all = BlockSpan {
        inode: FILE,
        first: FIRST,
        count: u64::MAX,
    };
    let held = |block| HeldBlock {
        block,
        length_bytes: 600,
    };
    let told = store.list(&address, all).await.unwrap();
    assert_eq!(told.blocks, [held(FIRST), held(other)]);
    assert_eq!(store.read(&address, to).await.unwrap().bytes[..4], DATA[..]);
    assert_eq!(store.punch(&address, range(500, 100)).await, Ok(-512));
    assert_eq!(store.drop_blocks(&address, all).await, Ok(-1536));
    assert_eq!(server.used_bytes(), 0);
    let beyond = store.allocate(&address, range(u32::MAX, 1), Fill::Missing);
    assert_eq!(beyond.await.unwrap_err().status, Status::Invalid);
}
