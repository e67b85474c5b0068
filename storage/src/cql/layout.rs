//! Keyspace, tables and layout: created where they are not there yet, refused where they are another's.

use std::collections::HashMap;

use futures::TryFutureExt;
use scylla::client::session::Session;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::response::query_result::QueryRowsResult;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;

use super::columns::int;
use super::place::Place;
use super::schema;
use super::session::{SCHEMA, prepare, quoted, within};
use super::trouble::{Trouble, failed, unavailable};
use crate::tables::{LAYOUT_VERSION, Layout, StoreError};

/// The layout is older than every record.
const LAYOUT_TIMESTAMP: i64 = 1;
/// Copies of a row: one of them may be gone.
const REPLICAS: usize = 3;

/// Creates keyspace and tables where they are not there yet. All processes that do so ask the same node, so that
/// two that start together do not create one table twice; and wait until every node knows the tables.
pub(super) async fn create(session: &Session, place: &Place) -> Result<(), StoreError> {
    let absent = missing(session, place).await?;
    if absent.is_empty() {
        return Ok(());
    }
    tracing::info!(keyspace = place.keyspace, tables = absent.join(", "), "creating tables that are missing");
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    let first = nodes.iter().map(|node| node.host_id).min();
    let first = first.ok_or_else(|| StoreError::Unavailable("the cluster has no nodes".to_owned()))?;
    let replicas = nodes.len().clamp(1, REPLICAS);
    let keyspace = quoted(&place.keyspace);
    let mut texts = vec![format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}"
    )];
    texts.extend(schema::TABLES.iter().map(|table| format!("CREATE TABLE IF NOT EXISTS {keyspace}.{table}")));
    for text in texts {
        let mut statement = Statement::new(text);
        let target = NodeIdentifier::HostId(first);
        statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(target, None)));
        statement.set_request_timeout(Some(SCHEMA));
        let made = session.query_unpaged(statement, ()).map_err(|error| Trouble::from(error).0);
        // The driver's own limit ends the statement; after it, the nodes agree.
        within(2 * SCHEMA, "creating the tables", made).await?;
    }
    agree(session).await?;
    match missing(session, place).await?.as_slice() {
        [] => Ok(()),
        absent => Err(StoreError::Unavailable(format!(
            "the tables {} of keyspace {} were created and are not there",
            absent.join(", "),
            place.keyspace
        ))),
    }
}

/// Waits until every node knows the same tables.
async fn agree(session: &Session) -> Result<(), StoreError> {
    let agreed = session.await_schema_agreement().map_err(unavailable).map_ok(drop);
    within(SCHEMA, "agreeing on the tables", agreed).await
}

/// Refuses a keyspace that does not keep what it answers, and says so where one node that is gone stops it.
pub(super) async fn check_keyspace(session: &Session, place: &Place) -> Result<(), StoreError> {
    let rows = described(session, place, "durable_writes, replication FROM system_schema.keyspaces").await?;
    let (is_durable, replication) = rows.single_row::<(bool, HashMap<String, String>)>().map_err(failed)?;
    let keyspace = &place.keyspace;
    if !is_durable {
        return Err(StoreError::Refused(format!(
            "keyspace {keyspace} has durable_writes = false: nodes that restart forget what they answered. Run \
             ALTER KEYSPACE {} WITH durable_writes = true, or use another keyspace",
            quoted(keyspace)
        )));
    }
    let replicas = replicas(&replication);
    if replicas < REPLICAS {
        tracing::warn!(
            keyspace,
            replicas,
            "one node that is gone makes rows unreachable: use {REPLICAS} replicas"
        );
    }
    Ok(())
}

/// Of the datacenter that has the fewest; none where the strategy tells no number.
fn replicas(replication: &HashMap<String, String>) -> usize {
    let counts = replication.iter().filter(|(name, _)| *name != "class");
    // Transient replicas stand behind a slash.
    let counts = counts.filter_map(|(_, count)| count.split('/').next()?.parse().ok());
    counts.min().unwrap_or(usize::MAX)
}

/// Reads some of the cluster's description of the keyspace.
async fn described(session: &Session, place: &Place, what: &str) -> Result<QueryRowsResult, StoreError> {
    // Not as a value, for which the driver would prepare it on every node first. The name has nothing to escape.
    let mut statement = Statement::new(format!("SELECT {what} WHERE keyspace_name = '{}'", place.keyspace));
    statement.set_is_idempotent(true);
    let read = session.query_unpaged(statement, ()).await.map_err(|error| Trouble::from(error).0)?;
    read.into_rows_result().map_err(failed)
}

/// The tables that are not there.
async fn missing(session: &Session, place: &Place) -> Result<Vec<&'static str>, StoreError> {
    let rows = described(session, place, "table_name FROM system_schema.tables").await?;
    let found = rows.rows::<(String,)>().map_err(failed)?.map(|row| row.map(|(name,)| name));
    let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    agree(session).await?;
    Ok(schema::table_names().filter(|name| !found.iter().any(|found| found == name)).collect())
}

/// Writes the layout where there is none, and refuses any other. Of two that create at once with different
/// counts, the later one at least sees both rows. Neither row is taken back: a third process may have read it
/// and begun, and without it the other counts would be taken in silence.
pub(super) async fn check_layout(session: &Session, place: &Place, layout: Layout) -> Result<(), StoreError> {
    let counts = layout.partitions;
    let (messages, timelines) = (int("messages", counts.messages)?, int("timelines", counts.timelines)?);
    let mine = (int("version", layout.version)?, messages, timelines);
    let read = prepare(session, &place.keyspace, schema::READ_LAYOUT).await?;
    let mut found = layouts(session, &read).await?;
    if found.is_empty() {
        let write = prepare(session, &place.keyspace, schema::WRITE_LAYOUT).await?;
        let values = (mine.0, mine.1, mine.2, LAYOUT_TIMESTAMP);
        session.execute_unpaged(&write, values).await.map_err(|error| Trouble::from(error).0)?;
        found = layouts(session, &read).await?;
    }
    if found == [mine] {
        return Ok(());
    }
    Err(refused(place, &found, mine))
}

async fn layouts(session: &Session, read: &PreparedStatement) -> Result<Vec<(i32, i32, i32)>, StoreError> {
    let result = session.execute_unpaged(read, ()).await.map_err(|error| Trouble::from(error).0)?;
    let rows = result.into_rows_result().map_err(failed)?;
    rows.rows().map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn refused(place: &Place, found: &[(i32, i32, i32)], mine: (i32, i32, i32)) -> StoreError {
    let words: Vec<String> = found
        .iter()
        .map(|(version, messages, timelines)| {
            format!("layout {version} with {messages} messages and {timelines} timelines partitions")
        })
        .collect();
    let remedy = match found {
        [(version, ..)] if *version != mine.0 => {
            "Run the version of Godwit that wrote it, or use another keyspace"
        }
        [_] => {
            "Counts are frozen when the data is created: set them to what the keyspace has, or use another keyspace"
        }
        _ => {
            "Processes with different counts created it at once: set the same counts everywhere, end every \
             process, then drop the keyspace if it holds nothing yet, or delete the wrong row of its table layout"
        }
    };
    StoreError::Refused(format!(
        "keyspace {} has {}; this process wants layout {LAYOUT_VERSION} with {} and {}. {remedy}",
        place.keyspace,
        words.join(" and "),
        mine.1,
        mine.2
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_replicas_count() {
        let count = |described: &[(&str, &str)]| {
            replicas(&described.iter().map(|(name, count)| ((*name).into(), (*count).into())).collect())
        };
        let class = ("class", "org.apache.cassandra.locator.NetworkTopologyStrategy");
        assert_eq!(count(&[class, ("east", "3"), ("west", "2")]), 2);
        assert_eq!(count(&[class, ("east", "3/1")]), 3);
        assert_eq!(count(&[("class", "SimpleStrategy"), ("replication_factor", "1")]), 1);
        assert_eq!(count(&[("class", "EverywhereStrategy")]), usize::MAX);
    }
}
