//! Files whose whole content is a number, or that are empty: what was read of them, against what was
//! written and cut.

use super::{Event, linear::Model};

/// What is read of a file that was cut: it is empty. No number that is written.
pub const EMPTY: u64 = u64::MAX;

/// What was done, with what came of it. Every number is written once; 0 is there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A number was written.
    Write(u64),
    /// The file was made empty.
    Cut,
    /// A number was read, or [`EMPTY`].
    Read(u64),
}

impl Access {
    /// What is read after it; none if it changes nothing.
    fn leaves(self) -> Option<u64> {
        match self {
            Access::Write(value) => Some(value),
            Access::Cut => Some(EMPTY),
            Access::Read(_) => None,
        }
    }
}

/// A register: a read gives what was written last.
#[derive(Debug)]
pub struct Register;

impl Model for Register {
    type State = u64;
    type Operation = Access;

    fn apply(state: &u64, operation: &Access) -> Vec<u64> {
        match operation {
            Access::Read(value) if value != state => Vec::new(),
            operation => vec![operation.leaves().unwrap_or(*state)],
        }
    }

    fn unknown(operation: &Access) -> Option<Access> {
        operation.leaves().map(|_| *operation)
    }
}

/// Whether reads obey close-to-open. A write begins with its open and ends with its close, a read
/// likewise: it gives what had been closed last when it opened, or anything newer. What cuts a file is
/// a write of its own. Returns a read that does not, what it gave, and what it should not have missed.
pub fn close_to_open(events: &[Event<Access>]) -> Result<(), Vec<Event<Access>>> {
    for read in events {
        let Access::Read(value) = read.operation else {
            continue;
        };
        let sources = events
            .iter()
            .filter(|event| event.operation.leaves() == Some(value));
        // What is there from the beginning was closed before everything.
        let initial = (value == 0).then_some(None);
        let mut shown = vec![read.clone()];
        let explained = sources.map(Some).chain(initial).any(|source| {
            let wrong = misread(events, source, read);
            let is_right = wrong.is_none();
            shown = wrong.unwrap_or_default();
            is_right
        });
        if !explained {
            return Err(shown);
        }
    }
    Ok(())
}

/// Why a read cannot have given what `source` left (none: what was there before); `None` if it can.
fn misread(
    events: &[Event<Access>],
    source: Option<&Event<Access>>,
    read: &Event<Access>,
) -> Option<Vec<Event<Access>>> {
    if let Some(source) = source
        && read.ret.is_some_and(|ret| source.call > ret)
    {
        return Some(vec![source.clone(), read.clone()]);
    }
    let missed = events.iter().find(|change| {
        let is_newer = source.is_none_or(|source| source.ret.is_some_and(|end| end < change.call));
        let was_closed = change.ret.is_some_and(|ret| ret < read.call);
        change.operation.leaves().is_some() && is_newer && was_closed
    })?;
    Some(source.into_iter().chain([missed, read]).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::{super::linear::check, Access::*, *};

    fn events(steps: &[(u64, Option<u64>, Access)]) -> Vec<Event<Access>> {
        let event = |&(call, ret, operation): &(u64, Option<u64>, Access)| Event {
            client: 0,
            call,
            ret,
            operation,
        };
        steps.iter().map(event).collect()
    }

    fn is_linear(steps: &[(u64, Option<u64>, Access)]) -> bool {
        check::<Register>(&0, &events(steps)).is_ok()
    }

    #[test]
    fn a_completed_write_is_seen_by_the_next_read() {
        let written = (0, Some(2), Write(1));
        assert!(is_linear(&[written, (3, Some(4), Read(1))]));
        assert!(!is_linear(&[written, (3, Some(4), Read(0))]));
        assert!(is_linear(&[written, (1, Some(4), Read(0))]));
    }

    #[test]
    fn what_was_seen_is_not_unseen() {
        let writing = (0, Some(9), Write(1));
        assert!(!is_linear(&[
            writing,
            (1, Some(2), Read(1)),
            (3, Some(4), Read(0))
        ]));
        let lost = (0, None, Write(1));
        assert!(is_linear(&[
            lost,
            (1, Some(2), Read(0)),
            (3, Some(4), Read(1))
        ]));
        assert!(!is_linear(&[
            lost,
            (1, Some(2), Read(1)),
            (3, Some(4), Read(0))
        ]));
    }

    #[test]
    fn who_opens_after_a_close_sees_that_or_newer() {
        let closed = (0, Some(2), Write(1));
        let judge = |steps: &[_]| close_to_open(&events(steps)).map_err(|shown| shown.len());
        assert_eq!(judge(&[closed, (3, Some(4), Read(1))]), Ok(()));
        assert_eq!(judge(&[closed, (3, Some(4), Read(0))]), Err(2));
        assert_eq!(judge(&[closed, (1, Some(4), Read(0))]), Ok(()));
        let newer = (5, Some(6), Write(2));
        assert_eq!(judge(&[closed, newer, (7, Some(8), Read(1))]), Err(3));
        let meanwhile = (1, Some(6), Write(2));
        assert_eq!(judge(&[closed, meanwhile, (7, Some(8), Read(1))]), Ok(()));
        // One that failed may come through at any time, or never.
        let failed = (5, None, Write(2));
        assert_eq!(judge(&[closed, failed, (7, Some(8), Read(1))]), Ok(()));
        assert_eq!(judge(&[failed, newer, (7, Some(8), Read(2))]), Ok(()));
    }

    #[test]
    fn a_file_that_was_cut_is_empty_until_it_is_written() {
        let (written, cut) = ((0, Some(2), Write(1)), (3, Some(4), Cut));
        for (found, is_right) in [(EMPTY, true), (1, false), (0, false)] {
            let steps = [written, cut, (5, Some(6), Read(found))];
            assert_eq!(is_linear(&steps), is_right, "{found}");
            assert_eq!(close_to_open(&events(&steps)).is_ok(), is_right, "{found}");
        }
        let again = (5, Some(6), Write(2));
        for (found, is_right) in [(EMPTY, false), (1, false), (2, true)] {
            let steps = [written, cut, again, (7, Some(8), Read(found))];
            assert_eq!(is_linear(&steps), is_right, "{found}");
            assert_eq!(close_to_open(&events(&steps)).is_ok(), is_right, "{found}");
        }
        // One that failed may come through at any time, or never.
        let failed = (3, None, Cut);
        for found in [EMPTY, 1] {
            let steps = [written, failed, (5, Some(6), Read(found))];
            assert!(is_linear(&steps) && close_to_open(&events(&steps)).is_ok());
        }
        let never_cut = [written, (3, Some(4), Read(EMPTY))];
        assert!(!is_linear(&never_cut) && close_to_open(&events(&never_cut)).is_err());
    }

    #[test]
    fn nothing_is_read_that_was_not_written_yet() {
        assert!(close_to_open(&events(&[(0, Some(1), Read(7))])).is_err());
        let early = [(0, Some(1), Read(7)), (2, Some(3), Write(7))];
        assert!(close_to_open(&events(&early)).is_err());
    }
}
