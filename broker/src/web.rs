//! The http port: liveness, readiness, metrics. Answers are plain text for people and probes.
//! What they say is decided in `health` and `metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use crate::listener::{Accepted, Port};
use crate::metrics::Sources;

/// A client has this long for each request's headers; it also ends idle connections.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// All headers of one request together.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// All pages.
pub(crate) fn router(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .with_state(sources)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(sources): State<Arc<Sources>>) -> Response {
    match sources.health.readiness() {
        // Ready all the same: the other shards serve, and this one is read.
        Ok(()) => {
            let lines = sources.health.remarks().into_iter();
            lines.fold("ok\n".to_owned(), |text, line| text + &line + "\n").into_response()
        }
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
        }
    }
}

async fn metrics(State(sources): State<Arc<Sources>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match sources.page().await {
        Ok(page) => ([(header::CONTENT_TYPE, kind)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n").into_response()
}

/// Serves one connection until the client leaves, is too slow, or the port stops.
pub(crate) async fn serve(accepted: Accepted, port: Arc<Port>, router: Router) {
    let Accepted { stream, peer, place } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = port.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        count(&port, &error);
        tracing::debug!(port = port.name, %peer, %error, "connection broke");
    }
    drop(place);
}

fn count(port: &Port, error: &hyper::Error) {
    if error.is_parse() {
        port.counters.foreign.inc();
    } else if error.is_timeout() {
        port.counters.silent.inc();
    } else {
        port.counters.broken.inc();
    }
}
