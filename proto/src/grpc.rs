//! Failures over gRPC: the control services answer a tonic status that carries ours.
//!
//! The code next to it is the nearest one of gRPC, for tools that know only those.

use tonic::{Code, metadata::MetadataValue};

use crate::{Failure, Status};

/// Metadata key under which [`Status::code`] travels, in decimal.
const STATUS_KEY: &str = "pocket-status";

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let message = if failure.message.is_empty() {
            failure.status.to_string()
        } else {
            failure.message
        };
        let mut status = tonic::Status::new(nearest_code(failure.status), message);
        status.metadata_mut().insert(
            STATUS_KEY,
            MetadataValue::from(u64::from(failure.status.code())),
        );
        status
    }
}

impl Failure {
    /// The failure that the peer's handler answered; `None` if the status is the transport's own
    /// (the peer is away, or is no Pocket server at all).
    pub fn from_grpc(status: &tonic::Status) -> Option<Failure> {
        let code = status.metadata().get(STATUS_KEY)?.to_str().ok()?;
        let code = code.parse().ok()?;
        Some(Failure::new(Status::from_code(code), status.message()))
    }
}

fn nearest_code(status: Status) -> Code {
    match status {
        Status::Ok => Code::Ok,
        Status::NotFound | Status::Stale | Status::NoAttribute | Status::JobGone => Code::NotFound,
        Status::Exists => Code::AlreadyExists,
        Status::NotDirectory
        | Status::IsDirectory
        | Status::NotEmpty
        | Status::SessionEnded
        | Status::VersionMismatch => Code::FailedPrecondition,
        Status::NameTooLong | Status::Invalid | Status::Malformed => Code::InvalidArgument,
        Status::NoSpace
        | Status::QuotaExceeded
        | Status::ServerFull
        | Status::TooManyLinks
        | Status::LimitReached => Code::ResourceExhausted,
        Status::NotPermitted | Status::Denied => Code::PermissionDenied,
        Status::OutOfRange | Status::TooLarge => Code::OutOfRange,
        Status::Lost => Code::DataLoss,
        Status::Unavailable | Status::Again => Code::Unavailable,
        Status::Deadlock => Code::Aborted,
        Status::NoLocks => Code::ResourceExhausted,
        Status::Moved => Code::FailedPrecondition,
        Status::Unsupported => Code::Unimplemented,
        Status::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_survives_grpc() {
        for code in (1..=27).chain(40..=41) {
            let failure = Failure::new(Status::from_code(code), "what and why");
            let status = tonic::Status::from(failure.clone());
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(Failure::from_grpc(&status), Some(failure));
        }
    }

    #[test]
    fn status_of_the_transport_is_no_failure_of_ours() {
        let status = tonic::Status::unavailable("tcp connect error");
        assert_eq!(Failure::from_grpc(&status), None);
    }
}
