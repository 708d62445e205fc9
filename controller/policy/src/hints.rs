//! What a registration may say. Whatever makes no sense is refused with a sentence that names it
//! and tells the fix.

use pocket_proto::{
    BlockBytes, ByteCount, Failure, PROTOCOL_VERSION, ParseUnitError, Status,
    control::{Hints, RegisterJobRequest},
};
use thiserror::Error;

use super::lease::Lease;

const NAME_BYTES_MAX: usize = 128;
/// Ten times the largest serverless deployments known.
const TASKS_MAX: u32 = 1_000_000;
/// No cluster holds more: 2^53 bytes, 8 PiB.
const CAPACITY_BYTES_MAX: u64 = 1 << 53;
/// A file takes at least this much of a job, so less holds nothing.
const CAPACITY_BYTES_MIN: u64 = 4 << 10;
/// Aggregate of ten thousand servers at 100 Gb/s.
const BANDWIDTH_MAX: u64 = 125_000_000_000_000;
/// One packet a second.
const BANDWIDTH_MIN: u64 = 1_000;
const LEASE_SECONDS_MAX: u64 = 7 * 86_400;
/// The longest time that a job persists: a year.
const PERSIST_SECONDS_MAX: u64 = 365 * 24 * 3600;

/// What is wrong with a registration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The sentences say it.
pub enum RequestError {
    #[error(
        "this controller speaks protocol version {PROTOCOL_VERSION}, the mount {0}: \
         install the same release of pocket on both"
    )]
    Version(u32),
    #[error("a job needs a name of 1 to {NAME_BYTES_MAX} characters")]
    NameEmpty,
    #[error("the job's name has {0} bytes: use at most {NAME_BYTES_MAX}")]
    NameTooLong(usize),
    #[error("job name '{0}' starts with '{1}': start with a letter, a digit or '_'")]
    NameStart(String, char),
    #[error("job name '{0}' contains {1:?}: use letters, digits, '.', '_' and '-' only")]
    NameCharacter(String, char),
    #[error(
        "the hint max-tasks is 0, but a job runs at least one task: \
         give the most that run at once, or leave the hint out"
    )]
    NoTasks,
    #[error(
        "the hint max-tasks is {0}, more than any cluster runs: \
         give at most {TASKS_MAX}, or leave the hint out"
    )]
    TooManyTasks(u32),
    #[error(
        "the hint capacity is {}, which holds no file: give at least {}, or leave the hint out",
        ByteCount(*.0), ByteCount(CAPACITY_BYTES_MIN)
    )]
    CapacityTooSmall(u64),
    #[error(
        "the hint capacity is {}, more than any cluster holds: \
         give at most {}, or leave the hint out",
        ByteCount(*.0), ByteCount(CAPACITY_BYTES_MAX)
    )]
    CapacityTooLarge(u64),
    #[error(
        "the hint bandwidth is {0} bytes per second, in which nothing gets done: \
         give the peak of all tasks together, as 8Gb/s, or leave the hint out"
    )]
    BandwidthTooSmall(u64),
    #[error(
        "the hint bandwidth is {0} bytes per second, more than any cluster moves: \
         give at most {BANDWIDTH_MAX} (1 Pb/s), or leave the hint out"
    )]
    BandwidthTooLarge(u64),
    #[error(
        "the hint {0} is of each task, but max-tasks says nothing of how many there are: \
         give max-tasks as well, or the total instead"
    )]
    PerTaskWithoutTasks(&'static str),
    #[error(
        "the hint {hint} of {each} for each of {tasks} tasks is more in all than any cluster has: \
         give less, or the total instead"
    )]
    PerTaskTooMuch {
        hint: &'static str,
        each: u64,
        tasks: u32,
    },
    #[error("the hint {0} is 0: give what a task needs at most, or leave the hint out")]
    PerTaskNothing(&'static str),
    #[error(
        "a lease of {0} s is longer than 7 days: \
         give at most {LEASE_SECONDS_MAX} s, or keep the job (--keep) until it is deregistered"
    )]
    LeaseTooLong(u64),
    #[error(
        "a time to live of {0} s is longer than a year: \
         give at most {PERSIST_SECONDS_MAX} s, or keep the job (--keep) until it is deregistered"
    )]
    TtlTooLong(u64),
    #[error(
        "a job persists for its time to live (--persist) or until it is deregistered (--keep), \
         not both: leave one out"
    )]
    PersistAndKeep,
    #[error(transparent)]
    BlockBytes(#[from] ParseUnitError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let status = match error {
            RequestError::Version(_) => Status::VersionMismatch,
            _ => Status::Invalid,
        };
        Failure::new(status, error.to_string())
    }
}

/// A registration that makes sense, with the defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTerms {
    /// Of the job.
    pub name: String,
    /// Whose earlier runs stand in for missing hints.
    pub profile: String,
    /// In range each, and together.
    pub hints: Hints,
    /// How long the job outlives its mounts.
    pub lease: Lease,
    /// It is meant to be found again.
    pub persist: bool,
    /// Its files go once they were read.
    pub delete_after_read: bool,
    /// How its files are striped.
    pub block_bytes: BlockBytes,
}

fn check_lease(request: &RegisterJobRequest) -> Result<Lease, RequestError> {
    let seconds = request.lease_seconds;
    match (request.persist, request.keep) {
        (true, true) => Err(RequestError::PersistAndKeep),
        (true, false) if seconds > PERSIST_SECONDS_MAX => Err(RequestError::TtlTooLong(seconds)),
        (true, false) => Ok(Lease::persistent(seconds)),
        (false, _) if seconds > LEASE_SECONDS_MAX => Err(RequestError::LeaseTooLong(seconds)),
        (false, keep) => Ok(Lease::new(seconds, keep)),
    }
}

/// Checks all that can be checked without knowing the cluster.
pub fn check_request(request: &RegisterJobRequest) -> Result<JobTerms, RequestError> {
    if request.protocol_version != PROTOCOL_VERSION {
        return Err(RequestError::Version(request.protocol_version));
    }
    check_name(&request.name)?;
    let hints = request.hints.unwrap_or_default();
    check_hints(&hints)?;
    let lease = check_lease(request)?;
    let block_bytes = match request.block_bytes {
        0 => BlockBytes::DEFAULT,
        bytes => BlockBytes::new(u64::from(bytes))?,
    };
    let profile = match request.profile.as_str() {
        "" => &request.name,
        profile => profile,
    };
    check_name(profile)?;
    Ok(JobTerms {
        name: request.name.clone(),
        profile: profile.to_owned(),
        hints,
        lease,
        persist: request.persist,
        delete_after_read: request.delete_after_read,
        block_bytes,
    })
}

/// Names are safe as file names, in URLs and on command lines.
pub fn check_name(name: &str) -> Result<(), RequestError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(RequestError::NameTooLong(name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(stray) = name.chars().find(|&c| !allowed(c)) {
        return Err(RequestError::NameCharacter(name.to_owned(), stray));
    }
    match name.chars().next() {
        None => Err(RequestError::NameEmpty),
        Some(first @ ('.' | '-')) => Err(RequestError::NameStart(name.to_owned(), first)),
        Some(_) => Ok(()),
    }
}

/// Checks every hint by itself, and those that count together.
pub fn check_hints(hints: &Hints) -> Result<(), RequestError> {
    match hints.max_tasks {
        Some(0) => return Err(RequestError::NoTasks),
        Some(tasks) if tasks > TASKS_MAX => return Err(RequestError::TooManyTasks(tasks)),
        _ => {}
    }
    match hints.capacity_bytes {
        Some(bytes) if bytes < CAPACITY_BYTES_MIN => {
            return Err(RequestError::CapacityTooSmall(bytes));
        }
        Some(bytes) if bytes > CAPACITY_BYTES_MAX => {
            return Err(RequestError::CapacityTooLarge(bytes));
        }
        _ => {}
    }
    match hints.bandwidth_bytes_per_second {
        Some(rate) if rate < BANDWIDTH_MIN => return Err(RequestError::BandwidthTooSmall(rate)),
        Some(rate) if rate > BANDWIDTH_MAX => return Err(RequestError::BandwidthTooLarge(rate)),
        _ => {}
    }
    let (capacity, rate) = (
        hints.task_capacity_bytes,
        hints.task_bandwidth_bytes_per_second,
    );
    check_per_task(
        "task-capacity",
        capacity,
        hints.max_tasks,
        CAPACITY_BYTES_MAX,
    )?;
    check_per_task("task-bandwidth", rate, hints.max_tasks, BANDWIDTH_MAX)
}

fn check_per_task(
    hint: &'static str,
    each: Option<u64>,
    tasks: Option<u32>,
    all_max: u64,
) -> Result<(), RequestError> {
    match (each, tasks) {
        (None, _) => Ok(()),
        (Some(0), _) => Err(RequestError::PerTaskNothing(hint)),
        (Some(_), None) => Err(RequestError::PerTaskWithoutTasks(hint)),
        (Some(each), Some(tasks)) => match each.checked_mul(tasks.into()) {
            Some(all) if all <= all_max => Ok(()),
            _ => Err(RequestError::PerTaskTooMuch { hint, each, tasks }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> RegisterJobRequest {
        RegisterJobRequest {
            name: name.to_owned(),
            protocol_version: PROTOCOL_VERSION,
            ..RegisterJobRequest::default()
        }
    }

    fn with_hints(hints: Hints) -> RegisterJobRequest {
        RegisterJobRequest {
            hints: Some(hints),
            ..request("x")
        }
    }

    #[test]
    fn names_are_safe_everywhere() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", "sort-42", "_x.Y-9", "7", &longest] {
            assert!(check_request(&request(name)).is_ok(), "{name}");
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        for (name, part) in [
            ("", "needs a name"),
            (".", "starts with '.'"),
            ("..", "starts with '.'"),
            ("-x", "starts with '-'"),
            ("a/b", "contains '/'"),
            ("a b", "contains ' '"),
            ("a\n", "contains '\\n'"),
            ("\u{e4}", "contains '\u{e4}'"),
            ("x\0", "contains '\\0'"),
            (&too_long, "129 bytes"),
        ] {
            let sentence = check_request(&request(name)).expect_err(name).to_string();
            assert!(sentence.contains(part), "{name:?}: {sentence}");
        }
    }

    #[test]
    fn absurd_hints_are_named_with_the_fix() {
        for (hints, parts) in [
            (
                Hints {
                    max_tasks: Some(0),
                    ..Hints::default()
                },
                ["hint max-tasks is 0", "leave the hint out"],
            ),
            (
                Hints {
                    max_tasks: Some(u32::MAX),
                    ..Hints::default()
                },
                ["hint max-tasks is 4294967295", "at most 1000000"],
            ),
            (
                Hints {
                    capacity_bytes: Some(0),
                    ..Hints::default()
                },
                ["hint capacity is 0B", "at least 4KiB"],
            ),
            (
                Hints {
                    capacity_bytes: Some(u64::MAX),
                    ..Hints::default()
                },
                ["hint capacity is", "at most 8192TiB"],
            ),
            (
                Hints {
                    bandwidth_bytes_per_second: Some(0),
                    ..Hints::default()
                },
                ["hint bandwidth is 0", "as 8Gb/s"],
            ),
            (
                Hints {
                    bandwidth_bytes_per_second: Some(u64::MAX),
                    ..Hints::default()
                },
                ["hint bandwidth is", "at most"],
            ),
            (
                Hints {
                    task_capacity_bytes: Some(1 << 30),
                    ..Hints::default()
                },
                [
                    "hint task-capacity is of each task",
                    "give max-tasks as well",
                ],
            ),
            (
                Hints {
                    max_tasks: Some(1_000),
                    task_bandwidth_bytes_per_second: Some(u64::MAX),
                    ..Hints::default()
                },
                ["hint task-bandwidth of", "for each of 1000 tasks"],
            ),
            (
                Hints {
                    max_tasks: Some(1),
                    task_bandwidth_bytes_per_second: Some(0),
                    ..Hints::default()
                },
                ["hint task-bandwidth is 0", "leave the hint out"],
            ),
        ] {
            let error = check_request(&with_hints(hints)).expect_err("absurd");
            let sentence = error.to_string();
            for part in parts {
                assert!(sentence.contains(part), "{part}: {sentence}");
            }
            assert_eq!(Failure::from(error).status, Status::Invalid);
        }
    }

    #[test]
    fn absurd_terms_are_refused() {
        for (request, part) in [
            (
                RegisterJobRequest {
                    lease_seconds: u64::MAX,
                    ..request("x")
                },
                "--keep",
            ),
            (
                RegisterJobRequest {
                    block_bytes: 5_000,
                    ..request("x")
                },
                "power of two",
            ),
            (
                RegisterJobRequest {
                    protocol_version: 99,
                    ..request("x")
                },
                "same release",
            ),
        ] {
            let sentence = check_request(&request).expect_err(part).to_string();
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let terms = check_request(&request("x")).expect("makes sense");
        assert_eq!(terms.block_bytes, BlockBytes::DEFAULT);
        assert_eq!(terms.lease, Lease::new(60, false));
        assert_eq!(terms.profile, "x");
        let other = RegisterJobRequest {
            profile: "nightly".to_owned(),
            ..request("x")
        };
        assert_eq!(
            check_request(&other).expect("makes sense").profile,
            "nightly"
        );
        let strange = RegisterJobRequest {
            profile: "a/b".to_owned(),
            ..request("x")
        };
        assert!(check_request(&strange).is_err());
        assert_eq!(terms.hints, Hints::default());
    }
}
