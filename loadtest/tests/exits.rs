//! How the harness ends where it cannot begin.

#![allow(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use std::process::{Command, Output};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

#[test]
fn usage_is_2() {
    for arguments in
        [&[] as &[&str], &["dance"], &["send", "--links", "many"], &["send", "--duration", "soon"]]
    {
        let ended = loadtest(arguments);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_key_that_is_not_there_is_2_and_named() {
    for command in ["send", "idle", "beat"] {
        let ended = loadtest(&[command, "--key", "no-such-key.pem"]);
        assert_eq!(ended.status.code(), Some(2), "{command}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains("--key") && said.contains("no-such-key.pem"), "{said}");
    }
}
