//! Servers for all who wait, not for the first alone: where they would go if what they need were
//! started, one after another, on servers that are not there yet.

use pocket_proto::ServerId;

use crate::{
    Demand, Growth, Market, Needs, Placement, Share, Startable, StorageSpace, extend, place,
};

/// A cluster as it would be. Nothing of it is promised to anyone: who waits asks again when the
/// servers are there.
#[derive(Clone, Debug)]
pub struct Provision<'a> {
    market: Market<'a>,
    /// Servers that are there, and those to be started behind them.
    spaces: Vec<StorageSpace>,
    /// What is left to be started.
    startable: Vec<Startable>,
    /// What is to be started of each kind.
    counts: Vec<u32>,
}

impl<'a> Provision<'a> {
    /// Nothing is to be started yet.
    pub fn new(spaces: Vec<StorageSpace>, market: Market<'a>) -> Self {
        Provision {
            market,
            spaces,
            startable: market.startable.to_vec(),
            counts: vec![0; market.startable.len()],
        }
    }

    /// Provides for a job that waits to be registered; says whether it then finds room.
    pub fn admit(&mut self, name: &str, demand: &Demand) -> bool {
        self.provide(
            |spaces, market| match place(name, demand, spaces, Some(market)) {
                Placement::Placed(allocation) => Some(Growth::Placed(allocation.shares)),
                Placement::Start(counts) => Some(Growth::Start(counts)),
                Placement::Wait(_) | Placement::Never(_) => None,
            },
        )
    }

    /// Provides for a running job that wants more than it was given; says whether it then finds any.
    pub fn extend(&mut self, given: Needs, wanted: Needs, demand: &Demand) -> bool {
        self.provide(|spaces, market| {
            extend(given, wanted, demand, spaces, market).map(|(_, growth)| growth)
        })
    }

    /// How many to start of each kind of the market.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Who is told to start servers finds room when they are there.
    fn provide(&mut self, ask: impl Fn(&[StorageSpace], Market<'_>) -> Option<Growth>) -> bool {
        for _ in 0..2 {
            let market = Market {
                startable: &self.startable,
                ..self.market
            };
            match ask(&self.spaces, market) {
                Some(Growth::Placed(shares)) => {
                    self.promise(&shares);
                    return true;
                }
                Some(Growth::Start(counts)) => self.start(&counts),
                Some(Growth::Full { .. }) | None => return false,
            }
        }
        false
    }

    fn start(&mut self, counts: &[u32]) {
        for (at, count) in counts.iter().enumerate() {
            let kind = &mut self.startable[at];
            kind.count = kind.count.saturating_sub(*count);
            self.counts[at] += count;
            let in_all = &mut self.market.startable_in_all;
            *in_all = in_all.saturating_sub(*count);
            let Some(node) = self.market.catalogue.nodes.get(kind.node) else {
                continue;
            };
            for _ in 0..*count {
                self.spaces.push(StorageSpace {
                    // None that is there has such a number, as they are drawn at random.
                    server: ServerId(u64::MAX - self.spaces.len() as u64),
                    tier: node.tier,
                    node: Some(kind.node),
                    capacity_bytes: kind.capacity_bytes,
                    reserved_bytes: 0,
                    used_bytes: 0,
                    bytes_per_second: kind.bytes_per_second,
                    reserved_bytes_per_second: 0,
                });
            }
        }
    }

    fn promise(&mut self, shares: &[Share]) {
        for share in shares {
            let mut spaces = self.spaces.iter_mut();
            if let Some(space) = spaces.find(|space| space.server == share.server) {
                space.reserved_bytes += share.bytes;
                space.reserved_bytes_per_second += share.bytes_per_second;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, Tier, Wanted};

    const GIB: u64 = 1 << 30;

    fn wants(bytes: u64) -> Demand {
        Demand {
            capacity_bytes: Wanted::Exactly(bytes),
            bytes_per_second: Wanted::UpTo(0),
            latency_sensitive: true,
            tiers: Tier::FASTEST_FIRST,
            reasons: Vec::new(),
        }
    }

    fn with<T>(count: u32, reserved_bytes: u64, act: impl FnOnce(Provision<'_>) -> T) -> T {
        let space = StorageSpace {
            server: ServerId(1),
            tier: Tier::Dram,
            node: None,
            capacity_bytes: 8 * GIB,
            reserved_bytes,
            used_bytes: 0,
            bytes_per_second: 0,
            reserved_bytes_per_second: 0,
        };
        let startable = [Startable {
            node: 0,
            capacity_bytes: 8 * GIB,
            bytes_per_second: 0,
            count,
        }];
        let catalogue = Catalogue::default();
        let market = Market {
            catalogue: &catalogue,
            startable: &startable,
            startable_in_all: count,
        };
        act(Provision::new(vec![space], market))
    }

    #[test]
    fn all_who_wait_are_provided_for_at_once_and_share_what_is_started() {
        with(9, 6 * GIB, |mut provision| {
            assert!(provision.admit("gap", &wants(2 * GIB)));
            assert_eq!(provision.counts(), [0]);
            assert!(provision.admit("a", &wants(5 * GIB)));
            assert!(provision.admit("b", &wants(3 * GIB)));
            assert_eq!(provision.counts(), [1], "both on one");
            assert!(provision.admit("c", &wants(9 * GIB)));
            assert_eq!(provision.counts(), [3]);
        });
    }

    #[test]
    fn throughput_is_shared_as_room_is() {
        with(9, 0, |mut provision| {
            provision.spaces[0].bytes_per_second = 100;
            provision.startable[0].bytes_per_second = 100;
            let demand = Demand {
                bytes_per_second: Wanted::Exactly(60),
                ..wants(GIB)
            };
            assert!(provision.admit("a", &demand));
            assert_eq!(provision.counts(), [0]);
            assert!(provision.admit("b", &demand));
            assert_eq!(provision.counts(), [1], "there are 40 left for it");
        });
    }

    #[test]
    fn no_more_is_started_than_there_may_be() {
        with(1, 0, |mut provision| {
            assert!(!provision.admit("giant", &wants(17 * GIB)));
            assert_eq!(
                provision.counts(),
                [0],
                "nothing for who finds no room all the same"
            );
            assert!(provision.admit("large", &wants(16 * GIB)));
            assert!(!provision.admit("small", &wants(1)));
            assert_eq!(provision.counts(), [1]);
        });
    }

    #[test]
    fn a_running_job_is_provided_for_what_it_lacks() {
        let needs = |capacity_bytes| Needs {
            capacity_bytes,
            bytes_per_second: 0,
        };
        with(9, 8 * GIB, |mut provision| {
            let demand = wants(GIB);
            assert!(provision.extend(needs(8 * GIB), needs(9 * GIB), &demand));
            assert_eq!(provision.counts(), [1]);
            let most = needs(10 * GIB);
            assert!(
                !provision.extend(most, needs(11 * GIB), &demand),
                "no more than tenfold"
            );
            assert_eq!(provision.counts(), [1]);
        });
    }
}
