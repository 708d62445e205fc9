//! Programs that people use, on files and from files.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nix::errno::Errno;

use crate::{data, errno, shell};

claims![
    a_program_is_executed_from_the_mount,
    a_script_is_executed_from_the_mount,
    a_running_program_is_not_written_to,
    tar_restores_what_it_packed,
    cp_and_rsync_like_copies_keep_everything,
    sort_and_redirections_work,
    rm_and_find_agree,
];

fn a_program_is_executed_from_the_mount(root: &Path) {
    fs::copy("/bin/echo", root.join("program")).unwrap();
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(shell(root, "./program executed"), "executed\n");
}

fn a_script_is_executed_from_the_mount(root: &Path) {
    fs::write(root.join("script"), "#!/bin/sh\necho \"$0 $1\"\n").unwrap();
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(shell(root, "./script x"), "./script x\n");
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = std::process::Command::new(root.join("script")).spawn();
    assert_eq!(errno(run), Errno::EACCES);
}

fn a_running_program_is_not_written_to(root: &Path) {
    fs::copy("/bin/sleep", root.join("program")).unwrap();
    let mut child = std::process::Command::new(root.join("program"))
        .arg("600")
        .spawn()
        .unwrap();
    let write = fs::File::options().write(true).open(root.join("program"));
    let unlinked = fs::remove_file(root.join("program"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(errno(write), Errno::ETXTBSY);
    unlinked.unwrap();
}

fn tar_restores_what_it_packed(root: &Path) {
    fs::create_dir_all(root.join("tree/a/b")).unwrap();
    for index in 0..100 {
        fs::write(root.join(format!("tree/a/{index}")), data(index * 997)).unwrap();
    }
    let script = "
        ln -s ../0 tree/a/b/link; ln tree/a/1 tree/a/b/hard; mkfifo tree/pipe
        tar cf all.tar tree; mkdir copy; tar xf all.tar -C copy
        diff -r --no-dereference --exclude=pipe tree copy/tree; test -p copy/tree/pipe
        test $(stat -c %h copy/tree/a/1) = 2";
    shell(root, script);
}

fn cp_and_rsync_like_copies_keep_everything(root: &Path) {
    let script = "
        mkdir -p from/d; echo one > from/a; echo two > from/d/b; ln -s a from/l
        chmod 640 from/a; touch -d '2001-02-03 04:05:06.789' from/d/b
        setfattr -n user.note -v kept from/a
        cp -a from to; diff -r from to
        test $(stat -c %a:%Y:%y to/a | cut -d: -f1) = 640
        test \"$(stat -c %y from/d/b)\" = \"$(stat -c %y to/d/b)\"
        test \"$(getfattr --only-values -n user.note to/a)\" = kept";
    shell(root, script);
}

fn sort_and_redirections_work(root: &Path) {
    let script = "
        seq 20000 | sort -R > shuffled; sort -n -T . shuffled > sorted
        seq 20000 | cmp - sorted; sort -n shuffled -o shuffled; cmp shuffled sorted
        (echo one; echo two) > f; echo three >> f; test $(wc -l < f) = 3
        dd if=/dev/zero of=z bs=1000 count=3 seek=2 status=none; test $(stat -c %s z) = 5000";
    shell(root, script);
}

fn rm_and_find_agree(root: &Path) {
    let script = "
        for d in 1 2 3 4; do mkdir -p t/$d/$d; for f in 1 2 3 4 5 6; do echo $f > t/$d/$d/$f; done; done
        test $(find t -type f | wc -l) = 24; find t -name 3 -type f -delete
        test $(find t -type f | wc -l) = 20; test $(grep -rl 4 t | wc -l) = 4
        rm -rf t; test ! -e t";
    shell(root, script);
}
