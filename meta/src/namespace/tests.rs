//! The namespace by itself: what POSIX says of names and links.

use bytes::Bytes;
use pocket_proto::session::FileKind;
use pocket_proto::{BlockIndex, InodeId, ServerId, Status};

use super::*;
use crate::limits::*;

const ROOT: InodeId = InodeId::ROOT;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn new_inode(content: Content) -> NewInode {
    NewInode {
        umask: 0,
        mode: 0o644,
        uid: 7,
        gid: 8,
        content,
    }
}

fn make(namespace: &mut Namespace, parent: InodeId, name: &[u8], content: Content) -> InodeId {
    let new = new_inode(content);
    let plan = namespace.plan_make(parent, name, &new, None).unwrap();
    namespace.make(&plan, new, at(2))
}

fn file(namespace: &mut Namespace, parent: InodeId, name: &[u8]) -> InodeId {
    make(namespace, parent, name, Content::File(File::default()))
}

fn directory(namespace: &mut Namespace, parent: InodeId, name: &[u8]) -> InodeId {
    make(namespace, parent, name, NewInode::directory())
}

fn remove(namespace: &mut Namespace, name: &[u8], seconds: i64) {
    let plan = namespace.plan_remove(ROOT, name, false).unwrap();
    namespace.remove(&plan, at(seconds));
}

#[test]
fn root_is_open_to_everyone_and_sticky() {
    let namespace = Namespace::new(at(1));
    let root = namespace.inode(ROOT).unwrap();
    assert_eq!((root.mode, root.link_count), (0o1777, 2));
    assert_eq!(root.kind(), FileKind::Directory);
}

#[test]
fn names_of_any_255_bytes_are_taken_and_others_refused() {
    let mut namespace = Namespace::new(at(1));
    let odd: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let inode = file(&mut namespace, ROOT, &odd);
    assert_eq!(namespace.lookup(ROOT, &odd), Ok(Some(inode)));
    file(&mut namespace, ROOT, &[b'x'; 255]);
    for (name, status) in [
        (&[b'x'; 256][..], Status::NameTooLong),
        (b"", Status::Invalid),
        (b"a/b", Status::Invalid),
        (b"a\0", Status::Invalid),
        (b".", Status::Invalid),
        (b"..", Status::Invalid),
    ] {
        let new = new_inode(Content::File(File::default()));
        let plan = namespace.plan_make(ROOT, name, &new, None);
        assert_eq!(plan.err(), Some(status));
        assert_eq!(namespace.plan_link(inode, ROOT, name).err(), Some(status));
        let rename = namespace.plan_rename((ROOT, &odd), (ROOT, name), RenameMode::Replace);
        assert_eq!(rename.err(), Some(status));
    }
}

#[test]
fn set_group_id_directory_hands_down_its_group() {
    let mut namespace = Namespace::new(at(1));
    let parent = directory(&mut namespace, ROOT, b"d");
    let change = AttributeChange {
        mode: Some(0o2775),
        gid: Some(99),
        ..Default::default()
    };
    namespace.set_attributes(parent, &change, at(3));
    let child = file(&mut namespace, parent, b"f");
    let below = directory(&mut namespace, parent, b"e");
    let child = namespace.inode(child).unwrap();
    assert_eq!((child.gid, child.mode), (99, 0o644));
    let below = namespace.inode(below).unwrap();
    assert_eq!((below.gid, below.mode), (99, 0o2644));
}

#[test]
fn changes_of_names_move_times_of_directory_and_inode() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    assert_eq!(namespace.inode(ROOT).unwrap().modified, at(2));
    let plan = namespace.plan_link(inode, ROOT, b"g").unwrap();
    namespace.link(&plan, at(5));
    remove(&mut namespace, b"f", 6);
    let root = namespace.inode(ROOT).unwrap();
    assert_eq!((root.modified, root.changed), (at(6), at(6)));
    let linked = namespace.inode(inode).unwrap();
    assert_eq!((linked.modified, linked.changed), (at(2), at(6)));
    assert_eq!(linked.link_count, 1);
}

#[test]
fn inode_without_names_stays_until_forgotten_and_gives_back_its_bytes() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    let change = CommitChange {
        size_bytes: 10,
        allocated_bytes: 512,
        modified: None,
        clear_set_id: false,
        allocated_behind: false,
    };
    assert_eq!(namespace.commit(inode, &change, at(2)), Ok(512));
    assert!(namespace.forget(inode).is_none());
    remove(&mut namespace, b"f", 3);
    assert_eq!(namespace.inode(inode).unwrap().link_count, 0);
    let link = namespace.plan_link(inode, ROOT, b"g");
    assert_eq!(link.err(), Some(Status::NotFound));
    assert_eq!(namespace.allocated_bytes(), 512);
    assert!(namespace.forget(inode).is_some());
    assert_eq!(namespace.allocated_bytes(), 0);
    assert_eq!(namespace.inode(inode).err(), Some(Status::Stale));
}

#[test]
fn nothing_can_be_put_into_a_removed_directory() {
    let mut namespace = Namespace::new(at(1));
    let gone = directory(&mut namespace, ROOT, b"d");
    let inode = file(&mut namespace, ROOT, b"f");
    let plan = namespace.plan_remove(ROOT, b"d", true).unwrap();
    namespace.remove(&plan, at(2));
    let new = new_inode(Content::File(File::default()));
    let made = namespace.plan_make(gone, b"x", &new, None);
    assert_eq!(made.err(), Some(Status::NotFound));
    let link = namespace.plan_link(inode, gone, b"x");
    assert_eq!(link.err(), Some(Status::NotFound));
    let moved = namespace.plan_rename((ROOT, b"f"), (gone, b"x"), RenameMode::Replace);
    assert_eq!(moved.err(), Some(Status::NotFound));
    assert_eq!(namespace.inode(ROOT).unwrap().link_count, 2);
}

#[test]
fn file_has_as_many_names_as_the_limit_and_no_more() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"0");
    for name in 1..LINK_COUNT_MAX {
        let name = name.to_string();
        let plan = namespace.plan_link(inode, ROOT, name.as_bytes()).unwrap();
        namespace.link(&plan, at(2));
    }
    let one_more = namespace.plan_link(inode, ROOT, b"x");
    assert_eq!(one_more.err(), Some(Status::TooManyLinks));
}

#[test]
fn inodes_are_limited() {
    let mut namespace = Namespace::new(at(1));
    namespace.inodes_max = 2;
    file(&mut namespace, ROOT, b"f");
    let new = new_inode(Content::File(File::default()));
    let plan = namespace.plan_make(ROOT, b"g", &new, None);
    assert_eq!(plan.err(), Some(Status::NoSpace));
}

#[test]
fn listing_tells_what_was_there_once_while_names_come_and_go() {
    let mut namespace = Namespace::new(at(1));
    for name in 0..100_000u32 {
        file(&mut namespace, ROOT, name.to_string().as_bytes());
    }
    let (mut cookie, mut seen, mut added) = (0, Vec::new(), 0);
    loop {
        let (entries, end) = namespace.read_directory(ROOT, cookie, 997).unwrap();
        cookie = entries.last().map_or(cookie, |entry| entry.cookie);
        for entry in entries.iter().filter(|entry| !entry.is_dot()) {
            seen.push(entry.name.clone());
            remove(&mut namespace, &entry.name, 3);
        }
        // As many as were told: whoever met them would never be done.
        for _ in entries {
            added += 1;
            file(&mut namespace, ROOT, format!("new{added}").as_bytes());
        }
        if end {
            break;
        }
    }
    assert_eq!(seen.len(), 100_000);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100_000);
    let (left, _) = namespace.read_directory(ROOT, 0, 200_000).unwrap();
    assert!(
        left.iter()
            .all(|entry| entry.is_dot() || entry.name.starts_with(b"new"))
    );
}

#[test]
fn new_owner_clears_set_id_bits_of_files_only() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    let parent = directory(&mut namespace, ROOT, b"d");
    let set_mode = |mode| AttributeChange {
        mode: Some(mode),
        ..Default::default()
    };
    let chown = AttributeChange {
        uid: Some(5),
        ..Default::default()
    };
    for (inode, before, after) in [
        (inode, 0o6755, 0o755),
        (inode, 0o6745, 0o2745),
        (parent, 0o6755, 0o6755),
    ] {
        namespace.set_attributes(inode, &set_mode(before), at(2));
        namespace.set_attributes(inode, &chown, at(2));
        assert_eq!(namespace.inode(inode).unwrap().mode, after);
    }
}

#[test]
fn only_files_have_a_size_to_set() {
    let mut namespace = Namespace::new(at(1));
    let fifo = Content::Special {
        kind: FileKind::Fifo,
        number: 0,
    };
    let fifo = make(&mut namespace, ROOT, b"p", fifo);
    let inode = file(&mut namespace, ROOT, b"f");
    let size = |size_bytes| AttributeChange {
        size_bytes: Some(size_bytes),
        ..Default::default()
    };
    let plan = |inode, bytes| namespace.plan_set_attributes(inode, &size(bytes));
    assert_eq!(plan(ROOT, 1), Err(Status::IsDirectory));
    assert_eq!(plan(fifo, 1), Err(Status::Invalid));
    assert_eq!(plan(inode, u64::MAX), Err(Status::TooLarge));
    assert_eq!(plan(inode, FILE_BYTES_MAX), Ok(true));
}

#[test]
fn appends_are_reserved_one_behind_the_other() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    assert_eq!(namespace.reserve_append(inode, 10), Ok(0));
    assert_eq!(namespace.reserve_append(inode, 5), Ok(10));
    let change = CommitChange {
        size_bytes: 100,
        allocated_bytes: 0,
        modified: None,
        clear_set_id: false,
        allocated_behind: false,
    };
    namespace.commit(inode, &change, at(2)).unwrap();
    assert_eq!(namespace.reserve_append(inode, 1), Ok(100));
    namespace.end_reservations(inode);
    assert_eq!(namespace.reserve_append(inode, 1), Ok(100));
    let endless = namespace.reserve_append(inode, u64::MAX);
    assert_eq!(endless, Err(Status::TooLarge));
}

#[test]
fn reservation_is_returned_unless_others_are_behind_it() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    assert_eq!(namespace.reserve_append(inode, 10), Ok(0));
    assert_eq!(namespace.reserve_append(inode, 5), Ok(10));
    assert_eq!(namespace.return_append(inode, 0, 10), Ok(()));
    assert_eq!(namespace.reserve_append(inode, 5), Ok(15));
    assert_eq!(namespace.return_append(inode, 17, 3), Ok(()));
    assert_eq!(namespace.reserve_append(inode, 0), Ok(17));
    assert_eq!(namespace.return_append(inode, u64::MAX, 2), Ok(()));
    assert_eq!(namespace.reserve_append(inode, 1), Ok(17));
}

#[test]
fn allocated_bytes_never_fall_below_zero() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    let change = |allocated_bytes| CommitChange {
        size_bytes: 0,
        allocated_bytes,
        modified: None,
        clear_set_id: false,
        allocated_behind: false,
    };
    assert_eq!(namespace.commit(inode, &change(100), at(2)), Ok(100));
    assert_eq!(namespace.commit(inode, &change(-500), at(2)), Ok(-100));
    assert_eq!(namespace.commit(inode, &change(i64::MIN), at(2)), Ok(0));
    assert_eq!(
        namespace.commit(inode, &change(i64::MAX), at(2)),
        Ok(i64::MAX)
    );
    assert_eq!(namespace.commit(inode, &change(i64::MAX), at(2)), Ok(0));
}

#[test]
fn extended_attributes_are_kept_listed_and_limited() {
    let mut namespace = Namespace::new(at(1));
    let value = vec![1; 1000];
    let plan = namespace.plan_set_xattr(ROOT, b"user.a", &value, XattrMode::Replace);
    assert_eq!(plan, Err(Status::NoAttribute));
    namespace.set_xattr(ROOT, b"user.a", &value, at(2));
    namespace.set_xattr(ROOT, b"user.b", b"", at(2));
    let plan = namespace.plan_set_xattr(ROOT, b"user.a", b"", XattrMode::Create);
    assert_eq!(plan, Err(Status::Exists));
    assert_eq!(
        namespace.xattr(ROOT, b"user.a"),
        Ok(Bytes::from(value.clone()))
    );
    assert_eq!(
        namespace.list_xattrs(ROOT),
        Ok(Bytes::from_static(b"user.a\0user.b\0"))
    );
    namespace.remove_xattr(ROOT, b"user.a", at(3));
    assert_eq!(namespace.xattr(ROOT, b"user.a"), Err(Status::NoAttribute));
}

#[test]
fn extended_attributes_take_no_more_than_their_room() {
    let mut namespace = Namespace::new(at(1));
    let large = vec![0; XATTR_VALUE_BYTES_MAX];
    let plan = namespace.plan_set_xattr(
        ROOT,
        b"user.c",
        &[&large[..], &[0]].concat(),
        XattrMode::Set,
    );
    assert_eq!(plan, Err(Status::OutOfRange));
    let full = XATTRS_BYTES_MAX / (XATTR_VALUE_BYTES_MAX + 3);
    for name in 0..full {
        let name = format!("{name:02}");
        let plan = namespace.plan_set_xattr(ROOT, name.as_bytes(), &large, XattrMode::Set);
        assert_eq!(plan, Ok(()), "{name}");
        namespace.set_xattr(ROOT, name.as_bytes(), &large, at(2));
    }
    let plan = namespace.plan_set_xattr(ROOT, b"xx", &large, XattrMode::Set);
    assert_eq!(plan, Err(Status::NoSpace));
    // In place of another there is room.
    let plan = namespace.plan_set_xattr(ROOT, b"00", &large, XattrMode::Replace);
    assert_eq!(plan, Ok(()));
}

#[test]
fn a_file_made_without_a_name_gets_one_once() {
    let mut namespace = Namespace::new(at(1));
    let unnamed = |namespace: &mut Namespace, linkable| {
        let new = new_inode(Content::File(File {
            linkable,
            ..File::default()
        }));
        assert_eq!(namespace.plan_make_unnamed(ROOT), Ok(()));
        namespace.make_unnamed(ROOT, new, at(2))
    };
    let inode = unnamed(&mut namespace, true);
    assert_eq!(namespace.inode(inode).unwrap().link_count, 0);
    assert_eq!(namespace.inode(ROOT).unwrap().modified, at(1));
    let plan = namespace.plan_link(inode, ROOT, b"f").unwrap();
    namespace.link(&plan, at(3));
    assert_eq!(namespace.lookup(ROOT, b"f"), Ok(Some(inode)));
    remove(&mut namespace, b"f", 4);
    let again = namespace.plan_link(inode, ROOT, b"f").map(drop);
    assert_eq!(again, Err(Status::NotFound));
    assert!(namespace.forget(inode).is_some());
    let never = unnamed(&mut namespace, false);
    let plan = namespace.plan_link(never, ROOT, b"f").map(drop);
    assert_eq!(plan, Err(Status::NotFound));
    let gone = directory(&mut namespace, ROOT, b"d");
    let plan = namespace.plan_remove(ROOT, b"d", true).unwrap();
    namespace.remove(&plan, at(5));
    assert_eq!(namespace.plan_make_unnamed(gone), Err(Status::NotFound));
}

#[test]
fn a_whiteout_takes_the_place_of_a_name_that_moves() {
    let mut namespace = Namespace::new(at(1));
    let moved = directory(&mut namespace, ROOT, b"a");
    let links = namespace.inode(ROOT).unwrap().link_count;
    let plan = namespace
        .plan_rename((ROOT, b"a"), (ROOT, b"b"), RenameMode::Replace)
        .unwrap();
    namespace.rename(&plan, at(2));
    namespace.leave_behind(&plan, NewInode::whiteout(7, 8), at(2));
    assert_eq!(namespace.lookup(ROOT, b"b"), Ok(Some(moved)));
    let whiteout = namespace.lookup(ROOT, b"a").unwrap().unwrap();
    let attributes = namespace.inode(whiteout).unwrap().attributes(whiteout);
    assert_eq!(attributes.kind(), FileKind::CharacterDevice);
    assert_eq!((attributes.device, attributes.mode), (0, 0));
    assert_eq!((attributes.uid, attributes.link_count), (7, 1));
    assert_eq!(namespace.inode(ROOT).unwrap().link_count, links);
}

#[test]
fn relocated_blocks_are_remembered() {
    let mut namespace = Namespace::new(at(1));
    let inode = file(&mut namespace, ROOT, b"f");
    namespace
        .relocate(inode, BlockIndex(3), ServerId(9))
        .unwrap();
    let file = namespace
        .relocate(inode, BlockIndex(3), ServerId(8))
        .unwrap();
    let exceptions = file.exceptions();
    assert_eq!(exceptions.len(), 1);
    assert_eq!((exceptions[0].block, exceptions[0].server), (3, 8));
}
