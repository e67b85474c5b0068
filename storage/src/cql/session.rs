//! The driver's session: how it is made, and statements as the tables use them. Prepares everything once.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{
    DbError, ExecutionError, NextPageError, NextRowError, PagerExecutionError, RequestAttemptError,
    RequestError, TypeCheckError,
};
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use tokio::sync::Semaphore;

use super::Options;
use super::columns::int;
use super::place::Place;
use super::schema;
use crate::tables::{LAYOUT_VERSION, Layout, StoreError};

/// How long the first connection may take, every table of the driver about the cluster included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take, retries and further attempts on other replicas included. Servers give up on a
/// read after 5 s and on a write after 2 s; the last attempt begins after 1 s. So the server's own answer, which
/// says why, still comes first; whoever asked tries again, so that more would only keep it waiting.
const REQUEST: Duration = Duration::from_secs(7);
/// How long a request goes unanswered before another replica is asked as well, up to `FURTHER_MAX` times. Above
/// what a busy node takes, so that load alone does not multiply the load.
const FURTHER_AFTER: Duration = Duration::from_millis(500);
const FURTHER_MAX: usize = 2;
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
const SCHEMA: Duration = Duration::from_secs(30);
/// Requests of this process under way.
pub(super) const REQUESTS_MAX: usize = 128;
/// The layout is older than every record.
const LAYOUT_TIMESTAMP: i64 = 1;

/// What the tables stand on.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) session: Session,
    /// Requests that may begin.
    permits: Semaphore,
    pub(super) statements: Statements,
}

macro_rules! statements {
    ($($name:ident = $text:ident;)*) => {
        /// Every statement, prepared.
        #[derive(Debug)]
        pub(super) struct Statements { $(pub(super) $name: PreparedStatement,)* }

        impl Statements {
            async fn prepare(session: &Session) -> Result<Self, StoreError> {
                Ok(Self { $($name: prepare(session, schema::$text).await?,)* })
            }
        }
    };
}

statements! {
    read_conversation = READ_CONVERSATION;
    read_part = READ_PART;
    read_members = READ_MEMBERS;
    write_part = WRITE_PART;
    read_history = READ_HISTORY;
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

async fn prepare(session: &Session, text: &str) -> Result<PreparedStatement, StoreError> {
    let mut prepared = session.prepare(text).await.map_err(unavailable)?;
    // A write says its own time and a read changes nothing: any may be done twice.
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

/// Connects. One replica that hangs holds up no request: the next is asked soon, and the connection given up.
async fn connect(place: &Place) -> Result<Session, StoreError> {
    let further =
        SimpleSpeculativeExecutionPolicy { max_retry_count: FURTHER_MAX, retry_interval: FURTHER_AFTER };
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(REQUEST))
        .speculative_execution_policy(Some(Arc::new(further)))
        .build();
    let builder = SessionBuilder::new()
        .known_nodes(&place.nodes)
        .connection_timeout(CONNECT)
        .tcp_keepalive_interval(KEEPALIVE)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(SILENCE)
        .schema_agreement_timeout(SCHEMA)
        .default_execution_profile_handle(profile.into_handle());
    let nodes = place.nodes.join(",");
    within(CONNECT, &nodes, async { builder.build().await.map_err(unavailable) }).await
}

/// Waits for a part of opening, but not for ever.
async fn within<T>(
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
        let session = connect(place).await?;
        create(&session, place).await?;
        within(REQUEST, "using the keyspace", async {
            session.use_keyspace(&place.keyspace, false).await.map_err(unavailable)
        })
        .await?;
        let layout = check_layout(&session, place, options.layout());
        within(PREPARE + 3 * REQUEST, "the layout", layout).await?;
        let statements = within(PREPARE, "preparing statements", Statements::prepare(&session)).await?;
        Ok(Self { session, permits: Semaphore::new(REQUESTS_MAX), statements })
    }

    /// Runs a request when there is room for it.
    pub(super) async fn request<T, E: Into<Trouble>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        let _permit = self.permits.acquire().await.map_err(unavailable)?;
        request.await.map_err(|error| error.into().0)
    }

    /// The rows that a statement reads, on one page.
    pub(super) async fn read(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, StoreError> {
        self.request(self.session.execute_unpaged(statement, values))
            .await?
            .into_rows_result()
            .map_err(failed)
    }

    /// All rows that a statement reads, page by page. A row that does not decode is a failure: it will not
    /// decode the next time either.
    pub(super) async fn scan<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StoreError>
    where
        R: 'static + for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        self.request(async {
            let pager = self.session.execute_iter(statement.clone(), values).await?;
            let rows = pager.rows_stream::<R>()?;
            Ok::<_, Trouble>(rows.try_collect().await?)
        })
        .await
    }

    /// Writes one row.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), StoreError> {
        self.request(self.session.execute_unpaged(statement, values)).await.map(drop)
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

    /// The same statement for several rows of one CQL partition, whole or not at all. One row needs no batch.
    pub(super) async fn write_all<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        mut rows: Vec<V>,
    ) -> Result<(), StoreError> {
        if rows.len() == 1
            && let Some(row) = rows.pop()
        {
            return self.write(statement, row).await;
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        rows.iter().for_each(|_| batch.append_statement(statement.clone()));
        self.request(self.session.batch(&batch, rows)).await.map(drop)
    }
}

/// Creates keyspace and tables where they are not there yet. All processes that do so ask the same node, so that
/// two that start together do not create one table twice; and wait until every node knows the tables.
async fn create(session: &Session, place: &Place) -> Result<(), StoreError> {
    if is_created(session, place).await? {
        return Ok(());
    }
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    let first = nodes.iter().map(|node| node.host_id).min();
    let first = first.ok_or_else(|| StoreError::Unavailable("the cluster has no nodes".to_owned()))?;
    let replicas = nodes.len().clamp(1, 3);
    let keyspace = &place.keyspace;
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
    agree(session).await
}

/// Waits until every node knows the same tables.
async fn agree(session: &Session) -> Result<(), StoreError> {
    let agreed = session.await_schema_agreement().map_err(unavailable).map_ok(drop);
    within(SCHEMA, "agreeing on the tables", agreed).await
}

/// Whether every table is there.
async fn is_created(session: &Session, place: &Place) -> Result<bool, StoreError> {
    let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let mut statement = Statement::new(text);
    statement.set_is_idempotent(true);
    // With a value, the driver prepares it first.
    let read = session.query_unpaged(statement, (place.keyspace.as_str(),));
    let result =
        within(PREPARE, "looking for the tables", read.map_err(|error| Trouble::from(error).0)).await;
    let rows = result?.into_rows_result().map_err(failed)?;
    agree(session).await?;
    Ok(rows.rows_num() >= schema::TABLES.len())
}

/// Writes the layout where there is none, and refuses any other. Of two that create at once with different
/// counts, the later one at least sees both rows. Neither row is taken back: a third process may have read it
/// and begun, and without it the other counts would be taken in silence.
async fn check_layout(session: &Session, place: &Place, layout: Layout) -> Result<(), StoreError> {
    let counts = layout.partitions;
    let (messages, timelines) = (int("messages", counts.messages)?, int("timelines", counts.timelines)?);
    let mine = (int("version", layout.version)?, messages, timelines);
    let read = prepare(session, schema::READ_LAYOUT).await?;
    let mut found = layouts(session, &read).await?;
    if found.is_empty() {
        let write = prepare(session, schema::WRITE_LAYOUT).await?;
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
    let remedy = match found.len() {
        1 => {
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

/// What a failed request means for the caller.
pub(super) struct Trouble(StoreError);

impl From<ExecutionError> for Trouble {
    fn from(error: ExecutionError) -> Self {
        let lasting = match &error {
            ExecutionError::BadQuery(_) => true,
            ExecutionError::LastAttemptError(attempt) => is_lasting(attempt),
            _ => false,
        };
        Self(if lasting { failed(error) } else { unavailable(error) })
    }
}

impl From<PagerExecutionError> for Trouble {
    fn from(error: PagerExecutionError) -> Self {
        match error {
            PagerExecutionError::NextPageError(error) => NextRowError::from(error).into(),
            PagerExecutionError::SerializationError(error) => Self(failed(error)),
            error => Self(unavailable(error)),
        }
    }
}

impl From<NextRowError> for Trouble {
    fn from(error: NextRowError) -> Self {
        let passing = match &error {
            NextRowError::NextPageError(NextPageError::RequestFailure(request)) => match request {
                RequestError::LastAttemptError(attempt) => !is_lasting(attempt),
                _ => true,
            },
            _ => false,
        };
        Self(if passing { unavailable(error) } else { failed(error) })
    }
}

impl From<TypeCheckError> for Trouble {
    fn from(error: TypeCheckError) -> Self {
        Self(failed(error))
    }
}

/// Whether the same request would be answered the same way: the statement or the row is at fault, not the moment.
fn is_lasting(attempt: &RequestAttemptError) -> bool {
    use RequestAttemptError as E;
    match attempt {
        E::DbError(cause, _) => matches!(
            cause,
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
        ),
        E::SerializationError(_) | E::CqlRequestSerialization(_) | E::CqlResultParseError(_) => true,
        _ => false,
    }
}

/// Try again later.
pub(super) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Somebody has to look at it.
pub(super) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

pub(super) type Shared = Arc<Database>;
