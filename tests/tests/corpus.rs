//! Every input that the search of `cargo xtask fuzz` learnt or found, through the check that it is for: what once
//! broke a decoder never breaks it again, and the searched paths stay tested where nobody searches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: what it does not expect ends it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

type Check = fn(&[u8]);

/// Every target, and the function that it searches.
const TARGETS: [(&str, Check); 19] = [
    ("between_nodes", proto::check::between_nodes),
    ("client_frame", proto::check::client_frame),
    ("columns", storage::cql::check::columns),
    ("device", client::check::device),
    ("framing", proto::check::framing),
    ("ids", proto::check::ids),
    ("journal", storage::embedded::check::journal),
    ("keys", godwit::check::keys),
    ("line", godwit::check::line),
    ("link", conn::check::link),
    ("outbox", client::check::journal),
    ("queries", logic::check::queries),
    ("records", proto::check::records),
    ("rows", logic::check::rows),
    ("server_frame", proto::check::server_frame),
    ("settings", godwit::check::settings),
    ("stages", logic::check::stages),
    ("stored", storage::embedded::check::rows),
    ("token", conn::check::token),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz")
}

/// Names without their endings; none where there is no such folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_target_of_the_search_is_here() {
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder().join("fuzz_targets")), here);
    for kept in ["corpus", "found"] {
        assert!(names(&folder().join(kept)).is_subset(&here), "a folder in fuzz/{kept} is of no target");
    }
}

#[test]
fn what_the_search_learnt_and_found_passes_every_check() {
    for (name, check) in TARGETS {
        let corpus = names(&folder().join("corpus").join(name));
        assert!(
            !corpus.is_empty(),
            "fuzz/corpus/{name} is empty: `cargo xtask fuzz --target {name}` fills it"
        );
        for kept in ["corpus", "found"] {
            let folder = folder().join(kept).join(name);
            for file in names(&folder) {
                // Shown where the check panics.
                eprintln!("fuzz/{kept}/{name}/{file}");
                check(&fs::read(folder.join(file)).unwrap());
            }
        }
    }
}
