//! The driver's session: how it is made, and statements as the tables use them. Prepares everything once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::policies::retry::{DefaultRetryPolicy, RetryPolicy};
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::time::Instant;

use super::Options;
use super::further::{self, Further};
use super::layout;
use super::place::Place;
use super::room::{REQUESTS_MAX, ROW_BYTES, Room};
use super::schema;
use super::trouble::{Trouble, failed, unavailable};
use crate::tables::StoreError;

/// How long one connection to one node may take: one that hangs still accepts it, and says nothing.
const CONNECTION: Duration = Duration::from_secs(3);
/// How long it may take until the cluster is known, every table of the driver about it included. Nodes are asked one after
/// the other, and then every one is waited for.
const CONNECT: Duration = Duration::from_secs(20);
/// How long one request may take, retries and the attempt on another replica included. Servers give up on a
/// read after 5 s and on a write after 2 s, so their own answer, which says why, still comes first; whoever
/// asked tries again, so that more would only keep it waiting.
const REQUEST: Duration = Duration::from_secs(7);
const _: () = assert!(further::AFTER_MAX.as_secs() + 2 < REQUEST.as_secs());
/// How often a connection is asked whether it lives, and how long it may be silent until it is given up: a node
/// that hangs then costs nothing more. Longer than a server's usual pause for garbage.
const KEEPALIVE: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(4);
/// How long it may take to prepare all statements. The driver prepares on every node and waits for each without
/// a limit of its own; one that hangs is given up after `KEEPALIVE + SILENCE`.
const PREPARE: Duration = Duration::from_secs(15);
const _: () = assert!(PREPARE.as_secs() > 2 * (KEEPALIVE.as_secs() + SILENCE.as_secs()));
/// How long one table may take to create, and how long the nodes may take to agree on the schema. Both wait for
/// every node.
pub(super) const SCHEMA: Duration = Duration::from_secs(30);

/// What the tables stand on.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) session: Session,
    further: Arc<Further>,
    room: Room,
    pub(super) statements: Statements,
}

macro_rules! statements {
    ($($name:ident = $text:ident;)*) => {
        /// Every statement, prepared.
        #[derive(Debug)]
        pub(super) struct Statements { $(pub(super) $name: PreparedStatement,)* }

        impl Statements {
            async fn prepare(session: &Session, keyspace: &str) -> Result<Self, StoreError> {
                // At once: where a node hangs, each waits until that is found out.
                let ($($name,)*) = futures::try_join!($(prepare(session, keyspace, schema::$text),)*)?;
                let mut all = Self { $($name,)* };
                // Of rows that were written together, a read of some from several replicas repairs those, and not the
                // others: what the whole conversation is then read as was never written. One replica repairs nothing.
                all.read_head_and_member.set_consistency(Consistency::LocalOne);
                all.read_members.set_consistency(Consistency::LocalOne);
                Ok(all)
            }
        }
    };
}

statements! {
    read_conversation = READ_CONVERSATION;
    read_head_and_member = READ_HEAD_AND_MEMBER;
    read_members = READ_MEMBERS;
    write_part = WRITE_PART;
    page_forward = PAGE_FORWARD;
    page_backward = PAGE_BACKWARD;
    write_history = WRITE_HISTORY;
    read_timeline = READ_TIMELINE;
    write_entry = WRITE_ENTRY;
    read_user = READ_USER;
    write_user = WRITE_USER;
    read_sessions = READ_SESSIONS;
    write_session = WRITE_SESSION;
    drop_session = DROP_SESSION;
    read_checkpoint = READ_CHECKPOINT;
    write_checkpoint = WRITE_CHECKPOINT;
}

pub(super) async fn prepare(
    session: &Session,
    keyspace: &str,
    text: &str,
) -> Result<PreparedStatement, StoreError> {
    let mut prepared =
        session.prepare(text.replace(schema::KEYSPACE, &quoted(keyspace))).await.map_err(unavailable)?;
    // A write says its own time and a read changes nothing: any may be done twice.
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

/// The keyspace as statements name it: in quotes, since a word of CQL may be its name.
pub(super) fn quoted(keyspace: &str) -> String {
    format!("\"{keyspace}\"")
}

/// What the driver does about an attempt that failed; the same as its default, chosen. The next node is asked where
/// another may well do better: the connection broke (every statement may be done twice), the node is starting, is
/// overloaded or failed inside. Once more where too few replicas seemed to live, or a read got digests alone. Not
/// after a write timeout or a replica's failure: the replicas are slow then, and more of the same makes them
/// slower. Whoever asked tries again later. All of it within `REQUEST`.
fn retries() -> Arc<dyn RetryPolicy> {
    Arc::new(DefaultRetryPolicy::new())
}

/// Connects. One replica that hangs holds up no request: the next is asked soon, and the connection given up.
async fn connect(place: &Place, further: Arc<Further>) -> Result<Session, StoreError> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(REQUEST))
        .retry_policy(retries())
        .speculative_execution_policy(Some(further))
        .build();
    let builder = SessionBuilder::new()
        .known_nodes(&place.nodes)
        .connection_timeout(CONNECTION)
        .tcp_keepalive_interval(KEEPALIVE)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(SILENCE)
        .schema_agreement_timeout(SCHEMA)
        .default_execution_profile_handle(profile.into_handle());
    let nodes = place.nodes.join(",");
    within(CONNECT, &nodes, async { builder.build().await.map_err(unavailable) }).await
}

/// Waits for a part of opening, but not for ever.
pub(super) async fn within<T>(
    most: Duration,
    what: &str,
    part: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable(format!("{what}: no answer within {} s", most.as_secs()));
    tokio::time::timeout(most, part).await.map_err(late)?
}

impl Database {
    /// Connects, creates what is not there, and checks the layout.
    pub(super) async fn open(place: &Place, options: &Options) -> Result<Self, StoreError> {
        let further = Arc::<Further>::default();
        let session = connect(place, further.clone()).await?;
        layout::create(&session, place).await?;
        layout::check_keyspace(&session, place).await?;
        let checked = layout::check_layout(&session, place, options.layout());
        within(PREPARE + 3 * REQUEST, "the layout", checked).await?;
        let preparing = Box::pin(Statements::prepare(&session, &place.keyspace));
        let statements = within(PREPARE, "preparing statements", preparing).await?;
        Ok(Self { session, further, room: Room::default(), statements })
    }

    /// Runs a request that writes so many bytes when there is room for it.
    pub(super) async fn request<T>(
        &self,
        bytes: usize,
        request: impl Future<Output = Result<T, ExecutionError>>,
    ) -> Result<T, StoreError> {
        let _room = self.room.take(bytes).await?;
        let began = Instant::now();
        let answer = request.await;
        match &answer {
            Ok(_) => self.further.answered(began.elapsed()),
            Err(_) => self.further.failed(began.elapsed()),
        }
        answer.map_err(|error| Trouble::from(error).0)
    }

    /// The rows that a statement reads, on one page.
    pub(super) async fn read(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, StoreError> {
        self.request(0, self.session.execute_unpaged(statement, values))
            .await?
            .into_rows_result()
            .map_err(failed)
    }

    /// All rows that a statement reads, page by page, each page a request of its own: what is known about how
    /// long requests take, and for how long one has its place, is per page. A row that does not decode is a
    /// failure: it will not decode the next time either.
    pub(super) async fn scan<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StoreError>
    where
        R: 'static + for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let (mut all, mut state) = (Vec::new(), PagingState::start());
        loop {
            let read = self.session.execute_single_page(statement, &values, state);
            let (page, next) = self.request(0, read).await?;
            let page = page.into_rows_result().map_err(failed)?;
            for row in page.rows::<R>().map_err(failed)? {
                all.push(row.map_err(failed)?);
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => state = next,
                ControlFlow::Break(()) => return Ok(all),
            }
        }
    }

    /// Writes one row, of so many bytes beside its key.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        bytes: usize,
    ) -> Result<(), StoreError> {
        self.request(ROW_BYTES + bytes, self.session.execute_unpaged(statement, values)).await.map(drop)
    }

    /// Runs one request for each item, many at a time, and returns the answers in the items' order.
    pub(super) async fn each<I, T, F>(
        &self,
        items: Vec<I>,
        act: impl Fn(I) -> F,
    ) -> Result<Vec<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut answers = stream::iter(items.into_iter().map(act)).buffered(REQUESTS_MAX);
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            all.push(answer?);
        }
        Ok(all)
    }

    /// The same statement for several rows of one CQL partition, of so many bytes beside their keys, whole or not
    /// at all. One row needs no batch.
    pub(super) async fn write_all<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        mut rows: Vec<V>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        if rows.len() == 1
            && let Some(row) = rows.pop()
        {
            return self.write(statement, row, bytes).await;
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        rows.iter().for_each(|_| batch.append_statement(statement.clone()));
        let bytes = ROW_BYTES * rows.len() + bytes;
        self.request(bytes, self.session.batch(&batch, rows)).await.map(drop)
    }
}

pub(super) type Shared = Arc<Database>;
