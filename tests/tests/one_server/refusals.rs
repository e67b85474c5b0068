//! What `serve` does not begin with: data in use, data of other partition counts, settings that are wrong.

use std::process::Command;

use tests::{DEADLINE, Server, binary, run_until_it_ends};

fn serve(server: &Server, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
    run_until_it_ends(command.arg(server.data()).args(more), DEADLINE)
}

#[test]
fn data_of_another_process_or_of_other_counts_is_refused_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    let (code, said) = serve(&server, &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&format!("in use by process {}", server.process().id())), "{said}");
    assert_eq!(server.terminate().code(), Some(0));

    let (code, said) = serve(&server, &["--set", "storage.messages_partitions=4"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("16 messages"), "{said}");
    // The refusals left everything as it was.
    server.restart();
}

#[test]
fn every_wrong_setting_is_named_with_its_place_and_nothing_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("godwit.toml"), "[embedded]\nreserve_bytes = 5\n").unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--set", "conn.linger=3"]).env("GODWIT_LOGIC__FLUSH_EVERY_MS", "soon");
    let (code, said) = run_until_it_ends(command.current_dir(dir.path()), DEADLINE);
    assert_eq!(code, Some(2), "{said}");
    let places =
        ["godwit.toml:embedded.reserve_bytes", "16777216", "GODWIT_LOGIC__FLUSH_EVERY_MS", "conn.linger_ms"];
    for text in places {
        assert!(said.contains(text), "{text} in {said}");
    }
    assert!(!dir.path().join("godwit-data").exists(), "something was begun");
}
