//! How the binary ends, and what it says then: each exit code by a real mistake.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs it in an empty directory without settings of the developer's.
fn godwit(dir: &Path, arguments: &[&str]) -> Ended {
    godwit_with(dir, arguments, &[])
}

fn godwit_with(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_godwit"));
    command.args(arguments).current_dir(dir).envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn serve<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    arguments.extend(more);
    arguments
}

#[test]
fn usage_is_2() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in
        [&[] as &[&str], &["dance"], &["serve", "--no-such-flag"], &["token"], &["serve", "--set", "x"]]
    {
        assert_eq!(godwit(dir.path(), arguments).code, Some(2), "{arguments:?}");
    }
    let token = godwit(dir.path(), &["token", "--as", "ann"]);
    assert_eq!(token.code, Some(2));
    assert!(token.err.contains("no key to sign with"), "{}", token.err);
}

#[test]
fn help_lists_the_exit_codes_and_version_the_build() {
    let dir = tempfile::tempdir().unwrap();
    let help = godwit(dir.path(), &["--help"]);
    assert_eq!(help.code, Some(0));
    for code in ["0 ", "2 ", "3 ", "4 ", "5 ", "6 ", "130 "] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(code)), "{code} in {}", help.out);
    }
    let version = godwit(dir.path(), &["--version"]);
    assert_eq!(version.code, Some(0));
    assert!(version.out.starts_with(&format!("godwit {}\n", env!("CARGO_PKG_VERSION"))), "{}", version.out);
    for fact in ["commit ", "rustc ", "target ", "profile "] {
        assert!(version.out.contains(fact), "{}", version.out);
    }
}

#[test]
fn wrong_settings_are_2_and_reported_together() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("godwit.toml"), "[conn]\nidel_timeout_ms = 1\n[node]\nname = 7\n")
        .unwrap();
    let variables = [("GODWIT_OPS__LISTEN", "nowhere")];
    for command in [&["config", "check", "--roles", "cook"] as &[&str], &["serve", "--roles", "cook"]] {
        let ended = godwit_with(dir.path(), command, &variables);
        assert_eq!(ended.code, Some(2));
        for text in [
            "4 mistakes",
            "godwit.toml:conn.idel_timeout_ms: there is no such setting; did you mean conn.idle_timeout_ms?",
            "godwit.toml:node.name: 7 is not valid",
            "GODWIT_OPS__LISTEN: \"nowhere\" is not valid",
            "--roles: \"cook\" is not valid; valid is one or more of conn, logic, api",
        ] {
            assert!(ended.err.contains(text), "{text} in {}", ended.err);
        }
    }
    std::fs::remove_file(dir.path().join("godwit.toml")).unwrap();
    assert_eq!(godwit(dir.path(), &["config", "check"]).code, Some(0));
    let default = godwit(dir.path(), &["config", "default"]).out;
    std::fs::write(dir.path().join("godwit.toml"), &default).unwrap();
    let shown = godwit(dir.path(), &["config", "show"]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.out.contains("idle_timeout_ms = 54000 # godwit.toml"), "{}", shown.out);
}

#[test]
fn a_key_that_protects_nothing_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = vec!["--set", "auth.jwks_file=keys.json", "--set", "auth.algorithm=HS256"];
    arguments.extend(["--set", "auth.issuer=i", "--set", "auth.audience=a"]);
    let keys = [
        ("c2hvcnQ", "a secret of 5 bytes; at least 32 are needed"),
        // "please-change-me-before-production!!"
        ("cGxlYXNlLWNoYW5nZS1tZS1iZWZvcmUtcHJvZHVjdGlvbiEh", "is a placeholder, not a secret"),
        // 32 times the letter a.
        ("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE", "only 1 different bytes"),
    ];
    for (key, reason) in keys {
        let set = format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{key}"}}]}}"#);
        std::fs::write(dir.path().join("keys.json"), set).unwrap();
        for what in [serve(&arguments), [&["config", "check"], &arguments[..]].concat()] {
            let ended = godwit(dir.path(), &what);
            assert_eq!(ended.code, Some(2), "{}", ended.err);
            assert!(ended.err.contains(reason), "{}", ended.err);
            assert!(!ended.err.contains(key));
        }
        assert!(!dir.path().join("godwit-data").exists(), "it was made before the keys were looked at");
    }
}

/// What `deploy/compose.yaml` sets, for each of its processes.
#[test]
fn the_settings_of_the_containers_are_valid() {
    let dir = tempfile::tempdir().unwrap();
    let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    std::fs::write(dir.path().join("jwks.json"), key).unwrap();
    let compose = include_str!("../../deploy/compose.yaml");
    let (all, services) = compose.split_once("\nservices:\n").unwrap();
    let variables = |text: &'static str| {
        let set = text.lines().filter_map(|line| line.trim().split_once(": "));
        set.filter(|(name, _)| name.starts_with("GODWIT_")).map(|(name, value)| {
            // What stands there where the variable is not set.
            let value = value
                .trim_matches('"')
                .rsplit_once(":-")
                .map_or(value.trim_matches('"'), |(_, value)| value.trim_end_matches('}'));
            (name, if name == "GODWIT_AUTH__JWKS_FILE" { "jwks.json" } else { value })
        })
    };
    let processes: Vec<_> = services.split("    <<: *godwit\n").skip(1).collect();
    assert_eq!(processes.len(), 4);
    for process in processes {
        let own = process.split("    ports:").next().unwrap();
        let set: Vec<_> = variables(all).chain(variables(own)).collect();
        let ended = godwit_with(dir.path(), &["config", "check"], &set);
        assert_eq!(ended.code, Some(0), "{own}: {}", ended.err);
    }
}

#[test]
fn a_failure_is_told_whatever_the_log_leaves_out() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", &address];
    for filter in ["", "off", "conn=debug", "=no=filter="] {
        let ended = godwit_with(dir.path(), &arguments, &[("RUST_LOG", filter)]);
        assert_eq!(ended.code, Some(4), "{filter:?}: {}", ended.err);
        assert!(ended.err.contains("is in use"), "{filter:?}: {}", ended.err);
    }
    let ended = godwit_with(dir.path(), &arguments, &[("RUST_LOG", "=no=filter=")]);
    assert!(ended.err.contains("RUST_LOG"), "{}", ended.err);
}

#[test]
fn development_mode_elsewhere_than_on_loopback_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let ended = godwit(dir.path(), &["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("development mode listens on nothing else"), "{}", ended.err);
}

#[test]
fn an_address_in_use_is_4() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--ops-listen"] {
        let mut arguments = serve(&[]);
        let place = arguments.iter().position(|argument| *argument == flag).unwrap();
        arguments[place + 1] = &address;
        let ended = godwit(dir.path(), &arguments);
        assert_eq!(ended.code, Some(4), "{}", ended.err);
        assert!(ended.err.contains(&format!("{address} is in use")), "{}", ended.err);
    }
}

#[test]
fn refused_data_is_3() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("godwit-data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("layout"), "nothing that Godwit wrote").unwrap();
    let ended = godwit(dir.path(), &serve(&[]));
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("layout"), "{}", ended.err);
}
