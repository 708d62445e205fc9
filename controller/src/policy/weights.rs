//! Bytes spread over servers in proportion to their room, and shares as fixed-point weights.

use pocket_proto::{ServerId, session::WeightMap};

/// Weights of a map sum to about this: fixed point with 20 fraction bits, so that the share of
/// one among ten thousand servers is still right to the hundredth.
const WEIGHT_SUM: u64 = 1 << 20;

/// A number of bytes on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) server: ServerId,
    pub(crate) bytes: u64,
}

/// A server's part of a job's data, relative to the sum over the map. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) server: ServerId,
    pub(crate) weight: u32,
}

/// Spreads `bytes` over `rooms` in proportion to their bytes. No share exceeds its room, and the
/// shares sum to `bytes`, or to all the room there is. Shares of nothing are left out.
pub(super) fn spread(bytes: u64, rooms: &[Share]) -> Vec<Share> {
    let total: u128 = rooms.iter().map(|room| u128::from(room.bytes)).sum();
    if total <= u128::from(bytes) {
        return rooms
            .iter()
            .copied()
            .filter(|room| room.bytes > 0)
            .collect();
    }
    let rooms = rooms.iter().filter(|room| room.bytes > 0);
    let mut shares: Vec<Share> = rooms
        .map(|room| Share {
            server: room.server,
            // At most room.bytes, since bytes < total.
            bytes: (u128::from(bytes) * u128::from(room.bytes) / total) as u64,
        })
        .collect();
    // Rounding down lost less than a byte per share, and left at least a byte of every room.
    let lost = bytes - shares.iter().map(|share| share.bytes).sum::<u64>();
    for share in shares.iter_mut().take(lost as usize) {
        share.bytes += 1;
    }
    shares.retain(|share| share.bytes > 0);
    shares
}

/// The weights that steer data to `shares`.
pub(crate) fn weights(shares: &[Share]) -> Vec<Weight> {
    let total: u128 = shares.iter().map(|share| u128::from(share.bytes)).sum();
    let shares = shares.iter().filter(|share| share.bytes > 0);
    shares
        .map(|share| Weight {
            server: share.server,
            // At most WEIGHT_SUM, since the share is part of the total.
            weight: (u128::from(share.bytes) * u128::from(WEIGHT_SUM) / total).max(1) as u32,
        })
        .collect()
}

/// What a job of `capacity_bytes` with this map was promised on each server: the inverse of
/// [`weights`], for a controller that learns of the job from its metadata server.
pub(crate) fn shares_of_map(map: &WeightMap, capacity_bytes: u64) -> Vec<Share> {
    let total: u64 = map.servers.iter().map(|s| u64::from(s.weight)).sum();
    let weighted = map.servers.iter().filter(|s| s.weight > 0);
    weighted
        .filter_map(|weighted| {
            let bytes = u128::from(capacity_bytes) * u128::from(weighted.weight);
            Some(Share {
                server: ServerId(weighted.server.as_ref()?.server),
                bytes: (bytes / u128::from(total)) as u64,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pocket_proto::session::{StorageServer, WeightedServer};
    use proptest::prelude::*;

    use super::*;

    fn rooms(bytes: &[u64]) -> Vec<Share> {
        let rooms = bytes.iter().enumerate();
        rooms
            .map(|(i, &bytes)| Share {
                server: ServerId(i as u64 + 1),
                bytes,
            })
            .collect()
    }

    fn map(weights: &[Weight]) -> WeightMap {
        let servers = weights.iter().map(|weight| WeightedServer {
            server: Some(StorageServer {
                server: weight.server.0,
                ..StorageServer::default()
            }),
            weight: weight.weight,
        });
        WeightMap {
            epoch: 1,
            servers: servers.collect(),
        }
    }

    #[test]
    fn shares_follow_the_room() {
        for (bytes, free, expected) in [
            (10, vec![10, 30], vec![3, 7]),
            (8, vec![0, 8, 8], vec![0, 4, 4]),
            (100, vec![10, 30], vec![10, 30]),
            (40, vec![10, 30], vec![10, 30]),
            (0, vec![10, 30], vec![]),
            (5, vec![], vec![]),
            (
                u64::MAX,
                vec![u64::MAX, u64::MAX],
                vec![(1 << 63), (1 << 63) - 1],
            ),
        ] {
            let mut expected = rooms(&expected);
            expected.retain(|share| share.bytes > 0);
            assert_eq!(spread(bytes, &rooms(&free)), expected);
        }
    }

    proptest! {
        #[test]
        fn shares_fit_their_rooms_and_sum_to_what_was_asked(
            bytes: u64,
            free in proptest::collection::vec(prop_oneof![Just(0), 0..100u64, any::<u64>()], 0..20),
        ) {
            let shares = spread(bytes, &rooms(&free));
            let room: u128 = free.iter().map(|&bytes| u128::from(bytes)).sum();
            let sum: u128 = shares.iter().map(|share| u128::from(share.bytes)).sum();
            prop_assert_eq!(sum, room.min(u128::from(bytes)));
            for share in &shares {
                prop_assert!(share.bytes > 0);
                prop_assert!(share.bytes <= free[share.server.0 as usize - 1]);
            }
        }

        #[test]
        fn weights_tell_the_shares_again(
            bytes in proptest::collection::vec(0..1u64 << 50, 1..20),
        ) {
            let shares = rooms(&bytes);
            let weights = weights(&shares);
            prop_assert!(weights.iter().all(|weight| weight.weight > 0));
            let total: u64 = bytes.iter().sum();
            let told = shares_of_map(&map(&weights), total);
            prop_assert_eq!(told.len(), bytes.iter().filter(|&&bytes| bytes > 0).count());
            for share in told {
                let exact = bytes[share.server.0 as usize - 1];
                prop_assert!(share.bytes.abs_diff(exact) <= total / 10_000 + 1);
            }
        }
    }

    #[test]
    fn a_map_without_weights_promises_nothing() {
        assert_eq!(shares_of_map(&WeightMap::default(), 1 << 30), vec![]);
    }
}
