//! pocket-wire.
