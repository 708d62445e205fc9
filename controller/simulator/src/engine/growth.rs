//! Running jobs: given more on the servers there are and on new ones, or giving back.

use pocket_policy::{Growth, Needs, Revision, Share, extend};

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
        let found = self.with_servers_started(|engine, startable| {
            let (servers, market) = (engine.fleet.servers(), engine.market(startable));
            match extend(given, wanted, &demand, servers, market) {
                Some((more, Growth::Placed(shares))) => Found::Room((more, shares)),
                Some((_, Growth::Start(counts))) => Found::Start(counts),
                Some((_, Growth::Full { .. })) | None => Found::Nothing,
            }
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
