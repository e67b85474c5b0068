//! One process on embedded storage under load, killed again and again: nothing acknowledged is lost, nothing is
//! there twice, nothing out of order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]

use std::time::Duration;

use tests::{Load, Run, Server, within};

/// Waits until the harness has its links on the server, and some more messages went through.
fn under_load(server: &Server, links: f64) {
    within(Duration::from_secs(60), "the links are back", || {
        (server.metric("godwit_conn_links")? >= links).then_some(())
    });
}

#[test]
fn a_server_killed_under_load_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    let load = Load { links: 400, rate: 800, duration: Duration::from_secs(20) };
    let run = Run::start(dir.path(), &server.data(), &[&server], load);
    for _ in 0..3 {
        under_load(&server, 300.0);
        server.kill();
        server.restart();
    }
    let figures = run.passes();
    assert!(server.log().matches("is ready").count() >= 4);
    println!("{figures}");
}
