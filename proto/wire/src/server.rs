//! The server's end: accepts connections, greets them, and runs a [`Service`] on each.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pocket_proto::{
    BODY_BYTES_MAX, Failure, Header, Operation, PROTOCOL_VERSION, Status,
    session::{Hello, Welcome},
};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    Answer, Handled, Pusher, Service,
    authenticate::check_version,
    outbox::Outbox,
    outgoing::Outgoing,
    reader::{FrameReader, HeadBytes, Incoming, ReadError, WHOLE},
    socket,
};

/// A greeting is a credential and a host's name.
const HELLO_BYTES_MAX: u32 = 4096;
/// Answers to requests that arrived together are sent at the latest when they amount to this.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Pause after the system refuses to accept connections (out of descriptors), so that the server
/// neither spins nor ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server lets its clients do.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Open connections; further ones are closed at once.
    pub connections_max: usize,
    /// Longest body of a request. Never more than `BODY_BYTES_MAX`.
    pub body_bytes_max: u32,
    /// Requests of one connection that are answered later; further ones are not read meanwhile.
    /// More than a client has in flight (4096), so that a request which others wait for is heard.
    pub later_max: usize,
    /// Bytes of requests that are answered later, of all connections together; further ones are not
    /// read meanwhile, in the order in which they came.
    pub later_bytes_max: usize,
    /// Bytes of answers queued for one connection; requests are not read meanwhile.
    pub queued_bytes_max: usize,
    /// A connection must greet within this time.
    pub hello_deadline: Duration,
    /// A client that takes no answers for so long is closed.
    pub stall_deadline: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            connections_max: 16_384,
            body_bytes_max: BODY_BYTES_MAX,
            later_max: 2 * crate::pending::CALLS_MAX,
            later_bytes_max: 256 << 20,
            queued_bytes_max: 8 << 20,
            hello_deadline: Duration::from_secs(5),
            stall_deadline: Duration::from_secs(30),
        }
    }
}

/// Serves until `stop`; then ends every connection and returns when all have ended. Answers under
/// way are given up.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let later_bytes = Arc::new(Semaphore::new(limits.later_bytes_max));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            warn!(%peer, limit = limits.connections_max, "too many connections, one refused");
            continue;
        };
        let server = Session {
            service: Arc::clone(&service),
            limits,
            later_bytes: Arc::clone(&later_bytes),
            tasks: tasks.clone(),
            stop: stop.child_token(),
        };
        tasks.spawn(async move {
            match server.run(stream).await {
                Ok(()) => debug!(%peer, "connection ended"),
                Err(error) => debug!(%peer, %error, "connection closed"),
            }
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// One connection.
struct Session<S> {
    service: Arc<S>,
    limits: ServerLimits,
    later_bytes: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<S: Service> Session<S> {
    async fn run(self, stream: TcpStream) -> Result<(), Failure> {
        socket::prepare(&stream).map_err(|error| io_failure(&error))?;
        let (read_half, write_half) = stream.into_split();
        let mut reader = FrameReader::new(read_half, HELLO_BYTES_MAX, Arc::default());
        let outbox = Outbox::new_held(
            write_half,
            self.limits.queued_bytes_max,
            Arc::default(),
            self.stop.clone(),
        );
        self.tasks.spawn(Arc::clone(&outbox).run_writer());
        // Whatever happens below, the socket does not outlive it.
        let _closing = CloseOnDrop(Arc::clone(&outbox));

        let greeting = timeout(self.limits.hello_deadline, self.greet(&mut reader, &outbox));
        let peer = match greeting.await {
            Ok(greeted) => greeted?,
            Err(_) => return Err(Failure::new(Status::Unavailable, "no greeting in time")),
        };
        reader.limit_bodies(self.limits.body_bytes_max);
        let peer = Departure {
            service: Arc::clone(&self.service),
            peer: Arc::new(peer),
        };
        self.requests(&mut reader, &outbox, &peer.peer).await
    }

    async fn greet(
        &self,
        reader: &mut FrameReader,
        outbox: &Arc<Outbox>,
    ) -> Result<S::Peer, Failure> {
        let Some(frame) = reader
            .next(WHOLE)
            .await
            .map_err(|error| read_failure(&error))?
        else {
            return Err(Failure::new(Status::Unavailable, "ended before a greeting"));
        };
        let header = frame.header;
        if header.operation != Operation::Hello {
            let what = format!("{:?} before a greeting", header.operation);
            return Err(Failure::new(Status::Malformed, what));
        }
        let greeted = match Hello::decode(frame.body) {
            Ok(hello) => match check_version(hello.protocol_version, PROTOCOL_VERSION) {
                Ok(()) => {
                    self.service
                        .hello(hello, Pusher::new(Arc::clone(outbox)))
                        .await
                }
                Err(failure) => Err(failure),
            },
            Err(error) => Err(Failure::new(
                Status::Malformed,
                format!("the greeting cannot be read: {error}"),
            )),
        };
        match greeted {
            Ok((peer, welcome)) => {
                let welcome = Welcome {
                    protocol_version: PROTOCOL_VERSION,
                    ..welcome
                };
                let answer = Answer::ok(welcome.encode_to_vec().into());
                outbox.open_with(reply(&header, answer, 0));
                Ok(peer)
            }
            Err(failure) => {
                outbox.open_with(reply(&header, Answer::failed(failure.clone()), 0));
                // The client hangs up when it has read the refusal; closing first might take it
                // away from the client unread.
                let _ = reader.next(WHOLE).await;
                Err(failure)
            }
        }
    }

    async fn requests(
        &self,
        reader: &mut FrameReader,
        outbox: &Arc<Outbox>,
        peer: &Arc<S::Peer>,
    ) -> Result<(), Failure> {
        let later = Arc::new(Semaphore::new(self.limits.later_max));
        let head_bytes: HeadBytes<'_> = &|operation| self.service.head_bytes(operation);
        loop {
            let received = reader.next_received(head_bytes);
            let frame = match received.map_err(|error| read_failure(&error))? {
                Some(frame) => frame,
                None => {
                    outbox.flush();
                    self.await_room(outbox).await?;
                    match reader.next(head_bytes).await {
                        Ok(Some(frame)) => frame,
                        Ok(None) => return Ok(()),
                        Err(error) => return Err(read_failure(&error)),
                    }
                }
            };
            let header = frame.header;
            let pushes = outbox.pushes() as u32;
            match self.handle(peer, frame) {
                Handled::Now(answer) => {
                    if header.id != 0 {
                        outbox.enqueue(reply(&header, answer, pushes));
                        if outbox.queued_bytes() > BATCH_BYTES_MAX {
                            outbox.flush();
                            self.await_room(outbox).await?;
                        }
                    }
                }
                Handled::Later(answer) => {
                    let permit = acquire(&later, 1, outbox).await;
                    let most = self.limits.later_bytes_max.min(u32::MAX as usize) as u32;
                    let bytes = header.body_bytes.min(most);
                    let room = acquire(&self.later_bytes, bytes, outbox).await;
                    let replier = Replier {
                        header,
                        pushes,
                        outbox: Arc::clone(outbox),
                        answered: false,
                    };
                    let stop = self.stop.clone();
                    self.tasks.spawn(async move {
                        tokio::select! {
                            answer = answer => replier.answer(answer),
                            () = stop.cancelled() => {}
                        }
                        drop((permit, room));
                    });
                }
            }
            if let Some(pause) = self.service.pause(peer) {
                outbox.flush();
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn handle(&self, peer: &Arc<S::Peer>, mut frame: Incoming) -> Handled {
        let operation = frame.header.operation;
        match operation {
            Operation::Ping => Handled::Now(Answer::empty()),
            Operation::Hello => Handled::Now(Answer::failed(Failure::new(
                Status::Malformed,
                "a second greeting",
            ))),
            _ if self.service.head_bytes(operation) > 0 => {
                let data = std::mem::take(&mut frame.body);
                let service = &self.service;
                service.handle_with_head(peer, frame.header, frame.head(), data)
            }
            _ => self.service.handle(peer, frame.header, frame.body),
        }
    }

    async fn await_room(&self, outbox: &Outbox) -> Result<(), Failure> {
        if outbox.queued_bytes() <= self.limits.queued_bytes_max {
            return Ok(());
        }
        timeout(self.limits.stall_deadline, outbox.wait_room())
            .await
            .map_err(|_| Failure::new(Status::Unavailable, "the client takes no answers"))
    }
}

/// Waits for permits; what is answered already goes out meanwhile.
async fn acquire(of: &Arc<Semaphore>, count: u32, outbox: &Outbox) -> OwnedSemaphorePermit {
    if let Ok(permit) = Arc::clone(of).try_acquire_many_owned(count) {
        return permit;
    }
    outbox.flush();
    let permit = Arc::clone(of).acquire_many_owned(count).await;
    permit.expect("the semaphore is never closed")
}

/// Tells the service that a connection has ended, also when its task panics.
struct Departure<S: Service> {
    service: Arc<S>,
    peer: Arc<S::Peer>,
}

impl<S: Service> Drop for Departure<S> {
    fn drop(&mut self) {
        self.service.disconnected(&self.peer);
    }
}

struct CloseOnDrop(Arc<Outbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(Failure::new(Status::Unavailable, "ended"));
    }
}

/// Owes a request its answer, also when the task that works on it panics.
struct Replier {
    header: Header,
    pushes: u32,
    outbox: Arc<Outbox>,
    answered: bool,
}

impl Replier {
    fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        self.answered = true;
        if self.header.id != 0 {
            self.outbox
                .enqueue(reply(&self.header, answer, self.pushes));
            self.outbox.flush();
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Answer::failed(Failure::new(
                Status::Internal,
                "the server gave the request up",
            )));
        }
    }
}

fn reply(request: &Header, answer: Answer, pushes: u32) -> Outgoing {
    let (head, body) = (answer.head().clone(), answer.body().clone());
    let body_bytes = head.len() + body.len();
    if body_bytes > BODY_BYTES_MAX as usize {
        let sentence = format!("an answer of {body_bytes} bytes is longer than any frame");
        let sentence = Bytes::from(sentence);
        let header = request.reply(Status::Internal, sentence.len() as u32);
        return Outgoing::new(&header, &[], sentence);
    }
    let header = Header {
        flags: answer.flags(),
        pushes,
        ..request.reply(answer.status(), body_bytes as u32)
    };
    Outgoing::new(&header, &head, body)
}

fn read_failure(error: &ReadError) -> Failure {
    let status = match error {
        ReadError::Io(_) | ReadError::Truncated => Status::Unavailable,
        ReadError::Frame(_) | ReadError::TooLong { .. } => Status::Malformed,
    };
    Failure::new(status, error.to_string())
}

fn io_failure(error: &std::io::Error) -> Failure {
    Failure::new(Status::Unavailable, error.to_string())
}
