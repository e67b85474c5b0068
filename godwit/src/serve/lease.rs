//! What the node table means for this process: conn's incarnation, the end of its lease, and the load that
//! others are told of.

use std::sync::Arc;
use std::time::Duration;

use logic::nodes::{Lease, Nodes};
use tokio::sync::watch;

use crate::exit::{Exit, Failure};

/// How often the load is taken; it leaves with the next renewal.
const LOAD_EVERY: Duration = Duration::from_secs(2);

/// Tells conn which incarnation it is, and when it is none any more.
pub(super) async fn follow(mut lease: watch::Receiver<Lease>, conn: Arc<conn::Node>) {
    loop {
        match *lease.borrow_and_update() {
            Lease::Held { incarnation } => conn.set_incarnation(incarnation),
            Lease::Lost | Lease::Replaced => conn.lease_lost(),
            Lease::Joining => {}
        }
        if lease.changed().await.is_err() {
            return;
        }
    }
}

/// Says how many links there are.
pub(super) async fn report(nodes: Arc<Nodes>, conn: Arc<conn::Node>) {
    let mut tick = tokio::time::interval(LOAD_EVERY);
    loop {
        tick.tick().await;
        nodes.set_links(conn.links());
    }
}

/// Why this process is not ready, as far as its place in the table goes.
pub(super) fn reason(lease: Lease) -> Option<String> {
    match lease {
        Lease::Held { .. } => None,
        Lease::Joining => Some("the node's Join has not been read back from the nodes log yet".into()),
        Lease::Lost => Some("the lease was lost: renewals do not come back from the nodes log".into()),
        Lease::Replaced => Some("another process joined under this node's name".into()),
    }
}

/// Waits until another process has this one's name.
pub(super) async fn replaced(mut lease: watch::Receiver<Lease>) -> Failure {
    if lease.wait_for(|lease| *lease == Lease::Replaced).await.is_err() {
        return std::future::pending().await;
    }
    let error = anyhow::anyhow!(
        "another process joined under this node's name: give each process a node.name of its own"
    );
    Failure::new(Exit::Failed, error)
}
