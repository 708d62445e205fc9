//! The soak, for as long as a test may take; `cargo run -p pocket-tests --example soak` is for longer.

use std::time::Duration;

use pocket_tests::{can_mount, soak::soak};

const LENGTH: Duration = Duration::from_secs(20);

#[test]
fn memory_descriptors_and_gauges_stay_flat_under_a_mixed_load() {
    if can_mount() {
        let grown: Vec<_> = soak(LENGTH)
            .into_iter()
            .filter(|row| !row.is_flat())
            .collect();
        assert!(grown.is_empty(), "{grown:#?}");
    }
}
