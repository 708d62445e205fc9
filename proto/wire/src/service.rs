//! What a server offers: the contract between the transport and the roles that serve on it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use pocket_proto::{
    Failure, Header, JobId, Operation, Status,
    session::{Hello, Welcome},
};

use crate::{Answer, outbox::Outbox, outgoing::Outgoing};

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// No operation's head is longer (see [`Service::head_bytes`]).
pub const HEAD_BYTES_MAX: usize = 32;

/// A server role: greets connections and handles their requests.
///
/// The transport has checked the protocol version, answers pings itself, and closes a connection
/// whose bytes are not frames; bodies are for the service to check.
pub trait Service: Send + Sync + 'static {
    /// State of one authenticated connection.
    type Peer: Send + Sync + 'static;

    /// Decides over a new connection. Pushes made before this returns arrive behind the welcome.
    fn hello(
        &self,
        hello: Hello,
        pusher: Pusher,
    ) -> impl Future<Output = Result<(Self::Peer, Welcome), Failure>> + Send;

    /// Handles one request. Called in order of arrival on the connection's task: it must not
    /// block. The answer to a request of id 0 (one-way) is dropped.
    fn handle(&self, peer: &Arc<Self::Peer>, header: Header, body: Bytes) -> Handled;

    /// How many bytes at the front of an operation's body to hand over apart, at most
    /// [`HEAD_BYTES_MAX`], so that the data behind them get a buffer of exactly their size.
    /// Where this is not 0, [`Service::handle_with_head`] is called instead of
    /// [`Service::handle`].
    fn head_bytes(&self, operation: Operation) -> usize {
        let _ = operation;
        0
    }

    /// Handles one request whose body came apart. `head` is shorter than asked for only if the
    /// whole body is.
    fn handle_with_head(
        &self,
        peer: &Arc<Self::Peer>,
        header: Header,
        head: &[u8],
        data: Bytes,
    ) -> Handled {
        let _ = (peer, head, data);
        Handled::Now(Answer::failed(Failure::new(
            Status::Unsupported,
            format!("operation {:?} is not offered here", header.operation),
        )))
    }

    /// For how long to read no further request of this peer: asked after every request. Meanwhile the
    /// peer's writes fill the socket, and it waits; keep it short of what clients take for death.
    fn pause(&self, peer: &Arc<Self::Peer>) -> Option<Duration> {
        let _ = peer;
        None
    }

    /// The connection has ended, for whatever reason. Called once for every successful
    /// [`Service::hello`]; answers still under way go nowhere.
    fn disconnected(&self, peer: &Arc<Self::Peer>);
}

/// How a request is answered.
pub enum Handled {
    /// Replied in place.
    Now(Answer),
    /// Run as a task of its own and replied when ready; requests behind it go on.
    Later(BoxFuture<'static, Answer>),
}

impl Handled {
    /// Boxes a future as the answer.
    pub fn later(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        Handled::Later(Box::pin(answer))
    }
}

/// Sends frames to a connected peer that it did not ask for. Cheap to clone.
#[derive(Clone)]
pub struct Pusher {
    outbox: Arc<Outbox>,
}

impl Pusher {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Pusher { outbox }
    }

    /// Queues a push behind everything answered or pushed before, and returns at once. False: the
    /// connection has ended, or was closed just now because its peer takes nothing any more.
    pub fn push(&self, operation: Operation, job: JobId, body: Bytes) -> bool {
        let Ok(body_bytes) = u32::try_from(body.len()) else {
            return false;
        };
        let header = Header::request(operation, 0, job, body_bytes);
        self.outbox.push(Outgoing::new(&header, &[], body))
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.outbox
            .close(Failure::new(Status::Unavailable, "closed by this side"));
    }
}
