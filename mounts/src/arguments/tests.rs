//! Command lines, and what becomes of them.

use std::time::Duration;

use pocket_proto::BlockBytes;

use super::*;

fn parse(line: &str) -> Result<MountRequest, ArgumentError> {
    MountRequest::parse(line.split_whitespace().map(OsString::from).collect())
}

fn mistake(line: &str) -> String {
    let error = parse(line).expect_err(line);
    assert!(!error.is_help(), "{line}");
    error.to_string()
}

#[test]
fn flags_become_a_request() {
    let request = parse(
        "pocket-mount sort-42 /mnt/x --controller http://h --max-tasks 100 --capacity 10GiB \
         --bandwidth 8Gb/s --latency-sensitive --lease 5m --keep --block-size 64KiB \
         --memory-budget 256MiB -f -vv -o ro,noexec -o umask=022 --existing --log-file /l",
    )
    .unwrap();
    assert_eq!(request.job, "sort-42");
    assert_eq!(request.mountpoint, Path::new("/mnt/x"));
    assert_eq!(
        request.controller.as_ref().map(ControllerAddress::as_str),
        Some("h:7300")
    );
    let hints = request.terms.hints.to_message();
    assert_eq!(hints.max_tasks, Some(100));
    assert_eq!(hints.capacity_bytes, Some(10 << 30));
    assert_eq!(hints.bandwidth_bytes_per_second, Some(1_000_000_000));
    assert_eq!(hints.latency_sensitive, Some(true));
    assert_eq!(request.terms.lease, Some(Duration::from_secs(300)));
    assert_eq!(request.terms.block_size.map(BlockBytes::get), Some(65_536));
    assert_eq!(request.memory_budget, Some(ByteCount(256 << 20)));
    assert_eq!(request.log_file.as_deref(), Some(Path::new("/l")));
    assert_eq!(request.verbosity, 2);
    assert!(request.foreground && request.terms.keep && request.existing);
    assert!(request.options.read_only && request.options.no_exec);
    assert_eq!(request.options.presentation.umask, Some(0o22));
}

#[test]
fn a_job_persists_for_its_time_to_live() {
    let request = parse("pocket-mount j /mnt/x --persist --ttl 7d --delete-after-read").unwrap();
    let terms = request.terms.to_terms("j");
    assert_eq!(terms.lease, Some(Duration::from_secs(7 * 86_400)));
    assert!(terms.persist && terms.delete_after_read && !terms.keep);
    let options = parse("mount.pocket j /mnt/x -o persist,ttl=7d,delete_after_read").unwrap();
    assert_eq!(options.terms, request.terms);
    assert!(parse("pocket-mount j /mnt/x --attach").unwrap().existing);
    for (wrong, says) in [
        ("pocket-mount j /mnt/x --ttl 1d", "--persist"),
        ("pocket-mount j /mnt/x -o ttl=1d", "give --persist as well"),
        (
            "pocket-mount j /mnt/x --persist --keep",
            "cannot be used with",
        ),
        ("pocket-mount j /mnt/x --persist --ttl 2y", "not a time"),
        ("pocket-mount j /mnt/x --persist --ttl 400d", "365 days"),
    ] {
        assert!(mistake(wrong).contains(says), "{wrong}: {}", mistake(wrong));
    }
}

#[test]
fn nothing_is_assumed_about_a_job() {
    let request = parse("pocket-mount j /mnt/x").unwrap();
    assert_eq!(request.terms, JobArguments::default());
    assert_eq!(request.terms.hints.to_message(), Default::default());
    assert!(!request.foreground && !request.existing && !request.dry_run);
}

#[test]
fn latency_sensitivity_may_be_denied() {
    for (flag, expected) in [
        ("", None),
        ("--latency-sensitive", Some(true)),
        ("--latency-sensitive=true", Some(true)),
        ("--latency-sensitive=false", Some(false)),
        ("-o latency_sensitive", Some(true)),
        ("-o latency_sensitive=false", Some(false)),
    ] {
        let request = parse(&format!("pocket-mount {flag} j /mnt/x")).unwrap();
        assert_eq!(request.terms.hints.latency_sensitive, expected, "{flag}");
    }
}

#[test]
fn a_flag_wins_over_an_option() {
    let request = parse("pocket-mount j /m --capacity 1GiB -o capacity=2GiB,max_tasks=7").unwrap();
    let hints = request.terms.hints;
    assert_eq!(hints.capacity, Some(ByteCount(1 << 30)));
    assert_eq!(hints.max_tasks, Some(7));
}

#[test]
fn mistakes_are_explained() {
    for (arguments, part) in [
        ("", "Usage"),
        ("j", "MOUNTPOINT"),
        ("j /m extra", "extra"),
        ("j /m --capacity lots", "write a number and a unit"),
        ("j /m --capacity 0", "more than 0"),
        ("j /m --max-tasks 0", "at least 1 task"),
        ("j /m --bandwidth 8", "8Gb/s"),
        ("j /m --lease 0s", "between 1s and 7 days"),
        ("j /m --block-size 3KiB", "power of two"),
        ("j /m --controller ::", "HOST:PORT"),
        ("j /m -o nosiud", "unknown mount option 'nosiud'"),
        ("j /m -o capacity=lots", "mount option capacity=lots"),
        ("j /m -o max_tasks=0", "at least 1 task"),
        ("j /m --controller h --embedded-servers 2", "cannot be used"),
        ("j /m --embedded-servers 0", "0"),
    ] {
        let message = mistake(&format!("pocket-mount {arguments}"));
        assert!(message.contains(part), "{arguments}: {message}");
    }
}

#[test]
fn help_is_no_mistake() {
    for line in ["pocket-mount --help", "pocket-mount -V"] {
        assert!(parse(line).unwrap_err().is_help(), "{line}");
    }
}

#[test]
fn the_helper_reads_what_mount_passes() {
    for line in [
        "/sbin/mount.pocket j /m -o rw,capacity=1GiB,noexec,_netdev",
        "mount.pocket -n -o rw,capacity=1GiB,noexec j /m",
        "mount.pocket j -norw,capacity=1GiB -o noexec /m -t pocket.sub",
        "mount.pocket -s j /m -o bogus,capacity=1GiB,noexec,other=1",
    ] {
        let request = parse(line).unwrap();
        assert_eq!(
            (request.job.as_str(), request.dry_run),
            ("j", false),
            "{line}"
        );
        assert_eq!(request.mountpoint, Path::new("/m"));
        let capacity = request.terms.hints.capacity;
        assert_eq!(capacity, Some(ByteCount(1 << 30)), "{line}");
        assert!(request.options.no_exec && !request.foreground, "{line}");
    }
    let request = parse("mount.pocket j /m -fv").unwrap();
    assert!(request.dry_run && request.verbosity == 1);
}

#[test]
fn the_helper_explains_mistakes() {
    for (arguments, part) in [
        ("j", "expected a job and a mount point"),
        ("j /m more", "expected a job and a mount point"),
        ("j /m -x", "unknown flag '-x'"),
        ("j /m -o", "-o needs a value"),
        ("j /m -o bogus", "unknown mount option 'bogus'"),
        ("j /m -s -o uid=x", "not a numeric id"),
    ] {
        let message = mistake(&format!("mount.pocket {arguments}"));
        assert!(message.contains(part), "{arguments}: {message}");
    }
}
