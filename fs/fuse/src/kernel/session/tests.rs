//! The handshake, and reading requests: whatever comes, the thread reads on.

use std::sync::mpsc;

use zerocopy::{FromBytes, IntoBytes};

use super::super::abi::{InHeader, InitIn, InterruptIn};
use super::super::wire::{Kernel, request};
use super::*;

fn offer(capabilities: u64) -> InitArguments {
    InitArguments {
        major: 7,
        minor: 31,
        read_ahead_bytes_max: 128 << 10,
        capabilities,
    }
}

fn init(major: u32, minor: u32) -> Vec<u8> {
    let init = InitIn {
        major,
        minor,
        max_readahead: 128 << 10,
        flags: capability::ASYNC_READ as u32,
    };
    request(abi::opcode::INIT, 2, &[init.as_bytes()])
}

#[test]
fn only_what_both_sides_have_is_agreed_on() {
    let negotiate = |capabilities| {
        let agreed = agree(capabilities, true);
        let accepted = accept(offer(capabilities), agreed);
        let told = (u64::from(accepted.flags2) << 32) | u64::from(accepted.flags);
        assert_eq!(told, agreed);
        (agreed, accepted)
    };
    assert_eq!(negotiate(u64::MAX).0, WANTED | ACLS);
    let (agreed, old) = negotiate(capability::ASYNC_READ | 1 << 2);
    assert_eq!(agreed, capability::ASYNC_READ);
    assert_eq!((old.flags2, old.max_readahead), (0, 128 << 10));
}

#[test]
fn lists_need_a_kernel_that_tells_whose_bits_must_go() {
    assert_eq!(agree(u64::MAX, false) & capability::POSIX_ACL, 0);
    assert_eq!(agree(capability::POSIX_ACL, true), 0);
    assert_eq!(agree(ACLS, true), ACLS);
    assert!(dialect(ACLS).long_setxattr && !dialect(0).long_setxattr);
}

#[test]
fn locks_are_asked_of_us_and_not_kept_by_the_kernel() {
    let locks = capability::POSIX_LOCKS | capability::FLOCK_LOCKS;
    assert_eq!(WANTED & locks, locks);
}

#[tokio::test]
async fn a_newer_kernel_is_told_our_number_and_asks_again() {
    let (kernel, channel) = Kernel::connect(Handle::current());
    kernel.send(&init(8, 0));
    kernel.send(&init(7, 99));
    shake_hands(&channel, true).unwrap();
    for flags in [0, capability::ASYNC_READ] {
        let (header, body) = kernel.answer();
        assert_eq!((header.error, body.len()), (0, 64));
        let init = InitOut::read_from_bytes(&body).unwrap();
        assert_eq!((init.major, init.minor), (abi::MAJOR, abi::MINOR));
        assert_eq!(u64::from(init.flags), flags);
    }
}

#[tokio::test]
async fn a_kernel_that_is_too_old_or_talks_of_other_things_first_is_refused() {
    for first in [
        init(7, 5),
        init(6, 99),
        request(abi::opcode::STATFS, 2, &[]),
    ] {
        let (kernel, channel) = Kernel::connect(Handle::current());
        kernel.send(&first);
        assert!(shake_hands(&channel, true).is_err());
        assert_ne!(kernel.answer().0.error, 0);
    }
}

/// Answers every request with 0, and tells which came.
struct Echo(mpsc::Sender<u64>);

impl Handler for Echo {
    fn handle(&self, request: Request<'_>, reply: Reply) {
        self.0.send(request.unique).unwrap();
        reply.ok();
    }
}

fn serve_all(channel: &Arc<Channel>, handler: Echo) {
    let buffers = Buffers::new(1 << 20);
    read_requests(channel, Dialect::default(), &buffers, &handler).unwrap();
}

#[tokio::test]
async fn nonsense_is_refused_and_the_next_request_is_served() {
    let (kernel, channel) = Kernel::connect(Handle::current());
    let interrupt = InterruptIn { unique: 100 };
    let mut lying = request(abi::opcode::STATFS, 8, &[]);
    lying[0] = 0xff;
    kernel.send(b"x");
    kernel.send(&lying);
    kernel.send(&request(abi::opcode::LOOKUP, 10, &[b"no end"]));
    kernel.send(&request(abi::opcode::FORGET, 12, &[]));
    kernel.send(&request(
        abi::opcode::INTERRUPT,
        101,
        &[interrupt.as_bytes()],
    ));
    kernel.send(&request(abi::opcode::INTERRUPT, 103, &[]));
    kernel.send(&request(abi::opcode::STATFS, 14, &[]));
    kernel.end();
    let (served, requests) = mpsc::channel();
    serve_all(&channel, Echo(served));
    for (unique, error) in [(8, -libc::EIO), (10, -libc::EIO), (14, 0)] {
        let (header, body) = kernel.answer();
        assert_eq!((header.unique, header.error), (unique, error));
        assert!(body.is_empty());
    }
    assert!(kernel.is_silent());
    assert_eq!(requests.iter().collect::<Vec<_>>(), [14]);
}

#[tokio::test]
async fn goodbye_is_answered_and_ends_the_thread() {
    let (kernel, channel) = Kernel::connect(Handle::current());
    kernel.send(&request(abi::opcode::DESTROY, 2, &[]));
    let (served, _requests) = mpsc::channel();
    serve_all(&channel, Echo(served));
    assert_eq!(kernel.answer().0.error, 0);
}

#[test]
fn the_buffer_holds_the_largest_write() {
    let headers = size_of::<InHeader>() + size_of::<abi::WriteIn>();
    assert!(headers <= HEADER_BYTES_MAX);
}
