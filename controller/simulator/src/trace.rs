//! Traces: which jobs come when, and what they turn out to need. A text format, a line each:
//!
//! ```text
//! pocket-trace 1                      first line
//! # a comment; blank lines are fine
//! set servers-max 5000                a setting of the scenario (see `Scenario::set`)
//! ran nightly capacity=10GB bandwidth=3GB/s object=1600KB     an earlier run of a profile
//! job nightly-7 at=12s for=60s tasks=100 capacity=10GB bandwidth=3GB/s object=1600KB latency=no shape=shuffle profile=nightly
//! ```
//!
//! `at` is when the job registers, `for` how long it takes when nothing holds it back, `capacity`
//! and `bandwidth` its true peaks, `object` the mean size of what it writes, `latency` whether it
//! would call itself latency sensitive, `shape` one of shuffle, stream and steady. `object`
//! (1600KB), `latency` (yes), `shape` (shuffle) and `profile` (the name) may be left out. Jobs are
//! in order of `at`. Times are whole or with up to three decimals, as 1.5s; no number is negative.

use std::{collections::HashMap, fmt, str::FromStr};

use pocket_policy::{Needs, Run, check_name, check_profile};
use pocket_proto::{Bandwidth, ByteCount, ParseUnitError};
use thiserror::Error;

const HEAD: &str = "pocket-trace 1";
/// Jobs of a trace; more would take minutes.
const JOBS_MAX: usize = 1_000_000;
/// Ten days.
const TIME_MS_MAX: u64 = 864_000_000;
/// As the controller accepts.
const TASKS_MAX: u32 = 1_000_000;
const CAPACITY_BYTES_MAX: u64 = 1 << 53;
const BYTES_PER_SECOND_MAX: u64 = 125_000_000_000_000;
/// The median of the paper's sort.
const OBJECT_BYTES: u64 = 1_600_000;

/// How a job uses what it needs over its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Writes everything, computes, reads it again: sort, map and reduce.
    Shuffle,
    /// Stages that hand on: video, compile. Throughput comes in waves.
    Stream,
    /// The same from beginning to end.
    Steady,
}

/// A job of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceJob {
    /// Unique.
    pub name: String,
    /// Whose earlier runs it is like.
    pub profile: String,
    /// When it registers: milliseconds.
    pub at_ms: u64,
    /// How long it takes when nothing holds it back: milliseconds.
    pub runs_ms: u64,
    /// Tasks at once.
    pub tasks: u32,
    /// Its true peaks.
    pub peak: Needs,
    /// Mean size of what it writes.
    pub object_bytes: u64,
    /// Whether it would call itself latency sensitive.
    pub latency_sensitive: bool,
    /// How it uses them.
    pub shape: Shape,
}

/// A setting of the scenario.
#[derive(Clone, Debug)]
pub struct Setting {
    /// See `Scenario::set`.
    pub name: String,
    /// As it was written.
    pub value: String,
    /// The line of the trace that says so; `None` if another said it.
    pub line: Option<usize>,
}

/// Where it stands does not matter.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.value) == (&other.name, &other.value)
    }
}

impl Eq for Setting {}

/// A trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Settings of the scenario, in order.
    pub settings: Vec<Setting>,
    /// Runs before the trace begins.
    pub ran: Vec<(String, Run)>,
    /// In order of arrival.
    pub jobs: Vec<TraceJob>,
}

/// What is wrong with a trace, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("trace, line {line}{}: {reason}", if field.is_empty() { String::new() } else { format!(", {field}") })]
pub struct TraceError {
    /// Counted from 1.
    pub line: usize,
    /// Which part of it; empty for all of it.
    pub field: String,
    /// What is wrong and how to put it right.
    pub reason: String,
}

impl Trace {
    /// A setting after those of the trace, which it overrides.
    pub fn push_setting(&mut self, name: &str, value: &str) {
        self.settings.push(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            line: None,
        });
    }
}

impl FromStr for Trace {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut trace = Trace::default();
        let mut lines = (1..).zip(text.lines());
        match lines.next() {
            Some((_, head)) if head.trim() == HEAD => {}
            _ => {
                let reason = format!("a trace begins with '{HEAD}': write that first");
                return Err(wrong(1, "", reason));
            }
        }
        let mut names: HashMap<String, usize> = HashMap::new();
        for (line, text) in lines {
            let code = text.split('#').next().unwrap_or_default();
            let mut words = code.split_whitespace();
            match words.next() {
                None => {}
                Some("set") => {
                    let setting = setting(line, words)?;
                    let mut before = trace.settings.iter();
                    if let Some(first) = before.find(|other| other.name == setting.name) {
                        let reason = format!(
                            "line {} has set it already: remove one",
                            first.line.unwrap_or_default()
                        );
                        return Err(wrong(line, &format!("set {}", setting.name), reason));
                    }
                    trace.settings.push(setting);
                }
                Some("ran") => trace.ran.push(earlier_run(line, words)?),
                Some("job") => {
                    let job = job(line, words)?;
                    if trace.jobs.last().is_some_and(|last| last.at_ms > job.at_ms) {
                        let reason = "it comes before the job above: sort the jobs by 'at'";
                        return Err(wrong(line, "at", reason));
                    }
                    if let Some(first) = names.insert(job.name.clone(), line) {
                        let reason = format!(
                            "line {first} has a job of this name: give each its own, and runs of \
                             the same profile= what they share"
                        );
                        return Err(wrong(line, "name", reason));
                    }
                    trace.jobs.push(job);
                }
                Some(word) => {
                    let reason = format!("'{word:.40}' is not known: begin with set, ran or job");
                    return Err(wrong(line, "", reason));
                }
            }
            if trace.jobs.len() > JOBS_MAX {
                let reason = format!("more than {JOBS_MAX} jobs: split the trace");
                return Err(wrong(line, "", reason));
            }
        }
        Ok(trace)
    }
}

fn setting<'a>(
    line: usize,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Setting, TraceError> {
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some(value), None) => Ok(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            line: Some(line),
        }),
        _ => Err(wrong(line, "", "write a setting as: set NAME VALUE")),
    }
}

fn earlier_run<'a>(
    line: usize,
    words: impl Iterator<Item = &'a str>,
) -> Result<(String, Run), TraceError> {
    let mut fields = Fields::read(line, words)?;
    let run = Run {
        capacity_bytes: fields.capacity()?,
        bytes_per_second: fields.bandwidth()?,
        object_bytes: fields.object()?,
    };
    let name = std::mem::take(&mut fields.name);
    fields.end()?;
    Ok((name, run))
}

fn job<'a>(line: usize, words: impl Iterator<Item = &'a str>) -> Result<TraceJob, TraceError> {
    let mut fields = Fields::read(line, words)?;
    let job = TraceJob {
        at_ms: fields.time("at")?,
        runs_ms: fields.duration("for")?,
        tasks: fields.tasks()?,
        peak: Needs {
            capacity_bytes: fields.capacity()?,
            bytes_per_second: fields.bandwidth()?,
        },
        object_bytes: fields.object()?,
        latency_sensitive: match fields.optional("latency").as_deref() {
            None | Some("yes") => true,
            Some("no") => false,
            Some(other) => {
                return Err(wrong(
                    line,
                    "latency",
                    format!("'{other}': write yes or no"),
                ));
            }
        },
        shape: match fields.optional("shape").as_deref() {
            None | Some("shuffle") => Shape::Shuffle,
            Some("stream") => Shape::Stream,
            Some("steady") => Shape::Steady,
            Some(other) => {
                let reason = format!("'{other}': write shuffle, stream or steady");
                return Err(wrong(line, "shape", reason));
            }
        },
        profile: fields.profile()?,
        name: std::mem::take(&mut fields.name),
    };
    fields.end()?;
    Ok(job)
}

/// The name and the `key=value` words of a line.
struct Fields {
    line: usize,
    name: String,
    values: Vec<(String, String)>,
}

impl Fields {
    fn read<'a>(line: usize, mut words: impl Iterator<Item = &'a str>) -> Result<Self, TraceError> {
        let name = words.next().unwrap_or_default().to_owned();
        check_name(&name).map_err(|error| wrong(line, "name", error.to_string()))?;
        let mut values: Vec<(String, String)> = Vec::new();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                let reason = format!("'{word:.40}' is not KEY=VALUE: correct or remove it");
                return Err(wrong(line, "", reason));
            };
            if values.iter().any(|(known, _)| known == key) {
                return Err(wrong(line, key, "given twice: remove one"));
            }
            values.push((key.to_owned(), value.to_owned()));
        }
        Ok(Fields { line, name, values })
    }

    fn optional(&mut self, key: &str) -> Option<String> {
        let at = self.values.iter().position(|(known, _)| known == key)?;
        Some(self.values.swap_remove(at).1)
    }

    fn needed(&mut self, key: &str, example: &str) -> Result<String, TraceError> {
        let line = self.line;
        let missing = || wrong(line, key, format!("is missing: give {key}={example}"));
        self.optional(key).ok_or_else(missing)
    }

    fn time(&mut self, key: &str) -> Result<u64, TraceError> {
        let text = self.needed(key, "60s")?;
        let reason = || {
            wrong(
                self.line,
                key,
                format!("'{text}' is not a time up to 10 days: write 60s or 1.5s"),
            )
        };
        let number = text.strip_suffix('s').ok_or_else(reason)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
            return Err(reason());
        }
        let seconds: u64 = whole.parse().map_err(|_| reason())?;
        let milliseconds: u64 = format!("{fraction:0<3}").parse().map_err(|_| reason())?;
        match seconds
            .checked_mul(1_000)
            .map(|ms| ms.saturating_add(milliseconds))
        {
            Some(ms) if ms <= TIME_MS_MAX => Ok(ms),
            _ => Err(reason()),
        }
    }

    fn duration(&mut self, key: &str) -> Result<u64, TraceError> {
        match self.time(key)? {
            0 => {
                let reason = "a job takes some time: give at least 0.001s";
                Err(wrong(self.line, key, reason))
            }
            ms => Ok(ms),
        }
    }

    fn profile(&mut self) -> Result<String, TraceError> {
        let Some(profile) = self.optional("profile") else {
            return Ok(self.name.clone());
        };
        match check_profile(&profile) {
            Ok(()) => Ok(profile),
            Err(error) => Err(wrong(self.line, "profile", error.to_string())),
        }
    }

    fn tasks(&mut self) -> Result<u32, TraceError> {
        let text = self.needed("tasks", "100")?;
        match text.parse() {
            Ok(tasks) if (1..=TASKS_MAX).contains(&tasks) => Ok(tasks),
            _ => {
                let reason = format!("'{text}' is not from 1 to {TASKS_MAX}: correct it");
                Err(wrong(self.line, "tasks", reason))
            }
        }
    }

    fn capacity(&mut self) -> Result<u64, TraceError> {
        let text = self.needed("capacity", "10GB")?;
        size(self.line, "capacity", &text)
    }

    fn object(&mut self) -> Result<u64, TraceError> {
        match self.optional("object") {
            None => Ok(OBJECT_BYTES),
            Some(text) => size(self.line, "object", &text),
        }
    }

    fn bandwidth(&mut self) -> Result<u64, TraceError> {
        let text = self.needed("bandwidth", "3GB/s")?;
        match text.parse() {
            Ok(Bandwidth { bytes_per_second }) if bytes_per_second <= BYTES_PER_SECOND_MAX => {
                Ok(bytes_per_second)
            }
            Ok(_) => Err(wrong(
                self.line,
                "bandwidth",
                format!("'{text}' is more than any cluster moves: give at most 1Pb/s"),
            )),
            Err(ParseUnitError::NoRate) => Err(wrong(
                self.line,
                "bandwidth",
                format!("'{text}' is nothing: give the peak of all tasks together, as 3GB/s"),
            )),
            Err(error) => Err(wrong(self.line, "bandwidth", error.to_string())),
        }
    }

    fn end(self) -> Result<(), TraceError> {
        match self.values.first() {
            None => Ok(()),
            Some((key, _)) => Err(wrong(self.line, key, "is not known: correct or remove it")),
        }
    }
}

fn size(line: usize, field: &str, text: &str) -> Result<u64, TraceError> {
    match text.parse() {
        Ok(ByteCount(bytes)) if (1..=CAPACITY_BYTES_MAX).contains(&bytes) => Ok(bytes),
        Ok(_) => {
            let most = ByteCount(CAPACITY_BYTES_MAX);
            Err(wrong(
                line,
                field,
                format!("'{text}' is not from 1B to {most}: correct it"),
            ))
        }
        Err(error) => Err(wrong(line, field, error.to_string())),
    }
}

fn wrong(line: usize, field: &str, reason: impl Into<String>) -> TraceError {
    TraceError {
        line,
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// As it is read.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for Setting { name, value, .. } in &self.settings {
            writeln!(f, "set {name} {value}")?;
        }
        for (profile, run) in &self.ran {
            writeln!(
                f,
                "ran {profile} capacity={}B bandwidth={}B/s object={}B",
                run.capacity_bytes, run.bytes_per_second, run.object_bytes
            )?;
        }
        self.jobs.iter().try_for_each(|job| writeln!(f, "{job}"))
    }
}

impl fmt::Display for TraceJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| match ms % 1_000 {
            0 => format!("{}s", ms / 1_000),
            rest => format!("{}.{rest:03}s", ms / 1_000),
        };
        let latency = if self.latency_sensitive { "yes" } else { "no" };
        let shape = match self.shape {
            Shape::Shuffle => "shuffle",
            Shape::Stream => "stream",
            Shape::Steady => "steady",
        };
        write!(
            f,
            "job {} at={} for={} tasks={} capacity={}B bandwidth={}B/s object={}B \
             latency={latency} shape={shape} profile={}",
            self.name,
            seconds(self.at_ms),
            seconds(self.runs_ms),
            self.tasks,
            self.peak.capacity_bytes,
            self.peak.bytes_per_second,
            self.object_bytes,
            self.profile
        )
    }
}

#[cfg(test)]
mod tests;
