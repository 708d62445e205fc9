//! What the suites need of the machine: FUSE, and the right to mount.
//!
//! A machine without them fails the suites. A developer's machine may skip instead, by
//! `POCKET_TESTS_ALLOW_SKIP=1`; each skipped test then prints a line.

use std::{env, fs::OpenOptions, process::Command};

/// Environment variable: 1 lets a machine without FUSE skip the tests that need it.
const ALLOW_SKIP: &str = "POCKET_TESTS_ALLOW_SKIP";

/// Whether this machine can mount. Panics where it cannot and skipping is not allowed.
#[track_caller]
pub fn can_mount() -> bool {
    let Err(obstacle) = obstacle() else {
        return true;
    };
    if env::var_os(ALLOW_SKIP).is_some_and(|value| value == "1") {
        println!("SKIPPED: cannot mount here: {obstacle}");
        return false;
    }
    panic!("cannot mount here: {obstacle}; {ALLOW_SKIP}=1 skips the tests that need it");
}

/// Whether the suite runs as root, as tests about other users need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn obstacle() -> Result<(), String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| format!("/dev/fuse: {error}"))?;
    let helper = Command::new("fusermount3").arg("--version").output();
    if !is_root() && helper.is_err() {
        return Err("neither root nor fusermount3 (install fuse3)".to_owned());
    }
    Ok(())
}
