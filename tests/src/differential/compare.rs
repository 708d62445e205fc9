//! Two subjects, the same steps, the first difference.

use std::fmt;

use super::{Operation, Step, Subject, Tree};

/// Where two subjects differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Steps applied until it showed.
    pub steps: usize,
    /// What differs, for people.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} steps: {}", self.steps, self.what)
    }
}

/// Applies `steps` to both; the first difference in an outcome, or in the trees as each actor
/// sees them, which are also looked at behind the last step.
pub fn compare(
    reference: &mut dyn Subject,
    subject: &mut dyn Subject,
    steps: &[Step],
    actors: usize,
) -> Option<Difference> {
    for (index, step) in steps.iter().enumerate() {
        let what = match step.operation {
            Operation::CompareTrees => compare_trees(reference, subject, actors),
            _ => {
                let (expected, found) = (reference.apply(step), subject.apply(step));
                let differ = || format!("{step:?}\n  expected {expected:?}\n  found    {found:?}");
                (expected != found).then(differ)
            }
        };
        if let Some(what) = what {
            let steps = index + 1;
            return Some(Difference { steps, what });
        }
    }
    let what = compare_trees(reference, subject, actors)?;
    let steps = steps.len();
    Some(Difference { steps, what })
}

fn compare_trees(
    reference: &mut dyn Subject,
    subject: &mut dyn Subject,
    actors: usize,
) -> Option<String> {
    (0..actors).find_map(|actor| {
        let (expected, found) = (reference.tree(actor), subject.tree(actor));
        let what = first_difference(&expected, &found)?;
        Some(format!("seen by actor {actor}, {what}"))
    })
}

fn first_difference(expected: &Tree, found: &Tree) -> Option<String> {
    let paths = expected.keys().chain(found.keys());
    let path = paths
        .filter(|&path| expected.get(path) != found.get(path))
        .min()?;
    let (expected, found) = (expected.get(path), found.get(path));
    Some(format!(
        "'{path}'\n  expected {expected:?}\n  found    {found:?}"
    ))
}
