//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, and begins at 0 when the process does.
    Counter,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

/// A metric, declared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// "pocket_controller_jobs": the role, the thing, the unit, and `_total` for counters.
    pub name: &'static str,
    /// Gauge or counter.
    pub kind: Kind,
    /// "bytes", "seconds", "dollars"; empty for things that are counted.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// A line that says what it is.
    pub help: &'static str,
}

/// A page of values as it is served. Samples of one metric are to be added together.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    last: &'static str,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Page::default()
    }

    /// Adds a value with what its metric's labels are, in the order of their declaration.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let Metric {
            name, kind, help, ..
        } = metric;
        // Writing to a string does not fail.
        if self.last != *name {
            let kind = kind.name();
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            self.last = name;
        }
        self.text.push_str(name);
        for (at, (label, value)) in metric.labels.iter().zip(labels).enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escaped(value));
        }
        if !metric.labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
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

/// The rows of docs/metrics.md for these metrics: name, type, unit, labels, meaning.
pub fn table_rows(metrics: &[Metric]) -> Vec<String> {
    let row = |metric: &Metric| {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let or_none = |text: String| match text.is_empty() {
            true => "–".to_owned(),
            false => text,
        };
        format!(
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind.name(),
            or_none(metric.unit.to_owned()),
            or_none(labels.join(", ")),
            metric.help
        )
    };
    metrics.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: Metric = Metric {
        name: "pocket_jobs",
        kind: Kind::Gauge,
        unit: "",
        labels: &["state", "name"],
        help: "jobs there are",
    };
    const BYTES: Metric = Metric {
        name: "pocket_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: &[],
        help: "bytes moved",
    };

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::new();
        page.add(&JOBS, &["running", "a"], 2.0);
        page.add(&JOBS, &["ended", "\"b\\\n"], 0.5);
        page.add(&BYTES, &[], 1e12);
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
    fn rows_name_everything_that_is_declared() {
        assert_eq!(
            table_rows(&[JOBS, BYTES]),
            [
                "| `pocket_jobs` | gauge | – | `state`, `name` | jobs there are |",
                "| `pocket_bytes_total` | counter | bytes | – | bytes moved |",
            ]
        );
    }
}
