//! The sending side of a connection: a queue of frames and whoever writes it to the socket.
//!
//! A frame is written by the thread that submits it, as far as the socket takes it. Exactly one
//! thread writes at a time; what others queue meanwhile goes along with its next system call, so
//! that nobody waits for another's write and busy connections send in batches. When the socket is
//! full the role of the writer passes to the connection's writer task.
//!
//! The queue holds frames in order: nothing submitted later is sent earlier.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use pocket_proto::{Failure, Status};
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    outgoing::{Outgoing, SLICES},
    socket,
    watchdog::Progress,
};

/// Frames that go into one system call at most.
const BATCH_FRAMES_MAX: usize = 32;
/// System calls a submitting thread makes before it leaves the rest to the writer task, so that
/// nobody works for the others for ever.
const ROUNDS_MAX: usize = 16;

/// Frames on their way to one socket.
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Frames are admitted while no more than this is queued.
    queued_bytes_max: usize,
    pushes: AtomicU64,
    progress: Arc<Progress>,
    writer_wanted: Notify,
    room: Notify,
    closed: CancellationToken,
}

struct State {
    /// Let go when the connection ends, whoever still holds the outbox: a socket that stays open
    /// tells its peer nothing.
    socket: Option<Arc<OwnedWriteHalf>>,
    queue: VecDeque<Outgoing>,
    /// The writer's own queue while nobody writes; kept for its allocation.
    spare: VecDeque<Outgoing>,
    queued_bytes: usize,
    writer: Writer,
    end: Option<Failure>,
}

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Nothing is sent before the connection's greeting.
    NotYet,
    /// Nobody: the queue is empty, or filled by [`Outbox::enqueue`] and not yet flushed.
    Nobody,
    /// Some thread, which looks at the queue again before it stops.
    Somebody,
}

/// Why a frame was not queued.
pub(crate) enum Refused {
    /// More than the bound is queued; the frame comes back.
    Full(Box<Outgoing>),
    /// The connection has ended.
    Closed,
}

/// How far a writer came.
enum Written {
    All,
    SocketFull,
}

impl Outbox {
    /// An outbox that sends from now on.
    pub(crate) fn new(
        socket: OwnedWriteHalf,
        queued_bytes_max: usize,
        progress: Arc<Progress>,
        closed: CancellationToken,
    ) -> Arc<Self> {
        Self::build(socket, queued_bytes_max, progress, closed, Writer::Nobody)
    }

    /// An outbox that holds everything back until [`Outbox::open_with`].
    pub(crate) fn new_held(
        socket: OwnedWriteHalf,
        queued_bytes_max: usize,
        progress: Arc<Progress>,
        closed: CancellationToken,
    ) -> Arc<Self> {
        Self::build(socket, queued_bytes_max, progress, closed, Writer::NotYet)
    }

    fn build(
        socket: OwnedWriteHalf,
        queued_bytes_max: usize,
        progress: Arc<Progress>,
        closed: CancellationToken,
        writer: Writer,
    ) -> Arc<Self> {
        Arc::new(Outbox {
            state: Mutex::new(State {
                socket: Some(Arc::new(socket)),
                queue: VecDeque::new(),
                spare: VecDeque::new(),
                queued_bytes: 0,
                writer,
                end: None,
            }),
            queued_bytes_max,
            pushes: AtomicU64::new(0),
            progress,
            writer_wanted: Notify::new(),
            room: Notify::new(),
            closed,
        })
    }

    /// Sends `greeting` in front of all that was held back.
    pub(crate) fn open_with(&self, greeting: Outgoing) {
        let mut state = self.state.lock();
        state.queued_bytes += greeting.remaining();
        state.queue.push_front(greeting);
        if state.writer == Writer::NotYet {
            state.writer = Writer::Nobody;
        }
        self.flush_locked(state);
    }

    /// Queues a frame and sends what can be sent.
    pub(crate) fn submit(&self, frame: Outgoing) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Err(Refused::Closed);
        }
        if state.queued_bytes > self.queued_bytes_max {
            return Err(Refused::Full(Box::new(frame)));
        }
        state.put(frame);
        self.flush_locked(state);
        Ok(())
    }

    /// Queues a reply, over the bound if need be: the caller paces itself by
    /// [`Outbox::wait_room`]. It is sent with the next flush. Dropped if the connection has ended.
    pub(crate) fn enqueue(&self, frame: Outgoing) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.put(frame);
        }
    }

    /// Queues a push and sends what can be sent. A peer that lets pushes pile up beyond the bound
    /// is given up: false, as for a connection that has ended.
    pub(crate) fn push(&self, frame: Outgoing) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        if state.queued_bytes > self.queued_bytes_max {
            let reason = format!("the peer leaves {} bytes unread", state.queued_bytes);
            drop(state);
            self.close(Failure::new(Status::Unavailable, reason));
            return false;
        }
        state.put(frame);
        // Counted when queued, not before: a reply that names the count must come behind it.
        self.pushes.fetch_add(1, Ordering::Release);
        self.flush_locked(state);
        true
    }

    /// Pushes queued so far.
    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Acquire)
    }

    /// Sends what [`Outbox::enqueue`] queued.
    pub(crate) fn flush(&self) {
        self.flush_locked(self.state.lock());
    }

    /// Bytes queued and not yet taken by the socket.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.state.lock().queued_bytes
    }

    /// Ends when a frame would be admitted, or the connection has ended.
    pub(crate) async fn wait_room(&self) {
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            {
                let state = self.state.lock();
                if state.end.is_some() || state.queued_bytes <= self.queued_bytes_max {
                    return;
                }
            }
            room.await;
        }
    }

    /// Ends the connection, in both directions, at once. The first reason given stays.
    pub(crate) fn close(&self, reason: Failure) {
        let (socket, _forgotten) = {
            let mut state = self.state.lock();
            state.end.get_or_insert(reason);
            state.queued_bytes = 0;
            (state.socket.take(), std::mem::take(&mut state.queue))
        };
        if let Some(socket) = socket {
            socket::shut_down((*socket).as_ref());
        }
        self.closed.cancel();
        self.room.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ends when the connection has ended.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Why the connection has ended.
    pub(crate) fn end(&self) -> Option<Failure> {
        self.state.lock().end.clone()
    }

    /// The writer task: writes whenever the socket has room again, until the connection ends.
    pub(crate) async fn run_writer(self: Arc<Self>) {
        let write = async {
            loop {
                self.writer_wanted.notified().await;
                let Some(socket) = self.state.lock().socket.clone() else {
                    return;
                };
                while let Ok(()) = socket.writable().await {
                    if let Written::All = self.write_queue(self.state.lock(), usize::MAX) {
                        break;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => {
                // Cancelled from outside the socket must end as well, so that the reader does.
                self.close(Failure::new(Status::Unavailable, "stopped"));
            }
            () = write => {}
        }
    }

    fn flush_locked(&self, mut state: MutexGuard<'_, State>) {
        if state.writer != Writer::Nobody || state.queue.is_empty() {
            return;
        }
        state.writer = Writer::Somebody;
        if let Written::SocketFull = self.write_queue(state, ROUNDS_MAX) {
            self.writer_wanted.notify_one();
        }
    }

    /// Writes until the queue is empty, the socket full or `rounds_max` reached. The caller is the
    /// writer, and stays it unless all is done.
    fn write_queue<'a>(&'a self, mut state: MutexGuard<'a, State>, rounds_max: usize) -> Written {
        let Some(socket) = state.socket.clone() else {
            return Written::All;
        };
        let mut hand = std::mem::take(&mut state.spare);
        for _ in 0..rounds_max {
            if hand.is_empty() {
                std::mem::swap(&mut hand, &mut state.queue);
            }
            if hand.is_empty() {
                state.writer = Writer::Nobody;
                state.spare = hand;
                return Written::All;
            }
            drop(state);
            let written = write_some(&socket, &mut hand);
            state = self.state.lock();
            match written {
                Ok(bytes) => self.note_written(&mut state, bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    drop(state);
                    self.close(Failure::new(
                        Status::Unavailable,
                        format!("sending failed: {error}"),
                    ));
                    return Written::All;
                }
            }
        }
        state.put_back(hand);
        Written::SocketFull
    }

    fn note_written(&self, state: &mut State, bytes: usize) {
        self.progress.note(bytes);
        let before = state.queued_bytes;
        // Zero after a close, which forgets the queue.
        state.queued_bytes = before.saturating_sub(bytes);
        if before > self.queued_bytes_max && state.queued_bytes <= self.queued_bytes_max {
            self.room.notify_waiters();
        }
    }
}

impl State {
    fn put(&mut self, frame: Outgoing) {
        self.queued_bytes += frame.remaining();
        self.queue.push_back(frame);
    }

    /// Returns what the writer took and did not write to the front of the queue.
    fn put_back(&mut self, mut hand: VecDeque<Outgoing>) {
        if self.end.is_some() {
            return;
        }
        hand.append(&mut self.queue);
        std::mem::swap(&mut self.queue, &mut hand);
        self.spare = hand;
    }
}

/// One system call's worth of the frames in `hand`.
fn write_some(socket: &OwnedWriteHalf, hand: &mut VecDeque<Outgoing>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES * BATCH_FRAMES_MAX];
    let mut used = 0;
    for slice in hand
        .iter()
        .take(BATCH_FRAMES_MAX)
        .flat_map(Outgoing::slices)
    {
        if !slice.is_empty() {
            slices[used] = slice;
            used += 1;
        }
    }
    let written = match socket.try_write_vectored(&slices[..used]) {
        Err(error) if error.kind() == ErrorKind::Interrupted => 0,
        written => written?,
    };
    let mut rest = written;
    while let Some(first) = hand.front_mut() {
        let now = rest.min(first.remaining());
        first.advance(now);
        rest -= now;
        if first.remaining() > 0 {
            break;
        }
        hand.pop_front();
    }
    Ok(written)
}
