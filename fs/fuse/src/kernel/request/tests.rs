//! Requests are understood as the kernel means them, and nothing else is.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::super::abi::{CopyFileRangeIn, FileLock, LkIn, SetattrIn};
use super::super::wire::{bytes, request};
use super::*;

const NAME: &[u8] = b"name\0";
const DIALECT: Dialect = Dialect {
    long_setxattr: true,
};

fn operation(opcode: u32, parts: &[&[u8]]) -> Operation<'static> {
    let bytes: &'static [u8] = request(opcode, 2, parts).leak();
    Request::decode(bytes, DIALECT).unwrap().operation
}

/// A whole request of every kind that has a body.
fn whole_requests() -> Vec<(u32, Vec<u8>)> {
    let with_name = |value: Vec<u8>| [&value[..], NAME].concat();
    let write = WriteIn {
        size: 4,
        ..WriteIn::default()
    };
    let set = (SetxattrIn { size: 3, flags: 1 }, SetxattrInExt::default());
    let set = [bytes(&set.0), bytes(&set.1)].concat();
    vec![
        (opcode::LOOKUP, NAME.to_vec()),
        (opcode::SETATTR, bytes(&SetattrIn::default())),
        (opcode::SYMLINK, [NAME, b"target\0"].concat()),
        (opcode::MKNOD, with_name(bytes(&MknodIn::default()))),
        (opcode::MKDIR, with_name(bytes(&MkdirIn::default()))),
        (opcode::UNLINK, NAME.to_vec()),
        (opcode::RMDIR, NAME.to_vec()),
        (
            opcode::RENAME,
            [&bytes(&RenameIn::default()), NAME, NAME].concat(),
        ),
        (
            opcode::RENAME2,
            [&bytes(&Rename2In::default()), NAME, NAME].concat(),
        ),
        (opcode::LINK, with_name(bytes(&LinkIn::default()))),
        (opcode::OPEN, bytes(&OpenIn::default())),
        (opcode::CREATE, with_name(bytes(&CreateIn::default()))),
        (opcode::TMPFILE, bytes(&CreateIn::default())),
        (opcode::READ, bytes(&ReadIn::default())),
        (opcode::WRITE, [&bytes(&write)[..], b"data"].concat()),
        (opcode::FLUSH, bytes(&FlushIn::default())),
        (opcode::RELEASE, bytes(&ReleaseIn::default())),
        (opcode::FSYNC, bytes(&FsyncIn::default())),
        (opcode::READDIR, bytes(&ReadIn::default())),
        (opcode::READDIRPLUS, bytes(&ReadIn::default())),
        (opcode::RELEASEDIR, bytes(&ReleaseIn::default())),
        (opcode::SETXATTR, [&set[..], NAME, b"xyz"].concat()),
        (opcode::GETXATTR, with_name(bytes(&GetxattrIn::default()))),
        (opcode::LISTXATTR, bytes(&GetxattrIn::default())),
        (opcode::REMOVEXATTR, NAME.to_vec()),
        (opcode::ACCESS, bytes(&AccessIn::default())),
        (opcode::GETLK, bytes(&LkIn::default())),
        (opcode::SETLK, bytes(&LkIn::default())),
        (opcode::SETLKW, bytes(&LkIn::default())),
        (opcode::INTERRUPT, bytes(&InterruptIn::default())),
        (opcode::INIT, bytes(&InitIn::default())),
        (opcode::STATX, bytes(&StatxIn::default())),
        (opcode::FALLOCATE, bytes(&FallocateIn::default())),
        (opcode::LSEEK, bytes(&LseekIn::default())),
        (opcode::COPY_FILE_RANGE, bytes(&CopyFileRangeIn::default())),
        (
            opcode::COPY_FILE_RANGE_64,
            bytes(&CopyFileRangeIn::default()),
        ),
    ]
}

#[test]
fn whole_requests_are_understood() {
    for (opcode, body) in whole_requests() {
        let bytes = request(opcode, 2, &[&body]);
        let understood = Request::decode(&bytes, DIALECT).unwrap();
        assert_ne!(understood.operation, Operation::Unknown, "{opcode}");
        assert_eq!((understood.unique, understood.inode), (2, 1));
        assert_eq!(
            (understood.uid, understood.gid, understood.thread),
            (7, 8, 9)
        );
    }
}

#[test]
fn a_request_that_is_cut_short_anywhere_is_refused() {
    for (opcode, body) in whole_requests() {
        for length in 0..body.len() {
            let bytes = request(opcode, 2, &[&body[..length]]);
            let refusal = Request::decode(&bytes, DIALECT).unwrap_err();
            assert_eq!(
                refusal,
                Refusal::Malformed { unique: 2, opcode },
                "{length}"
            );
        }
    }
    for length in 0..size_of::<InHeader>() {
        let bytes = &request(opcode::STATFS, 2, &[])[..length];
        assert_eq!(
            Request::decode(bytes, DIALECT),
            Err(Refusal::NoHeader(length))
        );
    }
}

#[test]
fn a_length_that_is_not_that_of_the_bytes_is_refused() {
    let mut bytes = request(opcode::STATFS, 2, &[]);
    for length in [0, 39, 41, u32::MAX] {
        bytes[..4].copy_from_slice(length.as_bytes());
        assert!(Request::decode(&bytes, DIALECT).is_err(), "{length}");
    }
}

#[test]
fn extensions_are_passed_over_and_cannot_be_longer_than_the_request() {
    let mut bytes = request(opcode::UNLINK, 2, &[NAME, &[1; 8]]);
    bytes[36] = 1;
    let understood = Request::decode(&bytes, DIALECT).unwrap();
    assert_eq!(understood.operation, Operation::Unlink { name: b"name" });
    bytes[36] = 2;
    assert!(Request::decode(&bytes, DIALECT).is_err());
}

#[test]
fn a_name_needs_its_end() {
    let bytes = request(opcode::LOOKUP, 2, &[b"name"]);
    assert!(Request::decode(&bytes, DIALECT).is_err());
}

#[test]
fn attributes_are_set_in_the_form_that_was_agreed_on() {
    let set = SetxattrIn { size: 3, flags: 1 };
    let more = |setxattr_flags| SetxattrInExt {
        setxattr_flags,
        padding: 0,
    };
    let understood = |long_setxattr, parts: &[&[u8]]| {
        let bytes = request(opcode::SETXATTR, 2, parts);
        let request = Request::decode(&bytes, Dialect { long_setxattr });
        match request.unwrap().operation {
            Operation::SetXattr {
                name,
                value,
                flags,
                clear_set_group_id,
            } => {
                assert_eq!((name, value, flags), (&b"name"[..], &b"xyz"[..], 1));
                clear_set_group_id
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(!understood(false, &[set.as_bytes(), NAME, b"xyz"]));
    for (flags, clears) in [(0, false), (abi::SETXATTR_ACL_KILL_SGID, true)] {
        let parts = [set.as_bytes(), more(flags).as_bytes(), NAME, b"xyz"].concat();
        assert_eq!(understood(true, &[&parts]), clears);
    }
}

#[test]
fn data_of_a_write_are_as_long_as_it_says() {
    let write = |size, data: &[u8]| {
        let write = WriteIn {
            fh: 3,
            offset: 4,
            size,
            write_flags: abi::WRITE_CACHE | abi::WRITE_LOCKOWNER,
            lock_owner: 5,
            flags: libc::O_APPEND as u32,
            padding: 0,
        };
        request(opcode::WRITE, 2, &[write.as_bytes(), data])
    };
    let bytes = write(4, b"data");
    let arguments = WriteArguments {
        handle: 3,
        offset: 4,
        flags: libc::O_APPEND,
        from_cache: true,
        clear_set_id: false,
        lock_owner: Some(5),
    };
    let data = b"data";
    let expected = Operation::Write { arguments, data };
    assert_eq!(
        Request::decode(&bytes, DIALECT).unwrap().operation,
        expected
    );
    for size in [5, u32::MAX] {
        assert!(
            Request::decode(&write(size, b"data"), DIALECT).is_err(),
            "{size}"
        );
    }
}

#[test]
fn owners_of_locks_are_told_where_they_count() {
    let read = |read_flags| {
        let read = ReadIn {
            read_flags,
            lock_owner: 5,
            ..ReadIn::default()
        };
        match operation(opcode::READ, &[read.as_bytes()]) {
            Operation::Read(read) => read.lock_owner,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((read(0), read(abi::READ_LOCKOWNER)), (None, Some(5)));
    let release = |release_flags| {
        let release = ReleaseIn {
            fh: 3,
            release_flags,
            lock_owner: 5,
            flags: 0,
        };
        operation(opcode::RELEASE, &[release.as_bytes()])
    };
    let released = |flock_owner| Operation::Release {
        handle: 3,
        flock_owner,
    };
    assert_eq!(release(0), released(None));
    assert_eq!(release(abi::RELEASE_FLOCK_UNLOCK), released(Some(5)));
}

#[test]
fn locks_tell_whose_they_are_and_of_which_kind() {
    let lock = LkIn {
        fh: 3,
        owner: 5,
        lk: FileLock {
            start: 1,
            end: u64::MAX >> 1,
            kind: libc::F_WRLCK as u32,
            pid: 6,
        },
        lk_flags: abi::LK_FLOCK,
        padding: 0,
    };
    let arguments = LockArguments {
        handle: 3,
        owner: 5,
        lock: lock.lk,
        whole_file: true,
    };
    for (kind, wait) in [(opcode::SETLK, false), (opcode::SETLKW, true)] {
        let lock = operation(kind, &[lock.as_bytes()]);
        let expected = Operation::SetLock {
            lock: arguments,
            wait,
        };
        assert_eq!(lock, expected);
    }
    let asked = operation(opcode::GETLK, &[lock.as_bytes()]);
    assert_eq!(asked, Operation::GetLock(arguments));
}

#[test]
fn what_the_kernel_offers_is_read_to_the_last_flag() {
    let init = InitIn {
        major: 7,
        minor: 45,
        max_readahead: 9,
        flags: (capability::INIT_EXT | capability::ASYNC_DIO) as u32,
    };
    let more = InitInExt {
        flags2: 1 << 4,
        ..InitInExt::default()
    };
    let offered = operation(opcode::INIT, &[init.as_bytes(), more.as_bytes()]);
    let Operation::Init(offered) = offered else {
        panic!("{offered:?}");
    };
    let expected = capability::INIT_EXT | capability::ASYNC_DIO | capability::DIRECT_IO_ALLOW_MMAP;
    assert_eq!(offered.capabilities, expected);
    // Said to be there, and is not.
    let bytes = request(opcode::INIT, 2, &[init.as_bytes()]);
    assert!(Request::decode(&bytes, DIALECT).is_err());
}

#[test]
fn kinds_that_nobody_knows_are_no_error_of_the_kernel() {
    for opcode in [0, 7, 19, 48, 49, 54, 4096, u32::MAX] {
        assert_eq!(operation(opcode, &[b"?"]), Operation::Unknown, "{opcode}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::decode(&bytes, DIALECT);
    }

    #[test]
    fn random_bodies_never_panic(
        opcode in 0..60_u32,
        body in prop::collection::vec(any::<u8>(), 0..300),
        extensions in prop_oneof![Just(0_u16), any::<u16>()],
    ) {
        let mut bytes = request(opcode, 2, &[&body]);
        bytes[36..38].copy_from_slice(extensions.as_bytes());
        if let Ok(request) = Request::decode(&bytes, DIALECT) {
            prop_assert_eq!(request.unique, 2);
        }
    }
}
