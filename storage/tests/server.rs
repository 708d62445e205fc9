//! A storage server over the wire.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use pocket_proto::{
    BlockIndex, ByteCount, Credential, InodeId, JobId, Operation, PROTOCOL_VERSION, Scope, Status,
    session::Hello,
};
use pocket_storage::{StartError, StorageConfig, StorageServer, Store, StoreBandwidth};
use pocket_storage_client::{BlockStore, ClusterStorage, StorageClientOptions};
use pocket_wire::Connection;
use support::{
    FILE, FIRST, JOB, OTHER_JOB, PATIENCE, client, config, credential, key, range, start,
};

async fn connect(endpoint: &str, credential: &[u8]) -> Connection {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        credential: Bytes::copy_from_slice(credential),
        ..Hello::default()
    };
    Connection::connect(endpoint, hello, None, PATIENCE)
        .await
        .unwrap()
        .0
}

#[tokio::test]
async fn blocks_are_read_as_they_were_written() {
    let (_server, address) = start(64 << 20).await;
    let store = client(JOB);
    for bytes in [1, 100, 9000, 1 << 20] {
        let data: Bytes = (0..bytes).map(|at: u32| (at * 13) as u8).collect();
        let block = BlockIndex(u64::from(bytes));
        let change = store
            .write(&address, FILE, block, 0, data.clone().into())
            .await
            .unwrap();
        assert_eq!(change, i64::from(bytes.next_multiple_of(512)));
        let place = pocket_proto::BlockAddress {
            block,
            ..range(0, 2 << 20)
        };
        let read = store.read(&address, place).await.unwrap();
        assert!(!read.hole);
        assert_eq!(read.bytes, data);
    }
    assert!(store.read(&address, range(0, 10)).await.unwrap().hole);
}

#[tokio::test]
async fn parts_of_a_block_are_written_in_place() {
    let (server, address) = start(64 << 20).await;
    let store = client(JOB);
    store
        .write(
            &address,
            FILE,
            FIRST,
            100,
            Bytes::from_static(b"later").into(),
        )
        .await
        .unwrap();
    store
        .write(
            &address,
            FILE,
            FIRST,
            0,
            Bytes::from_static(b"first").into(),
        )
        .await
        .unwrap();
    let read = store.read(&address, range(0, 105)).await.unwrap().bytes;
    assert_eq!(read[..5], *b"first");
    assert_eq!(read[5..100], [0; 95]);
    assert_eq!(read[100..], *b"later");
    assert_eq!(store.truncate(&address, FILE, FIRST, 3).await, Ok(0));
    assert_eq!(
        store.read(&address, range(0, 105)).await.unwrap().bytes,
        "fir"
    );
    assert_eq!(store.truncate(&address, FILE, FIRST, 0).await, Ok(-512));
    assert_eq!(server.used_bytes(), 0);
}

#[tokio::test]
async fn full_server_says_so_and_keeps_what_it_has() {
    let (server, address) = start(1 << 20).await;
    let store = client(JOB);
    let half = Bytes::from(vec![1; 512 << 10]);
    store
        .write(&address, FILE, FIRST, 0, half.clone().into())
        .await
        .unwrap();
    let too_much = Bytes::from(vec![2; (512 << 10) + 1]);
    let failure = store
        .write(&address, FILE, BlockIndex(1), 0, too_much.into())
        .await
        .unwrap_err();
    assert_eq!(failure.status, Status::ServerFull);
    assert_eq!(server.used_bytes(), 512 << 10);
    store
        .write(&address, FILE, BlockIndex(1), 0, half.into())
        .await
        .unwrap();
    assert_eq!(server.used_bytes(), 1 << 20);
}

#[tokio::test]
async fn frames_about_another_job_are_denied() {
    let (server, address) = start(1 << 20).await;
    let data = Bytes::from_static(b"mine");
    client(JOB)
        .write(&address, FILE, FIRST, 0, data.clone().into())
        .await
        .unwrap();
    let thief = connect(&address.endpoint, &credential(OTHER_JOB)).await;
    let head = range(0, 4).encode();
    for operation in [
        Operation::ReadBlock,
        Operation::WriteBlock,
        Operation::TruncateBlocks,
        Operation::DropJob,
        Operation::RemoveInodes,
    ] {
        let body = match operation {
            Operation::WriteBlock => data.clone(),
            _ => Bytes::new(),
        };
        let failure = thief
            .call(operation, JOB, &head, body, PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(failure.status, Status::Denied, "{operation:?}");
    }
    // Under its own name it sees its own, empty, space.
    assert!(
        client(OTHER_JOB)
            .read(&address, range(0, 4))
            .await
            .unwrap()
            .hole
    );
    assert_eq!(
        client(JOB).read(&address, range(0, 4)).await.unwrap().bytes,
        data
    );
    assert_eq!(server.used_bytes(), 512);
}

#[tokio::test]
async fn jobs_and_inodes_are_dropped_by_the_cluster_only() {
    let (server, address) = start(1 << 20).await;
    client(JOB)
        .write(&address, FILE, FIRST, 0, Bytes::from_static(b"mine").into())
        .await
        .unwrap();
    let own = connect(&address.endpoint, &credential(JOB)).await;
    for operation in [
        Operation::DropJob,
        Operation::RemoveInodes,
        Operation::ListInodes,
        Operation::Vouch,
        Operation::FenceSessions,
    ] {
        let failure = own
            .call(operation, JOB, &[], Bytes::new(), PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(failure.status, Status::Denied);
    }
    assert_eq!(server.used_bytes(), 512);
}

#[tokio::test]
async fn cluster_frees_inodes_and_jobs() {
    let (server, address) = start(64 << 20).await;
    let store = client(JOB);
    for inode in 0..100 {
        for block in 0..3 {
            let data = Bytes::from(vec![1; 1000]);
            let (inode, block) = (InodeId(inode), BlockIndex(block));
            store
                .write(&address, inode, block, 0, data.into())
                .await
                .unwrap();
        }
    }
    let cluster = ClusterStorage::new(&key(), StorageClientOptions::default());
    let truncated = cluster
        .truncate(&address, JOB, InodeId(0), BlockIndex(1), 0)
        .await;
    assert_eq!(truncated, Ok(-2 * 1024));
    let inodes: Vec<_> = (0..70_000)
        .map(InodeId)
        .filter(|inode| inode.0 != 5)
        .collect();
    let removed = cluster.remove_inodes(&address, JOB, &inodes).await;
    assert_eq!(removed, Ok(-(98 * 3 + 1) * 1024));
    assert_eq!(server.used_bytes(), 3 * 1024);
    assert_eq!(cluster.drop_job(&address, JOB).await, Ok(-3 * 1024));
    assert_eq!(server.used_bytes(), 0);
    assert_eq!(cluster.drop_job(&address, JOB).await, Ok(0));
    let data = Bytes::from_static(b"too late");
    let late = store
        .write(&address, FILE, FIRST, 0, data.into())
        .await
        .unwrap_err();
    assert_eq!(late.status, Status::JobGone);
}

#[tokio::test]
async fn malformed_requests_are_refused_one_by_one() {
    let (server, address) = start(1 << 20).await;
    let connection = connect(&address.endpoint, &credential(JOB)).await;
    let refused = async |operation, head: &[u8], data: &'static [u8]| {
        let data = Bytes::from_static(data);
        let call = connection.call(operation, JOB, head, data, PATIENCE);
        call.await.unwrap_err().status
    };
    let honest = range(0, 5).encode();
    let lying = range(0, 6).encode();
    let beyond = range(u32::MAX, 5).encode();
    assert_eq!(
        refused(Operation::ReadBlock, b"", b"").await,
        Status::Malformed
    );
    assert_eq!(
        refused(Operation::WriteBlock, b"", b"").await,
        Status::Malformed
    );
    assert_eq!(
        refused(Operation::WriteBlock, &honest[..23], b"").await,
        Status::Malformed
    );
    assert_eq!(
        refused(Operation::WriteBlock, &lying, b"12345").await,
        Status::Malformed
    );
    assert_eq!(
        refused(Operation::WriteBlock, &beyond, b"12345").await,
        Status::Invalid
    );
    assert_eq!(
        refused(Operation::ReadBlock, &beyond, b"").await,
        Status::Invalid
    );
    assert_eq!(
        refused(Operation::TruncateBlocks, b"?", b"").await,
        Status::Malformed
    );
    assert_eq!(
        refused(Operation::Metadata, b"", b"").await,
        Status::Unsupported
    );
    assert_eq!(
        refused(Operation::Recall, b"", b"").await,
        Status::Unsupported
    );

    let cluster = Credential::issue(&key(), Scope::Cluster);
    let cluster = connect(&address.endpoint, cluster.as_bytes()).await;
    let odd = cluster.call(Operation::RemoveInodes, JOB, b"odd", Bytes::new(), PATIENCE);
    assert_eq!(odd.await.unwrap_err().status, Status::Malformed);
    for operation in [Operation::Vouch, Operation::FenceSessions] {
        let short = cluster.call(operation, JOB, b"short", Bytes::new(), PATIENCE);
        assert_eq!(short.await.unwrap_err().status, Status::Malformed);
    }

    let data = Bytes::from_static(b"12345");
    let written = connection.call(Operation::WriteBlock, JOB, &honest, data, PATIENCE);
    assert_eq!(written.await.unwrap().body[..], 512_i64.to_le_bytes());
    assert_eq!(server.used_bytes(), 512);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_many_jobs_are_accounted_to_the_byte() {
    let (server, address) = start(256 << 20).await;
    let writers: Vec<_> = (1..=4)
        .map(|job| {
            let address = address.clone();
            tokio::spawn(async move {
                let store = client(JobId(job));
                let mut total = 0;
                for at in 0..200_u64 {
                    let data = Bytes::from(vec![1; (at * 97 % 5000) as usize + 1]);
                    let block = BlockIndex(at % 7);
                    let offset = (at * 31 % 3000) as u32;
                    total += store
                        .write(&address, FILE, block, offset, data.into())
                        .await
                        .unwrap();
                }
                total
            })
        })
        .collect();
    let mut total = 0;
    for writer in writers {
        total += writer.await.unwrap();
    }
    assert_eq!(server.used_bytes(), total as u64);
    let cluster = ClusterStorage::new(&key(), StorageClientOptions::default());
    for job in 1..=4 {
        total += cluster.drop_job(&address, JobId(job)).await.unwrap();
    }
    assert_eq!((server.used_bytes(), total), (0, 0));
}

#[tokio::test]
async fn server_that_cannot_start_says_what_to_do() {
    let start = |config| async { StorageServer::start(config).await.map(drop).unwrap_err() };
    let none = start(config(0)).await;
    assert!(matches!(none, StartError::NoCapacity), "{none}");
    let (_server, address) = support::start(1 << 20).await;
    let occupied = start(StorageConfig {
        listen: address.endpoint.clone(),
        ..config(1 << 20)
    })
    .await;
    assert!(
        occupied.to_string().contains(&address.endpoint),
        "{occupied}"
    );
    let nonsense = start(StorageConfig {
        controller: Some("not an endpoint".to_owned()),
        ..config(1 << 20)
    })
    .await;
    assert!(
        nonsense.to_string().contains("not an endpoint"),
        "{nonsense}"
    );
}

#[tokio::test]
async fn advertised_name_replaces_the_address_listened_on() {
    let advertising = async |advertise: &str| {
        let config = StorageConfig {
            advertise: Some(advertise.to_owned()),
            ..config(1 << 20)
        };
        let server = StorageServer::start(config).await.unwrap();
        server.endpoint().to_owned()
    };
    assert_eq!(advertising("storage-0:9").await, "storage-0:9");
    let with_port = advertising("storage-0").await;
    let port: u16 = with_port
        .strip_prefix("storage-0:")
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(port, 0);
}

#[tokio::test]
async fn server_serves_while_its_controller_is_away() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let server = StorageServer::start(StorageConfig {
        controller: Some(nobody),
        capacity: ByteCount(1 << 20),
        ..config(0)
    })
    .await
    .unwrap();
    let address = support::address_of(&server);
    support::vouch(&address).await;
    let data = Bytes::from_static(b"here");
    client(JOB)
        .write(&address, FILE, FIRST, 0, data.into())
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), server.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_measures_its_medium_starts_with_nothing_on_it() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Store::Dram, Store::Hdd(folder.path().to_owned())] {
        let server = StorageServer::start(StorageConfig {
            store,
            bandwidth: StoreBandwidth::Measured,
            ..config(64 << 20)
        })
        .await
        .unwrap();
        assert_eq!(server.used_bytes(), 0);
        server.stop().await;
    }
}
