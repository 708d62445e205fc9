//! Reduces a failing plan to few steps that still fail (delta debugging, Zeller and Hildebrandt
//! 2002).

use super::{Difference, Step};

/// Runs of a plan at most; each takes as long as the plan that failed, and fewer steps are a
/// convenience.
const RUNS_MAX: usize = 300;

/// Leaves out steps of `steps` as long as `fails` still finds a difference. Returns the steps left
/// with their difference; `None` if the plan itself no longer fails.
pub fn minimize(
    steps: &[Step],
    mut fails: impl FnMut(&[Step]) -> Option<Difference>,
) -> Option<(Vec<Step>, Difference)> {
    let mut runs = 0;
    let mut fails = |steps: &[Step]| {
        runs += 1;
        (runs <= RUNS_MAX).then(|| fails(steps)).flatten()
    };
    let mut difference = fails(steps)?;
    let mut left = steps[..difference.steps].to_vec();
    let mut chunk = left.len().div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        while start < left.len() {
            let end = (start + chunk).min(left.len());
            let fewer = [&left[..start], &left[end..]].concat();
            match fails(&fewer) {
                // What shows now may be another difference; it is as good.
                Some(shown) => {
                    left = fewer[..shown.steps].to_vec();
                    difference = shown;
                }
                None => start = end,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    Some((left, difference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{Focus, Operation, generate};

    #[test]
    fn only_the_steps_that_matter_are_left() {
        let focus = Focus {
            actors: 1,
            block_bytes: 4096,
            local: false,
        };
        let plan = generate(3, 400, focus);
        let is_link = |step: &Step| matches!(step.operation, Operation::Link { .. });
        let is_unlink = |step: &Step| matches!(step.operation, Operation::Unlink { .. });
        let fails = |steps: &[Step]| {
            let link = steps.iter().position(is_link)?;
            let unlink = steps[link..].iter().position(is_unlink)?;
            Some(Difference {
                steps: link + unlink + 1,
                what: String::new(),
            })
        };
        let (left, _) = minimize(&plan, fails).unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(is_link(&left[0]) && is_unlink(&left[1]));
    }
}
