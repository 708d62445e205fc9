//! The framed transport: block data and metadata sessions over TCP.
//!
//! A connection carries frames (`pocket_proto::Header` and a body) both ways. Many requests are in
//! flight at once and are answered in any order; a server may push frames of its own. This crate
//! knows how frames travel and when a peer is given up; it never looks into bodies but for the
//! greeting, and it never retries: that is for the clients built on it.
//!
//! Speed comes from few rules. Whoever has a frame to send writes it to the socket itself, and
//! takes along what others queued meanwhile (`outbox`); a reader receives large bodies straight
//! into buffers of their exact size (`reader`); requests that arrive together are answered
//! together (`server`).
//!
//! Locks, none of which is held over a system call or an `.await`: the outbox's queue, the table
//! of pending calls. Neither is taken while the other is held.

mod answer;
mod authenticate;
mod connection;
mod greeting;
mod outbox;
mod outgoing;
mod payload;
mod pending;
mod reader;
mod server;
mod service;
mod socket;
mod watchdog;

pub use answer::Answer;
pub use authenticate::{authenticate, authorize};
pub use connection::{Connection, PushHandler, ReplyFrame};
pub use payload::Payload;
pub use server::{ServerLimits, serve};
pub use service::{BoxFuture, HEAD_BYTES_MAX, Handled, Pusher, Service};
