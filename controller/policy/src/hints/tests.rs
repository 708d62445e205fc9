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

/// Hints of so many tasks, of so much each and in all.
fn of_tasks(tasks: u32, each: [u64; 2], all: [Option<u64>; 2]) -> Hints {
    Hints {
        max_tasks: Some(tasks),
        task_capacity_bytes: Some(each[0]),
        task_bandwidth_bytes_per_second: Some(each[1]),
        capacity_bytes: all[0],
        bandwidth_bytes_per_second: all[1],
        ..Hints::default()
    }
}

#[test]
fn a_range_ends_where_its_sentence_says() {
    const PIB: u64 = 1 << 50;
    let capacity = |capacity_bytes, most| Hints {
        capacity_bytes: Some(capacity_bytes),
        capacity_bytes_max: most,
        ..Hints::default()
    };
    let bandwidth = |bandwidth_bytes_per_second| Hints {
        bandwidth_bytes_per_second: Some(bandwidth_bytes_per_second),
        ..Hints::default()
    };
    let tasks = |max_tasks| Hints {
        max_tasks: Some(max_tasks),
        ..Hints::default()
    };
    for (within, beyond, part) in [
        (tasks(1), tasks(0), "max-tasks is 0"),
        (tasks(1_000_000), tasks(1_000_001), "at most 1000000"),
        (
            capacity(4_096, None),
            capacity(4_095, None),
            "at least 4KiB",
        ),
        (
            capacity(8 * PIB, None),
            capacity(8 * PIB + 1, None),
            "at most 8192TiB",
        ),
        (
            capacity(8_192, Some(8 * PIB)),
            capacity(8_192, Some(8 * PIB + 1)),
            "at most 8192TiB",
        ),
        (
            capacity(8_192, Some(8_192)),
            capacity(8_192, Some(8_191)),
            "give as much or more",
        ),
        (
            bandwidth(1_000),
            bandwidth(999),
            "in which nothing gets done",
        ),
        (
            bandwidth(125_000_000_000_000),
            bandwidth(125_000_000_000_001),
            "at most 125000000000000 (1 Pb/s)",
        ),
        (
            of_tasks(4, [1_024, 250], [None; 2]),
            of_tasks(4, [1_023, 250], [None; 2]),
            "at least 4KiB in all",
        ),
        (
            of_tasks(8, [PIB, 1_000], [None; 2]),
            of_tasks(8, [PIB + 1, 1_000], [None; 2]),
            "at most 8192TiB in all",
        ),
        (
            of_tasks(8, [9_999, 9_999], [Some(9_999); 2]),
            of_tasks(8, [9_999, 9_999], [Some(9_999), Some(9_998)]),
            "hint bandwidth only",
        ),
    ] {
        assert_eq!(check_hints(&within), Ok(()));
        let sentence = check_hints(&beyond).expect_err(part).to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
    for (keep, persist, most) in [
        (false, false, 604_800),
        (true, false, 604_800),
        (false, true, 31_536_000),
    ] {
        let lasting = |lease_seconds| RegisterJobRequest {
            keep,
            persist,
            lease_seconds,
            ..request("x")
        };
        assert!(check_request(&lasting(most)).is_ok());
        let sentence = check_request(&lasting(most + 1))
            .expect_err("beyond")
            .to_string();
        assert!(
            sentence.contains(&format!("at most {most} s")),
            "{sentence}"
        );
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
                persist: true,
                keep: true,
                ..request("x")
            },
            "leave one out",
        ),
        (
            RegisterJobRequest {
                protocol_version: 99,
                ..request("x")
            },
            "same release",
        ),
    ] {
        let error = check_request(&request).expect_err(part);
        let sentence = error.to_string();
        assert!(sentence.contains(part), "{sentence}");
        let status = match part {
            "same release" => Status::VersionMismatch,
            _ => Status::Invalid,
        };
        assert_eq!(Failure::from(error).status, status);
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
