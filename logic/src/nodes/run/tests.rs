//! A node's place in the log: kept, lost, and not kept by old news.

use super::*;
use crate::clock;
use crate::run::tests::double::{Double, DoubleLog};

fn member() -> Member {
    Member { name: "one".into(), stream_address: "x".into(), api_address: String::new(), logic: true }
}

async fn held(lease: &mut watch::Receiver<Lease>) -> u64 {
    match *lease.wait_for(|lease| matches!(lease, Lease::Held { .. })).await.unwrap() {
        Lease::Held { incarnation } => incarnation,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_by_renewals_and_lost_without_them() {
    let double = Double::new();
    let nodes = Nodes::start(Arc::new(DoubleLog(double.clone())), member());
    let mut lease = nodes.lease();
    let first = held(&mut lease).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(*lease.borrow(), Lease::Held { incarnation: first });
    double.faults(|faults| faults.hold_reads = true);
    let begun = clock::now();
    lease.wait_for(|lease| *lease == Lease::Lost).await.unwrap();
    let lasted = clock::now() - begun;
    assert!(lasted >= Duration::from_secs(19) && lasted <= Duration::from_secs(30), "{lasted:?}");
    double.faults(|faults| faults.hold_reads = false);
    assert!(held(&mut lease).await > first);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_does_not_take_old_renewals_for_news() {
    let double = Double::new();
    let nodes = Nodes::start(Arc::new(DoubleLog(double.clone())), member());
    let mut lease = nodes.lease();
    held(&mut lease).await;
    sleep(Duration::from_secs(15)).await;
    // As a stopped process: time passes, and nothing of it runs.
    tokio::time::advance(Duration::from_secs(60)).await;
    lease.wait_for(|lease| *lease == Lease::Lost).await.unwrap();
}
