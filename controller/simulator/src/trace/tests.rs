//! What is read, and what is refused with which sentence.

use proptest::prelude::*;

use super::*;

fn read(lines: &str) -> Result<Trace, TraceError> {
    format!("{HEAD}\n{lines}").parse()
}

#[test]
fn a_trace_is_read_as_it_is_documented() {
    let trace = read(
        "# a comment\n\nset servers-max 5000\n\
         ran nightly capacity=10GB bandwidth=3GB/s object=1600KB\n\
         job nightly-7 at=12s for=60.5s tasks=100 capacity=10GB bandwidth=3GB/s profile=nightly # x\n\
         job b at=12s for=1s tasks=1 capacity=1B bandwidth=8b/s latency=no shape=steady object=5KB",
    )
    .expect("is sound");
    let [setting] = &trace.settings[..] else {
        panic!("one setting");
    };
    let (name, value) = (setting.name.as_str(), setting.value.as_str());
    assert_eq!(
        (name, value, setting.line),
        ("servers-max", "5000", Some(4))
    );
    assert_eq!(trace.ran[0].1.bytes_per_second, 3_000_000_000);
    let [first, second] = &trace.jobs[..] else {
        panic!("two jobs");
    };
    assert_eq!((first.at_ms, first.runs_ms), (12_000, 60_500));
    assert_eq!(
        (first.profile.as_str(), second.profile.as_str()),
        ("nightly", "b")
    );
    assert!(first.latency_sensitive && !second.latency_sensitive);
    assert_eq!(
        (first.object_bytes, second.object_bytes),
        (OBJECT_BYTES, 5_000)
    );
    assert_eq!(trace.to_string().parse(), Ok(trace));
}

#[test]
fn a_broken_line_is_named_with_the_field_and_the_fix() {
    let job = "job a at=1s for=1s tasks=1 capacity=1GB bandwidth=1GB/s";
    let with = |from: &str, to: &str| job.replace(from, to);
    for (line, parts) in [
        (
            "jobs a".to_owned(),
            ["line 2: 'jobs'", "begin with set, ran or job"],
        ),
        ("set x".to_owned(), ["line 2", "set NAME VALUE"]),
        (with("job a", "job a/b"), ["line 2, name", "use letters"]),
        (with("at=1s ", ""), ["line 2, at", "give at=60s"]),
        (with("at=1s", "at=-1s"), ["line 2, at", "write 60s"]),
        (
            with("at=1s", "at=99999999999999999999s"),
            ["line 2, at", "10 days"],
        ),
        (with("for=1s", "for=1.2345s"), ["line 2, for", "1.5s"]),
        (with("for=1s", "for=1m"), ["line 2, for", "write 60s"]),
        (with("tasks=1", "tasks=0"), ["line 2, tasks", "from 1 to"]),
        (with("tasks=1", "tasks=-4"), ["line 2, tasks", "correct it"]),
        (with("1GB ", "0GB "), ["line 2, capacity", "from 1B to"]),
        (with("1GB ", "-1GB "), ["line 2, capacity", "as 10GiB"]),
        (with("1GB ", "7EB "), ["line 2, capacity", "correct it"]),
        (with("1GB/s", "fast"), ["line 2, bandwidth", "as 8Gb/s"]),
        (
            with("1GB/s", "9EB/s"),
            ["line 2, bandwidth", "at most 1Pb/s"],
        ),
        (with("for=1s", "for=0s"), ["line 2, for", "at least 0.001s"]),
        (with("1GB/s", "0GB/s"), ["line 2, bandwidth", "as 3GB/s"]),
        (
            format!("{job} profile=a/b,c"),
            [
                "line 2, profile: profile 'a/b,c' contains '/'",
                "use letters",
            ],
        ),
        (
            format!("{job}\n{job}"),
            [
                "line 3, name",
                "line 2 has a job of this name: give each its own",
            ],
        ),
        (
            format!("{job} latency=maybe"),
            ["line 2, latency", "yes or no"],
        ),
        (
            format!("{job} shape=round"),
            ["line 2, shape", "stream or steady"],
        ),
        (
            format!("{job} color=red"),
            ["line 2, color", "is not known"],
        ),
        (format!("{job} at=2s"), ["line 2, at", "given twice"]),
        (format!("{job} nonsense"), ["line 2", "not KEY=VALUE"]),
        (
            format!("{job}\n{}", with("at=1s", "at=0s")),
            ["line 3, at", "sort the jobs"],
        ),
    ] {
        let sentence = read(&line).expect_err(&line).to_string();
        for part in parts {
            assert!(sentence.contains(part), "{line}: {sentence}");
        }
    }
    let error = "job a".parse::<Trace>().expect_err("no head");
    assert!(
        error.to_string().contains("begins with 'pocket-trace 1'"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(text in "(pocket-trace 1\n)?[ -~\n]{0,200}") {
        let _ = text.parse::<Trace>();
    }
}
