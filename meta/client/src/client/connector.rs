//! The task that keeps the session: sends signs of life, and connects again when it must.

use std::sync::Arc;
use std::time::Duration;

use pocket_proto::session::{Hello, KeepAlive, Reply, request};
use pocket_proto::{Failure, PROTOCOL_VERSION, SessionId, Status};
use pocket_wire::Connection;
use prost::Message;
use tokio::time::{Instant, interval_at, sleep};
use tracing::{debug, info, warn};

use super::link::{Line, Wanted};
use super::recalls::Recalls;
use super::{CALL_DEADLINE, Shared, Target, requests};
use crate::SessionInfo;

/// A server that takes longer to greet is tried again.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after the first failed attempt; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A server that is away for less (it restarts) is worth no warning.
const AWAY_WARN_AFTER: Duration = Duration::from_secs(1);
/// Signs of life within a lease: two may be lost.
const SIGNS_PER_LEASE: u32 = 3;

/// Opens a line: resumes `session`, or opens a new one.
pub(super) async fn open(
    target: &Target,
    recalls: &Arc<Recalls>,
    session: Option<SessionId>,
) -> Result<(Line, SessionInfo), Failure> {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        credential: target.credential.clone(),
        host: target.host.clone(),
        session: session.map_or(0, |session| session.0),
        ..Hello::default()
    };
    let pushes = recalls.next_connection();
    let asked = Instant::now();
    let first_stamp = pushes.first_stamp;
    let (connection, welcome) = Connection::connect(
        &target.endpoint,
        hello,
        Some(Arc::new(pushes)),
        CONNECT_DEADLINE,
    )
    .await?;
    let info = SessionInfo::new(target.job, welcome.session)?;
    let line = Line {
        connection,
        session: info.session,
        first_stamp,
        generation: 0,
        asked,
    };
    Ok((line, info))
}

/// See the module's header.
pub(super) struct Connector {
    shared: Arc<Shared>,
}

impl Connector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Connector { shared }
    }

    /// Runs until the client is dropped or closed, or the job is gone.
    pub(super) async fn run(self) {
        let stop = self.shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_session() => {}
        }
        let left = Failure::new(Status::SessionEnded, "the session was left");
        self.shared.link.end_for_good(left);
    }

    async fn keep_session(&self) {
        let link = &self.shared.link;
        loop {
            if let Some(line) = link.line() {
                self.keep_line(&line).await;
            }
            let connected = match link.wanted() {
                Wanted::Nothing => continue,
                Wanted::Resume(session) => self.connect(Some(session)).await,
                Wanted::Renew(reason) => {
                    self.shared.recalls.session_lost(reason);
                    self.connect(None).await
                }
            };
            if let Err(failure) = connected {
                info!(%failure, "the session is over");
                link.end_for_good(failure.clone());
                self.shared.recalls.session_lost(failure);
                return;
            }
        }
    }

    /// Keeps a line alive until it is given up.
    async fn keep_line(&self, line: &Line) {
        let link = &self.shared.link;
        let period = link.info().lease / SIGNS_PER_LEASE;
        let mut signs = interval_at(Instant::now() + period, period);
        loop {
            tokio::select! {
                () = line.connection.closed() => link.drop_line(line),
                () = link.work.notified() => {
                    if link.line().is_some_and(|now| now.generation == line.generation) {
                        self.sign_of_life(line).await;
                    }
                }
                _ = signs.tick() => self.sign_of_life(line).await,
            }
            if link
                .line()
                .is_none_or(|now| now.generation != line.generation)
            {
                return;
            }
        }
    }

    /// Tells the server that the mount lives, and learns that it does.
    async fn sign_of_life(&self, line: &Line) {
        let link = &self.shared.link;
        let told = link.told();
        let body = requests::encode(request::Operation::KeepAlive(KeepAlive {}), 0);
        let asked = Instant::now();
        // By then the mount does not count on its session any more ([`Link::in_touch_for`]).
        let deadline = link.info().lease.min(CALL_DEADLINE);
        match line.call(self.shared.target.job, body, deadline).await {
            Ok(frame) => {
                link.confirm(line, told, asked);
                if let Ok(reply) = Reply::decode(frame.body) {
                    link.note_epoch(reply.newest_epoch);
                }
            }
            Err(failure) if failure.status == Status::SessionEnded => {
                link.lose_session(line.session, failure)
            }
            Err(failure) => {
                debug!(%failure, "no answer to a sign of life");
                line.connection.close();
                link.drop_line(line);
            }
        }
    }

    /// Connects, resuming `session` if the server still has it. Tries for ever while the server
    /// is away; fails if the job is gone.
    async fn connect(&self, mut session: Option<SessionId>) -> Result<(), Failure> {
        let shared = &self.shared;
        let mut pause = PAUSE_MIN;
        let mut away_told = false;
        loop {
            match open(&shared.target, &shared.recalls, session).await {
                Ok((line, info)) => {
                    if session.is_none() {
                        shared.recalls.session_renewed(info.clone());
                    }
                    shared.link.install(shared.target.job, line, info);
                    return Ok(());
                }
                Err(failure) => match (failure.status, session) {
                    (Status::JobGone, _) => return Err(failure),
                    (Status::SessionEnded, Some(ended)) => {
                        shared.link.lose_session(ended, failure.clone());
                        shared.recalls.session_lost(failure);
                        session = None;
                        continue;
                    }
                    _ => {
                        let away = shared.link.away_for().unwrap_or_default();
                        if away > AWAY_WARN_AFTER && !away_told {
                            away_told = true;
                            warn!(%failure, "metadata server is away, trying on");
                        }
                        shared.link.note_trouble(failure);
                    }
                },
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
