//! The price table of a command: the built-in one, or a file.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

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
pub(super) fn read_text(path: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let named = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(named)?;
    let mut bytes = Vec::new();
    // Not by its size: a device has none and does not end.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .with_context(named)?;
    anyhow::ensure!(
        bytes.len() as u64 <= bytes_max,
        "{} has more than the {bytes_max} bytes that are read: is it the right file?",
        path.display()
    );
    String::from_utf8(bytes).with_context(|| {
        let path = path.display();
        format!("{path} is not text: is it the right file?")
    })
}
