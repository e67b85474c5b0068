//! The layer rule: which workspace crate may depend on which. Read from the manifests.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use toml::Table;

use crate::tools::root;

/// Who may depend on whom, tests and builds aside. Crates that are not named may depend on anything.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("proto", &[]),
    ("storage", &["proto"]),
    ("conn", &["proto", "storage"]),
    ("logic", &["proto", "storage"]),
    ("client", &["proto"]),
    ("godwit", &["proto", "storage", "conn", "logic", "client"]),
    ("loadtest", &["proto", "client"]),
];
/// Test crates and tools: nothing depends on them.
const LEAVES: [&str; 6] = ["godwit", "loadtest", "bench", "sim", "tests", "xtask"];

/// Every edge that the rule forbids.
pub(crate) fn violations() -> Result<Vec<String>> {
    let manifest: Table = std::fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let members = manifest.get("workspace").and_then(|w| w.get("members")).and_then(|m| m.as_array());
    let mut edges = BTreeMap::new();
    for member in members.context("the workspace has no members")?.iter().filter_map(|m| m.as_str()) {
        let text = std::fs::read_to_string(root().join(member).join("Cargo.toml"))?;
        edges.insert(member.to_owned(), dependencies(&text)?);
    }
    Ok(judge(&edges))
}

fn dependencies(manifest: &str) -> Result<Vec<String>> {
    let manifest: Table = manifest.parse()?;
    let table = manifest.get("dependencies").and_then(|d| d.as_table());
    Ok(table.map(|table| table.keys().cloned().collect()).unwrap_or_default())
}

fn judge(edges: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (from, to) in edges {
        let allowed = ALLOWED.iter().find(|(name, _)| name == from).map(|(_, allowed)| *allowed);
        for to in to.iter().filter(|to| edges.contains_key(*to)) {
            if LEAVES.contains(&to.as_str()) {
                found.push(format!("{from} depends on {to}, on which nothing may depend"));
            } else if allowed.is_some_and(|allowed| !allowed.contains(&to.as_str())) {
                found.push(format!("{from} may not depend on {to}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::judge;

    fn edges(of: &[(&str, &[&str])]) -> Vec<String> {
        let owned = |(from, to): &(&str, &[&str])| {
            ((*from).to_owned(), to.iter().map(|to| (*to).to_owned()).collect())
        };
        judge(&of.iter().map(owned).collect())
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        assert_eq!(edges(&[("conn", &["logic", "bytes"]), ("logic", &[])]), ["conn may not depend on logic"]);
        assert_eq!(edges(&[("proto", &["storage"]), ("storage", &[])]), ["proto may not depend on storage"]);
        assert_eq!(edges(&[("sim", &["tests"]), ("tests", &[])]).len(), 1);
    }

    #[test]
    fn allowed_edges_are_not() {
        assert!(edges(&[("sim", &["logic"]), ("logic", &["storage"]), ("storage", &["bytes"])]).is_empty());
    }
}
