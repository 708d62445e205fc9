//! The protocol version: one number for frames and services together.

/// Version of everything on the wire. Peers of different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 1;
