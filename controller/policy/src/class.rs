//! Which servers a job's data go to: those that stay, if they are to outlive the job.

use pocket_proto::{Failure, control::StorageClass};

use crate::{StorageSpace, allocation::sum};

/// The class of servers that a job's new data go to, where these long-running servers take data. No job
/// but one that persists goes there, and such a one goes nowhere else, unless there are none: whoever has
/// one machine need not know of classes. A job that is on regular servers already, with `moves` bytes
/// promised to it, follows only if all of them can be promised there; `None` for every other.
pub fn class_of(persist: bool, moves: Option<u64>, long_running: &[StorageSpace]) -> StorageClass {
    let free = sum(long_running, StorageSpace::unpromised_bytes);
    let fits = moves.is_none_or(|bytes| bytes <= free);
    match persist && !long_running.is_empty() && fits {
        true => StorageClass::LongRunning,
        false => StorageClass::Regular,
    }
}

/// The same failure with the class of servers on which there is no room, where a cluster has both.
pub fn explain_class(failure: Failure, class: StorageClass, has_long_running: bool) -> Failure {
    let why = match class {
        _ if !has_long_running => return failure,
        StorageClass::LongRunning => {
            "as it persists it goes to long-running servers alone: pocket storage --class \
             long-running starts one"
        }
        StorageClass::Regular => {
            "long-running servers do not count, as jobs with --persist alone go there"
        }
    };
    Failure::new(failure.status, format!("{} ({why})", failure.message))
}

#[cfg(test)]
mod tests {
    use pocket_proto::{ServerId, Status};

    use super::*;
    use crate::Catalogue;

    fn servers(count: u64) -> Vec<StorageSpace> {
        let catalogue = Catalogue::default();
        let space = |id| StorageSpace {
            capacity_bytes: 10,
            reserved_bytes: 4,
            ..StorageSpace::empty(ServerId(id), 0, &catalogue)
        };
        (1..=count).map(space).collect()
    }

    #[test]
    fn only_jobs_that_persist_go_to_long_running_servers_and_those_only_there() {
        for count in [0, 1, 3] {
            assert_eq!(
                class_of(false, None, &servers(count)),
                StorageClass::Regular
            );
        }
        assert_eq!(class_of(true, None, &servers(0)), StorageClass::Regular);
        assert_eq!(class_of(true, None, &servers(1)), StorageClass::LongRunning);
    }

    #[test]
    fn a_running_job_follows_if_all_of_it_finds_room() {
        for (bytes, class) in [(12, StorageClass::LongRunning), (13, StorageClass::Regular)] {
            assert_eq!(class_of(true, Some(bytes), &servers(2)), class, "{bytes}");
        }
        assert_eq!(class_of(false, Some(0), &servers(2)), StorageClass::Regular);
    }

    #[test]
    fn a_refusal_names_the_class_where_there_are_two() {
        let told = |class, both| {
            let failure = Failure::new(Status::NoSpace, "no room");
            explain_class(failure, class, both).message
        };
        assert_eq!(told(StorageClass::Regular, false), "no room");
        let persists = told(StorageClass::LongRunning, true);
        assert!(
            persists.contains("pocket storage --class long-running"),
            "{persists}"
        );
        assert!(told(StorageClass::Regular, true).contains("--persist"));
    }
}
