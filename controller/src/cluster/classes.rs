//! Classes of storage servers: which of them a job's data go to, and what there is of each.

use std::time::Instant;

use pocket_policy::{self as policy, StorageSpace};
use pocket_proto::{ServerId, control::StorageClass, session::WeightMap};

use super::{Cluster, jobs::Job, pool::Offer, upkeep::named_by};

impl Cluster {
    /// The living storage servers of a class as policy sees them.
    pub(super) fn spaces_of(&self, class: StorageClass) -> Vec<StorageSpace> {
        let staying = self.servers.staying_storage();
        self.as_spaces(staying.filter(|server| server.class() == class))
    }

    /// Whether a server that is known is of this class.
    fn is_of(&self, server: ServerId, class: StorageClass) -> bool {
        let server = self.servers.get(server);
        server.is_some_and(|server| server.class() == class)
    }

    /// Whether any long-running server takes data.
    pub(super) fn has_long_running(&self) -> bool {
        let mut staying = self.servers.staying_storage();
        staying.any(|server| server.class() == StorageClass::LongRunning)
    }

    /// Where a job that is not there yet goes.
    pub(super) fn class_of_newcomer(&self, persist: bool) -> StorageClass {
        if !persist {
            return StorageClass::Regular;
        }
        policy::class_of(true, None, &self.spaces_of(StorageClass::LongRunning))
    }

    /// Where a running job's new data go, by its map. `None` for one that persists as long as its map
    /// names servers that are not known, or of both classes: it is about to get another one.
    pub(super) fn class_now(&self, job: &Job) -> Option<StorageClass> {
        if !job.spec.persist {
            return Some(StorageClass::Regular);
        }
        let map = job.spec.weight_map.as_ref()?;
        let classes = [StorageClass::Regular, StorageClass::LongRunning];
        classes
            .into_iter()
            .find(|class| self.is_within(map, *class))
    }

    /// Where they ought to go with the servers there are.
    pub(super) fn class_wanted(&self, job: &Job) -> StorageClass {
        if !job.spec.persist {
            return StorageClass::Regular;
        }
        let map = job.spec.weight_map.as_ref();
        let moves = match map.is_some_and(|map| self.names_long_running(map)) {
            true => None,
            false => Some(job.reservation.needs.capacity_bytes),
        };
        policy::class_of(true, moves, &self.spaces_of(StorageClass::LongRunning))
    }

    /// Whether a map names servers of this class alone.
    pub(super) fn is_within(&self, map: &WeightMap, class: StorageClass) -> bool {
        named_by(map).all(|named| self.is_of(ServerId(named.server), class))
    }

    fn names_long_running(&self, map: &WeightMap) -> bool {
        named_by(map).any(|named| self.is_of(ServerId(named.server), StorageClass::LongRunning))
    }

    /// Whoever waits to register a job that persists does so for servers of the class that there are now.
    pub(super) fn sort_queue(&mut self) {
        let persistent = self.waiting_to_persist();
        if persistent.is_empty() {
            return;
        }
        let class = self.class_of_newcomer(true);
        for ticket in persistent {
            self.queue.wait_for(ticket, class);
        }
    }

    /// What can be started for jobs on servers of this class. Long-running ones come and go by hand.
    pub(super) fn offer_of(&self, class: StorageClass, now: Instant) -> Option<Offer> {
        match class {
            StorageClass::Regular => self.offer(now),
            StorageClass::LongRunning => None,
        }
    }
}
