//! Attributes: modes, owners, times, sizes.

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use nix::sys::{
    stat::{UtimensatFlags, utimensat},
    statvfs::statvfs,
    time::TimeSpec,
};

use crate::shell;

claims![
    chmod_sets_every_bit,
    chown_sets_owner_and_group,
    times_are_kept_to_the_nanosecond,
    one_time_may_be_left_alone,
    a_symlink_has_times_of_its_own,
    a_write_changes_the_times,
    a_change_of_attributes_changes_ctime_alone,
    truncate_changes_the_times,
    the_mask_of_a_process_holds,
    blocks_are_counted_when_written,
    space_is_reported,
    the_times_of_a_new_file_are_now,
];

fn chmod_sets_every_bit(root: &Path) {
    File::create(root.join("f")).unwrap();
    for mode in [0o0, 0o644, 0o755, 0o1777, 0o4755, 0o2755, 0o7777] {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.join("f"), permissions).unwrap();
        let found = fs::metadata(root.join("f")).unwrap().mode();
        assert_eq!(found & 0o7777, mode);
    }
}

fn chown_sets_owner_and_group(root: &Path) {
    if !pocket_tests::is_root() {
        return; // Only root gives files away.
    }
    File::create(root.join("f")).unwrap();
    std::os::unix::fs::chown(root.join("f"), Some(123), Some(456)).unwrap();
    let status = fs::metadata(root.join("f")).unwrap();
    assert_eq!((status.uid(), status.gid()), (123, 456));
    std::os::unix::fs::chown(root.join("f"), None, Some(7)).unwrap();
    let status = fs::metadata(root.join("f")).unwrap();
    assert_eq!((status.uid(), status.gid()), (123, 7));
}

fn times_are_kept_to_the_nanosecond(root: &Path) {
    let file = File::create(root.join("f")).unwrap();
    let accessed = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    let modified = SystemTime::UNIX_EPOCH - Duration::new(86_400, 1);
    let times = FileTimes::new()
        .set_accessed(accessed)
        .set_modified(modified);
    file.set_times(times).unwrap();
    let status = fs::metadata(root.join("f")).unwrap();
    assert_eq!(status.accessed().unwrap(), accessed);
    assert_eq!(status.modified().unwrap(), modified);
}

fn one_time_may_be_left_alone(root: &Path) {
    let file = File::create(root.join("f")).unwrap();
    let first = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(2);
    let both = FileTimes::new().set_accessed(first).set_modified(first);
    file.set_times(both).unwrap();
    file.set_times(FileTimes::new().set_modified(second))
        .unwrap();
    let status = file.metadata().unwrap();
    assert_eq!(status.accessed().unwrap(), first);
    assert_eq!(status.modified().unwrap(), second);
}

fn a_symlink_has_times_of_its_own(root: &Path) {
    File::create(root.join("f")).unwrap();
    symlink("f", root.join("l")).unwrap();
    let time = TimeSpec::new(77, 5);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, &root.join("l"), &time, &time, flags).unwrap();
    let link = fs::symlink_metadata(root.join("l")).unwrap();
    assert_eq!((link.mtime(), link.mtime_nsec()), (77, 5));
    assert_ne!(fs::metadata(root.join("f")).unwrap().mtime(), 77);
}

/// Sets the file's times back by a day and returns its status.
fn aged(file: &File) -> fs::Metadata {
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let times = FileTimes::new()
        .set_accessed(yesterday)
        .set_modified(yesterday);
    file.set_times(times).unwrap();
    file.metadata().unwrap()
}

fn changed(status: &fs::Metadata) -> (i64, i64) {
    (status.ctime(), status.ctime_nsec())
}

fn a_write_changes_the_times(root: &Path) {
    let mut file = File::create(root.join("f")).unwrap();
    let before = aged(&file);
    file.write_all(b"data").unwrap();
    let after = fs::metadata(root.join("f")).unwrap();
    assert!(after.modified().unwrap() > before.modified().unwrap());
    assert!(changed(&after) >= changed(&before));
    drop(file);
    let closed = fs::metadata(root.join("f")).unwrap();
    assert!(closed.modified().unwrap() > before.modified().unwrap());
}

fn a_change_of_attributes_changes_ctime_alone(root: &Path) {
    let path = root.join("f");
    let file = File::create(&path).unwrap();
    let check = |what: &str, change: &dyn Fn()| {
        let before = aged(&file);
        change();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(
            after.modified().unwrap(),
            before.modified().unwrap(),
            "{what}"
        );
        assert!(changed(&after) >= changed(&before), "{what}");
    };
    check("chmod", &|| {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap()
    });
    check("link", &|| fs::hard_link(&path, root.join("g")).unwrap());
    check("unlink", &|| fs::remove_file(root.join("g")).unwrap());
}

fn truncate_changes_the_times(root: &Path) {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(root.join("f"))
        .unwrap();
    file.write_all_at(b"data", 0).unwrap();
    let before = aged(&file);
    file.set_len(1).unwrap();
    let after = fs::metadata(root.join("f")).unwrap();
    assert!(after.modified().unwrap() > before.modified().unwrap());
}

fn the_mask_of_a_process_holds(root: &Path) {
    shell(root, "umask 027; touch f; mkdir d; mkfifo p");
    for (name, mode) in [("f", 0o640), ("d", 0o750), ("p", 0o640)] {
        let found = fs::metadata(root.join(name)).unwrap().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
}

fn blocks_are_counted_when_written(root: &Path) {
    let file = File::create(root.join("f")).unwrap();
    file.write_all_at(&[1; 100_000], 0).unwrap();
    file.set_len(1 << 30).unwrap();
    file.sync_all().unwrap();
    let status = fs::metadata(root.join("f")).unwrap();
    assert_eq!(status.len(), 1 << 30);
    // In units of 512 bytes, whatever the file system's own.
    let allocated = status.blocks() * 512;
    assert!((100_000..4 << 20).contains(&allocated), "{allocated} bytes");
}

fn space_is_reported(root: &Path) {
    let space = statvfs(root).unwrap();
    assert!(space.blocks() > 0 && space.blocks_available() <= space.blocks());
    assert_eq!(space.name_max(), 255);
    assert!(shell(root, "df --output=size .").lines().count() == 2);
}

fn the_times_of_a_new_file_are_now(root: &Path) {
    let mut file = File::create_new(root.join("f")).unwrap();
    let now = SystemTime::now();
    let status = file.metadata().unwrap();
    let minute = Duration::from_secs(60);
    for time in [status.modified().unwrap(), status.accessed().unwrap()] {
        assert!(time < now + minute && time + minute > now);
    }
    // Reading a fresh file moves nothing backwards.
    let _ = file.read(&mut [0]);
    assert!(
        fs::metadata(root.join("f")).unwrap().accessed().unwrap() >= status.accessed().unwrap()
    );
}

#[test]
fn the_time_of_birth_is_told() {
    crate::on_tmpfs(the_time_of_birth_stays);
    pocket_tests::with_mount_and(&[], the_time_of_birth_stays);
}

fn the_time_of_birth_stays(root: &Path) {
    let born = |name: &str| {
        fs::symlink_metadata(root.join(name))
            .unwrap()
            .created()
            .unwrap()
    };
    let before = SystemTime::now() - Duration::from_secs(2);
    fs::write(root.join("f"), "1").unwrap();
    fs::create_dir(root.join("d")).unwrap();
    symlink("f", root.join("s")).unwrap();
    let first = born("f");
    for name in ["f", "d", "s"] {
        assert!((before..=SystemTime::now() + Duration::from_secs(2)).contains(&born(name)));
    }
    let file = OpenOptions::new()
        .append(true)
        .open(root.join("f"))
        .unwrap();
    (&file).write_all(b"2").unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH))
        .unwrap();
    fs::rename(root.join("f"), root.join("g")).unwrap();
    assert_eq!(born("g"), first);
    // Told with the rest, which is not out of date for it.
    let status = file.metadata().unwrap();
    assert_eq!((status.created().unwrap(), status.len()), (first, 2));
}
