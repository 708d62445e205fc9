//! The controller's address as an argument of the command line.

use std::{fmt, str::FromStr};

use pocket_controller_client::{ControllerError, parse_endpoint};

/// A controller's address, "host:port"; read as `pocket-controller-client` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerAddress(String);

impl ControllerAddress {
    /// The address as "host:port".
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ControllerAddress {
    type Err = ControllerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_endpoint(text).map(ControllerAddress)
    }
}

impl fmt::Display for ControllerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
