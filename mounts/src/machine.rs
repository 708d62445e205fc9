//! What this machine has: memory that a store may take, and the name it goes by.

use std::{fs, thread};

use pocket_proto::ByteCount;

/// Where nothing can be found out: little, so that nobody is hurt.
const MEMORY_UNKNOWN: u64 = 1 << 30;
/// A store gets one part in so many of the memory that is free.
const MEMORY_SHARE: u64 = 2;

/// The memory that a store may take unless told otherwise: half of what is available.
pub(crate) fn memory_for_stores() -> ByteCount {
    let ByteCount(free) = available_memory();
    // Whole MiB read better.
    ByteCount((free / MEMORY_SHARE) >> 20 << 20)
}

/// Cores that a process may use here, if that can be found out.
pub(crate) fn cores() -> Option<u32> {
    let cores = thread::available_parallelism().ok()?;
    u32::try_from(cores.get()).ok()
}

/// All memory of this machine, if it can be found out: more can never be stored in it.
pub(crate) fn total_memory() -> Option<ByteCount> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    amount(&table, "MemTotal:").map(ByteCount)
}

/// The memory that is available, within the limit of the control group (a container's).
pub(crate) fn available_memory() -> ByteCount {
    let text = |path| fs::read_to_string(path).ok();
    let machine = text("/proc/meminfo").and_then(|table| amount(&table, "MemAvailable:"));
    let group = limit_left(
        text("/sys/fs/cgroup/memory.max").as_deref(),
        text("/sys/fs/cgroup/memory.current").as_deref(),
    );
    ByteCount(match (machine, group) {
        (Some(machine), Some(group)) => machine.min(group),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => MEMORY_UNKNOWN,
    })
}

/// The name of this host, for people.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    let name = name.and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".to_owned())
}

fn amount(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// "max" means no limit.
fn limit_left(limit: Option<&str>, used: Option<&str>) -> Option<u64> {
    let limit: u64 = limit?.trim().parse().ok()?;
    let used: u64 = used?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_the_table() {
        let table = "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\nX: 1\n";
        assert_eq!(amount(table, "MemAvailable:"), Some(2 << 20));
        assert_eq!(amount(table, "MemTotal:"), Some(100 << 10));
        assert_eq!(amount("MemTotal: 1 kB", "MemAvailable:"), None);
        assert_eq!(amount("MemTotal: many kB", "MemTotal:"), None);
    }

    #[test]
    fn a_control_group_limits_where_it_has_a_limit() {
        assert_eq!(limit_left(Some("100\n"), Some("30\n")), Some(70));
        assert_eq!(limit_left(Some("100"), Some("300")), Some(0));
        assert_eq!(limit_left(Some("max\n"), Some("30")), None);
        assert_eq!(limit_left(None, None), None);
    }
}
