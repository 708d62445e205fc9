//! What a metadata server counts, for collectors of metrics.

use std::sync::Arc;

use pocket_metrics::{ByCode, Counter, Histogram, Metric, Page, snake_case};
use pocket_proto::Status;
use pocket_proto::session::request;

use crate::environment::Environment;
use crate::jobs::Jobs;

/// Codes of failures are smaller.
const STATUSES: usize = 64;

const TOOK: Metric = Metric::histogram(
    "pocket_meta_operation_duration_seconds",
    &["operation"],
    "time from a request to its answer, waits for other mounts included",
);
const FAILED: Metric = Metric::counter(
    "pocket_meta_failures_total",
    "",
    &["status"],
    "requests that were answered with a failure",
);
const JOBS: Metric = Metric::gauge("pocket_meta_jobs", "", &[], "jobs whose names are here");
const SESSIONS: Metric = Metric::gauge("pocket_meta_sessions", "", &[], "sessions of mounts");
const INODES: Metric = Metric::gauge("pocket_meta_inodes", "", &[], "inodes of all jobs");
const ALLOCATED: Metric = Metric::gauge(
    "pocket_meta_allocated_bytes",
    "bytes",
    &[],
    "bytes that the files of all jobs hold on storage servers",
);
const LEASES: Metric = Metric::gauge(
    "pocket_meta_leased_objects",
    "",
    &[],
    "inodes and directories of which mounts have something leased",
);
const LOCKS_HELD: Metric =
    Metric::gauge("pocket_meta_locks_held", "", &[], "locked ranges of files");
const LOCKS_WAITING: Metric = Metric::gauge(
    "pocket_meta_locks_waiting",
    "",
    &[],
    "requests that wait for a lock",
);
const RECALLS: Metric = Metric::counter(
    "pocket_meta_recalls_total",
    "",
    &[],
    "recalls of leases sent to mounts",
);
const RECALLED: Metric = Metric::histogram(
    "pocket_meta_recall_duration_seconds",
    &[],
    "time until a mount had given back what was recalled",
);
const OVERDUE: Metric = Metric::counter(
    "pocket_meta_recalls_overdue_total",
    "",
    &[],
    "recalls that were waited for until the leases had lapsed",
);
const OPENED: Metric = Metric::counter(
    "pocket_meta_sessions_opened_total",
    "",
    &[],
    "sessions that mounts have opened",
);
const FENCED: Metric = Metric::counter(
    "pocket_meta_sessions_fenced_total",
    "",
    &[],
    "sessions that were ended because their mounts did not answer",
);

/// All of them, in the order of the page.
const METRICS: [Metric; 14] = [
    TOOK,
    FAILED,
    JOBS,
    SESSIONS,
    INODES,
    ALLOCATED,
    LEASES,
    LOCKS_HELD,
    LOCKS_WAITING,
    RECALLS,
    RECALLED,
    OVERDUE,
    OPENED,
    FENCED,
];

/// Kinds of requests, and what they are called.
macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// A kind of request.
        #[derive(Clone, Copy)]
        pub(crate) enum Kind {
            $($kind,)*
        }

        impl Kind {
            const NAMES: &[&str] = &[$($name,)*];

            /// That of a request.
            pub(crate) fn of(operation: &request::Operation) -> Self {
                match operation {
                    $(request::Operation::$kind(_) => Kind::$kind,)*
                }
            }
        }
    };
}

kinds! {
    Lookup "lookup",
    GetAttributes "get_attributes",
    SetAttributes "set_attributes",
    Create "create",
    CreateTemporary "create_temporary",
    MakeNode "make_node",
    Link "link",
    Rename "rename",
    Remove "remove",
    ReadLink "read_link",
    Open "open",
    Close "close",
    ReadDirectory "read_directory",
    SetXattr "set_xattr",
    GetXattr "get_xattr",
    ListXattr "list_xattr",
    RemoveXattr "remove_xattr",
    FileSystemStatus "file_system_status",
    GrantSpace "grant_space",
    Commit "commit",
    ReserveAppend "reserve_append",
    ReturnAppend "return_append",
    Relocate "relocate",
    GetWeightMap "get_weight_map",
    RecallDone "recall_done",
    SetLock "set_lock",
    GetLock "get_lock",
    ReleaseLocks "release_locks",
    CancelLock "cancel_lock",
    KeepAlive "keep_alive",
    Goodbye "goodbye",
    GrantInodes "grant_inodes",
    ShareDirectory "share_directory",
    RemoveTree "remove_tree",
    GetRemoval "get_removal",
}

/// What a server has done.
#[derive(Default)]
pub(crate) struct Counts {
    operations: ByCode<Histogram, { Kind::NAMES.len() }>,
    failures: ByCode<Counter, STATUSES>,
    pub(crate) recalls: Counter,
    pub(crate) recalled: Histogram,
    pub(crate) overdue: Counter,
    pub(crate) opened: Counter,
    pub(crate) fenced: Counter,
}

impl Counts {
    /// Counts an operation that took so long.
    pub(crate) fn answered(&self, kind: Kind, took: std::time::Duration) {
        self.operations.at(kind as usize).observe(took);
    }

    /// Counts an answer that tells a failure.
    pub(crate) fn failed(&self, status: Status) {
        self.failures.at(usize::from(status.code())).add(1);
    }

    /// Requests answered.
    pub(crate) fn operations(&self) -> u64 {
        let all = self.operations.iter();
        all.map(|(_, took)| took.read().count()).sum()
    }
}

/// What a job has now.
#[derive(Clone, Copy, Default)]
pub(crate) struct JobGauges {
    pub(crate) sessions: usize,
    pub(crate) inodes: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) leased_objects: usize,
    pub(crate) locks_held: usize,
    pub(crate) locks_waiting: usize,
}

/// The way to a server's figures, for as long as it lives.
#[derive(Clone)]
pub struct MetaMetrics {
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) environment: Arc<Environment>,
}

impl MetaMetrics {
    /// The page.
    pub fn page(&self) -> Page {
        let mut page = Page::new();
        METRICS.iter().for_each(|metric| page.declare(metric));
        let counts = &self.environment.counts;
        for (code, took) in counts.operations.iter() {
            let took = took.read();
            if took.count() > 0 {
                page.add_distribution(&TOOK, &[Kind::NAMES[code]], took);
            }
        }
        for (code, count) in counts.failures.iter() {
            if count.get() > 0 {
                let status = snake_case(&format!("{:?}", Status::from_code(code as u16)));
                page.add(&FAILED, &[&status], count.get() as f64);
            }
        }
        self.add_gauges(&mut page);
        page.add(&RECALLS, &[], counts.recalls.get() as f64);
        page.add_distribution(&RECALLED, &[], counts.recalled.read());
        page.add(&OVERDUE, &[], counts.overdue.get() as f64);
        page.add(&OPENED, &[], counts.opened.get() as f64);
        page.add(&FENCED, &[], counts.fenced.get() as f64);
        page
    }

    fn add_gauges(&self, page: &mut Page) {
        let jobs = self.jobs.all();
        let mut sum = JobGauges::default();
        for gauges in jobs.iter().map(|job| job.gauges()) {
            sum.sessions += gauges.sessions;
            sum.inodes += gauges.inodes;
            sum.allocated_bytes += gauges.allocated_bytes;
            sum.leased_objects += gauges.leased_objects;
            sum.locks_held += gauges.locks_held;
            sum.locks_waiting += gauges.locks_waiting;
        }
        for (metric, value) in [
            (&JOBS, jobs.len() as f64),
            (&SESSIONS, sum.sessions as f64),
            (&INODES, sum.inodes as f64),
            (&ALLOCATED, sum.allocated_bytes as f64),
            (&LEASES, sum.leased_objects as f64),
            (&LOCKS_HELD, sum.locks_held as f64),
            (&LOCKS_WAITING, sum.locks_waiting as f64),
        ] {
            page.add(metric, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::blocks::NoBlocks;

    fn metrics() -> MetaMetrics {
        let environment = Environment::new(Arc::new(NoBlocks), CancellationToken::new());
        let second = Duration::from_secs(1);
        MetaMetrics {
            jobs: Arc::new(Jobs::new(second, second, Arc::clone(&environment))),
            environment,
        }
    }

    #[tokio::test]
    async fn operations_are_told_by_kind_and_failures_by_status() {
        let metrics = metrics();
        let counts = &metrics.environment.counts;
        let commit = Kind::of(&request::Operation::Commit(Default::default()));
        counts.answered(commit, Duration::from_micros(20));
        counts.answered(commit, Duration::from_micros(20));
        counts.failed(Status::JobGone);
        assert_eq!(counts.operations(), 2);
        let text = metrics.page().into_text();
        for line in [
            "pocket_meta_operation_duration_seconds_count{operation=\"commit\"} 2",
            "pocket_meta_failures_total{status=\"job_gone\"} 1",
            "pocket_meta_jobs 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("operation=\"lookup\""), "{text}");
    }

    #[tokio::test]
    async fn the_document_lists_what_the_endpoint_tells() {
        let document = include_str!("../../docs/metrics.md");
        pocket_metrics::check_document(metrics().page(), &METRICS, document, "pocket_meta_");
    }
}
