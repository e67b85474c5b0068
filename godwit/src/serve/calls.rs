//! Queries that devices make over their links: answered by this process if it has the api role, otherwise
//! by an api node out of the node table, in turn. Bounded in number and in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conn::CallRequest;
use logic::api::Api;
use logic::nodes::NodeTable;
use proto::v1::calls_client::CallsClient;
use proto::v1::calls_server::{Calls, CallsServer};
use proto::v1::link_call_result::Result as Outcome;
use proto::{Code, Fault, UserId, v1};
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::{Request, Response, Status};

use super::peers::Peers;

/// Queries that wait to be looked at; none waits for those at work.
pub(crate) const WAITING_MAX: usize = 256;
/// How long one may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Nodes that are asked before a query is given up: a query can be repeated.
const NODES_TRIED_MAX: usize = 2;

/// Who answers.
pub(super) enum Answerer {
    /// This process.
    Here(Arc<Api>),
    /// Api nodes of the table.
    Elsewhere(Remote),
}

/// Answers the calls of conn's links until conn is gone.
pub(super) async fn answer(
    mut requests: mpsc::Receiver<CallRequest>,
    answerer: Answerer,
    at_work_max: usize,
) {
    let answerer = Arc::new(answerer);
    let at_work = Arc::new(Semaphore::new(at_work_max));
    while let Some(request) = requests.recv().await {
        let Ok(permit) = at_work.clone().try_acquire_owned() else {
            let fault = Fault::new(Code::Busy, "too many queries are waiting");
            request.reply.send(Outcome::Error(fault.to_error(None)));
            continue;
        };
        let answerer = answerer.clone();
        tokio::spawn(async move {
            let asked = answerer.ask(request.call);
            let outcome = tokio::time::timeout(ANSWER_WITHIN, asked).await;
            let late = || Outcome::Error(Fault::new(Code::Unavailable, "no answer in time").to_error(None));
            request.reply.send(outcome.unwrap_or_else(|_| late()));
            drop(permit);
        });
    }
}

impl Answerer {
    async fn ask(&self, call: v1::LinkCall) -> Outcome {
        match self {
            Answerer::Here(api) => outcome(api, call).await,
            Answerer::Elsewhere(remote) => remote.ask(call).await,
        }
    }
}

async fn outcome(api: &Api, call: v1::LinkCall) -> Outcome {
    let asked = async {
        let user = UserId::new(&call.user)?;
        api.call(&user, call.call.unwrap_or_default()).await
    };
    match asked.await {
        Ok(result) => Outcome::Ok(result),
        Err(fault) => Outcome::Error(fault.to_error(None)),
    }
}

/// Api nodes in other processes.
pub(super) struct Remote {
    table: watch::Receiver<Arc<NodeTable>>,
    turn: AtomicUsize,
    peers: Peers,
}

impl Remote {
    /// Asks the nodes of this table.
    pub(super) fn new(table: watch::Receiver<Arc<NodeTable>>) -> Self {
        Self { table, turn: AtomicUsize::new(0), peers: Peers::default() }
    }

    async fn ask(&self, call: v1::LinkCall) -> Outcome {
        for address in self.addresses() {
            let Ok(channel) = self.peers.channel(&address) else { continue };
            match CallsClient::new(channel).call(call.clone()).await {
                Ok(answer) => match answer.into_inner().result {
                    Some(outcome) => return outcome,
                    None => tracing::warn!(address, "an api node answered nothing"),
                },
                Err(status) => tracing::warn!(address, code = %status.code(), "an api node did not answer"),
            }
        }
        Outcome::Error(Fault::new(Code::Unavailable, "no api node answers").to_error(None))
    }

    /// The next few in turn.
    fn addresses(&self) -> Vec<String> {
        let table = self.table.borrow().clone();
        let live: Vec<&str> = table
            .live()
            .filter(|node| !node.api_address.is_empty() && !node.draining)
            .map(|node| node.api_address.as_str())
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let from = turn % live.len().max(1);
        live.iter()
            .cycle()
            .skip(from)
            .take(live.len().min(NODES_TRIED_MAX))
            .map(|a| (*a).to_owned())
            .collect()
    }
}

/// Answers conn nodes in other processes. They have verified who asks.
pub(super) struct CallService {
    api: Arc<Api>,
    at_work: Semaphore,
}

impl CallService {
    /// The service for this api, so many at the same time.
    pub(super) fn server(api: Arc<Api>, at_work_max: usize) -> CallsServer<Self> {
        CallsServer::new(Self { api, at_work: Semaphore::new(at_work_max) })
    }
}

#[tonic::async_trait]
impl Calls for CallService {
    async fn call(&self, request: Request<v1::LinkCall>) -> Result<Response<v1::LinkCallResult>, Status> {
        let Ok(_permit) = self.at_work.try_acquire() else {
            return Err(Status::resource_exhausted("too many queries are waiting"));
        };
        let asked = tokio::time::timeout(ANSWER_WITHIN, outcome(&self.api, request.into_inner()));
        let result =
            asked.await.map_err(|_| Status::deadline_exceeded("the store did not answer in time"))?;
        Ok(Response::new(v1::LinkCallResult { result: Some(result) }))
    }
}

#[cfg(test)]
mod tests {
    use storage::embedded;
    use storage::log::Partitions;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;

    use super::*;

    async fn api_node(dir: &std::path::Path) -> String {
        let partitions = Partitions { messages: 1, timelines: 1 };
        let data = embedded::open(dir, embedded::Options::new(partitions)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server =
            Server::builder().add_service(CallService::server(Arc::new(Api::new(data.store(), 8)), 8));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn remote(addresses: &[&str]) -> Remote {
        let mut table = NodeTable::default();
        for (nonce, address) in (1..).zip(addresses) {
            let api_address = (*address).to_owned();
            let join = v1::Join { node: format!("n{nonce}"), nonce, api_address, ..Default::default() };
            table.apply(nonce, &v1::NodeRecord { record: Some(v1::node_record::Record::Join(join)) });
        }
        Remote::new(watch::channel(Arc::new(table)).1)
    }

    async fn code(remote: &Remote) -> Option<Code> {
        let call = v1::Call { method: "godwit.v1.No/Such".into(), ..Default::default() };
        let asked = v1::LinkCall { user: "ann".into(), device: "phone".into(), call: Some(call) };
        match remote.ask(asked).await {
            Outcome::Error(error) => Code::from_number(error.code),
            Outcome::Ok(_) => None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_finds_a_node_that_answers() {
        let dir = tempfile::tempdir().unwrap();
        let address = api_node(dir.path()).await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert_eq!(code(&remote(&[])).await, Some(Code::Unavailable));
        assert_eq!(code(&remote(&[&gone])).await, Some(Code::Unavailable));
        let both = remote(&[&gone, &address]);
        for _ in 0..4 {
            assert_eq!(code(&both).await, Some(Code::UnknownMethod), "whichever is asked first");
        }
    }
}
