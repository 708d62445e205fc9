//! The command line that mount(8) gives its helpers:
//! `mount.pocket SOURCE TARGET [-sfnv] [-N namespace] [-o options] [-t type.subtype]`.
//!
//! Read by hand: flags may stand anywhere and together (`-nv`), and must not be mistaken for
//! those of `pocket-mount` (`-f` means "do everything but the mount" here).

use std::{env, ffi::OsString};

use super::{ArgumentError, MountRequest};
use crate::options::{MountOptions, OptionError};

/// Reads the arguments behind the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Result<MountRequest, ArgumentError> {
    let mut positional = Vec::new();
    let mut lists = Vec::new();
    let (mut sloppy, mut dry_run, mut verbosity) = (false, false, 0);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let Some(flags) = text.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            positional.push(argument.clone());
            continue;
        };
        for (at, flag) in flags.char_indices() {
            match flag {
                's' => sloppy = true,
                'f' => dry_run = true,
                'v' => verbosity += 1,
                'n' => {}
                'r' => lists.push("ro".to_owned()),
                'w' => lists.push("rw".to_owned()),
                'o' | 't' | 'N' => {
                    let attached = &flags[at + 1..];
                    let value = match (attached.is_empty(), rest.len()) {
                        (true, 0) => return Err(wrong(format!("-{flag} needs a value"))),
                        (true, _) => rest.next().map(|next| next.to_string_lossy().into_owned()),
                        (false, _) => Some(attached.to_owned()),
                    };
                    if flag == 'o' {
                        lists.extend(value);
                    }
                    break;
                }
                _ => return Err(wrong(format!("unknown flag '-{flag}'"))),
            }
        }
    }
    let [source, target] = <[OsString; 2]>::try_from(positional)
        .map_err(|found| wrong(format!("expected a job and a mount point, found {found:?}")))?;
    let mut request = MountRequest {
        job: source
            .into_string()
            .map_err(|name| wrong(format!("job name {name:?} is not UTF-8")))?,
        mountpoint: target.into(),
        controller: None,
        terms: super::JobArguments::default(),
        existing: false,
        memory_budget: None,
        options: options(&lists, sloppy)?,
        foreground: false,
        log_file: None,
        metrics: None,
        verbosity,
        embedded_servers: 1,
        dry_run,
    };
    request.take_settings()?;
    take_controller_from_environment(&mut request)?;
    Ok(request)
}

/// With `-s` unknown options are tolerated, as mount(8) defines it.
fn options(lists: &[String], sloppy: bool) -> Result<MountOptions, OptionError> {
    let mut lists = lists.to_vec();
    loop {
        match MountOptions::parse(&lists) {
            Err(OptionError::Unknown(name)) if sloppy => {
                for list in &mut lists {
                    *list = without(list, &name);
                }
            }
            outcome => return outcome,
        }
    }
}

/// The list without the options of that name.
fn without(list: &str, name: &str) -> String {
    let keep = |word: &&str| word.split('=').next() != Some(name);
    list.split(',').filter(keep).collect::<Vec<_>>().join(",")
}

fn take_controller_from_environment(request: &mut MountRequest) -> Result<(), ArgumentError> {
    const VARIABLE: &str = "POCKET_CONTROLLER";
    let value = env::var(VARIABLE).ok().filter(|value| !value.is_empty());
    if let (None, Some(value)) = (&request.controller, value) {
        let address = value
            .parse()
            .map_err(|error| wrong(format!("{VARIABLE}: {error}")))?;
        request.controller = Some(address);
    }
    Ok(())
}

fn wrong(message: String) -> ArgumentError {
    ArgumentError::Helper(message)
}
