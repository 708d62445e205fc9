//! Mounting through fusermount3, for users who may not mount by themselves.
//!
//! The helper, which runs as root, mounts and hands the connection's descriptor back over a socket
//! whose number it finds in its environment.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::mount::{MountSettings, Readers};

const PROGRAM: &str = "fusermount3";
/// Where the helper finds the number of its end of the socket.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Mounts, and answers the device to serve and the mount point without symbolic links.
pub(crate) fn mount(
    mount_point: &Path,
    settings: &MountSettings,
) -> io::Result<(OwnedFd, PathBuf)> {
    let mount_point = mount_point.canonicalize()?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(PROGRAM);
    command
        .arg("-o")
        .arg(options(settings))
        .arg("--")
        .arg(&mount_point)
        .env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    pass_on(&mut command, theirs.as_raw_fd());
    let helper = command.spawn()?;
    drop(theirs);
    let device = receive(&ours)?;
    drop(ours);
    let output = helper.wait_with_output()?;
    match device {
        Some(device) if output.status.success() => Ok((device, mount_point)),
        _ => Err(refusal(&output)),
    }
}

/// Takes the mount out of the tree at once; it ends when nobody uses it any more.
pub(crate) fn unmount(mount_point: &Path) -> io::Result<()> {
    let mut command = Command::new(PROGRAM);
    command.args(["-u", "-q", "-z", "--"]).arg(mount_point);
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(refusal(&output)),
    }
}

fn options(settings: &MountSettings) -> String {
    // A comma would begin another option.
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = vec![
        format!("fsname={}", escaped(&settings.source)),
        format!("subtype={}", escaped(&settings.subtype)),
        "default_permissions".to_owned(),
    ];
    options.extend(settings.options.iter().cloned());
    if settings.readers == Readers::Everyone {
        options.push("allow_other".to_owned());
    }
    options.join(",")
}

/// Lets the program that is started have the descriptor, which is closed for all others.
fn pass_on(command: &mut Command, descriptor: RawFd) {
    let keep = move || {
        // SAFETY: the caller's descriptor is open until the program has been started.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: between fork and exec this calls fcntl(2) and nothing else, which is allowed there.
    unsafe { command.pre_exec(keep) };
}

/// The descriptor that the helper sends; none if it ends without.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut pieces = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let sent = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made the descriptor for this process, and nobody else knows it.
    Ok(sent.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// What the helper said, as an error.
fn refusal(output: &Output) -> io::Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let kind = match said.contains("user_allow_other") {
        true => io::ErrorKind::PermissionDenied,
        false => io::ErrorKind::Other,
    };
    match said.trim() {
        "" => io::Error::new(kind, format!("{PROGRAM} ended with {}", output.status)),
        said => io::Error::new(kind, said.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_cannot_bring_options_in() {
        let settings = MountSettings {
            source: "a,suid\\".to_owned(),
            options: vec!["ro".to_owned()],
            ..MountSettings::default()
        };
        assert_eq!(
            options(&settings),
            "fsname=a\\,suid\\\\,subtype=pocket,default_permissions,ro,allow_other"
        );
    }

    #[test]
    fn a_helper_that_ends_without_a_descriptor_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).unwrap().is_none());
    }
}
