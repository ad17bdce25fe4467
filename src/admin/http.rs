//! Admin HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus' text format 0.0.4 |
//! | `/statements.json`, `/statements.txt` | the statements that take the most: `statements` |
//! | `/live` | 200 while the process runs |
//! | `/ready` | 200 when every required target has answered and the proxy is not draining, 503 otherwise |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::statements::{self, Wish};
use crate::metrics::Metrics;

/// Connections at once. Scrapers and probes need a handful; more would only cost memory.
const CONNECTIONS: usize = 64;

/// How long a request's headers may take to arrive, and how long a connection may last.
const HEADERS: Duration = Duration::from_secs(5);
const LIFETIME: Duration = Duration::from_secs(60);

/// Whether the proxy is ready for clients.
#[derive(Debug, Default)]
pub struct Readiness {
    missing: AtomicUsize,
    draining: AtomicBool,
}

impl Readiness {
    /// Not ready until so many targets have answered.
    pub fn waits_for(targets: usize) -> Self {
        Self { missing: AtomicUsize::new(targets), draining: AtomicBool::new(false) }
    }

    /// One of them has.
    pub fn answered(&self) {
        let less = |missing: usize| missing.checked_sub(1);
        let _ = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Never ready again.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why not, or `Ok`.
    pub fn check(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining\n".into());
        }
        match self.missing.load(Ordering::Relaxed) {
            0 => Ok(()),
            missing => Err(format!("{missing} required targets have not answered yet\n")),
        }
    }
}

/// Answers requests until the task is dropped.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, readiness: Arc<Readiness>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (metrics, readiness) = (Arc::clone(&metrics), Arc::clone(&readiness));
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let response = answer(&request, &metrics, &readiness);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            let connection = builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            // A peer that breaks HTTP or takes too long is no concern of anybody's.
            let _ =
                tokio::time::timeout(LIFETIME, connection.serve_connection(TokioIo::new(socket), service))
                    .await;
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, readiness: &Readiness) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
    }
    match request.uri().path() {
        "/metrics" => match metrics.render() {
            Ok(body) => {
                let mut response = text(StatusCode::OK, body);
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, format);
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/statements.json" | "/statements.txt" => top(request.uri(), metrics),
        "/live" => text(StatusCode::OK, "live\n".into()),
        "/ready" => match readiness.check() {
            Ok(()) => text(StatusCode::OK, "ready\n".into()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/" => {
            text(StatusCode::OK, "firepool: /metrics /statements.txt /statements.json /live /ready\n".into())
        }
        _ => text(StatusCode::NOT_FOUND, "not found\n".into()),
    }
}

fn top(uri: &Uri, metrics: &Metrics) -> Response<Full<Bytes>> {
    let wish = match Wish::read(uri.query().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(wrong) => return text(StatusCode::BAD_REQUEST, wrong),
    };
    let Some(ranking) = metrics.ranking() else {
        return text(StatusCode::NOT_FOUND, "`top_statements` is 0: statements are not counted\n".into());
    };
    if uri.path().ends_with(".txt") {
        return text(StatusCode::OK, statements::text(&ranking, &wish));
    }
    match statements::json(&ranking, &wish) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_required_target_has_answered_and_nothing_drains() {
        let readiness = Readiness::waits_for(2);
        assert!(readiness.check().is_err());
        readiness.answered();
        assert!(readiness.check().unwrap_err().contains('1'));
        readiness.answered();
        assert_eq!(readiness.check(), Ok(()));
        readiness.answered();
        assert_eq!(readiness.check(), Ok(()));
        readiness.drain();
        assert!(readiness.check().is_err());
    }
}
