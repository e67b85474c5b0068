//! The mixed load: groups, users with two devices, and links that come and go. And that a soak, which runs it for
//! hours, still runs at all.

use std::time::Duration;

use tests::{Load, Run, Server, Soak};

#[test]
fn a_mixed_load_with_churn_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "server", &[]);
    let load = Load { links: 60, rate: 120, duration: Duration::from_secs(10) };
    let more = ["--groups", "6", "--twins", "--churn", "20", "--drain", "120s"];
    let figures = Run::start_with(dir.path(), &server.data(), &[&server], load, &more).passes();
    let count = |name: &str| figures.get(name).and_then(serde_json::Value::as_u64).unwrap();
    assert!(count("parted") >= 100 && count("reconnects") >= 100, "{figures}");
    // Four of five to the one peer and the second devices, one of five to the group.
    assert!(count("received") > count("sent") && count("received") == count("copies"), "{figures}");
}

#[test]
fn a_short_soak_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let soak = Soak {
        duration: Duration::from_secs(20),
        every: Duration::from_secs(2),
        links: 40,
        rate: 80,
        churn: 4.0,
        // Links that are left standing are found sooner.
        settings: ["conn.heartbeat_min_ms=5000", "conn.heartbeat_max_ms=6000", "conn.idle_timeout_ms=17000"]
            .map(str::to_owned)
            .to_vec(),
        dir: dir.path().to_owned(),
    };
    let report = soak.run();
    println!("{report}");
    assert!(report.is_clean(), "{:?}", report.failures());
    assert!(report.load()["parted"].as_u64() > Some(20), "{}", report.load());
}
