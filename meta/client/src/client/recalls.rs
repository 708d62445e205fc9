//! Recalls on their way from connections to the handler: numbered over the life of the client,
//! one at a time, and none from a connection that was given up.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::session::Recall;
use pocket_proto::{Failure, Operation};
use pocket_wire::PushHandler;
use prost::Message;
use tracing::{debug, warn};

use crate::{RecallHandler, SessionInfo};

/// Where the recalls of all of a client's connections meet.
pub(super) struct Recalls {
    handler: Arc<dyn RecallHandler>,
    gate: Mutex<Gate>,
}

struct Gate {
    /// The connection whose recalls are let through.
    generation: u64,
    /// Number of the last recall.
    stamp: u64,
}

/// The recalls of one connection.
pub(super) struct ConnectionRecalls {
    recalls: Arc<Recalls>,
    generation: u64,
    /// Number of the last recall before this connection's first.
    pub(super) first_stamp: u64,
}

impl Recalls {
    pub(super) fn new(handler: Arc<dyn RecallHandler>) -> Self {
        Recalls {
            handler,
            gate: Mutex::new(Gate {
                generation: 0,
                stamp: 0,
            }),
        }
    }

    /// Shuts the gate to all connections so far and opens it to the next.
    pub(super) fn next_connection(self: &Arc<Self>) -> ConnectionRecalls {
        let mut gate = self.gate.lock();
        gate.generation += 1;
        ConnectionRecalls {
            recalls: Arc::clone(self),
            generation: gate.generation,
            first_stamp: gate.stamp,
        }
    }

    pub(super) fn session_lost(&self, reason: Failure) {
        self.handler.session_lost(reason);
    }

    pub(super) fn session_renewed(&self, info: SessionInfo) {
        self.handler.session_renewed(info);
    }
}

impl PushHandler for ConnectionRecalls {
    fn push(&self, operation: Operation, body: Bytes) {
        let mut gate = self.recalls.gate.lock();
        if gate.generation != self.generation {
            debug!("recall on a connection that was given up");
            return;
        }
        // Whatever was pushed counts, so that both sides' numbers agree.
        gate.stamp += 1;
        if operation != Operation::Recall {
            warn!(?operation, "metadata server pushed what is no recall");
            return;
        }
        match Recall::decode(body) {
            Ok(recall) => self.recalls.handler.recall(recall, gate.stamp),
            Err(error) => warn!(%error, "metadata server pushed a recall that cannot be read"),
        }
    }
}
