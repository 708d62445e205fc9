//! Files whose whole content is a number: what was read of them, against what was written.

use super::{Event, linear::Model};

/// What was done, with what came of it. Every number is written once; 0 is there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A number was written.
    Write(u64),
    /// A number was read.
    Read(u64),
}

/// A register: a read gives what was written last.
#[derive(Debug)]
pub struct Register;

impl Model for Register {
    type State = u64;
    type Operation = Access;

    fn apply(state: &u64, operation: &Access) -> Vec<u64> {
        match operation {
            Access::Write(value) => vec![*value],
            Access::Read(value) if value == state => vec![*state],
            Access::Read(_) => Vec::new(),
        }
    }

    fn unknown(operation: &Access) -> Option<Access> {
        match operation {
            Access::Write(_) => Some(*operation),
            Access::Read(_) => None,
        }
    }
}

/// Whether reads obey close-to-open. A write begins with its open and ends with its close, a read
/// likewise: it gives what had been closed last when it opened, or anything newer. Returns a read
/// that does not, what it gave, and what it should not have missed.
pub fn close_to_open(events: &[Event<Access>]) -> Result<(), Vec<Event<Access>>> {
    let writes = || {
        let write = |event: &&Event<Access>| matches!(event.operation, Access::Write(_));
        events.iter().filter(write)
    };
    for read in events {
        let Access::Read(value) = read.operation else {
            continue;
        };
        let source = writes().find(|write| write.operation == Access::Write(value));
        match source {
            Some(write) if read.ret.is_some_and(|ret| write.call > ret) => {
                return Err(vec![write.clone(), read.clone()]);
            }
            None if value != 0 => return Err(vec![read.clone()]),
            _ => {}
        }
        // What is there from the beginning was closed before everything.
        let is_older_than = |write: &Event<Access>| {
            source.is_none_or(|source| source.ret.is_some_and(|end| end < write.call))
        };
        let newer = |write: &&Event<Access>| {
            is_older_than(write) && write.ret.is_some_and(|ret| ret < read.call)
        };
        if let Some(missed) = writes().find(newer) {
            let shown = source.into_iter().chain([missed, read]);
            return Err(shown.cloned().collect());
        }
    }
    Ok(())
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
    fn nothing_is_read_that_was_not_written_yet() {
        assert!(close_to_open(&events(&[(0, Some(1), Read(7))])).is_err());
        let early = [(0, Some(1), Read(7)), (2, Some(3), Write(7))];
        assert!(close_to_open(&events(&early)).is_err());
    }
}
