//! Errors that say too little. Every field of an ErrorResponse is optional for whoever reads it, the SQLSTATE too: a
//! pooler that took it for granted was ended by a server that left it out (CVE-2026-6666 of PgBouncer).

use firepool::backend::{Lost, query as question};
use tokio::runtime::Builder;
use tracing_subscriber::util::SubscriberInitExt;

use crate::peers::bytes::{answer, extended, message, ready};
use crate::peers::client::Client;
use crate::peers::honest::{Honest, OWN};
use crate::peers::proxy::Proxy;
use crate::peers::server::Server;

/// Errors without a SQLSTATE, and without anything.
fn terse() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("no SQLSTATE", message(b'E', b"SERROR\0VERROR\0Mno\0\0")),
        ("no field", message(b'E', b"\0")),
        ("no body", message(b'E', b"")),
        ("a torn SQLSTATE", message(b'E', b"C42")),
        ("an empty SQLSTATE", message(b'E', b"C\0\0")),
        ("a SQLSTATE of one letter", message(b'E', b"VERROR\0C4\0\0")),
        ("a text that is not UTF-8", message(b'E', b"M\xff\0\0")),
    ]
}

/// A server that is honest, but says `said` to every batch in which `mark` stands.
fn server(mark: &'static [u8], said: Vec<u8>) -> Server {
    Server::start(move |conn| {
        conn.log_in()?;
        let mut session = Honest::default();
        loop {
            let mut batch = vec![conn.receive()?];
            while !matches!(batch[batch.len() - 1].0, b'Q' | b'S' | b'X') {
                batch.push(conn.receive()?);
            }
            if batch[0].0 == b'X' {
                return Ok(());
            }
            let is_meant = batch.iter().any(|(_, body)| body.windows(mark.len()).any(|part| part == mark));
            let reply = match is_meant {
                true => [said.clone(), ready(b'I')].concat(),
                false => batch.iter().flat_map(|(tag, body)| session.reply(*tag, body)).collect(),
            };
            conn.send(&reply)?;
        }
    })
}

#[test]
fn an_error_that_says_too_little_reaches_its_client_and_ends_nobody() {
    for (what, said) in terse() {
        let server = server(b"SELECT bad", said.clone());
        let proxy = Proxy::before(server.address);
        let mut client = Client::log_in(proxy.address);
        let expected = [said, ready(b'I')].concat();
        assert_eq!(client.query("SELECT bad").unwrap(), expected, "{what}");
        client.send(&extended("SELECT bad"));
        assert_eq!(client.until_ready().unwrap(), expected, "{what}");
        // On a connection that a client before may have spoilt, and on the same one.
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"), "{what}");
        assert_eq!(server.accepted(), 1, "{what}");
        proxy.assert_alive();
    }
}

#[test]
fn a_question_of_the_proxys_own_that_is_answered_with_too_little_ends_nobody() {
    for (what, said) in terse() {
        let server = server(OWN, said);
        let proxy = Proxy::before(server.address);
        let mut client = Client::log_in(proxy.address);
        let set = client.query("SET work_mem = '1MB'").unwrap();
        assert!(set.ends_with(&ready(b'I')), "{what}: {set:?}");
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"), "{what}");
        drop(client);
        proxy.assert_alive();
    }
}

#[test]
fn a_login_whose_settings_are_refused_with_too_little_is_told_so() {
    for (what, said) in terse() {
        let server = server(b"set_config", said);
        let proxy = Proxy::before(server.address);
        let refused = Client::try_log_in(proxy.address, &[("search_path", "app")]).err();
        assert_eq!(refused.as_deref(), Some("22023"), "{what}");
        proxy.assert_alive();
    }
}

#[test]
fn a_look_up_that_is_answered_with_too_little_is_refused_and_nothing_more() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // What the server said is read for the log.
    let _log = tracing_subscriber::fmt().with_writer(std::io::sink).set_default();
    for (what, said) in terse() {
        let server = server(b"SELECT who", said);
        let opener = server.opener();
        let asked = runtime.block_on(async {
            let mut conn = opener.open().await.unwrap();
            question::rows_with(&mut conn, "SELECT who", &["alice"]).await.map(|rows| rows.len())
        });
        assert!(matches!(asked, Err(Lost::Refused)), "{what}: {asked:?}");
    }
}
