//! What is known of names, step by step.

use super::*;

const DIRECTORY: InodeId = InodeId(7);
const FILE: InodeId = InodeId(8);
const NOW: Tick = Tick(1);

fn entry(mode: u32, names: u64) -> Entry {
    let attributes = Attributes {
        mode,
        gid: 5,
        link_count: 2,
        ..Attributes::default()
    };
    Entry {
        attributes: Some(attributes),
        names,
        ..Entry::default()
    }
}

/// A change of names at so many seconds.
fn change(at: i64) -> Change {
    Change {
        time: seconds(at),
        links: 0,
        at: Tick(at.unsigned_abs()),
    }
}

fn seconds(seconds: i64) -> Time {
    Time {
        seconds,
        nanoseconds: 0,
    }
}

/// A directory of so many names, granted to this mount.
fn granted(names: u64) -> ExclusiveDirectories {
    let exclusive = ExclusiveDirectories::new();
    exclusive.granted(DIRECTORY, &entry(0o755, names), NOW, false);
    exclusive
}

#[test]
fn empty_directory_is_known_whole() {
    let exclusive = granted(0);
    assert_eq!(exclusive.find(DIRECTORY, b"f"), Some(Known::Absent));
    assert!(exclusive.is_empty(DIRECTORY));
    exclusive.changed(DIRECTORY, b"f", Known::Present(FILE), change(9));
    assert_eq!(exclusive.find(DIRECTORY, b"f"), Some(Known::Present(FILE)));
    assert!(!exclusive.is_empty(DIRECTORY));
    let attributes = exclusive.attributes(DIRECTORY).unwrap().attributes;
    assert_eq!(attributes.unwrap().modified, Some(seconds(9)));
    exclusive.changed(DIRECTORY, b"f", Known::Absent, change(10));
    assert!(exclusive.is_empty(DIRECTORY));
}

#[test]
fn nothing_is_known_of_a_directory_that_was_given_back() {
    let exclusive = granted(0);
    let owned = exclusive.heritage(DIRECTORY, b"f").unwrap().owned;
    assert!(exclusive.is_owned(owned));
    exclusive.give_back(DIRECTORY);
    assert_eq!(exclusive.find(DIRECTORY, b"f"), None);
    exclusive.granted(DIRECTORY, &entry(0o755, 0), NOW, false);
    assert!(!exclusive.is_owned(owned));
}

#[test]
fn doubted_name_is_learned_anew() {
    let exclusive = granted(0);
    exclusive.doubt(DIRECTORY, b"f");
    assert_eq!(exclusive.find(DIRECTORY, b"f"), None);
    assert_eq!(exclusive.heritage(DIRECTORY, b"f"), None);
    let glance = exclusive.glance(DIRECTORY).unwrap();
    exclusive.doubt(DIRECTORY, b"g");
    exclusive.learn(DIRECTORY, glance, b"f", Known::Present(FILE));
    assert_eq!(
        exclusive.find(DIRECTORY, b"f"),
        None,
        "asked before a change"
    );
    let glance = exclusive.glance(DIRECTORY).unwrap();
    exclusive.learn(DIRECTORY, glance, b"f", Known::Present(FILE));
    assert_eq!(exclusive.find(DIRECTORY, b"f"), Some(Known::Present(FILE)));
}

#[test]
fn names_are_read_when_many_are_looked_up_in_vain() {
    let exclusive = granted(2);
    assert_eq!(exclusive.find(DIRECTORY, b"f"), None);
    let glance = exclusive.glance(DIRECTORY).unwrap();
    let reads = (0..MISSES_TO_READ).map(|miss| {
        let glance = exclusive.glance(DIRECTORY).unwrap();
        exclusive.learn(DIRECTORY, glance, &[b'0' + miss as u8], Known::Absent)
    });
    assert_eq!(reads.filter(|read| *read).count(), 1);
    // While the names are being read one of them goes, and another comes.
    exclusive.changed(DIRECTORY, b"gone", Known::Absent, change(1));
    exclusive.changed(DIRECTORY, b"new", Known::Present(FILE), change(2));
    let listed = ["gone", "stays"].map(|name| (name.as_bytes().into(), InodeId(3)));
    exclusive.read(DIRECTORY, glance, Some(listed.into()));
    let find = |name| exclusive.find(DIRECTORY, name);
    assert_eq!(find(b"gone"), Some(Known::Absent));
    assert_eq!(find(b"stays"), Some(Known::Present(InodeId(3))));
    assert_eq!(find(b"new"), Some(Known::Present(FILE)));
    assert_eq!(find(b"other"), Some(Known::Absent));
}

#[test]
fn names_beyond_the_bound_are_forgotten_not_denied() {
    let exclusive = granted(0);
    for number in 0..=NAMES_MAX {
        let name = number.to_string();
        let known = Known::Present(InodeId(number as u64));
        exclusive.changed(DIRECTORY, name.as_bytes(), known, change(1));
    }
    assert_eq!(exclusive.find(DIRECTORY, b"0"), None);
    assert_eq!(exclusive.find(DIRECTORY, b"absent"), None);
    assert!(!exclusive.is_empty(DIRECTORY));
}

#[test]
fn what_is_no_name_is_left_to_the_server() {
    let exclusive = granted(0);
    let long = [b'x'; NAME_BYTES_MAX + 1];
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &long] {
        assert_eq!(exclusive.heritage(DIRECTORY, name), None);
    }
}

#[test]
fn group_is_handed_on_where_the_directory_says_so() {
    let exclusive = ExclusiveDirectories::new();
    for (mode, group) in [(0o2775, Some(5)), (0o775, None)] {
        exclusive.granted(DIRECTORY, &entry(mode, 0), NOW, false);
        assert_eq!(exclusive.heritage(DIRECTORY, b"f").unwrap().group, group);
    }
}

#[test]
fn answer_that_does_not_know_of_a_change_says_nothing_of_attributes() {
    let exclusive = granted(0);
    exclusive.changed(DIRECTORY, b"f", Known::Present(FILE), change(9));
    exclusive.granted(DIRECTORY, &entry(0o700, 1), Tick(8), false);
    assert_eq!(exclusive.attributes(DIRECTORY), None);
    exclusive.granted(DIRECTORY, &entry(0o700, 1), Tick(10), false);
    let known = exclusive.attributes(DIRECTORY).unwrap();
    assert_eq!(known.attributes.unwrap().mode, 0o700);
    exclusive.forget_attributes(DIRECTORY, NOW);
    assert_eq!(exclusive.attributes(DIRECTORY), None);
}

#[test]
fn nothing_is_owned_any_more_once_something_may_have_left() {
    let exclusive = granted(0);
    let owned = exclusive.heritage(DIRECTORY, b"f").unwrap().owned;
    exclusive.disown_all(DIRECTORY);
    assert!(!exclusive.is_owned(owned));
    assert_eq!(exclusive.find(DIRECTORY, b"f"), Some(Known::Absent));
}

/// As many other directories as are held at once, with answers to requests that went out at `since`.
fn crowd_out(exclusive: &ExclusiveDirectories, since: Tick) {
    let others = 1000..1000 + DIRECTORIES_MAX.get() as u64;
    for directory in others {
        exclusive.granted(InodeId(directory), &entry(0o755, 0), since, false);
    }
}

#[test]
fn directory_that_is_granted_again_is_not_given_back() {
    let exclusive = granted(0);
    crowd_out(&exclusive, NOW);
    exclusive.granted(DIRECTORY, &entry(0o755, 0), NOW, false);
    // The other one, for which there was no room then.
    assert_eq!(exclusive.take_evicted(), [InodeId(1000)]);
}

#[test]
fn directory_that_was_given_back_is_not_granted_by_an_older_answer() {
    let exclusive = granted(0);
    crowd_out(&exclusive, NOW);
    let grant = |since| {
        exclusive.granted(DIRECTORY, &entry(0o755, 0), since, false);
        exclusive.find(DIRECTORY, b"f").is_some()
    };
    assert_eq!(exclusive.take_evicted(), [DIRECTORY]);
    assert!(!grant(Tick(5)), "the server is being told");
    exclusive.returned(Tick(6));
    assert!(!grant(Tick(5)), "asked before the server was told");
    assert!(grant(Tick(7)));
}
