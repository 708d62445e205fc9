//! What servers hold free for a job, and what that rests on. A metadata server keeps it with the job,
//! so that a new controller goes on with it.

use pocket_policy::{Allocation, Demand, Needs, Tier, Wanted};
use pocket_proto::control::{self, CreateJobRequest, Hints, reservation};

/// The reservation of a job. How much a job may hold is another matter: see
/// [`Reservation::capacity_bytes_max`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// What is to be held free. Less is while there is not so much.
    pub(crate) needs: Needs,
    /// The most that the job may hold if nobody else was promised what it takes beyond `needs`.
    pub(crate) capacity_bytes_max: u64,
    /// How far the reservation may grow.
    pub(crate) growth_bytes_max: u64,
    /// The same, as far as the cluster went when the job was created: writes wait for it.
    pub(crate) awaited_bytes_max: u64,
    /// The capacity that was demanded.
    pub(crate) capacity: Wanted,
    /// The throughput that was demanded.
    pub(crate) throughput: Wanted,
    /// Tiers to fill, in this order.
    pub(crate) tiers: [Tier; 4],
}

impl Reservation {
    /// Of a job that is created; it may hold `capacity_bytes_max` if there is room, and comes to hold no
    /// more than its user said.
    pub(crate) fn new(
        demand: &Demand,
        hints: &Hints,
        allocation: &Allocation,
        capacity_bytes_max: u64,
    ) -> Self {
        let needs = Needs {
            capacity_bytes: allocation.capacity_bytes,
            bytes_per_second: allocation.bytes_per_second,
        };
        Reservation::of(demand, hints, needs, capacity_bytes_max)
    }

    fn of(demand: &Demand, hints: &Hints, needs: Needs, capacity_bytes_max: u64) -> Self {
        let growth_bytes_max = hints.capacity_bytes_max.or(demand.capacity_max());
        Reservation {
            needs,
            capacity_bytes_max: capacity_bytes_max.max(needs.capacity_bytes),
            growth_bytes_max: growth_bytes_max.unwrap_or(u64::MAX),
            awaited_bytes_max: 0,
            capacity: demand.capacity_bytes,
            throughput: demand.bytes_per_second,
            tiers: demand.tiers,
        }
    }

    /// As a metadata server has it; `demand` is what the job's hints say, for one that was created
    /// without.
    pub(crate) fn read(job: &CreateJobRequest, demand: &Demand) -> Self {
        let promised = Needs {
            capacity_bytes: job.capacity_bytes,
            bytes_per_second: job.bandwidth_bytes_per_second,
        };
        let hints = job.hints.unwrap_or_default();
        let Some(kept) = &job.reservation else {
            return Reservation::of(demand, &hints, promised, job.capacity_bytes);
        };
        let needs = Needs {
            capacity_bytes: kept.capacity_bytes,
            bytes_per_second: kept.bytes_per_second,
        };
        let read = Reservation::of(demand, &hints, needs, kept.capacity_bytes_max);
        Reservation {
            awaited_bytes_max: kept.awaited_bytes_max,
            capacity: figure(kept.capacity).unwrap_or(read.capacity),
            throughput: figure(kept.throughput).unwrap_or(read.throughput),
            tiers: tiers(&kept.tiers).unwrap_or(read.tiers),
            ..read
        }
    }

    /// What the job demanded, as far as it is kept.
    pub(crate) fn demand(&self) -> Demand {
        Demand {
            capacity_bytes: self.capacity,
            bytes_per_second: self.throughput,
            // Whoever does not care has DRAM last.
            latency_sensitive: self.tiers[0] == Tier::Dram,
            tiers: self.tiers,
            reasons: Vec::new(),
        }
    }

    /// Writes wait for the reservation to grow as far as a cluster of so many bytes lets it.
    pub(crate) fn wait_for(&mut self, there_can_be: u64) {
        self.awaited_bytes_max = self.growth_bytes_max.min(there_can_be);
    }

    /// For the metadata server.
    pub(crate) fn write(&self) -> control::Reservation {
        control::Reservation {
            capacity_bytes: self.needs.capacity_bytes,
            bytes_per_second: self.needs.bytes_per_second,
            capacity_bytes_max: self.capacity_bytes_max,
            awaited_bytes_max: self.awaited_bytes_max,
            capacity: Some(written(self.capacity)),
            throughput: Some(written(self.throughput)),
            tiers: self
                .tiers
                .iter()
                .map(|tier| tier.name().to_owned())
                .collect(),
            ..control::Reservation::default()
        }
    }

    /// The throughput that the user asked for. The job may move more while nobody needs it, but is
    /// promised no more, and pays for no more.
    pub(crate) fn hinted_bytes_per_second(&self) -> Option<u64> {
        match self.throughput {
            Wanted::Exactly(rate) => Some(rate),
            Wanted::Expected(_) | Wanted::UpTo(_) => None,
        }
    }

    /// What the job may hold where so much is free: what is reserved for it and what nobody was
    /// promised.
    pub(crate) fn quota_bytes(&self, free_bytes: u64) -> u64 {
        let there_is = self.needs.capacity_bytes.saturating_add(free_bytes);
        there_is.min(self.capacity_bytes_max)
    }
}

fn figure(figure: Option<reservation::Figure>) -> Option<Wanted> {
    let figure = figure?;
    match figure.source() {
        reservation::Source::Hinted => Some(Wanted::Exactly(figure.amount)),
        reservation::Source::Expected => Some(Wanted::Expected(figure.amount)),
        reservation::Source::Guessed => Some(Wanted::UpTo(figure.amount)),
        reservation::Source::Unspecified => None,
    }
}

fn written(wanted: Wanted) -> reservation::Figure {
    let source = match wanted {
        Wanted::Exactly(_) => reservation::Source::Hinted,
        Wanted::Expected(_) => reservation::Source::Expected,
        Wanted::UpTo(_) => reservation::Source::Guessed,
    };
    reservation::Figure {
        amount: wanted.amount(),
        source: source.into(),
    }
}

/// `None` unless each is named once.
fn tiers(names: &[String]) -> Option<[Tier; 4]> {
    let tiers: Vec<Tier> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let all: [Tier; 4] = tiers.try_into().ok()?;
    let named = |tier: &Tier| all.contains(tier);
    Tier::FASTEST_FIRST.iter().all(named).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_not() {
        let reservation = Reservation {
            needs: Needs {
                capacity_bytes: 3,
                bytes_per_second: 4,
            },
            capacity_bytes_max: 5,
            growth_bytes_max: u64::MAX,
            awaited_bytes_max: 8,
            capacity: Wanted::Expected(6),
            throughput: Wanted::Exactly(7),
            tiers: [Tier::Nvme, Tier::Hdd, Tier::Ssd, Tier::Dram],
        };
        let hints = control::Hints::default();
        let demand = pocket_policy::demand(&hints, &pocket_policy::Catalogue::default(), None);
        let mut job = CreateJobRequest {
            reservation: Some(reservation.write()),
            ..CreateJobRequest::default()
        };
        assert_eq!(Reservation::read(&job, &demand), reservation);
        let kept = job.reservation.as_mut().expect("has one");
        kept.tiers[1] = "nvme".to_owned();
        kept.capacity = None;
        let read = Reservation::read(&job, &demand);
        assert_eq!(read.tiers, demand.tiers);
        assert_eq!(read.capacity, demand.capacity_bytes);
        assert_eq!(read.throughput, Wanted::Exactly(7));
    }
}
