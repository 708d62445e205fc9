//! A folder of its own for every fixture, and the clearing up after suites that were killed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Once,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::statfs::{TMPFS_MAGIC, statfs},
};
use tempfile::TempDir;

/// Folders begin with this and the pid of their suite.
const PREFIX: &str = "pocket-tests-";
/// Where Linux systems mount a tmpfs for everyone.
const TMPFS: &str = "/dev/shm";

/// A folder below the system's temporary one, removed on drop.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A new folder. The first of a process also clears up after suites that died.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A new folder on tmpfs, the file system that mounts are compared with.
    pub fn on_tmpfs() -> Self {
        let kind = statfs(TMPFS).expect("Linux has /dev/shm").filesystem_type();
        assert_eq!(kind, TMPFS_MAGIC, "{TMPFS} is not a tmpfs");
        Self::below(Path::new(TMPFS))
    }

    fn below(parent: &Path) -> Self {
        static CLEAR: Once = Once::new();
        CLEAR.call_once(clear_leftovers);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        // Other users must get through to what is mounted within.
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent);
        Scratch(folder.unwrap_or_else(|error| panic!("{}: {error}", parent.display())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A new folder within.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).expect("the name is new");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Mount points at or below `folder`, deepest first, from the kernel's list.
pub fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(folder))
        .collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    below
}

/// The number of the device mounted at `path`, which for FUSE is that of its connection.
pub(crate) fn device_minor(path: &Path) -> Option<u32> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let mut last = fields.filter(|fields| fields.get(4).map(Path::new) == Some(path));
    let (_, minor) = last.next_back()?.get(2)?.split_once(':')?;
    minor.parse().ok()
}

/// Detaches every mount at or below `folder`, dead ones included; returns those there were.
pub(crate) fn detach_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = mounts_below(folder);
    for mount in &mounts {
        if umount2(mount, MntFlags::MNT_DETACH).is_err() {
            let _ = std::process::Command::new("fusermount3")
                .arg("-uz")
                .arg(mount)
                .output();
        }
    }
    mounts
}

/// Removes the mounts and folders of suites whose process no longer lives.
fn clear_leftovers() {
    let folders = [std::env::temp_dir(), PathBuf::from(TMPFS)];
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    for entry in entries.flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
            pid.parse::<u32>().ok()
        });
        let Some(owner) = owner else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            detach_below(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
