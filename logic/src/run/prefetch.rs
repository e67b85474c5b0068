//! Loads what a batch needs: all of it at once, before its first record is judged.
//!
//! One load at a time, and nothing is evicted during it: so a row that was read cannot be older than one
//! that was in memory in between.

use std::sync::Arc;

use proto::{ConversationId, UserId};
use storage::tables::{ConversationRow, Store, StoredUser};

use super::retry::{Retries, until_answered};

/// Keys with the rows that are stored under them.
pub(crate) type Rows<K, R> = Vec<(K, Option<R>)>;

/// Loads conversations.
pub(crate) async fn conversations(
    store: Arc<dyn Store>,
    ids: Vec<ConversationId>,
    retries: Retries,
) -> Rows<ConversationId, ConversationRow> {
    let rows = until_answered("load conversations", &retries, || store.conversations().load(&ids)).await;
    ids.into_iter().zip(rows).collect()
}

/// Loads users.
pub(crate) async fn users(
    store: Arc<dyn Store>,
    ids: Vec<UserId>,
    retries: Retries,
) -> Rows<UserId, StoredUser> {
    let rows = until_answered("load users", &retries, || store.users().load(&ids)).await;
    ids.into_iter().zip(rows).collect()
}
