//! Bytes on their way from a write(2) into a block's buffer.

use std::ops::{Deref, Range};

use bytes::{Bytes, BytesMut};
use pocket_storage_client::Payload;

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub enum WriteData<'a> {
    /// Copied when it is buffered.
    Borrowed(&'a [u8]),
    /// Long parts of it are kept as they are: a stream is not copied once more.
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
    /// A part of it. Short parts are not worth keeping what they lie in.
    pub(super) fn part(&self, range: Range<usize>) -> WritePart<'_> {
        match self {
            WriteData::Shared(bytes) if range.len() >= SHARED_BYTES_MIN => {
                WritePart::Shared(bytes.slice(range))
            }
            whole => WritePart::Borrowed(&whole[range]),
        }
    }
}

/// Shorter runs of bytes are copied.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// What is to be written to one block.
pub(super) enum WritePart<'a> {
    Borrowed(&'a [u8]),
    Shared(Bytes),
}

impl Deref for WritePart<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            WritePart::Borrowed(bytes) => bytes,
            WritePart::Shared(bytes) => bytes,
        }
    }
}

impl WritePart<'_> {
    /// Whether it is kept where it lies.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, WritePart::Shared(_))
    }

    fn into_bytes(self) -> Bytes {
        match self {
            WritePart::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            WritePart::Shared(bytes) => bytes,
        }
    }
}

/// Buffered bytes: a buffer that grows, or requests' that are kept as they came. A program's memory
/// seldom begins at a page, so that the kernel sends a block in two requests.
pub(super) enum Buffer {
    Own(BytesMut),
    Kept(Payload),
}

impl From<WritePart<'_>> for Buffer {
    fn from(part: WritePart<'_>) -> Self {
        match part {
            WritePart::Borrowed(bytes) => Buffer::Own(BytesMut::from(bytes)),
            WritePart::Shared(bytes) => Buffer::Kept(bytes.into()),
        }
    }
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        match self {
            Buffer::Own(bytes) => bytes.len(),
            Buffer::Kept(payload) => payload.len(),
        }
    }

    /// Appends `part` if that copies nothing but the part; gives it back otherwise.
    pub(super) fn append<'a>(&mut self, part: WritePart<'a>) -> Option<WritePart<'a>> {
        let first = match self {
            Buffer::Own(first) if part.is_shared() => std::mem::take(first).freeze().into(),
            Buffer::Kept(first) if !first.is_joined() => std::mem::take(first),
            Buffer::Own(_) | Buffer::Kept(_) => return Some(part),
        };
        *self = Buffer::Kept(Payload::joined(first.into_bytes(), part.into_bytes()));
        None
    }

    /// To be changed: what is kept is copied first.
    pub(super) fn own(&mut self) -> &mut BytesMut {
        if let Buffer::Kept(payload) = self {
            let mut bytes = BytesMut::with_capacity(payload.len());
            for piece in payload.pieces() {
                bytes.extend_from_slice(piece);
            }
            *self = Buffer::Own(bytes);
        }
        match self {
            Buffer::Own(bytes) => bytes,
            Buffer::Kept(_) => unreachable!("made its own a moment ago"),
        }
    }

    /// A part, copied where need be.
    pub(super) fn slice(&self, range: Range<usize>) -> Bytes {
        match self {
            Buffer::Own(bytes) => Bytes::copy_from_slice(&bytes[range]),
            Buffer::Kept(payload) => payload.slice(range),
        }
    }

    pub(super) fn freeze(self) -> Payload {
        match self {
            Buffer::Own(bytes) => bytes.freeze().into(),
            Buffer::Kept(payload) => payload,
        }
    }
}
