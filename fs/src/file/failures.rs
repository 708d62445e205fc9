//! Failures to store what was buffered of a file, and who was told of them.
//!
//! As Linux has it (errseq_t): whoever has the file open is told once, when it syncs or closes, and
//! what nobody has heard of, the next one to open the file hears of.

use pocket_proto::Failure;

/// The failures of one open file.
#[derive(Default)]
pub(super) struct Failures {
    newest: Option<Failure>,
    /// How many there were.
    count: u64,
    /// How many there were when somebody was told.
    told: u64,
}

impl Failures {
    pub(super) fn note(&mut self, failure: Failure) {
        self.newest = Some(failure);
        self.count += 1;
    }

    /// How many a handle that is opened now has nothing to do with.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Tells who knows of `seen` of them: the newest, if it is another, and how many there were.
    pub(super) fn tell(&mut self, seen: u64) -> (u64, Option<Failure>) {
        if self.count <= seen {
            return (seen, None);
        }
        self.told = self.count;
        (self.count, self.newest.clone())
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::Status;

    use super::*;

    #[test]
    fn failure_is_told_once_to_everybody_who_had_the_file_open() {
        let mut failures = Failures::default();
        let mut handles = [failures.told(); 2];
        failures.note(Status::Lost.into());
        for seen in &mut handles {
            let (count, failure) = failures.tell(*seen);
            assert_eq!(failure, Some(Status::Lost.into()));
            *seen = count;
        }
        for seen in handles {
            assert_eq!(failures.tell(seen), (seen, None));
        }
        assert_eq!(failures.tell(failures.told()).1, None, "it was told");
    }

    #[test]
    fn failure_that_nobody_heard_of_is_told_to_who_opens_the_file_later() {
        let mut failures = Failures::default();
        failures.note(Status::Unavailable.into());
        failures.note(Status::Lost.into());
        let late = failures.told();
        let (seen, failure) = failures.tell(late);
        assert_eq!(failure, Some(Status::Lost.into()), "the newest");
        assert_eq!(failures.tell(seen).1, None);
        assert_eq!(failures.tell(failures.told()).1, None);
    }
}
