//! What the programs of `src/bin/` have in common: a directory of their own, a report in it, and an exit code.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A promise was broken, or a bound missed.
const VIOLATION: u8 = 20;

/// Empties a directory, or makes it; its whole path.
#[must_use]
pub fn emptied(dir: &Path) -> PathBuf {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    dir.canonicalize().unwrap()
}

/// Prints a report, and leaves it in the directory. 0 where everything holds, else 20.
pub fn reported(dir: &Path, report: &impl Display, holds: bool) -> ExitCode {
    println!("{report}");
    std::fs::write(dir.join("report.md"), report.to_string()).unwrap();
    if holds { ExitCode::SUCCESS } else { ExitCode::from(VIOLATION) }
}
