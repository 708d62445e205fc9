//! Keeps a cluster under a mixed load for as long as wanted, and fails if anything grows:
//!
//! ```text
//! cargo run --release -p pocket-tests --example soak -- --minutes 60
//! ```
//!
//! What it does, and when a gauge counts as flat, is told in `tests/src/soak.rs`.

use std::{process::ExitCode, time::Duration};

use pocket_tests::{
    can_mount,
    soak::{Row, soak},
};

const USAGE: &str = "usage: soak --minutes N";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let minutes = match &arguments[..] {
        [flag, minutes] if flag == "--minutes" => minutes.parse::<u32>().ok(),
        _ => None,
    };
    let Some(minutes) = minutes.filter(|minutes| *minutes > 0) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if !can_mount() {
        return ExitCode::FAILURE;
    }
    let rows = soak(Duration::from_secs(60 * u64::from(minutes)));
    println!("| process | gauge | second quarter | last quarter | |");
    println!("|---|---|---:|---:|---|");
    for row in &rows {
        print(row);
    }
    match rows.iter().all(Row::is_flat) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn print(row: &Row) {
    let Row { process, gauge, .. } = row;
    let verdict = if row.is_flat() { "flat" } else { "grows" };
    let figure = |value: f64| match gauge.ends_with("_bytes") {
        true => format!("{:.1} MiB", value / f64::from(1 << 20)),
        false => format!("{value:.0}"),
    };
    let (early, late) = (figure(row.early), figure(row.late));
    println!("| {process} | `{gauge}` | {early} | {late} | {verdict} |");
}
