//! The stages that own the logs' partitions: conversations and timelines as pure state machines, and the
//! shells that drive them.

pub mod conversation;
pub mod settings;
pub mod timeline;
