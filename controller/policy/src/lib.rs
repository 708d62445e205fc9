//! Policy: functions of plain values that decide what jobs get, on which servers, and what it
//! costs. They know no sockets, no clock and no lock; what acts on their decisions is elsewhere.
//!
//! From hints to servers: [`check_request`] refuses nonsense, [`demand`] turns hints and earlier
//! runs ([`History`]) into figures, and [`place`] finds room on the servers there are, or says which
//! servers to start where the cluster can grow. While a job runs, [`Watch`] compares its use
//! with its allocation and [`fair_rates`] divides what is short; [`Arbiter`] sizes a pool.
//! [`Catalogue`] is the price table, and [`plan`] an answer without a cluster.
//!
//! Quantities are integers: bytes, bytes per second, nanodollars. Fractions of a job are in parts of
//! 2^50 ([`WHOLE`]), rounded so that a promise is never exceeded.

mod admission;
mod allocation;
mod catalogue;
mod choice;
mod class;
mod demand;
mod elastic;
mod fairness;
mod hints;
mod history;
mod lease;
mod ledger;
mod metadata_choice;
mod money;
mod packing;
mod placement;
mod plan;
mod provision;
mod resize;
mod revision;
mod scaling;
mod sentence;
mod tier;
mod weights;

pub use admission::{AdmissionQueue, Ticket};
pub use allocation::{Allocation, StorageSpace, allocate, reallocate};
pub use catalogue::{Catalogue, CatalogueError, Defaults, NodeType};
pub use choice::{Fill, Offer, WholeServers, cheapest_mix, whole_servers};
pub use class::{class_of, explain_class};
pub use demand::{Demand, Wanted, demand, rate_text};
pub use elastic::{Growth, Market, Startable, extend, grow};
pub use fairness::{Claim, Moved, fair_rates, rate_limits};
pub use hints::{JobTerms, RequestError, check_hints, check_name, check_profile, check_request};
pub use history::{Forecast, History, Run};
pub use lease::Lease;
pub use ledger::Ledger;
pub use metadata_choice::{MetadataDemand, MetadataLoad, order_of_preference};
pub use money::{Cost, Price, PriceError};
pub use packing::{Needs, Packed, Packing, Room, SPREAD_SERVERS_MAX, WHOLE, pack};
pub use placement::{Placement, place};
pub use plan::{Plan, PlannedTier, plan};
pub use provision::Provision;
pub use resize::{Widened, merge, shrink, total, widen};
pub use revision::{Revision, Use, Watch, WatchSettings};
pub use scaling::{Arbiter, Decision, Member, Pool, Range, ScalingSettings};
pub use sentence::age;
pub use tier::Tier;
pub use weights::{Share, Weight, shares_of_map, weights};
