//! The same random operations on mounts and on tmpfs come to the same.

use std::collections::BTreeMap;

use pocket_tests::{
    Scratch,
    differential::{
        Arena, Exchange, Focus, Operation, Outcome, Seeds, Step, Subject, Tree, World, compare,
        differential, generate, minimize,
    },
    with_cluster, with_mount_and,
};

/// Of the jobs mounted here; small, so that files of few pages have many blocks.
const BLOCK_BYTES: u64 = 16 << 10;

const ONE_ROOT: Focus = Focus {
    actors: 1,
    block_bytes: BLOCK_BYTES,
    local: true,
};

const TWO_ROOTS: Focus = Focus {
    actors: 2,
    block_bytes: BLOCK_BYTES,
    local: false,
};

#[test]
fn tmpfs_agrees_with_itself() {
    let reference = Scratch::on_tmpfs();
    let other = Scratch::on_tmpfs();
    let arena = Arena::new(reference.path(), &[other.path()]);
    let seeds = Seeds {
        seeds: 0..10,
        steps: 1000,
    };
    differential(arena, ONE_ROOT, seeds);
}

#[test]
fn tmpfs_agrees_with_itself_under_two_names() {
    let reference = Scratch::on_tmpfs();
    let other = Scratch::on_tmpfs();
    let arena = Arena::new(reference.path(), &[other.path(), other.path()]);
    let seeds = Seeds {
        seeds: 0..5,
        steps: 1000,
    };
    differential(arena, TWO_ROOTS, seeds);
}

/// A comparison of errors with errors would prove little.
#[test]
fn every_operation_of_the_plans_succeeds_now_and_then() {
    let scratch = Scratch::on_tmpfs();
    let mut world = World::new(vec![scratch.path().to_owned()]);
    let mut tally = BTreeMap::<String, (u32, u32)>::new();
    let plan = generate(1, 10_000, ONE_ROOT).into_iter();
    for step in plan.filter(|step| step.operation != Operation::CompareTrees) {
        let outcome = world.apply(&step);
        let name = format!("{:?}", step.operation);
        let name = name.split(' ').next().unwrap_or_default().to_owned();
        let (tried, succeeded) = tally.entry(name).or_default();
        *tried += 1;
        *succeeded += u32::from(!matches!(outcome, Outcome::Failed(_) | Outcome::Nothing));
    }
    assert_eq!(tally.len(), 34, "{:?}", tally.keys());
    for (name, (tried, succeeded)) in &tally {
        assert!(
            succeeded * 20 > *tried,
            "{name} succeeded {succeeded} times of {tried}"
        );
    }
}

/// A world that pretends to have done what it has not.
struct Liar {
    world: World,
    lies_about: fn(&Operation) -> bool,
}

impl Subject for Liar {
    fn apply(&mut self, step: &Step) -> Outcome {
        match (self.lies_about)(&step.operation) {
            true => Outcome::Done,
            false => self.world.apply(step),
        }
    }

    fn tree(&mut self, actor: usize) -> Tree {
        self.world.tree(actor)
    }
}

/// That the comparison can fail, and that what it reports is short.
#[test]
fn a_file_system_that_lies_is_found_out() {
    let lies: [fn(&Operation) -> bool; 6] = [
        |operation| matches!(operation, Operation::AppendFile { .. }),
        |operation| matches!(operation, Operation::SetLength { .. }),
        |operation| matches!(operation, Operation::SetXattr { .. }),
        |operation| matches!(operation, Operation::ChangeMode { .. }),
        |operation| matches!(operation, Operation::Unlink { .. }),
        |operation| {
            let exchanges = Exchange::Exchange;
            matches!(operation, Operation::Rename { exchange, .. } if *exchange == exchanges)
        },
    ];
    for lies_about in lies {
        let run = |steps: &[Step]| {
            let (reference, other) = (Scratch::on_tmpfs(), Scratch::on_tmpfs());
            let mut honest = World::new(vec![reference.path().to_owned()]);
            let world = World::new(vec![other.path().to_owned()]);
            let mut liar = Liar { world, lies_about };
            compare(&mut honest, &mut liar, steps, 1)
        };
        let steps = generate(1, 1000, ONE_ROOT);
        let (left, difference) = minimize(&steps, run).expect("the lie shows");
        assert!(left.len() <= 6, "{difference}\n{left:#?}");
    }
}

#[test]
fn one_mount_agrees_with_tmpfs() {
    with_mount_and(&["--block-size", "16KiB"], |mount| {
        let reference = Scratch::on_tmpfs();
        let arena = Arena::new(reference.path(), &[mount]);
        let seeds = Seeds {
            seeds: 0..10,
            steps: 1500,
        };
        differential(arena, ONE_ROOT, seeds);
    });
}

#[test]
fn two_mounts_of_one_job_agree_with_tmpfs() {
    with_cluster(|cluster| {
        let block_size = BLOCK_BYTES.to_string();
        let first = cluster.mount_with("shared", &["--block-size", &block_size]);
        let second = cluster.mount("shared");
        let reference = Scratch::on_tmpfs();
        let arena = Arena::new(reference.path(), &[first.path(), second.path()]);
        let seeds = Seeds {
            seeds: 100..108,
            steps: 1500,
        };
        differential(arena, TWO_ROOTS, seeds);
        first.finish();
        second.finish();
    });
}
