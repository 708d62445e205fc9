//! A cluster and its mounts can be watched: `.pocket` in each mount, and a page of metrics on every
//! process.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::signal::Signal,
};
use pocket_tests::{
    Process, Scratch, binary, can_mount, errno_of, get_xattr, metrics::http, mount_command,
    set_xattr, shell_as, try_until, with_cluster, with_mount,
};

const DEADLINE: Duration = Duration::from_secs(30);

fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[track_caller]
fn errno<T>(outcome: std::io::Result<T>) -> Errno {
    match outcome {
        Ok(_) => panic!("it should have failed"),
        Err(error) => errno_of(&error),
    }
}

#[test]
fn the_control_directory_is_found_by_its_name_and_listed_nowhere() {
    with_mount(|root| {
        fs::write(root.join("mine"), "x").unwrap();
        assert_eq!(listed(root), ["mine"]);
        let control = root.join(".pocket");
        let status = fs::metadata(&control).unwrap();
        assert!(status.is_dir());
        assert_eq!(status.permissions().mode() & 0o7777, 0o555);
        assert_eq!(listed(&control), ["config", "job", "stats"]);
        for name in ["config", "job", "stats"] {
            let path = control.join(name);
            let status = fs::metadata(&path).unwrap();
            assert!(status.is_file() && status.len() == 0, "{name}");
            assert_ne!(status.ino(), fs::metadata(root.join("mine")).unwrap().ino());
            assert!(!fs::read_to_string(&path).unwrap().is_empty(), "{name}");
        }
        assert_eq!(errno(fs::metadata(control.join("none"))), Errno::ENOENT);
        // One of the user's own, further down, is nobody else's business.
        fs::create_dir_all(root.join("d/.pocket/e")).unwrap();
        assert_eq!(listed(&root.join("d")), [".pocket"]);
        let script = "ls -la .pocket && cat .pocket/* && tar cf - . | tar tf - && rm -rf d mine";
        let output = shell_as(root, script, None);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("./.pocket/"), "{said}");
        assert_eq!(listed(root), Vec::<String>::new());
    });
}

#[test]
fn the_control_directory_cannot_be_changed_and_its_name_is_taken() {
    with_mount(|root| {
        let control = root.join(".pocket");
        let stats = control.join("stats");
        fs::write(root.join("mine"), "x").unwrap();
        fs::create_dir(root.join("d")).unwrap();

        let write = || OpenOptions::new().write(true).open(&stats);
        assert_eq!(errno(write()), Errno::EPERM);
        assert_eq!(errno(File::create(&stats)), Errno::EPERM);
        assert_eq!(errno(File::create(control.join("new"))), Errno::EPERM);
        assert_eq!(errno(fs::create_dir(control.join("new"))), Errno::EPERM);
        assert_eq!(errno(symlink("x", control.join("new"))), Errno::EPERM);
        let linked = fs::hard_link(root.join("mine"), control.join("new"));
        assert_eq!(errno(linked), Errno::EPERM);
        assert_eq!(errno(fs::hard_link(&stats, root.join("s"))), Errno::EPERM);
        assert_eq!(errno(fs::remove_file(&stats)), Errno::EPERM);
        assert_eq!(errno(fs::remove_dir(&control)), Errno::EPERM);
        assert_eq!(errno(fs::rename(&stats, root.join("s"))), Errno::EPERM);
        assert_eq!(errno(fs::rename(&control, root.join("s"))), Errno::EPERM);
        let moved = fs::rename(root.join("mine"), control.join("new"));
        assert_eq!(errno(moved), Errno::EPERM);
        assert_eq!(errno(fs::rename(root.join("d"), &control)), Errno::EPERM);
        let exchanged = renameat2(
            AT_FDCWD,
            &root.join("d"),
            AT_FDCWD,
            &control,
            RenameFlags::RENAME_EXCHANGE,
        );
        assert_eq!(exchanged, Err(Errno::EPERM));
        for path in [&control, &stats] {
            let mode = fs::set_permissions(path, fs::Permissions::from_mode(0o777));
            assert_eq!(errno(mode), Errno::EPERM);
            assert_eq!(set_xattr(path, "user.a", b"b", 0), Err(Errno::EPERM));
            assert_eq!(get_xattr(path, "user.a"), Err(Errno::ENODATA));
        }

        // The name is taken, whatever is to be made of it.
        assert_eq!(errno(fs::create_dir(&control)), Errno::EEXIST);
        assert_eq!(errno(File::create_new(&control)), Errno::EEXIST);
        assert_eq!(errno(symlink("x", &control)), Errno::EEXIST);
        let linked = fs::hard_link(root.join("mine"), &control);
        assert_eq!(errno(linked), Errno::EEXIST);

        assert_eq!(listed(root), ["d", "mine"]);
        assert_eq!(listed(&control), ["config", "job", "stats"]);
    });
}

#[test]
fn a_handle_of_a_control_file_tells_what_was_when_it_was_opened() {
    with_mount(|root| {
        let stats = root.join(".pocket/stats");
        let mut first = File::open(&stats).unwrap();
        let mut text = String::new();
        first.read_to_string(&mut text).unwrap();
        fs::write(root.join("f"), vec![7; 3 << 20]).unwrap();
        first.seek(SeekFrom::Start(0)).unwrap();
        let mut again = String::new();
        first.read_to_string(&mut again).unwrap();
        assert_eq!(text, again);
        let later = fs::read_to_string(&stats).unwrap();
        assert_ne!(text, later);
        let of = |text: &str, meaning: &str| {
            let mut lines = text.lines().skip_while(|line| !line.contains(meaning));
            lines.nth(1).unwrap_or_default().trim().to_owned()
        };
        assert_eq!(of(&text, "bytes that programs have written"), "0 B");
        assert_eq!(of(&later, "bytes that programs have written"), "3 MiB");
        assert!(
            later.lines().any(|line| line.starts_with("  write ")),
            "{later}"
        );
    });
}

#[test]
fn the_control_files_tell_the_mounts_settings_and_its_job() {
    with_cluster(|cluster| {
        let arguments = ["--capacity", "64MiB", "--max-tasks", "3"];
        let mount = cluster.mount_with("told", &arguments);
        let config = fs::read_to_string(mount.join(".pocket/config")).unwrap();
        let path = mount.path().display().to_string();
        for part in [&path, "told", cluster.controller_endpoint(), "not served"] {
            assert!(config.contains(part), "{part} in {config}");
        }
        let job = fs::read_to_string(mount.join(".pocket/job")).unwrap();
        for part in [
            "told",
            "64MiB",
            "max-tasks 3",
            "storage server",
            "epoch",
            "cost",
        ] {
            assert!(job.contains(part), "{part} in {job}");
        }
        mount.finish();
    });
}

/// The sum of a metric's samples on a page.
fn sum(page: &str, name: &str) -> f64 {
    let samples = page.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let values = samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

#[test]
fn every_server_and_every_mount_serves_what_it_counts() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let mut command = Command::new(binary("pocket"));
    command.args(["up", "--json", "--listen", "127.0.0.1:0"]);
    command.args(["--metrics", "127.0.0.1:0", "--capacity", "64MiB"]);
    let mut up = Process::start("up", scratch.path(), command);
    let cluster = try_until(DEADLINE, || {
        let log = up.log();
        let line = log.lines().find(|line| line.starts_with('{'))?;
        serde_json::from_str::<serde_json::Value>(line).ok()
    });
    let cluster = cluster.unwrap_or_else(|| panic!("no cluster: {}", up.log()));
    let controller = cluster["controller"].as_str().unwrap();

    let folder = scratch.folder("mount");
    let arguments = ["--controller", controller, "--metrics", "127.0.0.1:0"];
    let mounted = mount_command("counted", &folder, &arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
    let said = String::from_utf8(mounted.stdout).unwrap();
    let line = said.lines().find(|line| line.contains("/metrics")).unwrap();
    let mount = line.split("http://").nth(1).unwrap();
    let mount = mount.strip_suffix("/metrics").unwrap();
    fs::write(folder.join("f"), vec![7; 5 << 20]).unwrap();
    assert_eq!(fs::read(folder.join("f")).unwrap().len(), 5 << 20);

    let pages = cluster["servers"].as_array().unwrap().iter().map(|server| {
        let endpoint = server["metrics"].as_str().unwrap();
        (server["role"].as_str().unwrap(), http(endpoint, "/metrics"))
    });
    let pages: Vec<_> = pages.chain([("mount", http(mount, "/metrics"))]).collect();
    for (role, page) in &pages {
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_threads",
        ] {
            assert!(sum(page, name) > 0.0, "{name} of {role}:\n{page}");
        }
    }
    let of = |wanted: &str, name: &str| -> f64 {
        let pages = pages.iter().filter(|(role, _)| *role == wanted);
        pages.map(|(_, page)| sum(page, name)).sum()
    };
    let bytes = f64::from(5 << 20);
    assert_eq!(of("mount", "pocket_mount_written_bytes_total"), bytes);
    assert_eq!(of("mount", "pocket_mount_read_bytes_total"), bytes);
    assert!(of("mount", "pocket_fuse_request_duration_seconds_count") >= 10.0);
    assert!(of("storage", "pocket_storage_received_bytes_total") >= bytes);
    assert!(of("storage", "pocket_storage_sent_bytes_total") >= bytes);
    assert!(of("storage", "pocket_storage_used_bytes") >= bytes);
    assert_eq!(
        of("storage", "pocket_storage_capacity_bytes"),
        f64::from(128 << 20)
    );
    assert_eq!(of("meta", "pocket_meta_sessions"), 1.0);
    assert_eq!(of("meta", "pocket_meta_inodes"), 2.0);
    assert!(of("meta", "pocket_meta_operation_duration_seconds_count") > 0.0);
    assert!(of("controller", "pocket_controller_uptime_seconds") > 0.0);

    let unmounted = Command::new("umount").arg(&folder).status().unwrap();
    assert!(unmounted.success());
    up.signal(Signal::SIGINT);
    up.finish();
}
