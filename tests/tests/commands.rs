//! The commands as people use them: mounting and unmounting in every way, a local cluster, and
//! files without a mount.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pocket_tests::{
    EmbeddedMount, Process, Scratch, binary, can_mount, errno_of, is_mounted, mount_command,
    try_until, until, with_cluster, with_mount, with_mount_and,
};

const DEADLINE: Duration = Duration::from_secs(15);

/// Processes whose command line names `path`.
fn processes_of(path: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(path.to_str().unwrap()) {
            found.push(pid);
        }
    }
    found
}

/// Mounts in the background, as a user does, with the cluster inside; the folder is then served.
fn mount_in_background(folder: &Path) {
    run(&mut mount_command("daemon", folder, &[]));
    assert!(is_mounted(folder), "it returned before it was mounted");
    fs::write(folder.join("f"), "data").unwrap();
    assert_eq!(fs::read(folder.join("f")).unwrap(), b"data");
}

/// Every way to end a mount leaves neither mount nor process.
fn ends_cleanly(end: impl FnOnce(&Path)) {
    if can_mount() {
        let scratch = Scratch::new();
        let folder = scratch.folder("here");
        mount_in_background(&folder);
        assert_eq!(processes_of(&folder).len(), 1);
        end(&folder);
        until(DEADLINE, "the mount to be gone", || !is_mounted(&folder));
        until(DEADLINE, "the process to be gone", || {
            processes_of(&folder).is_empty()
        });
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}

/// Runs a command that must succeed; its standard output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn umount(path: &Path) {
    run(Command::new("umount").arg(path));
}

#[test]
fn a_mount_in_the_background_serves_when_the_command_returns_and_umount_ends_it() {
    ends_cleanly(umount);
}

#[test]
fn fusermount_ends_a_mount() {
    ends_cleanly(|folder| {
        run(Command::new("fusermount3").arg("-u").arg(folder));
    });
}

#[test]
fn sigterm_and_sigint_end_a_mount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        ends_cleanly(|folder| kill(Pid::from_raw(processes_of(folder)[0]), signal).unwrap());
    }
}

#[test]
fn with_auto_unmount_a_mount_goes_with_its_process_however_that_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if !can_mount() {
            return;
        }
        let scratch = Scratch::new();
        let folder = scratch.folder("here");
        run(&mut mount_command(
            "watched",
            &folder,
            &["-o", "auto_unmount"],
        ));
        fs::write(folder.join("f"), "data").unwrap();
        kill(Pid::from_raw(processes_of(&folder)[0]), signal).unwrap();
        until(DEADLINE, "the mount to be gone", || !is_mounted(&folder));
        until(DEADLINE, "its process to be gone", || {
            processes_of(&folder).is_empty()
        });
    }
}

#[test]
fn a_signal_flushes_what_is_buffered() {
    with_cluster(|cluster| {
        let mut first = cluster.mount("flushed");
        let second = cluster.mount("flushed");
        let mut file = fs::File::create(first.join("f")).unwrap();
        file.write_all(b"not yet closed").unwrap();
        first.process().signal(Signal::SIGTERM);
        first.process().wait(DEADLINE);
        drop(file);
        assert_eq!(fs::read(second.join("f")).unwrap(), b"not yet closed");
        second.finish();
    });
}

#[test]
fn a_busy_mount_is_not_unmounted_but_stays() {
    with_mount(|root| {
        let file = fs::File::create(root.join("f")).unwrap();
        let output = Command::new("umount").arg(root).output().unwrap();
        assert!(!output.status.success());
        drop(file);
        fs::write(root.join("f"), "still here").unwrap();
    });
}

#[test]
fn the_embedded_cluster_tells_how_another_mount_joins() {
    if can_mount() {
        let mut mount = EmbeddedMount::start(&[]);
        fs::write(mount.join("f"), "from the first").unwrap();
        let hint = || {
            let log = mount.process().log();
            let line = log.lines().find(|line| line.contains("--controller"));
            line.map(str::to_owned)
        };
        let line = try_until(DEADLINE, hint).expect("a line that tells how to join");
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "--controller");
        let controller = words
            .nth(1)
            .unwrap()
            .trim_matches(|c: char| !c.is_alphanumeric());
        let scratch = Scratch::new();
        let folder = scratch.folder("joined");
        let arguments = ["--controller", controller, "--existing"];
        run(&mut mount_command("embedded", &folder, &arguments));
        assert_eq!(fs::read(folder.join("f")).unwrap(), b"from the first");
        umount(&folder);
        mount.finish();
    }
}

#[test]
fn a_second_mounts_hints_are_ignored_with_a_notice() {
    with_cluster(|cluster| {
        let first = cluster.mount_with("hinted", &["--capacity", "64MiB"]);
        let mut second = cluster.mount_with("hinted", &["--capacity", "128MiB"]);
        let size = |root: &Path| {
            let space = nix::sys::statvfs::statvfs(root).unwrap();
            space.blocks() * space.fragment_size()
        };
        assert_eq!(size(second.path()), 64 << 20);
        until(DEADLINE, "a notice", || {
            second.process().log().contains("ignored")
        });
        first.finish();
        second.finish();
    });
}

#[test]
fn a_read_only_mount_refuses_changes() {
    with_mount_and(&["-o", "ro"], |root| {
        assert_eq!(
            errno_of(&fs::write(root.join("f"), "").unwrap_err()),
            Errno::EROFS
        );
        assert_eq!(
            errno_of(&fs::create_dir(root.join("d")).unwrap_err()),
            Errno::EROFS
        );
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    });
}

#[test]
fn the_root_of_a_job_is_open_to_everyone_as_tmp_is() {
    use std::os::unix::fs::MetadataExt;
    with_mount(|root| {
        assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o1777);
    });
}

#[test]
fn files_are_put_listed_got_and_removed_without_a_mount() {
    with_cluster(|cluster| {
        let folder = cluster.folder("files");
        let data = vec![42; 3_000_000];
        fs::write(folder.join("source"), &data).unwrap();
        let mount = cluster.mount("objects");
        let pocket = |arguments: &[&str]| run(cluster.command(arguments).current_dir(&folder));
        pocket(&["put", "objects/d/e/part-0", "source"]);
        assert!(fs::read(mount.join("d/e/part-0")).unwrap() == data);
        fs::write(mount.join("d/made-here"), "by the mount").unwrap();
        assert!(pocket(&["ls", "objects/d"]).contains("made-here"));
        pocket(&["get", "objects/d/made-here", "copy"]);
        assert_eq!(fs::read(folder.join("copy")).unwrap(), b"by the mount");
        pocket(&["get", "objects/d/e/part-0", "copy"]);
        assert!(fs::read(folder.join("copy")).unwrap() == data);
        pocket(&["rm", "objects/d/made-here"]);
        assert!(!mount.join("d/made-here").exists());
        mount.finish();
    });
}

#[test]
fn commands_that_read_print_json() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("shown", &["--capacity", "64MiB"]);
        fs::write(mount.join("f"), vec![1; 1_000_000]).unwrap();
        let json = |arguments: &[&str]| {
            let text = run(&mut cluster.command(arguments));
            serde_json::from_str::<serde_json::Value>(&text)
                .unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
        };
        for command in ["status", "nodes", "jobs"] {
            json(&[command, "--json"]);
        }
        let job = json(&["job", "show", "shown", "--json"]);
        assert!(job.to_string().contains("shown"));
        assert_eq!(json(&["nodes", "--json"]).as_array().map(Vec::len), Some(3));
        json(&["ls", "shown", "--json"]);
        // And people get tables.
        assert!(run(&mut cluster.command(&["jobs"])).contains("shown"));
        mount.finish();
    });
}

#[test]
fn pocket_up_is_a_cluster_until_it_is_interrupted() {
    if can_mount() {
        let scratch = Scratch::new();
        let controller = pocket_tests::Endpoint::reserve();
        let mut command = Command::new(binary("pocket"));
        command
            .args(["up", "--storage-servers", "2", "--capacity", "256MiB"])
            .args(["--listen", &controller])
            .env("POCKET_CLUSTER_KEY", pocket_tests::CLUSTER_KEY)
            .env("NO_COLOR", "1");
        let mut up = Process::start("up", scratch.path(), command);
        let control = pocket_tests::Control::new(&controller);
        until(DEADLINE, "three servers", || {
            let servers = control.servers().unwrap_or_default();
            servers.iter().filter(|server| server.alive).count() == 3
        });
        let folder = scratch.folder("mounted");
        let arguments = ["--controller", &controller];
        run(&mut mount_command("local", &folder, &arguments));
        fs::write(folder.join("f"), "data").unwrap();
        umount(&folder);
        let children = children_of(up.pid());
        assert_eq!(
            children.len(),
            4,
            "controller, metadata server and two storage servers"
        );
        up.signal(Signal::SIGINT);
        up.finish_signalled();
        until(DEADLINE, "its servers to be gone", || {
            children
                .iter()
                .all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
        });
    }
}

fn children_of(pid: Pid) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let mut children: Vec<String> = Vec::new();
    // Children are listed by the thread that made them.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().map(str::to_owned));
    }
    assert!(!children.is_empty(), "{path}");
    children
}

#[test]
fn mount_8_finds_the_helper() {
    if !can_mount() || !pocket_tests::is_root() {
        return;
    }
    with_cluster(|cluster| {
        let folder = cluster.folder("helper");
        let helper = folder.join("mount.pocket");
        std::os::unix::fs::symlink(binary("pocket-mount"), &helper).unwrap();
        let point = cluster.folder("point");
        let options = format!(
            "controller={},nofail,_netdev",
            cluster.controller_endpoint()
        );
        run(Command::new(&helper).args(["fstab-job", point.to_str().unwrap(), "-o", &options]));
        fs::write(point.join("f"), "through the helper").unwrap();
        umount(&point);
    });
}
