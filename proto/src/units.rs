//! Units as people write them: byte counts, rates and block sizes.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A number of bytes, read from and shown as "10GiB", "1.5TB", "512".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteCount(pub u64);

/// Why a text is not a unit, with what would be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseUnitError {
    /// Not a number with a known suffix.
    #[error("'{0}' is not a size: write a number and a unit, as 10GiB, 500MB or 4096")]
    Size(String),
    /// 2^63 bytes or more.
    #[error("'{0}' is more than any file system holds: write less than 8EiB")]
    TooLarge(String),
    /// Not a block size.
    #[error("block size {0} is not a power of two from 4KiB to 16MiB: give one, as 1MiB")]
    BlockBytes(u64),
    /// Not a rate.
    #[error("'{0}' is not a rate: write bits as 8Gb/s or bytes as 1GB/s")]
    Rate(String),
    /// A rate of nothing.
    #[error("a bandwidth must be more than 0")]
    NoRate,
}

const UNITS: [(&str, u64); 17] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("pib", 1 << 50),
    ("pb", 1_000_000_000_000_000),
    ("eib", 1 << 60),
    ("eb", 1_000_000_000_000_000_000),
];

impl FromStr for ByteCount {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseUnitError::Size(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let unit = if unit == "t" { "tib" } else { unit.as_str() };
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?
            .1;
        let bytes = match number.parse::<u64>() {
            Ok(whole) => u128::from(whole) * u128::from(factor),
            Err(_) => {
                let number: f64 = number.parse().map_err(|_| wrong())?;
                (number * factor as f64) as u128
            }
        };
        match u64::try_from(bytes) {
            Ok(bytes) if bytes <= i64::MAX as u64 => Ok(ByteCount(bytes)),
            _ => Err(ParseUnitError::TooLarge(text.to_owned())),
        }
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(&str, u64); 4] = [
            ("TiB", 1 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ];
        for (unit, bytes) in STEPS {
            if self.0 >= bytes {
                return if self.0.is_multiple_of(bytes) {
                    write!(f, "{}{unit}", self.0 / bytes)
                } else {
                    write!(f, "{:.1}{unit}", self.0 as f64 / bytes as f64)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A rate, read as "8Gb/s" (bits) or "1GB/s" (bytes), shown in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bandwidth {
    /// Bytes in a second.
    pub bytes_per_second: u64,
}

impl FromStr for Bandwidth {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseUnitError::Rate(text.to_owned());
        let trimmed = text.trim();
        let amount = trimmed
            .strip_suffix("/s")
            .or_else(|| trimmed.strip_suffix("ps"))
            .unwrap_or(trimmed);
        // The case of the last letter tells bits from bytes; sizes do not know it.
        let (amount, divisor) = if let Some(bits) = amount.strip_suffix("bit") {
            (format!("{bits}b"), 8)
        } else if amount.ends_with('b') {
            (amount.to_owned(), 8)
        } else if amount.ends_with('B') {
            (amount.to_owned(), 1)
        } else {
            return Err(wrong());
        };
        let ByteCount(amount) = amount.parse().map_err(|_| wrong())?;
        match amount / divisor {
            0 => Err(ParseUnitError::NoRate),
            bytes_per_second => Ok(Bandwidth { bytes_per_second }),
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(&str, u64); 3] = [
            ("GB/s", 1_000_000_000),
            ("MB/s", 1_000_000),
            ("kB/s", 1_000),
        ];
        for (unit, bytes) in STEPS {
            if self.bytes_per_second >= bytes {
                let rate = self.bytes_per_second as f64 / bytes as f64;
                let text = format!("{rate:.2}");
                let text = text.trim_end_matches('0').trim_end_matches('.');
                return write!(f, "{text}{unit}");
            }
        }
        write!(f, "{}B/s", self.bytes_per_second)
    }
}

/// A job's block size: a power of two from 4 KiB to 16 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockBytes(u32);

impl BlockBytes {
    /// 1 MiB: half the processor time per byte of 64 KiB over TCP.
    pub const DEFAULT: BlockBytes = BlockBytes(1 << 20);

    /// Checks a size from a user or a peer.
    pub fn new(bytes: u64) -> Result<Self, ParseUnitError> {
        match u32::try_from(bytes) {
            Ok(small) if small.is_power_of_two() && (4 << 10..=16 << 20).contains(&small) => {
                Ok(BlockBytes(small))
            }
            _ => Err(ParseUnitError::BlockBytes(bytes)),
        }
    }

    /// The size in bytes.
    pub fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("10g", 10 << 30),
            ("500MB", 500_000_000),
            ("1.5 TiB", 3 << 39),
            ("64K", 64 << 10),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1..2", "10 apples", "1e9", "nan"] {
            assert!(
                matches!(text.parse::<ByteCount>(), Err(ParseUnitError::Size(_))),
                "{text}"
            );
        }
        assert_eq!(
            "7.9EiB".parse::<ByteCount>().map(|size| size.0 >> 60),
            Ok(7)
        );
        for text in ["8EiB", "16EiB", "9223372036854775808"] {
            let error = text.parse::<ByteCount>().expect_err(text).to_string();
            assert!(error.contains("write less than 8EiB"), "{error}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(ByteCount(10 << 30).to_string(), "10GiB");
        assert_eq!(ByteCount(1536).to_string(), "1.5KiB");
        assert_eq!(ByteCount(5).to_string(), "5B");
    }

    #[test]
    fn rates_tell_bits_from_bytes() {
        for (text, bytes_per_second) in [
            ("8Gb/s", 1_000_000_000),
            ("8Gbps", 1_000_000_000),
            ("8 Gbit/s", 1_000_000_000),
            ("1GB/s", 1_000_000_000),
            ("1GBps", 1_000_000_000),
            ("1GiB/s", 1 << 30),
            ("600Mb", 75_000_000),
            ("1.5MB/s", 1_500_000),
        ] {
            assert_eq!(text.parse(), Ok(Bandwidth { bytes_per_second }), "{text}");
        }
        for text in ["", "8", "8/s", "fast", "8G", "8Gx/s", "-8Gb/s", "b/s"] {
            assert_eq!(
                text.parse::<Bandwidth>(),
                Err(ParseUnitError::Rate(text.to_owned())),
                "{text}"
            );
        }
        assert_eq!("0Gb/s".parse::<Bandwidth>(), Err(ParseUnitError::NoRate));
    }

    #[test]
    fn rates_are_shown_in_bytes() {
        for (bytes_per_second, text) in [
            (1_000_000_000, "1GB/s"),
            (75_000_000, "75MB/s"),
            (1_250_000, "1.25MB/s"),
            (12, "12B/s"),
            (0, "0B/s"),
        ] {
            assert_eq!(Bandwidth { bytes_per_second }.to_string(), text);
        }
    }

    #[test]
    fn block_size_is_a_power_of_two_in_range() {
        assert_eq!(BlockBytes::new(1 << 16).map(BlockBytes::get), Ok(1 << 16));
        for bytes in [0, 1, 4095, 3 << 20, 32 << 20, u64::MAX] {
            assert!(BlockBytes::new(bytes).is_err());
        }
    }
}
