//! Clusters that passed a test unharmed, for the tests that follow.
//!
//! A new controller listens for some seconds before it creates jobs, so that a cluster a test
//! would cost more than the tests themselves. A cluster is used by one test at a time; what it
//! logs is that test's.

use std::sync::{Mutex, Once, PoisonError};

use super::ProcessCluster;

static IDLE: Mutex<Vec<ProcessCluster>> = Mutex::new(Vec::new());

/// A cluster without jobs, if one is idle.
pub(super) fn take() -> Option<ProcessCluster> {
    idle().pop()
}

/// For the next test, or for the end of the process.
pub(super) fn give_back(cluster: ProcessCluster) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(end_at_exit);
    idle().push(cluster);
}

fn idle() -> std::sync::MutexGuard<'static, Vec<ProcessCluster>> {
    // A panic of a test leaves the list whole.
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Statics are not dropped, but the clusters' processes and folders must not stay behind.
#[allow(unsafe_code)]
fn end_at_exit() {
    extern "C" fn end() {
        // A panic must not leave this function; there is nobody left to tell.
        let _ = std::panic::catch_unwind(|| drop(std::mem::take(&mut *idle())));
    }
    // SAFETY: the function unwinds into nobody and uses nothing that exit() has torn down.
    let registered = unsafe { libc::atexit(end) };
    debug_assert_eq!(registered, 0);
}
