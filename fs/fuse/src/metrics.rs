//! What the kernel asked for, how long answers took, and which errors they told.

use std::time::Duration;

use pocket_metrics::{ByCode, Counter, Histogram, Metric, Page};

use crate::kernel::opcode_name;

/// Opcodes are smaller; one more is for those that are not known.
const OPCODES: usize = 64;
/// Linux's errno values are smaller.
const ERRNOS: usize = 134;

const TOOK: Metric = Metric::histogram(
    "pocket_fuse_request_duration_seconds",
    &["operation"],
    "time from a request of the kernel to its answer",
);
const ERRORS: Metric = Metric::counter(
    "pocket_fuse_errors_total",
    "",
    &["errno"],
    "requests of the kernel that were answered with an error",
);

/// All of them, in the order of the page.
const METRICS: [Metric; 2] = [TOOK, ERRORS];

/// The requests of a mount.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    took: ByCode<Histogram, OPCODES>,
    errors: ByCode<Counter, ERRNOS>,
}

impl Requests {
    /// Counts an answer; `errno` is 0 where it tells no error.
    pub(crate) fn answered(&self, opcode: u32, took: Duration, errno: i32) {
        self.took.at(opcode as usize).observe(took);
        if errno != 0 {
            self.errors.at(errno.unsigned_abs() as usize).add(1);
        }
    }

    /// Adds them to a page.
    pub(crate) fn add_to(&self, page: &mut Page) {
        METRICS.iter().for_each(|metric| page.declare(metric));
        for (opcode, took) in self.took.iter() {
            let took = took.read();
            if took.count() > 0 {
                page.add_distribution(&TOOK, &[opcode_name(opcode as u32)], took);
            }
        }
        for (errno, count) in self.errors.iter() {
            if count.get() > 0 {
                let name = format!("{:?}", nix::errno::Errno::from_raw(errno as i32));
                page.add(&ERRORS, &[&name], count.get() as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::abi::opcode;

    #[test]
    fn requests_are_told_by_operation_and_errors_by_name() {
        let requests = Requests::default();
        requests.answered(opcode::LOOKUP, Duration::from_micros(9), 0);
        requests.answered(opcode::READ, Duration::from_micros(9), -libc::EIO);
        requests.answered(4096, Duration::from_micros(9), -libc::ENOSYS);
        let mut page = Page::new();
        requests.add_to(&mut page);
        let text = page.into_text();
        for line in [
            "pocket_fuse_request_duration_seconds_count{operation=\"lookup\"} 1",
            "pocket_fuse_request_duration_seconds_count{operation=\"read\"} 1",
            "pocket_fuse_request_duration_seconds_count{operation=\"unknown\"} 1",
            "pocket_fuse_errors_total{errno=\"EIO\"} 1",
            "pocket_fuse_errors_total{errno=\"ENOSYS\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_document_lists_what_the_endpoint_tells() {
        let mut page = Page::new();
        Requests::default().add_to(&mut page);
        let document = include_str!("../../../docs/metrics.md");
        pocket_metrics::check_document(page, &METRICS, document, "pocket_fuse_");
    }
}
