//! One `godwit serve`, and mostly on embedded storage: what devices do with it, what befalls it, and what it does not
//! begin with. Nothing here needs a machine for itself, so that all of it runs side by side.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]
#![allow(clippy::disallowed_methods, reason = "a test: it reads the clock")]

mod conversation;
mod half_open;
mod load;
mod logs;
mod real_conversation;
mod refusals;
mod soak;
