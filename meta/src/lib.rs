//! pocket-meta.
