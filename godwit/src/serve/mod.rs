//! `godwit serve`: one process with some or all roles. [`Server::start`] and [`Server::stop`] are the order
//! in which the parts come and go; nothing else in Godwit knows all of them.

mod banner;
mod calls;
mod descriptors;
mod lease;
mod listen;
mod peers;
mod push;
mod signals;
mod storage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::storage::log::Partitions;
use anyhow::Context as _;
use conn::StartError;
use logic::Logic;
use logic::api::Api;
use logic::nodes::{Member, Nodes};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::auth;
use crate::exit::{Exit, Failure};
use crate::ops::{self, Health, Ops};
use crate::settings::{Auth, Between, Settings};
use banner::Listening;
use calls::Answerer;
pub(crate) use calls::WAITING_MAX as QUERIES_WAITING_MAX;
use signals::Signals;
pub(crate) use storage::embedded_options;

/// How often readiness is looked at while starting.
const READY_POLL: Duration = Duration::from_millis(10);
/// After this long without being ready the log says why.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a server until a signal ends it.
pub(crate) async fn run(settings: Settings, ports_file: Option<PathBuf>) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let interrupted =
        |name: &str| Failure::new(Exit::Interrupted, anyhow::anyhow!("{name} before it was ready"));
    let server = tokio::select! {
        server = Box::pin(Server::start(&settings)) => server?,
        name = signals.next() => return Err(interrupted(name)),
    };
    let ended = tokio::select! {
        name = signals.next() => Ok(name),
        failure = lease::replaced(server.nodes.lease()) => Err(failure),
        failure = server.announce(&settings, ports_file.as_deref()) => Err(failure),
    };
    match &ended {
        Ok(signal) => tracing::info!(signal, "draining"),
        Err(_) => tracing::info!("stopping"),
    }
    tokio::spawn(signals.abort_on_next());
    server.stop().await;
    tracing::info!("stopped");
    ended.map(|_| ())
}

/// The parts of a running process.
struct Server {
    health: Arc<Health>,
    listening: Listening,
    partitions: Partitions,
    nodes: Arc<Nodes>,
    conn: Option<Arc<conn::Node>>,
    logic: Arc<Mutex<Option<Logic>>>,
    /// Ended with the process; none of them has anything to lose.
    tasks: Vec<JoinHandle<()>>,
    stop_ops: oneshot::Sender<()>,
    ops: JoinHandle<()>,
}

impl Server {
    /// The order of start: what others stand on comes first, and nothing is asked of devices before
    /// everything is there.
    async fn start(settings: &Settings) -> Result<Self, Failure> {
        let roles = settings.node.roles;
        warn_loudly(settings);
        let mut registry = Registry::default();
        ops::register(&mut registry);
        let registry = Arc::new(Mutex::new(registry));
        let health = Arc::new(Health::new());
        let mut listening = Listening::default();
        let mut tasks = Vec::new();

        let (ops_listener, address) = listen::bind("ops.listen", settings.ops_listen).await?;
        listening.ops = Some(address);
        let (stop_ops, ops) =
            start_ops(ops_listener, Ops { health: health.clone(), registry: registry.clone() });

        // Before anything is created: a mistake in the keys is one in the settings.
        let issuer = auth::of_issuer(&settings.auth)?;
        let storage = storage::open(settings, &registry, &health).await?;
        let partitions = storage.log.partitions();
        let keys = issuer.map_or_else(|| auth::of_development(&settings.node.data), Ok)?;
        let peers = listen::Peers::bind(settings).await?;
        listening.node = peers.push_address();
        listening.api = peers.api_address();

        let api = roles.api.then(|| Arc::new(Api::new(storage.store.clone(), settings.queries_max)));
        let (calls_in, calls) = mpsc::channel(calls::WAITING_MAX);
        let conn = match roles.conn {
            true => Some(start_conn(settings, keys, &storage, calls_in, &registry)?),
            false => None,
        };
        listening.conn = conn.as_ref().map(|conn| conn.address());
        let nodes = Arc::new(Nodes::start(storage.log.clone(), member(settings, &peers)));
        tasks.extend(peers.serve(conn.clone(), api.clone(), settings.queries_max));
        if let Some(conn) = &conn {
            tasks.push(tokio::spawn(lease::follow(nodes.lease(), conn.clone())));
            tasks.push(tokio::spawn(lease::report(nodes.clone(), conn.clone())));
            let answerer = match api {
                Some(api) => Answerer::Here(api),
                None => Answerer::Elsewhere(calls::Remote::new(nodes.table())),
            };
            tasks.push(tokio::spawn(calls::answer(calls, answerer, settings.queries_max)));
        }
        let logic = match roles.logic {
            true => Some(start_logic(settings, &storage, &nodes, conn.clone(), &registry)?),
            false => None,
        };
        let logic = Arc::new(Mutex::new(logic));
        check_readiness(&health, &nodes, conn.as_ref(), &logic);
        health.up();
        Ok(Self { health, listening, partitions, nodes, conn, logic, tasks, stop_ops, ops })
    }

    /// The order of stop: devices leave first, while everything that answers them still runs; then what
    /// was judged is written; then the others are told.
    async fn stop(self) {
        self.health.draining();
        let links = self.conn.as_ref().map_or(0, |conn| conn.links());
        self.nodes.set_draining(links);
        if let Some(conn) = &self.conn {
            conn.drain().await;
        }
        let logic = lock(&self.logic).take();
        if let Some(logic) = logic {
            logic.stop().await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        for task in self.tasks {
            let _ = task.await;
        }
        if let Some(nodes) = Arc::into_inner(self.nodes) {
            nodes.leave().await;
        }
        let _ = self.stop_ops.send(());
        let _ = self.ops.await;
    }

    /// Waits until the process is ready and says so. Returns only if it cannot.
    async fn announce(&self, settings: &Settings, ports_file: Option<&Path>) -> Failure {
        self.ready().await;
        if let Some(Err(failure)) = ports_file.map(|file| write_ports(file, &self.listening)) {
            return failure;
        }
        crate::say(&banner::text(settings, self.partitions, &self.listening));
        tracing::info!(node = settings.node.name, "ready");
        std::future::pending().await
    }

    /// Waits until nothing keeps the process from being ready; says what does if that takes long.
    async fn ready(&self) {
        let mut polls: u32 = 0;
        loop {
            let reasons = self.health.reasons();
            if reasons.is_empty() {
                return;
            }
            polls += 1;
            if READY_POLL * polls >= PATIENCE {
                polls = 0;
                tracing::warn!(reasons = ?reasons, "not ready yet");
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }
}

fn warn_loudly(settings: &Settings) {
    if settings.auth == Auth::Development {
        tracing::warn!(
            key = %client::development::find_key(&settings.node.data).display(),
            "DEVELOPMENT MODE: whoever reads the key on this machine can be any user"
        );
    }
    if let Some(limit) = descriptors::raise() {
        let links = settings.conn.links_max;
        if settings.node.roles.conn && usize::try_from(limit).is_ok_and(|limit| limit < links) {
            tracing::info!(limit, links_max = links, "the limit on open descriptors is below conn.links_max");
        }
    }
}

fn start_ops(listener: tokio::net::TcpListener, ops: Ops) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(async move {
        if let Err(error) = ops::serve(listener, ops, until).await {
            tracing::error!(%error, "the operations port failed");
        }
    });
    (stop, task)
}

fn start_conn(
    settings: &Settings,
    keys: conn::Keys,
    storage: &storage::Storage,
    calls: mpsc::Sender<conn::CallRequest>,
    registry: &Mutex<Registry>,
) -> Result<Arc<conn::Node>, Failure> {
    let started =
        conn::Node::start(settings.conn.clone(), storage.log.clone(), keys, calls, &mut lock(registry));
    started.map(Arc::new).map_err(|error| match error {
        StartError::Listen { address, cause } => listen::failure("conn.listen", address, cause),
        StartError::Config(_) => Failure::new(Exit::Settings, error),
        StartError::System(_) | StartError::Log(_) => Failure::from(error),
    })
}

fn start_logic(
    settings: &Settings,
    storage: &storage::Storage,
    nodes: &Nodes,
    conn: Option<Arc<conn::Node>>,
    registry: &Mutex<Registry>,
) -> Result<Logic, Failure> {
    let dialer = Arc::new(push::Dialer::new(conn.map(|conn| (settings.node.name.clone(), conn))));
    let (log, store) = (storage.log.clone(), storage.store.clone());
    logic::start(settings.logic.clone(), log, store, dialer, nodes.table(), &mut lock(registry))
        .map_err(|mistakes| Failure::new(Exit::Settings, anyhow::anyhow!(mistakes.join("\n"))))
}

fn member(settings: &Settings, peers: &listen::Peers) -> Member {
    let roles = settings.node.roles;
    // On embedded storage nobody else reads the table: there, an address only says that the role is here.
    let reached = |has: bool, given: &Between, bound: Option<SocketAddr>| match (has, &given.address, bound) {
        (false, ..) => String::new(),
        (true, Some(address), _) => address.clone(),
        (true, None, Some(bound)) => bound.to_string(),
        (true, None, None) => "here".to_owned(),
    };
    Member {
        name: settings.node.name.clone(),
        stream_address: reached(roles.conn, &settings.node.push, peers.push_address()),
        api_address: reached(roles.api, &settings.api, peers.api_address()),
        logic: roles.logic,
    }
}

fn check_readiness(
    health: &Health,
    nodes: &Nodes,
    conn: Option<&Arc<conn::Node>>,
    logic: &Arc<Mutex<Option<Logic>>>,
) {
    let lease_now = nodes.lease();
    health.check("lease", move || lease::reason(*lease_now.borrow()));
    if let Some(conn) = conn.cloned() {
        health.check("conn", move || joined(conn.ready()));
    }
    let logic = logic.clone();
    health.check("logic", move || joined(lock(&logic).as_ref()?.ready()));
}

fn joined<T: ToString>(ready: Result<(), Vec<T>>) -> Option<String> {
    ready.err().map(|reasons| reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// Whole or not at all, so that whoever waits for the file can read it as soon as it is there.
fn write_ports(file: &Path, listening: &Listening) -> Result<(), Failure> {
    let text = serde_json::to_vec(listening).context("the addresses as JSON")?;
    let draft = file.with_extension("draft");
    std::fs::write(&draft, text).with_context(|| format!("writing {}", draft.display()))?;
    std::fs::rename(&draft, file).with_context(|| format!("writing {}", file.display()))?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
