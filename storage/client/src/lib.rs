//! pocket-storage-client.
