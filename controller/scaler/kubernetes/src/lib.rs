//! Storage servers as the pods of a StatefulSet.
//!
//! A [`KubernetesScaler`] has more pods by raising the set's `replicas`, and takes out those whose
//! servers have left by lowering it. A set removes its highest ordinals only, so servers are drained
//! from the top ([`pocket_scaler::Instance::rank`] is the ordinal), and `replicas` goes down by the
//! drained pods at the top, never by others. A pod says itself that its server was drained, in its
//! container's termination message; the process that Kubernetes starts in its place serves nothing
//! and waits to be ended (`pocket storage --drained-note`). A drained pod below one that serves is
//! deleted when more servers are wanted: the set makes it anew, as a fresh server.
//!
//! Pods and the set are watched; each change is decided on what was read just before it and names
//! the version that it was decided on, so that nothing is changed that somebody else has changed
//! meanwhile. Of several scalers the one that holds the Lease acts.
//!
//! What is here knows no policy: how many servers there should be is the autoscaler's to say.

mod answer;
mod backoff;
mod election;
mod pods;
mod scaler;
mod set;
mod watched;

pub use election::LeaseSettings;
pub use scaler::{KubernetesScaler, KubernetesSettings, StartError};
