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
    if !is_from_here(from, &headers) {
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

/// Whether a request comes from this machine, and from no page in a browser.
fn is_from_here(from: SocketAddr, headers: &HeaderMap) -> bool {
    from.ip().to_canonical().is_loopback() && !headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_this_machine_and_no_browser_changes_the_level() {
        let with = |origin: Option<&'static str>| {
            origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))).into_iter().collect::<HeaderMap>()
        };
        for (from, origin, expected) in [
            ("127.0.0.1:5000", None, true),
            ("127.8.9.10:5000", None, true),
            ("[::1]:5000", None, true),
            ("[::ffff:127.0.0.1]:5000", None, true),
            ("10.0.0.1:5000", None, false),
            ("[::ffff:10.0.0.1]:5000", None, false),
            ("[fe80::1]:5000", None, false),
            ("0.0.0.0:5000", None, false),
            ("127.0.0.1:5000", Some("http://localhost"), false),
            ("127.0.0.1:5000", Some("null"), false),
        ] {
            assert_eq!(is_from_here(from.parse().unwrap(), &with(origin)), expected, "{from} {origin:?}");
        }
    }
}
