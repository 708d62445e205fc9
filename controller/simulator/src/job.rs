//! How a job behaves over its life: what it holds and moves at each point of its work.

use pocket_policy::{Catalogue, Needs, Tier};

use crate::{Shape, TraceJob};

/// Progress is counted in billionths of a job's work.
pub(crate) const DONE: u64 = 1_000_000_000;

/// Capacity held and throughput wanted at a point of the work (0 to [`DONE`]), at full speed.
pub(crate) fn wanted(job: &TraceJob, progress: u64) -> Needs {
    let (capacity, throughput) = match job.shape {
        Shape::Shuffle => shuffle(progress),
        Shape::Stream => stream(progress),
        Shape::Steady => (DONE, DONE),
    };
    let part =
        |amount: u64, of: u64| (u128::from(amount) * u128::from(of) / u128::from(DONE)) as u64;
    Needs {
        capacity_bytes: part(job.peak.capacity_bytes, capacity),
        bytes_per_second: part(job.peak.bytes_per_second, throughput),
    }
}

/// Four tenths writing, one computing, four reading, one finishing. What was written stays until it
/// has been read.
fn shuffle(progress: u64) -> (u64, u64) {
    let tenth = DONE / 10;
    match progress / tenth {
        0..4 => ((progress * 10 / 4).min(DONE), DONE),
        4 => (DONE, DONE / 10),
        5..9 => (DONE, DONE * 8 / 10),
        _ => (DONE, DONE / 10),
    }
}

/// Eight waves: data of a stage are dropped when the next has read them.
fn stream(progress: u64) -> (u64, u64) {
    let wave = DONE / 8;
    let within = progress % wave;
    let throughput = match within * 4 / wave {
        0 => DONE * 6 / 10,
        1 => DONE,
        2 => DONE * 7 / 10,
        _ => DONE * 3 / 10,
    };
    let capacity = DONE / 2 + (within * 8).min(DONE / 2);
    (capacity, throughput)
}

/// How much longer an object of the job takes on `tier` than on the best that the table has, in
/// parts of [`DONE`]: the published latencies on top of the transfer at a task's share of the throughput.
pub(crate) fn latency_penalty(job: &TraceJob, tier: Tier, catalogue: &Catalogue) -> u64 {
    let latency_us = |tier| {
        let node = catalogue.typical(tier)?;
        Some(u64::from(node.get_us.midpoint(node.put_us)))
    };
    let best = Tier::FASTEST_FIRST
        .iter()
        .find_map(|tier| latency_us(*tier));
    let (Some(best), Some(here)) = (best, latency_us(tier)) else {
        return 0;
    };
    let task_rate = (job.peak.bytes_per_second / u64::from(job.tasks.max(1))).max(1);
    let transfer_us = (u128::from(job.object_bytes) * 1_000_000 / u128::from(task_rate)) as u64;
    here.saturating_sub(best) * DONE / (transfer_us + best).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(shape: Shape, object_bytes: u64) -> TraceJob {
        TraceJob {
            name: "x".to_owned(),
            profile: "x".to_owned(),
            at_ms: 0,
            runs_ms: 60_000,
            tasks: 10,
            peak: Needs {
                capacity_bytes: 1_000_000,
                bytes_per_second: 750_000_000,
            },
            object_bytes,
            latency_sensitive: true,
            shape,
        }
    }

    #[test]
    fn every_shape_reaches_its_peaks_and_never_exceeds_them() {
        for shape in [Shape::Shuffle, Shape::Stream, Shape::Steady] {
            let job = job(shape, 1);
            let all: Vec<_> = (0..=DONE)
                .step_by(1_000_000)
                .map(|at| wanted(&job, at))
                .collect();
            let most = |of: fn(&Needs) -> u64| all.iter().map(of).max();
            assert_eq!(most(|needs| needs.capacity_bytes), Some(1_000_000));
            assert_eq!(most(|needs| needs.bytes_per_second), Some(750_000_000));
        }
    }

    #[test]
    fn small_objects_feel_the_latency_of_slow_tiers() {
        let table = Catalogue::default();
        let penalty = |bytes, tier| latency_penalty(&job(Shape::Steady, bytes), tier, &table);
        assert_eq!(penalty(5_600, Tier::Dram), 0);
        // 103 us more than 75 + 377 us: a quarter.
        assert!((200_000_000..250_000_000).contains(&penalty(5_600, Tier::Nvme)));
        assert!(penalty(5_600, Tier::Hdd) > DONE);
        assert!(penalty(10_000_000, Tier::Nvme) < 1_000_000);
    }
}
