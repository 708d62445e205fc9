//! pocket-fs.
