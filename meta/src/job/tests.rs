//! Leases, recalls, opens and locks of a whole job, over the interleavings of its mounts' messages.
//!
//! The job is the real one, with its tasks, under a clock that stands still but for the steps in
//! which time passes. The mounts are simulated ([`mount`]); every message in either direction,
//! every acknowledgement, answers overtaken by recalls, lost connections, resumed and renewed
//! sessions, mounts that are stopped or killed, and the lapse of time are steps of their own
//! ([`world`]), and a schedule says which comes next ([`schedule`]). Small scripts are run under
//! *every* schedule with a bounded number of departures from the plain course of things, random ones
//! under random schedules. What is not explored: threads that interleave within a step, as all of a
//! job's state is behind one lock.
//!
//! After every step: what a mount was leased and not yet asked to drop is true, no two mounts hold
//! what one alone may (directories, cached files that are written, locks), and what was done ahead
//! is accepted. In the end every request was answered, every recall was acknowledged or its session
//! ended, everyone who waited for a lock has it or was told that it will not, and no mark is left.

mod messages;
mod mount;
mod schedule;
mod world;

use std::future::Future;
use std::time::Duration;

use pocket_proto::InodeId;
use pocket_proto::session::LockMode;

use self::messages::Wish;
use self::schedule::{Choose, Exhaustive, Random};
use self::world::{Faults, World, place};

const LEASE: Duration = Duration::from_secs(5);
const ROOT: u64 = InodeId::ROOT.0;
/// Steps of a random run before everything comes to its end.
const RANDOM_STEPS: usize = 150;
const RANDOM_RUNS: u64 = 3000;

/// Runs something in virtual time.
fn in_virtual_time<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run)
}

/// Inodes that scripts speak of.
struct Cast {
    /// A directory that mount 0 made, and has to itself.
    own: u64,
    /// Files that stay.
    files: [u64; 2],
}

/// A job of so many mounts with a directory and two files.
async fn prepare(mounts: usize) -> (World, Cast) {
    let mut world = World::new(mounts);
    let root = |name| place(ROOT, name);
    let wishes = [
        Wish::GrantInodes,
        Wish::MakeDirectory(root("own")),
        Wish::Make(root("f")),
        Wish::Make(root("g")),
    ];
    world.prepare(0, &wishes).await;
    let cast = Cast {
        own: world.inode(ROOT, "own"),
        files: [world.inode(ROOT, "f"), world.inode(ROOT, "g")],
    };
    (world, cast)
}

/// Runs scripts under every schedule near the plain one; returns how many those were.
fn explore(departures: usize, faults: Faults, scripts: impl Fn(&Cast) -> Vec<Vec<Wish>>) -> usize {
    let (mut schedules, mut runs) = (Exhaustive::new(departures), 0);
    loop {
        runs += 1;
        in_virtual_time(async {
            let (mut world, cast) = prepare(scripts(&CAST_OF_NOBODY).len()).await;
            let scripts = scripts(&cast);
            world.run(scripts, faults, usize::MAX, &mut schedules).await;
        });
        if !schedules.next() {
            return runs;
        }
    }
}

const CAST_OF_NOBODY: Cast = Cast {
    own: 0,
    files: [0, 0],
};

const NO_FAULTS: Faults = Faults {
    disconnects: 0,
    stops: 0,
    kills: 0,
    delays: 0,
};

fn changes_of_a_name(cast: &Cast) -> Vec<Vec<Wish>> {
    let [a, b] = ["a", "b"].map(|name| place(ROOT, name));
    let mode = |mode| Wish::SetMode(cast.files[0], mode);
    vec![
        vec![
            Wish::Make(a.clone()),
            Wish::Rename(a.clone(), b.clone()),
            mode(0o700),
        ],
        vec![
            Wish::Lookup(a),
            Wish::GetMode(cast.files[0]),
            Wish::Lookup(b),
        ],
    ]
}

fn looks_into_a_directory_that_is_another_mounts(cast: &Cast) -> Vec<Vec<Wish>> {
    let [a, b] = ["a", "b"].map(|name| place(cast.own, name));
    vec![
        vec![
            Wish::Make(a.clone()),
            Wish::Rename(a.clone(), b.clone()),
            Wish::Remove(b.clone()),
        ],
        vec![Wish::Lookup(a.clone()), Wish::Make(a), Wish::Lookup(b)],
    ]
}

fn opens_of_a_file(cast: &Cast) -> Vec<Vec<Wish>> {
    let inode = cast.files[0];
    let open = |write| Wish::Open { inode, write };
    vec![
        vec![open(true), Wish::Close(inode), open(false)],
        vec![open(false), open(true), Wish::Close(inode)],
    ]
}

fn locks_in_opposite_orders(cast: &Cast) -> Vec<Vec<Wish>> {
    let [one, other] = cast.files;
    let lock = |inode, gives_up| Wish::Lock {
        inode,
        mode: LockMode::Exclusive,
        gives_up,
    };
    let unlock = |inode| Wish::Unlock(inode);
    vec![
        vec![
            lock(one, false),
            lock(other, false),
            unlock(one),
            unlock(other),
        ],
        vec![
            lock(other, false),
            lock(one, true),
            unlock(one),
            unlock(other),
        ],
    ]
}

/// What the mounts' programs want.
type Scripts = fn(&Cast) -> Vec<Vec<Wish>>;

/// Small scripts, each about one thing.
const SCRIPTS: [Scripts; 4] = [
    changes_of_a_name,
    looks_into_a_directory_that_is_another_mounts,
    opens_of_a_file,
    locks_in_opposite_orders,
];

#[test]
fn every_schedule_near_the_plain_one_is_coherent_without_faults() {
    for scripts in SCRIPTS {
        let runs = explore(3, NO_FAULTS, scripts);
        println!("{runs} schedules");
        assert!(runs > 100);
    }
}

#[test]
fn every_schedule_near_the_plain_one_is_coherent_with_a_fault() {
    let faults = [
        Faults {
            disconnects: 1,
            ..NO_FAULTS
        },
        Faults {
            stops: 1,
            ..NO_FAULTS
        },
        Faults {
            kills: 1,
            ..NO_FAULTS
        },
        Faults {
            delays: 2,
            ..NO_FAULTS
        },
    ];
    for (scripts, faults) in SCRIPTS
        .into_iter()
        .flat_map(|scripts| faults.map(|faults| (scripts, faults)))
    {
        let runs = explore(2, faults, scripts);
        println!("{faults:?}: {runs} schedules");
        assert!(runs > 100);
    }
}

/// What a program on a mount does, of everything there is.
fn random_script(random: &mut Random, cast: &Cast) -> Vec<Wish> {
    let place = |random: &mut Random| {
        let directory = [ROOT, cast.own][random.below(2)];
        place(directory, ["a", "b"][random.below(2)])
    };
    let mut wishes: Vec<_> = (0..random.below(12))
        .map(|_| {
            let inode = cast.files[random.below(2)];
            match random.below(16) {
                0..3 => Wish::Lookup(place(random)),
                3..5 => Wish::Make(place(random)),
                5 => Wish::Remove(place(random)),
                6..8 => Wish::Rename(place(random), place(random)),
                8 => Wish::GetMode(inode),
                9 => Wish::SetMode(inode, 0o600 + random.below(64) as u32),
                10 | 11 => Wish::Open {
                    inode,
                    write: random.below(2) == 0,
                },
                12 => Wish::Close(inode),
                13 | 14 => Wish::Lock {
                    inode,
                    mode: [LockMode::Shared, LockMode::Exclusive][random.below(2)],
                    gives_up: random.below(3) == 0,
                },
                _ => Wish::Unlock(inode),
            }
        })
        .collect();
    // Whoever waits for this one is to get it.
    wishes.extend(cast.files.map(Wish::Unlock));
    wishes
}

#[test]
fn random_schedules_of_three_mounts_with_faults_are_coherent() {
    for seed in 0..RANDOM_RUNS {
        println!("seed {seed}");
        in_virtual_time(async {
            let mut random = Random::new(seed);
            let (mut world, cast) = prepare(3).await;
            let scripts = (0..3).map(|_| random_script(&mut random, &cast)).collect();
            let faults = Faults {
                disconnects: random.choose(3),
                stops: random.choose(2),
                kills: random.choose(2),
                delays: random.choose(8),
            };
            world.run(scripts, faults, RANDOM_STEPS, &mut random).await;
        });
    }
}
