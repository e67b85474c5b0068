//! What a second server meets: data in use, and data of other partition counts.

#![allow(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use std::process::{Command, Output};

use tests::{Server, binary};

fn serve(server: &Server, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
    let Output { status, stderr, .. } = command.arg(server.data()).args(more).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
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
