//! Admin HTTP as a browser and a hostile peer see it: the page, its headers, the figures behind it, and who is answered.
//! The page itself is tried in a browser by `make page`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic like tests")]

mod peers;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use peers::client::Client;
use peers::proxy::{Proxy, Wishes};
use peers::server::Server;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What comes back, all of it, until the other side has closed.
fn raw(admin: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(admin).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = socket.write_all(request);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(proxy: &Proxy, path: &str, headers: &str) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    let answer = raw(proxy.admin, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

fn guarded(server: &Server) -> Proxy {
    Proxy::with(server.address, &Wishes { token: Some(TOKEN), ..Wishes::default() })
}

#[test]
fn the_page_may_run_its_own_script_and_nothing_else() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let (status, head, body) = get(&proxy, "/", "Host: localhost\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    let directives: Vec<_> = policy.split("; ").collect();
    assert!(
        directives.contains(&"default-src 'none'") && directives.contains(&"connect-src 'self'"),
        "{policy}"
    );
    for kind in ["script-src", "style-src"] {
        let sources = directives.iter().find_map(|directive| directive.strip_prefix(kind)).unwrap();
        assert!(sources.starts_with(" 'sha256-") && sources.split(' ').count() == 2, "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert!(body.starts_with("<!doctype html>") && body.len() < 40_000);
    for header in ["x-content-type-options: nosniff", "cache-control: no-store", "x-frame-options: deny"] {
        assert!(head.contains(header), "{head}");
    }
}

#[test]
fn the_figures_are_those_of_this_moment() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    client.query("SELECT 1").unwrap();
    client.query("SELECT 2").unwrap();
    let (status, head, body) = get(&proxy, "/live.json", "Host: localhost\r\n");
    assert!(status == 200 && head.contains("content-type: application/json"), "{head}");
    let live: serde_json::Value = serde_json::from_str(&body).unwrap();
    let pool = &live["pools"][0];
    for (key, value) in [("clients", 1), ("queries", 2), ("waiting", 0), ("size", 1), ("errors", 0)] {
        assert_eq!(pool[key], value, "{key}: {pool}");
    }
    assert_eq!(
        (&pool["database"], &pool["user"], &pool["mode"]),
        (&"app".into(), &"alice".into(), &"transaction".into())
    );
    let schema = &live["schemas"][0];
    assert_eq!((&schema["schema"], &schema["statements"]), (&"none".into(), &2.into()));
    let buckets = schema["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), live["bounds"].as_array().unwrap().len() + 1);
    assert_eq!(buckets.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 2);
    assert_eq!(live["logins"]["ok"], 1);
    assert_eq!(live["workers"].as_array().unwrap().len(), 1);
    assert!(live["not_ready"].is_null() && live["config"]["reloaded"] == true, "{body}");
}

#[test]
fn with_a_token_nothing_is_told_to_those_who_do_not_show_it() {
    let server = Server::honest();
    let proxy = guarded(&server);
    let shown = format!("Host: any.example\r\nAuthorization: Bearer {TOKEN}\r\n");
    let wrong = format!("Authorization: Bearer {}\r\n", TOKEN.replace('f', "e"));
    for path in ["/metrics", "/live.json", "/statements.json", "/nowhere"] {
        for headers in ["", "Authorization: Basic eDp5\r\n", &wrong] {
            let (status, head, body) = get(&proxy, path, headers);
            assert_eq!((status, body.as_str()), (401, "Authorization: Bearer ... is needed\n"), "{path}");
            assert!(head.contains("www-authenticate: bearer"), "{head}");
        }
        assert_ne!(get(&proxy, path, &shown).0, 401, "{path}");
    }
    for path in ["/live", "/ready"] {
        assert_eq!(get(&proxy, path, "").0, 200, "{path}");
    }
    let (status, _, page) = get(&proxy, "/", "");
    assert!(status == 200 && !page.contains(TOKEN));
}

#[test]
fn a_web_site_whose_name_leads_to_the_loopback_address_learns_nothing() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for path in ["/metrics", "/live.json", "/statements.json"] {
        let (status, _, body) = get(&proxy, path, "Host: rebound.example:9127\r\n");
        assert_eq!((status, body.as_str()), (421, "ask for localhost, or by an IP address\n"), "{path}");
    }
    assert_eq!(get(&proxy, "/live", "Host: rebound.example\r\n").0, 200);
}

#[test]
fn requests_that_are_too_large_or_bring_something_are_refused_and_the_next_one_is_answered() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(40_000));
    for (request, status) in [
        ("POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "405"),
        ("GET /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "413"),
        ("GET /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(), "413"),
        (format!("GET /live HTTP/1.1\r\n{many}\r\n"), "431"),
        (format!("GET /live HTTP/1.1\r\n{long}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), "431"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = raw(proxy.admin, request.as_bytes());
        let line = answer.lines().next().unwrap_or("").to_owned();
        assert!(line.contains(status), "{status}: {line:?} to {:.60}", request);
    }
    proxy.assert_alive();
}

#[test]
fn a_peer_that_says_nothing_is_let_go_and_keeps_nobody_out() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    // As many as there may be at once, and a half of a request from each.
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut socket = TcpStream::connect(proxy.admin).unwrap();
            socket.write_all(b"GET /live HTT").unwrap();
            socket
        })
        .collect();
    assert!(proxy.ask("/live").starts_with("HTTP/1.1 200"));
    drop(silent);
}
