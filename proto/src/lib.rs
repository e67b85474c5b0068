//! What Godwit's parts say to each other: the schema, its framing, ids, limits and codes.
//! Pure: nothing in here touches a socket, a clock or a file.

pub mod check;
pub mod close;
pub mod code;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod partition;
pub mod tick;

/// The messages of package `godwit.v1`, as the schema under `proto/schema` defines them.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated; the schema is the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/godwit.v1.rs"));
}

/// The compiled schema (a `FileDescriptorSet`), for reflection.
pub const SCHEMA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/godwit.v1.bin"));

pub use code::{Code, Fault};
pub use ids::{ConversationId, DeviceId, IdError, UserId};
pub use tick::Tick;
