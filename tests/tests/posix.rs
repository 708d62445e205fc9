//! What files do, through one mount: every claim is tried on tmpfs too, so that a claim which
//! POSIX does not make is noticed there.

#![allow(clippy::unwrap_used)]

use std::{io, path::Path};

use nix::errno::Errno;
use pocket_tests::{Scratch, shell_as};

/// Makes two tests of each claim, a function of an empty directory.
macro_rules! claims {
    ($($claim:ident),* $(,)?) => {
        mod on_tmpfs {
            $(#[test] fn $claim() { crate::on_tmpfs(super::$claim); })*
        }
        mod on_mount {
            $(#[test] fn $claim() { pocket_tests::with_mount(super::$claim); })*
        }
    };
}

#[path = "posix/acls.rs"]
mod acls;
#[path = "posix/attributes.rs"]
mod attributes;
#[path = "posix/data.rs"]
mod data;
#[path = "posix/directories.rs"]
mod directories;
#[path = "posix/limits.rs"]
mod limits;
#[path = "posix/links.rs"]
mod links;
#[path = "posix/maps.rs"]
mod maps;
#[path = "posix/nodes.rs"]
mod nodes;
#[path = "posix/open.rs"]
mod open;
#[path = "posix/permissions.rs"]
mod permissions;
#[path = "posix/programs.rs"]
mod programs;
#[path = "posix/ranges.rs"]
mod ranges;
#[path = "posix/rename.rs"]
mod rename;
#[path = "posix/temporary.rs"]
mod temporary;
#[path = "posix/unlinked.rs"]
mod unlinked;
#[path = "posix/xattrs.rs"]
mod xattrs;

fn on_tmpfs(claim: fn(&Path)) {
    claim(Scratch::on_tmpfs().path());
}

/// The errno that a call ended with; panics if it did not fail.
#[track_caller]
fn errno<T>(result: io::Result<T>) -> Errno {
    match result {
        Ok(_) => panic!("should have failed"),
        Err(error) => pocket_tests::errno_of(&error),
    }
}

/// Runs a shell script in `folder`; panics with its output if it fails.
#[track_caller]
fn shell(folder: &Path, script: &str) -> String {
    let output = shell_as(folder, script, None);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{text}{errors}");
    text
}

/// `length` bytes, none of them zero, no two blocks alike.
fn data(length: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(0x9e37_79b1) >> 16) as u8 | 1;
    (0..length).map(byte).collect()
}
