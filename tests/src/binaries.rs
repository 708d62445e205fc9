//! Finding the programs under test: `pocket` and `pocket-mount` of this source tree.
//!
//! They are built here (through cargo, in the profile of the running test) unless
//! `POCKET_TESTS_BIN_DIR` names a folder that has them, so that a suite never runs against
//! yesterday's binary.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Environment variable: a folder with ready binaries, used as they are.
const BIN_DIR: &str = "POCKET_TESTS_BIN_DIR";

/// The path of a program of the project. Builds it when needed; panics with cargo's output when
/// that fails.
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match env::var_os(BIN_DIR) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => build(),
    });
    let folder = folder.as_ref().unwrap_or_else(|errors| {
        panic!("cannot build the programs under test:\n{errors}");
    });
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "no program {} (built by cargo?)",
        path.display()
    );
    path
}

/// The root of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace's folder")
}

fn build() -> Result<PathBuf, String> {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace())
        .args(["build", "--quiet", "--package", "pocket-mounts", "--bins"])
        .args(["--profile", profile])
        .output()
        .expect("cargo runs, as it built this test");
    match output.status.success() {
        true => Ok(folder),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// `target/debug` of `target/debug/deps/suite-0123456789abcdef`.
fn profile_folder() -> PathBuf {
    let test = env::current_exe().expect("the running test has a path");
    let folder = test.ancestors().find(|folder| {
        let parts = [folder.join("deps"), folder.join("build")];
        parts.iter().all(|part| part.is_dir())
    });
    folder
        .expect("a test lies in cargo's target folder")
        .to_owned()
}
