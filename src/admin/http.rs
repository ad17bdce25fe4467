//! Admin HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page for people |
//! | `/live.json` | the figures that it shows, as they are at this moment |
//! | `/metrics` | Prometheus' text format 0.0.4 |
//! | `/statements.json`, `/statements.txt` | the statements that take the most: `statements` |
//! | `/live` | 200 while the process runs |
//! | `/log-level` | what is logged; `PUT` from this machine changes it until the next reload |
//! | `/ready` | 200 when every required target has answered and the proxy is not draining, 503 otherwise |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::gate::Gate;
use super::level;
use super::live;
use super::page::Page;
pub use super::readiness::Readiness;
use super::statements::{self, Wish};
use crate::log::Logs;
use crate::metrics::Metrics;

/// Connections at once. Scrapers, probes and a few people need a handful; more would only cost memory.
const CONNECTIONS: usize = 64;

/// How long a request's headers may take to arrive, how long a connection may last, and how long its last answer may take
/// after that.
const HEADERS: Duration = Duration::from_secs(5);
const LIFETIME: Duration = Duration::from_secs(60);
const LAST: Duration = Duration::from_secs(5);

/// Bytes and number of a request's headers: browsers send less than a fifth of either.
const HEADER_BYTES: usize = 16 * 1024;
const HEADER_COUNT: usize = 64;

/// What no answer may do: load, run or be framed by anything.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// What is answered from.
#[derive(Debug)]
pub struct Site {
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Whether the proxy is ready.
    pub readiness: Arc<Readiness>,
    /// Who is answered.
    pub gate: Gate,
    /// The page for people.
    pub page: Page,
    /// For `/log-level`.
    pub logs: Logs,
}

/// Answers requests until the task is dropped.
pub async fn serve(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((socket, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            let _place = place;
            attend(socket, from, &site).await;
        });
    }
}

/// Answers the requests of one connection. A peer that breaks HTTP or takes too long is no concern of anybody's.
async fn attend(socket: TcpStream, from: SocketAddr, site: &Site) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request, from, site).await) });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.max_buf_size(HEADER_BYTES).max_headers(HEADER_COUNT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(socket), service));
    if tokio::time::timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST, connection).await;
    }
}

async fn answer(request: Request<Incoming>, from: SocketAddr, site: &Site) -> Response<Full<Bytes>> {
    let mut response = match site.gate.check(&request) {
        Ok(()) if level::is_change(request.method(), request.uri().path()) => {
            let (head, body) = request.into_parts();
            let (status, said) = level::put(&site.logs, from, head.headers, body).await;
            text(status, said)
        }
        Ok(()) => route(&request, site),
        Err((status, words)) => {
            let mut response = text(status, words);
            if status == StatusCode::UNAUTHORIZED {
                set(&mut response, WWW_AUTHENTICATE, "Bearer realm=\"firepool\"");
            }
            response
        }
    };
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        set(&mut response, name, value);
    }
    if !response.headers().contains_key(CONTENT_SECURITY_POLICY) {
        set(&mut response, CONTENT_SECURITY_POLICY, NOTHING);
    }
    response
}

fn route(request: &Request<Incoming>, site: &Site) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/metrics" => match site.metrics.render() {
            Ok(body) => of("text/plain; version=0.0.4; charset=utf-8", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" => match site.readiness.check() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/live.json" => match live::json(&site.metrics, &site.readiness) {
            Ok(body) => of("application/json", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/statements.json" | "/statements.txt" => top(request.uri(), &site.metrics),
        level::PATH => {
            let (status, said) = level::get(&site.logs);
            text(status, said)
        }
        "/" => {
            let mut response = of("text/html; charset=utf-8", site.page.html());
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, site.page.policy());
            response
        }
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn top(uri: &Uri, metrics: &Metrics) -> Response<Full<Bytes>> {
    let wish = match Wish::read(uri.query().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(wrong) => return text(StatusCode::BAD_REQUEST, wrong),
    };
    let Some(ranking) = metrics.ranking() else {
        return text(StatusCode::NOT_FOUND, "`top_statements` is 0: statements are not counted\n");
    };
    if uri.path().ends_with(".txt") {
        return text(StatusCode::OK, statements::text(&ranking, &wish));
    }
    match statements::json(&ranking, &wish) {
        Ok(body) => of("application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn set(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = of("text/plain; charset=utf-8", body);
    *response.status_mut() = status;
    response
}

fn of(kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    set(&mut response, CONTENT_TYPE, kind);
    response
}
