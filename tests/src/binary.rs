//! Finds the programs under test, built from the sources as they are.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// `godwit`: `GODWIT_BIN` if set, otherwise built now, in the profile of the test.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("GODWIT_BIN").map_or_else(|| build("godwit"), PathBuf::from))
}

/// `loadtest`: `LOADTEST_BIN` if set, otherwise built now, in the profile of the test.
pub fn loadtest() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("LOADTEST_BIN").map_or_else(|| build("loadtest"), PathBuf::from))
}

fn build(package: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let dir = this.parent().unwrap();
    // Tests lie in `deps`, programs above it.
    let profile_dir = if dir.ends_with("deps") { dir.parent().unwrap() } else { dir };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", package, "--target-dir"]).arg(profile_dir.parent().unwrap());
    if profile_dir.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "{package} does not build");
    profile_dir.join(package)
}
