//! What a metric is, declared once beside what it counts.

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, and begins at 0 when the process does.
    Counter,
    /// Times in buckets, which only grow.
    Histogram,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric, declared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// "pocket_controller_jobs": the role, the thing, the unit, and `_total` for counters.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// "bytes", "seconds", "dollars"; empty for things that are counted.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// A line that says what it is.
    pub help: &'static str,
}

impl Metric {
    /// A figure that goes up and down.
    pub const fn gauge(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Metric {
            name,
            kind: Kind::Gauge,
            unit,
            labels,
            help,
        }
    }

    /// A figure that only grows.
    pub const fn counter(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Metric {
            name,
            kind: Kind::Counter,
            unit,
            labels,
            help,
        }
    }

    /// Times.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Metric {
            name,
            kind: Kind::Histogram,
            unit: "seconds",
            labels,
            help,
        }
    }
}

/// "ReadBlock" as a label: "read_block".
pub fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
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

/// Checks that a page tells exactly the metrics declared, in their order, and that the document has
/// exactly their rows among those whose names begin with `prefix`. For tests.
///
/// # Panics
///
/// If something is missing or too much.
pub fn check_document(page: crate::Page, metrics: &[Metric], document: &str, prefix: &str) {
    let text = page.into_text();
    let told: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let declared: Vec<_> = metrics.iter().map(|metric| metric.name).collect();
    assert_eq!(told, declared, "the page tells what is declared");
    let begin = format!("| `{prefix}");
    let listed: Vec<_> = document
        .lines()
        .filter(|line| line.starts_with(&begin))
        .collect();
    assert_eq!(
        listed,
        table_rows(metrics),
        "docs/metrics.md lists what the page tells; its rows should be:\n{}\n",
        table_rows(metrics).join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_in_lower_case() {
        assert_eq!(snake_case("ReadBlock"), "read_block");
        assert_eq!(snake_case("Ok"), "ok");
    }

    #[test]
    fn rows_name_everything_that_is_declared() {
        let jobs = Metric::gauge("pocket_jobs", "", &["state", "name"], "jobs there are");
        let took = Metric::histogram("pocket_took_seconds", &[], "time it took");
        assert_eq!(
            table_rows(&[jobs, took]),
            [
                "| `pocket_jobs` | gauge | – | `state`, `name` | jobs there are |",
                "| `pocket_took_seconds` | histogram | seconds | – | time it took |",
            ]
        );
    }
}
