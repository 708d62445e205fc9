//! The engine, offered over the framed transport.
//!
//! What is about one block, and truncations, are begun in place, and answered there if the engine is
//! done: that costs less than handing them on would. Dropping jobs, inodes and runs of blocks can
//! free a lot and runs beside the connection.

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::{
    BLOCK_ADDRESS_BYTES, BlockAddress, BlockSpan, ClusterKey, Failure, Fill, FrameError, Header,
    Incarnation, InodeId, JobId, Operation, REPLY_FLAG_HOLE, Scope, ServerId, Status,
    session::{Hello, Welcome},
};
use pocket_wire::{Answer, Handled, Pusher, Service, authenticate, authorize};
use tracing::debug;

use crate::{
    engine::{BlockEngine, BlockRead, Change, Completion},
    traffic::Traffic,
};

/// Serves blocks of an engine.
pub(crate) struct BlockService {
    pub(crate) engine: Arc<dyn BlockEngine>,
    pub(crate) cluster_key: ClusterKey,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) traffic: Arc<Traffic>,
}

/// Who is at the other end of a connection.
pub(crate) struct Caller {
    scope: Scope,
    host: String,
}

impl Service for BlockService {
    type Peer = Caller;

    async fn hello(&self, hello: Hello, _pusher: Pusher) -> Result<(Caller, Welcome), Failure> {
        let scope = authenticate(&self.cluster_key, &hello)?;
        debug!(host = %hello.host, ?scope, "connected");
        let caller = Caller {
            scope,
            host: hello.host,
        };
        let welcome = Welcome {
            server: self.server.0,
            incarnation: self.incarnation.0,
            ..Welcome::default()
        };
        Ok((caller, welcome))
    }

    fn head_bytes(&self, operation: Operation) -> usize {
        // The data of a write become the block: they get a buffer of their own.
        match operation {
            Operation::WriteBlock => BLOCK_ADDRESS_BYTES,
            _ => 0,
        }
    }

    fn handle(&self, caller: &Arc<Caller>, header: Header, body: Bytes) -> Handled {
        if let Err(denied) = check(caller, &header) {
            return Handled::Now(denied.into());
        }
        let job = header.job;
        match header.operation {
            Operation::ReadBlock => self.with_address(&body, |address| {
                self.answered(body.len(), self.engine.read(job, address), found)
            }),
            Operation::TruncateBlocks => self.with_address(&body, |address| {
                let (inode, first) = (address.inode, address.block);
                let truncated = self
                    .engine
                    .truncate(job, inode, first, address.offset_bytes);
                self.changed(body.len(), truncated)
            }),
            Operation::AllocateBlock => self.allocate(job, &body, Fill::Missing),
            Operation::ZeroBlock => self.allocate(job, &body, Fill::All),
            Operation::PunchBlock => self.with_address(&body, |address| {
                self.changed(body.len(), self.engine.punch(job, address))
            }),
            Operation::CopyBlock => self.copy(job, &body),
            Operation::ListBlocks => self.list(job, &body),
            Operation::DropBlocks => self.drop_blocks(job, &body),
            Operation::DropJob => self.drop_job(job),
            Operation::RemoveInodes => self.remove_inodes(job, &body),
            other => refused(Failure::new(
                Status::Unsupported,
                format!("a storage server does not offer {other:?}"),
            )),
        }
    }

    fn handle_with_head(
        &self,
        caller: &Arc<Caller>,
        header: Header,
        head: &[u8],
        data: Bytes,
    ) -> Handled {
        match check(caller, &header) {
            Ok(()) => self.write(header.job, head, data),
            Err(denied) => refused(denied),
        }
    }

    fn disconnected(&self, caller: &Arc<Caller>) {
        debug!(host = %caller.host, "disconnected");
    }
}

impl BlockService {
    fn write(&self, job: JobId, head: &[u8], data: Bytes) -> Handled {
        self.with_address(head, |address| {
            if address.length_bytes as usize != data.len() {
                let (told, came) = (address.length_bytes, data.len());
                let what = format!("a write of {told} bytes came with {came}");
                return refused(Failure::new(Status::Malformed, what));
            }
            let request_bytes = head.len() + data.len();
            let (inode, block) = (address.inode, address.block);
            let written = self
                .engine
                .write(job, inode, block, address.offset_bytes, data);
            self.changed(request_bytes, written)
        })
    }

    fn allocate(&self, job: JobId, body: &[u8], fill: Fill) -> Handled {
        self.with_address(body, |address| {
            self.changed(body.len(), self.engine.allocate(job, address, fill))
        })
    }

    fn copy(&self, job: JobId, body: &[u8]) -> Handled {
        self.with_address(body, |from| {
            let to = body.get(BLOCK_ADDRESS_BYTES..).unwrap_or_default();
            self.with_address(to, |to| {
                self.changed(body.len(), self.engine.copy(job, from, to))
            })
        })
    }

    fn list(&self, job: JobId, body: &[u8]) -> Handled {
        match BlockSpan::decode(body) {
            Ok(span) => {
                let told = Completion::Now(Ok(self.engine.list(job, span)));
                self.answered(body.len(), told, |held| Answer::ok(held.encode().into()))
            }
            Err(error) => refused(malformed(error)),
        }
    }

    fn drop_blocks(&self, job: JobId, body: &[u8]) -> Handled {
        match BlockSpan::decode(body) {
            Ok(span) => self.beside(body.len(), move |engine| engine.drop_blocks(job, span)),
            Err(error) => refused(malformed(error)),
        }
    }

    fn remove_inodes(&self, job: JobId, body: &[u8]) -> Handled {
        let (ids, rest) = body.as_chunks::<8>();
        if !rest.is_empty() {
            return refused(malformed(FrameError::TooShort));
        }
        let inodes: Vec<_> = ids
            .iter()
            .map(|id| InodeId(u64::from_le_bytes(*id)))
            .collect();
        self.beside(body.len(), move |engine| engine.remove_inodes(job, &inodes))
    }

    fn drop_job(&self, job: JobId) -> Handled {
        self.beside(0, move |engine| engine.drop_job(job))
    }

    fn with_address(&self, head: &[u8], handle: impl FnOnce(BlockAddress) -> Handled) -> Handled {
        match BlockAddress::decode(head) {
            Ok(address) => handle(address),
            Err(error) => refused(malformed(error)),
        }
    }

    fn changed(&self, request_bytes: usize, change: Change) -> Handled {
        self.answered(request_bytes, change, change_of)
    }

    /// The answer to a request that took `request_bytes`, once its outcome is there.
    fn answered<T: Send + 'static>(
        &self,
        request_bytes: usize,
        outcome: Completion<Result<T, Failure>>,
        answer: fn(T) -> Answer,
    ) -> Handled {
        let reply = move |traffic: &Traffic, outcome: Result<T, Failure>| {
            let answer = outcome.map_or_else(Answer::failed, answer);
            traffic.count(request_bytes, answer.body().len());
            answer
        };
        match outcome {
            Completion::Now(outcome) => Handled::Now(reply(&self.traffic, outcome)),
            Completion::Later(outcome) => {
                let traffic = Arc::clone(&self.traffic);
                Handled::later(async move { reply(&traffic, outcome.await) })
            }
        }
    }

    /// Runs work that may take a while where it holds nobody up.
    fn beside(
        &self,
        request_bytes: usize,
        work: impl FnOnce(&dyn BlockEngine) -> Change + Send + 'static,
    ) -> Handled {
        let engine = Arc::clone(&self.engine);
        let change = Completion::later(async move {
            match tokio::task::spawn_blocking(move || work(&*engine)).await {
                Ok(change) => change.finished().await,
                Err(error) => Err(Failure::new(Status::Internal, error.to_string())),
            }
        });
        self.changed(request_bytes, change)
    }
}

/// Whether the caller may speak of the job, and do this to it.
fn check(caller: &Caller, header: &Header) -> Result<(), Failure> {
    authorize(caller.scope, header.job)?;
    match (header.operation, caller.scope) {
        (Operation::DropJob | Operation::RemoveInodes, Scope::Job(_)) => Err(Failure::new(
            Status::Denied,
            format!("{:?} is for the cluster's own servers", header.operation),
        )),
        _ => Ok(()),
    }
}

fn refused(failure: Failure) -> Handled {
    Handled::Now(Answer::failed(failure))
}

fn malformed(error: FrameError) -> Failure {
    Failure::new(Status::Malformed, error.to_string())
}

fn found(read: BlockRead) -> Answer {
    let flags = if read.hole { REPLY_FLAG_HOLE } else { 0 };
    Answer::ok(read.bytes).with_flags(flags)
}

/// Reply to whatever changes how much is allocated.
fn change_of(bytes: i64) -> Answer {
    Answer::ok(Bytes::copy_from_slice(&bytes.to_le_bytes()))
}
