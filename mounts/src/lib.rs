//! The ways in.
#![allow(dead_code)]

mod arguments;
mod daemon;
mod endpoint;
mod mountpoint;
mod options;
mod units;
