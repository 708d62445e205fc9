//! Answers have the kernel's layout, come once, and come early only where they may.

use std::future::ready;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use zerocopy::FromBytes;

use super::super::abi::{OpenOut, WriteOut};
use super::super::wire::Kernel;
use super::*;

fn connect() -> (Kernel, impl Fn(u64) -> Reply) {
    let (kernel, channel) = Kernel::connect(Handle::current());
    let reply = move |unique| Reply::new(Arc::clone(&channel), (unique, 1), std::process::id());
    (kernel, reply)
}

#[tokio::test]
async fn an_answer_is_its_header_and_what_follows() {
    let (kernel, reply) = connect();
    reply(2).value(&WriteOut {
        size: 0x0102_0304,
        padding: 0,
    });
    let (header, body) = kernel.answer();
    assert_eq!((header.error, header.unique), (0, 2));
    assert_eq!(body, [&0x0102_0304_u32.to_ne_bytes()[..], &[0; 4]].concat());

    reply(4).ok();
    assert_eq!(kernel.answer().1, b"");
    reply(6).bytes(b"data");
    assert_eq!(kernel.answer().1, b"data");
    reply(8).value(&OpenOut {
        fh: 1,
        open_flags: 2,
        backing_id: 0,
    });
    assert_eq!(kernel.answer().1.len(), 16);
}

#[tokio::test]
async fn pieces_arrive_in_order_however_many_they_are() {
    let (kernel, reply) = connect();
    for count in [1, 2, 31, 32, 33, 1000] {
        let pieces: Vec<_> = (0..count).map(|index| [index as u8; 3]).collect();
        let slices: Vec<_> = pieces.iter().map(|piece| &piece[..]).collect();
        reply(2).pieces(&slices);
        assert!(kernel.answer().1 == pieces.concat(), "{count} pieces");
    }
}

#[tokio::test]
async fn errors_are_ones_that_the_kernel_takes() {
    let (kernel, reply) = connect();
    for (errno, sent) in [
        (libc::ENOENT, libc::ENOENT),
        (0, libc::EIO),
        (-5, libc::EIO),
        (512, libc::EIO),
        (i32::MIN, libc::EIO),
    ] {
        reply(2).error(errno);
        assert_eq!(kernel.answer().0.error, -sent);
    }
}

#[tokio::test]
async fn a_forgotten_request_is_answered_all_the_same() {
    let (kernel, reply) = connect();
    drop(reply(2));
    let (header, _) = kernel.answer();
    assert_eq!((header.error, header.unique), (-libc::EIO, 2));
    reply(4).forgo();
    reply(0).ok();
    assert!(kernel.is_silent());
}

#[tokio::test]
async fn what_ends_in_time_is_answered_by_whoever_asked_for_it() {
    let (kernel, reply) = connect();
    let (outcome, reply) = reply(2).unless_killed(ready(5)).await;
    assert_eq!(outcome, 5);
    assert!(kernel.is_silent());
    reply.unwrap().ok();
    assert_eq!(kernel.answer().0.error, 0);
}

#[tokio::test]
async fn who_is_interrupted_goes_at_once_and_the_operation_goes_on() {
    let (kernel, channel) = Kernel::connect(Handle::current());
    let reply = Reply::new(Arc::clone(&channel), (2, 1), 1);
    let (finish, finished) = oneshot::channel();
    let waiting = tokio::spawn(reply.unless(Until::Signalled, async { finished.await.unwrap() }));
    tokio::task::yield_now().await;
    channel.interrupts.deliver(2);
    let (header, _) = tokio::task::spawn_blocking(move || kernel.answer())
        .await
        .unwrap();
    assert_eq!((header.error, header.unique), (-libc::EINTR, 2));
    finish.send(5).unwrap();
    let (outcome, reply) = waiting.await.unwrap();
    assert_eq!(outcome, 5);
    assert!(reply.is_none());
}

#[test]
fn names_of_a_directory_are_laid_out_as_the_kernel_reads_them() {
    let name = |name| ListedName {
        inode: 7,
        cookie: 9,
        kind: libc::S_IFDIR,
        name,
    };
    let mut listing = Listing::new(100);
    assert!(listing.add(name(b"abc")));
    assert!(listing.add(name(b"12345678")));
    assert!(!listing.add(name(b"no room for this one, it is too long")));
    let bytes = listing.bytes();
    assert_eq!(bytes.len(), 32 + 32);
    let first = Dirent {
        ino: 7,
        off: 9,
        namelen: 3,
        kind: u32::from(libc::DT_DIR),
    };
    assert_eq!(Dirent::read_from_prefix(bytes).unwrap().0, first);
    assert_eq!(&bytes[24..32], b"abc\0\0\0\0\0");
    assert_eq!(&bytes[32 + 24..], b"12345678");

    let mut listing = Listing::new(4096);
    let entry = EntryOut {
        nodeid: 7,
        ..EntryOut::default()
    };
    assert!(listing.add_with_entry(&entry, name(b"a")));
    let bytes = listing.bytes();
    assert_eq!(bytes.len(), 128 + 32);
    assert_eq!(EntryOut::read_from_prefix(bytes).unwrap().0, entry);
    assert_eq!(bytes[128 + 24], b'a');
}

#[test]
fn an_empty_listing_is_the_end() {
    assert!(Listing::new(0).bytes().is_empty());
    assert!(Listing::new(u32::MAX).bytes().is_empty());
}
