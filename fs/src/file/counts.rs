//! How many handles of a file are open on this mount, and which of them the server counts.
//!
//! A session counts what was opened in it, so that with the session all counts are lost; then each
//! handle is opened once more in the next one, unless it is closed before.

use crate::operation::Access;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    open: PerAccess,
    /// Those that the server's session does not count.
    uncounted: PerAccess,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PerAccess {
    readers: u32,
    writers: u32,
}

impl PerAccess {
    fn of(&mut self, access: Access) -> &mut u32 {
        match access {
            Access::Read => &mut self.readers,
            Access::Write => &mut self.writers,
        }
    }
}

impl Counts {
    /// One handle more.
    pub(crate) fn open(&mut self, access: Access, counted: bool) {
        *self.open.of(access) += 1;
        *self.uncounted.of(access) += u32::from(!counted);
    }

    /// One handle less. Whether the server counts it, and is to hear of it.
    pub(crate) fn close(&mut self, access: Access) -> bool {
        let open = self.open.of(access);
        *open = open.saturating_sub(1);
        let uncounted = self.uncounted.of(access);
        let counted = *uncounted == 0;
        *uncounted = uncounted.saturating_sub(1);
        counted
    }

    /// Whether no handle is open.
    pub(crate) fn is_closed(&self) -> bool {
        self.open == PerAccess::default()
    }

    /// The session is lost that counted them.
    pub(crate) fn lose_session(&mut self) {
        self.uncounted = self.open;
    }

    /// Takes a handle that the server is to count; [`Counts::note`] is to follow.
    pub(crate) fn take_uncounted(&mut self) -> Option<Access> {
        [Access::Read, Access::Write].into_iter().find(|access| {
            let uncounted = self.uncounted.of(*access);
            let some = *uncounted > 0;
            *uncounted -= u32::from(some);
            some
        })
    }

    /// Whether the session that there is now counts what was taken. `same`: it was taken since
    /// sessions were lost last.
    pub(crate) fn note(&mut self, access: Access, same: bool, counts: bool) {
        let uncounted = self.uncounted.of(access);
        match (same, counts) {
            (true, true) | (false, false) => {}
            (true, false) => *uncounted += 1,
            // All were lost meanwhile, this one included.
            (false, true) => *uncounted = uncounted.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handle_is_counted_once_in_every_session() {
        let mut counts = Counts::default();
        counts.open(Access::Read, true);
        counts.open(Access::Write, true);
        assert_eq!(counts.take_uncounted(), None);
        counts.lose_session();
        counts.open(Access::Read, true);
        let mut taken = [counts.take_uncounted(), counts.take_uncounted()];
        taken.sort_by_key(|access| *access == Some(Access::Write));
        assert_eq!(taken, [Some(Access::Read), Some(Access::Write)]);
        assert_eq!(counts.take_uncounted(), None);
        assert!(counts.close(Access::Read) && counts.close(Access::Read));
        assert!(counts.close(Access::Write) && counts.is_closed());
    }

    #[test]
    fn handle_that_no_session_counts_is_not_told_of_when_it_is_closed() {
        let mut counts = Counts::default();
        counts.open(Access::Read, true);
        counts.lose_session();
        assert!(!counts.close(Access::Read));
        assert_eq!(counts.take_uncounted(), None);
        counts.open(Access::Read, false);
        assert_eq!(counts.take_uncounted(), Some(Access::Read));
    }

    #[test]
    fn session_that_is_lost_while_a_handle_is_opened_anew_counts_it_or_not() {
        for counted_in_the_next in [true, false] {
            let mut counts = Counts::default();
            counts.open(Access::Read, false);
            assert_eq!(counts.take_uncounted(), Some(Access::Read));
            counts.lose_session();
            counts.note(Access::Read, false, counted_in_the_next);
            let left = counts.take_uncounted();
            assert_eq!(left.is_none(), counted_in_the_next);
        }
        let mut counts = Counts::default();
        counts.open(Access::Read, false);
        counts.take_uncounted();
        counts.note(Access::Read, true, false);
        assert_eq!(counts.take_uncounted(), Some(Access::Read));
    }
}
