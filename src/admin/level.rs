//! `/log-level`: what is logged, to be looked at by anybody who reads the metrics, and changed from this machine only.
//!
//! A change comes from a loopback address, as that of `kubectl port-forward` and of a shell on the machine do, and not
//! from a page in a browser, which would say its origin.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::ORIGIN;
use hyper::{HeaderMap, Method, StatusCode};

use crate::log::{LONGEST_FILTER, Logs};

/// Where it is.
pub(super) const PATH: &str = "/log-level";

/// Whether a request asks for another one: the only change that admin HTTP takes.
pub(super) fn is_change(method: &Method, path: &str) -> bool {
    *method == Method::PUT && path == PATH
}

/// What it is now.
pub(super) fn get(logs: &Logs) -> (StatusCode, String) {
    match logs.filter() {
        Some(filter) => (StatusCode::OK, format!("{filter}\n")),
        None => (StatusCode::NOT_FOUND, "the logs are not this proxy's\n".to_owned()),
    }
}

/// Changes it to what the body says.
pub(super) async fn put(
    logs: &Logs,
    from: SocketAddr,
    headers: HeaderMap,
    body: Incoming,
) -> (StatusCode, String) {
    if !from.ip().to_canonical().is_loopback() || headers.contains_key(ORIGIN) {
        let why = "the log level is changed from the proxy's own machine, and by no browser\n";
        return (StatusCode::FORBIDDEN, why.to_owned());
    }
    let Ok(body) = Limited::new(body, LONGEST_FILTER).collect().await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("a filter has at most {LONGEST_FILTER} bytes\n"));
    };
    let bytes = body.to_bytes();
    let Ok(filter) = std::str::from_utf8(&bytes) else {
        return (StatusCode::BAD_REQUEST, "a filter is UTF-8\n".to_owned());
    };
    let before = logs.filter().unwrap_or_default();
    match logs.set_filter(filter.trim()) {
        Ok(()) => {
            tracing::info!(before, now = filter.trim(), "another filter for the logs, until the next reload");
            (StatusCode::OK, format!("{}\n", filter.trim()))
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
