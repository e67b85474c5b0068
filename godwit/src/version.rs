//! What this binary is made of, as `build.rs` found it.

/// The version in one line, as `--version` and the metrics give it.
pub(crate) const SHORT: &str = env!("CARGO_PKG_VERSION");
/// The commit, "-dirty" after it where the tree had changes; "unknown" outside a repository.
pub(crate) const COMMIT: &str = env!("GODWIT_BUILD_COMMIT");
/// The compiler.
pub(crate) const RUSTC: &str = env!("GODWIT_BUILD_RUSTC");
/// The machine it is for.
pub(crate) const TARGET: &str = env!("GODWIT_BUILD_TARGET");
/// `release` or `debug`.
pub(crate) const PROFILE: &str = env!("GODWIT_BUILD_PROFILE");

/// Everything, for `--version`.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit  ",
    env!("GODWIT_BUILD_COMMIT"),
    "\nrustc   ",
    env!("GODWIT_BUILD_RUSTC"),
    "\ntarget  ",
    env!("GODWIT_BUILD_TARGET"),
    "\nprofile ",
    env!("GODWIT_BUILD_PROFILE"),
);
