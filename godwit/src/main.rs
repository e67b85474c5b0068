//! The `godwit` binary: its allocator, and everything else in the library beside it.

use std::process::ExitCode;

/// Idle links must cost nothing: freed pages go back to the system after a second, by a thread of the
/// allocator's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// SAFETY: this is the name that the allocator reads its options from, and a pointer to bytes ended by 0 is
// the type that it expects there.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_OPTIONS: &[u8; 60] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    godwit::main()
}
