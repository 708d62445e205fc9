//! pocket-tests.
