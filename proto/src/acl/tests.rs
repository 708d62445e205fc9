//! Lists are taken exactly where Linux takes them, and agree with the mode whatever is done.

use proptest::prelude::*;

use super::*;

/// Tag, permissions and id, as they stand in the bytes.
type Raw = (u16, u16, u32);

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;
const NOBODY: u32 = u32::MAX;

fn bytes(entries: &[Raw]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn acl(entries: &[Raw]) -> Acl {
    Acl::decode(&bytes(entries)).unwrap().unwrap()
}

/// For users 10 and 11, group 20, and the mask.
const FULL: [Raw; 7] = [
    (OWNER, 7, NOBODY),
    (USER, 6, 10),
    (USER, 5, 11),
    (OWNING_GROUP, 4, NOBODY),
    (GROUP, 7, 20),
    (MASK, 5, NOBODY),
    (OTHERS, 1, NOBODY),
];
const MINIMAL: [Raw; 3] = [
    (OWNER, 6, NOBODY),
    (OWNING_GROUP, 4, NOBODY),
    (OTHERS, 0, NOBODY),
];

#[test]
fn a_list_comes_back_as_the_same_bytes() {
    for entries in [&FULL[..], &MINIMAL] {
        assert_eq!(acl(entries).encode(), bytes(entries));
    }
}

#[test]
fn ids_count_in_named_entries_only_and_in_any_order() {
    let mut entries = FULL;
    entries[0].2 = 7;
    entries[6].2 = 0;
    assert_eq!(acl(&entries), acl(&FULL));
    entries.swap(1, 2);
    assert_ne!(acl(&entries), acl(&FULL));
}

#[test]
fn no_entries_are_no_list() {
    assert_eq!(Acl::decode(&[]), Ok(None));
    assert_eq!(Acl::decode(&bytes(&[])), Ok(None));
}

#[test]
fn what_is_no_list_is_invalid() {
    let invalid = |entries: &[Raw]| {
        let decoded = Acl::decode(&bytes(entries));
        assert_eq!(decoded, Err(Status::Invalid), "{entries:?}");
    };
    for missing in [0, 3, 5, 6] {
        let mut entries = FULL.to_vec();
        entries.remove(missing);
        invalid(&entries);
    }
    for twice in [0, 3, 5, 6] {
        let mut entries = FULL.to_vec();
        entries.insert(twice, FULL[twice]);
        invalid(&entries);
    }
    for (one, other) in [(0, 1), (2, 3), (3, 4), (4, 5), (5, 6)] {
        let mut entries = FULL;
        entries.swap(one, other);
        invalid(&entries);
    }
    for wrong in [
        (USER, 8, 10),
        (USER, 6, NOBODY),
        (0x40, 6, 10),
        (0, 6, 10),
        (3, 6, 10),
    ] {
        let mut entries = FULL;
        entries[1] = wrong;
        invalid(&entries);
    }
    let mut whole = bytes(&FULL);
    for length in (1..whole.len()).filter(|length| length % 8 != 4) {
        assert_eq!(Acl::decode(&whole[..length]), Err(Status::Invalid));
    }
    whole[0] = 1;
    assert_eq!(Acl::decode(&whole), Err(Status::Invalid));
}

#[test]
fn a_list_is_no_longer_than_the_kernel_keeps_it() {
    let of = |users: u32| {
        let mut entries = FULL.to_vec();
        entries.splice(1..3, (0..users).map(|id| (USER, 7, id)));
        Acl::decode(&bytes(&entries)).map(|_| ())
    };
    assert_eq!(of(506), Ok(()));
    assert_eq!(of(507), Err(Status::OutOfRange));
}

#[test]
fn the_mask_is_the_groups_bits_of_the_mode() {
    assert_eq!(acl(&FULL).mode(), 0o751);
    assert_eq!(acl(&MINIMAL).mode(), 0o640);
    assert!(acl(&MINIMAL).is_minimal() && !acl(&FULL).is_minimal());
    let with_mask = [MINIMAL[0], MINIMAL[1], (MASK, 7, NOBODY), MINIMAL[2]];
    assert!(!acl(&with_mask).is_minimal());
    assert_eq!(acl(&with_mask).mode(), 0o670);
}

#[test]
fn a_change_of_the_mode_leaves_named_entries_and_the_owning_group_behind_a_mask() {
    let mut changed = acl(&FULL);
    changed.set_mode(0o4624);
    let mut expected = FULL;
    (expected[0].1, expected[5].1, expected[6].1) = (6, 2, 4);
    assert_eq!(changed, acl(&expected));
    let mut changed = acl(&MINIMAL);
    changed.set_mode(0o777);
    assert_eq!(changed.mode(), 0o777);
}

fn with_default(entries: &[Raw]) -> Acls {
    Acls {
        access: bytes(&FULL).into(),
        default: bytes(entries).into(),
    }
}

#[test]
fn the_umask_counts_where_there_is_no_default_list() {
    let file = |acls: &Acls| acls.hand_on(FileKind::Regular, 0o2666, 0o7027);
    assert_eq!(file(&Acls::default()).mode, 0o2640);
    assert_eq!(file(&with_default(&MINIMAL)).mode, 0o2640);
    let open = [
        (OWNER, 7, NOBODY),
        (OWNING_GROUP, 7, NOBODY),
        (OTHERS, 7, NOBODY),
    ];
    assert_eq!(file(&with_default(&open)).mode, 0o2666);
    assert_eq!(file(&with_default(&open)).acls, Acls::default());
    assert_eq!(
        file(&Acls {
            default: Bytes::new(),
            ..with_default(&open)
        })
        .mode,
        0o2640
    );
}

#[test]
fn what_is_made_has_the_default_list_as_far_as_its_mode_allows() {
    let acls = with_default(&FULL);
    let file = acls.hand_on(FileKind::Regular, 0o640, 0o077);
    assert_eq!(file.mode, 0o640);
    let mut expected = FULL;
    (expected[0].1, expected[5].1, expected[6].1) = (6, 4, 0);
    assert_eq!(file.acls.access, bytes(&expected));
    assert_eq!(file.acls.default, Bytes::new());
    let directory = acls.hand_on(FileKind::Directory, 0o777, 0o022);
    assert_eq!(directory.mode, 0o751);
    assert_eq!(directory.acls.access, acls.default);
    assert_eq!(directory.acls.default, acls.default);
}

#[test]
fn a_symbolic_link_takes_neither_list_nor_umask() {
    let link = with_default(&FULL).hand_on(FileKind::Symlink, 0o777, 0o077);
    assert_eq!((link.mode, link.acls), (0o777, Acls::default()));
}

/// Lists that are nearly or quite right.
fn any_entries() -> impl Strategy<Value = Vec<Raw>> {
    let tag = prop::sample::select(vec![OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHERS, 0x40]);
    let id = prop_oneof![0..4_u32, Just(NOBODY)];
    let entries = prop::collection::vec((tag, 0..9_u16, id), 0..9);
    (entries, any::<bool>()).prop_map(|(mut entries, sort)| {
        if sort {
            entries.sort_unstable();
            entries.dedup_by_key(|entry| match entry.0 {
                USER | GROUP => (entry.0, entry.2),
                base => (base, NOBODY),
            });
        }
        entries
    })
}

/// The kernel's own check (posix_acl_valid), state by state.
fn linux_takes(entries: &[Raw]) -> bool {
    let (mut expected, mut needs_mask) = (OWNER, false);
    for (tag, permissions, id) in entries {
        if *permissions > 7 {
            return false;
        }
        expected = match (*tag, expected) {
            (OWNER, OWNER) => USER,
            (USER, USER) | (GROUP, GROUP) if *id != NOBODY => {
                needs_mask = true;
                expected
            }
            (OWNING_GROUP, USER) => GROUP,
            (MASK, GROUP) => OTHERS,
            (OTHERS, OTHERS) => 0,
            (OTHERS, GROUP) if !needs_mask => 0,
            _ => return false,
        };
    }
    expected == 0
}

proptest! {
    #[test]
    fn lists_are_taken_where_the_kernel_takes_them(entries in any_entries()) {
        let decoded = Acl::decode(&bytes(&entries));
        match entries.is_empty() {
            true => prop_assert_eq!(decoded, Ok(None)),
            false => prop_assert_eq!(decoded.is_ok(), linux_takes(&entries)),
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some(acl)) = Acl::decode(&bytes) {
            prop_assert_eq!(Acl::decode(&acl.encode()), Ok(Some(acl)));
        }
    }

    #[test]
    fn a_list_and_its_mode_agree_after_any_change(
        entries in any_entries(), mode in 0..0o10000_u32, umask in 0..0o10000_u32,
    ) {
        let Ok(Some(before)) = Acl::decode(&bytes(&entries)) else { return Ok(()) };
        let mut changed = before.clone();
        changed.set_mode(mode);
        prop_assert_eq!(changed.mode(), mode & 0o777);
        let acls = Acls { default: before.encode(), ..Acls::default() };
        for kind in [FileKind::Regular, FileKind::Directory, FileKind::Fifo] {
            let made = acls.hand_on(kind, mode, umask);
            prop_assert_eq!(made.mode, mode & (before.mode() | !0o777));
            match Acl::decode(&made.acls.access) {
                Ok(Some(access)) => prop_assert_eq!(access.mode(), made.mode & 0o777),
                _ => prop_assert!(before.is_minimal()),
            }
        }
    }
}
