//! The price table of a command: the built-in one, or a file.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;
use pocket_policy::Catalogue;

/// The longest price table: thousands of lines.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// Where node types and prices stand.
#[derive(Args, Clone, Debug)]
pub(super) struct TierArguments {
    /// Node types, their prices and what jobs without hints get, as TOML [default: built in]
    #[arg(long, value_name = "FILE", env = "POCKET_TIERS")]
    tiers: Option<PathBuf>,
}

impl TierArguments {
    pub(super) fn read(&self) -> anyhow::Result<Catalogue> {
        let Some(path) = &self.tiers else {
            return Ok(Catalogue::default());
        };
        let text = read_text(path, TABLE_BYTES_MAX)?;
        Catalogue::parse(&text).with_context(|| path.display().to_string())
    }
}

/// Reads a text file of at most so many bytes.
pub(super) fn read_text(path: &std::path::Path, bytes_max: u64) -> anyhow::Result<String> {
    let named = || format!("cannot read {}", path.display());
    let bytes = fs::metadata(path).with_context(named)?.len();
    anyhow::ensure!(
        bytes <= bytes_max,
        "{} has {bytes} bytes, at most {bytes_max} are read",
        path.display()
    );
    fs::read_to_string(path).with_context(named)
}
