//! What every implementation of a seam must do, as suites that a test of each of them calls.
//!
//! A case panics where a promise is broken; it returns nothing and repairs nothing. Cases use keys of
//! their own and do not expect empty data, so that a harness may hand out one cluster again and again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a failed assertion is what a suite has to say"
)]

pub mod log;
pub mod members;
pub mod names;
pub mod reports;
pub mod tables;
