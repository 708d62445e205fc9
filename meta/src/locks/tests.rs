//! Locks one case at a time; see `model_tests` for all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const FILE: InodeId = InodeId(7);
const OTHER: InodeId = InodeId(8);

fn owner(session: u64, kind: Kind) -> Owner {
    Owner {
        session: SessionId(session),
        kind,
        id: 100 + session,
    }
}

fn process(session: u64) -> Owner {
    owner(session, Kind::Record)
}

fn range(first: u64, last: u64) -> Range {
    Range::new(first, last).unwrap()
}

fn lock(first: u64, last: u64, mode: Mode) -> Lock {
    Lock {
        range: range(first, last),
        mode,
        process: 1,
    }
}

fn exclusive(first: u64, last: u64) -> Lock {
    lock(first, last, Mode::Exclusive)
}

fn shared(first: u64, last: u64) -> Lock {
    lock(first, last, Mode::Shared)
}

/// A request that does not wait, and has no number that matters.
fn at_once() -> Patience {
    static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Patience::None(number)
}

fn ticket(session: u64, number: u64) -> Ticket {
    Ticket {
        session: SessionId(session),
        number,
    }
}

fn pieces(locks: &Locks, owner: Owner) -> Vec<(u64, u64, Mode)> {
    let pieces = locks.list(FILE, owner.kind).pieces(owner).iter();
    let piece = |lock: &Lock| (lock.range.first, lock.range.last, lock.mode);
    pieces.map(piece).collect()
}

#[test]
fn a_range_in_the_middle_splits_and_what_touches_is_one_again() {
    let mut locks = Locks::default();
    let one = process(1);
    let mut set = |lock| locks.lock(FILE, one, lock, at_once()).unwrap();
    set(exclusive(0, 99));
    set(shared(10, 19));
    assert_eq!(
        pieces(&locks, one),
        [
            (0, 9, Mode::Exclusive),
            (10, 19, Mode::Shared),
            (20, 99, Mode::Exclusive)
        ]
    );
    locks.unlock(FILE, one, range(30, 39)).unwrap();
    assert_eq!(pieces(&locks, one).len(), 4);
    locks.lock(FILE, one, exclusive(10, 39), at_once()).unwrap();
    assert_eq!(pieces(&locks, one), [(0, 99, Mode::Exclusive)]);
}

#[test]
fn ranges_reach_to_the_end_of_all_offsets() {
    let mut locks = Locks::default();
    let end = i64::MAX as u64;
    locks
        .lock(FILE, process(1), exclusive(5, end), at_once())
        .unwrap();
    let refused = locks.lock(FILE, process(2), shared(end, end), at_once());
    assert_eq!(refused, Err(Status::Again));
    assert_eq!(Range::new(0, end + 1), None);
    assert_eq!(Range::new(2, 1), None);
}

#[test]
fn flock_and_record_locks_do_not_see_each_other() {
    let mut locks = Locks::default();
    let whole = exclusive(0, Range::ALL.last);
    for owner in [owner(1, Kind::Flock), process(2)] {
        assert_eq!(
            locks.lock(FILE, owner, whole, at_once()),
            Ok(Outcome::Granted)
        );
    }
    let refused = locks.lock(FILE, owner(3, Kind::OpenFile), whole, at_once());
    assert_eq!(refused, Err(Status::Again));
}

#[test]
fn the_first_lock_in_the_way_is_told() {
    let mut locks = Locks::default();
    locks
        .lock(FILE, process(1), exclusive(50, 59), at_once())
        .unwrap();
    locks
        .lock(FILE, process(2), shared(10, 19), at_once())
        .unwrap();
    let asked = |range, mode| locks.conflict(FILE, process(3), range, mode);
    let found = asked(range(0, 99), Mode::Exclusive);
    assert_eq!(found, Some((process(2), shared(10, 19))));
    let found = asked(range(0, 99), Mode::Shared);
    assert_eq!(found, Some((process(1), exclusive(50, 59))));
    assert_eq!(asked(range(0, 49), Mode::Shared), None);
}

#[test]
fn who_waits_is_served_in_order_once_nothing_is_in_the_way() {
    let mut locks = Locks::default();
    locks
        .lock(FILE, process(1), exclusive(0, 9), at_once())
        .unwrap();
    let mut wait = |session, lock| {
        let queued = locks.lock(FILE, process(session), lock, Patience::Waits(1));
        assert_eq!(queued, Ok(Outcome::Queued));
    };
    wait(2, shared(0, 4));
    wait(3, exclusive(0, 9));
    wait(4, shared(5, 9));
    locks.unlock(FILE, process(1), range(0, 9)).unwrap();
    assert_eq!(locks.take_granted(), [ticket(2, 1), ticket(4, 1)]);
    locks.end_session(SessionId(2));
    assert_eq!(locks.take_granted(), []);
    locks.release_session(FILE, SessionId(4));
    assert_eq!(locks.take_granted(), [ticket(3, 1)]);
}

#[test]
fn a_circle_of_processes_is_refused_over_files_and_mounts() {
    let mut locks = Locks::default();
    for (file, session) in [(FILE, 1), (OTHER, 2)] {
        let process = process(session);
        locks
            .lock(file, process, exclusive(0, 0), at_once())
            .unwrap();
    }
    let queued = locks.lock(OTHER, process(1), shared(0, 0), Patience::Waits(1));
    assert_eq!(queued, Ok(Outcome::Queued));
    let refused = locks.lock(FILE, process(2), shared(0, 0), Patience::Waits(1));
    assert_eq!(refused, Err(Status::Deadlock));
    // It would not have waited, so there is no circle.
    let refused = locks.lock(FILE, process(2), shared(0, 0), at_once());
    assert_eq!(refused, Err(Status::Again));
}

#[test]
fn locks_of_open_files_wait_in_circles() {
    for kind in [Kind::Flock, Kind::OpenFile] {
        let mut locks = Locks::default();
        let whole = exclusive(0, Range::ALL.last);
        for (file, session) in [(FILE, 1), (OTHER, 2)] {
            locks
                .lock(file, owner(session, kind), whole, at_once())
                .unwrap();
        }
        for (file, session) in [(OTHER, 1), (FILE, 2)] {
            let owner = owner(session, kind);
            let queued = locks.lock(file, owner, whole, Patience::Waits(1));
            assert_eq!(queued, Ok(Outcome::Queued));
        }
    }
}

#[test]
fn a_flock_that_is_converted_is_lost_first() {
    let mut locks = Locks::default();
    let whole = |mode| lock(0, Range::ALL.last, mode);
    let [one, two] = [1, 2].map(|session| owner(session, Kind::Flock));
    for owner in [one, two] {
        locks
            .lock(FILE, owner, whole(Mode::Shared), at_once())
            .unwrap();
    }
    let queued = locks.lock(FILE, one, whole(Mode::Exclusive), Patience::Waits(1));
    assert_eq!(queued, Ok(Outcome::Queued));
    assert!(!locks.holds(FILE, one));
    // Both convert, and neither waits for what the other had.
    let granted = locks.lock(FILE, two, whole(Mode::Exclusive), Patience::Waits(1));
    assert_eq!(granted, Ok(Outcome::Granted));
    locks.unlock(FILE, two, Range::ALL).unwrap();
    assert_eq!(locks.take_granted(), [ticket(1, 1)]);
}

#[test]
fn who_gives_up_leaves_the_queue_at_once() {
    let mut locks = Locks::default();
    locks
        .lock(FILE, process(1), exclusive(0, 9), at_once())
        .unwrap();
    for session in [2, 3] {
        let patience = Patience::Waits(1);
        locks
            .lock(FILE, process(session), exclusive(0, 9), patience)
            .unwrap();
    }
    locks.cancel(ticket(2, 1));
    locks.unlock(FILE, process(1), Range::ALL).unwrap();
    assert_eq!(locks.take_granted(), [ticket(3, 1)]);
    assert!(!locks.holds(FILE, process(2)));
}

#[test]
fn a_lock_granted_to_who_gives_up_is_given_back_and_what_was_before_is_there() {
    let mut locks = Locks::default();
    let (one, two) = (process(1), process(2));
    for process in [one, two] {
        locks.lock(FILE, process, shared(0, 9), at_once()).unwrap();
    }
    locks
        .lock(FILE, one, exclusive(5, 20), Patience::Waits(1))
        .unwrap();
    let queued = locks.lock(FILE, process(3), shared(0, 20), Patience::Waits(1));
    assert_eq!(queued, Ok(Outcome::Granted));
    locks.end_session(SessionId(3));
    locks.unlock(FILE, two, Range::ALL).unwrap();
    assert_eq!(locks.take_granted(), [ticket(1, 1)]);
    assert_eq!(pieces(&locks, one).len(), 2);
    // One who waits for it is served.
    locks
        .lock(FILE, two, shared(0, 20), Patience::Waits(1))
        .unwrap();
    locks.cancel(ticket(1, 1));
    assert_eq!(pieces(&locks, one), [(0, 9, Mode::Shared)]);
    assert_eq!(locks.take_granted(), [ticket(2, 1)]);
    // Once is enough.
    locks.cancel(ticket(1, 1));
    assert_eq!(pieces(&locks, one), [(0, 9, Mode::Shared)]);
}

#[test]
fn a_request_asked_again_keeps_its_place() {
    let mut locks = Locks::default();
    locks
        .lock(FILE, process(1), exclusive(0, 9), at_once())
        .unwrap();
    for _ in 0..3 {
        for session in [2, 3] {
            let patience = Patience::Waits(1);
            let queued = locks.lock(FILE, process(session), exclusive(0, 9), patience);
            assert_eq!(queued, Ok(Outcome::Queued));
        }
    }
    locks.unlock(FILE, process(1), Range::ALL).unwrap();
    assert_eq!(locks.take_granted(), [ticket(2, 1)]);
    let told = locks.lock(FILE, process(2), exclusive(0, 9), Patience::Waits(1));
    assert_eq!(told, Ok(Outcome::Granted));
    locks.cancel(ticket(3, 1));
    locks.unlock(FILE, process(2), Range::ALL).unwrap();
    assert_eq!(locks.take_granted(), []);
}

#[test]
fn locks_and_waits_of_a_session_have_a_limit() {
    let mut locks = Locks::default();
    let (one, two) = (process(1), process(2));
    for at in 0..LOCKS_PER_SESSION_MAX as u64 {
        locks
            .lock(FILE, one, exclusive(3 * at, 3 * at + 1), at_once())
            .unwrap();
    }
    let refused = locks.lock(FILE, one, exclusive(1 << 40, 1 << 40), at_once());
    assert_eq!(refused, Err(Status::NoLocks));
    // A hole in the middle would be one more.
    locks.unlock(FILE, one, range(0, 1)).unwrap();
    locks
        .lock(FILE, one, exclusive(1 << 40, 1 << 41), at_once())
        .unwrap();
    let refused = locks.unlock(FILE, one, range((1 << 40) + 1, (1 << 40) + 1));
    assert_eq!(refused, Err(Status::NoLocks));
    let mut wait = |number| locks.lock(FILE, two, exclusive(4, 4), Patience::Waits(number));
    for number in 1..=LOCK_WAITS_PER_SESSION_MAX as u64 {
        assert_eq!(wait(number), Ok(Outcome::Queued));
    }
    assert_eq!(wait(u64::MAX), Err(Status::NoLocks));
    locks.end_session(SessionId(2));
    locks.end_session(SessionId(1));
    assert!(locks.inodes.is_empty());
    assert_eq!((locks.held, locks.waiting), (0, 0));
}
