//! pocket-meta-client.
