//! The operations port: is it alive, is it ready and if not why, what are its figures. Answers from
//! memory only, holds a bounded number of connections for a bounded time, and never changes anything.

mod health;
mod listener;
mod process;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

pub(crate) use health::{Health, Stage};
pub(crate) use process::register;

/// What the endpoints answer from.
#[derive(Clone)]
pub(crate) struct Ops {
    /// Of this process.
    pub(crate) health: Arc<Health>,
    /// Of every part; they register as they start.
    pub(crate) registry: Arc<Mutex<Registry>>,
}

/// Answers until `stop` comes.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    listener: TcpListener,
    ops: Ops,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener::Bounded::new(listener), router(ops)).with_graceful_shutdown(stop).await
}

fn router(ops: Ops) -> Router {
    Router::new()
        .route("/livez", get(|| async { answer("text/plain", "ok\n".into()) }))
        .route("/startupz", get(started))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn started(State(ops): State<Ops>) -> Response {
    match ops.health.stage() {
        Stage::Starting => {
            (StatusCode::SERVICE_UNAVAILABLE, answer("text/plain", "starting\n".into())).into_response()
        }
        Stage::Up | Stage::Draining => answer("text/plain", "ok\n".into()),
    }
}

async fn ready(State(ops): State<Ops>) -> Response {
    let reasons = ops.health.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
    (status, [(header::CONNECTION, "close")], Json(body)).into_response()
}

async fn metrics(State(ops): State<Ops>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(
        &mut text,
        &ops.registry.lock().unwrap_or_else(PoisonError::into_inner),
    ) {
        Ok(()) => answer("application/openmetrics-text; version=1.0.0; charset=utf-8", text),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Every answer closes its connection, so that the listener's time limit never cuts a request short.
fn answer(kind: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CONNECTION, "close")], body).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn start(health: Arc<Health>) -> std::net::SocketAddr {
        let mut registry = Registry::default();
        register(&mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(
            listener,
            Ops { health, registry: Arc::new(Mutex::new(registry)) },
            std::future::pending(),
        ));
        address
    }

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut link = TcpStream::connect(address).await.unwrap();
        link.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        link.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn readiness_follows_the_stage_and_names_its_reasons() {
        let health = Arc::new(Health::new());
        health.check("lease", || Some("no incarnation yet".into()));
        let address = start(health.clone()).await;
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/startupz").await.starts_with("HTTP/1.1 503"));
        health.up();
        assert!(fetch(address, "/startupz").await.starts_with("HTTP/1.1 200"));
        let ready = fetch(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(
            ready.ends_with(r#"{"ready":false,"reasons":[{"part":"lease","reason":"no incarnation yet"}]}"#),
            "{ready}"
        );
        health.draining();
        assert!(fetch(address, "/readyz").await.contains("draining"));
    }

    #[tokio::test]
    async fn metrics_tell_about_the_process_and_the_build() {
        let text = fetch(start(Arc::new(Health::new())).await, "/metrics").await;
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
            "godwit_time_seconds ",
            "process_open_fds ",
            "godwit_process_rss_anon_bytes ",
            "godwit_allocator_allocated_bytes ",
            "godwit_allocator_active_bytes ",
            "godwit_allocator_resident_bytes ",
            "godwit_build_info{version=",
            "# EOF",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in {text}");
        }
    }

    #[tokio::test]
    async fn silent_clients_do_not_keep_others_out() {
        let health = Arc::new(Health::new());
        let address = start(health).await;
        let mut silent = Vec::new();
        for _ in 0..listener::CONNECTIONS_MAX + 50 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
    }
}
