//! The CQL tables' rows as they lie in a real database: their write times, rows that were spoilt, and who may
//! create them.

use std::process::{Command, Stdio};

use bytes::Bytes;
use proto::{ConversationId, Tick, UserId};
use scylla::client::session::Session;
use storage::cql::{self, Options};
use storage::log::Topic;
use storage::tables::{
    Checkpoint, ConversationWrite, EntryRow, Fence, HistoryRow, SessionRow, SessionWrite, Store, StoreError,
    UserWrite,
};

use crate::cql_keyspace::{Keyspace, PARTITIONS};

const CHILD: &str = "GODWIT_TEST_CQL_CHILD";

fn id() -> ConversationId {
    ConversationId::from_slice(&[7; 16]).unwrap()
}

fn user() -> UserId {
    "ada".parse().unwrap()
}

/// Writes one row to every table at a tick, with a value that says which.
async fn write_all(store: &dyn Store, tick: u64) {
    let (at, value) = (Tick(tick), Bytes::from(tick.to_string()));
    let member = (user(), value.clone());
    let write =
        ConversationWrite { id: id(), at, head: value.clone(), members: vec![member], senders: Vec::new() };
    store.conversations().save(vec![write]).await.unwrap();
    let row = HistoryRow { conversation: id(), no: 1, at, entry: value.clone() };
    store.histories().put(vec![row]).await.unwrap();
    let row = EntryRow { user: user(), seq: 1, at, row: value.clone() };
    store.timelines().put(vec![row]).await.unwrap();
    let fence = Fence { node: "n".into(), incarnation: 1, reactor: 0, link: 1 };
    let session = SessionRow { fence, user: user(), device: "d".parse().unwrap() };
    let session = SessionWrite { session, at, live: true };
    let write = UserWrite { user: user(), at, row: value.clone() };
    store.users().save(0, vec![session], vec![write]).await.unwrap();
    let checkpoint = Checkpoint { offset: tick, tick: at, state: value };
    store.checkpoints().save(Topic::Messages, 0, checkpoint).await.unwrap();
}

/// The write times of a table's rows.
async fn times(session: &Session, keyspace: &str, table: &str, column: &str) -> Vec<i64> {
    let text = format!("SELECT WRITETIME({column}) FROM {keyspace}.{table}");
    let rows = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    rows.rows::<(i64,)>().unwrap().map(|row| row.unwrap().0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_tick_is_what_every_table_keeps() {
    let Some(keyspace) = Keyspace::new("times") else { return };
    let (store, session) = (keyspace.open().await, keyspace.session().await);
    let tables = [
        ("conversations", "value", 2),
        ("histories", "entry", 1),
        ("timelines", "value", 1),
        ("users", "value", 1),
        ("sessions", "user_id", 1),
        ("checkpoints", "state", 1),
    ];
    // A lower tick loses, the same again is harmless, a higher one wins.
    for (tick, kept) in [(20, 20), (10, 20), (20, 20), (30, 30)] {
        write_all(&*store, tick).await;
        for (table, column, rows) in tables {
            assert_eq!(times(&session, &keyspace.name, table, column).await, vec![kept; rows], "{table}");
        }
        let users = store.users().load(&[user()]).await.unwrap();
        assert_eq!(users[0].as_ref().unwrap().row, kept.to_string());
        let checkpoint = store.checkpoints().load(Topic::Messages, 0).await.unwrap();
        assert_eq!(checkpoint.unwrap().state, kept.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_row_is_a_failure_that_names_its_column() {
    let Some(keyspace) = Keyspace::new("spoilt") else { return };
    let (store, session) = (keyspace.open().await, keyspace.session().await);
    write_all(&*store, 20).await;
    let spoil = [
        "INSERT INTO {}.conversations (conversation, kind, user_id, device_id, at, value) \
         VALUES (0x07070707070707070707070707070707, 1, '', '', 1, 0x00) USING TIMESTAMP 30",
        "INSERT INTO {}.users (user_id, at, value) VALUES ('ada', -1, 0x00) USING TIMESTAMP 30",
        "DELETE at FROM {}.timelines USING TIMESTAMP 30 WHERE user_id = 'ada' AND bucket = 0 AND seq = 1",
        "UPDATE {}.sessions USING TIMESTAMP 30 SET user_id = '' WHERE log_partition = 0 AND shard = 1 \
         AND node = 'n' AND incarnation = 1 AND reactor = 0 AND link = 1",
        "DELETE user_id FROM {}.sessions USING TIMESTAMP 40 WHERE log_partition = 0 AND shard = 1 \
         AND node = 'n' AND incarnation = 1 AND reactor = 0 AND link = 1",
    ];
    let mut answers = Vec::new();
    for (i, text) in spoil.iter().enumerate() {
        session.query_unpaged(text.replace("{}", &keyspace.name), ()).await.unwrap();
        answers.push(match i {
            0 => store.conversations().load(&[id()]).await.map(drop),
            1 => store.users().load(&[user()]).await.map(drop),
            2 => store.timelines().after(&user(), 0, 9).await.map(drop),
            _ => store.users().sessions(0).await.map(drop),
        });
    }
    // A value that is wrong is Godwit's to see, one that is not there the driver's.
    let named = [
        "column user_id: ",
        "column at: ",
        "column at at index",
        "column user_id: ",
        "column user_id at index",
    ];
    for (answer, column) in answers.into_iter().zip(named) {
        let Err(StoreError::Failed(text)) = answer else { panic!("{column}: {answer:?}") };
        assert!(text.contains(column), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_is_created_whatever_else_is_there() {
    let Some(keyspace) = Keyspace::new("missing") else { return };
    drop(keyspace.open().await);
    let (session, name) = (keyspace.session().await, &keyspace.name);
    for text in
        [format!("DROP TABLE {name}.checkpoints"), format!("CREATE TABLE {name}.other (id int PRIMARY KEY)")]
    {
        session.query_unpaged(text, ()).await.unwrap();
    }
    write_all(&*keyspace.open().await, 20).await;
    assert_eq!(times(&session, name, "checkpoints", "state").await, [20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_layout_version_is_refused_with_what_to_do() {
    let Some(keyspace) = Keyspace::new("version") else { return };
    drop(keyspace.open().await);
    let session = keyspace.session().await;
    let name = &keyspace.name;
    for text in [
        format!("DELETE FROM {name}.layout USING TIMESTAMP 2 WHERE id = 'layout'"),
        format!(
            "INSERT INTO {name}.layout (id, version, messages, timelines) VALUES ('layout', 2, 3, 2) \
             USING TIMESTAMP 3"
        ),
    ] {
        session.query_unpaged(text, ()).await.unwrap();
    }
    let refused = cql::open(&keyspace.url(), Options::new(PARTITIONS)).await.map(drop);
    let Err(StoreError::Refused(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("layout 2") && text.contains("Run the version of Godwit"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_create_the_tables_once() {
    let Some(keyspace) = Keyspace::new("together") else { return };
    let exe = std::env::current_exe().unwrap();
    let child = || {
        let mut command = Command::new(&exe);
        command.args(["--ignored", "--exact", "rows::opens_what_it_is_told", "--nocapture"]);
        command.env(CHILD, keyspace.url()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in [child(), child()] {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    let store = keyspace.open().await;
    write_all(&*store, 20).await;
    assert!(store.users().load(&[user()]).await.unwrap()[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of the test above"]
async fn opens_what_it_is_told() {
    let url = std::env::var(CHILD).unwrap();
    let store = cql::open(&url, Options::new(PARTITIONS)).await.unwrap();
    write_all(&*store, 10).await;
}
