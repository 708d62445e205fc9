//! What a service answers to a request.

use bytes::Bytes;
use pocket_proto::{Failure, Status};

/// Answer to a request: becomes the reply frame. Head and body form the frame's body.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    status: Option<Status>,
    flags: u16,
    head: Bytes,
    body: Bytes,
}

impl Answer {
    /// Success, with a body that is sent without being copied.
    pub fn ok(body: Bytes) -> Self {
        Answer {
            body,
            ..Answer::default()
        }
    }

    /// Success with nothing to say.
    pub fn empty() -> Self {
        Answer::default()
    }

    /// A failure; its message travels as the body.
    pub fn failed(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        // A failure that claims success would be read as one.
        let status = match failure.status {
            Status::Ok => Status::Internal,
            status => status,
        };
        Answer {
            status: Some(status),
            body: Bytes::from(failure.message),
            ..Answer::default()
        }
    }

    /// The same with flags for the reply's header.
    pub fn with_flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// The same with a few bytes in front of the body.
    pub fn with_head(mut self, head: Bytes) -> Self {
        self.head = head;
        self
    }

    /// What the reply's header will say.
    pub fn status(&self) -> Status {
        self.status.unwrap_or(Status::Ok)
    }

    /// Flags of the reply's header.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// The front of the reply's body.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The reply's body behind the head.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Answer::failed(failure)
    }
}

impl From<Result<Bytes, Failure>> for Answer {
    fn from(result: Result<Bytes, Failure>) -> Self {
        match result {
            Ok(body) => Answer::ok(body),
            Err(failure) => Answer::failed(failure),
        }
    }
}
