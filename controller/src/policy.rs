//! Policy: functions of plain values that decide what jobs get. They know no sockets, no clock
//! and no lock; what acts on their decisions is elsewhere.

mod allocation;
mod demand;
mod hints;
mod lease;
mod ledger;
mod metadata_choice;
mod sentence;
mod tier;
mod weights;

pub(crate) use allocation::{Allocation, StorageSpace, allocate, reallocate};
pub(crate) use demand::demand;
pub(crate) use hints::{JobTerms, check_request};
pub(crate) use lease::Lease;
pub(crate) use ledger::Ledger;
pub(crate) use metadata_choice::{MetadataLoad, order_of_preference};
pub(crate) use sentence::age;
pub(crate) use tier::Tier;
pub(crate) use weights::{Share, Weight, shares_of_map, weights};
