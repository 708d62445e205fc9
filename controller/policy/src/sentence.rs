//! Figures as they stand in sentences for people.

use std::time::Duration;

/// A size that people may type back: unlike the rounded `ByteCount` never more than it is.
pub(crate) fn at_most(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    for (unit, size) in UNITS {
        // Whole units, or so many of them that what is cut off does not matter.
        if bytes >= size && (bytes.is_multiple_of(size) || bytes / size >= 1_000) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// "12 s", "3 min", "5 h", "2 days".
pub fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// "1 storage server", "2 storage servers".
pub(crate) fn storage_servers(count: usize) -> String {
    match count {
        1 => "1 storage server".to_owned(),
        _ => format!("{count} storage servers"),
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::ByteCount;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_suggested_size_fits_and_wastes_little(bytes in 0..=i64::MAX as u64) {
            let suggested: ByteCount = at_most(bytes).parse().expect("people can type it back");
            prop_assert!(suggested.0 <= bytes);
            prop_assert!(suggested.0 >= bytes - bytes / 500);
        }
    }

    #[test]
    fn sizes_and_ages_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (4 << 30, "4GiB"),
            ((4 << 30) - 1, "4095MiB"),
            (1500, "1500B"),
        ] {
            assert_eq!(at_most(bytes), text);
        }
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (180, "3 min"),
            (7_200, "2 h"),
            (1 << 20, "12 days"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
