//! Pushing: one stream per conn node from the owner of a timelines partition.
//!
//! The timeline is the truth, a push is a hint: anything on this side may refuse one, and then leaves a
//! mark. Frames go only to links of the node and incarnation that the stream was opened to.

mod dial;
pub(crate) mod frame;
mod pipe;
mod queue;
mod stream;
mod streams;

pub use dial::{Dial, DialError, Ends};
pub(crate) use pipe::Pipe;
pub(crate) use queue::QueueCaps;
pub(crate) use stream::{Hail, StreamEvent};
pub(crate) use streams::Streams;
