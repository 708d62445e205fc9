//! Units of the command line that `pocket-proto` does not need: times as people write them.

use std::{ops::RangeInclusive, time::Duration};

use pocket_proto::{Bandwidth, BlockBytes, ByteCount};
use thiserror::Error;

/// The longest lease of a job without a mount: a week. Longer than that is `--keep`.
const LEASE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest time that a job persists without a mount: a year.
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a server's network can move: 1 Mb/s to 10 Tb/s.
const SERVER_BYTES_PER_SECOND: RangeInclusive<u64> = 125_000..=1_250_000_000_000;

/// Why a text of the command line is not what it should be, with what would be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a time.
    #[error("'{0}' is not a time: write a number and a unit, as 60s, 5m or 2h")]
    Time(String),
    /// A lease nobody could mean.
    #[error("a lease of {0} is not between 1s and 7 days (--keep leaves the job alive for ever)")]
    Lease(String),
    /// A time to live nobody could mean.
    #[error("a time to live of {0} is not between 1s and 365 days")]
    Ttl(String),
    /// Nobody waits for so long.
    #[error("{0} is longer than a job may wait for room, 7 days")]
    Wait(String),
    /// Zero where something is needed.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// No network moves that.
    #[error("'{0}' is not from 1Mb/s to 10Tb/s: give what the server's network moves, as 8Gb/s")]
    ServerBandwidth(String),
    /// Not a size, or not a block size.
    #[error(transparent)]
    Size(#[from] pocket_proto::ParseUnitError),
}

/// Reads a job's lease: "60s", "5m", "2h", "1d", or bare seconds.
pub(crate) fn parse_lease(text: &str) -> Result<Duration, UnitError> {
    let time = parse_time(text)?;
    if time < Duration::from_secs(1) || time > LEASE_MAX {
        return Err(UnitError::Lease(text.trim().to_owned()));
    }
    Ok(time)
}

/// Reads how long a job persists, written as a lease is.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration, UnitError> {
    let time = parse_time(text)?;
    if time < Duration::from_secs(1) || time > TTL_MAX {
        return Err(UnitError::Ttl(text.trim().to_owned()));
    }
    Ok(time)
}

/// Reads how long to wait in the queue, written as a lease is; at most a lease's longest.
pub(crate) fn parse_wait(text: &str) -> Result<Duration, UnitError> {
    let time = parse_time(text)?;
    match time > LEASE_MAX {
        true => Err(UnitError::Wait(text.trim().to_owned())),
        false => Ok(time),
    }
}

/// Reads a capacity or a budget: a size of more than nothing.
pub fn parse_capacity(text: &str) -> Result<ByteCount, UnitError> {
    match text.parse()? {
        ByteCount(0) => Err(UnitError::Zero("a size")),
        size => Ok(size),
    }
}

/// Reads what a server's network moves.
pub fn parse_server_bandwidth(text: &str) -> Result<Bandwidth, UnitError> {
    let rate: Bandwidth = text.parse()?;
    match SERVER_BYTES_PER_SECOND.contains(&rate.bytes_per_second) {
        true => Ok(rate),
        false => Err(UnitError::ServerBandwidth(text.trim().to_owned())),
    }
}

/// Reads a block size: a power of two from 4KiB to 16MiB.
pub(crate) fn parse_block_bytes(text: &str) -> Result<BlockBytes, UnitError> {
    let ByteCount(bytes) = text.parse()?;
    Ok(BlockBytes::new(bytes)?)
}

/// A span of time as people read it: "45s", "3m 20s", "2h 5m", "3d 4h".
pub(crate) fn show_seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// A moment as "2026-11-20 06:45", UTC.
pub(crate) fn show_time(seconds_since_epoch: i64) -> String {
    let days = seconds_since_epoch.div_euclid(86_400);
    let minutes = seconds_since_epoch.rem_euclid(86_400) / 60;
    let (year, month, day) = civil_date(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        minutes / 60,
        minutes % 60
    )
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar: years begin in March, so
/// that a leap day is the last of its year; an era is 400 years.
fn civil_date(days: i64) -> (i64, i64, i64) {
    // From the first of March of the year 0.
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Reads a time: "60s", "5m", "2h", "1d", or bare seconds.
pub fn parse_time(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Time(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim() {
        "" | "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(factor)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_times_within_a_week() {
        for (text, seconds) in [
            ("60s", 60),
            ("60", 60),
            ("5m", 300),
            ("2h", 7200),
            ("7d", 604_800),
        ] {
            assert_eq!(
                parse_lease(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in ["", "s", "1.5s", "5 weeks", "-1s", "99999999999999999999s"] {
            assert_eq!(
                parse_lease(text),
                Err(UnitError::Time(text.to_owned())),
                "{text}"
            );
        }
        for text in ["0s", "8d"] {
            assert_eq!(
                parse_lease(text),
                Err(UnitError::Lease(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_is_no_capacity() {
        assert_eq!(parse_capacity("0GiB"), Err(UnitError::Zero("a size")));
        assert_eq!(parse_capacity("1KiB"), Ok(ByteCount(1024)));
        for text in ["0", "1kb/s", "11Tb/s"] {
            let error = parse_server_bandwidth(text).expect_err(text).to_string();
            assert!(error.contains("as 8Gb/s"), "{error}");
        }
        assert!(parse_server_bandwidth("8Gb/s").is_ok());
        assert!(parse_block_bytes("3KiB").is_err());
        assert_eq!(parse_block_bytes("64KiB").map(BlockBytes::get), Ok(65_536));
    }

    #[test]
    fn moments_are_shown_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_795_157_100, "2026-11-20 06:45"),
            (4_107_542_399, "2100-02-28 23:59"),
        ] {
            assert_eq!(show_time(seconds), text);
        }
    }

    #[test]
    fn times_are_shown_with_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (200, "3m 20s"),
            (7500, "2h 5m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(show_seconds(seconds), text);
        }
    }
}
