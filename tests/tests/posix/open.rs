//! open(2)'s flags.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
    thread,
};

use nix::errno::Errno;

use crate::{data, errno};

claims![
    o_excl_refuses_what_exists,
    o_excl_lets_one_of_many_threads_win,
    o_trunc_empties_a_file,
    o_creat_opens_what_exists,
    o_directory_and_o_nofollow_are_obeyed,
    a_directory_is_not_written,
    a_handle_does_what_it_was_opened_for,
    o_direct_reads_and_writes,
    o_sync_writes_are_read_back,
    a_file_created_read_only_is_written_by_its_creator,
];

fn o_excl_refuses_what_exists(root: &Path) {
    let path = root.join("f");
    File::create_new(&path).unwrap();
    assert_eq!(errno(File::create_new(&path)), Errno::EEXIST);
    symlink("missing", root.join("l")).unwrap();
    assert_eq!(errno(File::create_new(root.join("l"))), Errno::EEXIST);
}

fn o_excl_lets_one_of_many_threads_win(root: &Path) {
    for round in 0..20 {
        let path = root.join(format!("f{round}"));
        let create = || File::create_new(&path).is_ok();
        let wins: usize = thread::scope(|scope| {
            let tries: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            tries
                .into_iter()
                .map(|try_| usize::from(try_.join().unwrap()))
                .sum()
        });
        assert_eq!(wins, 1);
    }
}

fn o_trunc_empties_a_file(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(3 << 20)).unwrap();
    let file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    file.write_all_at(b"x", 100).unwrap();
    drop(file);
    let mut expected = vec![0; 101];
    expected[100] = b'x';
    assert_eq!(fs::read(&path).unwrap(), expected);
}

fn o_creat_opens_what_exists(root: &Path) {
    fs::write(root.join("f"), "data").unwrap();
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join("f"))
        .unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "data");
}

fn o_directory_and_o_nofollow_are_obeyed(root: &Path) {
    File::create(root.join("f")).unwrap();
    symlink("f", root.join("l")).unwrap();
    let open = |name: &str, flag: i32| {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flag).open(root.join(name))
    };
    assert_eq!(errno(open("f", libc::O_DIRECTORY)), Errno::ENOTDIR);
    assert_eq!(errno(open("l", libc::O_NOFOLLOW)), Errno::ELOOP);
    open("l", 0).unwrap();
    open(".", libc::O_DIRECTORY).unwrap();
}

fn a_directory_is_not_written(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    let open = OpenOptions::new().write(true).open(root.join("d"));
    assert_eq!(errno(open), Errno::EISDIR);
    let create = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join("d"));
    assert_eq!(errno(create), Errno::EISDIR);
    let mut room = [0];
    let read = File::open(root.join("d")).unwrap().read(&mut room);
    assert_eq!(errno(read), Errno::EISDIR);
}

fn a_handle_does_what_it_was_opened_for(root: &Path) {
    fs::write(root.join("f"), "data").unwrap();
    let mut reader = File::open(root.join("f")).unwrap();
    assert_eq!(errno(reader.write(b"x")), Errno::EBADF);
    let mut writer = OpenOptions::new().write(true).open(root.join("f")).unwrap();
    assert_eq!(errno(writer.read(&mut [0])), Errno::EBADF);
    assert_eq!(nix::unistd::ftruncate(&reader, 0), Err(Errno::EINVAL));
}

fn o_direct_reads_and_writes(root: &Path) {
    let path = root.join("f");
    let open = |flags: i32| {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags);
        options.open(&path).unwrap()
    };
    let direct = open(libc::O_DIRECT);
    let buffered = open(0);
    let expected = data(2 << 20);
    direct.write_all_at(&expected, 0).unwrap();
    let mut found = vec![0; expected.len()];
    buffered.read_exact_at(&mut found, 0).unwrap();
    assert!(found == expected);
    buffered
        .write_all_at(b"through the cache", 1 << 20)
        .unwrap();
    let mut found = [0; 17];
    direct.read_exact_at(&mut found, 1 << 20).unwrap();
    assert_eq!(&found, b"through the cache");
}

fn o_sync_writes_are_read_back(root: &Path) {
    let path = root.join("f");
    let mut options = OpenOptions::new();
    options.write(true).create(true).custom_flags(libc::O_SYNC);
    let mut file = options.open(&path).unwrap();
    for _ in 0..10 {
        file.write_all(b"0123456789").unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"0123456789".repeat(10));
}

fn a_file_created_read_only_is_written_by_its_creator(root: &Path) {
    let path = root.join("f");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)
        .unwrap();
    file.write_all(b"data").unwrap();
    drop(file);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
    assert_eq!(fs::read(&path).unwrap(), b"data");
}
