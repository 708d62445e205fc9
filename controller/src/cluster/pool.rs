//! Whoever starts and ends storage servers: what it says, and what it is told.

use std::time::{Duration, Instant};

use pocket_policy::{Catalogue, Market, Needs, Provision, Startable, StorageSpace, Tier};
use pocket_proto::control::{PoolStatus, StorageClass};
use tracing::warn;

use super::{
    Cluster,
    jobs::Job,
    servers::{Role, Server},
};

/// Who has not been heard of for so long starts no servers any more: it reports every second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Servers that were asked for come within this, or are not waited for: who waits takes what there is.
const SERVERS_COME_WITHIN: Duration = Duration::from_secs(30);
/// So many of those who wait are provided for at a time; the others when these have found room.
const PROVIDED_MAX: usize = 32;

/// What can be started: by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer {
    /// Nothing where the price table does not know the tier.
    startable: Option<Startable>,
}

impl Offer {
    /// As policy sees it.
    pub(super) fn market<'a>(&'a self, catalogue: &'a Catalogue) -> Market<'a> {
        Market {
            catalogue,
            startable: self.startable.as_slice(),
            startable_in_all: self.startable.map_or(0, |kind| kind.count),
        }
    }

    /// For who has waited for servers since then: if they have not come they will not, and the servers
    /// there are may do. `None` while they may come.
    pub(super) fn without_servers(self, since: Option<Instant>, now: Instant) -> Option<Offer> {
        let waited = now.saturating_duration_since(since?);
        (waited >= SERVERS_COME_WITHIN).then(Offer::default)
    }
}

/// What those who wait have servers started for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Registrations, and running jobs that found no room to grow.
    pub(super) waiting: u32,
    /// What they ask for, as far as that is known.
    pub(super) bytes: u64,
    /// Servers beside those that are there.
    pub(super) servers: u32,
}

impl Cluster {
    /// Takes what the scaler says of the pool.
    pub(crate) fn report_pool(&mut self, status: PoolStatus, now: Instant) {
        let before = self.offer(now).map(|offer| offer.startable);
        self.pool = Some((status, now));
        let offer = self.offer(now).map(|offer| offer.startable);
        if offer == Some(None) && before != offer {
            warn!(
                "the price table has no node of the tier whose servers can be started: none are \
                 started for jobs that wait (pocket controller --tiers)"
            );
        }
        self.changed |= offer != before;
    }

    /// What the scaler last said, unless it has fallen silent.
    pub(super) fn pool(&self, now: Instant) -> Option<PoolStatus> {
        let (status, heard) = self.pool.as_ref()?;
        let silent = now.saturating_duration_since(*heard);
        (silent < SILENCE_MAX).then(|| status.clone())
    }

    /// What can be started, or is starting; `None` if nobody starts servers.
    pub(super) fn offer(&self, now: Instant) -> Option<Offer> {
        let pool = self.pool(now)?;
        let only: Option<Tier> = pool.tier.parse().ok();
        let tier = only.unwrap_or(Tier::Dram);
        let counts = |server: &&Server| match server.role {
            Role::Storage { tier, class, .. } => {
                class == StorageClass::Regular && only.is_none_or(|only| tier == only)
            }
            Role::Metadata { .. } => false,
        };
        let there = self.servers.staying_storage().filter(counts).count();
        let there = u32::try_from(there).unwrap_or(u32::MAX);
        let mut nodes = self.catalogue.nodes.iter();
        let node = nodes.position(|node| node.tier == tier);
        Some(Offer {
            startable: node.map(|node| Startable {
                node,
                capacity_bytes: pool.capacity_bytes,
                bytes_per_second: pool.bandwidth_bytes_per_second,
                count: pool.servers_max.saturating_sub(there),
            }),
        })
    }

    /// Bytes that the storage servers of a class hold together, those that can be started included.
    pub(super) fn there_can_be(&self, class: StorageClass, now: Instant) -> u64 {
        let spaces = self.spaces_of(class).into_iter();
        let there = spaces.map(|space| space.capacity_bytes);
        let startable = self.offer_of(class, now).and_then(|offer| offer.startable);
        let startable = startable.map_or(0, |kind| {
            kind.capacity_bytes.saturating_mul(kind.count.into())
        });
        there.fold(startable, u64::saturating_add)
    }

    /// What all who wait for regular servers lack, and running jobs that found no room to grow there.
    pub(super) fn wanted(&self, now: Instant) -> Wanted {
        let regular = |job: &Job| self.class_now(job) == Some(StorageClass::Regular);
        let lacking = self.lacking(now).filter(|(job, _)| regular(job));
        let lacking: Vec<_> = lacking.collect();
        let waiting = lacking.len() + self.waiting_for_regular().count();
        if waiting == 0 {
            return Wanted::default();
        }
        let lacks = lacking.iter().map(|(job, lack)| {
            let wanted = lack.wanted.capacity_bytes;
            wanted.saturating_sub(job.reserved.capacity_bytes)
        });
        let asks = self
            .waiting_for_regular()
            .map(|waiting| waiting.asks_bytes());
        let mut wanted = Wanted {
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            bytes: lacks.chain(asks).fold(0, u64::saturating_add),
            servers: 0,
        };
        let Some(offer) = self.offer(now) else {
            return wanted;
        };
        let spaces = self.spaces_when_ended();
        let mut provision = Provision::new(spaces, offer.market(&self.catalogue));
        for (job, lack) in lacking.into_iter().take(PROVIDED_MAX) {
            provision.extend(job.reserved, lack.wanted, &job.reservation.demand());
        }
        // Whoever has to wait for others to end lets nobody past.
        for waiting in self.waiting_for_regular().take(PROVIDED_MAX) {
            if !provision.admit(&waiting.name, &waiting.demand) {
                break;
            }
        }
        wanted.servers = provision.counts().iter().sum();
        wanted
    }

    /// The regular servers as they will be when the jobs that are ending have ended: room that is just
    /// being made.
    fn spaces_when_ended(&self) -> Vec<StorageSpace> {
        let mut spaces = self.spaces_of(StorageClass::Regular);
        let soon = |server| self.servers.get(server).is_some_and(|server| server.alive);
        let ending = self.jobs.ending().filter(|job| soon(job.metadata_server));
        for share in ending.flat_map(|job| &job.shares) {
            // In the order of their ids.
            if let Ok(at) = spaces.binary_search_by_key(&share.server, |space| space.server) {
                let space = &mut spaces[at];
                let Needs {
                    capacity_bytes,
                    bytes_per_second,
                } = share.needs();
                space.reserved_bytes = space.reserved_bytes.saturating_sub(capacity_bytes);
                let rate = &mut space.reserved_bytes_per_second;
                *rate = rate.saturating_sub(bytes_per_second);
                space.used_bytes = space.used_bytes.min(space.reserved_bytes);
            }
        }
        spaces
    }
}
