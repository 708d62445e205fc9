//! How long the metadata server takes for its commonest operations: in this process, and over
//! loopback. `cargo run --release -p pocket-meta --example operations`

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pocket_meta::{LocalJob, LocalJobConfig, MetaConfig, MetaServer, NoBlocks};
use pocket_meta_client::{MetaClient, MetaControlClient, Metadata, RecallHandler, SessionInfo};
use pocket_proto::control::CreateJobRequest;
use pocket_proto::session::request::Operation;
use pocket_proto::session::*;
use pocket_proto::{ClusterKey, Credential, Failure, InodeId, JobId, Scope};

const FILES: u32 = 20_000;
const JOB: JobId = JobId(1);
const ROOT: u64 = InodeId::ROOT.0;

struct Deaf;

impl RecallHandler for Deaf {
    fn recall(&self, _: Recall, _: u64) {}
    fn session_lost(&self, _: Failure) {}
    fn session_renewed(&self, _: SessionInfo) {}
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let weight_map = WeightMap {
        epoch: 1,
        edition: 0,
        servers: vec![WeightedServer {
            server: Some(StorageServer {
                server: 1,
                ..StorageServer::default()
            }),
            weight: 1,
            stands_for: 0,
        }],
    };
    let config = LocalJobConfig {
        job: JOB,
        capacity_bytes: 1 << 40,
        awaited_bytes_max: 0,
        block_bytes: 1 << 20,
        weight_map: weight_map.clone(),
        lease: Duration::from_secs(5),
        orphan_grace: std::time::Duration::ZERO,
    };
    let job = LocalJob::new(config, Arc::new(NoBlocks))?;
    println!("in this process");
    measure(&job.connect(Arc::new(Deaf))?).await?;

    let key = ClusterKey::open();
    let config = MetaConfig {
        listen: "127.0.0.1:0".to_owned(),
        control_listen: "127.0.0.1:0".to_owned(),
        ..MetaConfig::default()
    };
    let running = MetaServer::start_with(config, Arc::new(NoBlocks)).await;
    let running = running.expect("loopback can be listened on");
    let control = MetaControlClient::connect(running.control_endpoint(), &key)?;
    let order = CreateJobRequest {
        job: JOB.0,
        capacity_bytes: 1 << 40,
        weight_map: Some(weight_map),
        ..CreateJobRequest::default()
    };
    control.create_job(order).await?;
    let credential = Credential::issue(&key, Scope::Job(JOB));
    let credential = credential.as_bytes().to_vec();
    let endpoint = running.endpoint();
    let client = MetaClient::connect(endpoint, JOB, credential, "speed", Arc::new(Deaf)).await?;
    println!("over loopback, one at a time");
    measure(&client).await?;
    running.stop().await;
    Ok(())
}

async fn measure(metadata: &dyn Metadata) -> Result<(), Failure> {
    let first = timed("create", create(metadata)).await?;
    let inodes = first..first + u64::from(FILES);
    timed("lookup", async {
        for file in 0..FILES {
            let (parent, name) = (ROOT, name(file));
            metadata
                .call(Operation::Lookup(Lookup { parent, name }))
                .await?;
        }
        Ok(())
    })
    .await?;
    timed("commit and close", async {
        for inode in inodes.clone() {
            let commit = Commit {
                inode,
                size_bytes: 1000,
                ..Commit::default()
            };
            metadata.call(Operation::Commit(commit)).await?;
            metadata.tell(Operation::Close(Close {
                inode,
                write: true,
                ..Close::default()
            }))?;
        }
        Ok(())
    })
    .await?;
    timed("get attributes", async {
        for inode in inodes.clone() {
            let get = GetAttributes { inode };
            metadata.call(Operation::GetAttributes(get)).await?;
        }
        Ok(())
    })
    .await?;
    timed("list with attributes", list(metadata)).await?;
    timed("remove", async {
        for file in 0..FILES {
            let remove = Remove {
                parent: ROOT,
                name: name(file),
                directory: false,
                ahead: None,
            };
            metadata.call(Operation::Remove(remove)).await?;
        }
        Ok(())
    })
    .await
}

/// Returns the first inode; the others follow.
async fn create(metadata: &dyn Metadata) -> Result<u64, Failure> {
    let mut first = 0;
    for file in 0..FILES {
        let create = Create {
            parent: ROOT,
            name: name(file),
            mode: 0o644,
            write: true,
            exclusive: true,
            ..Create::default()
        };
        let answered = metadata.call(Operation::Create(create)).await?;
        if let (0, reply::Result::Opened(opened)) = (file, answered.result) {
            let entry = opened.entry.unwrap_or_default();
            first = entry.attributes.unwrap_or_default().inode;
        }
    }
    Ok(first)
}

async fn list(metadata: &dyn Metadata) -> Result<(), Failure> {
    let mut read = ReadDirectory {
        inode: ROOT,
        entries_max: 1000,
        with_attributes: true,
        ..ReadDirectory::default()
    };
    loop {
        let answered = metadata.call(Operation::ReadDirectory(read)).await?;
        let reply::Result::ReadDirectory(listed) = answered.result else {
            return Ok(());
        };
        match listed.entries.last() {
            Some(last) if !listed.end => read.cookie = last.cookie,
            _ => return Ok(()),
        }
    }
}

fn name(file: u32) -> bytes::Bytes {
    format!("some-file-{file:08}").into()
}

async fn timed<T>(
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let start = Instant::now();
    let result = work.await?;
    let each = start.elapsed() / FILES;
    println!("  {what:<22}{:>8.2} us", each.as_secs_f64() * 1e6);
    Ok(result)
}
