//! What happens to servers and mounts while programs use them.

use std::time::Duration;

use nix::sys::signal::Signal;
use pocket_tests::{Mount, ProcessCluster, Shape};

use super::pause;

/// Shorter than the lease time of five seconds.
const SHORT: Duration = Duration::from_secs(2);
/// Longer than the lease time: sessions end.
const LONG: Duration = Duration::from_secs(7);
/// Between two faults.
const CALM: Duration = Duration::from_millis(1500);

/// The cluster that suffers them.
pub(super) fn shape() -> Shape {
    Shape {
        storage_servers: 2,
        ..Shape::default()
    }
}

/// Excuses what faults make servers and mounts say.
pub(super) fn expect(cluster: &mut ProcessCluster) {
    cluster.expect_loss();
    cluster.expect_in_logs("session");
}

/// One fault after the other.
pub(super) fn play(cluster: &mut ProcessCluster, mounts: &mut [Mount]) {
    pause(CALM);
    cluster.storage(0).process().freeze();
    pause(SHORT);
    cluster.storage(0).process().thaw();
    pause(CALM);
    for time in [SHORT, LONG] {
        // Not all of its threads stop if one waits in the kernel for what a stopped one has to answer.
        mounts[1].process().signal(Signal::SIGSTOP);
        pause(time);
        mounts[1].process().thaw();
        pause(CALM);
    }
    for time in [SHORT, LONG] {
        cluster.metadata().process().freeze();
        pause(time);
        cluster.metadata().process().thaw();
        pause(CALM);
    }
}
