//! Placement: which server of a weight map holds a block.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and
//! Schomaker 2005): every server draws `w / -log2(u)` with `u` a uniform hash of (server, inode,
//! block), and the largest draw wins. Shares follow the weights, and a server that leaves or
//! joins moves only its own share. Integer arithmetic throughout, so that every machine agrees.

use std::sync::Arc;

use thiserror::Error;

use crate::session::{StorageServer, WeightMap};
use crate::{BlockIndex, InodeId};

/// Why a weight map cannot place blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlacementError {
    /// No server with a weight above zero.
    #[error("weight map of epoch {0} has no server with a weight")]
    Empty(u32),
}

/// A weight map made ready to place blocks.
#[derive(Clone, Debug)]
pub struct Placement {
    epoch: u32,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    server: Arc<StorageServer>,
    /// The id that draws: that of the server whose place this one has taken, or its own.
    drawn_as: u64,
    weight: u32,
}

impl Placement {
    /// Prepares a map; servers of weight zero take no blocks.
    pub fn new(map: &WeightMap) -> Result<Self, PlacementError> {
        let candidates: Vec<_> = map
            .servers
            .iter()
            .filter_map(|weighted| {
                let server = Arc::new(weighted.server.clone()?);
                (weighted.weight > 0).then_some(Candidate {
                    drawn_as: match weighted.stands_for {
                        0 => server.server,
                        departed => departed,
                    },
                    server,
                    weight: weighted.weight,
                })
            })
            .collect();
        if candidates.is_empty() {
            return Err(PlacementError::Empty(map.epoch));
        }
        Ok(Placement {
            epoch: map.epoch,
            candidates,
        })
    }

    /// The map's epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The server that holds `block` of `inode`. Same answer on every machine, for ever.
    pub fn server_of(&self, inode: InodeId, block: BlockIndex) -> &StorageServer {
        &self.candidate_of(inode, block).server
    }

    /// As [`Placement::server_of`], to be kept.
    pub fn shared_server_of(&self, inode: InodeId, block: BlockIndex) -> Arc<StorageServer> {
        Arc::clone(&self.candidate_of(inode, block).server)
    }

    fn candidate_of(&self, inode: InodeId, block: BlockIndex) -> &Candidate {
        let mut best = &self.candidates[0];
        if self.candidates.len() > 1 {
            let mut best_draw = draw(best, inode, block);
            for candidate in &self.candidates[1..] {
                let candidate_draw = draw(candidate, inode, block);
                if candidate_draw > best_draw {
                    (best, best_draw) = (candidate, candidate_draw);
                }
            }
        }
        best
    }

    /// Every server of the map with a weight.
    pub fn servers(&self) -> impl Iterator<Item = &StorageServer> {
        self.candidates
            .iter()
            .map(|candidate| candidate.server.as_ref())
    }
}

/// Larger wins; the server's id breaks ties.
fn draw(candidate: &Candidate, inode: InodeId, block: BlockIndex) -> (u128, u64) {
    let uniform = mix(mix(mix(candidate.drawn_as) ^ inode.0) ^ block.0);
    let surprise = minus_log2(uniform).max(1);
    // The weight is scaled by 2^64, so that the quotient keeps the precision of both.
    (
        (u128::from(candidate.weight) << 64) / u128::from(surprise),
        candidate.drawn_as,
    )
}

/// Finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `-log2((x + 1) / 2^64)` as fixed point with 32 fraction bits, by repeated squaring of the
/// mantissa (one bit of the logarithm a step).
fn minus_log2(x: u64) -> u64 {
    const FRACTION_BITS: u32 = 32;
    let x = u128::from(x) + 1;
    let exponent = 127 - x.leading_zeros();
    // Mantissa in [1, 2) with 63 fraction bits.
    let mut mantissa = if exponent >= 63 {
        x >> (exponent - 63)
    } else {
        x << (63 - exponent)
    };
    let mut log = u64::from(exponent) << FRACTION_BITS;
    for bit in (0..FRACTION_BITS).rev() {
        mantissa = (mantissa * mantissa) >> 63;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            log |= 1 << bit;
        }
    }
    (64 << FRACTION_BITS) - log
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::WeightedServer;

    fn map(weights: &[u32]) -> WeightMap {
        WeightMap {
            epoch: 1,
            edition: 0,
            servers: weights
                .iter()
                .enumerate()
                .map(|(i, &weight)| WeightedServer {
                    server: Some(StorageServer {
                        server: i as u64 + 1,
                        ..Default::default()
                    }),
                    weight,
                    stands_for: 0,
                })
                .collect(),
        }
    }

    #[test]
    fn logarithm_is_right_to_the_eighth_digit() {
        for x in [
            0,
            1,
            2,
            1 << 20,
            0x1234_5678_9abc_def0,
            u64::MAX / 3,
            u64::MAX - 1,
        ] {
            let exact = 64.0 - (x as f64 + 1.0).log2();
            let fixed = minus_log2(x) as f64 / f64::from(1u32 << 31) / 2.0;
            assert!((exact - fixed).abs() < 1e-8, "{x}: {exact} {fixed}");
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let placement = Placement::new(&map(&[100, 300, 600])).expect("has weights");
        let mut counts = [0u32; 3];
        for inode in 0..300 {
            for block in 0..100 {
                let server = placement.server_of(InodeId(inode), BlockIndex(block));
                counts[server.server as usize - 1] += 1;
            }
        }
        for (count, share) in counts.iter().zip([0.1, 0.3, 0.6]) {
            assert!(
                (f64::from(*count) / 30_000.0 - share).abs() < 0.01,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn a_server_that_leaves_moves_only_its_own_blocks() {
        let before = Placement::new(&map(&[1, 1, 1, 1])).expect("has weights");
        let after = Placement::new(&map(&[1, 1, 0, 1])).expect("has weights");
        for block in (0..10_000).map(BlockIndex) {
            let (old, new) = (
                before.server_of(InodeId(9), block),
                after.server_of(InodeId(9), block),
            );
            assert!(old.server == 3 || old == new);
        }
    }

    #[test]
    fn a_server_in_anothers_place_gets_exactly_its_blocks() {
        let mut later = map(&[1, 1, 1, 1]);
        let before = Placement::new(&later).expect("has weights");
        later.servers[2].stands_for = 3;
        later.servers[2].server = later.servers[0].server.clone();
        let after = Placement::new(&later).expect("has weights");
        for block in (0..10_000).map(BlockIndex) {
            let (old, new) = (
                before.server_of(InodeId(9), block).server,
                after.server_of(InodeId(9), block).server,
            );
            assert_eq!(new, if old == 3 { 1 } else { old });
        }
    }

    #[test]
    fn a_map_without_weights_is_refused() {
        assert_eq!(
            Placement::new(&map(&[])).err(),
            Some(PlacementError::Empty(1))
        );
        assert_eq!(
            Placement::new(&map(&[0, 0])).err(),
            Some(PlacementError::Empty(1))
        );
    }
}
