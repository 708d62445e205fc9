//! What a mount does unasked: gives back what it does not need, tells what nobody waits for, and
//! writes back what was written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pocket_proto::session::{ShareDirectory, request};

use crate::FileSystem;

/// How often an idle mount returns space it was granted and does not need.
const GRANT_RETURN_INTERVAL: Duration = Duration::from_millis(500);
/// What is written is on the servers, and told of, in about so long, closed or not: as often as Linux
/// writes back (dirty_writeback_centisecs). syncfs(2) and sync(1) do not reach this file system, as
/// Linux passes them on to virtiofs and block devices only.
const WRITE_BACK_INTERVAL: Duration = Duration::from_secs(5);
/// What nobody waits for is told after this at the latest; well below the tenth of a lease that the
/// server allows for the way.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// What the kernel keeps without a limit of time it drops so long before the lease ends: the above, and
/// room for being late.
const KERNEL_MARGIN: Duration = Duration::from_millis(300);

impl FileSystem {
    /// Returns unused grants, writes back what was written, and has the kernel drop what it
    /// would keep beyond its lease, while the mount lives. To be spawned once.
    pub async fn run_housekeeping(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TELL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut returned = Instant::now();
        let mut returning = tokio::spawn(async {});
        let mut writing_back = tokio::spawn(async {});
        let mut wrote_back = tokio::time::Instant::now();
        loop {
            ticks.tick().await;
            if wrote_back.elapsed() >= WRITE_BACK_INTERVAL && writing_back.is_finished() {
                wrote_back = tokio::time::Instant::now();
                writing_back = tokio::spawn(Arc::clone(&self).write_back());
            }
            self.return_directories();
            self.exclusive.settle(|| self.metadata.is_settled());
            self.metadata.flush();
            let listings = match self.metadata.in_touch_for() < KERNEL_MARGIN {
                true => self.kernel_listings.end_all(),
                false => self.kernel_listings.end_lapsing(KERNEL_MARGIN),
            };
            if !listings.is_empty() {
                self.start_dropping_listings(listings);
            }
            for inode in self.kernel_acls.take_due(KERNEL_MARGIN) {
                self.kernel().drop_attributes(inode);
            }
            // Not waited for: what the kernel holds is dropped in time whatever the server does.
            if returned.elapsed() >= GRANT_RETURN_INTERVAL && returning.is_finished() {
                returned = Instant::now();
                let fs = Arc::clone(&self);
                returning = tokio::spawn(async move {
                    if let Err(failure) = fs.space.return_unused().await {
                        tracing::debug!(%failure, "unused grant not returned");
                    }
                });
            }
        }
    }

    /// Tells the server of directories that this mount has to itself and makes nothing of any more.
    fn return_directories(&self) {
        let evicted = self.exclusive.take_evicted();
        if evicted.is_empty() {
            return;
        }
        for directory in evicted {
            let share = request::Operation::ShareDirectory(ShareDirectory { inode: directory.0 });
            if let Err(failure) = self.metadata.tell_soon(share) {
                tracing::debug!(%failure, "directory not returned");
            }
        }
        self.exclusive.returned(self.inodes.tick());
    }
}
