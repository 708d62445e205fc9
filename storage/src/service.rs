//! The engine, offered over the framed transport.
//!
//! What is about one block, and truncations, are answered in place: they cost less than handing them
//! on would. Dropping jobs, inodes and runs of blocks can free a lot and runs beside the connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pocket_proto::{
    BLOCK_ADDRESS_BYTES, BlockAddress, BlockSpan, ClusterKey, Failure, Fence, Fill, FrameError,
    Header, Incarnation, InodeId, JobId, Operation, REPLY_FLAG_HOLE, Scope, ServerId, Status,
    Vouch,
    session::{Hello, Welcome},
};
use pocket_wire::{Answer, Handled, Pusher, Service, authenticate, authorize};
use tracing::debug;

use crate::{
    engine::BlockEngine,
    fences::{Fences, Standing},
    leaving::{Leaving, Permit, moved},
    pace::{Pace, Paces},
    traffic::Traffic,
};

/// Inodes told of in one reply.
const LISTED_INODES_MAX: usize = 65_536;

/// Serves blocks of an engine.
pub(crate) struct BlockService<E> {
    pub(crate) engine: Arc<E>,
    pub(crate) cluster_key: ClusterKey,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) fences: Fences,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) leaving: Arc<Leaving>,
    pub(crate) paces: Arc<Paces>,
}

/// Who is at the other end of a connection.
pub(crate) struct Caller {
    scope: Scope,
    /// Of a mount; the cluster's own servers may always change blocks.
    standing: Option<Standing>,
    host: String,
    /// Of the job that it speaks for.
    pace: Option<Arc<Pace>>,
}

impl Caller {
    /// Makes a change of blocks, if this caller may.
    fn admit<R>(&self, change: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
        match &self.standing {
            Some(standing) => standing.admit(change),
            None => change(),
        }
    }
}

impl<E: BlockEngine> Service for BlockService<E> {
    type Peer = Caller;

    async fn hello(&self, hello: Hello, _pusher: Pusher) -> Result<(Caller, Welcome), Failure> {
        let scope = authenticate(&self.cluster_key, &hello)?;
        debug!(host = %hello.host, ?scope, "connected");
        let standing = match scope {
            Scope::Cluster => None,
            Scope::Session(session) => Some(self.fences.standing(session)),
            Scope::Job(job) => {
                return Err(Failure::new(
                    Status::Denied,
                    format!(
                        "the credential of job {job} opens a session with its metadata server, \
                         which answers with the one for storage servers"
                    ),
                ));
            }
        };
        let caller = Caller {
            scope,
            standing,
            host: hello.host,
            pace: match scope {
                Scope::Session(session) => Some(self.paces.of(session.job)),
                Scope::Job(_) | Scope::Cluster => None,
            },
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
        let request_bytes = body.len();
        let job = header.job;
        let answer: Answer = match header.operation {
            Operation::ReadBlock => self.read(caller, job, &body),
            Operation::ListBlocks => self.list(caller, job, &body),
            Operation::ListInodes => self.list_inodes(job, &body),
            Operation::TruncateBlocks
            | Operation::AllocateBlock
            | Operation::ZeroBlock
            | Operation::PunchBlock
            | Operation::CopyBlock => answer(caller.admit(|| self.change(caller, &header, &body))),
            Operation::DropBlocks => return self.drop_blocks(caller, job, &body),
            Operation::DropJob => return self.drop_job(job),
            Operation::RemoveInodes => return self.remove_inodes(job, &body),
            Operation::Vouch => self.vouch(&body),
            Operation::FenceSessions => self.fence(job, &body),
            other => Answer::failed(Failure::new(
                Status::Unsupported,
                format!("a storage server does not offer {other:?}"),
            )),
        };
        self.traffic.count(request_bytes, answer.body().len());
        caller.count(request_bytes + answer.body().len());
        Handled::Now(answer)
    }

    fn handle_with_head(
        &self,
        caller: &Arc<Caller>,
        header: Header,
        head: &[u8],
        data: Bytes,
    ) -> Handled {
        self.traffic
            .count(head.len() + data.len(), size_of::<i64>());
        caller.count(data.len());
        let write = || self.write(header.job, head, data);
        let written = check(caller, &header).and_then(|()| caller.admit(write));
        Handled::Now(answer(written))
    }

    fn pause(&self, caller: &Arc<Caller>) -> Option<Duration> {
        caller.pace.as_ref()?.pause(Instant::now())
    }

    fn disconnected(&self, caller: &Arc<Caller>) {
        debug!(host = %caller.host, "disconnected");
    }
}

impl Caller {
    fn count(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.count(bytes);
        }
    }
}

impl<E: BlockEngine> BlockService<E> {
    fn read(&self, caller: &Caller, job: JobId, body: &[u8]) -> Answer {
        let read = address(body).and_then(|address| self.engine.read(job, address));
        match read {
            Ok(read) if read.hole && !caller.is_server() && !self.leaving.vouches_for_holes() => {
                Answer::failed(moved())
            }
            Ok(read) => {
                let flags = if read.hole { REPLY_FLAG_HOLE } else { 0 };
                Answer::ok(read.bytes).with_flags(flags)
            }
            Err(failure) => Answer::failed(failure),
        }
    }

    fn write(&self, job: JobId, head: &[u8], data: Bytes) -> Result<i64, Failure> {
        let address = address(head)?;
        if address.length_bytes as usize != data.len() {
            return Err(Failure::new(
                Status::Malformed,
                format!(
                    "a write of {} bytes came with {}",
                    address.length_bytes,
                    data.len()
                ),
            ));
        }
        let _permit = self.permit(job, Some(address))?;
        self.engine.write(
            job,
            address.inode,
            address.block,
            address.offset_bytes,
            data,
        )
    }

    /// Changes a block or some, in place.
    fn change(&self, caller: &Caller, header: &Header, body: &[u8]) -> Result<i64, Failure> {
        let (job, at) = (header.job, address(body)?);
        let engine = &self.engine;
        match header.operation {
            Operation::TruncateBlocks => {
                let _permit = permit_to_drop(&self.leaving, &**engine, caller, job)?;
                Ok(engine.truncate(job, at.inode, at.block, at.offset_bytes))
            }
            Operation::AllocateBlock => self.allocate(job, at, Fill::Missing),
            Operation::ZeroBlock => self.allocate(job, at, Fill::All),
            Operation::PunchBlock => {
                let _permit = self.permit(job, None)?;
                engine.punch(job, at)
            }
            _ => {
                let to = body.get(BLOCK_ADDRESS_BYTES..).unwrap_or_default();
                let to = address(to)?;
                let _permit = self.permit(job, Some(to))?;
                engine.copy(job, at, to)
            }
        }
    }

    fn allocate(&self, job: JobId, at: BlockAddress, fill: Fill) -> Result<i64, Failure> {
        let _permit = self.permit(job, Some(at))?;
        self.engine.allocate(job, at, fill)
    }

    /// Leave to change a block now; `makes` it where it is not there yet.
    fn permit(&self, job: JobId, makes: Option<BlockAddress>) -> Result<Permit<'_>, Failure> {
        self.leaving.permit(&*self.engine, job, makes)
    }

    fn vouch(&self, body: &[u8]) -> Answer {
        match Vouch::decode(body) {
            Ok(vouch) => Answer::ok(Bytes::copy_from_slice(
                &self.fences.vouch(vouch).to_le_bytes(),
            )),
            Err(error) => Answer::failed(malformed(error)),
        }
    }

    fn fence(&self, job: JobId, body: &[u8]) -> Answer {
        match Fence::decode(body) {
            Ok(fence) => {
                debug!(%job, newest = %fence.newest, live = fence.live.len(), "sessions fenced");
                self.fences.fence(job, fence);
                Answer::empty()
            }
            Err(error) => Answer::failed(malformed(error)),
        }
    }

    fn list_inodes(&self, job: JobId, body: &[u8]) -> Answer {
        let Some(after) = body.first_chunk::<8>() else {
            return Answer::failed(malformed(FrameError::TooShort));
        };
        let after = InodeId(u64::from_le_bytes(*after));
        let inodes = self.engine.inodes(job, after, LISTED_INODES_MAX);
        let ids: Vec<u8> = inodes.iter().flat_map(|id| id.0.to_le_bytes()).collect();
        Answer::ok(ids.into())
    }

    fn list(&self, caller: &Caller, job: JobId, body: &[u8]) -> Answer {
        if !caller.is_server() && !self.leaving.vouches_for_lists() {
            return Answer::failed(moved());
        }
        match BlockSpan::decode(body) {
            Ok(span) => Answer::ok(self.engine.list(job, span).encode().into()),
            Err(error) => Answer::failed(malformed(error)),
        }
    }

    fn drop_blocks(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        self.traffic.count(body.len(), size_of::<i64>());
        let (leaving, caller) = (Arc::clone(&self.leaving), Arc::clone(caller));
        match BlockSpan::decode(body) {
            Ok(span) => self.beside(move |engine| {
                caller.admit(|| {
                    let _permit = permit_to_drop(&leaving, engine, &caller, job)?;
                    Ok(engine.drop_blocks(job, span))
                })
            }),
            Err(error) => Handled::Now(Answer::failed(malformed(error))),
        }
    }

    fn remove_inodes(&self, job: JobId, body: &[u8]) -> Handled {
        let (ids, rest) = body.as_chunks::<8>();
        if !rest.is_empty() {
            return Handled::Now(Answer::failed(malformed(FrameError::TooShort)));
        }
        let inodes: Vec<_> = ids
            .iter()
            .map(|id| InodeId(u64::from_le_bytes(*id)))
            .collect();
        self.traffic.count(body.len(), size_of::<i64>());
        self.beside(move |engine| Ok(engine.remove_inodes(job, &inodes)))
    }

    fn drop_job(&self, job: JobId) -> Handled {
        self.traffic.count(0, size_of::<i64>());
        self.fences.forget_job(job);
        self.beside(move |engine| Ok(engine.drop_job(job)))
    }

    /// Runs work that may take a while where it holds nobody up.
    fn beside(&self, work: impl FnOnce(&E) -> Result<i64, Failure> + Send + 'static) -> Handled {
        let engine = Arc::clone(&self.engine);
        Handled::later(async move {
            match tokio::task::spawn_blocking(move || work(&engine)).await {
                Ok(freed) => answer(freed),
                Err(error) => Answer::failed(Failure::new(Status::Internal, error.to_string())),
            }
        })
    }
}

impl Caller {
    /// Whether it is one of the cluster's own servers.
    fn is_server(&self) -> bool {
        self.scope == Scope::Cluster
    }
}

/// Leave to drop blocks. Metadata servers see to it that what they drop is not being moved.
fn permit_to_drop<'a>(
    leaving: &'a Leaving,
    engine: &impl BlockEngine,
    caller: &Caller,
    job: JobId,
) -> Result<Option<Permit<'a>>, Failure> {
    match caller.is_server() {
        true => Ok(None),
        false => leaving.permit(engine, job, None).map(Some),
    }
}

/// Whether the caller may speak of the job, and do this to it.
fn check(caller: &Caller, header: &Header) -> Result<(), Failure> {
    authorize(caller.scope, header.job)?;
    match (header.operation, caller.scope) {
        (_, Scope::Cluster) => Ok(()),
        (
            Operation::DropJob
            | Operation::RemoveInodes
            | Operation::ListInodes
            | Operation::Vouch
            | Operation::FenceSessions,
            _,
        ) => Err(Failure::new(
            Status::Denied,
            format!("{:?} is for the cluster's own servers", header.operation),
        )),
        _ => Ok(()),
    }
}

fn address(head: &[u8]) -> Result<BlockAddress, Failure> {
    BlockAddress::decode(head).map_err(malformed)
}

fn malformed(error: FrameError) -> Failure {
    Failure::new(Status::Malformed, error.to_string())
}

fn answer(changed: Result<i64, Failure>) -> Answer {
    changed.map_or_else(Answer::failed, change)
}

/// Reply to whatever changes how much is allocated.
fn change(bytes: i64) -> Answer {
    Answer::ok(Bytes::copy_from_slice(&bytes.to_le_bytes()))
}
