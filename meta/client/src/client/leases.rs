//! Leases as a mount may use them: the time that a reply took is gone already.

use std::time::Duration;

use pocket_proto::session::{Entry, reply};

/// Shortens the leases that a reply gives, in its result and on what else was changed, by the time
/// since it was asked for. The server counts from when it answered, which was later, so that a
/// mount never trusts a lease for too long.
pub(super) fn age(result: Option<&mut reply::Result>, changed: &mut [Entry], elapsed: Duration) {
    // Rounded up, so that nothing is gained.
    let gone_ms = u32::try_from(elapsed.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
    for entry in changed {
        age_entry(entry, gone_ms);
    }
    match result {
        Some(reply::Result::Entry(entry)) => age_entry(entry, gone_ms),
        Some(reply::Result::Opened(opened)) => {
            if let Some(entry) = &mut opened.entry {
                age_entry(entry, gone_ms);
            }
        }
        Some(reply::Result::Absent(absent)) => {
            absent.name_valid_ms = absent.name_valid_ms.saturating_sub(gone_ms);
        }
        Some(reply::Result::ReadDirectory(listing)) => {
            let entries = listing.entries.iter_mut();
            for entry in entries.filter_map(|listed| listed.entry.as_mut()) {
                age_entry(entry, gone_ms);
            }
        }
        _ => {}
    }
}

fn age_entry(entry: &mut Entry, gone_ms: u32) {
    entry.attributes_valid_ms = entry.attributes_valid_ms.saturating_sub(gone_ms);
    entry.name_valid_ms = entry.name_valid_ms.saturating_sub(gone_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ends_when_it_would_have_ended_for_the_server() {
        let entry = Entry {
            attributes_valid_ms: 1000,
            name_valid_ms: 20,
            ..Entry::default()
        };
        let aged = |elapsed| {
            let mut result = reply::Result::Entry(entry.clone());
            let mut changed = [entry.clone()];
            age(Some(&mut result), &mut changed, elapsed);
            let [changed] = changed;
            assert_eq!(result, reply::Result::Entry(changed.clone()));
            (changed.attributes_valid_ms, changed.name_valid_ms)
        };
        assert_eq!(aged(Duration::from_micros(1)), (999, 19));
        assert_eq!(aged(Duration::from_millis(30)), (970, 0));
        assert_eq!(aged(Duration::MAX), (0, 0));
    }
}
