//! Which sessions of a job may still change its blocks: what a metadata server tells storage servers.
//!
//! See "Fencing" in ARCHITECTURE.md.

use std::time::Duration;

use crate::frame::{FrameError, u64_at};
use crate::{Incarnation, SessionId};

/// Bytes of a [`Vouch`] on the wire.
pub const VOUCH_BYTES: usize = 16;
/// A storage server changes blocks for the sessions of a metadata server for so long after it said
/// the word that is repeated to it ([`Vouch::heard`]); a tenth less by its own clock, as clocks
/// differ. No longer than the default lease of a session, so that a machine that dies with a
/// mount and a storage server on it holds others up no longer than the mount alone would.
pub const VOUCH_LASTS: Duration = Duration::from_secs(5);

const FENCE_HEAD_BYTES: usize = 24;

/// A metadata server's word that it is in touch, and that all its fences have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouch {
    /// The life of the metadata server.
    pub issuer: Incarnation,
    /// What the storage server answered to an earlier one (0: nothing yet): its own clock then.
    /// However long this travels, it counts from there.
    pub heard: u64,
}

impl Vouch {
    /// As the body of a request.
    pub fn encode(&self) -> [u8; VOUCH_BYTES] {
        let mut bytes = [0; VOUCH_BYTES];
        bytes[0..8].copy_from_slice(&self.issuer.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.heard.to_le_bytes());
        bytes
    }

    /// Reads the body of a request.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let bytes: &[u8; VOUCH_BYTES] = body.first_chunk().ok_or(FrameError::TooShort)?;
        Ok(Vouch {
            issuer: Incarnation(u64_at(bytes, 0)),
            heard: u64_at(bytes, 8),
        })
    }
}

/// The sessions of a job that go on: all others up to the newest are fenced. Their numbers grow, so
/// those that are opened later need no mention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The life of the metadata server that keeps the sessions.
    pub issuer: Incarnation,
    /// Grows with every fence of the job; an older one says nothing that a newer does not.
    pub edition: u64,
    /// The newest session there has been.
    pub newest: SessionId,
    /// Those up to it that go on, in ascending order.
    pub live: Vec<SessionId>,
}

impl Fence {
    /// Whether a session may go on.
    pub fn admits(&self, session: SessionId) -> bool {
        session > self.newest || self.live.binary_search(&session).is_ok()
    }

    /// As the body of a request.
    pub fn encode(&self) -> Vec<u8> {
        let head = [self.issuer.0, self.edition, self.newest.0];
        let live = self.live.iter().map(|session| session.0);
        head.into_iter()
            .chain(live)
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// Reads the body of a request.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let (head, live) = body
            .split_first_chunk::<FENCE_HEAD_BYTES>()
            .ok_or(FrameError::TooShort)?;
        let (live, rest) = live.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(FrameError::TooShort);
        }
        let mut live: Vec<_> = live
            .iter()
            .map(|session| SessionId(u64::from_le_bytes(*session)))
            .collect();
        live.sort_unstable();
        Ok(Fence {
            issuer: Incarnation(u64_at(head, 0)),
            edition: u64_at(head, 8),
            newest: SessionId(u64_at(head, 16)),
            live,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fence_and_vouch_survive_the_wire(
            issuer: u64, edition: u64, newest: u64, live in prop::collection::btree_set(any::<u64>(), 0..20),
        ) {
            let issuer = Incarnation(issuer);
            let live = live.into_iter().map(SessionId).collect();
            let fence = Fence { issuer, edition, newest: SessionId(newest), live };
            prop_assert_eq!(Fence::decode(&fence.encode()), Ok(fence));
            let vouch = Vouch { issuer, heard: edition };
            prop_assert_eq!(Vouch::decode(&vouch.encode()), Ok(vouch));
        }

        #[test]
        fn any_bytes_are_a_fence_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let whole = bytes.len() >= FENCE_HEAD_BYTES && bytes.len().is_multiple_of(8);
            prop_assert_eq!(Fence::decode(&bytes).is_ok(), whole);
            prop_assert_eq!(Vouch::decode(&bytes).is_ok(), bytes.len() >= VOUCH_BYTES);
        }
    }

    #[test]
    fn fence_admits_those_that_live_and_those_to_come() {
        let fence = Fence {
            issuer: Incarnation(1),
            edition: 1,
            newest: SessionId(5),
            live: vec![SessionId(2), SessionId(4)],
        };
        let admitted: Vec<_> = (1..=7).filter(|id| fence.admits(SessionId(*id))).collect();
        assert_eq!(admitted, [2, 4, 6, 7]);
    }
}
