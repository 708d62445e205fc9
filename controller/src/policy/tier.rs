//! Tiers of storage and the order in which jobs want them.

use std::{fmt, str::FromStr};

/// A medium of storage servers, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tier {
    Dram,
    Nvme,
    Ssd,
    Hdd,
}

impl Tier {
    /// Latency-sensitive jobs, and those that do not say: fastest first (paper, table 3).
    pub(super) const FASTEST_FIRST: [Tier; 4] = [Tier::Dram, Tier::Nvme, Tier::Ssd, Tier::Hdd];
    /// Jobs that are not latency sensitive: cheapest first, and DRAM only where there is nothing
    /// else (paper, table 3 and the node prices of section 6).
    pub(super) const CHEAPEST_FIRST: [Tier; 4] = [Tier::Hdd, Tier::Nvme, Tier::Ssd, Tier::Dram];

    fn name(self) -> &'static str {
        match self {
            Tier::Dram => "dram",
            Tier::Nvme => "nvme",
            Tier::Ssd => "ssd",
            Tier::Hdd => "hdd",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Tier::FASTEST_FIRST
            .into_iter()
            .find(|tier| tier.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("'{text}' is not a tier: use dram, nvme, ssd or hdd"))
    }
}
