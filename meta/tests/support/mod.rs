//! A job in this process, mounts that record what they are asked to forget, and storage servers
//! that only remember what they were told to drop.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_meta::{BlockRemover, LocalJob, LocalJobConfig, LocalMetadata};
use pocket_meta_client::{Metadata, RecallHandler, SessionInfo};
use pocket_proto::session::*;
use pocket_proto::{BlockIndex, Failure, Fence, InodeId, JobId, Status, Vouch};
use tokio::sync::watch;

pub const LEASE: Duration = Duration::from_secs(5);
pub const ROOT: u64 = InodeId::ROOT.0;
pub const BLOCK: u64 = 1 << 20;
pub const CAPACITY: u64 = 100 << 20;

pub type Operation = request::Operation;

/// A weight map of servers 1 to `count`, all alike.
pub fn weight_map(epoch: u32, count: u64) -> WeightMap {
    let server = |id| WeightedServer {
        server: Some(StorageServer {
            server: id,
            incarnation: 1,
            endpoint: format!("storage{id}:1"),
            tier: "dram".to_owned(),
        }),
        weight: 1,
        stands_for: 0,
    };
    WeightMap {
        epoch,
        edition: 0,
        servers: (1..=count).map(server).collect(),
    }
}

/// A job of three storage servers that drop blocks into `blocks`.
pub fn job_with(blocks: Arc<dyn BlockRemover>) -> LocalJob {
    start(blocks, CAPACITY, Duration::ZERO)
}

/// A job that the controller may give twice as much.
pub fn growing_job() -> LocalJob {
    start(
        Arc::new(pocket_meta::NoBlocks),
        2 * CAPACITY,
        Duration::ZERO,
    )
}

/// A job that keeps what has no names and no opens for a while.
pub fn graceful_job(orphan_grace: Duration) -> LocalJob {
    start(Arc::new(pocket_meta::NoBlocks), CAPACITY, orphan_grace)
}

fn start(
    blocks: Arc<dyn BlockRemover>,
    awaited_bytes_max: u64,
    orphan_grace: Duration,
) -> LocalJob {
    let config = LocalJobConfig {
        job: JobId(1),
        capacity_bytes: CAPACITY,
        awaited_bytes_max,
        block_bytes: BLOCK as u32,
        weight_map: weight_map(1, 3),
        lease: LEASE,
        orphan_grace,
    };
    LocalJob::new(config, blocks).unwrap()
}

pub fn job() -> LocalJob {
    job_with(Arc::new(pocket_meta::NoBlocks))
}

/// What a mount does about recalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Answers at once.
    Polite,
    /// Never answers.
    Stubborn,
}

/// A session that records its recalls.
pub struct Mount {
    pub metadata: Arc<LocalMetadata>,
    pub recorder: Arc<Recorder>,
}

pub struct Recorder {
    manners: Manners,
    metadata: OnceLock<Weak<LocalMetadata>>,
    recalls: watch::Sender<Vec<Recall>>,
    lost: watch::Sender<bool>,
}

impl RecallHandler for Recorder {
    fn recall(&self, recall: Recall, _stamp: u64) {
        let number = recall.recall;
        self.recalls.send_modify(|recalls| recalls.push(recall));
        if self.manners == Manners::Polite
            && let Some(metadata) = self.metadata.get().and_then(Weak::upgrade)
        {
            // A session that was ended meanwhile need not answer.
            let _ = metadata.tell(Operation::RecallDone(RecallDone { recall: number }));
        }
    }

    fn session_lost(&self, _reason: Failure) {
        self.lost.send_replace(true);
    }

    fn session_renewed(&self, _info: SessionInfo) {}
}

impl Recorder {
    /// Waits until the server has ended the session.
    pub async fn lost(&self) {
        let mut lost = self.lost.subscribe();
        lost.wait_for(|lost| *lost).await.unwrap();
    }
}

impl Mount {
    pub fn new(job: &LocalJob) -> Mount {
        Mount::with(job, Manners::Polite)
    }

    pub fn with(job: &LocalJob, manners: Manners) -> Mount {
        let recorder = Arc::new(Recorder {
            manners,
            metadata: OnceLock::new(),
            recalls: watch::Sender::new(Vec::new()),
            lost: watch::Sender::new(false),
        });
        let metadata = Arc::new(job.connect(recorder.clone()).unwrap());
        recorder.metadata.set(Arc::downgrade(&metadata)).unwrap();
        Mount { metadata, recorder }
    }

    /// Names, attributes and files to go through for that it was asked about, since the last call.
    pub fn recalled(&self) -> Recalled {
        let mut all = Recalled::default();
        for recall in self.recorder.recalls.send_replace(Vec::new()) {
            let names = recall.names.into_iter();
            all.names.extend(names.map(|name| (name.parent, name.name)));
            all.attributes.extend(recall.attributes);
            all.through.extend(recall.through);
            all.paused.extend(recall.paused);
            all.directories.extend(recall.directories);
            all.granted.extend(recall.granted);
        }
        all
    }

    /// How many recalls have come since the last call.
    pub fn recalls(&self) -> usize {
        self.recorder.recalls.send_replace(Vec::new()).len()
    }

    /// Waits for a recall to come in.
    pub async fn await_recall(&self) {
        let mut recalls = self.recorder.recalls.subscribe();
        recalls
            .wait_for(|recalls| !recalls.is_empty())
            .await
            .unwrap();
    }

    /// Waits until the server has ended the session.
    pub async fn await_loss(&self) {
        self.recorder.lost().await;
    }

    /// Answers the recalls of that number.
    pub fn acknowledge(&self, recall: u64) {
        let done = Operation::RecallDone(RecallDone { recall });
        self.metadata.tell(done).unwrap();
    }

    pub async fn call(&self, operation: Operation) -> Result<reply::Result, Failure> {
        Ok(self.metadata.call(operation).await?.result)
    }

    pub async fn entry(&self, operation: Operation) -> Result<Entry, Failure> {
        match self.call(operation).await? {
            reply::Result::Entry(entry) => Ok(entry),
            reply::Result::Opened(opened) => Ok(opened.entry.unwrap()),
            other => panic!("no entry: {other:?}"),
        }
    }

    pub async fn opened(&self, operation: Operation) -> Result<(u64, OpenMode), Failure> {
        match self.call(operation).await? {
            reply::Result::Opened(opened) => {
                Ok((opened.entry.as_ref().unwrap().inode(), opened.mode()))
            }
            other => panic!("not opened: {other:?}"),
        }
    }

    pub async fn done(&self, operation: Operation) -> Result<(), Failure> {
        match self.call(operation).await? {
            reply::Result::Done(_) => Ok(()),
            other => panic!("not just done: {other:?}"),
        }
    }

    /// Looks a name up. `Ok(None)`: absent, for so many milliseconds.
    pub async fn lookup(&self, parent: u64, name: &str) -> Result<Entry, u32> {
        match self.call(lookup(parent, name)).await.unwrap() {
            reply::Result::Entry(entry) => Ok(entry),
            reply::Result::Absent(absent) => Err(absent.name_valid_ms),
            other => panic!("no lookup: {other:?}"),
        }
    }

    /// Makes a file that is not open.
    pub async fn touch(&self, parent: u64, name: &str) -> u64 {
        let node = make(parent, name, FileKind::Regular);
        self.entry(node).await.unwrap().inode()
    }

    pub async fn mkdir(&self, parent: u64, name: &str) -> u64 {
        let node = make(parent, name, FileKind::Directory);
        self.entry(node).await.unwrap().inode()
    }

    pub async fn attributes(&self, inode: u64) -> Result<Entry, Failure> {
        self.entry(Operation::GetAttributes(GetAttributes { inode }))
            .await
    }

    pub async fn status(&self) -> FileSystemStatusReply {
        let status = Operation::FileSystemStatus(FileSystemStatus {});
        match self.call(status).await.unwrap() {
            reply::Result::FileSystemStatus(status) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    pub async fn grant(&self, wanted_bytes: u64, needed_bytes: u64) -> Result<u64, Status> {
        let grant = Operation::GrantSpace(GrantSpace {
            wanted_bytes,
            needed_bytes,
            returned_bytes: 0,
        });
        match self.call(grant).await.map_err(|failure| failure.status)? {
            reply::Result::GrantSpace(grant) => Ok(grant.granted_bytes),
            other => panic!("no grant: {other:?}"),
        }
    }

    /// As if the file were written up to `size_bytes`, and all of it took room.
    /// The first of a hundred inode numbers to use ahead.
    pub async fn numbers(&self) -> u64 {
        let grant = Operation::GrantInodes(GrantInodes { wanted: 100 });
        match self.call(grant).await.unwrap() {
            reply::Result::GrantInodes(granted) => {
                assert_eq!(granted.count, 100);
                granted.first
            }
            other => panic!("no inodes: {other:?}"),
        }
    }

    pub async fn write(&self, inode: u64, size_bytes: u64) {
        self.grant(size_bytes, size_bytes).await.unwrap();
        let commit = commit(inode, size_bytes, size_bytes as i64);
        self.entry(commit).await.unwrap();
    }

    /// All names of a directory.
    pub async fn list(&self, inode: u64) -> Vec<Bytes> {
        let (mut cookie, mut names) = (0, Vec::new());
        loop {
            let (entries, end) = self.read_directory(inode, cookie).await;
            cookie = entries.last().map_or(cookie, |entry| entry.cookie);
            let named = entries.into_iter().filter(|entry| entry.cookie > 2);
            names.extend(named.map(|entry| entry.name));
            if end {
                return names;
            }
        }
    }

    pub async fn read_directory(&self, inode: u64, cookie: u64) -> (Vec<DirectoryEntry>, bool) {
        let read = Operation::ReadDirectory(ReadDirectory {
            inode,
            cookie,
            entries_max: 500,
            with_attributes: true,
        });
        match self.call(read).await.unwrap() {
            reply::Result::ReadDirectory(read) => (read.entries, read.end),
            other => panic!("no listing: {other:?}"),
        }
    }
}

/// What a mount was asked to forget.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    pub names: Vec<(u64, Bytes)>,
    pub attributes: Vec<u64>,
    pub through: Vec<u64>,
    pub paused: Vec<u64>,
    pub directories: Vec<u64>,
    pub granted: Vec<u64>,
}

impl Recalled {
    pub fn is_empty(&self) -> bool {
        *self == Recalled::default()
    }
}

pub trait HasInode {
    fn inode(&self) -> u64;
    fn size(&self) -> u64;
    fn links(&self) -> u32;
}

impl HasInode for Entry {
    fn inode(&self) -> u64 {
        self.attributes.as_ref().unwrap().inode
    }

    fn size(&self) -> u64 {
        self.attributes.as_ref().unwrap().size_bytes
    }

    fn links(&self) -> u32 {
        self.attributes.as_ref().unwrap().link_count
    }
}

pub fn status<T: std::fmt::Debug>(result: Result<T, Failure>) -> Status {
    result.unwrap_err().status
}

pub fn lookup(parent: u64, name: &str) -> Operation {
    Operation::Lookup(Lookup {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
    })
}

pub fn make(parent: u64, name: &str, kind: FileKind) -> Operation {
    Operation::MakeNode(MakeNode {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        kind: kind.into(),
        mode: 0o755,
        target: Bytes::from_static(b"target"),
        ..MakeNode::default()
    })
}

pub fn create(parent: u64, name: &str) -> Operation {
    Operation::Create(Create {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        mode: 0o644,
        write: true,
        ..Create::default()
    })
}

pub fn open(inode: u64, write: bool) -> Operation {
    Operation::Open(Open {
        inode,
        write,
        truncate: false,
        clear_set_id: false,
    })
}

pub fn close(inode: u64, write: bool) -> Operation {
    Operation::Close(Close {
        inode,
        write,
        ..Close::default()
    })
}

pub fn remove(parent: u64, name: &str) -> Operation {
    Operation::Remove(Remove {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        directory: false,
        ahead: None,
    })
}

pub fn create_temporary(linkable: bool) -> Operation {
    Operation::CreateTemporary(CreateTemporary {
        parent: ROOT,
        umask: 0,
        mode: 0o600,
        owner: None,
        write: true,
        linkable,
    })
}

pub fn link(inode: u64, parent: u64, name: &str) -> Operation {
    Operation::Link(Link {
        inode,
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
    })
}

/// That an operation was answered by the mount itself; `inode` and `epoch` of what it made.
pub fn ahead(inode: u64, epoch: u32) -> Option<Ahead> {
    Some(Ahead {
        time: Some(Time {
            seconds: 77,
            nanoseconds: 5,
        }),
        inode,
        epoch,
    })
}

pub fn rename(from: (u64, &str), to: (u64, &str)) -> Operation {
    Operation::Rename(Rename {
        parent: from.0,
        name: Bytes::copy_from_slice(from.1.as_bytes()),
        new_parent: to.0,
        new_name: Bytes::copy_from_slice(to.1.as_bytes()),
        ..Rename::default()
    })
}

pub fn chmod(inode: u64, mode: u32) -> Operation {
    Operation::SetAttributes(SetAttributes {
        inode,
        mode: Some(mode),
        ..SetAttributes::default()
    })
}

pub fn truncate(inode: u64, size_bytes: u64) -> Operation {
    Operation::SetAttributes(SetAttributes {
        inode,
        size_bytes: Some(size_bytes),
        ..SetAttributes::default()
    })
}

pub fn commit(inode: u64, size_bytes: u64, allocated_bytes: i64) -> Operation {
    Operation::Commit(Commit {
        inode,
        size_bytes,
        allocated_bytes,
        modified: Some(Time::default()),
        ..Commit::default()
    })
}

/// What storage servers were told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Remove {
        server: u64,
        inodes: Vec<u64>,
    },
    Truncate {
        server: u64,
        inode: u64,
        first: u64,
        keep: u32,
    },
    DropJob {
        server: u64,
    },
}

/// What a storage server has heard of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Vouch(Vouch),
    Fence(JobId, Fence),
}

/// Storage servers that do nothing but note what they are told.
#[derive(Default)]
pub struct Ledger {
    told: watch::Sender<Vec<Told>>,
    /// Of sessions, by the server; what failed was not heard.
    pub heard: watch::Sender<Vec<(u64, Heard)>>,
    /// Fences that were sent, answered or not.
    pub fences: watch::Sender<usize>,
    /// Servers that answer with this.
    failing: Mutex<HashMap<u64, Status>>,
    /// Truncations and fences wait until this is set.
    pub gate: watch::Sender<bool>,
}

impl Ledger {
    pub fn new() -> Arc<Ledger> {
        let ledger = Ledger::default();
        ledger.gate.send_replace(true);
        Arc::new(ledger)
    }

    pub fn fail(&self, server: u64, status: Status) {
        self.failing.lock().unwrap().insert(server, status);
    }

    pub fn heal(&self, server: u64) {
        self.failing.lock().unwrap().remove(&server);
    }

    fn hear(&self, server: &StorageServer, heard: Heard) -> Result<(), Failure> {
        if let Some(status) = self.failing.lock().unwrap().get(&server.server) {
            return Err((*status).into());
        }
        let said = (server.server, heard);
        self.heard.send_modify(|all| all.push(said));
        Ok(())
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    pub async fn await_told(&self, what: impl Fn(&Told) -> bool) {
        let mut told = self.told.subscribe();
        told.wait_for(|told| told.iter().any(&what)).await.unwrap();
    }

    pub async fn await_count(&self, count: usize) {
        let mut told = self.told.subscribe();
        told.wait_for(|told| told.len() >= count).await.unwrap();
    }

    fn tell(&self, server: &StorageServer, told: Told) -> Result<(), Failure> {
        self.told.send_modify(|all| all.push(told));
        match self.failing.lock().unwrap().get(&server.server) {
            Some(status) => Err((*status).into()),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl BlockRemover for Ledger {
    async fn remove_inodes(
        &self,
        server: &StorageServer,
        _: JobId,
        inodes: &[InodeId],
    ) -> Result<(), Failure> {
        let inodes = inodes.iter().map(|inode| inode.0).collect();
        let server_id = server.server;
        self.tell(
            server,
            Told::Remove {
                server: server_id,
                inodes,
            },
        )
    }

    async fn truncate(
        &self,
        server: &StorageServer,
        _: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep: u32,
    ) -> Result<i64, Failure> {
        self.gate.subscribe().wait_for(|open| *open).await.unwrap();
        let told = Told::Truncate {
            server: server.server,
            inode: inode.0,
            first: first_block.0,
            keep,
        };
        self.tell(server, told)?;
        Ok(-1000)
    }

    async fn drop_job(&self, server: &StorageServer, _: JobId) -> Result<(), Failure> {
        let server_id = server.server;
        self.tell(server, Told::DropJob { server: server_id })
    }

    async fn vouch(&self, server: &StorageServer, vouch: Vouch) -> Result<u64, Failure> {
        self.hear(server, Heard::Vouch(vouch))?;
        Ok(vouch.heard + 1)
    }

    async fn fence(
        &self,
        server: &StorageServer,
        job: JobId,
        fence: &Fence,
    ) -> Result<(), Failure> {
        self.fences.send_modify(|sent| *sent += 1);
        self.gate.subscribe().wait_for(|open| *open).await.unwrap();
        self.hear(server, Heard::Fence(job, fence.clone()))
    }
}
