//! The simulated storage servers: starting, holding promises, going.

use pocket_policy::{Catalogue, Cost, Price, Share, StorageSpace};
use pocket_proto::ServerId;

/// Every server that is paid for.
#[derive(Debug)]
pub(crate) struct Fleet {
    catalogue: Catalogue,
    servers: Vec<StorageSpace>,
    ready_at_ms: Vec<u64>,
    since: Vec<Since>,
    /// Where the server of every id is that there ever was; ids count from 1.
    index: Vec<Option<usize>>,
    settled_ms: u64,
    /// What all of them have cost.
    pub(crate) cost: Cost,
    /// Servers of each type that went, and have not been missed yet.
    went: Vec<Vec<Gone>>,
    /// Of each type, since the last [`Fleet::count_flaps`].
    started_now: Vec<u32>,
    pub(crate) started: u64,
    /// Servers started within a minute of another of their type having gone.
    pub(crate) regretted: u64,
    /// Servers started and removed, or removed and started, within a minute without a cause.
    pub(crate) flaps: u64,
    pub(crate) most: usize,
}

/// How a server began.
#[derive(Clone, Copy, Debug)]
struct Since {
    at_ms: u64,
    /// Servers that the promises of its type took at least when it was started, in thousandths.
    load: u64,
    /// Whether anything was ever promised of it.
    used: bool,
}

/// A server that was removed.
#[derive(Clone, Copy, Debug)]
struct Gone {
    at_ms: u64,
    /// Servers that the promises of its type took at least, in thousandths.
    load: u64,
}

/// A server that is started so soon after another went would better have been kept.
const REGRET_MS: u64 = 60_000;

impl Fleet {
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        Fleet {
            catalogue: catalogue.clone(),
            servers: Vec::new(),
            ready_at_ms: Vec::new(),
            since: Vec::new(),
            index: vec![None],
            settled_ms: 0,
            cost: Cost::default(),
            went: vec![Vec::new(); catalogue.nodes.len()],
            started_now: vec![0; catalogue.nodes.len()],
            started: 0,
            regretted: 0,
            flaps: 0,
            most: 0,
        }
    }

    pub(crate) fn servers(&self) -> &[StorageSpace] {
        &self.servers
    }

    pub(crate) fn at(&self, server: ServerId) -> Option<usize> {
        *self.index.get(server.0 as usize)?
    }

    /// The node type of a server.
    pub(crate) fn node(&self, at: usize) -> usize {
        // Every server of a simulation is started as one of the table's.
        self.servers[at].node.unwrap_or(0)
    }

    pub(crate) fn is_ready(&self, at: usize, now_ms: u64) -> bool {
        self.ready_at_ms[at] <= now_ms
    }

    pub(crate) fn count(&self, node: usize) -> u32 {
        let of_type = self
            .servers
            .iter()
            .filter(|server| server.node == Some(node));
        of_type.count() as u32
    }

    pub(crate) fn start(&mut self, node: usize, count: u32, now_ms: u64, start_ms: u64) {
        let load = match count {
            0 => 0,
            _ => self.load(node),
        };
        for _ in 0..count {
            let id = ServerId(self.index.len() as u64);
            self.index.push(Some(self.servers.len()));
            self.servers
                .push(StorageSpace::empty(id, node, &self.catalogue));
            self.ready_at_ms.push(now_ms + start_ms);
            self.since.push(Since {
                at_ms: now_ms,
                load,
                used: false,
            });
            self.started += 1;
            self.started_now[node] += 1;
        }
        self.most = self.most.max(self.servers.len());
    }

    /// Removes so many servers of a type on which nothing is promised.
    pub(crate) fn remove_free(&mut self, node: usize, count: u32, now_ms: u64) {
        let mut left = count;
        let load = self.load(node);
        let mut at = self.servers.len();
        while at > 0 && left > 0 {
            at -= 1;
            if self.node(at) == node && self.servers[at].is_free() && self.is_ready(at, now_ms) {
                let gone = self.servers.swap_remove(at);
                self.ready_at_ms.swap_remove(at);
                let since = self.since.swap_remove(at);
                // Nothing ended that it could have been for.
                let in_vain = !since.used && since.load <= load;
                let soon = now_ms.saturating_sub(since.at_ms) < REGRET_MS;
                self.flaps += u64::from(in_vain && soon);
                self.index[gone.server.0 as usize] = None;
                if let Some(moved) = self.servers.get(at) {
                    self.index[moved.server.0 as usize] = Some(at);
                }
                self.went[node].push(Gone {
                    at_ms: now_ms,
                    load,
                });
                left -= 1;
            }
        }
    }

    /// Servers that the promises of a type take at least, in thousandths.
    fn load(&self, node: usize) -> u64 {
        let of_type = self
            .servers
            .iter()
            .filter(|server| server.node == Some(node));
        let (mut bytes, mut rate) = (0u128, 0u128);
        for server in of_type {
            bytes += u128::from(server.reserved_bytes);
            rate += u128::from(server.reserved_bytes_per_second);
        }
        let kind = &self.catalogue.nodes[node];
        let bytes = bytes * 1_000 / u128::from(kind.capacity_bytes);
        bytes.max(rate * 1_000 / u128::from(kind.bytes_per_second)) as u64
    }

    /// To be called when all that happens at a time has happened. A server that was started, by whomever,
    /// so soon after one of its type went is regretted; and it is a flap if no more is promised than
    /// when the other went, which would have done.
    pub(crate) fn count_flaps(&mut self, now_ms: u64) {
        for node in 0..self.started_now.len() {
            let started = std::mem::take(&mut self.started_now[node]);
            if started == 0 {
                continue;
            }
            let load = self.load(node);
            for _ in 0..started {
                let Some(gone) = self.went[node].pop() else {
                    break;
                };
                if now_ms.saturating_sub(gone.at_ms) < REGRET_MS {
                    self.regretted += 1;
                    self.flaps += u64::from(load <= gone.load);
                }
            }
        }
    }

    pub(crate) fn promise(&mut self, shares: &[Share]) {
        for share in shares {
            if let Some(at) = self.at(share.server) {
                let server = &mut self.servers[at];
                server.reserved_bytes += share.bytes;
                server.reserved_bytes_per_second += share.bytes_per_second;
                self.since[at].used = true;
            }
        }
    }

    pub(crate) fn give_back(&mut self, shares: &[Share]) {
        for share in shares {
            if let Some(at) = self.at(share.server) {
                let server = &mut self.servers[at];
                server.reserved_bytes -= share.bytes;
                server.reserved_bytes_per_second -= share.bytes_per_second;
            }
        }
    }

    /// When the last of these servers is ready.
    pub(crate) fn ready_ms(&self, shares: &[Share]) -> u64 {
        let ready = shares
            .iter()
            .filter_map(|share| Some(self.ready_at_ms[self.at(share.server)?]));
        ready.max().unwrap_or(0)
    }

    /// What these shares cost their job.
    pub(crate) fn share_price(&self, shares: &[Share]) -> Price {
        let price = |share: &Share| {
            let node = &self.catalogue.nodes[self.node(self.at(share.server)?)];
            Some(self.catalogue.share_price(node, share.needs()))
        };
        shares.iter().filter_map(price).sum()
    }

    /// What the servers cost now.
    pub(crate) fn price(&self) -> Price {
        let nodes = (0..self.servers.len()).map(|at| self.node(at));
        nodes.map(|node| self.catalogue.nodes[node].price).sum()
    }

    /// Pays for the time since the last call.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        self.cost += self.price().over_ms(now_ms - self.settled_ms);
        self.settled_ms = now_ms;
    }
}
