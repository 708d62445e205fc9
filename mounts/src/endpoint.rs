//! The controller's address as an argument of the command line.

use std::{fmt, str::FromStr};

use clap::Args;
use pocket_controller_client::{ControllerClient, ControllerError, parse_endpoint};

/// A controller's address, "host:port"; read as `pocket-controller-client` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerAddress(String);

impl ControllerAddress {
    /// The address as "host:port".
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which cluster is meant.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgument {
    /// The cluster's controller
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "POCKET_CONTROLLER",
        default_value = "127.0.0.1:7300"
    )]
    pub controller: ControllerAddress,
}

impl ControllerArgument {
    /// A client; must be called within a runtime.
    pub fn connect(&self) -> Result<ControllerClient, ControllerError> {
        ControllerClient::connect(self.controller.as_str())
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
