//! Figures as they stand in sentences for people.

use std::time::Duration;

/// A size that people may type back, in four digits or more: unlike the rounded `ByteCount` never more
/// than it is.
pub(crate) fn at_most(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let Some((unit, size)) = UNITS.into_iter().find(|(_, size)| bytes >= *size) else {
        return format!("{bytes}B");
    };
    let whole = bytes / size;
    let decimals = match whole {
        0..10 => 3,
        10..100 => 2,
        100..1_000 => 1,
        _ => return format!("{whole}{unit}"),
    };
    let parts = u128::from(bytes % size) * 10u128.pow(decimals) / u128::from(size);
    let text = format!("{whole}.{parts:0width$}", width = decimals as usize);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
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
            prop_assert!(suggested.0 >= bytes - bytes / 999);
        }
    }

    #[test]
    fn sizes_and_ages_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (4 << 30, "4GiB"),
            ((4 << 30) - 1, "3.999GiB"),
            (1500, "1.464KiB"),
            (225_792 << 10, "220.5MiB"),
            ((10 << 20) + (52 << 10), "10.05MiB"),
            (999 << 20, "999MiB"),
            (1_001 << 40, "1001TiB"),
            (1 << 10, "1KiB"),
            (1_023, "1023B"),
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
