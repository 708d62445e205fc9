//! Admission: one decision for a job, on a cluster of whatever kind. It is placed, servers are started
//! for it, it waits for others to end, or it never fits.

use pocket_proto::{Failure, Status};

use crate::{
    Allocation, Demand, Growth, Market, Needs, Share, Startable, StorageSpace, Wanted, allocate,
    allocation::{UNHINTED_PART, least, less_rate, no_room, promised_rate, sum},
    elastic::{Class, grow},
    plan::server_limit,
    sentence::at_most,
};

/// What becomes of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// There is room: this is what it gets.
    Placed(Allocation),
    /// Start so many of each [`Startable`] of the market, and ask again when they are there: it will
    /// fit, unless others take the room.
    Start(Vec<u32>),
    /// It would fit if others ended, or once there are servers; why not now.
    Wait(Failure),
    /// It would not fit if it were alone; why.
    Never(Failure),
}

/// Decides about job `name`. Without a market the servers are all there will be, and the job is spread
/// over them ([`allocate`]). With one the job gets what it needs and no more: gaps are filled
/// before servers are started ([`grow`]), and what is only expected or guessed is lowered to what can
/// be had. Capacity is a promise there and throughput as well, as long as the cluster can ever give
/// it; a job that asks for more of it than that is told so, and gets less.
pub fn place(
    name: &str,
    demand: &Demand,
    servers: &[StorageSpace],
    market: Option<Market<'_>>,
) -> Placement {
    match market {
        Some(market) => Elastic::new(name, demand, servers, market).place(),
        None => match allocate(name, demand.clone(), servers) {
            Ok(allocation) => Placement::Placed(allocation),
            Err(failure) => {
                // Servers may yet join where there are none.
                let alone = allocate(name, demand.clone(), &emptied(servers));
                match servers.is_empty() || alone.is_ok() {
                    true => Placement::Wait(failure),
                    false => Placement::Never(failure),
                }
            }
        },
    }
}

/// The same servers with nothing on them.
fn emptied(servers: &[StorageSpace]) -> Vec<StorageSpace> {
    let empty = |space: &StorageSpace| StorageSpace {
        reserved_bytes: 0,
        used_bytes: 0,
        reserved_bytes_per_second: 0,
        ..*space
    };
    servers.iter().map(empty).collect()
}

struct Elastic<'a> {
    name: &'a str,
    demand: &'a Demand,
    servers: &'a [StorageSpace],
    market: Market<'a>,
    /// What the job itself may have started.
    startable: Vec<Startable>,
}

impl<'a> Elastic<'a> {
    fn new(
        name: &'a str,
        demand: &'a Demand,
        servers: &'a [StorageSpace],
        market: Market<'a>,
    ) -> Self {
        let nodes = &market.catalogue.nodes;
        let tier = |kind: &Startable| nodes.get(kind.node).map(|node| node.tier);
        let tiers: Vec<_> = market.startable.iter().filter_map(tier).collect();
        let limited = |kind: &Startable| {
            let most = tier(kind).map_or(0, |tier| {
                server_limit(demand, tier, kind.bytes_per_second, &tiers)
            });
            // Those that are there for it already count, such as the ones started for it.
            let class = Class::Node(kind.node);
            let free = servers
                .iter()
                .filter(|space| space.is_free() && Class::of(space, market.catalogue) == class);
            let free = u32::try_from(free.count()).unwrap_or(u32::MAX);
            Startable {
                count: kind.count.min(most.saturating_sub(free)),
                ..*kind
            }
        };
        Elastic {
            name,
            demand,
            servers,
            market,
            startable: market.startable.iter().map(limited).collect(),
        }
    }

    fn place(&self) -> Placement {
        let mut needs = self.wanted();
        loop {
            if let Some(found) = self.try_now(needs) {
                return found;
            }
            match self.lower(needs) {
                Some(less) => needs = less,
                None => break,
            }
        }
        let failure = self.no_room(needs);
        if self.servers.is_empty() && self.startable_bytes() == 0 {
            return Placement::Wait(failure);
        }
        let alone = emptied(self.servers);
        let asked = needs.bytes_per_second;
        while let Growth::Full { .. } = self.grow(needs, &alone) {
            if needs.bytes_per_second == 0 {
                return Placement::Never(failure);
            }
            // More throughput than the cluster can ever give.
            let task = self.market.catalogue.defaults.task_bytes_per_second;
            needs.bytes_per_second = match needs.bytes_per_second / 2 {
                too_little if too_little < task => 0,
                half => half,
            };
        }
        match self.try_now(needs) {
            Some(found) if needs.bytes_per_second < asked => found,
            _ => Placement::Wait(failure),
        }
    }

    fn grow(&self, needs: Needs, servers: &[StorageSpace]) -> Growth {
        let market = Market {
            startable: &self.startable,
            ..self.market
        };
        grow(needs, self.demand, servers, market)
    }

    fn try_now(&self, needs: Needs) -> Option<Placement> {
        match self.grow(needs, self.servers) {
            Growth::Placed(shares) => Some(Placement::Placed(self.allocation(needs, shares))),
            Growth::Start(counts) => Some(Placement::Start(counts)),
            Growth::Full { .. } => None,
        }
    }

    /// All the job could do with; of what is guessed it leaves half to others.
    fn wanted(&self) -> Needs {
        let needs = self.demand.needs_with_headroom(self.market);
        let part = |wanted: Wanted, amount: u64, there_is: u64| match wanted {
            Wanted::Exactly(_) => amount,
            Wanted::Expected(_) => amount.min(there_is),
            Wanted::UpTo(_) => amount.min(there_is / UNHINTED_PART),
        };
        let free = sum(self.servers, StorageSpace::unpromised_bytes);
        let bytes = free.saturating_add(self.startable_bytes());
        let total = sum(self.servers, |space| space.capacity_bytes);
        let floor = least(
            self.demand.capacity_bytes,
            total.saturating_add(self.startable_bytes()),
        );
        let capacity = part(self.demand.capacity_bytes, needs.capacity_bytes, bytes);
        Needs {
            // A job of nothing would fit anywhere, and be nowhere.
            capacity_bytes: capacity.max(floor).max(1),
            bytes_per_second: match self.rate_there_is() {
                Some(rate) => part(self.demand.bytes_per_second, needs.bytes_per_second, rate),
                None => needs.bytes_per_second,
            },
        }
    }

    /// Less of what is only expected or guessed; `None` if that would be too little.
    fn lower(&self, needs: Needs) -> Option<Needs> {
        let total = sum(self.servers, |space| space.capacity_bytes);
        let total = total.saturating_add(self.startable_bytes());
        let task = self.market.catalogue.defaults.task_bytes_per_second;
        let (capacity, rate) = (self.demand.capacity_bytes, self.demand.bytes_per_second);
        let half = |amount: u64, floor: u64| (amount / 2).max(floor.min(amount));
        let less = Needs {
            capacity_bytes: match capacity {
                Wanted::Exactly(bytes) => bytes,
                wanted => half(needs.capacity_bytes, least(wanted, total)),
            },
            bytes_per_second: match rate {
                Wanted::Exactly(rate) => rate,
                _ => half(needs.bytes_per_second, task),
            },
        };
        (less != needs).then_some(less)
    }

    fn allocation(&self, needs: Needs, shares: Vec<Share>) -> Allocation {
        let demand = self.demand;
        let bytes_per_second = promised_rate(needs.bytes_per_second, &shares);
        let mut reasons = demand.reasons.clone();
        let wanted = demand.capacity_bytes.amount();
        let given = at_most(needs.capacity_bytes);
        if needs.capacity_bytes < wanted {
            reasons.push(format!(
                "capacity {given}: what the cluster has, or can start, now"
            ));
        } else if needs.capacity_bytes > wanted {
            reasons.push(format!(
                "capacity {given}: the servers that its throughput takes hold that much anyway"
            ));
        }
        let wanted = demand.bytes_per_second;
        let less = less_rate(self.name, wanted, bytes_per_second, self.servers);
        reasons.extend(less.clone());
        let notice = match wanted {
            Wanted::Exactly(_) => less.unwrap_or_default(),
            Wanted::Expected(_) | Wanted::UpTo(_) => String::new(),
        };
        Allocation {
            capacity_bytes: needs.capacity_bytes,
            bytes_per_second,
            shares,
            reasons,
            notice,
        }
    }

    fn no_room(&self, needs: Needs) -> Failure {
        let free = sum(self.servers, StorageSpace::unpromised_bytes);
        let startable = self.startable_bytes();
        let wanted = self.demand.capacity_bytes;
        match self.rate_there_is() {
            Some(rate) if needs.capacity_bytes <= free.saturating_add(startable) => {
                let message = format!(
                    "job '{}' asks for {} and {} but the cluster has {} and {} together left to \
                     promise: end a job (pocket jobs lists them), or add storage servers",
                    self.name,
                    at_most(needs.capacity_bytes),
                    crate::rate_text(needs.bytes_per_second),
                    at_most(free.saturating_add(startable)),
                    crate::rate_text(rate),
                );
                Failure::new(Status::NoSpace, message)
            }
            _ => no_room(self.name, wanted, free, self.servers, startable),
        }
    }

    fn startable_bytes(&self) -> u64 {
        let each = |kind: &Startable, count: u64| kind.capacity_bytes.saturating_mul(count);
        self.startable_sum(each)
    }

    /// Throughput that is not promised, that of servers to be started included; `None` where some do
    /// not say what they move.
    fn rate_there_is(&self) -> Option<u64> {
        let unknown = self.servers.iter().any(|space| space.bytes_per_second == 0)
            || self
                .startable
                .iter()
                .any(|kind| kind.count > 0 && kind.bytes_per_second == 0);
        let free = sum(self.servers, StorageSpace::unpromised_bytes_per_second);
        let each = |kind: &Startable, count: u64| kind.bytes_per_second.saturating_mul(count);
        (!unknown).then(|| free.saturating_add(self.startable_sum(each)))
    }

    /// Over the servers that can be started, in the table's order.
    fn startable_sum(&self, of: impl Fn(&Startable, u64) -> u64) -> u64 {
        let mut left = self.market.startable_in_all;
        let sums = self.startable.iter().map(|kind| {
            let count = kind.count.min(left);
            left -= count;
            of(kind, count.into())
        });
        sums.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests;
