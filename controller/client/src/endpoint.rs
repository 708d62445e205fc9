//! The controller's endpoint as people write it.

use tonic::transport::Uri;

use crate::ControllerError;

/// Port of a controller where the endpoint names none.
pub const DEFAULT_PORT: u16 = 7300;

/// Reads "host", "host:port" or "http://host:port" as "host:port".
pub fn parse(endpoint: &str) -> Result<String, ControllerError> {
    let wrong = |reason: &str| ControllerError::Endpoint {
        endpoint: endpoint.to_owned(),
        reason: reason.to_owned(),
    };
    let text = endpoint.trim();
    let text = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(wrong(&format!("scheme {scheme} is not offered"))),
        None => text,
    };
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return Err(wrong("it names no host"));
    }
    if text.contains(['/', '?', '#', '@']) {
        return Err(wrong("it has more than a host and a port"));
    }
    let uri: Uri = format!("http://{text}")
        .parse()
        .map_err(|error| wrong(&format!("{error}")))?;
    let host = match uri.host() {
        Some(host) if !host.is_empty() => host,
        _ => return Err(wrong("it names no host")),
    };
    match uri.port_u16() {
        Some(0) => Err(wrong("port 0 is nobody's")),
        Some(port) => Ok(format!("{host}:{port}")),
        None if text.ends_with(host) => Ok(format!("{host}:{DEFAULT_PORT}")),
        None => Err(wrong("its port is not a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        for (text, endpoint) in [
            ("10.0.0.1:7300", "10.0.0.1:7300"),
            ("http://c.example:81/", "c.example:81"),
            ("localhost", "localhost:7300"),
            ("http://localhost", "localhost:7300"),
            ("[::1]:7300", "[::1]:7300"),
            ("[::1]", "[::1]:7300"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(endpoint), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_way_to_write_one() {
        for text in [
            "",
            "  ",
            ":7300",
            "http://",
            "https://c:1",
            "c:99999",
            "c:x",
            "c:0",
            "a/b",
            "u@c:1",
            "a b",
            "c:1:2",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("HOST:PORT"), "{text}: {error}");
        }
    }
}
