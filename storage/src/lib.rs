//! The two seams that everything else stands on: the [`log`] and the [`tables`].
//!
//! Each has an embedded and a scaled-out implementation, and one conformance suite that all of them
//! pass. Nothing in here knows what a record or a row means.

pub mod log;
pub mod tables;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "cql")]
pub mod cql;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
