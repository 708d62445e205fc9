//! pocket-controller.
