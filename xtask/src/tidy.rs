//! `tidy`: what no compiler checks. Every rule is a function from text to complaints, tested on samples.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::layers;
use crate::tools::root;

/// Files and folders that must name no I/O, clock or runtime.
const PURE: [&str; 13] = [
    "proto/src/",
    "conn/src/session/",
    "conn/src/wheel.rs",
    "conn/src/outbox.rs",
    "conn/src/codec.rs",
    "logic/src/conversation/",
    "logic/src/timeline/",
    "logic/src/settings.rs",
    "logic/src/nodes/state.rs",
    "client/src/core/",
    "client/src/outbox.rs",
    "client/src/cursor.rs",
    "client/src/backoff.rs",
];
/// What they must not name.
const IMPURE: [&str; 12] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "tokio",
    "mio::",
    "socket2",
    "Instant",
    "SystemTime",
    "rand::",
    "fjall",
    "println!",
];
/// Words that mark work left undone, spelt so that this file does not contain them.
const LEFT_UNDONE: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];

/// Where they may stand: here, and in what a search made up.
const EXEMPT: [&str; 3] = ["xtask/src/tidy.rs", "fuzz/corpus/", "fuzz/found/"];

/// Checks the repository; the error lists every complaint.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut found = layers::violations()?;
    for file in &files {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        if file.ends_with(".rs") {
            found.extend(head(file, &text));
            found.extend(purity(file, &text));
        }
        if file.ends_with(".md") {
            found.extend(paths(file, &text, |path| root().join(path).exists()));
        }
        if !EXEMPT.iter().any(|exempt| file.starts_with(exempt)) && !file.ends_with(".lock") {
            found.extend(undone(file, &text));
        }
    }
    let read = |path: &str| std::fs::read_to_string(root().join(path)).context(path.to_owned());
    let protocol = read("docs/PROTOCOL.md")?;
    found.extend(codes(&read("proto/src/code.rs")?, &protocol));
    found.extend(codes(&read("proto/src/close.rs")?, &protocol));
    found.extend(reasons(&read("Cargo.toml")?));
    if found.is_empty() {
        return Ok(());
    }
    found.iter().for_each(|line| println!("{line}"));
    bail!("{} untidy places", found.len());
}

/// The files that git tracks, or would.
fn files() -> Result<Vec<String>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = command.output().context("cannot run git")?;
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

/// Every source file says first what it is for.
fn head(file: &str, text: &str) -> Option<String> {
    let says = text.lines().next().is_some_and(|line| line.starts_with("//! "));
    (!says).then(|| format!("{file}: does not begin with a //! line"))
}

/// Pure files name no I/O outside of their tests.
fn purity(file: &str, text: &str) -> Vec<String> {
    let is_test = file.ends_with("tests.rs") || file.contains("/tests/");
    if is_test || !PURE.iter().any(|pure| file.starts_with(pure)) {
        return Vec::new();
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named: BTreeSet<&str> =
        lines.flat_map(|line| IMPURE.iter().copied().filter(move |word| line.contains(word))).collect();
    named.into_iter().map(|word| format!("{file}: is pure and names {word}")).collect()
}

fn undone(file: &str, text: &str) -> Vec<String> {
    let words = LEFT_UNDONE.iter().filter(|word| text.contains(**word));
    words.map(|word| format!("{file}: {word}")).collect()
}

/// Paths in backticks exist: those that begin with a folder of the repository.
fn paths(file: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    const FOLDERS: [&str; 13] = [
        "proto", "conn", "logic", "storage", "client", "godwit", "bench", "loadtest", "sim", "tests", "docs",
        "xtask", "deploy",
    ];
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let first = word.split_once('/').map(|(first, _)| first);
        first.is_some_and(|first| FOLDERS.contains(&first)) && !word.contains([' ', '*', '<', '{', '…'])
    };
    let missing = quoted.filter(is_path).filter(|word| !exists(Path::new(word)));
    missing.map(|word| format!("{file}: `{word}` does not exist")).collect()
}

/// Every number of a table in the code stands in the document's tables.
fn codes(source: &str, document: &str) -> Vec<String> {
    let numbers = source.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" = ")?;
        let (number, rest) = rest.split_once(", \"")?;
        let (name, _) = rest.split_once('"')?;
        number.parse::<u32>().ok().map(|number| (number, name))
    });
    let missing = numbers.filter(|(number, name)| !document.contains(&format!("| {number} | {name}")));
    missing.map(|(number, name)| format!("docs/PROTOCOL.md: lacks {number} {name}")).collect()
}

/// Every group of dependencies has its reason above it.
fn reasons(manifest: &str) -> Vec<String> {
    let Some((_, rest)) = manifest.split_once("[workspace.dependencies]\n") else {
        return vec!["Cargo.toml: no dependencies".to_owned()];
    };
    let section = rest.split("\n[").next().unwrap_or_default();
    let mut explained = false;
    let mut found = Vec::new();
    for line in section.lines() {
        match line {
            "" => explained = false,
            _ if line.starts_with('#') => explained = true,
            _ if line.contains("path = ") || explained => {}
            _ => found.push(format!("Cargo.toml: no reason above `{line}`")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        assert!(head("a.rs", "use std::fmt;\n").is_some());
        assert!(head("a.rs", "//! What it is for.\n").is_none());
    }

    #[test]
    fn a_pure_file_that_names_io_is_found() {
        let text = "//! Pure.\nuse std::net::TcpStream;\n";
        assert_eq!(purity("conn/src/session/send.rs", text).len(), 1);
        assert!(purity("conn/src/reactor.rs", text).is_empty());
        assert!(purity("proto/src/a.rs", "// std::net\n#[cfg(test)]\nuse std::net;\n").is_empty());
    }

    #[test]
    fn work_left_undone_is_found() {
        assert_eq!(undone("a.rs", &format!("// {}: later", LEFT_UNDONE[0])).len(), 1);
    }

    #[test]
    fn a_path_that_is_not_there_is_found() {
        let text = "see `conn/src/gone.rs`, `conn/src/`, `cargo x`, `godwit.v1`";
        let exists = |path: &Path| path == Path::new("conn/src/");
        assert_eq!(paths("a.md", text, exists), ["a.md: `conn/src/gone.rs` does not exist"]);
    }

    #[test]
    fn a_code_that_the_document_lacks_is_found() {
        let source = "    Busy = 1400, \"BUSY\", Backoff;\n    Gone = 3000, \"going away\";\n";
        assert_eq!(codes(source, "| 1400 | BUSY | BACKOFF |"), ["docs/PROTOCOL.md: lacks 3000 going away"]);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\n# Why.\na = \"1\"\n\nb = \"2\"\n\n[profile.dev]\n";
        assert_eq!(reasons(manifest), ["Cargo.toml: no reason above `b = \"2\"`"]);
    }
}
