//! The last word of a storage server that was drained, where its process is started again whatever
//! its end was, as containers of a StatefulSet are.
//!
//! The word is left in files: one that outlives the process, by which the next process knows that
//! nothing is left to serve, and where wanted one that tells others (a container's termination
//! message). Without it the next process would be a new server, and take data.

use std::{fs, path::PathBuf};

use anyhow::Context;
use pocket_scaler::DRAINED;
use tracing::info;

use crate::{runtime::block_on, signals::Signals};

/// Files that the last word is left in.
#[derive(Clone, Debug)]
pub(super) struct Parting {
    files: Vec<PathBuf>,
}

impl Parting {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Parting { files }
    }

    /// Whether an earlier process was drained.
    pub(super) fn was_left(&self) -> bool {
        let says = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text == DRAINED);
        self.files.iter().any(says)
    }

    /// Leaves the word in every file.
    pub(super) fn leave(&self) -> anyhow::Result<()> {
        for file in &self.files {
            fs::write(file, DRAINED)
                .with_context(|| format!("cannot write to {}", file.display()))?;
        }
        Ok(())
    }

    /// Leaves it again, for whoever asks about this process, and waits for a signal.
    pub(super) fn wait_for_the_end(&self) -> anyhow::Result<()> {
        block_on(async {
            let mut signals = Signals::listen()?;
            self.leave()?;
            info!("{DRAINED}; waiting to be ended");
            let signal = signals.end.received().await;
            info!("{signal}: stopping");
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_found_by_the_next_process_and_no_other_word_is() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("own"), folder.path().join("told")];
        let parting = Parting::new(files.to_vec());
        assert!(!parting.was_left());
        fs::write(&files[0], "").unwrap();
        assert!(!parting.was_left());
        parting.leave().unwrap();
        assert_eq!(fs::read_to_string(&files[1]).unwrap(), DRAINED);
        fs::remove_file(&files[1]).unwrap();
        assert!(parting.was_left());
        assert!(!Parting::new(Vec::new()).was_left());
    }
}
