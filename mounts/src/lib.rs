//! pocket-mounts.
