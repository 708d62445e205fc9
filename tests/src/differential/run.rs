//! Runs plans on tmpfs and on what is under test, and reports a failure so that it can be run
//! again.
//!
//! | environment variable | |
//! |---|---|
//! | `POCKET_DIFFERENTIAL_SEEDS` | `7` or `1..1000`: these seeds instead of the test's own |
//! | `POCKET_DIFFERENTIAL_STEPS` | steps of a plan instead of the test's own |
//! | `POCKET_DIFFERENTIAL_TRACE` | a file of steps, a line each: these instead of any seed |

use std::{
    env, fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{Difference, Focus, Step, World, compare, generate, minimize};

/// Which plans a test runs.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// A plan for each.
    pub seeds: Range<u64>,
    /// Steps of each.
    pub steps: usize,
}

/// Two places to compare. Every run has new folders of its own in them.
#[derive(Debug)]
pub struct Arena {
    reference: PathBuf,
    roots: Vec<PathBuf>,
    runs: usize,
}

impl Arena {
    /// Compares `roots` (several: mounts of one job) with `reference`, a folder on tmpfs.
    pub fn new(reference: &Path, roots: &[&Path]) -> Self {
        Arena {
            reference: reference.to_owned(),
            roots: roots.iter().map(|&root| root.to_owned()).collect(),
            runs: 0,
        }
    }

    fn run(&mut self, steps: &[Step]) -> Option<Difference> {
        self.runs += 1;
        let name = format!("run-{}", self.runs);
        let reference = self.reference.join(&name);
        let roots: Vec<_> = self.roots.iter().map(|root| root.join(&name)).collect();
        for folder in [&reference, &roots[0]] {
            fs::create_dir(folder).expect("a folder for a new run");
        }
        let mut expected = World::new(vec![reference.clone(); roots.len()]);
        let mut found = World::new(roots.clone());
        let difference = compare(&mut expected, &mut found, steps, roots.len());
        drop((expected, found));
        for folder in [&reference, &roots[0]] {
            // What a failed run leaves behind harms nobody; the next has another folder.
            let _ = fs::remove_dir_all(folder);
        }
        difference
    }
}

/// Runs the plans; panics with a minimal trace at the first difference.
#[track_caller]
pub fn differential(mut arena: Arena, focus: Focus, seeds: Seeds) {
    if let Some(path) = env::var_os("POCKET_DIFFERENTIAL_TRACE") {
        let steps = read_trace(Path::new(&path));
        if let Some(difference) = arena.run(&steps) {
            panic!("the trace differs {difference}");
        }
        return;
    }
    let range = env::var("POCKET_DIFFERENTIAL_SEEDS").map_or(seeds.seeds, |text| range(&text));
    let count = env::var("POCKET_DIFFERENTIAL_STEPS");
    let count = count.map_or(seeds.steps, |text| text.parse().expect("a number of steps"));
    for seed in range {
        let steps = generate(seed, count, focus);
        if let Some(difference) = arena.run(&steps) {
            report(&mut arena, seed, &steps, difference);
        }
    }
}

#[track_caller]
fn report(arena: &mut Arena, seed: u64, steps: &[Step], difference: Difference) -> ! {
    let whole = steps[..difference.steps].to_vec();
    let (left, shown, repeats) = match minimize(&whole, |steps| arena.run(steps)) {
        Some((left, shown)) => (left, shown, "the steps left"),
        None => (
            whole,
            difference,
            "it did not happen again; all steps up to it",
        ),
    };
    let lines: String = left
        .iter()
        .map(|step| serde_json::to_string(step).expect("steps can be printed") + "\n")
        .collect();
    let path = env::temp_dir().join(format!("pocket-differential-{seed}.trace"));
    fs::write(&path, &lines).expect("the temporary folder is writable");
    panic!(
        "seed {seed} differs {shown}\n{repeats}, replayed by POCKET_DIFFERENTIAL_TRACE={}:\n{lines}",
        path.display()
    );
}

fn read_trace(path: &Path) -> Vec<Step> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let steps = text.lines().map(|line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no step: {line}: {error}"))
    });
    steps.collect()
}

fn range(text: &str) -> Range<u64> {
    let number = |text: &str| text.parse().expect("seeds are written as 7 or 1..1000");
    match text.split_once("..") {
        Some((start, end)) => number(start)..number(end),
        None => number(text)..number(text) + 1,
    }
}
