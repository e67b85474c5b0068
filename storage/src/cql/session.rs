//! The driver's session: how it is made, and statements as the tables use them. Prepares everything once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::pager::NextRowError;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
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
use super::place::Place;
use super::schema;
use crate::tables::{LAYOUT_VERSION, Layout, StoreError};

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take, retries on other replicas included: longer than servers themselves wait
/// for each other (5 s), so that their word comes first.
const REQUEST: Duration = Duration::from_secs(10);
/// How long creating what is not there may take: tables one after the other, then agreement of all nodes.
const CREATE: Duration = Duration::from_secs(60);
/// A node that has not answered for so long is asked no longer alone: the next one is asked as well. Far above
/// a pause of a healthy node, so that a busy cluster is not asked twice.
const ASK_ANOTHER: Duration = Duration::from_secs(1);
/// How often an idle connection is tried, and how long the answer may take until it is given up.
const KEEPALIVE: Duration = Duration::from_secs(3);
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

impl Database {
    /// Connects, creates what is not there, and checks the layout.
    pub(super) async fn open(place: &Place, options: &Options) -> Result<Self, StoreError> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .request_timeout(Some(REQUEST))
            .speculative_execution_policy(Some(Arc::new(SimpleSpeculativeExecutionPolicy {
                max_retry_count: 2,
                retry_interval: ASK_ANOTHER,
            })))
            .build();
        let builder = SessionBuilder::new()
            .known_nodes(&place.nodes)
            .connection_timeout(CONNECT)
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE)
            .default_execution_profile_handle(profile.into_handle());
        let session = match tokio::time::timeout(CONNECT, builder.build()).await {
            Ok(session) => session.map_err(unavailable)?,
            Err(_) => return Err(StoreError::Unavailable(format!("{}: no answer", place.nodes.join(",")))),
        };
        let preparing = async {
            create(&session, place).await?;
            session.use_keyspace(&place.keyspace, false).await.map_err(unavailable)?;
            check_layout(&session, place, options.layout()).await?;
            Statements::prepare(&session).await
        };
        let statements = tokio::time::timeout(CREATE, preparing).await.map_err(|_| {
            let (nodes, keyspace) = (place.nodes.join(","), &place.keyspace);
            StoreError::Unavailable(format!("{nodes}: keyspace {keyspace} was not ready in {CREATE:?}"))
        })??;
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

    /// The same statement for several rows of one CQL partition, whole or not at all.
    pub(super) async fn write_all<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        rows: Vec<V>,
    ) -> Result<(), StoreError> {
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
        statement.set_request_timeout(Some(3 * REQUEST));
        session.query_unpaged(statement, ()).await.map_err(|error| Trouble::from(error).0)?;
    }
    session.await_schema_agreement().await.map_err(unavailable)?;
    Ok(())
}

/// Whether every table is there.
async fn is_created(session: &Session, place: &Place) -> Result<bool, StoreError> {
    let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let result = session.query_unpaged(text, (place.keyspace.as_str(),)).await;
    let rows = result.map_err(|error| Trouble::from(error).0)?.into_rows_result().map_err(failed)?;
    session.await_schema_agreement().await.map_err(unavailable)?;
    Ok(rows.rows_num() >= schema::TABLES.len())
}

/// Writes the layout where there is none, and refuses any other. Of two that create at once with different
/// counts, the later one at least sees both rows. Neither row is taken back: a third process may have read it
/// and begun, and without it the other counts would be taken in silence.
async fn check_layout(session: &Session, place: &Place, layout: Layout) -> Result<(), StoreError> {
    let int = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let counts = layout.partitions;
    let mine = (int(layout.version), int(counts.messages), int(counts.timelines));
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
        use ExecutionError as E;
        let lasting = match &error {
            E::BadQuery(_) => true,
            E::LastAttemptError(RequestAttemptError::DbError(cause, _)) => matches!(
                cause,
                DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
            ),
            _ => false,
        };
        Self(if lasting { failed(error) } else { unavailable(error) })
    }
}

impl From<scylla::errors::PagerExecutionError> for Trouble {
    fn from(error: scylla::errors::PagerExecutionError) -> Self {
        Self(unavailable(error))
    }
}

/// What a page that does not come, or a row that is not what the schema says, means for the caller.
pub(super) fn unread(error: NextRowError) -> StoreError {
    match error {
        NextRowError::NextPageError(error) => unavailable(error),
        error => failed(error),
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
