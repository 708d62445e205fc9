//! Endpoints as people write them: "host:port", "host", or a URL of the controller.

use std::{fmt, str::FromStr};

use pocket_controller_client::DEFAULT_PORT;
use thiserror::Error;

/// A controller's address, "host:port". Read from "host:port", "host" (port 7300) and
/// "http://host:port"; IPv6 addresses stand in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControllerAddress(String);

/// Not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not a controller's address: write host:port, as 127.0.0.1:7300")]
pub(crate) struct AddressError(String);

impl ControllerAddress {
    /// The address as "host:port".
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ControllerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AddressError(text.to_owned());
        let address = text.trim();
        let address = ["http://", "grpc://", "pocket://"]
            .iter()
            .find_map(|scheme| address.strip_prefix(scheme))
            .unwrap_or(address);
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = match address.rsplit_once(':') {
            // A bracket behind the colon: the colon belongs to an IPv6 address.
            Some((_, behind)) if behind.ends_with(']') => (address, DEFAULT_PORT),
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (address, DEFAULT_PORT),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let sound = !host.is_empty() && (bracketed || host.chars().all(plain));
        if !sound || port == 0 {
            return Err(wrong());
        }
        Ok(ControllerAddress(format!("{host}:{port}")))
    }
}

impl fmt::Display for ControllerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("127.0.0.1:7300", "127.0.0.1:7300"),
            ("http://10.0.0.1:80", "10.0.0.1:80"),
            ("http://controller/", "controller:7300"),
            (
                "pocket-controller.default.svc",
                "pocket-controller.default.svc:7300",
            ),
            ("[::1]:9", "[::1]:9"),
            ("[::1]", "[::1]:7300"),
        ] {
            assert_eq!(
                text.parse::<ControllerAddress>().map(|a| a.to_string()),
                Ok(address.to_owned()),
                "{text}"
            );
        }
        for text in [
            "",
            ":7300",
            "host:",
            "host:0",
            "host:99999",
            "a b:1",
            "::1",
            "h/p:1",
        ] {
            assert_eq!(
                text.parse::<ControllerAddress>(),
                Err(AddressError(text.to_owned())),
                "{text}"
            );
        }
    }
}
