//! One process on embedded storage under load, killed again and again: nothing acknowledged is lost, nothing is
//! there twice, nothing out of order. And that the harness would have said so.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::{Load, Run, Server, within};

/// Waits until messages of the harness are appended: some more than its links that sign in.
fn under_load(server: &Server) {
    within(Duration::from_secs(60), "messages are appended", || {
        let appended = server.metric("godwit_conn_appends_total{outcome=\"landed\"}")?;
        (appended >= 2_000.0).then_some(())
    });
}

#[test]
fn a_server_killed_under_load_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    let load = Load { links: 400, rate: 800, duration: Duration::from_secs(20) };
    let run = Run::start(dir.path(), &server.data(), &[&server], load);
    run.begins();
    for _ in 0..3 {
        under_load(&server);
        server.kill();
        server.restart();
    }
    let figures = run.passes();
    assert!(server.log().matches("is ready").count() >= 4);
    // Of most links every time.
    assert!(figures["reconnects"].as_u64() >= Some(600), "{figures}");
}

#[test]
fn a_server_drained_at_full_rate_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    // More than two cores carry, and less than outboxes hold: sends wait in all of them when it drains.
    let load = Load { links: 400, rate: 20_000, duration: Duration::from_secs(3) };
    let run = Run::start(dir.path(), &server.data(), &[&server], load);
    for _ in 0..2 {
        under_load(&server);
        let begun = Instant::now();
        assert_eq!(server.terminate().code(), Some(0));
        // conn.drain_timeout_ms, conn.linger_ms, logic.stop_within_ms and 5 s more, as the operator is told.
        assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
        server.restart();
    }
    // The harness may say that it was too late itself to measure anything: the two share the machine.
    let (figures, verdict) = run.judged();
    assert_eq!(verdict["exit"], 0, "{verdict}");
    let all = Some(60_000);
    let counts = ["sent", "acked", "received"].map(|count| figures[count].as_u64());
    assert_eq!(counts, [all, all, all], "{figures}");
}

#[test]
fn a_promise_that_is_broken_is_20() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    let load = Load { links: 20, rate: 40, duration: Duration::from_secs(12) };
    let run = Run::start_with(dir.path(), &server.data(), &[&server], load, &["--drain", "5s"]);
    within(Duration::from_secs(60), "some were delivered", || {
        (server.metric("godwit_conn_pushes_total{outcome=\"written\"}")? >= 150.0).then_some(())
    });
    // Everything that was acknowledged is gone. Only the key is left, so that devices may sign in again.
    server.kill();
    forget(&server.data());
    server.restart();
    let violations = &run.ends(20)["violations"];
    assert!(
        violations["lost"].as_u64() > Some(0) && violations["head_back"].as_u64() > Some(0),
        "{violations}"
    );
}

/// Empties a data directory, but for the key.
fn forget(data: &Path) {
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else if path.file_name().is_some_and(|name| name != "dev-key.pem") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn an_objective_that_is_missed_is_99() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "server", &[]);
    let load = Load { links: 10, rate: 20, duration: Duration::from_secs(3) };
    let more = ["--drain", "120s", "--p99-ms", "0.001"];
    let figures = Run::start_with(dir.path(), &server.data(), &[&server], load, &more).ends(99);
    assert_eq!((figures["acked"].as_u64(), figures["received"].as_u64()), (Some(60), Some(60)), "{figures}");
}

#[test]
fn a_load_that_is_ended_before_its_time_is_judged_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "server", &[]);
    let load = Load { links: 20, rate: 40, duration: Duration::from_secs(60) };
    let run = Run::start(dir.path(), &server.data(), &[&server], load);
    within(Duration::from_secs(60), "some were delivered", || {
        (server.metric("godwit_conn_pushes_total{outcome=\"written\"}")? >= 100.0).then_some(())
    });
    let figures = run.enough().passes();
    assert_eq!(figures["ended_early"], true, "{figures}");
    let sent = figures["sent"].as_u64();
    assert!(sent >= Some(50) && sent < Some(2_400), "{figures}");
    assert_eq!((figures["acked"].as_u64(), figures["received"].as_u64()), (sent, sent), "{figures}");
}
