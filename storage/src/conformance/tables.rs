//! The suite of the table seams, one module per aggregate.

mod checkpoints;
mod conversations;
mod histories;
mod large;
mod timelines;
mod users;

use std::sync::Arc;

use futures::future::BoxFuture;

use super::names::Names;
use crate::tables::Store;

/// Makes stores for the suite.
pub trait StoreHarness: Send + Sync {
    /// A store. It may hold rows of earlier runs.
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// The same store, closed and opened again, where that means anything. The handle given is the last.
    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// Runs every case.
pub async fn all(harness: &dyn StoreHarness) {
    conversations::all(&harness.fresh().await, &Names::default()).await;
    histories::all(&harness.fresh().await, &Names::default()).await;
    timelines::all(&harness.fresh().await, &Names::default()).await;
    users::all(&harness.fresh().await, &Names::default()).await;
    checkpoints::all(&harness.fresh().await, &Names::default()).await;
    large::all(&*harness.fresh().await, &Names::default()).await;
    reopen_keeps(harness).await;
}

/// What was stored before a checkpoint is there after a close, and so is the checkpoint.
pub async fn reopen_keeps(harness: &dyn StoreHarness) {
    let names = Names::default();
    let store = harness.fresh().await;
    conversations::keep(&*store, &names).await;
    histories::keep(&*store, &names).await;
    timelines::keep(&*store, &names).await;
    users::keep(&*store, &names).await;
    checkpoints::keep(&*store, &names).await;
    let store = harness.reopen(store).await;
    conversations::kept(&*store, &names).await;
    histories::kept(&*store, &names).await;
    timelines::kept(&*store, &names).await;
    users::kept(&*store, &names).await;
    checkpoints::kept(&*store, &names).await;
}
