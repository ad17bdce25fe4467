//! Who may ask admin HTTP, and what it has to look like.
//!
//! A loopback address is not as private as it seems: a web site can have a browser ask it, and where the site's own name
//! leads to that address (DNS rebinding), also read the answer. Such a request names the site as its host.

use std::net::{IpAddr, SocketAddr};

use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};

use super::level;
use crate::secret::Secret;

/// What probes ask without a token: they say no more than yes or no. The page is empty before it has asked for more.
const OPEN: [&str; 3] = ["/live", "/ready", "/"];

/// Decides who is answered.
#[derive(Debug)]
pub struct Gate {
    token: Option<Secret>,
    /// Only those are answered who name this machine as their host.
    local: bool,
}

/// Why somebody is not answered: the status, and words for whoever looks.
pub(super) type Refused = (StatusCode, &'static str);

impl Gate {
    /// For what is bound to `address`.
    pub fn new(address: SocketAddr, token: Option<Secret>) -> Self {
        let local = token.is_none() && address.ip().to_canonical().is_loopback();
        Self { token, local }
    }

    /// Whether a request is answered.
    pub(super) fn check(&self, request: &Request<impl Body>) -> Result<(), Refused> {
        let headers = request.headers();
        if !level::is_change(request.method(), request.uri().path()) {
            takes_nothing(request)?;
        }
        if OPEN.contains(&request.uri().path()) {
            return Ok(());
        }
        if self.local && !names_this_machine(headers) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "ask for localhost, or by an IP address\n"));
        }
        match &self.token {
            Some(token) if !shows(headers, token) => {
                Err((StatusCode::UNAUTHORIZED, "Authorization: Bearer ... is needed\n"))
            }
            _ => Ok(()),
        }
    }
}

/// Everything but one path is only read.
fn takes_nothing(request: &Request<impl Body>) -> Result<(), Refused> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"));
    }
    let announced = request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if announced || !request.body().is_end_stream() {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "nothing is taken\n"));
    }
    Ok(())
}

/// Whether the host that a browser would have looked up is no name that anybody could give. Who says none is no browser.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    hosts.next().is_none() && (name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok())
}

fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let shown = headers.get(AUTHORIZATION).and_then(|shown| shown.to_str().ok());
    let Some((scheme, shown)) = shown.and_then(|shown| shown.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer") && token.is(shown.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::body::Bytes;

    fn status(gate: &Gate, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate.check(&request.body(Full::<Bytes>::default()).unwrap())
            .map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    fn gate(address: &str, token: Option<&str>) -> Gate {
        Gate::new(address.parse().unwrap(), token.map(|token| Secret::new(token.to_owned())))
    }

    #[test]
    fn a_loopback_address_answers_those_who_call_it_localhost_or_by_its_address() {
        for address in ["127.0.0.1:9127", "[::1]:9127", "[::ffff:127.0.0.1]:9127"] {
            let gate = gate(address, None);
            for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9127", "[::1]:9127", "[::1]", "10.0.0.1"] {
                assert_eq!(status(&gate, "/metrics", &[("host", host)]), 200, "{host}");
            }
            for host in
                ["evil.example", "localhost.evil.example:9127", "evil:127", "", "[evil]", "localhost:x"]
            {
                assert_eq!(status(&gate, "/metrics", &[("host", host)]), 421, "{host}");
                assert_eq!(status(&gate, "/live", &[("host", host)]), 200, "{host}");
            }
            assert_eq!(status(&gate, "/live.json", &[("host", "localhost"), ("host", "evil.example")]), 421);
            assert_eq!(status(&gate, "/metrics", &[]), 200);
        }
        assert_eq!(status(&gate("0.0.0.0:9127", None), "/metrics", &[("host", "firepool.prod.svc")]), 200);
    }

    #[test]
    fn with_a_token_only_probes_and_the_empty_page_are_answered_without_it() {
        let gate = gate("127.0.0.1:9127", Some("0123456789abcdef"));
        let with =
            |shown: &str| status(&gate, "/live.json", &[("authorization", shown), ("host", "any.example")]);
        assert_eq!(with("Bearer 0123456789abcdef"), 200);
        assert_eq!(with("bearer  0123456789abcdef"), 200);
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Bearer",
            "",
            "Basic 0123456789abcdef",
        ] {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        for path in ["/metrics", "/live.json", "/nowhere", "//", "/live/", "/ready%00"] {
            assert_eq!(status(&gate, path, &[]), 401, "{path}");
        }
        for path in ["/", "/live", "/ready", "/?x=y"] {
            assert_eq!(status(&gate, path, &[]), 200, "{path}");
        }
    }

    #[test]
    fn what_would_change_or_bring_something_is_not_taken() {
        let gate = gate("127.0.0.1:9127", None);
        let of = |method: Method, body: &'static [u8]| {
            let request =
                Request::builder().method(method).uri("/metrics").body(Full::<Bytes>::from(body)).unwrap();
            gate.check(&request).map_or_else(|(status, _)| status.as_u16(), |()| 200)
        };
        assert_eq!([of(Method::GET, b""), of(Method::HEAD, b"")], [200, 200]);
        for method in
            [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT, Method::TRACE]
        {
            assert_eq!(of(method, b""), 405);
        }
        assert_eq!(of(Method::GET, b"x"), 413);
    }

    #[test]
    fn a_change_of_the_log_level_needs_the_token_and_this_machine_as_its_host() {
        let of = |token: Option<&str>, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(Method::PUT).uri("/log-level");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            gate("127.0.0.1:9127", token)
                .check(&request.body(Full::<Bytes>::from("debug")).unwrap())
                .map_or_else(|(status, _)| status.as_u16(), |()| 200)
        };
        assert_eq!(of(None, &[("host", "localhost")]), 200);
        assert_eq!(of(None, &[("host", "evil.example")]), 421);
        assert_eq!(of(Some("0123456789abcdef"), &[("host", "localhost")]), 401);
        assert_eq!(of(Some("0123456789abcdef"), &[("authorization", "Bearer 0123456789abcdef")]), 200);
    }
}
