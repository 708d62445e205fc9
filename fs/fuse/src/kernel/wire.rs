//! For tests: requests as the kernel writes them, and a pair of sockets in place of its device.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::abi::{InHeader, OutHeader};
use super::device::Device;
use super::handouts::Handouts;
use super::interrupts::Interrupts;
use super::reply::Channel;

/// A request from its parts.
pub(crate) fn request(opcode: u32, unique: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let header = InHeader {
        len: (size_of::<InHeader>() + body.len()) as u32,
        opcode,
        unique,
        nodeid: 1,
        uid: 7,
        gid: 8,
        pid: 9,
        ..InHeader::default()
    };
    [header.as_bytes(), &body].concat()
}

/// The bytes of a struct.
pub(crate) fn bytes(value: &(impl IntoBytes + Immutable)) -> Vec<u8> {
    value.as_bytes().to_vec()
}

/// The kernel's end of a connection.
pub(crate) struct Kernel(UnixDatagram);

impl Kernel {
    /// Both ends.
    pub(crate) fn connect(runtime: Handle) -> (Self, Arc<Channel>) {
        let (kernel, device) = UnixDatagram::pair().expect("there are sockets");
        let deadline = Duration::from_secs(10);
        let bounded = kernel.set_read_timeout(Some(deadline));
        bounded.expect("the deadline is not zero");
        let channel = Channel {
            device: Device::new(device.into()),
            interrupts: Interrupts::new(runtime),
            requests: Arc::default(),
            handouts: Arc::new(Handouts::new()),
        };
        (Kernel(kernel), Arc::new(channel))
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        assert_eq!(self.0.send(bytes).ok(), Some(bytes.len()));
    }

    /// The next answer.
    pub(crate) fn answer(&self) -> (OutHeader, Vec<u8>) {
        let mut buffer = vec![0; 2 << 20];
        let length = self.0.recv(&mut buffer).expect("an answer");
        let (header, body) = OutHeader::read_from_prefix(&buffer[..length]).expect("a header");
        assert_eq!(header.len as usize, length);
        (header, body.to_vec())
    }

    /// Whether there is no answer yet.
    pub(crate) fn is_silent(&self) -> bool {
        let set = |on| self.0.set_nonblocking(on).expect("a socket can be polled");
        set(true);
        let received = self.0.recv(&mut [0]);
        set(false);
        received.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends the connection: an empty message is what the device's reader takes for that.
    pub(crate) fn end(&self) {
        self.send(&[]);
    }
}
