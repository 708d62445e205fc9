//! The command line of `pocket-mount`, and of the same program called as `mount.pocket`.
//!
//! Both come to one [`MountRequest`]: what to mount, where and how. Nothing is done here.

mod helper;
mod hints;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use clap::{ArgAction, Parser, error::ErrorKind};
use pocket_policy::{RequestError, check_name};
use pocket_proto::ByteCount;
use thiserror::Error;

pub(crate) use hints::{HintArguments, JobArguments};

use crate::{
    endpoint::ControllerAddress,
    options::{MountOptions, OptionError},
    units::{parse_block_bytes, parse_capacity, parse_lease, parse_ttl, parse_wait},
};

const EXAMPLES: &str = "\
Examples:
  pocket-mount sort-42 /pocket/sort-42 --max-tasks 100 --capacity 10GiB
      Mount job sort-42 with a cluster inside this process: the quickest way to try Pocket.
      The output tells how another directory on this host joins the job.

  pocket-mount sort-42 /pocket/sort-42 --controller 10.0.0.5:7300 --bandwidth 8Gb/s
      Join job sort-42 of a cluster, or create it with these hints.

  mount -t pocket -o controller=10.0.0.5:7300,capacity=10GiB sort-42 /pocket/sort-42
      The same through mount(8); or as a line of /etc/fstab:
      sort-42  /pocket/sort-42  pocket  controller=10.0.0.5:7300,nofail,_netdev  0 0

  pocket-mount results /pocket/results --controller 10.0.0.5:7300 --persist --ttl 7d
  pocket-mount results /mnt/results --controller 10.0.0.5:7300 --attach
      A job whose files are found again for 7 days after its last mount.

  umount /pocket/sort-42
      Leave the job. When its last mount has been gone for the lease time, its data are gone.

Mount options (-o): ro, rw, allow_other, auto_unmount, noacl, nobtime, suid, dev, noexec,
noatime, noac, fsname=NAME, subtype=NAME, uid=N, gid=N, umask=OCTAL, and every long flag that
describes the job, with underscores: capacity=SIZE, max_tasks=N, controller=HOST:PORT, keep, ...

Exit codes, as of mount(8): 1 wrong usage, 2 system error, 32 the mount failed.
Signals: INT and TERM flush, unmount and exit; USR2 cycles the log level.";

const MOUNT_HEADING: &str = "The mount";

/// Mounts a job's files on a directory. Every program in every container that mounts the same job
/// shares them; they live as long as the job.
#[derive(Debug, Parser)]
#[command(
    name = "pocket-mount",
    version,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Arguments {
    /// The job's name; joined where it exists, created where not
    #[arg(value_name = "JOB")]
    job: String,

    /// An existing directory
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,

    /// The cluster's controller; without one a whole cluster runs inside this process
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_CONTROLLER")]
    controller: Option<ControllerAddress>,

    #[command(flatten)]
    job_arguments: JobArguments,

    /// Attach to a job that exists, a persistent one for instance; fail where there is none
    #[arg(long, visible_alias = "attach")]
    existing: bool,

    /// Memory for buffers and caches of this mount
    #[arg(
        long,
        value_name = "SIZE",
        env = "POCKET_MEMORY_BUDGET",
        value_parser = parse_capacity,
        help_heading = MOUNT_HEADING
    )]
    memory_budget: Option<ByteCount>,

    /// Mount options, separated by commas (see below)
    #[arg(
        short = 'o',
        value_name = "OPTIONS",
        action = ArgAction::Append,
        help_heading = MOUNT_HEADING
    )]
    options: Vec<String>,

    /// Stay in the foreground, and log to the terminal
    #[arg(short, long, help_heading = MOUNT_HEADING)]
    foreground: bool,

    /// Where a mount in the background logs to; nowhere unless given
    #[arg(
        long,
        value_name = "FILE",
        env = "POCKET_LOG_FILE",
        help_heading = MOUNT_HEADING
    )]
    log_file: Option<PathBuf>,

    /// Serve this mount's metrics for Prometheus here, at /metrics; port 0 takes any free one
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "POCKET_METRICS",
        help_heading = MOUNT_HEADING
    )]
    metrics: Option<String>,

    /// Log more; twice for every request
    #[arg(short, long, action = ArgAction::Count, help_heading = MOUNT_HEADING)]
    verbose: u8,

    /// Storage servers of the cluster inside this process
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=64),
        conflicts_with = "controller",
        help_heading = MOUNT_HEADING
    )]
    embedded_servers: u16,
}

/// What to mount, where and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MountRequest {
    /// The job's name.
    pub(crate) job: String,
    /// The directory, as it was given.
    pub(crate) mountpoint: PathBuf,
    /// The cluster; none: one inside this process.
    pub(crate) controller: Option<ControllerAddress>,
    /// Hints and life of the job.
    pub(crate) terms: JobArguments,
    /// Join only.
    pub(crate) existing: bool,
    /// Bytes for buffers and caches; none: the file system's default.
    pub(crate) memory_budget: Option<ByteCount>,
    /// What stands behind `-o`.
    pub(crate) options: MountOptions,
    /// Do not go into the background.
    pub(crate) foreground: bool,
    /// Where a mount in the background logs to.
    pub(crate) log_file: Option<PathBuf>,
    /// Where to serve metrics; nowhere unless given.
    pub(crate) metrics: Option<String>,
    /// How often `-v` was given.
    pub(crate) verbosity: u8,
    /// Storage servers of a cluster inside this process.
    pub(crate) embedded_servers: u16,
    /// `mount -f`: check everything, mount nothing.
    pub(crate) dry_run: bool,
}

/// What a command line comes to when it is not a request.
#[derive(Debug, Error)]
pub(crate) enum ArgumentError {
    /// Help or the version was asked for, or clap found a mistake; it prints itself.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// An option behind `-o` is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A setting given as option has a wrong value.
    #[error("mount option {name}={value}: {reason}")]
    Setting {
        /// The option.
        name: String,
        /// As it was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A time to live without what it is for.
    #[error("--ttl is how long a job persists: give --persist as well, or --lease instead")]
    TtlAlone,
    /// No job can be so: hints, each in range or together, or names.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The mount helper was called in a way mount(8) never does.
    #[error("{0}\nusage: mount.pocket JOB MOUNTPOINT [-sfnv] [-o OPTIONS]")]
    Helper(String),
}

impl ArgumentError {
    /// Whether help or the version was asked for, which is no mistake.
    pub(crate) fn is_help(&self) -> bool {
        matches!(self, ArgumentError::Clap(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion))
    }
}

impl MountRequest {
    /// Reads a command line, the program's name first: `mount.pocket` is mount(8)'s helper, any
    /// other name `pocket-mount`.
    pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Self, ArgumentError> {
        let program = arguments.first().map(Path::new).and_then(Path::file_name);
        match program == Some(OsStr::new("mount.pocket")) {
            true => helper::parse(&arguments[1..]),
            false => Arguments::try_parse_from(arguments)?.into_request(),
        }
    }

    fn take_settings(&mut self) -> Result<(), ArgumentError> {
        let options = self.options.clone();
        let terms = &mut self.terms;
        let hints = &mut terms.hints;
        fill(&mut self.controller, &options, "controller", |text| {
            text.parse()
        })?;
        fill(&mut hints.capacity, &options, "capacity", parse_capacity)?;
        fill(&mut hints.bandwidth, &options, "bandwidth", |text| {
            text.parse()
        })?;
        fill(
            &mut hints.task_capacity,
            &options,
            "task_capacity",
            parse_capacity,
        )?;
        fill(
            &mut hints.task_bandwidth,
            &options,
            "task_bandwidth",
            |text| text.parse(),
        )?;
        fill(&mut terms.profile, &options, "profile", |text| {
            text.parse::<String>()
        })?;
        fill(
            &mut hints.max_tasks,
            &options,
            "max_tasks",
            hints::parse_tasks,
        )?;
        fill(
            &mut hints.latency_sensitive,
            &options,
            "latency_sensitive",
            |text| text.parse::<bool>(),
        )?;
        if options.setting("latency_sensitive") == Some(None) {
            hints.latency_sensitive.get_or_insert(true);
        }
        fill(&mut terms.lease, &options, "lease", parse_lease)?;
        fill(
            &mut terms.block_size,
            &options,
            "block_size",
            parse_block_bytes,
        )?;
        fill(
            &mut self.memory_budget,
            &options,
            "memory_budget",
            parse_capacity,
        )?;
        fill(&mut self.log_file, &options, "log_file", |text| {
            text.parse::<PathBuf>()
        })?;
        fill(&mut self.metrics, &options, "metrics", |text| {
            text.parse::<String>()
        })?;
        fill(
            &mut terms.hints.max_capacity,
            &options,
            "max_capacity",
            parse_capacity,
        )?;
        fill(&mut terms.ttl, &options, "ttl", parse_ttl)?;
        fill(&mut terms.wait, &options, "wait", parse_wait)?;
        terms.keep |= options.setting("keep").is_some();
        terms.persist |= options.setting("persist").is_some();
        terms.delete_after_read |= options.setting("delete_after_read").is_some();
        self.existing |= options.setting("existing").is_some();
        self.existing |= options.setting("attach").is_some();
        terms.check()?;
        check_name(&self.job)?;
        Ok(())
    }
}

/// Takes a setting from the options where no flag gave it.
fn fill<T, E: std::fmt::Display>(
    field: &mut Option<T>,
    options: &MountOptions,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), ArgumentError> {
    if let Some(Some(value)) = options.setting(name) {
        let parsed = parse(value).map_err(|error| ArgumentError::Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: error.to_string(),
        })?;
        field.get_or_insert(parsed);
    }
    Ok(())
}

impl Arguments {
    fn into_request(self) -> Result<MountRequest, ArgumentError> {
        let mut request = MountRequest {
            job: self.job,
            mountpoint: self.mountpoint,
            controller: self.controller,
            terms: self.job_arguments,
            existing: self.existing,
            memory_budget: self.memory_budget,
            options: MountOptions::parse(&self.options)?,
            foreground: self.foreground,
            log_file: self.log_file,
            metrics: self.metrics,
            verbosity: self.verbose,
            embedded_servers: self.embedded_servers,
            dry_run: false,
        };
        request.take_settings()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
