//! Traces from a seed: the same on every machine.

use std::{fmt, str::FromStr};

use pocket_policy::{Needs, Run};

use crate::{Shape, Trace, TraceJob, random::Random};

const GB: f64 = 1e9;

/// Kinds of traces there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Half of 10,000 jobs in bursts, half in between, over an hour and a half.
    Bursts,
    /// 4,000 jobs whose arrivals rise and fall as over a day, in four hours.
    Diurnal,
    /// 100 profiles that run 20 times each, much alike, over two hours.
    Recurring,
    /// The paper's three applications one after another, several times.
    Applications,
    /// The paper's elasticity experiment: three jobs on servers of 1 GB/s, at least two.
    Elasticity,
}

impl Kind {
    /// Every kind, for messages.
    pub const ALL: [Kind; 5] = [
        Kind::Bursts,
        Kind::Diurnal,
        Kind::Recurring,
        Kind::Applications,
        Kind::Elasticity,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Bursts => "bursts",
            Kind::Diurnal => "diurnal",
            Kind::Recurring => "recurring",
            Kind::Applications => "applications",
            Kind::Elasticity => "elasticity",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Kind::ALL.map(Kind::name).join(", ");
            format!("'{text}' is not a kind of trace: use {names}")
        })
    }
}

/// A trace of that kind.
pub fn generate(kind: Kind, seed: u64) -> Trace {
    let mut random = Random::new(seed);
    match kind {
        Kind::Bursts => {
            let arrivals = bursts(&mut random, 10_000, 5_400);
            of_profiles(&mut random, &arrivals, 200)
        }
        Kind::Diurnal => {
            let arrivals = diurnal(&mut random, 4_000, 14_400);
            of_profiles(&mut random, &arrivals, 200)
        }
        Kind::Recurring => {
            let mut arrivals: Vec<u64> = (0..2_000).map(|_| random.between(0, 7_200)).collect();
            arrivals.sort_unstable();
            of_profiles(&mut random, &arrivals, 100)
        }
        Kind::Applications => applications(&mut random),
        Kind::Elasticity => elasticity(),
    }
}

/// Half of the jobs come at random, half in nine bursts of two minutes each. Seconds, sorted.
fn bursts(random: &mut Random, jobs: u64, seconds: u64) -> Vec<u64> {
    let (bursts, length) = (9, 120);
    let starts: Vec<u64> = (0..bursts)
        .map(|burst| seconds * burst / bursts + random.between(0, seconds / bursts - length))
        .collect();
    let mut arrivals: Vec<u64> = (0..jobs)
        .map(|job| match job % 2 {
            0 => random.between(0, seconds),
            _ => starts[random.between(0, bursts) as usize] + random.between(0, length),
        })
        .collect();
    arrivals.sort_unstable();
    arrivals
}

/// Arrivals whose rate follows a sine between a tenth and the whole of its peak. Seconds, sorted.
fn diurnal(random: &mut Random, jobs: usize, seconds: u64) -> Vec<u64> {
    let mut arrivals = Vec::with_capacity(jobs);
    // Twice the mean rate, thinned by the hour of the day.
    let mean = seconds as f64 / jobs as f64 * 0.55;
    let mut at = 0.0;
    while arrivals.len() < jobs {
        at += random.exponential(mean);
        let day = at / seconds as f64 * std::f64::consts::TAU;
        let rate = 0.55 - 0.45 * day.cos();
        if random.between(0, 1_000) < (rate * 1_000.0) as u64 {
            arrivals.push(at as u64);
        }
    }
    arrivals
}

/// What the runs of a profile have in common.
struct Profile {
    name: String,
    runs_s: f64,
    tasks: u32,
    capacity_gb: f64,
    gigabytes_per_second: f64,
    object_bytes: f64,
    latency_sensitive: bool,
    shape: Shape,
}

impl Profile {
    /// Like one of the paper's applications, in proportions 4 : 3 : 3.
    fn draw(random: &mut Random, number: usize) -> Self {
        let tasks = random.log_normal(40.0, 2.2).clamp(2.0, 1_000.0);
        // Tasks move a third to all of what they can: 75 MB/s (0.6 Gb/s).
        let each = random.between(25, 75) as f64 * 1e-3;
        let (name, object_bytes, latency_sensitive, shape, gb_per_task, runs_s) = match number % 10
        {
            0..4 => ("sort", 1.6e6, false, Shape::Shuffle, 0.4, 90.0),
            4..7 => ("video", 1e7, false, Shape::Stream, 0.1, 120.0),
            // Objects of 5.6 KB in the median; the mean of the published quantiles is some 30 KB.
            _ => ("compile", 3e4, true, Shape::Stream, 0.02, 60.0),
        };
        Profile {
            name: format!("{name}-{number}"),
            runs_s: random.log_normal(runs_s, 1.8).clamp(15.0, 1_800.0),
            tasks: tasks as u32,
            capacity_gb: tasks * gb_per_task * random.log_normal(1.0, 1.8),
            gigabytes_per_second: tasks * each,
            object_bytes,
            latency_sensitive,
            shape,
        }
    }

    /// A run: its own peaks within some percent of the profile's.
    fn run(&self, random: &mut Random) -> Run {
        let near =
            |random: &mut Random, amount: f64| (amount * random.log_normal(1.0, 1.04)) as u64;
        Run {
            capacity_bytes: near(random, self.capacity_gb * GB).max(1 << 20),
            bytes_per_second: near(random, self.gigabytes_per_second * GB).max(1 << 20),
            object_bytes: self.object_bytes as u64,
        }
    }

    fn job(&self, random: &mut Random, number: usize, at_s: u64) -> TraceJob {
        let run = self.run(random);
        TraceJob {
            name: format!("{}-run-{number}", self.name),
            profile: self.name.clone(),
            at_ms: at_s * 1_000,
            runs_ms: (self.runs_s * random.log_normal(1.0, 1.05) * 1_000.0) as u64,
            tasks: self.tasks,
            peak: Needs {
                capacity_bytes: run.capacity_bytes,
                bytes_per_second: run.bytes_per_second,
            },
            object_bytes: run.object_bytes,
            latency_sensitive: self.latency_sensitive,
            shape: self.shape,
        }
    }
}

/// Jobs of so many profiles, each of which has run once before.
fn of_profiles(random: &mut Random, arrivals_s: &[u64], profiles: usize) -> Trace {
    let profiles: Vec<Profile> = (0..profiles)
        .map(|number| Profile::draw(random, number))
        .collect();
    let ran = profiles
        .iter()
        .map(|profile| (profile.name.clone(), profile.run(random)));
    let ran = ran.collect();
    let jobs = arrivals_s.iter().enumerate().map(|(number, at_s)| {
        let profile = random.between(0, profiles.len() as u64) as usize;
        profiles[profile].job(random, number, *at_s)
    });
    Trace {
        settings: Vec::new(),
        jobs: jobs.collect(),
        ran,
    }
}

/// The paper's applications with the sizes that its relative costs suggest (see `published`).
pub(crate) fn paper_applications() -> [TraceJob; 3] {
    let application =
        |name: &str, tasks, capacity_gb: u64, rate: u64, object_bytes, runs_s: u64, shape| {
            TraceJob {
                name: name.to_owned(),
                profile: name.to_owned(),
                at_ms: 0,
                runs_ms: runs_s * 1_000,
                tasks,
                peak: Needs {
                    capacity_bytes: capacity_gb * 1_000_000_000,
                    bytes_per_second: rate * 1_000_000,
                },
                object_bytes,
                latency_sensitive: false,
                shape,
            }
        };
    [
        application("sort", 234, 100, 10_500, 1_600_000, 60, Shape::Shuffle),
        application("video", 361, 6, 3_470, 10_000_000, 90, Shape::Stream),
        application("compile", 537, 1, 2_700, 30_000, 40, Shape::Stream),
    ]
}

fn applications(random: &mut Random) -> Trace {
    let mut jobs = Vec::new();
    let mut at_ms = 5_000;
    for round in 0..10 {
        for application in paper_applications() {
            let name = format!("{}-{round}", application.name);
            jobs.push(TraceJob {
                name,
                at_ms,
                ..application
            });
            at_ms += random.between(10, 90) * 1_000;
        }
    }
    let mut trace = Trace {
        jobs,
        ..Trace::default()
    };
    trace.push_setting("servers-min", "2");
    trace
}

fn elasticity() -> Trace {
    let jobs = [
        ("sort-1", 10, 10, 3_000, 40, 1_600_000, Shape::Shuffle),
        ("video", 40, 6, 2_500, 60, 10_000_000, Shape::Stream),
        ("sort-2", 130, 10, 3_000, 40, 1_600_000, Shape::Shuffle),
    ];
    let jobs = jobs.map(
        |(name, at_s, capacity_gb, rate, runs_s, object_bytes, shape)| TraceJob {
            name: name.to_owned(),
            profile: name.to_owned(),
            at_ms: at_s * 1_000,
            runs_ms: runs_s * 1_000,
            tasks: 50,
            peak: Needs {
                capacity_bytes: capacity_gb * 1_000_000_000,
                bytes_per_second: rate * 1_000_000,
            },
            object_bytes,
            latency_sensitive: false,
            shape,
        },
    );
    let settings = [
        ("servers-min", "2"),
        ("servers-min-type", "nvme"),
        ("hints", "full"),
    ];
    let mut trace = Trace {
        jobs: jobs.into(),
        ..Trace::default()
    };
    for (name, value) in settings {
        trace.push_setting(name, value);
    }
    trace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_trace_that_can_be_read_and_the_seed_determines_it() {
        for kind in Kind::ALL {
            let trace = generate(kind, 7);
            assert_eq!(trace.to_string().parse(), Ok(trace.clone()), "{kind}");
            assert_eq!(trace, generate(kind, 7));
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_ne!(generate(Kind::Bursts, 1), generate(Kind::Bursts, 2));
        assert_eq!(generate(Kind::Bursts, 1).jobs.len(), 10_000);
        let error = "steps".parse::<Kind>().expect_err("no such kind");
        assert!(error.contains("use bursts, diurnal"), "{error}");
    }

    #[test]
    fn bursts_burst_and_days_rise_and_fall() {
        let per_minute = |trace: &Trace| {
            let mut counts = vec![0usize; 300];
            for job in &trace.jobs {
                counts[(job.at_ms / 60_000) as usize] += 1;
            }
            counts
        };
        let counts = per_minute(&generate(Kind::Bursts, 1));
        let (most, mean) = (counts.iter().max().expect("some"), 10_000 / 90);
        assert!(*most > 2 * mean, "{most} {mean}");
        let counts = per_minute(&generate(Kind::Diurnal, 1));
        let (night, noon): (usize, usize) =
            (counts[..20].iter().sum(), counts[110..130].iter().sum());
        assert!(noon > 4 * night, "{noon} {night}");
    }
}
