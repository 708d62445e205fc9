//! How long an inode lives, as its extended attributes say, which what is made in a directory takes
//! from it: until some time after its last change ([`TTL`]), or until it was read ([`READ_ONCE`]).

use std::time::Duration;

use bytes::Bytes;
use pocket_proto::{InodeId, Status};

use super::{Content, Inode, Namespace};
use crate::now::Timestamp;

/// Time to live since the last change: "30s", "10m", "2h", "1d", or seconds.
pub(crate) const TTL: &[u8] = b"user.pocket.ttl";
/// "1": the file goes when it is closed after it was read to the end.
pub(crate) const READ_ONCE: &[u8] = b"user.pocket.delete_after_read";
const READ_ONCE_VALUE: &[u8] = b"1";
/// A hundred years: longer is a mistake.
const TTL_SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// Checks the value of an attribute that says how long an inode lives; any other has any value.
pub(crate) fn check_lifetime(name: &[u8], value: &[u8]) -> Result<(), Status> {
    let fits = match name {
        TTL => parse_ttl(value).is_some(),
        READ_ONCE => value == READ_ONCE_VALUE,
        _ => true,
    };
    if fits { Ok(()) } else { Err(Status::Invalid) }
}

/// Whole seconds or a number with a unit, of a second to a hundred years.
fn parse_ttl(value: &[u8]) -> Option<Duration> {
    let (number, unit) = match value {
        [number @ .., b's'] => (number, 1),
        [number @ .., b'm'] => (number, 60),
        [number @ .., b'h'] => (number, 3600),
        [number @ .., b'd'] => (number, 86_400),
        number => (number, 1),
    };
    // What parse() takes besides is a sign.
    if !number.first()?.is_ascii_digit() {
        return None;
    }
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let seconds = number.checked_mul(unit)?;
    (1..=TTL_SECONDS_MAX)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

impl Inode {
    /// How long it lives since its last change, if that has an end.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        parse_ttl(self.xattrs.get(TTL)?)
    }

    /// Whether it goes once it was read.
    pub(crate) fn is_read_once(&self) -> bool {
        self.xattrs.get(READ_ONCE).is_some()
    }

    /// What is made in a directory lives as long.
    pub(super) fn inherit_lifetime(&mut self, directory: &Inode) {
        if let Some(ttl) = directory.xattrs.get(TTL) {
            self.xattrs.insert(TTL, ttl.clone());
        }
        if directory.is_read_once()
            && matches!(self.content, Content::File(_) | Content::Directory(_))
        {
            let value = Bytes::from_static(READ_ONCE_VALUE);
            self.xattrs.insert(READ_ONCE, value);
        }
    }
}

impl Namespace {
    /// Everything in the job goes once it was read.
    pub(crate) fn make_read_once(&mut self) {
        let value = Bytes::from_static(READ_ONCE_VALUE);
        self.planned(InodeId::ROOT).xattrs.insert(READ_ONCE, value);
    }

    /// When an inode has outlived its time, if it ever does: the root does not, and what has no name
    /// goes with its last open.
    pub(crate) fn expires(&self, id: InodeId) -> Option<Timestamp> {
        let inode = self.inode(id).ok()?;
        let has_end = id != InodeId::ROOT && inode.link_count > 0;
        let ttl = inode.ttl().filter(|_| has_end)?;
        Some(inode.changed.after(ttl))
    }

    /// Has the inode looked at when its time is over, if it has one.
    pub(super) fn await_expiry(&mut self, id: InodeId) {
        match self.expires(id) {
            Some(at) => self.expiry.set(id, at),
            None => self.expiry.forget(id),
        }
    }

    /// Has an inode that could not go looked at again: when its time is over, or after as long again.
    pub(crate) fn look_again(&mut self, id: InodeId, now: Timestamp) {
        match self.expires(id) {
            Some(at) if at > now => self.expiry.set(id, at),
            _ => self.put_off_expiry(id, now),
        }
    }

    /// Has an inode looked at again after as long as it lives.
    fn put_off_expiry(&mut self, id: InodeId, now: Timestamp) {
        if self.expires(id).is_some()
            && let Some(ttl) = self.inode(id).ok().and_then(Inode::ttl)
        {
            self.expiry.set(id, now.after(ttl));
        }
    }

    /// Inodes that have outlived their time, of those that were to be looked at by now; looks at
    /// `count` at most. They are not looked at again unless that is said.
    pub(crate) fn take_expired(&mut self, now: Timestamp, count: usize) -> Vec<InodeId> {
        let mut expired = Vec::new();
        for _ in 0..count {
            let Some(id) = self.expiry.take_due(now) else {
                break;
            };
            match self.expires(id) {
                Some(at) if at > now => self.expiry.set(id, at),
                Some(_) if self.name_count(id) > 0 => self.put_off_expiry(id, now),
                Some(_) => expired.push(id),
                None => {}
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_numbers_with_or_without_a_unit() {
        for (value, seconds) in [
            ("30", 30),
            ("30s", 30),
            ("10m", 600),
            ("2h", 7200),
            ("1d", 86_400),
        ] {
            let expected = Some(Duration::from_secs(seconds));
            assert_eq!(parse_ttl(value.as_bytes()), expected, "{value}");
            assert_eq!(check_lifetime(TTL, value.as_bytes()), Ok(()));
        }
        for value in [
            "",
            "s",
            "0",
            "0s",
            "-1",
            "+1",
            "1.5",
            "1w",
            "1 s",
            "10ms",
            "\u{661}",
            "36501d",
            "99999999999999999999",
        ] {
            let checked = check_lifetime(TTL, value.as_bytes());
            assert_eq!(checked, Err(Status::Invalid), "{value}");
        }
        assert_eq!(check_lifetime(READ_ONCE, b"0"), Err(Status::Invalid));
        assert_eq!(check_lifetime(b"user.other", b"0"), Ok(()));
    }
}
