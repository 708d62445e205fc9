//! Money, in integers: prices in nanodollars per hour, costs in nanodollars per hour times
//! milliseconds, so that no sum of small amounts is rounded away.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign},
    str::FromStr,
};

use thiserror::Error;

/// Nanodollars in a dollar.
const NANODOLLARS: u64 = 1_000_000_000;
/// Milliseconds in an hour.
const HOUR_MS: u128 = 3_600_000;
/// No machine costs more than a million dollars an hour.
const DOLLARS_MAX: u64 = 1_000_000;

/// What something costs in an hour: nanodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(pub u64);

/// Why a text is not a price, with what would be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PriceError {
    /// Not a decimal number.
    #[error("'{0}' is not a price: write dollars per hour, as \"0.532\"")]
    NotANumber(String),
    /// More than any machine costs.
    #[error("a price of {0} dollars an hour is more than {DOLLARS_MAX}: is it per hour?")]
    TooHigh(String),
}

impl Price {
    /// What `amount` of something costs of which `per` costs this much; rounded up.
    pub fn of(self, amount: u64, per: u64) -> Price {
        let exact = (u128::from(self.0) * u128::from(amount)).div_ceil(u128::from(per.max(1)));
        Price(u64::try_from(exact).unwrap_or(u64::MAX))
    }

    /// What is left of this price without `part`.
    pub fn without(self, part: Price) -> Price {
        Price(self.0.saturating_sub(part.0))
    }

    /// So many of them.
    pub fn times(self, count: u64) -> Price {
        Price(self.0.saturating_mul(count))
    }

    /// The cost of so many milliseconds.
    pub fn over_ms(self, milliseconds: u64) -> Cost {
        Cost(u128::from(self.0) * u128::from(milliseconds))
    }

    /// In dollars per hour, for people and plots.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / NANODOLLARS as f64
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let wrong = || PriceError::NotANumber(text.to_owned());
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(wrong());
        }
        let dollars: u64 = match whole.parse() {
            Ok(dollars) if dollars <= DOLLARS_MAX => dollars,
            _ => return Err(PriceError::TooHigh(text.to_owned())),
        };
        let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
        Ok(Price(dollars * NANODOLLARS + fraction))
    }
}

/// "$0.5320/h".
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}/h", self.dollars())
    }
}

impl Add for Price {
    type Output = Price;

    fn add(self, other: Price) -> Price {
        Price(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Price {
    fn add_assign(&mut self, other: Price) {
        *self = *self + other;
    }
}

impl Sum for Price {
    fn sum<I: Iterator<Item = Price>>(prices: I) -> Price {
        prices.fold(Price(0), Add::add)
    }
}

/// What something has cost: nanodollars per hour times milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(u128);

impl Cost {
    /// In nanodollars, rounded up.
    pub fn nanodollars(self) -> u64 {
        u64::try_from(self.0.div_ceil(HOUR_MS)).unwrap_or(u64::MAX)
    }

    /// In dollars, for people and plots.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / HOUR_MS as f64 / NANODOLLARS as f64
    }
}

/// "$0.0123".
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}", self.dollars())
    }
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_exactly() {
        for (text, nanodollars) in [
            ("0.532", 532_000_000),
            ("1.705", 1_705_000_000),
            ("0", 0),
            ("12", 12_000_000_000),
            ("0.000000001", 1),
            ("1000000", 1_000_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Price(nanodollars)), "{text}");
        }
        for text in ["", ".5", "-1", "1e3", "nan", "0.0000000001", "1,5", "$1"] {
            let error = text.parse::<Price>().expect_err(text);
            assert!(error.to_string().contains("as \"0.532\""), "{error}");
        }
        let error = "99999999999999999999".parse::<Price>().expect_err("absurd");
        assert!(error.to_string().contains("per hour?"), "{error}");
    }

    #[test]
    fn small_amounts_add_up_to_the_nanodollar() {
        let second = Price(1).over_ms(1_000);
        let hour = (0..3_600).fold(Cost::default(), |sum, _| sum + second);
        assert_eq!(hour.nanodollars(), 1);
        assert_eq!(second.nanodollars(), 1, "rounded up, never given away");
        assert_eq!(Price(3).of(1, 2), Price(2));
        assert_eq!(Price(600).of(1, 60), Price(10));
        assert_eq!(Price(532_000_000).to_string(), "$0.5320/h");
        assert_eq!(Price(532_000_000).over_ms(1_800_000).to_string(), "$0.2660");
        assert_eq!(Price(5).without(Price(7)) + Price(2), Price(2));
        let total: Price = [Price(1), Price(2).times(3)].into_iter().sum();
        assert_eq!(total, Price(7));
    }
}
