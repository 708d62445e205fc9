//! What a user says about a job, as flags shared by all commands that may create one.

use std::time::Duration;

use clap::{ArgAction, Args};
use pocket_policy::{check_hints, check_profile};
use pocket_proto::{Bandwidth, BlockBytes, ByteCount, control::Hints};

use super::ArgumentError;
use crate::{
    connection::JobTerms,
    units::{parse_block_bytes, parse_capacity, parse_lease, parse_ttl, parse_wait},
};

/// How long a job waits in the queue where nobody says: a machine starts in less, and a script fails
/// before its user gives up.
const QUEUE_WAIT: Duration = Duration::from_secs(60);

/// Hints: what the job will need. The controller sizes the job from them; all may be left out.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct HintArguments {
    /// Tasks that will use the job at once
    #[arg(long, value_name = "N", env = "POCKET_MAX_TASKS", value_parser = parse_tasks, allow_negative_numbers = true)]
    pub(crate) max_tasks: Option<u32>,

    /// Bytes that the job will hold, as 10GiB; if it comes to need more it gets more, where there is room
    #[arg(long, value_name = "SIZE", env = "POCKET_CAPACITY", value_parser = parse_capacity, allow_hyphen_values = true)]
    pub(crate) capacity: Option<ByteCount>,

    /// Bytes that the job must not outgrow: the write that would fails [default: ten times its capacity]
    #[arg(long, value_name = "SIZE", env = "POCKET_MAX_CAPACITY", value_parser = parse_capacity, allow_hyphen_values = true)]
    pub(crate) max_capacity: Option<ByteCount>,

    /// Rate of all tasks together at its peak, as 8Gb/s (bits) or 1GB/s (bytes)
    #[arg(
        long,
        value_name = "RATE",
        env = "POCKET_BANDWIDTH",
        allow_hyphen_values = true
    )]
    pub(crate) bandwidth: Option<Bandwidth>,

    /// Bytes that each task will hold at most: counts times --max-tasks where --capacity is not given
    #[arg(long, value_name = "SIZE", env = "POCKET_TASK_CAPACITY", value_parser = parse_capacity, allow_hyphen_values = true)]
    pub(crate) task_capacity: Option<ByteCount>,

    /// Rate of each task at its peak: counts times --max-tasks where --bandwidth is not given
    #[arg(
        long,
        value_name = "RATE",
        env = "POCKET_TASK_BANDWIDTH",
        allow_hyphen_values = true
    )]
    pub(crate) task_bandwidth: Option<Bandwidth>,

    /// Whether short waits matter to the job: the fastest media first
    #[arg(
        long,
        value_name = "BOOL",
        env = "POCKET_LATENCY_SENSITIVE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    pub(crate) latency_sensitive: Option<bool>,
}

/// Hints, and how long the job lives.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "The job, where it is created")]
pub(crate) struct JobArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub(crate) hints: HintArguments,

    /// How long the job outlives its last mount, as 60s, 5m or 2h [default: 60s]
    #[arg(long, value_name = "TIME", env = "POCKET_LEASE", value_parser = parse_lease, allow_hyphen_values = true)]
    pub(crate) lease: Option<Duration>,

    /// Whose earlier runs stand in for missing hints [default: the job's name]
    #[arg(long, value_name = "NAME", env = "POCKET_PROFILE")]
    pub(crate) profile: Option<String>,

    /// How long the job may wait in the queue where there is no room, as 30s, 10m or 2h [default: 60s]
    #[arg(long, value_name = "TIME", env = "POCKET_WAIT", value_parser = parse_wait, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// Leave the job alive without a mount, until `pocket job deregister`
    #[arg(long)]
    pub(crate) keep: bool,

    /// Leave the job to be found again: it outlives its last mount by --ttl, and whoever mounts a job
    /// of its name until then has its files
    #[arg(long, conflicts_with_all = ["keep", "lease"])]
    pub(crate) persist: bool,

    /// How long a job with --persist outlives its last mount, as 12h or 7d [default: 1d]
    #[arg(long, value_name = "TIME", requires = "persist", value_parser = parse_ttl, allow_hyphen_values = true)]
    pub(crate) ttl: Option<Duration>,

    /// Free each file when it is closed after it was read to the end, on whatever mount
    #[arg(long)]
    pub(crate) delete_after_read: bool,

    /// Bytes of a block, a power of two from 4KiB to 16MiB [default: 1MiB]
    #[arg(long, value_name = "SIZE", env = "POCKET_BLOCK_SIZE", value_parser = parse_block_bytes, allow_hyphen_values = true)]
    pub(crate) block_size: Option<BlockBytes>,
}

impl HintArguments {
    /// The hints for the wire.
    pub(crate) fn to_message(&self) -> Hints {
        Hints {
            latency_sensitive: self.latency_sensitive,
            max_tasks: self.max_tasks,
            capacity_bytes: self.capacity.map(|capacity| capacity.0),
            capacity_bytes_max: self.max_capacity.map(|capacity| capacity.0),
            bandwidth_bytes_per_second: self.bandwidth.map(|rate| rate.bytes_per_second),
            task_capacity_bytes: self.task_capacity.map(|capacity| capacity.0),
            task_bandwidth_bytes_per_second: self.task_bandwidth.map(|rate| rate.bytes_per_second),
        }
    }
}

impl JobArguments {
    /// Checks what a controller would refuse, whatever cluster there is; and a time to live is that of a
    /// job that persists.
    pub(super) fn check(&self) -> Result<(), ArgumentError> {
        if self.ttl.is_some() && !self.persist {
            return Err(ArgumentError::TtlAlone);
        }
        check_hints(&self.hints.to_message())?;
        if let Some(profile) = &self.profile {
            check_profile(profile)?;
        }
        Ok(())
    }

    /// How long it waits for room.
    pub(crate) fn queue_wait(&self) -> Duration {
        self.wait.unwrap_or(QUEUE_WAIT)
    }

    /// The terms for a job of that name, to be joined or created.
    pub(crate) fn to_terms(&self, name: &str) -> JobTerms {
        JobTerms {
            name: name.to_owned(),
            hints: self.hints.to_message(),
            profile: self.profile.clone().unwrap_or_default(),
            lease: if self.persist { self.ttl } else { self.lease },
            keep: self.keep,
            persist: self.persist,
            delete_after_read: self.delete_after_read,
            block_bytes: self.block_size,
            existing_only: false,
            wait: self.queue_wait(),
        }
    }
}

/// Reads a number of tasks: one or more.
pub(super) fn parse_tasks(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(0) => Err("a job has at least 1 task".to_owned()),
        Ok(tasks) => Ok(tasks),
        Err(_) => Err(format!(
            "'{text}' is not a number of tasks: give 1 to 1000000"
        )),
    }
}
