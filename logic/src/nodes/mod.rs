//! Which nodes live, where, and with which incarnation: the `nodes` log as a table, and this node's place
//! in it.

mod lease;
mod run;
mod state;
mod term;

pub use lease::Lease;
pub use run::{Load, Member, Nodes};
pub use state::{NodeInfo, NodeTable, Skipped, topic_number};
