//! The engine, offered over the framed transport.
//!
//! What is about one block, and truncations, are begun in place, and answered there if the engine is
//! done: that costs less than handing them on would. Dropping jobs, inodes and runs of blocks can
//! free a lot and runs beside the connection.

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
    engine::{BlockEngine, BlockRead, Change, Completion},
    fences::{Fences, Standing},
    leaving::{Leaving, Permit, moved},
    metrics::{Asked, Counts},
    pace::{Pace, Paces},
    turns::{Turn, Turns},
};

/// Inodes told of in one reply.
const LISTED_INODES_MAX: usize = 65_536;

/// Serves blocks of an engine.
pub(crate) struct BlockService {
    pub(crate) engine: Arc<dyn BlockEngine>,
    pub(crate) cluster_key: ClusterKey,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) fences: Fences,
    pub(crate) turns: Turns,
    pub(crate) counts: Arc<Counts>,
    pub(crate) leaving: Arc<Leaving>,
    pub(crate) paces: Arc<Paces>,
}

/// Who is at the other end of a connection.
pub(crate) struct Caller {
    scope: Scope,
    /// Of a mount; the cluster's own servers may always change blocks.
    standing: Option<Standing>,
    /// None of those who speak over one connection at most.
    turn: Option<Turn>,
    host: String,
    /// Of the job that it speaks for.
    pace: Option<Arc<Pace>>,
}

impl Caller {
    /// Makes a change of blocks, if this caller may.
    fn admit<R>(&self, change: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
        let change = || match &self.standing {
            Some(standing) => standing.admit(change),
            None => change(),
        };
        match &self.turn {
            Some(turn) => turn.admit(change),
            None => change(),
        }
    }

    /// Whether what this server holds may be told to this caller.
    fn in_touch(&self) -> Result<(), Failure> {
        self.standing.as_ref().map_or(Ok(()), Standing::in_touch)
    }
}

impl Service for BlockService {
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
        let turn = match hello.line {
            0 => None,
            line => Some(self.turns.take(line, hello.turn).await?),
        };
        let caller = Caller {
            scope,
            standing,
            turn,
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
        let asked = Asked::now(header.operation, body.len());
        self.counted(asked, self.dispatch(caller, header, body))
    }

    fn handle_with_head(
        &self,
        caller: &Arc<Caller>,
        header: Header,
        head: &[u8],
        data: Bytes,
    ) -> Handled {
        let bytes = head.len() + data.len();
        let asked = Asked::now(header.operation, bytes);
        let write = || self.write(header.job, head, data);
        let written = check(caller, &header).and_then(|()| caller.admit(write));
        self.counted(asked, self.changed(caller, bytes, written))
    }

    fn pause(&self, caller: &Arc<Caller>) -> Option<Duration> {
        let pause = caller.pace.as_ref()?.pause(Instant::now())?;
        self.counts.throttled(pause);
        Some(pause)
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

impl BlockService {
    fn dispatch(&self, caller: &Arc<Caller>, header: Header, body: Bytes) -> Handled {
        if let Err(denied) = check(caller, &header) {
            return Handled::Now(denied.into());
        }
        let (job, bytes) = (header.job, body.len());
        match header.operation {
            Operation::ReadBlock => self.read(caller, job, &body),
            Operation::ListBlocks => self.list(caller, job, &body),
            Operation::ListInodes => self.list_inodes(caller, job, &body),
            Operation::TruncateBlocks
            | Operation::AllocateBlock
            | Operation::ZeroBlock
            | Operation::PunchBlock => {
                let change = caller.admit(|| self.change(caller, &header, &body));
                self.changed(caller, bytes, change)
            }
            Operation::CopyBlock => self.copy(caller, job, &body),
            Operation::DropBlocks => self.drop_blocks(caller, job, &body),
            Operation::DropJob => self.drop_job(caller, job),
            Operation::RemoveInodes => self.remove_inodes(caller, job, &body),
            Operation::Vouch => self.vouch(caller, &body),
            Operation::FenceSessions => self.fence(caller, job, &body),
            other => refused(Failure::new(
                Status::Unsupported,
                format!("a storage server does not offer {other:?}"),
            )),
        }
    }

    /// The answer, counted when it is there.
    fn counted(&self, asked: Asked, handled: Handled) -> Handled {
        match handled {
            Handled::Now(answer) => {
                self.counts
                    .answered(asked, answer.status(), answer.body().len());
                Handled::Now(answer)
            }
            Handled::Later(answer) => {
                let (counts, queued) = (Arc::clone(&self.counts), self.counts.queue());
                Handled::later(async move {
                    let answer = answer.await;
                    drop(queued);
                    counts.answered(asked, answer.status(), answer.body().len());
                    answer
                })
            }
        }
    }

    fn read(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        let at = match caller.in_touch().and_then(|()| address(body)) {
            Ok(at) => at,
            Err(failure) => return refused(failure),
        };
        let read = self.engine.read(job, at);
        let (leaving, is_server) = (Arc::clone(&self.leaving), caller.is_server());
        self.answered(caller, body.len(), read, move |read| {
            match read.hole && !is_server && !leaving.vouches_for_holes() {
                true => Answer::failed(moved()),
                false => found(read),
            }
        })
    }

    fn write(&self, job: JobId, head: &[u8], data: Bytes) -> Result<Change, Failure> {
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
        let permit = self.permit(job, Some(address))?;
        Ok(permit.through(self.engine.write(
            job,
            address.inode,
            address.block,
            address.offset_bytes,
            data,
        )))
    }

    /// Changes a block or some.
    fn change(&self, caller: &Caller, header: &Header, body: &[u8]) -> Result<Change, Failure> {
        let (job, at) = (header.job, address(body)?);
        let engine = &*self.engine;
        Ok(match header.operation {
            Operation::TruncateBlocks => {
                let permit = permit_to_drop(&self.leaving, engine, caller, job)?;
                let change = engine.truncate(job, at.inode, at.block, at.offset_bytes);
                dropped(permit, change)
            }
            Operation::AllocateBlock => self.allocate(job, at, Fill::Missing)?,
            Operation::ZeroBlock => self.allocate(job, at, Fill::All)?,
            _ => {
                let permit = self.permit(job, None)?;
                permit.through(engine.punch(job, at))
            }
        })
    }

    fn allocate(&self, job: JobId, at: BlockAddress, fill: Fill) -> Result<Change, Failure> {
        let permit = self.permit(job, Some(at))?;
        Ok(permit.through(self.engine.allocate(job, at, fill)))
    }

    /// Leave to change a block now; `makes` it where it is not there yet.
    fn permit(&self, job: JobId, makes: Option<BlockAddress>) -> Result<Permit, Failure> {
        self.leaving.permit(&*self.engine, job, makes)
    }

    fn copy(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        let copied = caller.admit(|| {
            let to = body.get(BLOCK_ADDRESS_BYTES..).unwrap_or_default();
            let (from, to) = (address(body)?, address(to)?);
            let permit = self.permit(job, Some(to))?;
            Ok(permit.through(self.engine.copy(job, from, to)))
        });
        let Ok(Completion::Later(copying)) = copied else {
            return self.changed(caller, body.len(), copied);
        };
        // Nothing has been changed yet: the caller may be fenced until then.
        let runtime = tokio::runtime::Handle::current();
        let admitting = Arc::clone(caller);
        self.beside(caller, body.len(), move |_| {
            let copied = admitting.admit(|| runtime.block_on(copying));
            Ok(Completion::Now(copied))
        })
    }

    fn vouch(&self, caller: &Arc<Caller>, body: &[u8]) -> Handled {
        let vouched = Vouch::decode(body).map_err(malformed);
        let told = vouched.map(|vouch| self.fences.vouch(vouch));
        self.answered(caller, body.len(), Completion::Now(told), |told| {
            Answer::ok(Bytes::copy_from_slice(&told.to_le_bytes()))
        })
    }

    fn fence(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        let fenced = Fence::decode(body).map_err(malformed).map(|fence| {
            debug!(%job, newest = %fence.newest, live = fence.live.len(), "sessions fenced");
            self.fences.fence(job, fence);
        });
        self.answered(caller, body.len(), Completion::Now(fenced), |()| {
            Answer::empty()
        })
    }

    fn list(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        if !caller.is_server() && !self.leaving.vouches_for_lists() {
            return refused(moved());
        }
        let span = caller
            .in_touch()
            .and_then(|()| BlockSpan::decode(body).map_err(malformed));
        let told = span.map(|span| self.engine.list(job, span));
        self.answered(caller, body.len(), Completion::Now(told), |held| {
            Answer::ok(held.encode().into())
        })
    }

    fn list_inodes(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        let after = body.first_chunk::<8>().ok_or(FrameError::TooShort);
        let told = after.map_err(malformed).map(|after| {
            let after = InodeId(u64::from_le_bytes(*after));
            self.engine.inodes(job, after, LISTED_INODES_MAX)
        });
        self.answered(caller, body.len(), Completion::Now(told), |inodes| {
            let ids: Vec<u8> = inodes.iter().flat_map(|id| id.0.to_le_bytes()).collect();
            Answer::ok(ids.into())
        })
    }

    fn drop_blocks(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        let (leaving, admitting) = (Arc::clone(&self.leaving), Arc::clone(caller));
        match BlockSpan::decode(body) {
            Ok(span) => self.beside(caller, body.len(), move |engine| {
                admitting.admit(|| {
                    let permit = permit_to_drop(&leaving, engine, &admitting, job)?;
                    Ok(dropped(permit, engine.drop_blocks(job, span)))
                })
            }),
            Err(error) => refused(malformed(error)),
        }
    }

    fn remove_inodes(&self, caller: &Arc<Caller>, job: JobId, body: &[u8]) -> Handled {
        let (ids, rest) = body.as_chunks::<8>();
        if !rest.is_empty() {
            return refused(malformed(FrameError::TooShort));
        }
        let inodes: Vec<_> = ids
            .iter()
            .map(|id| InodeId(u64::from_le_bytes(*id)))
            .collect();
        self.beside(caller, body.len(), move |engine| {
            Ok(engine.remove_inodes(job, &inodes))
        })
    }

    fn drop_job(&self, caller: &Arc<Caller>, job: JobId) -> Handled {
        self.fences.forget_job(job);
        self.beside(caller, 0, move |engine| Ok(engine.drop_job(job)))
    }

    /// Runs work that may take a while where it holds nobody up.
    fn beside(
        &self,
        caller: &Arc<Caller>,
        request_bytes: usize,
        work: impl FnOnce(&dyn BlockEngine) -> Result<Change, Failure> + Send + 'static,
    ) -> Handled {
        let engine = Arc::clone(&self.engine);
        let change = Completion::later(async move {
            match tokio::task::spawn_blocking(move || work(&*engine)).await {
                Ok(change) => change?.finished().await,
                Err(error) => Err(Failure::new(Status::Internal, error.to_string())),
            }
        });
        self.changed(caller, request_bytes, Ok(change))
    }

    fn changed(
        &self,
        caller: &Arc<Caller>,
        request_bytes: usize,
        change: Result<Change, Failure>,
    ) -> Handled {
        let change = change.unwrap_or_else(|failure| Completion::Now(Err(failure)));
        self.answered(caller, request_bytes, change, change_of)
    }

    /// The answer to a request that took `request_bytes`, once its outcome is there.
    fn answered<T: Send + 'static>(
        &self,
        caller: &Arc<Caller>,
        request_bytes: usize,
        outcome: Completion<Result<T, Failure>>,
        answer: impl FnOnce(T) -> Answer + Send + 'static,
    ) -> Handled {
        let reply = move |caller: &Caller, outcome: Result<T, Failure>| {
            let answer = outcome.map_or_else(Answer::failed, answer);
            caller.count(request_bytes + answer.body().len());
            answer
        };
        match outcome {
            Completion::Now(outcome) => Handled::Now(reply(caller, outcome)),
            Completion::Later(outcome) => {
                let caller = Arc::clone(caller);
                Handled::later(async move { reply(&caller, outcome.await) })
            }
        }
    }
}

impl Caller {
    /// Whether it is one of the cluster's own servers.
    fn is_server(&self) -> bool {
        self.scope == Scope::Cluster
    }
}

/// Leave to drop blocks. Metadata servers see to it that what they drop is not being moved.
fn permit_to_drop(
    leaving: &Arc<Leaving>,
    engine: &dyn BlockEngine,
    caller: &Caller,
    job: JobId,
) -> Result<Option<Permit>, Failure> {
    match caller.is_server() {
        true => Ok(None),
        false => leaving.permit(engine, job, None).map(Some),
    }
}

/// A change that [`permit_to_drop`] gave leave to.
fn dropped(permit: Option<Permit>, change: Change) -> Change {
    match permit {
        Some(permit) => permit.through(change),
        None => change,
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

fn refused(failure: Failure) -> Handled {
    Handled::Now(Answer::failed(failure))
}

fn found(read: BlockRead) -> Answer {
    let flags = if read.hole { REPLY_FLAG_HOLE } else { 0 };
    Answer::ok(read.bytes).with_flags(flags)
}

/// Reply to whatever changes how much is allocated.
fn change_of(bytes: i64) -> Answer {
    Answer::ok(Bytes::copy_from_slice(&bytes.to_le_bytes()))
}
