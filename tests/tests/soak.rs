//! The soak, for as long as a test may take; `cargo run -p pocket-tests --example soak` is for longer,
//! and looks at memory and at what servers count as well, which take more than this to warm up.

use std::time::Duration;

use pocket_tests::{can_mount, soak::soak};

const LENGTH: Duration = Duration::from_secs(20);

#[test]
fn descriptors_and_threads_stay_as_many_under_a_mixed_load() {
    if can_mount() {
        let rows = soak(LENGTH);
        let of_processes = |gauge: &str| ["process_open_fds", "process_threads"].contains(&gauge);
        let looked_at = rows.iter().filter(|row| of_processes(&row.gauge));
        let (flat, grown): (Vec<_>, Vec<_>) = looked_at.partition(|row| row.is_flat());
        assert!(grown.is_empty() && !flat.is_empty(), "{grown:#?}");
    }
}
