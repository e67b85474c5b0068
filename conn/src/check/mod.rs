//! What must hold of whatever devices, owners and tokens bring, as `proto::check` says it of messages. A violation
//! panics. For tests, and for the fuzz targets under `fuzz/`.

mod link;
mod token;

pub use link::link;
pub use token::token;
