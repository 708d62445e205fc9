//! Messages and services generated from `schema/*.proto`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]

pub use self::control::v1 as control_v1;
pub use self::session::v1 as session_v1;

// The generated code names its neighbours by their package path, so the modules follow it.
mod control {
    pub mod v1 {
        tonic::include_proto!("pocket.control.v1");
    }
}

mod session {
    pub mod v1 {
        tonic::include_proto!("pocket.session.v1");
    }
}
