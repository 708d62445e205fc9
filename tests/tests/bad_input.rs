//! Commands given nonsense: a clear sentence, an exit code, and nothing left behind.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pocket_tests::{
    Endpoint, Scratch, is_mounted, mount_command, mounts_below, with_cluster, with_mount, within,
};

/// A mistake is told in less.
const DEADLINE: Duration = Duration::from_secs(15);

/// Runs `pocket-mount`, which must fail in time, leave no mount at or below `folder`, and say
/// something with `words` that is no panic. Returns what it said.
#[track_caller]
fn refuses(folder: &Path, job: &str, path: &Path, arguments: &[&str], words: &str) -> String {
    let mut command = mount_command(job, path, arguments);
    let output = within(DEADLINE, "an error", move || command.output().unwrap());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let case = format!("pocket-mount '{job}' {} {arguments:?}", path.display());
    assert!(!output.status.success(), "{case} succeeded");
    assert!(
        matches!(output.status.code(), Some(1 | 2 | 32)),
        "{case}: {}",
        output.status
    );
    assert!(errors.contains(words), "{case}: no '{words}' in: {errors}");
    assert!(!errors.contains("panicked"), "{case}: {errors}");
    assert_eq!(mounts_below(folder), Vec::<PathBuf>::new(), "{case}");
    errors
}

#[test]
fn a_missing_mount_point_is_named() {
    let scratch = Scratch::new();
    let missing = scratch.path().join("missing");
    refuses(scratch.path(), "job", &missing, &[], "missing");
    assert!(!missing.exists());
}

#[test]
fn a_file_is_no_mount_point() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    refuses(scratch.path(), "job", &file, &[], "directory");
}

#[test]
fn an_occupied_mount_point_is_refused_and_stays_as_it_is() {
    with_mount(|root| {
        fs::write(root.join("f"), "data").unwrap();
        let output = mount_command("other", root, &[]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(errors.contains("mounted"), "{errors}");
        assert_eq!(mounts_below(root), [root]);
        assert_eq!(fs::read(root.join("f")).unwrap(), b"data");
    });
}

#[test]
fn an_unknown_job_is_not_joined() {
    with_cluster(|cluster| {
        let folder = cluster.folder("here");
        let arguments = ["--controller", cluster.controller_endpoint(), "--existing"];
        refuses(&folder, "nobodys", &folder, &arguments, "nobodys");
        assert_eq!(cluster.control().jobs().unwrap(), []);
    });
}

#[test]
fn an_unreachable_controller_is_named() {
    let scratch = Scratch::new();
    let nobody = Endpoint::reserve();
    let arguments = ["--controller", &nobody];
    refuses(scratch.path(), "job", scratch.path(), &arguments, &nobody);
}

#[test]
fn a_controller_that_does_not_answer_is_named() {
    let scratch = Scratch::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let arguments = ["--controller", &silent];
    refuses(scratch.path(), "job", scratch.path(), &arguments, &silent);
}

#[test]
fn a_controller_that_is_something_else_is_no_controller() {
    with_cluster(|cluster| {
        let folder = cluster.folder("here");
        let storage = cluster.storage(0).endpoint().to_owned();
        let arguments = ["--controller", &storage];
        refuses(&folder, "job", &folder, &arguments, &storage);
    });
}

#[test]
fn hints_that_make_no_sense_are_refused_with_what_would() {
    let scratch = Scratch::new();
    let cases: [(&[&str], &str); 11] = [
        (&["--capacity", "0"], "0"),
        (&["--capacity", "ten apples"], "ten apples"),
        (&["--capacity=-5GiB"], "-5GiB"),
        (&["--capacity", "99999999999999TiB"], "99999999999999TiB"),
        (&["--max-tasks", "0"], "1 task"),
        (&["--max-tasks", "many"], "many"),
        (&["--bandwidth", "fast"], "fast"),
        (&["--lease", "yesterday"], "yesterday"),
        (&["--block-size", "3"], "power of two"),
        (&["--block-size", "1GiB"], "power of two"),
        (&["--nonsense"], "--nonsense"),
    ];
    for (arguments, words) in cases {
        refuses(scratch.path(), "job", scratch.path(), arguments, words);
    }
}

#[test]
fn names_that_no_job_can_have_are_refused() {
    let scratch = Scratch::new();
    let long = "n".repeat(1000);
    for name in ["", "a/b", "..", "new\nline", &long] {
        refuses(scratch.path(), name, scratch.path(), &[], "name");
    }
}

#[test]
fn options_that_do_not_exist_are_refused() {
    let scratch = Scratch::new();
    refuses(
        scratch.path(),
        "job",
        scratch.path(),
        &["-o", "nosiud"],
        "nosiud",
    );
}

#[test]
fn a_job_larger_than_the_cluster_leaves_no_job_behind() {
    with_cluster(|cluster| {
        let folder = cluster.folder("here");
        let controller = cluster.controller_endpoint().to_owned();
        let arguments = ["--controller", &controller, "--capacity", "1TiB"];
        refuses(&folder, "large", &folder, &arguments, "1TiB");
        assert_eq!(cluster.control().jobs().unwrap(), []);
    });
}

#[test]
fn commands_name_a_controller_they_cannot_reach() {
    let nobody = Endpoint::reserve();
    for arguments in [
        &["status"][..],
        &["nodes"],
        &["jobs", "--json"],
        &["job", "show", "x"],
        &["job", "deregister", "x"],
        &["ls", "x"],
        &["get", "x/f", "/dev/null"],
    ] {
        let mut command = std::process::Command::new(pocket_tests::binary("pocket"));
        command.args(arguments).env("POCKET_CONTROLLER", &*nobody);
        let output = within(DEADLINE, "an error", move || command.output().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(&*nobody), "{arguments:?}: {errors}");
    }
}

#[test]
fn commands_name_a_job_or_file_that_is_not_there() {
    with_cluster(|cluster| {
        let mount = cluster.mount("real");
        for (arguments, words) in [
            (&["job", "show", "missing-job"][..], "missing-job"),
            (&["job", "deregister", "missing-job"], "missing-job"),
            (&["ls", "missing-job"], "missing-job"),
            (&["get", "missing-job/f", "/dev/null"], "missing-job"),
            (&["get", "real/missing-file", "/dev/null"], "missing-file"),
            (&["rm", "real/missing-file"], "missing-file"),
            (&["put", "real/f", "/missing-source"], "missing-source"),
        ] {
            let output = cluster.command(arguments).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{arguments:?}");
            assert!(errors.contains(words), "{arguments:?}: {errors}");
        }
        let jobs = cluster.control().jobs().unwrap();
        let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["real"], "a command that reads creates no job");
        assert!(is_mounted(mount.path()));
        mount.finish();
    });
}
