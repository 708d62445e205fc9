//! What servers promise to a job, and that as the fixed-point weights of its map.

use pocket_proto::{ServerId, session::WeightMap};

use crate::Needs;

/// Weights of a map sum to about this: fixed point with 20 fraction bits, so that the share of
/// one among ten thousand servers is still right to the hundredth.
const WEIGHT_SUM: u64 = 1 << 20;

/// What a server promises to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The server.
    pub server: ServerId,
    /// Bytes that it holds for the job.
    pub bytes: u64,
    /// Throughput that the job finds there, whatever others do; 0 where that is not planned.
    pub bytes_per_second: u64,
}

impl Share {
    /// The promise without the server.
    pub fn needs(&self) -> Needs {
        Needs {
            capacity_bytes: self.bytes,
            bytes_per_second: self.bytes_per_second,
        }
    }
}

/// A server's part of a job's data, relative to the sum over the map. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The server.
    pub server: ServerId,
    /// About 2^20 over all of a map.
    pub weight: u32,
}

/// The weights that steer data to `shares`.
pub fn weights(shares: &[Share]) -> Vec<Weight> {
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

/// What a job of such a capacity and throughput with this map was promised on each server: the
/// inverse of [`weights`], for a controller that learns of the job from its metadata server.
pub fn shares_of_map(map: &WeightMap, promised: Needs) -> Vec<Share> {
    let total: u64 = map.servers.iter().map(|s| u64::from(s.weight)).sum();
    let weighted = map.servers.iter().filter(|s| s.weight > 0);
    weighted
        .filter_map(|weighted| {
            let part = |amount: u64| {
                (u128::from(amount) * u128::from(weighted.weight) / u128::from(total)) as u64
            };
            Some(Share {
                server: ServerId(weighted.server.as_ref()?.server),
                bytes: part(promised.capacity_bytes),
                bytes_per_second: part(promised.bytes_per_second),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pocket_proto::session::{StorageServer, WeightedServer};
    use proptest::prelude::*;

    use super::*;

    fn shares(bytes: &[u64]) -> Vec<Share> {
        let bytes = bytes.iter().enumerate();
        bytes
            .map(|(i, &bytes)| Share {
                server: ServerId(i as u64 + 1),
                bytes,
                bytes_per_second: bytes / 2,
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
            stands_for: 0,
        });
        WeightMap {
            epoch: 1,
            edition: 0,
            servers: servers.collect(),
        }
    }

    proptest! {
        #[test]
        fn weights_sum_to_one(bytes in proptest::collection::vec(1..1u64 << 50, 1..500)) {
            let weights = weights(&shares(&bytes));
            prop_assert_eq!(weights.len(), bytes.len());
            let sum: u64 = weights.iter().map(|weight| u64::from(weight.weight)).sum();
            // Rounded down, but none to nothing.
            prop_assert!(sum.abs_diff(WEIGHT_SUM) <= bytes.len() as u64);
        }

        #[test]
        fn weights_tell_the_shares_again(
            bytes in proptest::collection::vec(0..1u64 << 50, 1..20),
        ) {
            let shares = shares(&bytes);
            let weights = weights(&shares);
            prop_assert!(weights.iter().all(|weight| weight.weight > 0));
            let total: u64 = bytes.iter().sum();
            let promised = Needs { capacity_bytes: total, bytes_per_second: total / 2 };
            let told = shares_of_map(&map(&weights), promised);
            prop_assert_eq!(told.len(), bytes.iter().filter(|&&bytes| bytes > 0).count());
            for share in told {
                let exact = bytes[share.server.0 as usize - 1];
                prop_assert!(share.bytes.abs_diff(exact) <= total / 10_000 + 1);
                prop_assert!(share.bytes_per_second.abs_diff(exact / 2) <= total / 10_000 + 2);
            }
        }
    }

    #[test]
    fn a_map_without_weights_promises_nothing() {
        assert_eq!(
            shares_of_map(&WeightMap::default(), Needs::default()),
            vec![]
        );
    }
}
