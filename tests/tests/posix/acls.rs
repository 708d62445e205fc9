//! Access control lists: kept in step with the mode, inherited, and obeyed.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use nix::errno::Errno;
use pocket_tests::{acl, acl_text, get_xattr, list_xattr, may, may_not, remove_xattr, set_xattr};

use crate::{
    permissions::{ONE, OTHER, as_others},
    shell,
    temporary::{link, unnamed},
};

claims![
    the_mode_follows_an_access_list,
    a_list_that_says_no_more_than_a_mode_becomes_the_mode,
    chmod_changes_the_mask_of_a_list,
    chmod_changes_the_group_where_there_is_no_mask,
    lists_are_listed_and_removed,
    what_is_no_list_is_refused,
    symbolic_links_have_no_lists,
    only_directories_have_default_lists,
    special_files_have_lists,
    what_is_made_inherits_the_default_list,
    a_file_without_a_name_inherits_the_default_list,
    the_umask_counts_only_without_a_default_list,
    a_default_list_that_says_no_more_than_a_mode_takes_bits_away,
    a_default_list_counts_for_what_is_made_afterwards,
    a_set_group_id_directory_hands_on_group_and_list,
    named_users_and_groups_do_what_their_entries_say,
    the_mask_limits_all_but_owner_and_others,
    an_entry_takes_rights_away,
    a_directorys_list_decides_who_enters_and_who_writes,
    only_the_owner_sets_a_list,
    a_list_set_by_a_stranger_to_the_group_clears_set_group_id,
    setfacl_and_getfacl_work,
    cp_and_tar_keep_lists,
];

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn set(path: impl AsRef<Path>, name: &str, text: &str) {
    set_xattr(path.as_ref(), name, &acl(text), 0).unwrap();
}

/// The list, or nothing.
#[track_caller]
fn list(path: impl AsRef<Path>, name: &str) -> String {
    match get_xattr(path.as_ref(), name) {
        Ok(bytes) => acl_text(&bytes),
        Err(Errno::ENODATA) => String::new(),
        Err(error) => panic!("{name}: {error}"),
    }
}

fn the_mode_follows_an_access_list(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    chmod(&path, 0o4755);
    let before = fs::metadata(&path).unwrap();
    let with_mask = "u::rw-,u:10:rwx,g::r-x,g:20:-wx,m::-w-,o::--x";
    set(&path, ACCESS, with_mask);
    assert_eq!(list(&path, ACCESS), with_mask);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o4621);
    let changed = |status: &fs::Metadata| (status.ctime(), status.ctime_nsec());
    assert!(changed(&after) > changed(&before));
    set(&path, ACCESS, "u::r--,g::rwx,m::r-x,o::---");
    assert_eq!(mode(&path), 0o4450);
}

fn a_list_that_says_no_more_than_a_mode_becomes_the_mode(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    set(&path, ACCESS, "u::rwx,u:10:rwx,g::r--,m::rwx,o::---");
    set(&path, ACCESS, "u::rw-,g::-w-,o::--x");
    assert_eq!(mode(&path), 0o621);
    assert_eq!(list(&path, ACCESS), "");
    assert_eq!(list_xattr(&path), Ok(vec![]));
}

fn chmod_changes_the_mask_of_a_list(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    set(&path, ACCESS, "u::rwx,u:10:rwx,g::r--,m::rwx,o::---");
    chmod(&path, 0o641);
    assert_eq!(list(&path, ACCESS), "u::rw-,u:10:rwx,g::r--,m::r--,o::--x");
    assert_eq!(mode(&path), 0o641);
    chmod(&path, 0o1777);
    assert_eq!(list(&path, ACCESS), "u::rwx,u:10:rwx,g::r--,m::rwx,o::rwx");
}

fn chmod_changes_the_group_where_there_is_no_mask(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    set(&path, DEFAULT, "u::rwx,g::r-x,o::---");
    chmod(&path, 0o531);
    assert_eq!(list(&path, ACCESS), "");
    assert_eq!(list(&path, DEFAULT), "u::rwx,g::r-x,o::---");
    assert_eq!(mode(&path), 0o531);
}

fn lists_are_listed_and_removed(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    let text = "u::rwx,u:10:rwx,g::r-x,m::rwx,o::---";
    set(&path, ACCESS, text);
    set(&path, DEFAULT, text);
    set_xattr(&path, "user.a", b"1", 0).unwrap();
    let names = [ACCESS, DEFAULT, "user.a"].map(str::to_owned).to_vec();
    assert_eq!(list_xattr(&path), Ok(names));
    assert_eq!(remove_xattr(&path, ACCESS), Ok(()));
    assert_eq!((list(&path, ACCESS), mode(&path)), (String::new(), 0o770));
    assert_eq!(remove_xattr(&path, ACCESS), Ok(()), "there is none");
    // A list without entries is none.
    assert_eq!(set_xattr(&path, DEFAULT, &[2, 0, 0, 0], 0), Ok(()));
    assert_eq!(list(&path, DEFAULT), "");
    set(&path, DEFAULT, text);
    assert_eq!(set_xattr(&path, DEFAULT, &[], 0), Ok(()));
    assert_eq!(list_xattr(&path), Ok(vec!["user.a".to_owned()]));
}

fn what_is_no_list_is_refused(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    let kept = "u::rwx,u:10:rwx,g::r-x,m::rwx,o::---";
    set(&path, ACCESS, kept);
    for name in [ACCESS, DEFAULT] {
        for text in [
            "u::rwx",
            "u::rwx,g::rwx",
            "u::rwx,o::rwx,g::rwx",
            "u::rwx,u::rwx,g::rwx,o::rwx",
            "u::rwx,u:10:rwx,g::rwx,o::rwx",
            "u::rwx,g::rwx,m::rwx,m::rwx,o::rwx",
            "u::rwx,u:4294967295:rwx,g::rwx,m::rwx,o::rwx",
            "u::rrrr,g::rwx,o::rwx",
        ] {
            let refused = set_xattr(&path, name, &acl(text), 0);
            assert_eq!(refused, Err(Errno::EINVAL), "{name} {text}");
        }
        let short = &acl(kept)[..20];
        assert_eq!(set_xattr(&path, name, &short[..18], 0), Err(Errno::EINVAL));
        assert_eq!(set_xattr(&path, name, &short[..3], 0), Err(Errno::EINVAL));
    }
    assert_eq!((list(&path, ACCESS), mode(&path)), (kept.to_owned(), 0o770));
    assert_eq!(list(&path, DEFAULT), "");
}

fn symbolic_links_have_no_lists(root: &Path) {
    let path = root.join("l");
    symlink("f", &path).unwrap();
    let minimal = acl("u::rwx,g::rwx,o::rwx");
    for name in [ACCESS, DEFAULT] {
        let refused = set_xattr(&path, name, &minimal, 0);
        assert_eq!(refused, Err(Errno::EOPNOTSUPP));
        assert_eq!(get_xattr(&path, name), Err(Errno::EOPNOTSUPP));
        assert_eq!(remove_xattr(&path, name), Err(Errno::EOPNOTSUPP));
    }
}

fn only_directories_have_default_lists(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    let minimal = acl("u::rwx,g::rwx,o::rwx");
    assert_eq!(set_xattr(&path, DEFAULT, &minimal, 0), Err(Errno::EACCES));
    assert_eq!(remove_xattr(&path, DEFAULT), Ok(()));
    assert_eq!(get_xattr(&path, DEFAULT), Err(Errno::ENODATA));
}

fn special_files_have_lists(root: &Path) {
    shell(root, "mkfifo fifo");
    let text = "u::rw-,u:10:rw-,g::---,m::r--,o::---";
    set(root.join("fifo"), ACCESS, text);
    assert_eq!(list(root.join("fifo"), ACCESS), text);
    assert_eq!(mode(root.join("fifo")), 0o640);
}

fn what_is_made_inherits_the_default_list(root: &Path) {
    let text = "u::rwx,u:10:rwx,g::r-x,g:20:rw-,m::rwx,o::r--";
    fs::create_dir(root.join("d")).unwrap();
    set(root.join("d"), DEFAULT, text);
    assert_eq!(mode(root.join("d")), 0o755, "of itself");
    let script = "umask 077; cd d; echo x > file; mkdir sub; mkfifo fifo; ln -s file link
        mkdir -m 750 narrow; ln file hard; echo x > sub/deep; mkdir sub/dir";
    shell(root, script);
    let at = |name: &str| root.join("d").join(name);
    for name in ["file", "fifo", "hard", "sub/deep"] {
        let inherited = "u::rw-,u:10:rwx,g::r-x,g:20:rw-,m::rw-,o::r--";
        assert_eq!(list(at(name), ACCESS), inherited, "{name}");
        assert_eq!(
            (list(at(name), DEFAULT), mode(at(name))),
            (String::new(), 0o664)
        );
    }
    for name in ["sub", "sub/dir"] {
        assert_eq!(
            (list(at(name), ACCESS), mode(at(name))),
            (text.to_owned(), 0o774)
        );
        assert_eq!(list(at(name), DEFAULT), text);
    }
    assert_eq!(list(at("narrow"), DEFAULT), text);
    assert_eq!(mode(at("narrow")), 0o750);
    assert_eq!(mode(at("link")), 0o777);
    // Moved, not made.
    shell(root, "umask 022; echo x > f; mv f d/moved");
    assert_eq!(
        (list(at("moved"), ACCESS), mode(at("moved"))),
        (String::new(), 0o644)
    );
}

fn a_file_without_a_name_inherits_the_default_list(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    set(
        root.join("d"),
        DEFAULT,
        "u::rwx,u:10:rwx,g::rwx,m::rwx,o::rwx",
    );
    let file = unnamed(&root.join("d"), 0).unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o666);
    link(&file, &root.join("f")).unwrap();
    let inherited = "u::rw-,u:10:rwx,g::rwx,m::rw-,o::rw-";
    assert_eq!(list(root.join("f"), ACCESS), inherited);
}

fn the_umask_counts_only_without_a_default_list(root: &Path) {
    fs::create_dir(root.join("with")).unwrap();
    fs::create_dir(root.join("without")).unwrap();
    set(root.join("with"), DEFAULT, "u::rwx,g::rwx,o::rwx");
    set(
        root.join("without"),
        ACCESS,
        "u::rwx,u:10:rwx,g::rwx,m::rwx,o::rwx",
    );
    for (directory, file, folder) in [("with", 0o666, 0o777), ("without", 0o640, 0o750)] {
        let script = format!("umask 027; cd {directory}; echo x > f; mkdir d; mkfifo p");
        shell(root, &script);
        let modes = ["f", "d", "p"].map(|name| mode(root.join(directory).join(name)));
        assert_eq!(modes, [file, folder, file], "{directory}");
    }
}

fn a_default_list_that_says_no_more_than_a_mode_takes_bits_away(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    set(root.join("d"), DEFAULT, "u::rw-,g::r-x,o::---");
    shell(root, "umask 0; echo x > d/f; mkdir d/d");
    for (name, expected) in [("d/f", 0o640), ("d/d", 0o650)] {
        assert_eq!(mode(root.join(name)), expected);
        assert_eq!(list(root.join(name), ACCESS), "");
    }
    assert_eq!(list(root.join("d/d"), DEFAULT), "u::rw-,g::r-x,o::---");
}

fn a_default_list_counts_for_what_is_made_afterwards(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    let script = "umask 022; echo x > d/";
    shell(root, &format!("{script}before"));
    set(
        root.join("d"),
        DEFAULT,
        "u::rw-,u:10:r--,g::rw-,m::rw-,o::---",
    );
    shell(root, &format!("{script}with"));
    remove_xattr(&root.join("d"), DEFAULT).unwrap();
    shell(root, &format!("{script}after"));
    let modes = ["before", "with", "after"].map(|name| mode(root.join("d").join(name)));
    assert_eq!(modes, [0o644, 0o660, 0o644]);
}

fn a_set_group_id_directory_hands_on_group_and_list(root: &Path) {
    as_others(root, || {
        fs::create_dir(root.join("d")).unwrap();
        std::os::unix::fs::chown(root.join("d"), None, Some(ONE)).unwrap();
        chmod(&root.join("d"), 0o2777);
        set(
            root.join("d"),
            DEFAULT,
            "u::rwx,u:10:r--,g::rwx,m::rwx,o::---",
        );
        may(root, OTHER, "umask 077; mkdir d/d; echo x > d/f");
        let (folder, file) = (root.join("d/d"), root.join("d/f"));
        assert_eq!((mode(&folder), mode(&file)), (0o2770, 0o660));
        let gid = |path| fs::metadata(path).unwrap().gid();
        assert_eq!((gid(&folder), gid(&file)), (ONE, ONE));
        may(root, ONE, "cat d/f");
    });
}

fn named_users_and_groups_do_what_their_entries_say(root: &Path) {
    as_others(root, || {
        fs::write(root.join("f"), "secret").unwrap();
        chmod(&root.join("f"), 0o600);
        may_not(root, ONE, "cat f");
        let (reader, writer) = (format!("u:{ONE}:r--"), format!("g:{OTHER}:rw-"));
        set(
            root.join("f"),
            ACCESS,
            &format!("u::rw-,{reader},g::---,{writer},m::rw-,o::---"),
        );
        may(root, ONE, "cat f");
        may_not(root, ONE, "echo x >> f");
        may(root, OTHER, "cat f; echo x >> f");
        may_not(root, 65_503, "cat f");
        remove_xattr(&root.join("f"), ACCESS).unwrap();
        may_not(root, ONE, "cat f");
        may_not(root, OTHER, "cat f");
    });
}

fn the_mask_limits_all_but_owner_and_others(root: &Path) {
    as_others(root, || {
        fs::write(root.join("f"), "x").unwrap();
        let text = format!("u::rw-,u:{ONE}:rw-,g::---,m::rw-,o::---");
        set(root.join("f"), ACCESS, &text);
        may(root, ONE, "cat f; echo x >> f");
        chmod(&root.join("f"), 0o646);
        may(root, ONE, "cat f");
        may_not(root, ONE, "echo x >> f");
        may(root, OTHER, "cat f; echo x >> f");
        chmod(&root.join("f"), 0o600);
        may_not(root, ONE, "cat f");
    });
}

fn an_entry_takes_rights_away(root: &Path) {
    as_others(root, || {
        fs::write(root.join("f"), "x").unwrap();
        chmod(&root.join("f"), 0o666);
        may(root, ONE, "cat f");
        let text = format!("u::rw-,u:{ONE}:---,g::rw-,m::rw-,o::rw-");
        set(root.join("f"), ACCESS, &text);
        may_not(root, ONE, "cat f");
        may(root, OTHER, "cat f; echo x >> f");
    });
}

fn a_directorys_list_decides_who_enters_and_who_writes(root: &Path) {
    as_others(root, || {
        fs::create_dir_all(root.join("d/sub")).unwrap();
        fs::write(root.join("d/sub/f"), "x").unwrap();
        chmod(&root.join("d"), 0o700);
        may_not(root, ONE, "cat d/sub/f");
        set(
            root.join("d"),
            ACCESS,
            &format!("u::rwx,u:{ONE}:--x,g::---,m::rwx,o::---"),
        );
        may(root, ONE, "cat d/sub/f");
        may_not(root, ONE, "ls d");
        may_not(root, ONE, "echo x > d/new");
        set(
            root.join("d"),
            ACCESS,
            &format!("u::rwx,u:{ONE}:rwx,g::---,m::rwx,o::---"),
        );
        may(
            root,
            ONE,
            "ls d; echo x > d/new; mv d/new d/newer; rm d/newer",
        );
        may_not(root, OTHER, "cat d/sub/f");
    });
}

fn only_the_owner_sets_a_list(root: &Path) {
    as_others(root, || {
        may(root, ONE, "echo x > f; chmod 666 f");
        may_not(root, OTHER, "setfacl -m u:65502:rw f");
        may_not(root, OTHER, "setfacl -b f; chmod 600 f");
        may(root, ONE, "setfacl -m u:65502:rw f");
        assert_eq!(
            list(root.join("f"), ACCESS),
            "u::rw-,u:65502:rw-,g::rw-,m::rw-,o::rw-"
        );
    });
}

fn a_list_set_by_a_stranger_to_the_group_clears_set_group_id(root: &Path) {
    as_others(root, || {
        let text = "u::rwx,g::r-x,o::r-x";
        for (path, group, mode_after) in [("own", ONE, 0o2755), ("strange", OTHER, 0o755)] {
            let path = root.join(path);
            File::create(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(ONE), Some(group)).unwrap();
            chmod(&path, 0o2755);
            set(&path, ACCESS, text);
            assert_eq!(mode(&path), 0o2755, "root may");
            may(root, ONE, &format!("setfacl -m u:10:r {}", path.display()));
            assert_eq!(mode(&path), mode_after, "{}", path.display());
        }
    });
}

fn setfacl_and_getfacl_work(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    shell(
        root,
        "setfacl -m u:65501:rwx,g:65502:r d; setfacl -d -m u:65501:rw d; echo x > d/f",
    );
    let shown = shell(root, "getfacl -cn d d/f");
    let expected = "\
        user::rwx\nuser:65501:rwx\ngroup::r-x\ngroup:65502:r--\nmask::rwx\nother::r-x\n\
        default:user::rwx\ndefault:user:65501:rw-\ndefault:group::r-x\ndefault:mask::rwx\n\
        default:other::r-x\n\n\
        user::rw-\nuser:65501:rw-\ngroup::r-x\t#effective:r--\nmask::rw-\nother::r--\n\n";
    assert_eq!(shown, expected);
    shell(
        root,
        "setfacl -x u:65501 d/f; setfacl -R -b d; test -z \"$(getfacl -cs d d/f)\"",
    );
    assert_eq!(list_xattr(&root.join("d")), Ok(vec![]));
}

fn cp_and_tar_keep_lists(root: &Path) {
    let script = "mkdir d; echo x > d/f; setfacl -m u:65501:rw d/f; setfacl -d -m g:65502:rwx d
        getfacl -Rn d > before
        cp -a d copy; mv d original
        mv copy d; getfacl -Rn d | cmp - before; rm -r d
        mv original d; tar --acls -cf all.tar d; rm -r d
        tar --acls -xf all.tar; getfacl -Rn d | cmp - before
        cp d/f plain; test -z \"$(getfacl -cs plain)\"";
    shell(root, script);
}
