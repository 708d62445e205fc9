//! The kernel's FUSE protocol: requests in, answers and notifications out.
//!
//! It knows bytes and threads, not files: what a request asks for is a [`Handler`]'s. Nothing that
//! comes from the kernel may panic; what makes no sense is refused, what is unknown is the
//! handler's to refuse.

pub(crate) mod abi;
mod buffer;
mod device;
mod dying;
mod handouts;
mod interrupts;
mod notify;
mod operation;
mod reply;
mod request;
mod session;
#[cfg(test)]
mod wire;

pub(crate) use abi::FileLock;
pub(crate) use abi::opcode::name as opcode_name;
pub(crate) use device::PATH as DEVICE_PATH;
pub(crate) use interrupts::Until;
pub(crate) use notify::Notifier;
pub(crate) use operation::{
    LockArguments, OpenArguments, Operation, ReadArguments, WriteArguments,
};
pub(crate) use reply::{ListedName, Listing, Reply, validity};
pub(crate) use request::Request;
pub(crate) use session::{Handler, Session};
