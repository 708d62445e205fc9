//! Bytes on their way from a write(2) into a block's buffer.

use std::ops::{Deref, Range};

use bytes::{Bytes, BytesMut};

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub enum WriteData<'a> {
    /// Copied when it is buffered.
    Borrowed(&'a [u8]),
    /// Kept as it is where it makes up a whole block: a stream is not copied once more.
    Shared(&'a Bytes),
}

impl Deref for WriteData<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            WriteData::Borrowed(bytes) => bytes,
            WriteData::Shared(bytes) => bytes,
        }
    }
}

impl WriteData<'_> {
    /// A part of it, to be kept if that needs no copy.
    pub(super) fn share(&self, range: Range<usize>) -> Option<Bytes> {
        match self {
            WriteData::Borrowed(_) => None,
            WriteData::Shared(bytes) => Some(bytes.slice(range)),
        }
    }
}

/// Buffered bytes: a buffer that grows, or a request's that are kept as they came.
pub(super) enum Buffer {
    Own(BytesMut),
    Shared(Bytes),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Buffer::Own(bytes) => bytes,
            Buffer::Shared(bytes) => bytes,
        }
    }
}

impl Buffer {
    /// To be changed: what is shared is copied first.
    pub(super) fn own(&mut self) -> &mut BytesMut {
        if let Buffer::Shared(bytes) = self {
            *self = Buffer::Own(BytesMut::from(&**bytes));
        }
        match self {
            Buffer::Own(bytes) => bytes,
            Buffer::Shared(_) => unreachable!("made its own a moment ago"),
        }
    }

    pub(super) fn freeze(self) -> Bytes {
        match self {
            Buffer::Own(bytes) => bytes.freeze(),
            Buffer::Shared(bytes) => bytes,
        }
    }
}
