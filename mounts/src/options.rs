//! Mount options: what stands behind `-o`, by the names every file system uses.
//!
//! Options that steer the start of a machine (`_netdev`, `nofail`, `x-systemd.*`) are accepted and
//! mean nothing here; an unknown option is an error, as a misspelt `nosuid` must not pass.
//! The hints of a job may also be given as options, so that a line of fstab can say everything.

use thiserror::Error;

use crate::presentation::Presentation;

/// What is wrong with an option, in a sentence for whoever typed it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum OptionError {
    /// Misspelt, or of another file system.
    #[error("unknown mount option '{0}' (pocket-mount --help lists those that are known)")]
    Unknown(String),
    /// `name=` where nothing follows, or a bare name that needs a value.
    #[error("mount option '{0}' needs a value: write {0}=VALUE")]
    MissingValue(String),
    /// A value behind an option that has none.
    #[error("mount option '{name}' takes no value, but was given '{value}'")]
    UnexpectedValue {
        /// The option.
        name: String,
        /// What stood behind it.
        value: String,
    },
    /// A value that cannot be read.
    #[error("mount option {name}={value}: {reason}")]
    Value {
        /// The option.
        name: String,
        /// As it was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `remount`: what a mount may do is settled when it starts.
    #[error("a mounted job cannot be remounted with other options: unmount it and mount it again")]
    Remount,
}

/// The options of a mount as the kernel and the adapter understand them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct MountOptions {
    /// `ro`: nothing can be changed through this mount.
    pub(crate) read_only: bool,
    /// `allow_other`: every user may use the mount. `None`: as is usual for the user who mounts.
    pub(crate) allow_other: Option<bool>,
    /// `auto_unmount`: the mount goes when its process dies, however it dies.
    pub(crate) auto_unmount: bool,
    /// `nobtime`: statx(2) does not tell when a file was born, which costs programs that always ask
    /// one request more for each file they meet.
    pub(crate) no_birth_times: bool,
    /// `noacl`: access control lists are neither obeyed here nor told, which spares the kernel the
    /// questions for them whenever another than a file's owner uses it.
    pub(crate) no_acls: bool,
    /// `suid`: set-user-id programs work. Off, as data come from other machines.
    pub(crate) set_user_id: bool,
    /// `dev`: device nodes work. Off, for the same reason.
    pub(crate) devices: bool,
    /// `noexec`: programs cannot be run from the mount.
    pub(crate) no_exec: bool,
    /// `noatime`: reading changes no access times.
    pub(crate) no_access_time: bool,
    /// `sync`: every write is on the servers when it returns.
    pub(crate) synchronous: bool,
    /// `dirsync`: names are synchronous. They always are; kept for the kernel's list of mounts.
    pub(crate) directories_synchronous: bool,
    /// `fsname=NAME`: the source shown by `mount` and `df`; the job's name where absent.
    pub(crate) source_name: Option<String>,
    /// `subtype=NAME`: the type is shown as `fuse.NAME`; `fuse.pocket` where absent.
    pub(crate) subtype: Option<String>,
    /// `uid=N`, `gid=N`, `umask=OCTAL`: files shown with another owner and fewer permissions; `noac`:
    /// names and attributes are asked of the metadata server each time.
    pub(crate) presentation: Presentation,
    /// Settings that flags also give, as (name, value): `capacity=10GiB`. Names have underscores.
    pub(crate) settings: Vec<(String, Option<String>)>,
}

/// Settings with a value that are flags too: `-o max_tasks=100` is `--max-tasks 100`.
const SETTINGS: [&str; 16] = [
    "bandwidth",
    "block_size",
    "capacity",
    "controller",
    "latency_sensitive",
    "lease",
    "log_file",
    "max_capacity",
    "max_tasks",
    "memory_budget",
    "metrics",
    "profile",
    "task_bandwidth",
    "task_capacity",
    "ttl",
    "wait",
];

/// Settings that need no value: `-o keep` is `--keep`.
const SETTINGS_BARE: [&str; 6] = [
    "attach",
    "delete_after_read",
    "existing",
    "keep",
    "latency_sensitive",
    "persist",
];

/// Meant for mount(8), systemd or other kernels' file systems; nothing to do about them here.
const IGNORED: [&str; 20] = [
    "_netdev",
    "async",
    "auto",
    "default_permissions",
    "defaults",
    "diratime",
    "group",
    "loud",
    "noauto",
    "nodiratime",
    "nofail",
    "nolazytime",
    "nomand",
    "nouser",
    "owner",
    "relatime",
    "silent",
    "strictatime",
    "user",
    "users",
];

impl MountOptions {
    /// Reads the lists behind each `-o`, in order; of two that contradict, the last one holds.
    pub(crate) fn parse<S: AsRef<str>>(lists: &[S]) -> Result<Self, OptionError> {
        let mut options = MountOptions::default();
        for list in lists {
            for word in split(list.as_ref()) {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (word.as_str(), None),
                };
                options.take(name, value)?;
            }
        }
        Ok(options)
    }

    /// The last value of a setting: `Some(None)` for a bare name.
    pub(crate) fn setting(&self, name: &str) -> Option<Option<&str>> {
        let last = self.settings.iter().rev().find(|(known, _)| known == name);
        last.map(|(_, value)| value.as_deref())
    }

    fn take(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
        // Comments for other programs carry anything.
        if name.starts_with("x-") || name.starts_with("X-") || name == "comment" {
            return Ok(());
        }
        if self.take_setting(name, value) {
            return Ok(());
        }
        if let Some(field) = self.valued(name) {
            let value = value.filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| OptionError::MissingValue(name.to_owned()))?;
            return field.set(name, value);
        }
        if !self.take_flag(name)? {
            return Err(match SETTINGS.contains(&name) {
                true => OptionError::MissingValue(name.to_owned()),
                false => OptionError::Unknown(name.to_owned()),
            });
        }
        match value {
            None => Ok(()),
            Some(value) => Err(OptionError::UnexpectedValue {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
        }
    }

    /// Options that are on or off. False: not one of them.
    fn take_flag(&mut self, name: &str) -> Result<bool, OptionError> {
        match name {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "allow_other" => self.allow_other = Some(true),
            "noallow_other" => self.allow_other = Some(false),
            "auto_unmount" => self.auto_unmount = true,
            "btime" => self.no_birth_times = false,
            "nobtime" => self.no_birth_times = true,
            "acl" => self.no_acls = false,
            "noacl" => self.no_acls = true,
            "suid" => self.set_user_id = true,
            "nosuid" => self.set_user_id = false,
            "dev" => self.devices = true,
            "nodev" => self.devices = false,
            "exec" => self.no_exec = false,
            "noexec" => self.no_exec = true,
            "atime" => self.no_access_time = false,
            "noatime" => self.no_access_time = true,
            "ac" => self.presentation.unleased = false,
            "noac" => self.presentation.unleased = true,
            "sync" => self.synchronous = true,
            "dirsync" => self.directories_synchronous = true,
            "remount" => return Err(OptionError::Remount),
            _ => return Ok(IGNORED.contains(&name)),
        }
        Ok(true)
    }

    fn take_setting(&mut self, name: &str, value: Option<&str>) -> bool {
        let known = match value {
            Some(value) => !value.is_empty() && SETTINGS.contains(&name),
            None => SETTINGS_BARE.contains(&name),
        };
        if known {
            let value = value.map(str::to_owned);
            self.settings.push((name.to_owned(), value));
        }
        known
    }

    fn valued(&mut self, name: &str) -> Option<Valued<'_>> {
        Some(match name {
            "fsname" => Valued::Text(&mut self.source_name),
            "subtype" => Valued::Text(&mut self.subtype),
            "uid" => Valued::Id(&mut self.presentation.uid),
            "gid" => Valued::Id(&mut self.presentation.gid),
            "umask" => Valued::Mask(&mut self.presentation.umask),
            _ => return None,
        })
    }
}

/// A field that an option's value goes to.
enum Valued<'a> {
    Text(&'a mut Option<String>),
    Id(&'a mut Option<u32>),
    Mask(&'a mut Option<u32>),
}

impl Valued<'_> {
    fn set(self, name: &str, value: &str) -> Result<(), OptionError> {
        let wrong = |reason: &str| OptionError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        match self {
            Valued::Text(field) => *field = Some(value.to_owned()),
            Valued::Id(field) => {
                let id = value.parse().map_err(|_| wrong("not a numeric id"))?;
                *field = Some(id);
            }
            Valued::Mask(field) => match u32::from_str_radix(value, 8) {
                Ok(mask) if mask <= 0o777 => *field = Some(mask),
                _ => return Err(wrong("not an octal mask from 0 to 777")),
            },
        }
        Ok(())
    }
}

/// Splits at commas, but for those behind a backslash; a backslash keeps what follows it.
fn split(list: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().expect("there is always a last word");
        match character {
            ',' => words.push(String::new()),
            '\\' => word.extend(characters.next()),
            _ => word.push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, OptionError> {
        MountOptions::parse(&[list])
    }

    #[test]
    fn the_last_of_two_contradicting_options_holds() {
        let options = parse("ro,nosuid,noexec,rw,suid,exec").unwrap();
        assert_eq!(
            options,
            MountOptions {
                set_user_id: true,
                ..MountOptions::default()
            }
        );
        let options = MountOptions::parse(&["rw,noatime", "ro,dev"]).unwrap();
        assert!(options.read_only && options.no_access_time && options.devices);
    }

    #[test]
    fn options_of_mount_and_systemd_are_ignored() {
        for list in [
            "defaults,_netdev,nofail,noauto,auto,relatime",
            "x-systemd.automount,x-systemd.idle-timeout=60,x-gvfs-show,comment=a=b",
            "default_permissions,async,strictatime,nodiratime",
            "",
            ",,",
        ] {
            assert_eq!(parse(list), Ok(MountOptions::default()), "{list}");
        }
    }

    #[test]
    fn values_are_read() {
        let options = parse(r"fsname=a\,b=c,subtype=x,uid=7,gid=8,umask=022").unwrap();
        assert_eq!(options.source_name.as_deref(), Some("a,b=c"));
        assert_eq!(options.subtype.as_deref(), Some("x"));
        let presentation = Presentation {
            uid: Some(7),
            gid: Some(8),
            umask: Some(0o22),
            unleased: false,
        };
        assert_eq!(options.presentation, presentation);
    }

    #[test]
    fn hints_may_be_options() {
        let options = parse("capacity=1GiB,keep,capacity=2GiB,controller=[::1]:7300").unwrap();
        assert_eq!(options.setting("capacity"), Some(Some("2GiB")));
        assert_eq!(options.setting("controller"), Some(Some("[::1]:7300")));
        assert_eq!(options.setting("keep"), Some(None));
        assert_eq!(options.setting("lease"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let name = |name: &str| name.to_owned();
        assert_eq!(
            parse("rw,nosiud"),
            Err(OptionError::Unknown(name("nosiud")))
        );
        assert_eq!(parse("a=b"), Err(OptionError::Unknown(name("a"))));
        assert_eq!(parse("remount,ro"), Err(OptionError::Remount));
        for list in ["fsname", "fsname=", "uid=", "capacity", "capacity="] {
            let option = list.trim_end_matches('=');
            assert_eq!(parse(list), Err(OptionError::MissingValue(name(option))));
        }
        assert_eq!(
            parse("ro=1"),
            Err(OptionError::UnexpectedValue {
                name: name("ro"),
                value: name("1")
            })
        );
        for list in [
            "uid=-1",
            "uid=root",
            "umask=9",
            "umask=1000",
            "gid=4294967296",
        ] {
            assert!(
                matches!(parse(list), Err(OptionError::Value { .. })),
                "{list}"
            );
        }
    }
}
