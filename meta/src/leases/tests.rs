//! Leases by themselves: who holds what, and until when.

use super::*;
use crate::limits::CONTENTION_WINDOW;

const LEASE: Duration = Duration::from_secs(5);
const DIRECTORY: InodeId = InodeId(1);
const FILE: InodeId = InodeId(2);
const ONE: SessionId = SessionId(1);
const TWO: SessionId = SessionId(2);
const THREE: SessionId = SessionId(3);

fn to(session: SessionId) -> Grantee {
    Grantee {
        session,
        recalls: 0,
        regardless: false,
    }
}

fn attribute_holders(leases: &Leases, except: SessionId, now: Instant) -> Vec<SessionId> {
    let holders = leases.attribute_holders(FILE, except, now);
    holders.map(|holder| holder.session).collect()
}

fn name_holders(leases: &Leases, name: &[u8], except: SessionId, now: Instant) -> Vec<SessionId> {
    let holders = leases.name_holders(DIRECTORY, name, except, now);
    holders.map(|holder| holder.session).collect()
}

#[test]
fn holders_are_the_others_whose_lease_has_not_lapsed() {
    let (mut leases, start) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    let later = start + LEASE / 2;
    leases.grant_attributes(FILE, false, to(ONE), start);
    leases.grant_attributes(FILE, false, to(TWO), later);
    leases.grant_attributes(FILE, false, to(THREE), later);
    assert_eq!(attribute_holders(&leases, TWO, later), [ONE, THREE]);
    assert_eq!(attribute_holders(&leases, TWO, start + LEASE), [THREE]);
    assert!(attribute_holders(&leases, TWO, later + LEASE).is_empty());
}

#[test]
fn mounts_are_told_less_than_is_remembered() {
    let (mut leases, start) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    for is_directory in [false, true] {
        let told = leases.grant_attributes(FILE, is_directory, to(ONE), start);
        let holder = leases.attribute_holders(FILE, TWO, start).next().unwrap();
        assert!(start + told < holder.expires);
        assert!(holder.expires <= start + LEASE);
    }
    let told = leases.grant_attributes(FILE, true, to(ONE), start);
    assert_eq!(told, DIRECTORY_ATTRIBUTES_LEASE);
}

#[test]
fn nothing_is_leased_while_marked_however_often() {
    let (mut leases, now) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    let objects = [
        Object::Attributes(FILE),
        Object::Name(DIRECTORY, "a".into()),
    ];
    for object in objects.iter().chain(&objects) {
        leases.mark(object);
    }
    for left in [2, 1, 0] {
        let attributes = leases.grant_attributes(FILE, false, to(ONE), now);
        let name = leases.grant_name(DIRECTORY, b"a", to(ONE), now);
        assert_eq!(attributes.is_zero(), left > 0);
        assert_eq!(name.is_zero(), left > 0);
        assert!(!leases.grant_name(DIRECTORY, b"b", to(ONE), now).is_zero());
        for object in &objects {
            leases.unmark(object);
        }
    }
}

#[test]
fn late_acknowledgement_leaves_a_newer_lease() {
    let (mut leases, now) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    let newer = Grantee {
        session: ONE,
        recalls: 7,
        regardless: false,
    };
    leases.grant_attributes(FILE, false, newer, now);
    leases.attributes_dropped(FILE, ONE, 7);
    assert_eq!(attribute_holders(&leases, TWO, now), [ONE]);
    leases.attributes_dropped(FILE, ONE, 8);
    assert!(attribute_holders(&leases, TWO, now).is_empty());
}

#[test]
fn names_never_asked_for_are_mostly_not_recalled() {
    let (mut leases, now) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    for name in 0..8 {
        leases.grant_name(DIRECTORY, format!("held{name}").as_bytes(), to(ONE), now);
    }
    let held = |name: String| !name_holders(&leases, name.as_bytes(), TWO, now).is_empty();
    assert!((0..8).all(|name| held(format!("held{name}"))));
    let needless = (0..1000).filter(|name| held(format!("other{name}")));
    assert!(needless.count() < 100);
}

#[test]
fn directory_changed_by_two_sessions_is_contended_for_a_while() {
    let (mut leases, start) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    leases.name_changed(DIRECTORY, ONE, start);
    leases.name_changed(DIRECTORY, ONE, start);
    assert!(!leases.grant_name(DIRECTORY, b"a", to(ONE), start).is_zero());
    leases.name_changed(DIRECTORY, TWO, start);
    assert!(leases.grant_name(DIRECTORY, b"a", to(TWO), start).is_zero());
    let later = start + CONTENTION_WINDOW;
    assert!(!leases.grant_name(DIRECTORY, b"a", to(TWO), later).is_zero());
}

#[test]
fn changes_of_two_sessions_far_apart_are_no_contention() {
    let (mut leases, start) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    leases.name_changed(DIRECTORY, ONE, start);
    let later = start + CONTENTION_WINDOW;
    leases.name_changed(DIRECTORY, TWO, later);
    assert!(!leases.grant_name(DIRECTORY, b"a", to(ONE), later).is_zero());
}

#[test]
fn moved_name_takes_its_lease_along() {
    let (mut leases, now) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    leases.grant_name(InodeId(9), b"old", to(ONE), now);
    leases.inherit_name(InodeId(9), (DIRECTORY, b"new"), to(ONE), now);
    leases.inherit_name(InodeId(8), (DIRECTORY, b"new"), to(TWO), now);
    assert_eq!(name_holders(&leases, b"new", THREE, now), [ONE]);
}

#[test]
fn lapsed_leases_leave_nothing_behind() {
    let (mut leases, start) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    for inode in 0..1000 {
        leases.grant_attributes(InodeId(inode), false, to(ONE), start);
        leases.grant_name(InodeId(inode), b"a", to(ONE), start);
        leases.name_changed(InodeId(inode), TWO, start);
    }
    let renewed = start + LEASE / 2;
    leases.grant_attributes(FILE, false, to(TWO), renewed);
    leases.sweep(start + LEASE, usize::MAX);
    assert_eq!(leases.due.len(), 1);
    assert_eq!(attribute_holders(&leases, ONE, start + LEASE), [TWO]);
    leases.sweep(renewed + LEASE, usize::MAX);
    assert!(leases.due.is_empty());
    assert_eq!(
        leases.grant_name(FILE, b"a", to(ONE), start),
        LEASE - LEASE / 10
    );
}

#[test]
fn every_holder_and_every_name_is_counted_until_it_lapses_or_is_given_back() {
    let (mut leases, now) = (Leases::new(LEASE, LEASE / 10), Instant::now());
    for session in (1..=100).rev().chain([50, 1, 100]) {
        leases.grant_attributes(FILE, false, to(SessionId(session)), now);
    }
    assert_eq!(leases.count(), 100);
    let holders = attribute_holders(&leases, SessionId(7), now);
    assert_eq!(holders.len(), 99);
    leases.attributes_dropped(FILE, SessionId(8), 1);
    assert_eq!(leases.count(), 99);
    for name in [&b"a"[..], b"b", b"a"] {
        leases.grant_name(DIRECTORY, name, to(TWO), now);
        leases.grant_name(DIRECTORY, name, to(ONE), now);
    }
    assert_eq!(leases.count(), 99 + 6);
    assert_eq!(name_holders(&leases, b"a", THREE, now), [ONE, TWO]);
    leases.names_dropped(DIRECTORY, TWO, 1);
    assert_eq!(leases.count(), 99 + 3);
    leases.forget(FILE);
    assert_eq!(leases.count(), 3);
    leases.sweep(now + LEASE, 10);
    assert_eq!(leases.count(), 0);
}
