//! What other programs of Pocket have in common with these: how they read arguments, log, and hear
//! signals. Nothing is done here.

pub use crate::{
    endpoint::{ControllerAddress, ControllerArgument},
    logging::{Log, Verbosity},
    runtime::block_on,
    signals::{EndSignals, LevelRequests, Signals},
    units::{UnitError, parse_capacity, parse_server_bandwidth, parse_time},
};
