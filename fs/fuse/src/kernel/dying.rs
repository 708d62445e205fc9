//! Whether a thread is about to die of a signal, as /proc tells.

use std::fs;

/// A bit of a set of signals as /proc writes it.
const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Signals that end no process that does not ask for it.
const HARMLESS: u64 = bit(libc::SIGCHLD)
    | bit(libc::SIGCONT)
    | bit(libc::SIGURG)
    | bit(libc::SIGWINCH)
    | bit(libc::SIGSTOP)
    | bit(libc::SIGTSTP)
    | bit(libc::SIGTTIN)
    | bit(libc::SIGTTOU);

/// Whether the thread dies as soon as it no longer waits. A thread that cannot be looked at (0: it
/// lives in a container that this process does not see into) is taken to live.
pub(crate) fn is_dying(thread: u32) -> bool {
    if thread == 0 {
        return false;
    }
    fs::read_to_string(format!("/proc/{thread}/status")).is_ok_and(|status| dies(&status))
}

fn dies(status: &str) -> bool {
    let set = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0)
    };
    let pending = set("SigPnd") | set("ShdPnd");
    let survived = set("SigBlk") | set("SigIgn") | set("SigCgt") | HARMLESS;
    // The kernel turns most deadly signals into this one for every thread of the process.
    let killed = pending & bit(libc::SIGKILL) != 0;
    killed || pending & !survived != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, caught: u64) -> String {
        format!(
            "Name:\tcat\nSigQ:\t0/96365\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\n\
             SigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{caught:016x}\n",
            0, 0, 0
        )
    }

    #[test]
    fn a_thread_dies_of_signals_that_it_does_not_handle() {
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
            assert!(dies(&status(bit(signal), 0)), "{signal}");
        }
        assert!(dies(&status(bit(libc::SIGKILL), u64::MAX)));
    }

    #[test]
    fn a_thread_lives_on_after_what_it_handles_and_what_harms_nobody() {
        assert!(!dies(&status(0, 0)));
        assert!(!dies(&status(bit(libc::SIGALRM), bit(libc::SIGALRM))));
        for signal in [libc::SIGCHLD, libc::SIGTSTP, libc::SIGWINCH] {
            assert!(!dies(&status(bit(signal), 0)), "{signal}");
        }
        assert!(!dies(""));
        assert!(!is_dying(0) && !is_dying(std::process::id()));
    }
}
