//! Finds the build facts that `--version` prints. Works without git and outside a repository.

use std::path::Path;
use std::process::Command;

fn main() {
    fact("COMMIT", commit().as_deref());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    fact("RUSTC", run(&rustc, &["--version"]).as_deref());
    fact("TARGET", std::env::var("TARGET").ok().as_deref());
    fact("PROFILE", std::env::var("PROFILE").ok().as_deref());
    println!("cargo:rerun-if-changed=build.rs");
    // Changes with every commit and checkout; where it is missing, naming it would mean a rebuild each time.
    let head = Path::new("../.git/logs/HEAD");
    if head.exists() {
        println!("cargo:rerun-if-changed={}", head.display());
    }
}

fn fact(name: &str, value: Option<&str>) {
    println!("cargo:rustc-env=GODWIT_BUILD_{name}={}", value.unwrap_or("unknown"));
}

fn commit() -> Option<String> {
    let commit = run("git", &["rev-parse", "--short=12", "HEAD"])?;
    let dirty = run("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if dirty { format!("{commit}-dirty") } else { commit })
}

/// The first line that a program prints; none where it fails or prints nothing.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}
