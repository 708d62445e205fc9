//! Shell scripts as any user, and whether they may.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

/// Runs a shell script in `folder`, as another user and in the group of the same number if one is
/// given: that needs root.
pub fn shell_as(folder: &Path, script: &str, user: Option<u32>) -> Output {
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-euc", script]);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.output().expect("there is a shell")
}

/// Panics unless the user may do what the script does.
#[track_caller]
pub fn may(folder: &Path, user: u32, script: &str) {
    let (done, errors) = ended(&shell_as(folder, script, Some(user)));
    assert!(done, "{script}: {errors}");
}

/// Panics unless the script is refused for lack of permission.
#[track_caller]
pub fn may_not(folder: &Path, user: u32, script: &str) {
    let (done, errors) = ended(&shell_as(folder, script, Some(user)));
    let refused = errors.contains("ermission denied") || errors.contains("not permitted");
    assert!(!done && refused, "{script}: {errors}");
}

fn ended(output: &Output) -> (bool, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}
