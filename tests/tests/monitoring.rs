//! What is drawn and alerted on is there: docs/monitoring against the table of docs/metrics.md.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs};

use pocket_tests::workspace;
use serde_json::Value;

/// Labels that Prometheus itself adds.
const LABELS_OF_ALL: [&str; 3] = ["job", "instance", "le"];
/// Metrics that Prometheus itself adds.
const METRICS_OF_ALL: [&str; 1] = ["up"];

struct Row {
    kind: String,
    labels: Vec<String>,
}

fn read(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
}

/// The rows of docs/metrics.md by name.
fn documented() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in read("docs/metrics.md").lines() {
        let Some(line) = line.strip_prefix("| `") else {
            continue;
        };
        let cells: Vec<_> = line.split(" | ").collect();
        let labels = cells[3].split('`').skip(1).step_by(2);
        let row = Row {
            kind: cells[1].to_owned(),
            labels: labels.map(str::to_owned).collect(),
        };
        rows.insert(cells[0].trim_end_matches('`').to_owned(), row);
    }
    assert!(rows.len() > 50, "found only {} metrics", rows.len());
    rows
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Names of metrics in an expression, each with the labels that it is asked for.
fn metrics_of(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic()) {
        let word = &rest[start..];
        let end = word.find(|letter| !is_word(letter)).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        rest = behind;
        let is_ours = word.starts_with("pocket_") || word.starts_with("process_");
        let Some(selector) = behind.strip_prefix('{') else {
            if is_ours {
                found.push((word.to_owned(), Vec::new()));
            }
            continue;
        };
        let (selector, behind) = selector.split_once('}').unwrap();
        rest = behind;
        let labels = selector.split(',').filter_map(|matcher| {
            let end = matcher.find(|letter| !is_word(letter))?;
            Some(matcher[..end].to_owned())
        });
        found.push((word.to_owned(), labels.collect()));
    }
    found
}

/// Labels by which an expression groups.
fn grouped_by(expression: &str) -> Vec<String> {
    let groups = expression.split("by (").skip(1);
    let groups = groups.filter_map(|group| group.split(')').next());
    let labels = groups.flat_map(|group| group.split(','));
    labels.map(|label| label.trim().to_owned()).collect()
}

/// Fails if an expression names what is not documented.
#[track_caller]
fn check(expression: &str, rows: &BTreeMap<String, Row>) {
    let metrics = metrics_of(expression);
    assert!(!metrics.is_empty(), "no metric in {expression}");
    let mut known: Vec<&str> = LABELS_OF_ALL.to_vec();
    for (name, labels) in metrics {
        if METRICS_OF_ALL.contains(&name.as_str()) {
            continue;
        }
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let row = rows.get(name.strip_suffix(suffix)?)?;
            (row.kind == "histogram").then_some(row)
        });
        let row = of_histogram.or_else(|| rows.get(&name).filter(|row| row.kind != "histogram"));
        let row = row.unwrap_or_else(|| panic!("no metric {name}, which is in {expression}"));
        known.extend(row.labels.iter().map(String::as_str));
        for label in labels {
            let is_known = known.contains(&label.as_str());
            assert!(is_known, "{name} has no label {label}: {expression}");
        }
        // Only what grows has a rate.
        if expression.contains(&format!("rate({name}")) {
            assert_ne!(row.kind, "gauge", "{expression}");
        }
    }
    for label in grouped_by(expression) {
        assert!(
            known.contains(&label.as_str()),
            "no label {label}: {expression}"
        );
    }
}

/// Every expression of a Grafana dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn dashboards_and_alerts_name_metrics_that_there_are() {
    let rows = documented();
    let dashboard = serde_json::from_str(&read("docs/monitoring/grafana.json")).unwrap();
    let mut drawn = Vec::new();
    expressions(&dashboard, &mut drawn);
    assert!(drawn.len() > 30, "{}", drawn.len());
    let alerts = read("docs/monitoring/alerts.yaml");
    let alerted = alerts.lines().filter_map(|line| {
        let text = line.trim().strip_prefix("expr: '")?;
        Some(text.strip_suffix('\'')?.to_owned())
    });
    let alerted: Vec<_> = alerted.collect();
    assert_eq!(alerted.len(), alerts.matches("- alert:").count());
    for expression in drawn.iter().chain(&alerted) {
        check(expression, &rows);
    }
}

#[test]
fn a_name_that_is_not_documented_is_found() {
    let rows = documented();
    for wrong in [
        "pocket_meta_nonsense",
        "sum by (colour) (pocket_meta_jobs)",
        "pocket_meta_jobs{tier=\"dram\"}",
        "rate(pocket_meta_operation_duration_seconds[1m])",
        "rate(pocket_meta_jobs[1m])",
        "pocket_meta_jobs_bucket",
        "1 + 1",
    ] {
        let found = std::panic::catch_unwind(|| check(wrong, &rows));
        assert!(found.is_err(), "{wrong}");
    }
}
