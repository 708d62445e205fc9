//! What a registration may say. Whatever makes no sense is refused with a sentence that names it
//! and tells the fix.

use pocket_proto::{
    Bandwidth, BlockBytes, ByteCount, Failure, PROTOCOL_VERSION, ParseUnitError, Status,
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
    #[error("{0} '' is empty: use 1 to {NAME_BYTES_MAX} characters")]
    NameEmpty(&'static str),
    #[error("{0} of {1} bytes: use at most {NAME_BYTES_MAX}")]
    NameTooLong(&'static str, usize),
    #[error("{0} '{1}' starts with '{2}': start with a letter, a digit or '_'")]
    NameStart(&'static str, String, char),
    #[error("{0} '{1}' contains {2:?}: use letters, digits, '.', '_' and '-' only")]
    NameCharacter(&'static str, String, char),
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
        "the hint max-capacity says what a job must not outgrow, but not what it needs: hint a \
         capacity as well"
    )]
    MostAlone,
    #[error(
        "the hint max-capacity is {}, more than any cluster holds: give at most {}, or leave it out",
        ByteCount(*.0), ByteCount(CAPACITY_BYTES_MAX)
    )]
    MostTooLarge(u64),
    #[error(
        "the hint max-capacity is {}, less than the capacity of {}: give as much or more",
        ByteCount(*.0), ByteCount(*.1)
    )]
    MostTooSmall(u64, u64),
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
         give at most {most} in all, or leave the hint out"
    )]
    PerTaskTooMuch {
        hint: &'static str,
        each: String,
        tasks: u32,
        most: String,
    },
    #[error(
        "the hint {hint} of {each} for each of {tasks} tasks is {all} in all, in which nothing gets \
         done: give at least {least} in all, or leave the hint out"
    )]
    PerTaskTooLittle {
        hint: &'static str,
        each: String,
        tasks: u32,
        all: String,
        least: String,
    },
    #[error(
        "the hint {hint} is {each} for a task, but the hint {total} only {all} for all of them: \
         correct one of them, or leave one out"
    )]
    Contradiction {
        hint: &'static str,
        each: String,
        total: &'static str,
        all: String,
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
    check_profile(profile)?;
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
    check("job name", name)
}

/// Those of profiles are like those of jobs.
pub fn check_profile(name: &str) -> Result<(), RequestError> {
    check("profile", name)
}

fn check(what: &'static str, name: &str) -> Result<(), RequestError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(RequestError::NameTooLong(what, name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(stray) = name.chars().find(|&c| !allowed(c)) {
        return Err(RequestError::NameCharacter(what, name.to_owned(), stray));
    }
    match name.chars().next() {
        None => Err(RequestError::NameEmpty(what)),
        Some(first @ ('.' | '-')) => Err(RequestError::NameStart(what, name.to_owned(), first)),
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
    check_most(hints)?;
    match hints.bandwidth_bytes_per_second {
        Some(rate) if rate < BANDWIDTH_MIN => return Err(RequestError::BandwidthTooSmall(rate)),
        Some(rate) if rate > BANDWIDTH_MAX => return Err(RequestError::BandwidthTooLarge(rate)),
        _ => {}
    }
    PerTask {
        hint: "task-capacity",
        each: hints.task_capacity_bytes,
        total: "capacity",
        all: hints.capacity_bytes,
        range: (CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX),
        text: |bytes| ByteCount(bytes).to_string(),
    }
    .check(hints.max_tasks)?;
    PerTask {
        hint: "task-bandwidth",
        each: hints.task_bandwidth_bytes_per_second,
        total: "bandwidth",
        all: hints.bandwidth_bytes_per_second,
        range: (BANDWIDTH_MIN, BANDWIDTH_MAX),
        text: |rate| {
            Bandwidth {
                bytes_per_second: rate,
            }
            .to_string()
        },
    }
    .check(hints.max_tasks)
}

/// The most that the job may come to hold is more than what it is given at first.
fn check_most(hints: &Hints) -> Result<(), RequestError> {
    let Some(most) = hints.capacity_bytes_max else {
        return Ok(());
    };
    let each = || {
        Some(
            hints
                .task_capacity_bytes?
                .saturating_mul(hints.max_tasks?.into()),
        )
    };
    match hints.capacity_bytes.or_else(each) {
        None => Err(RequestError::MostAlone),
        Some(_) if most > CAPACITY_BYTES_MAX => Err(RequestError::MostTooLarge(most)),
        Some(capacity) if most < capacity => Err(RequestError::MostTooSmall(most, capacity)),
        Some(_) => Ok(()),
    }
}

/// A hint of each task, beside that of all of them.
struct PerTask {
    hint: &'static str,
    each: Option<u64>,
    total: &'static str,
    all: Option<u64>,
    /// Of all tasks together.
    range: (u64, u64),
    text: fn(u64) -> String,
}

impl PerTask {
    fn check(self, tasks: Option<u32>) -> Result<(), RequestError> {
        let (hint, text) = (self.hint, self.text);
        let (least, most) = self.range;
        let Some(each) = self.each else {
            return Ok(());
        };
        let Some(tasks) = tasks else {
            return Err(RequestError::PerTaskWithoutTasks(hint));
        };
        if each == 0 {
            return Err(RequestError::PerTaskNothing(hint));
        }
        let all = each.checked_mul(tasks.into());
        let Some(all) = all.filter(|all| *all <= most) else {
            return Err(RequestError::PerTaskTooMuch {
                hint,
                each: text(each),
                tasks,
                most: text(most),
            });
        };
        if all < least {
            return Err(RequestError::PerTaskTooLittle {
                hint,
                each: text(each),
                tasks,
                all: text(all),
                least: text(least),
            });
        }
        // That all tasks need their most at once is not said, but one of them may.
        match self.all {
            Some(total) if total < each => Err(RequestError::Contradiction {
                hint,
                each: text(each),
                total: self.total,
                all: text(total),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
