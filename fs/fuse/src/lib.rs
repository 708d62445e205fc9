//! pocket-fuse.
