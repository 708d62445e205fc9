//! Two subjects, the same steps, the first difference.

use std::fmt;

use super::{Step, Subject, Tree};

/// Trees are compared whenever so many steps have been applied, and at the end: often enough to
/// find silent damage near its cause, seldom enough to leave time for steps.
const TREE_INTERVAL: usize = 50;

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
/// sees them.
pub fn compare(
    reference: &mut dyn Subject,
    subject: &mut dyn Subject,
    steps: &[Step],
    actors: usize,
) -> Option<Difference> {
    for (index, step) in steps.iter().enumerate() {
        let difference = |what| Difference {
            steps: index + 1,
            what,
        };
        let (expected, found) = (reference.apply(step), subject.apply(step));
        if expected != found {
            return Some(difference(format!(
                "{step:?}\n  expected {expected:?}\n  found    {found:?}"
            )));
        }
        if (index + 1) % TREE_INTERVAL == 0 || index + 1 == steps.len() {
            for actor in 0..actors {
                let (expected, found) = (reference.tree(actor), subject.tree(actor));
                if let Some(what) = first_difference(&expected, &found) {
                    return Some(difference(format!("seen by actor {actor}, {what}")));
                }
            }
        }
    }
    None
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
