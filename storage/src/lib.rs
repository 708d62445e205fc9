//! pocket-storage.
