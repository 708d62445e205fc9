//! The client's end: calls, one-way messages, and pushes received.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pocket_proto::{
    BODY_BYTES_MAX, Failure, Header, JobId, Operation, Status,
    session::{Hello, Welcome},
};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::payload::Payload;
use crate::{
    greeting::{Greeted, greet},
    outbox::{Outbox, Refused},
    outgoing::Outgoing,
    pending::Pending,
    reader::{FrameReader, WHOLE},
    watchdog::{self, Progress},
};

/// Bytes queued for a socket that is full, before callers wait: a few of the largest usual blocks.
pub(crate) const QUEUED_BYTES_MAX: usize = 8 << 20;

/// A connection to a server: cheap to clone, many requests in flight. It ends when its last clone
/// is dropped, when the peer goes, when the peer speaks nonsense, or when a request is overdue (a
/// peer that left one without an answer is not trusted with the next). See also
/// [`Connection::limit_silence`].
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Handle>,
}

/// A successful reply.
#[derive(Clone, Debug)]
pub struct ReplyFrame {
    /// Flags of the reply's header.
    pub flags: u16,
    /// The reply's body.
    pub body: Bytes,
    /// Pushes that the server had sent on this connection when it took up the request. Each of
    /// them has been handed to the [`PushHandler`] by now; what the reply says is older than any
    /// later one.
    pub pushes_before: u64,
}

/// Receives what the server pushes.
pub trait PushHandler: Send + Sync {
    /// Called in order of arrival, for a push before any reply behind it is completed, by the task
    /// that reads the connection: it must not block.
    fn push(&self, operation: Operation, body: Bytes);
}

/// Closes the connection when the last user lets go; the tasks hold only what is inside.
struct Handle(Arc<Shared>);

struct Shared {
    endpoint: String,
    outbox: Arc<Outbox>,
    pending: Pending,
    progress: Arc<Progress>,
}

impl Connection {
    /// Connects to "host:port" and greets. The welcome names the server as it calls itself.
    ///
    /// Errors: what the server answered ([`Status::Denied`], [`Status::VersionMismatch`], ...), or
    /// [`Status::Unavailable`] if it cannot be reached within the deadline.
    pub async fn connect(
        endpoint: &str,
        hello: Hello,
        pushes: Option<Arc<dyn PushHandler>>,
        deadline: Duration,
    ) -> Result<(Connection, Welcome), Failure> {
        let greeted = match timeout(deadline, greet(endpoint, &hello)).await {
            Ok(greeted) => greeted?,
            Err(_) => {
                let what = format!("cannot reach {endpoint}: no answer within {deadline:?}");
                return Err(Failure::new(Status::Unavailable, what));
            }
        };
        let Greeted {
            outbox,
            mut reader,
            progress,
            welcome,
        } = greeted;
        reader.limit_bodies(BODY_BYTES_MAX);
        let shared = Arc::new(Shared {
            endpoint: endpoint.to_owned(),
            outbox,
            pending: Pending::new(),
            progress,
        });
        tokio::spawn(Arc::clone(&shared.outbox).run_writer());
        tokio::spawn(Arc::clone(&shared).run_reader(reader, pushes));
        tokio::spawn(Arc::clone(&shared).run_watchdog());
        let connection = Connection {
            shared: Arc::new(Handle(shared)),
        };
        Ok((connection, welcome))
    }

    /// Sends a request whose body is `head` and behind it `data` (not copied), and waits for the
    /// reply. The request goes out at the first poll, in order with [`Connection::send`], unless
    /// too much is in flight already. Dropping the future does not take the request back.
    ///
    /// Errors: what the server answered; [`Status::Unavailable`] if the connection ended or the
    /// deadline passed (whether the server acted is then unknown); [`Status::Invalid`] for a body
    /// longer than any frame's.
    pub async fn call(
        &self,
        operation: Operation,
        job: JobId,
        head: &[u8],
        data: impl Into<Payload>,
        deadline: Duration,
    ) -> Result<ReplyFrame, Failure> {
        let (shared, data) = (&self.shared.0, data.into());
        let body_bytes = body_bytes(head, &data)?;
        let made = Instant::now();
        let (ticket, mut reply) = shared.pending.admit(made, made + deadline).await?;
        let header = Header::request(operation, ticket.id(), job, body_bytes);
        let mut frame = Outgoing::new(&header, head, data);
        loop {
            match shared.outbox.submit(frame) {
                Ok(()) => {
                    ticket.sent();
                    break;
                }
                Err(Refused::Closed) => return Err(shared.end()),
                Err(Refused::Full(returned)) => frame = *returned,
            }
            tokio::select! {
                biased;
                outcome = &mut reply => return shared.unwrap_outcome(outcome.ok()),
                () = shared.outbox.wait_room() => {}
            }
        }
        let outcome = reply.await;
        shared.unwrap_outcome(outcome.ok())
    }

    /// Sends a message that has no reply, in order with calls, and returns at once.
    ///
    /// Errors: [`Status::Unavailable`] if the connection has ended, [`Status::LimitReached`] if
    /// the peer leaves too much unread, [`Status::Invalid`] for a body longer than any frame's.
    /// Success does not mean that the message arrives.
    pub fn send(
        &self,
        operation: Operation,
        job: JobId,
        head: &[u8],
        data: impl Into<Payload>,
    ) -> Result<(), Failure> {
        let (shared, data) = (&self.shared.0, data.into());
        let header = Header::request(operation, 0, job, body_bytes(head, &data)?);
        match shared.outbox.submit(Outgoing::new(&header, head, data)) {
            Ok(()) => Ok(()),
            Err(Refused::Closed) => Err(shared.end()),
            Err(Refused::Full(_)) => Err(Failure::new(
                Status::LimitReached,
                format!("{} leaves {QUEUED_BYTES_MAX} bytes unread", shared.endpoint),
            )),
        }
    }

    /// As [`Connection::send`], but the frame goes out with the next one that is sent or called, or
    /// with [`Connection::flush`]: what nobody waits for need not wake anybody.
    pub fn send_soon(
        &self,
        operation: Operation,
        job: JobId,
        head: &[u8],
        data: impl Into<Payload>,
    ) -> Result<(), Failure> {
        let (shared, data) = (&self.shared.0, data.into());
        if shared.outbox.queued_bytes() > QUEUED_BYTES_MAX {
            return self.send(operation, job, head, data);
        }
        let header = Header::request(operation, 0, job, body_bytes(head, &data)?);
        shared.outbox.enqueue(Outgoing::new(&header, head, data));
        Ok(())
    }

    /// Sends what [`Connection::send_soon`] has held back.
    pub fn flush(&self) {
        self.shared.0.outbox.flush();
    }

    /// From now on also ends the connection when requests wait and nothing has moved on it, in
    /// either direction, for so long. It is noticed half a second later at most.
    pub fn limit_silence(&self, silence_max: Duration) {
        self.shared.0.progress.limit_silence(silence_max);
    }

    /// The endpoint this connection was made to.
    pub fn endpoint(&self) -> &str {
        &self.shared.0.endpoint
    }

    /// Whether the connection has ended; calls then fail at once.
    pub fn is_closed(&self) -> bool {
        self.shared.0.outbox.is_closed()
    }

    /// Ends when the connection has ended.
    pub async fn closed(&self) {
        self.shared.0.outbox.closed().await;
    }

    /// Ends the connection: calls in flight fail as [`Status::Unavailable`].
    pub fn close(&self) {
        self.shared.0.close("closed by this side");
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", &self.endpoint())
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close("closed by this side");
    }
}

fn body_bytes(head: &[u8], data: &Payload) -> Result<u32, Failure> {
    match u32::try_from(head.len() + data.len()) {
        Ok(bytes) if bytes <= BODY_BYTES_MAX => Ok(bytes),
        _ => Err(Failure::new(
            Status::Invalid,
            format!(
                "request of {} bytes, the limit is {BODY_BYTES_MAX}",
                head.len() + data.len()
            ),
        )),
    }
}

/// A failure's sentence is cut at this length.
const SENTENCE_BYTES_MAX: usize = 4096;

/// The failure that a reply frame tells of.
pub(crate) fn failure_of(header: &Header, body: &[u8]) -> Failure {
    let sentence = &body[..body.len().min(SENTENCE_BYTES_MAX)];
    Failure::new(header.status, String::from_utf8_lossy(sentence))
}

impl Shared {
    fn close(&self, why: &str) {
        self.outbox.close(Failure::new(Status::Unavailable, why));
        self.pending.fail_all(&self.end());
    }

    /// Why the connection has ended, with its name.
    fn end(&self) -> Failure {
        let why = self
            .outbox
            .end()
            .map_or_else(String::new, |end| end.message);
        Failure::new(
            Status::Unavailable,
            format!("connection to {} ended: {why}", self.endpoint),
        )
    }

    fn unwrap_outcome(
        &self,
        outcome: Option<Result<ReplyFrame, Failure>>,
    ) -> Result<ReplyFrame, Failure> {
        outcome.unwrap_or_else(|| Err(self.end()))
    }

    async fn run_reader(
        self: Arc<Self>,
        mut reader: FrameReader,
        handler: Option<Arc<dyn PushHandler>>,
    ) {
        let mut pushes = 0_u64;
        let why = loop {
            let frame = match reader.next(WHOLE).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break "ended by the peer".to_owned(),
                Err(error) => break error.to_string(),
            };
            let header = frame.header;
            if header.id == 0 {
                pushes += 1;
                match &handler {
                    Some(handler) => handler.push(header.operation, frame.body),
                    None => debug!(operation = ?header.operation, "push without a handler"),
                }
                continue;
            }
            let outcome = match header.status {
                Status::Ok => Ok(ReplyFrame {
                    flags: header.flags,
                    body: frame.body,
                    pushes_before: earlier(pushes, header.pushes),
                }),
                _ => Err(failure_of(&header, &frame.body)),
            };
            if !self.pending.complete(header.id, outcome) {
                debug!(endpoint = %self.endpoint, id = header.id, "reply nobody waits for");
            }
        };
        self.close(&why);
    }

    async fn run_watchdog(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.outbox.closed() => {}
            why = watchdog::watch(&self.pending, &self.progress) => {
                debug!(endpoint = %self.endpoint, why, "peer given up");
                self.close(why);
            }
        }
    }
}

/// The full count whose lower half is `low`, the newest that is not after `now`.
fn earlier(now: u64, low: u32) -> u64 {
    let behind = (now as u32).wrapping_sub(low);
    now.saturating_sub(u64::from(behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_count_is_restored_from_its_lower_half() {
        for (now, then) in [
            (0, 0),
            (7, 7),
            (7, 3),
            (1 << 32, (1 << 32) - 1),
            ((5 << 32) + 2, (5 << 32) - 9),
        ] {
            assert_eq!(earlier(now, then as u32), then);
        }
    }
}
