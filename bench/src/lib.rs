//! Benches, and the floors that they and the loads are measured against: `src/bin/echo.rs` for links,
//! `src/bin/fsync_floor.rs` for durable appends. Nothing here is used by Godwit.
