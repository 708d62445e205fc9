//! The servers that registered, and which of them live.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pocket_proto::{
    ByteCount, Failure, Incarnation, PROTOCOL_VERSION, ServerId, Status,
    control::{RegisterServerRequest, ServerRole, StorageClass, Usage},
    session::StorageServer,
};
use tracing::{info, warn};

use pocket_policy::Tier;

use super::leaving::Leaving;

/// More than any cluster has; bounds what a broken peer can make us remember.
const SERVERS_MAX: usize = 100_000;
/// A metadata server that failed gets no new job for so long while others answer.
const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// A storage server that holds so much of its capacity takes no new data while others have room ...
const FULL_PERCENT: u64 = 95;
/// ... until it holds no more than this: far enough below that it does not turn back at once.
const NO_LONGER_FULL_PERCENT: u64 = 80;
/// No server holds 2^53 bytes (8 PiB) or moves 10 Tb/s: sums over servers would lose their meaning.
const CAPACITY_BYTES_MAX: u64 = 1 << 53;
const BYTES_PER_SECOND_MAX: u64 = 1_250_000_000_000;
/// Longest endpoint: a DNS name (253) and a port.
const ENDPOINT_BYTES_MAX: usize = 300;

/// What a server does, with what only such servers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Namespaces; the controller commands it at `control_endpoint`.
    Metadata { control_endpoint: String },
    /// Blocks.
    Storage {
        tier: Tier,
        capacity_bytes: u64,
        bytes_per_second: u64,
        class: StorageClass,
    },
}

/// A server as it registered, and how it is.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) role: Role,
    pub(crate) endpoint: String,
    pub(crate) usage: Usage,
    pub(crate) last_heard: Instant,
    /// A storage server that holds nearly all it can.
    pub(crate) full: bool,
    pub(crate) alive: bool,
    /// When it last failed to answer a command: for a while others are preferred.
    pub(crate) failed_at: Option<Instant>,
    /// Another server registered at its endpoint: if it stays silent it is gone for good.
    pub(crate) replaced_by: Option<ServerId>,
    /// It takes no new blocks and will go.
    pub(crate) leaving: Option<Leaving>,
}

impl Server {
    /// Reads a registration; refuses what cannot be served.
    pub(crate) fn read(request: &RegisterServerRequest, now: Instant) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::new(Status::Invalid, message);
        if request.protocol_version != PROTOCOL_VERSION {
            return Err(Failure::new(
                Status::VersionMismatch,
                format!(
                    "this controller speaks protocol version {PROTOCOL_VERSION}, the server {}: \
                     install the same release of pocket on both",
                    request.protocol_version
                ),
            ));
        }
        if request.server == 0 || request.incarnation == 0 {
            return Err(invalid("a server's id and incarnation are never 0".into()));
        }
        check_endpoint("endpoint", &request.endpoint)?;
        let role = match request.role() {
            ServerRole::Metadata => {
                check_endpoint("control endpoint", &request.control_endpoint)?;
                Role::Metadata {
                    control_endpoint: request.control_endpoint.clone(),
                }
            }
            ServerRole::Storage if request.capacity_bytes == 0 => {
                return Err(invalid(
                    "a storage server has a capacity above 0: give it one".into(),
                ));
            }
            ServerRole::Storage if request.capacity_bytes > CAPACITY_BYTES_MAX => {
                return Err(invalid(format!(
                    "a storage server of {} bytes is not believed: its capacity is at most {}",
                    request.capacity_bytes,
                    ByteCount(CAPACITY_BYTES_MAX)
                )));
            }
            ServerRole::Storage if request.bandwidth_bytes_per_second > BYTES_PER_SECOND_MAX => {
                return Err(invalid(format!(
                    "a storage server that moves {} bytes a second is not believed: its bandwidth is \
                     at most 10Tb/s, or 0 where it is not known",
                    request.bandwidth_bytes_per_second
                )));
            }
            ServerRole::Storage => Role::Storage {
                tier: request.tier.parse().map_err(invalid)?,
                capacity_bytes: request.capacity_bytes,
                bytes_per_second: request.bandwidth_bytes_per_second,
                class: request.storage_class(),
            },
            ServerRole::Unspecified => {
                return Err(invalid(format!("unknown server role {}", request.role)));
            }
        };
        Ok(Server {
            id: ServerId(request.server),
            incarnation: Incarnation(request.incarnation),
            role,
            endpoint: request.endpoint.clone(),
            usage: Usage::default(),
            last_heard: now,
            full: false,
            alive: true,
            failed_at: None,
            replaced_by: None,
            leaving: request
                .leave
                .as_ref()
                .and_then(|leave| Leaving::read(leave, now)),
        })
    }

    /// How mounts and metadata servers see it; the tier of a metadata server is empty.
    pub(crate) fn to_storage_server(&self) -> StorageServer {
        StorageServer {
            server: self.id.0,
            incarnation: self.incarnation.0,
            endpoint: self.endpoint.clone(),
            tier: match self.role {
                Role::Storage { tier, .. } => tier.to_string(),
                Role::Metadata { .. } => String::new(),
            },
        }
    }

    fn role_name(&self) -> &'static str {
        match self.role {
            Role::Metadata { .. } => "metadata",
            Role::Storage { .. } => "storage",
        }
    }

    /// The endpoint for commands; storage servers take none.
    pub(crate) fn control_endpoint(&self) -> Option<&str> {
        match &self.role {
            Role::Metadata { control_endpoint } => Some(control_endpoint),
            Role::Storage { .. } => None,
        }
    }

    pub(crate) fn is_storage(&self) -> bool {
        matches!(self.role, Role::Storage { .. })
    }

    /// What it is there for; a metadata server is as any other.
    pub(crate) fn class(&self) -> StorageClass {
        match self.role {
            Role::Storage { class, .. } => class,
            Role::Metadata { .. } => StorageClass::Regular,
        }
    }

    /// Whether it failed lately.
    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        self.failed_at.is_some_and(|at| now < at + SUSPECT_FOR)
    }

    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_heard)
    }

    /// Notes whether it is full; says whether that is new.
    fn turns_full_or_empty(&mut self) -> bool {
        let Role::Storage { capacity_bytes, .. } = self.role else {
            return false;
        };
        let limit_percent = match self.full {
            true => NO_LONGER_FULL_PERCENT,
            false => FULL_PERCENT,
        };
        let was = self.full;
        self.full = u128::from(self.usage.used_bytes) * 100
            >= u128::from(capacity_bytes) * u128::from(limit_percent);
        self.full != was
    }

    fn is_same_life(&self, other: &Server) -> bool {
        self.incarnation == other.incarnation
            && self.role == other.role
            && self.endpoint == other.endpoint
    }
}

fn check_endpoint(what: &str, endpoint: &str) -> Result<(), Failure> {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or_default();
    match port.parse() {
        // "Any address" is for listening; from another host it is that host.
        Ok(1u16..)
            if endpoint.len() <= ENDPOINT_BYTES_MAX && !matches!(host, "" | "0.0.0.0" | "[::]") =>
        {
            Ok(())
        }
        _ => Err(Failure::new(
            Status::Invalid,
            format!("a server's {what} is HOST:PORT, not '{endpoint:.80}': set what it advertises"),
        )),
    }
}

/// Servers that died or were forgotten since the last look.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    /// A storage server died.
    pub(crate) storage_died: bool,
    /// Removed from the table.
    pub(crate) forgotten: Vec<Server>,
}

/// Every server that registered and is not forgotten.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    by_id: BTreeMap<ServerId, Server>,
}

impl Servers {
    pub(crate) fn get(&self, id: ServerId) -> Option<&Server> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ServerId) -> Option<&mut Server> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.by_id.values_mut()
    }

    /// It left in order.
    pub(super) fn remove(&mut self, id: ServerId) {
        self.by_id.remove(&id);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Server> {
        self.by_id.values()
    }

    pub(crate) fn alive_storage(&self) -> impl Iterator<Item = &Server> {
        self.all()
            .filter(|server| server.alive && server.is_storage())
    }

    /// Those that take new blocks.
    pub(crate) fn staying_storage(&self) -> impl Iterator<Item = &Server> {
        self.alive_storage()
            .filter(|server| server.leaving.is_none())
    }

    pub(crate) fn all_metadata(&self) -> impl Iterator<Item = &Server> {
        self.all().filter(|server| !server.is_storage())
    }

    pub(crate) fn alive_metadata(&self) -> impl Iterator<Item = &Server> {
        self.all()
            .filter(|server| server.alive && !server.is_storage())
    }

    /// Takes a registration; says whether other storage servers live than before. The former
    /// server at the same endpoint, if any, is replaced.
    pub(crate) fn register(&mut self, server: Server) -> Result<bool, Failure> {
        let old = self.by_id.get(&server.id);
        if old.is_none() && self.by_id.len() >= SERVERS_MAX {
            let message = format!("the controller knows {SERVERS_MAX} servers already");
            return Err(Failure::new(Status::LimitReached, message));
        }
        if old.is_some_and(|old| old.alive && old.is_same_life(&server)) {
            return Ok(
                self.heard(server.id, server.incarnation, None, server.last_heard) == Some(true),
            );
        }
        if old.is_some_and(|old| old.replaced_by.is_some()) {
            warn!(server = %server.id, endpoint = %server.endpoint,
                "two servers advertise this endpoint: give each its own");
        }
        let mut storage_changed = server.is_storage();
        for other in self.by_id.values_mut() {
            if other.endpoint == server.endpoint && other.id != server.id {
                // What it holds cannot be reached any more.
                storage_changed |= other.is_storage();
                other.alive = false;
                other.replaced_by = Some(server.id);
            }
        }
        info!(server = %server.id, endpoint = %server.endpoint, role = server.role_name(), "registered");
        self.by_id.insert(server.id, server);
        Ok(storage_changed)
    }

    /// Takes a sign of life; says whether other storage servers live, or have room, than before. `None` if this
    /// life of the server is not known: it must register.
    pub(crate) fn heard(
        &mut self,
        id: ServerId,
        incarnation: Incarnation,
        usage: Option<Usage>,
        now: Instant,
    ) -> Option<bool> {
        let server = self.by_id.get_mut(&id)?;
        if server.incarnation != incarnation || server.replaced_by.is_some() {
            return None;
        }
        server.last_heard = now;
        server.usage = usage.unwrap_or(server.usage);
        let turned = server.turns_full_or_empty();
        if server.alive {
            return Some(turned);
        }
        server.alive = true;
        info!(server = %id, endpoint = %server.endpoint, "heard from again");
        Some(server.is_storage())
    }

    /// It did not answer a command.
    pub(crate) fn failed(&mut self, id: ServerId, now: Instant) {
        if let Some(server) = self.by_id.get_mut(&id) {
            server.failed_at = Some(now);
        }
    }

    /// The controller itself stood still for so long: nobody is to blame for silence in it.
    pub(crate) fn forgive(&mut self, gap: Duration, now: Instant) {
        for server in self.by_id.values_mut() {
            server.last_heard = (server.last_heard + gap).min(now);
        }
    }

    /// Declares dead whoever was silent for `timeout`, and forgets the dead after `forget_after`
    /// or, if replaced, at once.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        timeout: Duration,
        forget_after: Duration,
    ) -> Expired {
        let mut expired = Expired::default();
        for server in self.by_id.values_mut() {
            let silent = server.silent_for(now);
            if server.alive && silent >= timeout {
                server.alive = false;
                expired.storage_died |= server.is_storage();
                warn!(server = %server.id, endpoint = %server.endpoint, ?silent, role = server.role_name(),
                    "missed its heartbeats: taken for dead");
            }
        }
        let forget = |server: &Server| {
            let silent = server.silent_for(now);
            !server.alive
                && (silent >= forget_after || server.replaced_by.is_some() && silent >= timeout)
        };
        let forgotten: Vec<_> = self
            .by_id
            .values()
            .filter(|s| forget(s))
            .map(|s| s.id)
            .collect();
        for id in forgotten {
            expired.forgotten.extend(self.by_id.remove(&id));
        }
        expired
    }
}
