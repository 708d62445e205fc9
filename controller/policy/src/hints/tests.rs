//! What is refused, with the sentence, and what is filled in.

use super::*;

fn request(name: &str) -> RegisterJobRequest {
    RegisterJobRequest {
        name: name.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        ..RegisterJobRequest::default()
    }
}

fn with_hints(hints: Hints) -> RegisterJobRequest {
    RegisterJobRequest {
        hints: Some(hints),
        ..request("x")
    }
}

#[test]
fn names_are_safe_everywhere() {
    let longest = "a".repeat(NAME_BYTES_MAX);
    for name in ["a", "sort-42", "_x.Y-9", "7", &longest] {
        assert!(check_request(&request(name)).is_ok(), "{name}");
    }
    let too_long = "a".repeat(NAME_BYTES_MAX + 1);
    for (name, part) in [
        ("", "job name '' is empty"),
        (".", "starts with '.'"),
        ("..", "starts with '.'"),
        ("-x", "starts with '-'"),
        ("a/b", "contains '/'"),
        ("a b", "contains ' '"),
        ("a\n", "contains '\\n'"),
        ("\u{e4}", "contains '\u{e4}'"),
        ("x\0", "contains '\\0'"),
        (&too_long, "129 bytes"),
    ] {
        let sentence = check_request(&request(name)).expect_err(name).to_string();
        assert!(sentence.contains(part), "{name:?}: {sentence}");
    }
}

#[test]
fn absurd_hints_are_named_with_the_fix() {
    for (hints, parts) in [
        (
            Hints {
                capacity_bytes_max: Some(1 << 30),
                ..Hints::default()
            },
            ["hint max-capacity", "hint a capacity as well"],
        ),
        (
            Hints {
                capacity_bytes: Some(1 << 30),
                capacity_bytes_max: Some(1 << 60),
                ..Hints::default()
            },
            ["hint max-capacity is 1048576TiB", "at most 8192TiB"],
        ),
        (
            Hints {
                max_tasks: Some(2),
                task_capacity_bytes: Some(1 << 30),
                capacity_bytes_max: Some(1 << 30),
                ..Hints::default()
            },
            ["hint max-capacity is 1GiB", "the capacity of 2GiB"],
        ),
        (
            Hints {
                max_tasks: Some(0),
                ..Hints::default()
            },
            ["hint max-tasks is 0", "leave the hint out"],
        ),
        (
            Hints {
                max_tasks: Some(u32::MAX),
                ..Hints::default()
            },
            ["hint max-tasks is 4294967295", "at most 1000000"],
        ),
        (
            Hints {
                capacity_bytes: Some(0),
                ..Hints::default()
            },
            ["hint capacity is 0B", "at least 4KiB"],
        ),
        (
            Hints {
                capacity_bytes: Some(u64::MAX),
                ..Hints::default()
            },
            ["hint capacity is", "at most 8192TiB"],
        ),
        (
            Hints {
                bandwidth_bytes_per_second: Some(0),
                ..Hints::default()
            },
            ["hint bandwidth is 0", "as 8Gb/s"],
        ),
        (
            Hints {
                bandwidth_bytes_per_second: Some(u64::MAX),
                ..Hints::default()
            },
            ["hint bandwidth is", "at most"],
        ),
        (
            Hints {
                task_capacity_bytes: Some(1 << 30),
                ..Hints::default()
            },
            [
                "hint task-capacity is of each task",
                "give max-tasks as well",
            ],
        ),
        (
            Hints {
                max_tasks: Some(1_000),
                task_bandwidth_bytes_per_second: Some(u64::MAX),
                ..Hints::default()
            },
            ["hint task-bandwidth of", "for each of 1000 tasks"],
        ),
        (
            Hints {
                max_tasks: Some(10),
                task_capacity_bytes: Some(1 << 52),
                ..Hints::default()
            },
            [
                "task-capacity of 4096TiB for each of 10 tasks",
                "at most 8192TiB in all",
            ],
        ),
        (
            Hints {
                max_tasks: Some(1),
                task_capacity_bytes: Some(1),
                ..Hints::default()
            },
            [
                "task-capacity of 1B for each of 1 tasks",
                "at least 4KiB in all",
            ],
        ),
        (
            Hints {
                max_tasks: Some(9),
                task_bandwidth_bytes_per_second: Some(1),
                ..Hints::default()
            },
            ["task-bandwidth of", "at least"],
        ),
        (
            Hints {
                max_tasks: Some(10),
                capacity_bytes: Some(1 << 30),
                task_capacity_bytes: Some(1 << 40),
                ..Hints::default()
            },
            [
                "task-capacity is 1TiB for a task, but the hint capacity only 1GiB",
                "correct one of them",
            ],
        ),
        (
            Hints {
                max_tasks: Some(10),
                bandwidth_bytes_per_second: Some(1_000_000),
                task_bandwidth_bytes_per_second: Some(2_000_000),
                ..Hints::default()
            },
            ["but the hint bandwidth only", "correct one of them"],
        ),
        (
            Hints {
                max_tasks: Some(1),
                task_bandwidth_bytes_per_second: Some(0),
                ..Hints::default()
            },
            ["hint task-bandwidth is 0", "leave the hint out"],
        ),
    ] {
        let error = check_request(&with_hints(hints)).expect_err("absurd");
        let sentence = error.to_string();
        for part in parts {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert_eq!(Failure::from(error).status, Status::Invalid);
    }
}

#[test]
fn absurd_terms_are_refused() {
    for (request, part) in [
        (
            RegisterJobRequest {
                lease_seconds: u64::MAX,
                ..request("x")
            },
            "--keep",
        ),
        (
            RegisterJobRequest {
                block_bytes: 5_000,
                ..request("x")
            },
            "power of two",
        ),
        (
            RegisterJobRequest {
                protocol_version: 99,
                ..request("x")
            },
            "same release",
        ),
    ] {
        let sentence = check_request(&request).expect_err(part).to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let terms = check_request(&request("x")).expect("makes sense");
    assert_eq!(terms.block_bytes, BlockBytes::DEFAULT);
    assert_eq!(terms.lease, Lease::new(60, false));
    assert_eq!(terms.profile, "x");
    let other = RegisterJobRequest {
        profile: "nightly".to_owned(),
        ..request("x")
    };
    assert_eq!(
        check_request(&other).expect("makes sense").profile,
        "nightly"
    );
    let strange = RegisterJobRequest {
        profile: "a/b".to_owned(),
        ..request("x")
    };
    let sentence = check_request(&strange).expect_err("strange").to_string();
    assert!(
        sentence.starts_with("profile 'a/b' contains '/'"),
        "{sentence}"
    );
    assert_eq!(terms.hints, Hints::default());
}
