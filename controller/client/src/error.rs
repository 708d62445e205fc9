//! What can go wrong on the way to the controller, as sentences that name the endpoint.

use std::{error::Error, time::Duration};

use pocket_proto::{Failure, Status};
use thiserror::Error;

/// Why a call to the controller failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// The endpoint cannot be one.
    #[error(
        "'{endpoint}' is not a controller's endpoint ({reason}): \
         write HOST:PORT or http://HOST:PORT, as 10.0.0.1:7300"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there, or nobody who speaks our protocol.
    #[error(
        "cannot reach the controller at {endpoint} ({reason}): \
         is it running there, and is the endpoint right?"
    )]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What the transport said.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "the controller at {endpoint} did not answer {call} within {} s: \
         is it overloaded, or a firewall in between?", deadline.as_secs_f32()
    )]
    Deadline {
        /// Where it was called.
        endpoint: String,
        /// What it was asked.
        call: &'static str,
        /// How long it had.
        deadline: Duration,
    },
    /// The controller says no; its sentence is complete and for people.
    #[error("{message}")]
    Refused {
        /// The reason, for programs.
        status: Status,
        /// The reason, for people.
        message: String,
    },
}

impl ControllerError {
    /// The status nearest to this error.
    pub fn status(&self) -> Status {
        match self {
            ControllerError::Endpoint { .. } => Status::Invalid,
            ControllerError::Unreachable { .. } | ControllerError::Deadline { .. } => {
                Status::Unavailable
            }
            ControllerError::Refused { status, .. } => *status,
        }
    }

    pub(crate) fn from_grpc(endpoint: &str, status: &tonic::Status) -> Self {
        match Failure::from_grpc(status) {
            Some(Failure { status, message }) => ControllerError::Refused { status, message },
            None => ControllerError::Unreachable {
                endpoint: endpoint.to_owned(),
                reason: innermost_reason(status),
            },
        }
    }
}

impl From<ControllerError> for Failure {
    fn from(error: ControllerError) -> Self {
        Failure::new(error.status(), error.to_string())
    }
}

/// The root cause says most ("Connection refused"); the layers above it say "transport error".
fn innermost_reason(status: &tonic::Status) -> String {
    let mut cause: Option<&dyn Error> = status.source();
    let mut reason = status.message().to_owned();
    while let Some(error) = cause {
        reason = error.to_string();
        cause = error.source();
    }
    if reason.is_empty() {
        reason = status.code().to_string();
    }
    reason
}
