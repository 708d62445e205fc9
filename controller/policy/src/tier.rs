//! Tiers of storage and the order in which jobs want them.

use std::{fmt, str::FromStr};

/// A medium of storage servers, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Memory.
    Dram,
    /// Flash on the bus.
    Nvme,
    /// Flash behind a disk's interface.
    Ssd,
    /// Disks.
    Hdd,
}

impl Tier {
    /// All of them. Latency-sensitive jobs, and those that do not say, fill them in this order
    /// (paper, table 3).
    pub const FASTEST_FIRST: [Tier; 4] = [Tier::Dram, Tier::Nvme, Tier::Ssd, Tier::Hdd];

    /// As in price tables and on command lines.
    pub fn name(self) -> &'static str {
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
