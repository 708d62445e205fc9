//! pocket-controller-client.
