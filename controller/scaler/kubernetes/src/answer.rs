//! What the API server says when it does not do what it is asked.

use kube::Error;

/// What is asked for is not there.
pub(crate) const NOT_FOUND: u16 = 404;
/// It has changed since it was read.
pub(crate) const CONFLICT: u16 = 409;
/// What happened since then is no longer remembered.
pub(crate) const GONE: u16 = 410;

/// The code of HTTP that it answered with; none if it did not answer.
pub(crate) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// For people.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("{} ({})", status.message.trim(), status.code),
        error => error.to_string(),
    }
}
