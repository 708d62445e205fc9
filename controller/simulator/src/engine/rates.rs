//! How fast each job goes in a second: what it asks of its servers, and what they give.

use std::collections::HashMap;

use pocket_policy::{Claim, fair_rates};

use crate::{Trace, fleet::Fleet, job::DONE, running::Running};

/// The speed of every running job, in parts of [`DONE`]. Jobs within their allocation have what they
/// ask for; those above it share what the others leave on each of their servers.
pub(super) fn speeds(running: &[Running], trace: &Trace, fleet: &Fleet, now_ms: u64) -> Vec<u64> {
    let wanted: Vec<u64> = running
        .iter()
        .map(|job| match job.starts_ms <= now_ms {
            true => job.wanted(&trace.jobs[job.job]).bytes_per_second,
            false => 0,
        })
        .collect();
    let over = |at: usize| wanted[at] > running[at].given.bytes_per_second;
    let granted = granted(running, &wanted, &over, fleet);
    running
        .iter()
        .enumerate()
        .map(|(at, job)| {
            let truth = &trace.jobs[job.job];
            if job.wanted(truth).capacity_bytes > job.given.capacity_bytes {
                // Nothing more can be written until there is room.
                return 0;
            }
            let rate = granted.get(&at).copied().unwrap_or(wanted[at]);
            let speed = match wanted[at] {
                0 => DONE,
                wanted => (u128::from(DONE) * u128::from(rate) / u128::from(wanted)) as u64,
            };
            // The part of its time in which tasks wait for data is longer by the latency.
            let peak = truth.peak.bytes_per_second.max(1);
            let waits =
                (u128::from(job.penalty) * u128::from(wanted[at]) / u128::from(peak)) as u64;
            (u128::from(speed) * u128::from(DONE) / u128::from(DONE + waits)) as u64
        })
        .collect()
}

/// Bytes per second for the jobs that ask for more than they were given.
fn granted(
    running: &[Running],
    wanted: &[u64],
    over: &impl Fn(usize) -> bool,
    fleet: &Fleet,
) -> HashMap<usize, u64> {
    let mut claims: HashMap<usize, Vec<(usize, Claim)>> = HashMap::new();
    for at in (0..running.len()).filter(|&at| over(at)) {
        for (server, claim) in claims_of(&running[at], wanted[at], fleet) {
            claims.entry(server).or_default().push((at, claim));
        }
    }
    if claims.is_empty() {
        return HashMap::new();
    }
    // What the others use of these servers.
    let mut used: HashMap<usize, u64> = HashMap::new();
    for at in (0..running.len()).filter(|&at| !over(at)) {
        for (server, claim) in claims_of(&running[at], wanted[at], fleet) {
            if claims.contains_key(&server) {
                *used.entry(server).or_default() += claim.wanted;
            }
        }
    }
    let mut granted: HashMap<usize, u64> = HashMap::new();
    for (server, claims) in claims {
        let all = fleet.servers()[server].bytes_per_second;
        let left = all.saturating_sub(used.get(&server).copied().unwrap_or(0));
        let only: Vec<Claim> = claims.iter().map(|(_, claim)| *claim).collect();
        for ((at, claim), rate) in claims.iter().zip(fair_rates(left, &only)) {
            // Files are striped: the slowest server sets the pace.
            let pace = u128::from(wanted[*at]) * u128::from(rate) / u128::from(claim.wanted.max(1));
            let slowest = granted.entry(*at).or_insert(u64::MAX);
            *slowest = (*slowest).min(pace as u64);
        }
    }
    granted
}

/// What a job asks of each of its servers: by the weights of its map, which follow the bytes.
fn claims_of(job: &Running, wanted: u64, fleet: &Fleet) -> Vec<(usize, Claim)> {
    let all: u128 = job.shares.iter().map(|share| u128::from(share.bytes)).sum();
    let claims = job.shares.iter().filter_map(|share| {
        let part = u128::from(wanted) * u128::from(share.bytes) / all.max(1);
        let claim = Claim {
            wanted: part as u64,
            allocated: share.bytes_per_second,
        };
        Some((fleet.at(share.server)?, claim))
    });
    claims.filter(|(_, claim)| claim.wanted > 0).collect()
}
