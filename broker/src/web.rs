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
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use crate::health::Health;
use crate::listener::{Accepted, Place, Port};
use crate::metrics::page::Pages;

/// A client has this long for each request's headers; it also ends idle connections.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose last request began so long ago does not read its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// All headers of one request together.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// All pages.
pub(crate) fn router(health: Arc<Health>, pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(metrics).with_state(pages))
        .fallback(unknown)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    match health.readiness() {
        // Ready all the same: the other shards serve, and this one is read.
        Ok(()) => {
            let lines = health.remarks().into_iter();
            lines.fold("ok\n".to_owned(), |text, line| text + &line + "\n").into_response()
        }
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
        }
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match pages.get().await {
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
    let place = Arc::new(place);
    let router = TowerToHyperService::new(router);
    let caller = Arc::clone(&place);
    let service = service_fn(move |request| {
        caller.called();
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.gives_way() => return,
        () = unread(&place) => {
            port.counters.silent.inc();
            return;
        }
        () = port.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        count(&port, &error);
        tracing::debug!(port = port.name, %peer, %error, "connection broke");
    }
}

/// Ends when the last request began too long ago.
async fn unread(place: &Place) {
    while let Some(left) = ANSWER_TIMEOUT.checked_sub(place.quiet_for()) {
        tokio::time::sleep(left + Duration::from_millis(1)).await;
    }
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
