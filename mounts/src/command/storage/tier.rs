//! Tiers as an operator writes them: `dram=8GiB`, `nvme=/mnt/d0,500GiB,1GB/s`, or just their names.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context, bail, ensure};
use pocket_proto::{Bandwidth, ByteCount};
use pocket_storage::Store;

use crate::{
    machine,
    units::{parse_capacity, parse_server_bandwidth},
};

/// A tier of `--tier`, with what stands behind the `=`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TierArgument {
    kind: Kind,
    pub(super) path: Option<PathBuf>,
    pub(super) capacity: Option<ByteCount>,
    pub(super) bandwidth: Option<Bandwidth>,
}

/// Media that there is an engine for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dram,
    Nvme,
    Ssd,
    Hdd,
}

/// A tier with everything known that a server needs.
#[derive(Clone, Debug)]
pub(super) struct Tier {
    pub(super) store: Store,
    pub(super) capacity: ByteCount,
    pub(super) bandwidth: Option<Bandwidth>,
}

impl FromStr for TierArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, settings) = match text.split_once('=') {
            Some((name, settings)) => (name, Some(settings)),
            None => (text, None),
        };
        let kind = match name {
            "dram" => Kind::Dram,
            "nvme" => Kind::Nvme,
            "ssd" => Kind::Ssd,
            "hdd" => Kind::Hdd,
            other => bail!("there is no tier '{other}': write dram, nvme, ssd or hdd"),
        };
        let mut tier = TierArgument {
            kind,
            path: None,
            capacity: None,
            bandwidth: None,
        };
        let Some(settings) = settings else {
            return Ok(tier);
        };
        let mut settings = settings.split(',');
        if kind != Kind::Dram {
            let path = settings.next().filter(|path| !path.is_empty());
            tier.path = Some(
                path.context("a path is missing: write nvme=PATH,SIZE")?
                    .into(),
            );
        }
        let size = settings.next().filter(|size| !size.is_empty());
        let wanted = || format!("a size is missing in '{text}': write dram=SIZE or nvme=PATH,SIZE");
        tier.capacity = Some(parse_capacity(size.with_context(wanted)?)?);
        tier.bandwidth = settings.next().map(parse_server_bandwidth).transpose()?;
        ensure!(
            settings.next().is_none(),
            "'{text}' says more than PATH,SIZE,RATE"
        );
        Ok(tier)
    }
}

impl TierArgument {
    /// The tier, if all is known.
    pub(super) fn complete(self) -> anyhow::Result<Tier> {
        let path = || {
            let path = self.path.clone();
            path.context("a disk tier needs --path: a directory on the disk, or a block device")
        };
        let store = match self.kind {
            Kind::Dram => {
                ensure!(
                    self.path.is_none(),
                    "--path is for disk tiers, not for dram"
                );
                Store::Dram
            }
            Kind::Nvme => Store::Nvme(path()?),
            Kind::Ssd => Store::Ssd(path()?),
            Kind::Hdd => Store::Hdd(path()?),
        };
        let capacity = match (self.capacity, self.kind) {
            (Some(capacity), _) => capacity,
            (None, Kind::Dram) => machine::memory_for_stores(),
            (None, _) => bail!("a disk tier needs --capacity: the bytes of blocks to hold at most"),
        };
        Ok(Tier {
            store,
            capacity,
            bandwidth: self.bandwidth,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Tier {
        text.parse::<TierArgument>().unwrap().complete().unwrap()
    }

    #[test]
    fn tiers_are_read_as_they_are_written() {
        let dram = complete("dram=8GiB");
        assert_eq!((dram.store, dram.capacity.0), (Store::Dram, 8 << 30));
        let nvme = complete("nvme=/mnt/d0,500GiB,1GB/s");
        assert_eq!(nvme.store, Store::Nvme("/mnt/d0".into()));
        assert_eq!(nvme.capacity.0, 500 << 30);
        let said = nvme.bandwidth.map(|said| said.bytes_per_second);
        assert_eq!(said, Some(1_000_000_000));
        assert_eq!(complete("hdd=/dev/sdb,2TB").store.tier(), "hdd");
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        for (text, told) in [
            ("tape=1GiB", "there is no tier 'tape'"),
            ("nvme=", "a path is missing"),
            ("nvme=/mnt/d0", "a size is missing"),
            ("dram=0", "more than 0"),
            ("dram=1GiB,1GB/s,more", "says more"),
        ] {
            let error = text.parse::<TierArgument>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        for (text, told) in [("nvme", "--path"), ("ssd", "--path")] {
            let tier: TierArgument = text.parse().unwrap();
            let error = tier.complete().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
