//! Servers and clients to test with.

// Each test binary uses a part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use pocket_proto::{
    BlockAddress, BlockIndex, ByteCount, ClusterKey, Credential, InodeId, JobId, Scope, ServerId,
    session::StorageServer as ServerAddress,
};
use pocket_storage::{RunningServer, StorageConfig, StorageServer};
use pocket_storage_client::{StorageClient, StorageClientOptions};

pub const JOB: JobId = JobId(1);
pub const OTHER_JOB: JobId = JobId(2);
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
        tier: "dram".to_owned(),
        bytes_per_second: 0,
        cluster_key: key(),
        controller: None,
        advertise: None,
    }
}

pub async fn start(capacity: u64) -> (RunningServer, ServerAddress) {
    let server = StorageServer::start(config(capacity)).await.unwrap();
    let address = address_of(&server);
    (server, address)
}

pub fn address_of(server: &RunningServer) -> ServerAddress {
    ServerAddress {
        server: server.server_id().0,
        incarnation: server.incarnation().0,
        endpoint: server.endpoint().to_owned(),
        tier: "dram".to_owned(),
    }
}

pub fn credential(job: JobId) -> Vec<u8> {
    Credential::issue(&key(), Scope::Job(job))
        .as_bytes()
        .to_vec()
}

pub fn client(job: JobId) -> StorageClient {
    StorageClient::new(job, credential(job), StorageClientOptions::default())
}

pub fn range(offset: u32, length: u32) -> BlockAddress {
    BlockAddress {
        inode: FILE,
        block: FIRST,
        offset_bytes: offset,
        length_bytes: length,
    }
}
