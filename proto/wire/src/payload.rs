//! The data of a frame: bytes that are not copied on their way out.

use std::ops::Range;

use bytes::Bytes;

/// Bytes in up to two pieces, one behind the other: a block that was written in two goes out as it
/// is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    first: Bytes,
    second: Bytes,
}

impl Payload {
    /// `first`, and behind it `second`.
    pub fn joined(first: Bytes, second: Bytes) -> Self {
        Payload { first, second }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes as one run; copies only if there are two pieces.
    pub fn into_bytes(self) -> Bytes {
        match (self.first.is_empty(), self.second.is_empty()) {
            (_, true) => self.first,
            (true, false) => self.second,
            (false, false) => [self.first, self.second].concat().into(),
        }
    }

    /// Whether it is in two pieces.
    pub fn is_joined(&self) -> bool {
        !self.second.is_empty()
    }

    /// The pieces in order; some may be empty.
    pub fn pieces(&self) -> [&Bytes; 2] {
        [&self.first, &self.second]
    }

    /// A part of it; copies only where it is of both pieces. Panics if the range is not within it,
    /// as slices do.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        let middle = self.first.len();
        if range.end <= middle {
            return self.first.slice(range);
        }
        if range.start >= middle {
            return self.second.slice(range.start - middle..range.end - middle);
        }
        let parts = [
            &self.first[range.start..],
            &self.second[..range.end - middle],
        ];
        parts.concat().into()
    }

    /// What is behind the first `skipped` bytes, in order.
    pub(crate) fn pieces_behind(&self, skipped: usize) -> [&[u8]; 2] {
        match skipped.checked_sub(self.first.len()) {
            None => [&self.first[skipped..], &self.second],
            Some(of_second) => [&[], &self.second[of_second..]],
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload {
            first: bytes,
            second: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_run() {
        let (first, second) = (Bytes::from_static(b"abc"), Bytes::from_static(b"de"));
        let payload = Payload::joined(first.clone(), second.clone());
        assert_eq!(payload.len(), 5);
        for skipped in 0..=5 {
            assert_eq!(payload.pieces_behind(skipped).concat(), b"abcde"[skipped..]);
            for end in skipped..=5 {
                assert_eq!(payload.slice(skipped..end), b"abcde"[skipped..end]);
            }
        }
        assert_eq!(payload.into_bytes(), b"abcde"[..]);
        assert_eq!(
            Payload::joined(Bytes::new(), second).into_bytes(),
            b"de"[..]
        );
        assert_eq!(Payload::from(first).into_bytes(), b"abc"[..]);
        assert!(Payload::default().is_empty());
    }
}
