//! Where a client finds its mount.

use std::{
    path::{Path, PathBuf},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// A mount point. While a dead mount there gives way to a new one, no client goes by: it would find
/// the folder below.
pub(super) struct Place(RwLock<PathBuf>);

impl Place {
    pub(super) fn new(path: &Path) -> Self {
        Place(RwLock::new(path.to_owned()))
    }

    /// The mounted directory, whose names are followed as long as this is held. Never for two places
    /// at once.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, PathBuf> {
        self.0.read().unwrap()
    }

    /// Waits until every client has left, and keeps them out.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, PathBuf> {
        self.0.write().unwrap()
    }
}
