//! What other users may do. Needs root, who can become them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use pocket_tests::{may, may_not};

claims![
    modes_keep_other_users_out,
    a_sticky_directory_protects_each_users_files,
    others_write_where_they_may,
    a_write_by_another_user_drops_set_id_bits,
    a_truncation_by_another_user_drops_set_id_bits,
    an_allocation_by_another_user_drops_set_id_bits,
    only_the_owner_changes_a_files_mode,
    a_directory_without_search_permission_hides_what_is_in_it,
];

/// Two users without any rights.
pub(crate) const ONE: u32 = 65_501;
pub(crate) const OTHER: u32 = 65_502;

/// Opens the directory to everyone, as a job's root is, and runs the claim. Without root there is
/// nobody to become.
pub(crate) fn as_others(root: &Path, claim: impl FnOnce()) {
    if pocket_tests::is_root() {
        fs::set_permissions(root, fs::Permissions::from_mode(0o1777)).unwrap();
        claim();
    }
}

fn modes_keep_other_users_out(root: &Path) {
    as_others(root, || {
        may(root, ONE, "umask 077; echo secret > f");
        may(root, ONE, "cat f");
        may_not(root, OTHER, "cat f");
        may_not(root, OTHER, "echo x >> f");
        may(root, ONE, "chmod 644 f");
        may(root, OTHER, "cat f");
        may_not(root, OTHER, "echo x >> f");
    });
}

fn a_sticky_directory_protects_each_users_files(root: &Path) {
    as_others(root, || {
        may(root, ONE, "touch f; chmod 666 f");
        may(root, OTHER, "echo more >> f");
        may_not(root, OTHER, "rm -f f");
        may_not(root, OTHER, "mv f g");
        may(root, ONE, "mv f g && rm g");
    });
}

fn others_write_where_they_may(root: &Path) {
    as_others(root, || {
        may(root, ONE, "mkdir d; chmod 755 d");
        may_not(root, OTHER, "touch d/f");
        may(root, ONE, "chmod 777 d");
        may(root, OTHER, "touch d/f; test $(stat -c %u d/f) = 65502");
    });
}

fn a_write_by_another_user_drops_set_id_bits(root: &Path) {
    as_others(root, || {
        may(root, ONE, "echo x > f; chmod 6777 f");
        may(root, OTHER, "echo y >> f; test $(stat -c %a f) = 777");
    });
}

fn a_truncation_by_another_user_drops_set_id_bits(root: &Path) {
    as_others(root, || {
        for cut in [": > f", "truncate -s 1 f"] {
            may(root, ONE, "echo x > f; chmod 6777 f");
            may(root, OTHER, &format!("{cut}; test $(stat -c %a f) = 777"));
        }
        may(root, ONE, "chmod 6777 f; : > f");
        may(root, OTHER, "test $(stat -c %a f) = 777");
    });
}

fn an_allocation_by_another_user_drops_set_id_bits(root: &Path) {
    as_others(root, || {
        may(root, ONE, "echo x > f; chmod 6777 f");
        may(
            root,
            OTHER,
            "fallocate -l 10000 f; test $(stat -c %a f) = 777",
        );
    });
}

fn only_the_owner_changes_a_files_mode(root: &Path) {
    as_others(root, || {
        may(root, ONE, "touch f");
        may_not(root, OTHER, "chmod 777 f");
        may_not(root, OTHER, "chown 65502 f");
        may_not(root, ONE, "chown 65502 f");
        may_not(root, OTHER, "touch -d 2001-01-01 f");
    });
}

fn a_directory_without_search_permission_hides_what_is_in_it(root: &Path) {
    as_others(root, || {
        may(root, ONE, "mkdir d; echo x > d/f; chmod 700 d");
        may_not(root, OTHER, "cat d/f");
        may_not(root, OTHER, "ls d");
        may(root, ONE, "chmod 711 d");
        may(root, OTHER, "cat d/f");
        may_not(root, OTHER, "ls d");
    });
}
