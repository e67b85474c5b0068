//! What the programs of `src/bin/` have in common: a directory of their own, a report in it, and an exit code.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::binary::binary;

/// A promise was broken, or a bound missed.
const VIOLATION: u8 = 20;

/// Empties a directory, or makes it; its whole path.
#[must_use]
pub fn emptied(dir: &Path) -> PathBuf {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    dir.canonicalize().unwrap()
}

/// Prints a report, and leaves it in the directory, with the build that it is of. 0 where everything holds, else 20.
pub fn reported(dir: &Path, report: &impl Display, holds: bool) -> ExitCode {
    let report = format!("{report}\nOf {}.\n", build());
    println!("{report}");
    std::fs::write(dir.join("report.md"), report).unwrap();
    if holds { ExitCode::SUCCESS } else { ExitCode::from(VIOLATION) }
}

/// The commit and the profile of the servers, as they have it.
fn build() -> String {
    let output = Command::new(binary()).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let is_wanted = |line: &&str| ["commit", "profile"].iter().any(|name| line.starts_with(name));
    let lines =
        text.lines().filter(is_wanted).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join(", ")
}
