//! A page of values, as Prometheus reads it (text format, version 0.0.4) or as people do.

use std::{fmt::Write, time::Duration};

use crate::{
    Distribution, Kind, Metric,
    measure::{BOUNDS, bound},
};

/// Values of metrics, in the order in which each metric was first named.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    metric: Metric,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<String>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Distribution(Box<Distribution>),
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Page::default()
    }

    /// Names a metric that may have no value yet.
    pub fn declare(&mut self, metric: &Metric) {
        self.family(metric);
    }

    /// Adds a value with what its metric's labels are, in the order of their declaration.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        self.push(metric, labels, Value::Number(value));
    }

    /// Adds what a histogram has counted.
    pub fn add_distribution(&mut self, metric: &Metric, labels: &[&str], value: Distribution) {
        self.push(metric, labels, Value::Distribution(Box::new(value)));
    }

    fn push(&mut self, metric: &Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        debug_assert_eq!(
            metric.kind == Kind::Histogram,
            matches!(value, Value::Distribution(_)),
            "{}",
            metric.name
        );
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.family(metric).samples.push(Sample { labels, value });
    }

    fn family(&mut self, metric: &Metric) -> &mut Family {
        let known = self
            .families
            .iter()
            .position(|family| family.metric.name == metric.name);
        let at = known.unwrap_or_else(|| {
            self.families.push(Family {
                metric: *metric,
                samples: Vec::new(),
            });
            self.families.len() - 1
        });
        &mut self.families[at]
    }

    /// The page as collectors read it.
    pub fn into_text(self) -> String {
        let mut text = String::new();
        for Family { metric, samples } in &self.families {
            let Metric {
                name, kind, help, ..
            } = metric;
            let kind = kind.name();
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for Sample { labels, value } in samples {
                let labels = LabelText::of(metric, labels);
                match value {
                    Value::Number(value) => {
                        let _ = writeln!(text, "{name}{} {value}", labels.alone());
                    }
                    Value::Distribution(value) => {
                        write_distribution(&mut text, name, &labels, value)
                    }
                }
            }
        }
        text
    }

    /// The page for people: what each metric means, and its values in units that read well.
    pub fn into_readable(self) -> String {
        let mut text = String::new();
        for Family { metric, samples } in &self.families {
            if samples.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{}", metric.help);
            for Sample { labels, value } in samples {
                let label = labels.join(" ");
                let value = match value {
                    Value::Number(value) => readable(*value, metric.unit),
                    Value::Distribution(value) => readable_distribution(value),
                };
                let _ = writeln!(text, "  {label:<20} {value}");
            }
        }
        text
    }
}

/// "name=\"value\",...", escaped.
struct LabelText(String);

impl LabelText {
    fn of(metric: &Metric, values: &[String]) -> Self {
        let labels = metric.labels.iter().zip(values);
        let labels: Vec<_> = labels
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        LabelText(labels.join(","))
    }

    fn alone(&self) -> String {
        match self.0.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", self.0),
        }
    }

    fn with_bound(&self, bound: &str) -> String {
        match self.0.is_empty() {
            true => format!("{{le=\"{bound}\"}}"),
            false => format!("{{{},le=\"{bound}\"}}", self.0),
        }
    }
}

fn write_distribution(text: &mut String, name: &str, labels: &LabelText, value: &Distribution) {
    let mut sum = 0;
    for (index, count) in value.counts.iter().enumerate() {
        sum += count;
        let le = match index {
            BOUNDS => "+Inf".to_owned(),
            _ => bound(index).as_secs_f64().to_string(),
        };
        let _ = writeln!(text, "{name}_bucket{} {sum}", labels.with_bound(&le));
    }
    let alone = labels.alone();
    let _ = writeln!(text, "{name}_sum{alone} {}", value.seconds());
    let _ = writeln!(text, "{name}_count{alone} {sum}");
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

fn readable(value: f64, unit: &str) -> String {
    const STEPS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    match unit {
        "bytes" => {
            let (mut value, mut step) = (value, 0);
            while value.abs() >= 1024.0 && step + 1 < STEPS.len() {
                value /= 1024.0;
                step += 1;
            }
            let rounded = (value * 10.0).round() / 10.0;
            format!("{rounded} {}", STEPS[step])
        }
        "seconds" => format!("{:.1} s", value),
        "" => value.to_string(),
        other => format!("{value} {other}"),
    }
}

fn readable_distribution(value: &Distribution) -> String {
    let count = value.count();
    let shown = |time: Option<Duration>| match time {
        Some(time) => format!("{time:.1?}"),
        None => format!("more than {:.1?}", bound(BOUNDS - 1)),
    };
    match value.mean() {
        None => "0 times".to_owned(),
        Some(mean) => format!(
            "{count} times, {mean:.1?} on average, 99 % within {}",
            shown(value.quantile(0.99))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;

    const JOBS: Metric = Metric::gauge("pocket_jobs", "", &["state", "name"], "jobs there are");
    const BYTES: Metric = Metric::counter("pocket_bytes_total", "bytes", &[], "bytes moved");
    const TOOK: Metric = Metric::histogram("pocket_took_seconds", &["kind"], "time it took");

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::new();
        page.add(&JOBS, &["running", "a"], 2.0);
        page.add(&BYTES, &[], 1e12);
        page.add(&JOBS, &["ended", "\"b\\\n"], 0.5);
        let expected = "# HELP pocket_jobs jobs there are\n\
            # TYPE pocket_jobs gauge\n\
            pocket_jobs{state=\"running\",name=\"a\"} 2\n\
            pocket_jobs{state=\"ended\",name=\"\\\"b\\\\\\n\"} 0.5\n\
            # HELP pocket_bytes_total bytes moved\n\
            # TYPE pocket_bytes_total counter\n\
            pocket_bytes_total 1000000000000\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_all() {
        let histogram = Histogram::new();
        for microseconds in [5, 5, 12, 10_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let mut page = Page::new();
        page.add_distribution(&TOOK, &["read"], histogram.read());
        let text = page.into_text();
        for line in [
            "# TYPE pocket_took_seconds histogram",
            "pocket_took_seconds_bucket{kind=\"read\",le=\"0.000008\"} 2",
            "pocket_took_seconds_bucket{kind=\"read\",le=\"0.000016\"} 3",
            "pocket_took_seconds_bucket{kind=\"read\",le=\"8.388608\"} 3",
            "pocket_took_seconds_bucket{kind=\"read\",le=\"+Inf\"} 4",
            "pocket_took_seconds_sum{kind=\"read\"} 10.000022",
            "pocket_took_seconds_count{kind=\"read\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn people_read_meanings_and_units() {
        let histogram = Histogram::new();
        histogram.observe(Duration::from_micros(12));
        let mut page = Page::new();
        page.declare(&JOBS);
        page.add(&BYTES, &[], (3u64 << 20) as f64);
        page.add_distribution(&TOOK, &["read"], histogram.read());
        let expected = "bytes moved\n                       3 MiB\n\
             time it took\n  read                 1 times, 12.0µs on average, 99 % within 16.0µs\n";
        assert_eq!(page.into_readable(), expected);
    }
}
