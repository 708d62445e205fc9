//! Requests as bodies of frames, and what may be done with one twice.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pocket_proto::session::{Request, request};
use prost::Message;

/// Numbers of a session's mutations.
#[derive(Debug, Default)]
pub(super) struct Sequence(AtomicU64);

impl Sequence {
    /// The number for `operation`: the next, or 0 if it changes nothing.
    pub(super) fn number(&self, operation: &request::Operation) -> u64 {
        use request::Operation::{KeepAlive, RecallDone};
        let unnumbered = matches!(operation, RecallDone(_) | KeepAlive(_));
        if unnumbered || repetition(operation) == Repetition::Harmless {
            return 0;
        }
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What another session, after the one in which a request was sent, may see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// It may be done again and again.
    Harmless,
    /// It may be done unless the lost session could have done it.
    Once,
    /// It speaks of opens, grants and data of its own session.
    OwnSession,
}

/// How `operation` takes being sent in another session.
pub(super) fn repetition(operation: &request::Operation) -> Repetition {
    use request::Operation as O;
    match operation {
        O::Lookup(_)
        | O::GetAttributes(_)
        | O::ReadLink(_)
        | O::ReadDirectory(_)
        | O::GetXattr(_)
        | O::ListXattr(_)
        | O::FileSystemStatus(_)
        | O::GetWeightMap(_)
        | O::GetRemoval(_)
        | O::GetLock(_) => Repetition::Harmless,
        O::SetAttributes(_)
        | O::Create(_)
        | O::CreateTemporary(_)
        | O::MakeNode(_)
        | O::Link(_)
        | O::Rename(_)
        | O::Remove(_)
        | O::RemoveTree(_)
        | O::Open(_)
        | O::SetXattr(_)
        | O::RemoveXattr(_) => Repetition::Once,
        O::Close(_)
        | O::GrantSpace(_)
        | O::Commit(_)
        | O::ReserveAppend(_)
        | O::ReturnAppend(_)
        | O::Relocate(_)
        | O::SetLock(_)
        | O::ReleaseLocks(_)
        | O::CancelLock(_)
        | O::RecallDone(_)
        | O::KeepAlive(_)
        | O::GrantInodes(_)
        | O::ShareDirectory(_)
        | O::Goodbye(_) => Repetition::OwnSession,
    }
}

/// The body of a request's frame.
pub(super) fn encode(operation: request::Operation, sequence: u64) -> Bytes {
    let request = Request {
        operation: Some(operation),
        sequence,
        told: 0,
    };
    request.encode_to_vec().into()
}

/// Whether the mount has answered the operation already, and could have asked instead.
pub(super) fn is_ahead(operation: &request::Operation) -> bool {
    use request::Operation as O;
    match operation {
        O::Create(request) => request.ahead.is_some(),
        O::MakeNode(request) => request.ahead.is_some(),
        O::Remove(request) => request.ahead.is_some(),
        O::Rename(request) => request.ahead.is_some(),
        O::SetAttributes(request) => request.ahead.is_some(),
        O::Commit(request) => request.ahead.is_some(),
        _ => false,
    }
}

/// The body of a one-way message's frame.
pub(super) fn encode_told(operation: request::Operation, told: u64) -> Bytes {
    let request = Request {
        operation: Some(operation),
        sequence: 0,
        told,
    };
    request.encode_to_vec().into()
}
