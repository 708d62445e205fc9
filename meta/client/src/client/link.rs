//! The client's end of the session at a moment: the line in use, and what was told on it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::session::request;
use pocket_proto::{Failure, JobId, Operation, SessionId, Status};
use pocket_wire::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::requests;
use crate::SessionInfo;

/// One-way messages kept until the server is known to have them: what could as well be asked.
const TOLD_AHEAD_MAX: usize = 8192;
/// Their bytes: they are sent again at once on the next connection.
const TOLD_AHEAD_BYTES_MAX: usize = 4 << 20;
/// All of them: closes and acknowledgements must not be lost, and are bounded by what was opened
/// and recalled.
const TOLD_MAX: usize = 2 << 20;
/// From here on a call is made just to learn what has arrived.
const TOLD_MANY: usize = 1024;

/// A connection in use for a session.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) session: SessionId,
    /// Number of the last recall before the connection's first.
    pub(super) first_stamp: u64,
    /// Tells lines apart; grows.
    pub(super) generation: u64,
    /// When the greeting that the server answered was sent.
    pub(super) asked: Instant,
}

impl Line {
    /// Sends what is kept until it is confirmed. A connection that does not take it is given up:
    /// nothing may be sent behind what is missing, and the next connection gets it all.
    fn send(&self, job: JobId, body: Bytes, when: When) {
        let connection = &self.connection;
        let sent = match when {
            When::Now => connection.send(Operation::Metadata, job, &[], body),
            When::Soon => connection.send_soon(Operation::Metadata, job, &[], body),
        };
        if sent.is_err() {
            self.connection.close();
        }
    }
}

/// When a message goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Now,
    /// With the next message, or the next flush.
    Soon,
}

/// What the connector is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: the line is open.
    Nothing,
    /// Resume the session on another connection.
    Resume(SessionId),
    /// Open another session: the server has ended this one, for this reason.
    Renew(Failure),
}

/// The state, its lock, and those who wait for it to change.
pub(super) struct Link {
    state: Mutex<State>,
    /// Counts changes that waiting calls care for.
    changes: watch::Sender<u64>,
    /// Wakes the connector.
    pub(super) work: Notify,
}

struct State {
    line: Option<Line>,
    generation: u64,
    /// Why the server has ended the session that `info` speaks of.
    lost: Option<Failure>,
    over: Option<Failure>,
    info: SessionInfo,
    away_since: Option<Instant>,
    /// When the last request that the server answered was sent.
    heard: Instant,
    newest_epoch: u32,
    /// Why the last attempt to connect failed.
    trouble: Option<Failure>,
    told: VecDeque<Bytes>,
    told_bytes: usize,
    /// Messages told since the start; the queue holds the last of them.
    told_total: u64,
}

impl Link {
    pub(super) fn new(mut line: Line, info: SessionInfo) -> Self {
        line.generation = 1;
        Link {
            state: Mutex::new(State {
                heard: line.asked,
                newest_epoch: info.weight_map.epoch,
                line: Some(line),
                generation: 1,
                lost: None,
                over: None,
                info,
                away_since: None,
                trouble: None,
                told: VecDeque::new(),
                told_bytes: 0,
                told_total: 0,
            }),
            changes: watch::Sender::new(0),
            work: Notify::new(),
        }
    }

    pub(super) fn info(&self) -> SessionInfo {
        self.state.lock().info.clone()
    }

    pub(super) fn session(&self) -> SessionId {
        self.state.lock().info.session
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The line in use, open or not.
    pub(super) fn line(&self) -> Option<Line> {
        self.state.lock().line.clone()
    }

    /// The line in use; `None` while there is none. Fails once there will never be one again.
    pub(super) fn open_line(&self) -> Result<Option<Line>, Failure> {
        let state = self.state.lock();
        match &state.over {
            Some(failure) => Err(failure.clone()),
            None => Ok(state.line.clone()),
        }
    }

    /// Since when the server has been away, if it is: it is silent, and cannot be reached anew.
    pub(super) fn away_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        state.trouble.is_some().then_some(state.heard)
    }

    /// How long there has been no line.
    pub(super) fn away_for(&self) -> Option<Duration> {
        Some(self.state.lock().away_since?.elapsed())
    }

    /// Sends a message one-way, now or soon, or as soon as there is a line.
    pub(super) fn tell(
        &self,
        job: JobId,
        operation: request::Operation,
        when: When,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock();
        // It would be said in another session, of what that does not have.
        if let Some(failure) = state.over.as_ref().or(state.lost.as_ref()) {
            return Err(failure.clone());
        }
        let (messages_max, bytes_max) = match requests::is_ahead(&operation) {
            true => (TOLD_AHEAD_MAX, TOLD_AHEAD_BYTES_MAX),
            false => (TOLD_MAX, usize::MAX),
        };
        if state.told.len() >= messages_max || state.told_bytes >= bytes_max {
            let waiting = state.told.len();
            let what = format!("{waiting} messages wait for the metadata server");
            return Err(Failure::new(Status::Unavailable, what));
        }
        state.told_total += 1;
        let body = requests::encode_told(operation, state.told_total);
        state.told_bytes += body.len();
        state.told.push_back(body.clone());
        if state.told.len().is_multiple_of(TOLD_MANY) {
            self.work.notify_one();
        }
        if let Some(line) = &state.line {
            line.send(job, body, when);
        }
        Ok(())
    }

    /// How many messages have been told so far.
    pub(super) fn told(&self) -> u64 {
        self.state.lock().told_total
    }

    /// The server answered on `line` what was sent at `asked` behind the first `told` messages: it
    /// has them.
    pub(super) fn confirm(&self, line: &Line, told: u64, asked: Instant) {
        let mut state = self.state.lock();
        if state.generation == line.generation {
            state.confirm(told);
            state.heard = state.heard.max(asked);
        }
    }

    /// For how long the server keeps the session from now on; nothing if it is lost.
    pub(super) fn in_touch_for(&self) -> Duration {
        let state = self.state.lock();
        if state.lost.is_some() || state.over.is_some() {
            return Duration::ZERO;
        }
        // The server counts from when it heard; a tenth is for clocks that differ.
        (state.info.lease * 9 / 10).saturating_sub(state.heard.elapsed())
    }

    /// The server has spoken of a weight map.
    pub(super) fn note_epoch(&self, epoch: u32) {
        let mut state = self.state.lock();
        state.newest_epoch = state.newest_epoch.max(epoch);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state.lock().told.is_empty()
    }

    pub(super) fn newest_epoch(&self) -> u32 {
        self.state.lock().newest_epoch
    }

    /// Gives up a line whose connection has ended.
    pub(super) fn drop_line(&self, line: &Line) {
        let mut state = self.state.lock();
        if state.generation == line.generation && state.line.take().is_some() {
            state.away_since = Some(Instant::now());
            self.work.notify_one();
        }
    }

    /// Gives up a session that the server has ended, and the line with it.
    pub(super) fn lose_session(&self, session: SessionId, reason: Failure) {
        let mut state = self.state.lock();
        if state.info.session == session && state.lost.is_none() {
            state.lost = Some(reason);
            state.line = None;
            state.away_since.get_or_insert_with(Instant::now);
            self.work.notify_one();
        }
    }

    /// Notes why the server cannot be reached.
    pub(super) fn note_trouble(&self, failure: Failure) {
        self.state.lock().trouble = Some(failure);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What to say to a call that waited for the server in vain.
    pub(super) fn away(&self) -> Failure {
        let state = self.state.lock();
        let away = state.heard.elapsed();
        let mut message = format!("metadata server silent for {:.1} s", away.as_secs_f64());
        if let Some(trouble) = &state.trouble {
            message.push_str(&format!(": {}", trouble.message));
        }
        Failure::new(Status::Unavailable, message)
    }

    /// What the connector is to do next.
    pub(super) fn wanted(&self) -> Wanted {
        let state = self.state.lock();
        match (&state.line, &state.lost) {
            (Some(_), _) => Wanted::Nothing,
            (None, Some(reason)) => Wanted::Renew(reason.clone()),
            (None, None) => Wanted::Resume(state.info.session),
        }
    }

    /// Puts a new line to use; on a resumed session, tells first what may not have arrived. What
    /// did arrive is not done again: the server knows the messages by their numbers.
    pub(super) fn install(&self, job: JobId, mut line: Line, info: SessionInfo) {
        let mut state = self.state.lock();
        if state.over.is_some() {
            return;
        }
        if state.lost.is_some() {
            // It went with the session that it was of.
            state.told.clear();
            state.told_bytes = 0;
        }
        for body in &state.told {
            line.send(job, body.clone(), When::Now);
        }
        state.generation += 1;
        line.generation = state.generation;
        state.heard = line.asked;
        state.newest_epoch = info.weight_map.epoch;
        state.line = Some(line);
        state.info = info;
        state.lost = None;
        state.away_since = None;
        state.trouble = None;
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// There will be no line any more; every call fails with `failure`.
    pub(super) fn end_for_good(&self, failure: Failure) {
        let mut state = self.state.lock();
        state.line = None;
        state.over.get_or_insert(failure);
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl State {
    fn confirm(&mut self, told: u64) {
        let kept = self.told_total.saturating_sub(told);
        while self.told.len() as u64 > kept {
            let body = self.told.pop_front();
            self.told_bytes -= body.map_or(0, |body| body.len());
        }
    }
}
