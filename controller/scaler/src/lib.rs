//! Starting and ending servers as the load asks for.
//!
//! An [`Autoscaler`] has pools, of storage servers and of metadata servers. It looks at each through the
//! controller twice a second, has the pool's arbiter decide (`pocket-policy`), and acts: a [`Scaler`] starts servers, and the controller drains those
//! that shall go, which then end by themselves. It keeps nothing that matters: a new one goes on
//! from what it sees. What it decided, and why, it tells the controller, for people.
//!
//! [`conformance`] is what every scaler must do, as a function that tests call.

pub mod conformance;

mod autoscaler;
mod decisions;
mod pool;
mod scaler;
mod threads;
mod view;

pub use autoscaler::Autoscaler;
pub use pool::{AutoscaleSettings, PoolKey};
pub use scaler::{DRAINED, Instance, InstanceState, Scaler, ScalerError, StaticScaler};
