//! `user.pocket.layout`: where a file's blocks are, for people.
//!
//! A line for each server: its tier and address, how many blocks it has, and which. Blocks that
//! were never written are told where they would be.

use std::{collections::BTreeMap, fmt::Write};

use bytes::Bytes;
use pocket_proto::{BlockIndex, InodeId};

use crate::{Errno, FileSystem};

/// The attribute's name. It is in no list: who copies attributes does not copy it.
pub(super) const LAYOUT_NAME: &[u8] = b"user.pocket.layout";
/// Blocks told at most: the first of a larger file stand for the rest.
const BLOCKS_MAX: u64 = 1 << 16;
/// Runs of blocks told of a server; an attribute's value is bounded.
const RUNS_MAX: usize = 64;

impl FileSystem {
    /// The layout of a file as text; ENODATA for what is no file.
    pub(super) async fn layout_text(&self, inode: InodeId) -> Result<Bytes, Errno> {
        let entry = self.get_attributes(inode).await?.value;
        let (Some(attributes), Some(layout)) = (entry.attributes, entry.layout) else {
            return Err(Errno(libc::ENODATA));
        };
        let blocks = match layout.block_bytes {
            0 => return Err(Errno(libc::ENODATA)),
            bytes => attributes.size_bytes.div_ceil(u64::from(bytes)),
        };
        let mut servers: BTreeMap<(String, String), Vec<(u64, u64)>> = BTreeMap::new();
        for block in 0..blocks.min(BLOCKS_MAX) {
            let server = self.maps.server(&layout, inode, BlockIndex(block)).await?;
            let name = (server.tier.clone(), server.endpoint.clone());
            let runs = servers.entry(name).or_default();
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == block => *last = block,
                _ => runs.push((block, block)),
            }
        }
        let mut text = String::new();
        for ((tier, endpoint), runs) in &servers {
            line(&mut text, tier, endpoint, runs);
        }
        if blocks > BLOCKS_MAX {
            let _ = writeln!(text, "of the first {BLOCKS_MAX} blocks of {blocks}");
        }
        Ok(text.into())
    }
}

/// Writing to a string does not fail.
fn line(text: &mut String, tier: &str, endpoint: &str, runs: &[(u64, u64)]) {
    let blocks: u64 = runs.iter().map(|(first, last)| last - first + 1).sum();
    let _ = write!(text, "{tier} {endpoint} {blocks}:");
    for (first, last) in runs.iter().take(RUNS_MAX) {
        let _ = match first == last {
            true => write!(text, " {first}"),
            false => write!(text, " {first}-{last}"),
        };
    }
    text.push_str(if runs.len() > RUNS_MAX {
        " ...\n"
    } else {
        "\n"
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_blocks_are_told_together() {
        let mut text = String::new();
        line(&mut text, "dram", "a:1", &[(0, 3), (7, 7)]);
        assert_eq!(text, "dram a:1 5: 0-3 7\n");
        let many: Vec<_> = (0..100).map(|block| (2 * block, 2 * block)).collect();
        line(&mut text, "nvme", "b:2", &many);
        assert!(text.ends_with("122 124 126 ...\n"), "{text}");
    }
}
