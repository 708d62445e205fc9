//! Servers and clients to test with.

// Each test binary uses a part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use pocket_proto::{
    BlockAddress, BlockIndex, ByteCount, ClusterKey, Credential, Incarnation, InodeId, JobId,
    Scope, ServerId, SessionId, SessionScope, VOUCH_LASTS, Vouch, control::StorageClass,
    session::StorageServer as ServerAddress,
};
use pocket_storage::{RunningServer, StorageConfig, StorageServer, Store, StoreBandwidth};
use pocket_storage_client::{ClusterStorage, StorageClient, StorageClientOptions};

pub const JOB: JobId = JobId(1);
pub const OTHER_JOB: JobId = JobId(2);
/// The life of the metadata server that keeps the sessions here.
pub const ISSUER: Incarnation = Incarnation(99);
pub const FILE: InodeId = InodeId(10);
pub const FIRST: BlockIndex = BlockIndex(0);
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn key() -> ClusterKey {
    ClusterKey::from_passphrase("storage test")
}

pub fn config(capacity: u64) -> StorageConfig {
    StorageConfig {
        listen: "127.0.0.1:0".to_owned(),
        server: ServerId::random(),
        capacity: ByteCount(capacity),
        store: Store::Dram,
        bandwidth: StoreBandwidth::Unknown,
        class: StorageClass::Regular,
        cluster_key: key(),
        controller: None,
        advertise: None,
    }
}

pub async fn start(capacity: u64) -> (RunningServer, ServerAddress) {
    let server = StorageServer::start(config(capacity)).await.unwrap();
    let address = address_of(&server);
    vouch_on(&address).await;
    (server, address)
}

/// A metadata server's way to storage servers.
pub fn cluster() -> ClusterStorage {
    ClusterStorage::new(&key(), StorageClientOptions::default())
}

/// Vouches for the sessions here, once.
pub async fn vouch(address: &ServerAddress) {
    let cluster = cluster();
    let mut heard = 0;
    for _ in 0..2 {
        let vouch = Vouch {
            issuer: ISSUER,
            heard,
        };
        heard = cluster.vouch(address, vouch).await.unwrap();
    }
}

/// Vouches for them for as long as the test runs, or the server does.
pub async fn vouch_on(address: &ServerAddress) {
    vouch(address).await;
    let (cluster, address) = (cluster(), address.clone());
    let mut heard = 0;
    let mut ticks = tokio::time::interval(VOUCH_LASTS / 10);
    tokio::spawn(async move {
        loop {
            let vouch = Vouch {
                issuer: ISSUER,
                heard,
            };
            let Ok(answered) = cluster.vouch(&address, vouch).await else {
                return;
            };
            heard = answered;
            ticks.tick().await;
        }
    });
}

pub fn address_of(server: &RunningServer) -> ServerAddress {
    ServerAddress {
        server: server.server_id().0,
        incarnation: server.incarnation().0,
        endpoint: server.endpoint().to_owned(),
        tier: "dram".to_owned(),
    }
}

/// Of the job's first session.
pub fn credential(job: JobId) -> Vec<u8> {
    credential_of(job, SessionId(1))
}

pub fn credential_of(job: JobId, session: SessionId) -> Vec<u8> {
    let scope = SessionScope {
        job,
        session,
        issuer: ISSUER,
    };
    Credential::issue(&key(), Scope::Session(scope))
        .as_bytes()
        .to_vec()
}

pub fn client(job: JobId) -> StorageClient {
    client_of(job, SessionId(1))
}

pub fn client_of(job: JobId, session: SessionId) -> StorageClient {
    let options = StorageClientOptions::default();
    StorageClient::new(job, credential_of(job, session), options)
}

pub fn range(offset: u32, length: u32) -> BlockAddress {
    BlockAddress {
        inode: FILE,
        block: FIRST,
        offset_bytes: offset,
        length_bytes: length,
    }
}
