//! The secret that the servers of a cluster share: from a file or the environment, never from the
//! command line, where every user of the machine could read it.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use pocket_proto::ClusterKey;
use tracing::warn;

/// Environment variable with the passphrase itself.
pub(crate) const KEY_VARIABLE: &str = "POCKET_CLUSTER_KEY";

/// Where the cluster key comes from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterKeyArguments {
    /// File with the passphrase that all servers of the cluster share (or POCKET_CLUSTER_KEY)
    #[arg(long, value_name = "FILE", env = "POCKET_CLUSTER_KEY_FILE")]
    cluster_key_file: Option<PathBuf>,
}

impl ClusterKeyArguments {
    /// Reads the key; without one the cluster is open to whoever reaches it, with a warning.
    pub(crate) fn read(&self) -> anyhow::Result<ClusterKey> {
        let passphrase = match &self.cluster_key_file {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read the cluster key {}", path.display()))?;
                let passphrase = text.trim();
                if passphrase.is_empty() {
                    bail!("the cluster key {} is empty", path.display());
                }
                passphrase.to_owned()
            }
            None => env::var(KEY_VARIABLE).unwrap_or_default(),
        };
        if passphrase.is_empty() {
            warn!(
                "no cluster key: whoever reaches this server may use every job \
                 (set {KEY_VARIABLE} or --cluster-key-file)"
            );
            return Ok(ClusterKey::open());
        }
        Ok(ClusterKey::from_passphrase(&passphrase))
    }
}
