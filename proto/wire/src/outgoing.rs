//! A frame on its way out: header and head in one small piece, data beside it uncopied.

use std::io::IoSlice;

use pocket_proto::{HEADER_BYTES, Header};

use crate::Payload;

/// Header and head up to this length are kept in place, without an allocation: the header and
/// the usual metadata request.
const SHORT_BYTES: usize = 120;

/// Pieces that a frame is written from.
pub(crate) const SLICES: usize = 3;

/// A frame to be written, and how far it is.
pub(crate) struct Outgoing {
    lead: Lead,
    data: Payload,
    written: usize,
}

enum Lead {
    Short { bytes: [u8; SHORT_BYTES], len: u8 },
    Long(Box<[u8]>),
}

impl Lead {
    fn as_slice(&self) -> &[u8] {
        match self {
            Lead::Short { bytes, len } => &bytes[..usize::from(*len)],
            Lead::Long(bytes) => bytes,
        }
    }
}

impl Outgoing {
    /// A frame whose body is `head` and behind it `data`; `header.body_bytes` is their length.
    pub(crate) fn new(header: &Header, head: &[u8], data: impl Into<Payload>) -> Self {
        let length = HEADER_BYTES + head.len();
        let header = header.encode();
        let lead = if length <= SHORT_BYTES {
            let mut bytes = [0; SHORT_BYTES];
            bytes[..HEADER_BYTES].copy_from_slice(&header);
            bytes[HEADER_BYTES..length].copy_from_slice(head);
            Lead::Short {
                bytes,
                len: length as u8,
            }
        } else {
            let mut bytes = Vec::with_capacity(length);
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(head);
            Lead::Long(bytes.into_boxed_slice())
        };
        Outgoing {
            lead,
            data: data.into(),
            written: 0,
        }
    }

    /// Bytes not yet written.
    pub(crate) fn remaining(&self) -> usize {
        self.lead.as_slice().len() + self.data.len() - self.written
    }

    /// What is not yet written, lead and data.
    pub(crate) fn slices(&self) -> [IoSlice<'_>; SLICES] {
        let lead = self.lead.as_slice();
        let (lead, [first, second]) = match self.written.checked_sub(lead.len()) {
            None => (&lead[self.written..], self.data.pieces_behind(0)),
            Some(of_data) => (&lead[lead.len()..], self.data.pieces_behind(of_data)),
        };
        [lead, first, second].map(IoSlice::new)
    }

    /// Notes that `bytes` more were written; never more than remained.
    pub(crate) fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.remaining());
        self.written += bytes;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pocket_proto::{JobId, Operation};

    use super::*;

    #[test]
    fn frame_written_in_any_pieces_is_the_frame() {
        for head_bytes in [0, 24, 88, 89, 500] {
            let head = vec![7; head_bytes];
            let data = Bytes::from_static(b"data behind the head");
            let header = Header::request(
                Operation::WriteBlock,
                5,
                JobId(6),
                (head.len() + data.len()) as u32,
            );
            let mut whole = header.encode().to_vec();
            whole.extend_from_slice(&head);
            whole.extend_from_slice(&data);
            for step in [1, 3, 31, 33, 1000] {
                let pieces = Payload::joined(data.slice(..9), data.slice(9..));
                let mut frame = Outgoing::new(&header, &head, pieces);
                let mut seen = Vec::new();
                while frame.remaining() > 0 {
                    let now = step.min(frame.remaining());
                    let rest: Vec<u8> = frame.slices().iter().flat_map(|s| s.to_vec()).collect();
                    assert_eq!(rest.len(), frame.remaining());
                    seen.extend_from_slice(&rest[..now]);
                    frame.advance(now);
                }
                assert_eq!(seen, whole, "head of {head_bytes}, steps of {step}");
            }
        }
    }
}
