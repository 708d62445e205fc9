//! Advisory locks: fcntl's of records and of open files, and flock's.
//!
//! Nothing here waits. A lock that is not free is queued, and a recall tells when it is granted.

use pocket_proto::session::{
    self, CancelLock, GetLock, GetLockReply, LockKind, LockMode, LockOwner, LockRange,
    ReleaseLocks, SetLock, SetLockReply, reply,
};
use pocket_proto::{Failure, InodeId, SessionId, Status};

use super::{Context, Step, done, malformed};
use crate::locks::{Kind, Lock, Mode, Outcome, Owner, Patience, Range, Ticket};

pub(super) fn set_lock(context: &mut Context<'_>, request: &SetLock) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    let owner = owner(context.session, request.owner)?;
    let range = range(owner.kind, request.range)?;
    let mode = mode(request.mode())?;
    let state = &mut *context.state;
    let outcome = match mode {
        None => state
            .locks
            .unlock(inode, owner, range)
            .map(|()| Outcome::Granted),
        Some(mode) => {
            state.namespace.inode(inode)?;
            if request.ticket == 0 {
                return Err(malformed("a lock without a ticket"));
            }
            let patience = match request.wait {
                true => Patience::Waits(request.ticket),
                false => Patience::None(request.ticket),
            };
            let process = request.process;
            let lock = Lock {
                range,
                mode,
                process,
            };
            state.locks.lock(inode, owner, lock, patience)
        }
    };
    let holds = state.locks.holds(inode, owner);
    state.tell_granted();
    Ok(Step::Done(reply::Result::SetLock(SetLockReply {
        queued: outcome? == Outcome::Queued,
        holds,
    })))
}

/// The process is told only to its own mount: elsewhere its number means another, or nobody.
pub(super) fn get_lock(context: &mut Context<'_>, request: &GetLock) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    let owner = owner(context.session, request.owner)?;
    let range = range(owner.kind, request.range)?;
    let mode = mode(request.mode())?.ok_or_else(|| malformed("a lock of no mode is tested"))?;
    let state = &*context.state;
    state.namespace.inode(inode)?;
    let reply = match state.locks.conflict(inode, owner, range, mode) {
        None => GetLockReply {
            mode: LockMode::Unlocked.into(),
            ..GetLockReply::default()
        },
        Some((holder, lock)) => GetLockReply {
            mode: match lock.mode {
                Mode::Shared => LockMode::Shared.into(),
                Mode::Exclusive => LockMode::Exclusive.into(),
            },
            range: Some(LockRange {
                first: lock.range.first(),
                last: lock.range.last(),
            }),
            process: match holder.session == context.session {
                true => lock.process,
                false => 0,
            },
        },
    };
    Ok(Step::Done(reply::Result::GetLock(reply)))
}

pub(super) fn release_locks(
    context: &mut Context<'_>,
    request: &ReleaseLocks,
) -> Result<Step, Failure> {
    let owner = owner(context.session, request.owner)?;
    let state = &mut *context.state;
    state
        .locks
        .unlock(InodeId(request.inode), owner, Range::ALL)?;
    state.tell_granted();
    Ok(done())
}

pub(super) fn cancel_lock(
    context: &mut Context<'_>,
    request: &CancelLock,
) -> Result<Step, Failure> {
    context.state.locks.cancel(Ticket {
        session: context.session,
        number: request.ticket,
    });
    context.state.tell_granted();
    Ok(done())
}

fn owner(session: SessionId, owner: Option<LockOwner>) -> Result<Owner, Failure> {
    let owner = owner.ok_or_else(|| malformed("a lock of nobody"))?;
    let kind = match owner.kind() {
        LockKind::Unspecified => return Err(malformed("a lock of no kind")),
        LockKind::Flock => Kind::Flock,
        LockKind::Record => Kind::Record,
        LockKind::OpenFile => Kind::OpenFile,
    };
    Ok(Owner {
        session,
        kind,
        id: owner.owner,
    })
}

/// flock(2) has whole files only.
fn range(kind: Kind, range: Option<session::LockRange>) -> Result<Range, Failure> {
    if kind == Kind::Flock {
        return Ok(Range::ALL);
    }
    let LockRange { first, last } = range.ok_or_else(|| malformed("a lock of no range"))?;
    Range::new(first, last).ok_or_else(|| {
        let what = format!("there are no bytes from {first} to {last}");
        Failure::new(Status::Invalid, what)
    })
}

/// `None` unlocks.
fn mode(mode: LockMode) -> Result<Option<Mode>, Failure> {
    match mode {
        LockMode::Unspecified => Err(malformed("a lock of no mode")),
        LockMode::Shared => Ok(Some(Mode::Shared)),
        LockMode::Exclusive => Ok(Some(Mode::Exclusive)),
        LockMode::Unlocked => Ok(None),
    }
}
