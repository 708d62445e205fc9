//! What happens to servers and mounts while programs use them.

use std::time::Duration;

use nix::sys::signal::Signal;
use pocket_tests::{Mount, ProcessCluster};

use super::{pause, place::Place};

/// Shorter than the lease time of five seconds.
const SHORT: Duration = Duration::from_secs(1);
/// Longer than the lease time: sessions end.
const LONG: Duration = Duration::from_secs(6);
/// Between two faults.
const CALM: Duration = Duration::from_millis(1200);

/// Excuses what faults make servers and mounts say.
pub(super) fn expect(cluster: &mut ProcessCluster) {
    cluster.expect_loss();
    cluster.expect_in_logs("session");
}

/// One fault after the other.
pub(super) fn play(cluster: &mut ProcessCluster, mounts: &mut [Mount], places: &[Place]) {
    pause(CALM);
    cluster.storage(0).process().freeze();
    pause(SHORT);
    cluster.storage(0).process().thaw();

    pause(CALM);
    stop(&mut mounts[1]);
    pause(SHORT);
    mounts[1].process().thaw();
    // A mount that is silent and one that dies, each with what the others want.
    pause(CALM);
    stop(&mut mounts[1]);
    let closed = kill(&mut mounts[2], &places[2]);
    pause(LONG);
    mounts[1].process().thaw();
    // Not before: a new process closes its copies of this one's files, which asks their mounts.
    mounts[2].restart();
    drop(closed);

    for time in [SHORT, LONG] {
        pause(CALM);
        cluster.metadata().process().freeze();
        pause(time);
        cluster.metadata().process().thaw();
    }

    pause(CALM);
    let closed = kill(&mut mounts[0], &places[0]);
    mounts[0].restart();
    drop(closed);
    // Others may wait until its lease has ended.
    pause(LONG);
    // What this one has in memory is lost.
    cluster.storage(0).restart();
    cluster.wait_ready();
    pause(CALM);
}

fn stop(mount: &mut Mount) {
    // Not all of its threads stop if one waits in the kernel for what a stopped one has to answer.
    mount.process().signal(Signal::SIGSTOP);
}

/// Kills a mount whose programs are in the midst of something. When they have heard of it they wait
/// for another.
fn kill<'a>(mount: &mut Mount, place: &'a Place) -> impl Drop + use<'a> {
    mount.process().kill();
    place.close()
}
