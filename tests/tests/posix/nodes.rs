//! Named pipes and sockets.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    thread,
};

use nix::{errno::Errno, sys::stat::Mode, unistd::mkfifo};

use crate::errno;

claims![
    a_named_pipe_joins_two_processes,
    a_socket_is_bound_and_connected_to,
    a_node_is_renamed_and_removed_like_a_file,
];

fn a_named_pipe_joins_two_processes(root: &Path) {
    let path = root.join("pipe");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    let reader = {
        let path = path.clone();
        thread::spawn(move || fs::read_to_string(path).unwrap())
    };
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all(b"through")
        .unwrap();
    assert_eq!(reader.join().unwrap(), "through");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(mkfifo(&path, Mode::empty()), Err(Errno::EEXIST));
}

fn a_socket_is_bound_and_connected_to(root: &Path) {
    // A socket's address has room for 107 bytes: bind it under a short relative path.
    let path = Path::new("/proc/self/fd").join({
        let folder = File::open(root).unwrap();
        let descriptor = std::os::fd::IntoRawFd::into_raw_fd(folder);
        descriptor.to_string()
    });
    let listener = UnixListener::bind(path.join("socket")).unwrap();
    assert!(
        fs::metadata(root.join("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    let mut client = UnixStream::connect(path.join("socket")).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut text = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "hello");
    assert_eq!(errno(File::open(root.join("socket"))), Errno::ENXIO);
    // The descriptor given away above would keep the directory busy.
    close_folder(&path);
}

fn close_folder(path: &Path) {
    let number = path.file_name().and_then(|name| name.to_str()).unwrap();
    nix::unistd::close(number.parse::<i32>().unwrap()).unwrap();
}

fn a_node_is_renamed_and_removed_like_a_file(root: &Path) {
    mkfifo(&root.join("a"), Mode::from_bits_truncate(0o600)).unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    fs::rename(root.join("a"), root.join("c")).unwrap();
    fs::remove_file(root.join("b")).unwrap();
    assert!(fs::metadata(root.join("c")).unwrap().file_type().is_fifo());
    fs::remove_file(root.join("c")).unwrap();
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}
