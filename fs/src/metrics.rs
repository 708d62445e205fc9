//! What a mount counts, for collectors of metrics and for `.pocket/stats`.

use pocket_metrics::{Counter, Metric, Page};

use crate::FileSystem;

const READ: Metric = Metric::counter(
    "pocket_mount_read_bytes_total",
    "bytes",
    &[],
    "bytes that programs have read",
);
const WRITTEN: Metric = Metric::counter(
    "pocket_mount_written_bytes_total",
    "bytes",
    &[],
    "bytes that programs have written",
);
const BLOCKS: Metric = Metric::counter(
    "pocket_mount_block_lookups_total",
    "",
    &["result"],
    "pieces of blocks that were read, from memory (hit) or from a storage server (miss)",
);
const NAMES: Metric = Metric::counter(
    "pocket_mount_name_lookups_total",
    "",
    &["result"],
    "names that the kernel asked for, known here (hit) or asked of the metadata server (miss)",
);
const RECALLS: Metric = Metric::counter(
    "pocket_mount_recalls_total",
    "",
    &[],
    "recalls of leases that were answered",
);
const LOST: Metric = Metric::counter(
    "pocket_mount_sessions_lost_total",
    "",
    &[],
    "sessions with the metadata server that were lost",
);
const HANDLES: Metric = Metric::gauge(
    "pocket_mount_open_handles",
    "",
    &[],
    "open files and directories",
);
const UNWRITTEN: Metric = Metric::gauge(
    "pocket_mount_unwritten_bytes",
    "bytes",
    &[],
    "written bytes in memory that are not on a storage server yet",
);
const HELD: Metric = Metric::gauge(
    "pocket_mount_held_bytes",
    "bytes",
    &[],
    "bytes in memory for readers, small files that are closed included",
);
const GRANTED: Metric = Metric::gauge(
    "pocket_mount_granted_bytes",
    "bytes",
    &[],
    "bytes of the job's space that were granted and are not used yet",
);

/// All of them, in the order of the page.
const METRICS: [Metric; 10] = [
    READ, WRITTEN, BLOCKS, NAMES, RECALLS, LOST, HANDLES, UNWRITTEN, HELD, GRANTED,
];

/// What a mount has done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) read_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) blocks: Lookups,
    pub(crate) names: Lookups,
    pub(crate) recalls: Counter,
    pub(crate) sessions_lost: Counter,
}

/// How often something was at hand.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Lookups {
    /// It was.
    pub(crate) fn hit(&self) {
        self.hits.add(1);
    }

    /// It was not.
    pub(crate) fn miss(&self) {
        self.misses.add(1);
    }

    fn add_to(&self, page: &mut Page, metric: &Metric) {
        page.add(metric, &["hit"], self.hits.get() as f64);
        page.add(metric, &["miss"], self.misses.get() as f64);
    }
}

impl FileSystem {
    /// What this mount has done and holds, and behind it what its kernel's side tells
    /// ([`FileSystem::attach_page`]).
    pub fn metrics(&self) -> Page {
        let mut page = Page::new();
        METRICS.iter().for_each(|metric| page.declare(metric));
        let counts = &self.counts;
        counts.blocks.add_to(&mut page, &BLOCKS);
        counts.names.add_to(&mut page, &NAMES);
        let gauges = self.gauges();
        for (metric, value) in [
            (&READ, counts.read_bytes.get() as f64),
            (&WRITTEN, counts.written_bytes.get() as f64),
            (&RECALLS, counts.recalls.get() as f64),
            (&LOST, counts.sessions_lost.get() as f64),
            (&HANDLES, gauges.handles as f64),
            (&UNWRITTEN, gauges.write_bytes as f64),
            (&HELD, (gauges.read_bytes + gauges.content_bytes) as f64),
            (&GRANTED, gauges.granted_bytes as f64),
        ] {
            page.add(metric, &[], value);
        }
        self.control.add_kernel_page(&mut page);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_what_the_endpoint_tells() {
        let mut page = Page::new();
        METRICS.iter().for_each(|metric| page.declare(metric));
        let document = include_str!("../../docs/metrics.md");
        pocket_metrics::check_document(page, &METRICS, document, "pocket_mount_");
    }
}
