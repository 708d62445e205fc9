//! Removing one object, or a directory with all that is in it.

use std::{sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pocket_fs::{Errno, FileSystem};
use pocket_proto::InodeId;

use super::path::show_name;

/// Between two questions how far a removal is: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
const REDRAWS_PER_SECOND: u8 = 8;

/// What could not be removed, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove '{name}': {errno}")]
pub(crate) struct RemoveError {
    name: String,
    errno: Errno,
}

impl RemoveError {
    fn new(name: &[u8], errno: Errno) -> Self {
        RemoveError {
            name: show_name(name),
            errno,
        }
    }
}

/// Removes a name that is not a directory.
pub(crate) async fn remove(
    fs: &Arc<FileSystem>,
    parent: InodeId,
    name: &[u8],
) -> Result<(), RemoveError> {
    let removed = fs.unlink(parent, name).await;
    removed.map_err(|errno| RemoveError::new(name, errno))
}

/// Removes the directory that `parent` has as `name`, and everything below it, with one request to
/// the metadata server. Says how many names are gone when all of them are.
pub(crate) async fn remove_tree(
    fs: &Arc<FileSystem>,
    parent: InodeId,
    name: &[u8],
) -> Result<u64, RemoveError> {
    let failed = |errno| RemoveError::new(name, errno);
    let mut removal = fs.remove_tree(parent, name).await.map_err(failed)?;
    let bar = progress();
    let mut pause = PAUSE_MIN;
    while !removal.done {
        bar.set_position(removal.removed);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        removal = fs.removal(removal.removal).await.map_err(failed)?;
    }
    bar.finish_and_clear();
    Ok(removal.removed)
}

/// Shows how many are gone, where standard error is a terminal.
fn progress() -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(None, target);
    let style =
        ProgressStyle::with_template("removing {spinner} {human_pos} names gone, {per_sec}");
    bar.set_style(style.expect("the template is a constant"));
    bar
}
