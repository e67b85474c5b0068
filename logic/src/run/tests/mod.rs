//! The shells against a scripted log and scripted tables. Time is Tokio's own and stands still unless
//! everyone waits, so that "never" can be waited for.

mod conversations;
pub(crate) mod double;
mod stage;
mod timelines;
