//! The connections to one life of one storage server.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::{
    Failure, JobId, Operation, PROTOCOL_VERSION, Status,
    session::{Hello, StorageServer, Welcome},
};
use pocket_wire::{Connection, Payload, ReplyFrame};
use tokio::time::Instant;
use tracing::debug;

use crate::StorageClientOptions;

/// Connections to a server, opened when first needed and again when they have ended.
pub(crate) struct Link {
    server: StorageServer,
    slots: Vec<Slot>,
    next: AtomicUsize,
    trouble: Mutex<Option<Trouble>>,
}

struct Slot {
    connection: Mutex<Option<Connection>>,
    /// Held while a connection is being opened, so that one attempt serves all who wait.
    opening: tokio::sync::Mutex<()>,
    /// Tells the server which connections take each other's place; nobody else knows it.
    line: u64,
    /// Connections so far, or attempts at one.
    turn: AtomicU64,
}

/// Why the server is not tried.
struct Trouble {
    failure: Failure,
    /// None: for ever, another life of the server has answered.
    until: Option<Instant>,
}

impl Link {
    pub(crate) fn new(server: StorageServer, connections: usize) -> Self {
        Link {
            server,
            slots: (0..connections.max(1)).map(|_| Slot::new()).collect(),
            next: AtomicUsize::new(0),
            trouble: Mutex::new(None),
        }
    }

    /// Makes a request; once more if the connection turned out to have ended. [`Status::Lost`] if
    /// the server lives another life.
    ///
    /// What was asked on a connection that has ended is done before anything that is asked later, or
    /// never: so a repeated write or truncate is harmless, only its change of allocated bytes may then
    /// be understated.
    pub(crate) async fn call(
        &self,
        greeting: &Greeting,
        operation: Operation,
        job: JobId,
        head: &[u8],
        data: Payload,
    ) -> Result<ReplyFrame, Failure> {
        let options = &greeting.options;
        let start = Instant::now();
        let until = start + options.request_deadline;
        let slot = &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        let mut repeated = false;
        loop {
            for ended in self.slots.iter().filter(|slot| slot.has_ended()) {
                self.connect(ended, greeting, until).await?;
            }
            let connection = match slot.open_connection() {
                Some(connection) => connection,
                None => self.connect(slot, greeting, until).await?,
            };
            let left = until.saturating_duration_since(Instant::now());
            let outcome = connection
                .call(operation, job, head, data.clone(), left)
                .await;
            match outcome {
                Err(failure) if failure.status == Status::Unavailable => {
                    // A server that let this request wait so long will not do better now.
                    if start.elapsed() >= options.silence_max {
                        self.note_trouble(&failure, options.retry_after);
                    } else if connection.is_closed() && !repeated {
                        debug!(server = %self.server.endpoint, %failure, "request repeated");
                        repeated = true;
                        continue;
                    }
                    return Err(failure);
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether some connection is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.open_connection().is_some())
    }

    async fn connect(
        &self,
        slot: &Slot,
        greeting: &Greeting,
        until: Instant,
    ) -> Result<Connection, Failure> {
        self.check_trouble()?;
        let opening = tokio::time::timeout_at(until, slot.opening.lock()).await;
        let _opening = opening.map_err(|_| {
            let what = format!("{} does not answer", self.server.endpoint);
            Failure::new(Status::Unavailable, what)
        })?;
        // While this call waited another may have opened it, or failed to.
        if let Some(connection) = slot.open_connection() {
            return Ok(connection);
        }
        self.check_trouble()?;
        let left = until.saturating_duration_since(Instant::now());
        let deadline = left.min(greeting.options.connect_deadline);
        let endpoint = &self.server.endpoint;
        let hello = greeting.hello(slot);
        let connected = Connection::connect(endpoint, hello, None, deadline).await;
        match connected {
            Ok((connection, welcome)) => {
                self.check_identity(&welcome, greeting.options.retry_after)?;
                connection.limit_silence(greeting.options.silence_max);
                *self.trouble.lock() = None;
                *slot.connection.lock() = Some(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                self.note_trouble(&failure, greeting.options.retry_after);
                Err(failure)
            }
        }
    }

    fn check_identity(&self, welcome: &Welcome, retry_after: Duration) -> Result<(), Failure> {
        if (welcome.server, welcome.incarnation) == (self.server.server, self.server.incarnation) {
            return Ok(());
        }
        let endpoint = &self.server.endpoint;
        let same_server = welcome.server == self.server.server;
        let what = if same_server {
            format!("storage server {endpoint} was started anew, its former blocks are gone")
        } else {
            format!("storage server {endpoint} has made room for another one")
        };
        let failure = Failure::new(Status::Lost, what);
        *self.trouble.lock() = Some(Trouble {
            failure: failure.clone(),
            until: (!same_server).then(|| Instant::now() + retry_after),
        });
        Err(failure)
    }

    fn check_trouble(&self) -> Result<(), Failure> {
        match &*self.trouble.lock() {
            Some(Trouble { failure, until })
                if until.is_none_or(|until| Instant::now() < until) =>
            {
                Err(failure.clone())
            }
            _ => Ok(()),
        }
    }

    fn note_trouble(&self, failure: &Failure, retry_after: Duration) {
        *self.trouble.lock() = Some(Trouble {
            failure: failure.clone(),
            until: Some(Instant::now() + retry_after),
        });
    }
}

impl Slot {
    fn new() -> Self {
        Slot {
            connection: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            line: rand::random::<u64>().max(1),
            turn: AtomicU64::new(0),
        }
    }

    /// Whether its connection has ended, and the server may yet find requests on it.
    fn has_ended(&self) -> bool {
        self.connection
            .lock()
            .as_ref()
            .is_some_and(Connection::is_closed)
    }

    fn open_connection(&self) -> Option<Connection> {
        let connection = self.connection.lock();
        connection.as_ref().filter(|c| !c.is_closed()).cloned()
    }
}

/// How a client introduces itself, and its settings.
pub(crate) struct Greeting {
    pub(crate) credential: Bytes,
    pub(crate) options: StorageClientOptions,
}

impl Greeting {
    fn hello(&self, slot: &Slot) -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            credential: self.credential.clone(),
            host: self.options.host.clone(),
            line: slot.line,
            turn: slot.turn.fetch_add(1, Ordering::Relaxed) + 1,
            ..Hello::default()
        }
    }
}
