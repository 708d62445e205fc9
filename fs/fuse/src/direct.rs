//! mount(2) and umount(2) by this process, where it may (root).
//!
//! A mount point is this process's to unmount only while its session runs: by then, what lies there
//! may be what somebody else has mounted.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::{getgid, getuid};

use crate::kernel::DEVICE_PATH;
use crate::mount::{MountSettings, Readers};

/// Mounts, and answers the device to serve. None: not with our privileges.
pub(crate) fn mount(mount_point: &Path, settings: &MountSettings) -> io::Result<Option<OwnedFd>> {
    let root_mode = std::fs::metadata(mount_point)?.permissions().mode();
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE_PATH)?;
    let mut data = format!(
        "fd={},rootmode={root_mode:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        getuid(),
        getgid()
    );
    if settings.readers == Readers::Everyone {
        data.push_str(",allow_other");
    }
    let kind = format!("fuse.{}", settings.subtype);
    let mounted = nix::mount::mount(
        Some(settings.source.as_str()),
        mount_point,
        Some(kind.as_str()),
        flags(&settings.options),
        Some(data.as_str()),
    );
    match mounted {
        Ok(()) => Ok(Some(device.into())),
        Err(Errno::EPERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Unmounts what [`mount`] mounted. EBUSY while it is in use.
pub(crate) fn unmount(mount_point: &Path) -> io::Result<()> {
    Ok(umount2(mount_point, MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Takes it out of the tree at once, and for good when nobody uses it any more.
pub(crate) fn detach(mount_point: &Path) -> io::Result<()> {
    let flags = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH;
    Ok(umount2(mount_point, flags)?)
}

/// The kernel's flags for options that are known; of two that contradict the last one holds.
/// Without a word about them, set-id programs and devices do not work.
fn flags(options: &[String]) -> MsFlags {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for option in options {
        let (flag, on) = match option.as_str() {
            "ro" => (MsFlags::MS_RDONLY, true),
            "rw" => (MsFlags::MS_RDONLY, false),
            "nosuid" => (MsFlags::MS_NOSUID, true),
            "suid" => (MsFlags::MS_NOSUID, false),
            "nodev" => (MsFlags::MS_NODEV, true),
            "dev" => (MsFlags::MS_NODEV, false),
            "noexec" => (MsFlags::MS_NOEXEC, true),
            "exec" => (MsFlags::MS_NOEXEC, false),
            "noatime" => (MsFlags::MS_NOATIME, true),
            "atime" => (MsFlags::MS_NOATIME, false),
            "sync" => (MsFlags::MS_SYNCHRONOUS, true),
            "async" => (MsFlags::MS_SYNCHRONOUS, false),
            "dirsync" => (MsFlags::MS_DIRSYNC, true),
            _ => continue,
        };
        flags.set(flag, on);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> MsFlags {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        flags(&options)
    }

    #[test]
    fn the_last_of_two_contradicting_options_holds() {
        let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        assert_eq!(of(&[]), safe);
        assert_eq!(of(&["ro", "suid", "dev", "rw", "nodev"]), MsFlags::MS_NODEV);
        assert_eq!(
            of(&["noexec", "ro"]),
            safe | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY
        );
    }
}
