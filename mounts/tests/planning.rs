//! `pocket plan` and `pocket simulate` through real runs: figures, drawings, sentences and exit codes.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::PathBuf};

use common::{Folder, Run, Up, is_mounted, pocket, pocket_mount, until};
use pocket_proto::ByteCount;
use serde_json::Value;

/// The price table that is built in.
const TABLE: &str = include_str!("../../controller/policy/tiers.toml");
/// What `clap` exits with where it does not understand a command line.
const NOT_UNDERSTOOD: i32 = 2;
const JOB: &str = "job a at=1s for=9s tasks=1 capacity=1GB bandwidth=1MB/s";

/// The run failed as it should, with a sentence that has all these parts.
#[track_caller]
fn assert_refused(ran: &Run, parts: &[&str]) {
    assert!(
        matches!(ran.code, Some(1 | NOT_UNDERSTOOD)),
        "neither done nor a panic: {ran:?}"
    );
    assert_eq!(ran.stdout, "", "{ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
}

/// Files to be named on command lines.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn named(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.named(name)
    }

    /// A trace of these lines.
    fn trace(&self, lines: &str) -> String {
        self.write("a.trace", format!("pocket-trace 1\n{lines}\n"))
    }
}

fn json(arguments: &[&str]) -> Value {
    let ran = pocket(&[arguments, &["--json"]].concat());
    ran.assert_code(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A row of the table, as the JSON has it.
fn row(plan: &Value) -> Vec<String> {
    let dollars = |figure: &Value| {
        figure
            .as_f64()
            .map_or("-".to_owned(), |d| format!("{d:.4}"))
    };
    let gigabits = plan["bandwidth_bytes_per_second"].as_u64().unwrap() as f64 * 8e-9;
    let tiers = plan["tiers"].as_array().unwrap().iter();
    let tiers = tiers.map(|tier| {
        let node = tier["node"].as_str().unwrap();
        format!("{} {node}", tier["servers"].as_f64().unwrap())
    });
    vec![
        plan["hints"].as_str().unwrap().to_owned(),
        ByteCount(plan["capacity_bytes"].as_u64().unwrap()).to_string(),
        format!("{}Gb/s", (gigabits * 10.0).round() / 10.0),
        dollars(&plan["dollars_per_hour"]),
        dollars(&plan["dollars_per_hour_alone"]),
        tiers.collect::<Vec<_>>().join(", "),
    ]
}

fn texts(list: &Value) -> Vec<&str> {
    let texts = list.as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn table_and_json_of_a_plan_tell_the_same() {
    for hints in [
        &[][..],
        &["--max-tasks", "100"],
        &["--capacity", "8192TiB", "--bandwidth", "1Pb/s"],
        &[
            "--capacity",
            "2000GB",
            "--bandwidth",
            "200MB/s",
            "--latency-sensitive=false",
        ],
    ] {
        let arguments = [&["plan"], hints].concat();
        let table = pocket(&arguments);
        table.assert_code(0);
        let plan = json(&arguments);
        let mut lines = table.stdout.lines();
        assert!(lines.next().unwrap().starts_with("HINTS"), "{table:?}");
        let beside = plan["beside"].as_array().unwrap();
        for plan in std::iter::once(&plan).chain(beside) {
            let cells = lines.next().unwrap().split("  ").map(str::trim);
            let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
            assert_eq!(cells, row(plan), "{table:?}");
        }
        assert_eq!(lines.next(), Some(""));
        let reasons: Vec<_> = lines
            .map(|line| line.strip_prefix("because  ").unwrap())
            .collect();
        assert_eq!(reasons, texts(&plan["reasons"]));
    }
}

#[test]
fn other_hints_stand_beside_a_plan_with_what_they_would_cost() {
    let (capacity, bandwidth) = (["--capacity", "2000GB"], ["--bandwidth", "200MB/s"]);
    let (tasks, cheap) = (["--max-tasks", "10"], ["--latency-sensitive=false"]);
    let all = [&["plan"], &capacity[..], &bandwidth, &tasks, &cheap].concat();
    let plan = json(&all);
    let others = [
        (
            "without --max-tasks",
            [&["plan"], &capacity[..], &bandwidth, &cheap].concat(),
        ),
        (
            "without a capacity",
            [&["plan"], &bandwidth[..], &tasks, &cheap].concat(),
        ),
        (
            "without a bandwidth",
            [&["plan"], &capacity[..], &tasks, &cheap].concat(),
        ),
        (
            "--latency-sensitive=true",
            [
                &["plan"],
                &capacity[..],
                &bandwidth,
                &tasks,
                &["--latency-sensitive"],
            ]
            .concat(),
        ),
        ("no hints", vec!["plan"]),
    ];
    let beside = plan["beside"].as_array().unwrap();
    assert_eq!(beside.len(), others.len());
    for (beside, (label, arguments)) in beside.iter().zip(others) {
        let mut itself = json(&arguments);
        itself["hints"] = label.into();
        itself.as_object_mut().unwrap().remove("beside");
        assert_eq!(*beside, itself, "{label}");
        let price = |plan: &Value| plan["dollars_per_hour"].as_f64().unwrap();
        // A hint left out is no cheaper, but for the capacity, which the job is then not promised.
        assert!(
            label == "without a capacity" || price(beside) >= price(&plan),
            "{label}"
        );
    }
    let dearest = beside.last().unwrap();
    assert_eq!(dearest["tiers"][0]["node"], "dram");
    assert_eq!(plan["tiers"][0]["node"], "nvme");
    assert_eq!(plan["missing_capacity_bytes"], 0);
}

#[test]
fn earlier_runs_of_a_profile_stand_in_for_missing_hints() {
    let up = Up::start(&["--storage-servers", "1", "--capacity", "64MiB"]);
    let files = Files::new();
    let data = files.write("data", vec![7; 3_000_000]);
    up.pocket(&["put", "run-1/data", &data, "--keep", "--profile", "nightly"])
        .assert_code(0);
    let used = || {
        let shown = up.pocket(&["job", "show", "run-1", "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        shown["used_bytes"].as_u64().unwrap()
    };
    until("the controller has heard of all of it", || {
        used() >= 3_000_000
    });
    let used = used();
    up.pocket(&["job", "deregister", "run-1"]).assert_code(0);

    let plan = |profile| {
        let ran = up.pocket(&["plan", "--profile", profile, "--json"]);
        ran.assert_code(0);
        serde_json::from_str::<Value>(&ran.stdout).unwrap()
    };
    let known = "the mean peak of an earlier run of 'nightly' and 5 % more";
    until("the run is remembered", || {
        plan("nightly").to_string().contains(known)
    });
    let planned = plan("nightly");
    assert_eq!(planned["capacity_bytes"], used * 105 / 100);
    let beside = planned["beside"].as_array().unwrap();
    let without = beside.last().unwrap();
    assert_eq!(without["hints"], "without earlier runs");
    assert_eq!(without["capacity_bytes"], 98_000_000_000_000_u64);
    let strange = plan("weekly");
    let reasons = texts(&strange["reasons"]);
    assert!(
        reasons.contains(&"no run of 'weekly' is remembered: planned without"),
        "{reasons:?}"
    );
}

#[test]
fn hints_out_of_range_are_refused_by_name_with_the_fix() {
    for (hints, parts) in [
        (&["--capacity", "0"][..], ["--capacity", "more than 0"]),
        (&["--capacity", "-5GiB"], ["--capacity", "as 10GiB"]),
        (&["--capacity=-5GiB"], ["--capacity", "as 10GiB"]),
        (&["--capacity", ""], ["--capacity", "as 10GiB"]),
        (&["--capacity", "lots"], ["--capacity", "as 10GiB"]),
        (&["--capacity", "nan"], ["--capacity", "as 10GiB"]),
        (
            &["--capacity", "1B"],
            ["hint capacity is 1B", "at least 4KiB"],
        ),
        (
            &["--capacity", "8193TiB"],
            ["hint capacity is 8193TiB", "at most 8192TiB"],
        ),
        (
            &["--capacity", "99999999999999999999TiB"],
            ["--capacity", "8EiB"],
        ),
        (&["--bandwidth", "0"], ["--bandwidth", "as 8Gb/s"]),
        (&["--bandwidth", "0Gb/s"], ["--bandwidth", "more than 0"]),
        (&["--bandwidth", "-1Gb/s"], ["--bandwidth", "as 8Gb/s"]),
        (&["--bandwidth", "1e999Gb/s"], ["--bandwidth", "8Gb/s"]),
        (&["--bandwidth", "99Pb/s"], ["hint bandwidth is", "1 Pb/s"]),
        (&["--max-tasks", "0"], ["--max-tasks", "at least 1 task"]),
        (&["--max-tasks", "-1"], ["--max-tasks", "give 1 to 1000000"]),
        (
            &["--max-tasks", "1.5"],
            ["--max-tasks", "give 1 to 1000000"],
        ),
        (
            &["--max-tasks", "5000000000"],
            ["--max-tasks", "give 1 to 1000000"],
        ),
        (
            &["--max-tasks", "1000001"],
            ["hint max-tasks is 1000001", "at most 1000000"],
        ),
        (
            &["--task-capacity", "1GiB"],
            ["hint task-capacity", "give max-tasks as well"],
        ),
        (
            &["--task-bandwidth", "1Gb/s"],
            ["hint task-bandwidth", "give max-tasks as well"],
        ),
        (
            &["--max-tasks", "9", "--task-capacity", "-1"],
            ["--task-capacity", "as 10GiB"],
        ),
        (
            &["--max-tasks", "9", "--task-bandwidth", "0b/s"],
            ["--task-bandwidth", "more than 0"],
        ),
        (
            &["--max-tasks", "1", "--task-capacity", "1B"],
            ["hint task-capacity of 1B", "at least 4KiB in all"],
        ),
        (
            &["--max-tasks", "1000000", "--task-capacity", "1TiB"],
            ["hint task-capacity of 1TiB", "at most 8192TiB in all"],
        ),
        (
            &[
                "--max-tasks",
                "9",
                "--task-capacity",
                "1TiB",
                "--capacity",
                "1GiB",
            ],
            ["hint capacity only 1GiB", "correct one of them"],
        ),
        (
            &["--latency-sensitive=maybe"],
            ["--latency-sensitive", "true, false"],
        ),
        (&["--profile", "nightly"], ["--controller", "Usage:"]),
        (
            &["--profile", "a/b", "--controller", "127.0.0.1:1"],
            ["profile 'a/b' contains '/'", "use letters"],
        ),
    ] {
        assert_refused(&pocket(&[&["plan"], hints].concat()), &parts);
        if hints[0] != "--profile" {
            assert_not_mounted("job", hints, &parts);
        }
    }
}

/// `pocket-mount` with these flags, and no controller, says so and exits as mount(8) does.
#[track_caller]
fn assert_not_mounted(job: &str, flags: &[&str], parts: &[&str]) {
    let folder = Folder::new();
    let ran = pocket_mount(&[&[job, folder.text()], flags].concat());
    ran.assert_code(1);
    assert_refused(&ran, parts);
    assert!(!is_mounted(folder.path()));
}

#[test]
fn terms_out_of_range_are_refused_by_name_with_the_fix() {
    for (flags, parts) in [
        (
            &["--max-capacity", "1GiB"][..],
            ["max-capacity", "hint a capacity as well"],
        ),
        (
            &["--capacity", "2GiB", "--max-capacity", "1GiB"],
            ["max-capacity is 1GiB", "give as much or more"],
        ),
        (&["--lease", "-1s"], ["--lease", "as 60s, 5m or 2h"]),
        (&["--lease", "0"], ["--lease", "between 1s and 7 days"]),
        (&["--lease", "8d"], ["--lease", "--keep"]),
        (
            &["--lease", "99999999999999999999d"],
            ["--lease", "as 60s, 5m or 2h"],
        ),
        (&["--wait", "-5s"], ["--wait", "as 60s, 5m or 2h"]),
        (&["--wait", "8d"], ["--wait", "7 days"]),
        (&["--persist", "--ttl", "-1"], ["--ttl", "as 60s, 5m or 2h"]),
        (
            &["--persist", "--ttl", "0"],
            ["--ttl", "between 1s and 365 days"],
        ),
        (&["--ttl", "1d"], ["--persist", "Usage:"]),
        (
            &["--persist", "--keep"],
            ["--persist", "cannot be used with '--keep'"],
        ),
        (&["--block-size", "-1"], ["--block-size", "as 10GiB"]),
        (
            &["--block-size", "3MiB"],
            ["--block-size", "give one, as 1MiB"],
        ),
        (
            &["--profile", "a/b"],
            ["profile 'a/b' contains '/'", "use letters"],
        ),
        (&["--profile", ""], ["profile '' is empty", "use 1 to 128"]),
        (
            &["-o", "capacity=1B"],
            ["hint capacity is 1B", "at least 4KiB"],
        ),
        (&["-o", "max_tasks=0"], ["max_tasks=0", "at least 1 task"]),
    ] {
        assert_not_mounted("job", flags, &parts);
    }
    for (job, parts) in [
        ("a/b", ["job name 'a/b' contains '/'", "use letters"]),
        ("", ["job name '' is empty", "use 1 to 128"]),
    ] {
        assert_not_mounted(job, &[], &parts);
    }
}

#[test]
fn mistakes_in_a_price_table_are_named_with_the_field_and_the_fix() {
    let files = Files::new();
    let trace = files.trace(JOB);
    for (from, to, parts) in [
        ("[machine]", "[machine", ["cannot be read: line", "7"]),
        (
            "tier = \"hdd\"",
            "tier = \"tape\"",
            ["node 'hdd', tier: 'tape' is not a tier", "use dram, nvme"],
        ),
        (
            "\"60GB\"",
            "\"-60GB\"",
            ["node 'dram', capacity", "as 10GiB"],
        ),
        (
            "\"60GB\"",
            "\"9999999999TB\"",
            ["node 'dram', capacity", "any file system"],
        ),
        (
            "\"1.2Gb/s\"",
            "\"0Gb/s\"",
            ["node 'hdd', bandwidth", "more than 0"],
        ),
        (
            "\"0.532\"",
            "\"0.1\"",
            ["node 'dram', price_per_hour", "correct one of them"],
        ),
        (
            "name = \"ssd\"",
            "name = \"nvme\"",
            ["node 'nvme'", "rename one"],
        ),
        ("nodes = 50", "", ["default.nodes", "add nodes = 50"]),
        (
            "nodes = 50",
            "nodes = 50\nspeed = 1",
            ["default.speed", "correct or remove it"],
        ),
    ] {
        assert!(TABLE.contains(from), "{from}");
        let table = files.write("tiers.toml", TABLE.replacen(from, to, 1));
        let named = [&["tiers.toml"], &parts[..]].concat();
        assert_refused(&pocket(&["plan", "--tiers", &table]), &named);
        assert_refused(&pocket(&["simulate", &trace, "--tiers", &table]), &named);
    }
    for (file, part) in [
        (files.named("absent"), "absent: No such file"),
        ("/".to_owned(), "cannot read /: Is a directory"),
        ("/dev/zero".to_owned(), "is it the right file?"),
        (files.write("binary", b"\xff\xfe"), "is not text"),
        (files.write("empty", ""), "machine: is missing"),
    ] {
        assert_refused(&pocket(&["plan", "--tiers", &file]), &[part]);
    }
}

#[test]
fn a_broken_line_of_a_trace_is_named_with_the_field_and_the_fix() {
    let files = Files::new();
    for (from, to, parts) in [
        (
            "job a",
            "jobs a",
            ["line 3: 'jobs'", "begin with set, ran or job"],
        ),
        ("at=1s", "at=-1s", ["line 3, at", "write 60s"]),
        ("for=9s", "for=0s", ["line 3, for", "at least 0.001s"]),
        ("tasks=1", "tasks=0", ["line 3, tasks", "from 1 to 1000000"]),
        ("1GB ", "0GB ", ["line 3, capacity", "from 1B to 8192TiB"]),
        ("1GB ", "-1GB ", ["line 3, capacity", "as 10GiB"]),
        (
            "1GB ",
            "10000000GB ",
            ["line 3, capacity", "from 1B to 8192TiB"],
        ),
        ("1MB/s", "0MB/s", ["line 3, bandwidth", "as 3GB/s"]),
        ("1MB/s", "99Pb/s", ["line 3, bandwidth", "at most 1Pb/s"]),
        (
            "tasks=1",
            "tasks=1 tasks=2",
            ["line 3, tasks", "remove one"],
        ),
        ("tasks=1", "tusks=1", ["line 3, tasks", "give tasks=100"]),
        ("1MB/s", "1MB/s x=1", ["line 3, x", "correct or remove it"]),
        (
            "1MB/s",
            "1MB/s latency=so",
            ["line 3, latency", "write yes or no"],
        ),
        (
            JOB,
            "set hints none\nset hints full",
            ["line 4, set hints", "line 3 has set it already: remove one"],
        ),
        (
            JOB,
            "ran p capacity=1GB bandwidth=0MB/s",
            ["line 3, bandwidth", "as 3GB/s"],
        ),
        (
            "1MB/s",
            "1MB/s object=8EiB",
            ["line 3, object", "write less than 8EiB"],
        ),
        (
            JOB,
            "set hints some",
            ["line 3, set hints", "write none, tasks"],
        ),
        (
            JOB,
            "set dram-max -1",
            ["line 3, set dram-max", "from 0 to 100000"],
        ),
        (
            JOB,
            "set tape-max 1",
            ["line 3, set tape-max", "use dram, nvme"],
        ),
    ] {
        let trace = files.trace(&format!("# a comment\n{}", JOB.replacen(from, to, 1)));
        assert_refused(&pocket(&["simulate", &trace]), &parts);
    }
    for (file, part) in [
        (files.named("absent"), "absent: No such file"),
        ("/dev/zero".to_owned(), "is it the right file?"),
        (files.write("binary", b"\xff\xfe"), "is not text"),
        (files.write("empty", ""), "begins with 'pocket-trace 1'"),
    ] {
        assert_refused(&pocket(&["simulate", &file]), &[part]);
    }
}

#[test]
fn wrong_usage_of_simulate_is_told_before_anything_runs() {
    let files = Files::new();
    let trace = files.trace(JOB);
    let plot = files.named("plot.svg");
    for (arguments, part) in [
        (&[][..], "<TRACE>"),
        (&[&trace, "--set", "hints"], "write NAME=VALUE"),
        (&[&trace, "--set", "colour=red"], "there are hints"),
        (&[&trace, "--set", "servers-max=0"], "give at least 1"),
        (&[&trace, "--set", "low-permille=0"], "give at least 1"),
        (&[&trace, "--set", "hints=-5%"], "a percentage as 60%"),
        (&[&trace, "--set", "start-ms=-1"], "from 0 to 600000"),
        (
            &[&trace, "--set", "servers-min=6000"],
            "servers-max 5000: correct one",
        ),
        (&["--generate", "steps"], "use bursts, diurnal"),
        (
            &["--generate", "bursts", "--seed", "-1"],
            "give a number from 0",
        ),
        (
            &["--generate", "bursts", "--seed", "99999999999999999999"],
            "give a number from 0",
        ),
        (&["--generate", "bursts", "--plot", &plot], "--plot"),
        (&["--published", "--plot", &plot], "--plot"),
        (&["--published", "--set", "hints=none"], "--set"),
        (&["--published", "--seed", "3"], "--seed"),
    ] {
        assert_refused(&pocket(&[&["simulate"], arguments].concat()), &[part]);
    }
    assert!(!files.path("plot.svg").exists());
    let nowhere = files.named("absent/plot.svg");
    let ran = pocket(&["simulate", &trace, "--plot", &nowhere]);
    assert_refused(&ran, &["cannot write", "absent/plot.svg"]);
}

#[test]
fn a_trace_runs_and_one_that_does_not_finish_fails_with_the_reason() {
    let files = Files::new();
    let done = pocket(&["simulate", &files.trace(JOB)]);
    done.assert_code(0);
    assert!(done.stdout.contains("1 of 1"), "{done:?}");
    let giant = JOB.replace("job a", "job b").replace("1GB ", "8192TiB ");
    let ran = pocket(&[
        "simulate",
        &files.trace(&format!("{JOB}\n{giant}")),
        "--set",
        "servers-max=1",
    ]);
    ran.assert_code(1);
    assert!(
        ran.stderr.contains("1 of 2 jobs did not finish (1 refused")
            && ran.stderr.contains("job 'b' asks for 8192TiB"),
        "{ran:?}"
    );
    let nothing = json(&["simulate", &files.trace("")]);
    assert_eq!(
        (&nothing["jobs"], &nothing["cost"]),
        (&0.into(), &0.0.into())
    );
    let text = pocket(&["simulate", &files.trace(""), "--json"]).stdout;
    assert!(!text.contains("-0.0"), "{text}");
}

#[test]
fn a_seed_gives_the_same_trace_and_the_same_report_twice() {
    let files = Files::new();
    let generated = |kind: &str, seed: &str| {
        let ran = pocket(&["simulate", "--generate", kind, "--seed", seed]);
        ran.assert_code(0);
        ran.stdout
    };
    for kind in ["bursts", "diurnal", "recurring", "applications"] {
        assert_eq!(generated(kind, "7"), generated(kind, "7"), "{kind}");
        assert_ne!(generated(kind, "7"), generated(kind, "8"), "{kind}");
    }
    for kind in ["applications", "elasticity"] {
        let trace = files.write("generated", generated(kind, "18446744073709551615"));
        let report = json(&["simulate", &trace]);
        assert_eq!(report, json(&["simulate", &trace]), "{kind}");
        assert_eq!(report["finished"], report["jobs"], "{kind}");
        let rows = pocket(&["simulate", &trace]).stdout;
        let cost = format!("${:.4}", report["cost"].as_f64().unwrap());
        assert!(rows.contains(&cost), "{cost}: {rows}");
    }
}

/// That every element of a document is closed in its order, and every attribute quoted; how many
/// elements of each name it has.
fn elements(svg: &str) -> Vec<(String, usize)> {
    let mut open: Vec<&str> = Vec::new();
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (number, piece) in svg.split('<').enumerate() {
        let Some((tag, text)) = piece.split_once('>') else {
            assert_eq!(
                (number, piece),
                (0, ""),
                "a document begins with its element"
            );
            continue;
        };
        assert!(!text.contains(['>', '&']), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let attributes: Vec<&str> = tag.trim_end_matches('/').split('"').collect();
        assert_eq!(attributes.len() % 2, 1, "a quote is open: {tag}");
        let names = attributes.iter().step_by(2).take(attributes.len() / 2);
        for name in names {
            assert!(name.ends_with('='), "{tag}");
        }
        let name = tag.split(' ').next().unwrap();
        if !tag.ends_with('/') {
            open.push(name);
        }
        match counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name.to_owned(), 1)),
        }
    }
    assert_eq!(open, [""; 0], "all are closed");
    counts
}

#[test]
fn a_plot_is_a_well_formed_drawing_of_the_run() {
    let files = Files::new();
    let plot = files.named("plot.svg");
    for lines in [JOB, ""] {
        let ran = pocket(&["simulate", &files.trace(lines), "--plot", &plot]);
        ran.assert_code(0);
        let svg = fs::read_to_string(&plot).unwrap();
        let counts = elements(&svg);
        for (name, count) in [("svg", 1), ("rect", 1), ("polyline", 7)] {
            assert!(counts.contains(&(name.to_owned(), count)), "{counts:?}");
        }
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        for part in ["throughput, GB/s", "servers and jobs", "$/h"] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
