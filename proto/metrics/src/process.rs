//! What every process tells of itself, by the names that Prometheus' own libraries use.

use std::fs;

use crate::{Metric, Page};

/// Fields of /proc/PID/stat are counted in these, on every architecture that Linux supports now.
const TICKS_PER_SECOND: f64 = 100.0;

const RESIDENT: Metric = Metric::gauge(
    "process_resident_memory_bytes",
    "bytes",
    &[],
    "memory of the process that is in the machine's",
);
const DESCRIPTORS: Metric = Metric::gauge(
    "process_open_fds",
    "",
    &[],
    "file descriptors that the process has open",
);
const PROCESSOR: Metric = Metric::counter(
    "process_cpu_seconds_total",
    "seconds",
    &[],
    "processor time of the process, its own and the kernel's for it",
);
const THREADS: Metric = Metric::gauge("process_threads", "", &[], "threads of the process");

/// All of them, in the order of the page.
#[cfg(test)]
const METRICS: [Metric; 4] = [RESIDENT, DESCRIPTORS, PROCESSOR, THREADS];

/// Adds them. What the system does not tell is left out.
pub(crate) fn add_to(page: &mut Page) {
    for metric in [&RESIDENT, &DESCRIPTORS, &PROCESSOR, &THREADS] {
        page.declare(metric);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kibibytes) = field(&status, "VmRSS:") {
        page.add(&RESIDENT, &[], kibibytes * 1024.0);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        page.add(&DESCRIPTORS, &[], open.count().saturating_sub(1) as f64);
    }
    if let Some(seconds) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(processor_seconds)
    {
        page.add(&PROCESSOR, &[], seconds);
    }
    if let Some(threads) = field(&status, "Threads:") {
        page.add(&THREADS, &[], threads);
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// utime and stime, the 14th and 15th field; the second, in brackets, may hold anything.
fn processor_seconds(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut times = behind.split_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page::new();
        add_to(&mut page);
        page
    }

    #[test]
    fn a_process_tells_memory_descriptors_time_and_threads() {
        let text = page().into_text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_threads") >= 2.0);
    }

    #[test]
    fn a_name_with_brackets_is_no_field() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds("7 (a"), None);
    }

    #[test]
    fn the_document_lists_what_the_endpoint_tells() {
        let document = include_str!("../../../docs/metrics.md");
        crate::check_document(page(), &METRICS, document, "process_");
    }
}
