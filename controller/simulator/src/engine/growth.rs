//! Running jobs: given more on the servers there are and on new ones, or giving back.

use pocket_policy::{Growth, Needs, Revision, Share, WHOLE, grow};

use super::{Engine, Found};
use crate::job::latency_penalty;

impl Engine<'_> {
    /// Use is compared with what was given.
    pub(super) fn revise(&mut self) {
        for at in 0..self.running.len() {
            let now_ms = self.now_ms;
            if self.running[at].starts_ms > now_ms {
                continue;
            }
            self.take_what_came(at);
            let job = &self.trace.jobs[self.running[at].job];
            match self.running[at].look(job, now_ms) {
                None => {}
                Some(Revision::GiveBack(kept)) => {
                    let back = self.running[at].shrink(kept);
                    self.fleet.give_back(&back);
                    let price = self.fleet.share_price(&self.running[at].shares);
                    self.running[at].set_price(price, now_ms);
                    self.tally.given_back += 1;
                }
                Some(Revision::Grow(wanted)) => self.grow_job(at, wanted),
            }
        }
    }

    fn take_what_came(&mut self, at: usize) {
        let running = &mut self.running[at];
        match running.coming.take() {
            Some((ready_ms, given, shares)) if ready_ms <= self.now_ms => {
                running.given = given;
                running.shares.extend(shares);
                self.settle_job(at);
            }
            coming => running.coming = coming,
        }
    }

    fn grow_job(&mut self, at: usize, wanted: Needs) {
        let running = &self.running[at];
        let given = running.given;
        let demand = running.demand.clone();
        let most = demand.capacity_max().unwrap_or(u64::MAX);
        let wanted = Needs {
            capacity_bytes: wanted.capacity_bytes.min(most),
            ..wanted
        };
        if wanted.capacity_bytes <= given.capacity_bytes
            && wanted.bytes_per_second <= given.bytes_per_second
        {
            return;
        }
        // Where there is no room for more in the shape of the job, at least what it lacks; and where
        // there is no throughput either, at least the bytes, or its writes would fail.
        let in_shape = more_in_shape(given, wanted);
        let lacks = |wanted: u64, given: u64| wanted.saturating_sub(given);
        let lacking = Needs {
            capacity_bytes: lacks(wanted.capacity_bytes, given.capacity_bytes).max(1),
            bytes_per_second: lacks(wanted.bytes_per_second, given.bytes_per_second),
        };
        let bytes = Needs {
            bytes_per_second: 0,
            ..lacking
        };
        let in_shape = Needs {
            capacity_bytes: lacks(most, given.capacity_bytes)
                .min(in_shape.capacity_bytes)
                .max(1),
            ..in_shape
        };
        let found = [in_shape, lacking, bytes].into_iter().find_map(|more| {
            let room = self.with_servers_started(|engine, startable| {
                match grow(
                    more,
                    &demand,
                    engine.fleet.servers(),
                    engine.market(startable),
                ) {
                    Growth::Placed(shares) => Found::Room(shares),
                    Growth::Start(counts) => Found::Start(counts),
                    Growth::Full { .. } => Found::Nothing,
                }
            });
            room.map(|shares| (more, shares))
        });
        let Some((more, shares)) = found else { return };
        let nodes = |shares: &[Share]| -> Vec<usize> {
            let at = shares
                .iter()
                .filter_map(|share| self.fleet.at(share.server));
            at.map(|at| self.fleet.node(at)).collect()
        };
        let known = nodes(&self.running[at].shares);
        let spills = nodes(&shares).iter().any(|node| !known.contains(node));
        self.tally.grown += 1;
        self.tally.spilled += u64::from(spills);
        let given = Needs {
            capacity_bytes: given.capacity_bytes + more.capacity_bytes,
            bytes_per_second: given.bytes_per_second + more.bytes_per_second,
        };
        let ready_ms = self.fleet.ready_ms(&shares);
        self.fleet.promise(&shares);
        self.running[at].coming = Some((ready_ms, given, shares));
        self.take_what_came(at);
    }

    /// Price and latency of a job whose shares changed.
    pub(super) fn settle_job(&mut self, at: usize) {
        let running = &self.running[at];
        let job = &self.trace.jobs[running.job];
        let price = self.fleet.share_price(&running.shares);
        let all: u128 = running
            .shares
            .iter()
            .map(|share| u128::from(share.bytes))
            .sum();
        let mut penalty = 0u128;
        for share in &running.shares {
            if let Some(server) = self.fleet.at(share.server) {
                let node = &self.scenario.catalogue.nodes[self.fleet.node(server)];
                let here = latency_penalty(job, node.tier, &self.scenario.catalogue);
                penalty += u128::from(here) * u128::from(share.bytes);
            }
        }
        let running = &mut self.running[at];
        running.penalty = (penalty / all.max(1)) as u64;
        running.set_price(price, self.now_ms);
    }
}

/// What to add so that both figures are at least as wanted, in the proportion of what was given:
/// throughput follows the data, so a server that takes a tenth of them takes a tenth of it.
fn more_in_shape(given: Needs, wanted: Needs) -> Needs {
    let parts = |given: u64, wanted: u64| {
        (u128::from(wanted.saturating_sub(given)) * u128::from(WHOLE))
            .div_ceil(u128::from(given.max(1)))
    };
    let parts = parts(given.capacity_bytes, wanted.capacity_bytes)
        .max(parts(given.bytes_per_second, wanted.bytes_per_second));
    let part = |amount: u64| {
        let exact = u128::from(amount)
            .saturating_mul(parts)
            .div_ceil(u128::from(WHOLE));
        u64::try_from(exact).unwrap_or(u64::MAX)
    };
    Needs {
        capacity_bytes: part(given.capacity_bytes).max(1),
        bytes_per_second: part(given.bytes_per_second),
    }
}
