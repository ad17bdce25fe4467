//! SCRAM-SHA-256-PLUS.

use std::sync::mpsc;
use std::thread;

use firepool::stream::Stream;
use firepool::tls::{Acceptor, MinVersion, ServerFiles};
use tokio::net::TcpListener;

use super::stage::{Authority, Encrypted, config_of, psql};
use super::support::fixture::Proxy;
use super::support::messages;
use super::support::raw::Raw;
use super::support::server::DATABASE;

pub fn libpq_binds_its_password_to_the_channel() {
    let encrypted = Encrypted::shared();
    let (server, authority) = (&encrypted.server, &encrypted.authority);
    let role = server.role();
    let proxy = encrypted.proxy(&role, &authority.tls("allow"), &encrypted.verified());
    for (binding, sslmode, expected) in [
        ("require", "require", true),
        ("prefer", "require", true),
        ("disable", "require", true),
        ("require", "disable", false),
    ] {
        let env = [("PGSSLMODE", sslmode), ("PGCHANNELBINDING", binding)];
        let output = psql(server, proxy.address, &role, &env, "SELECT 1");
        assert_eq!(output.status.success(), expected, "{binding} {sslmode}: {output:?}");
        let env = [&env[..], &[("PGPASSWORD", "wrong")]].concat();
        let output = psql(server, proxy.address, &role, &env, "SELECT 1");
        assert!(!output.status.success(), "{binding} {sslmode}: a wrong password");
    }
}

/// What a server with TLS, or without, is sent when it asks for this; `None` if the proxy leaves instead. `more` are lines of
/// the target.
fn first_response(encrypted: bool, asked: Vec<u8>, more: &str) -> Option<Vec<u8>> {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("server", "server", &["localhost"]);
    let files = ServerFiles { certificate, key, client_ca: None, client_crl: None };
    let acceptor = Acceptor::load(files, false, MinVersion::V1_2).unwrap();
    let (addresses, address) = mpsc::sync_channel(1);
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.send(listener.local_addr().unwrap()).unwrap();
            let mut stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
            stream.read_exact(&mut [0; 8]).await.unwrap();
            if encrypted {
                stream.write_all(b"S").await.unwrap();
                stream.accept_tls(&acceptor, &[]).await.unwrap();
            } else {
                stream.write_all(b"N").await.unwrap();
            }
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.ok()?;
            stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4]).await.unwrap();
            stream.write_all(&messages::message(b'R', &asked)).await.unwrap();
            let mut header = [0; 5];
            stream.read_exact(&mut header).await.ok()?;
            let [_, length @ ..] = header;
            let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut body).await.unwrap();
            Some(body)
        })
    });
    // The one connection that the server takes decides.
    let config = config_of(address.recv().unwrap(), "somebody", "[timeouts]\nquery_wait = \"2s\"", more);
    let proxy = Proxy::serve(config);
    let client = thread::spawn(move || Raw::login(proxy.address, "somebody", DATABASE, &[]).map(drop));
    let body = serving.join().unwrap();
    let _ = client.join().unwrap();
    body
}

fn offer(mechanisms: &[&str]) -> Vec<u8> {
    [&10_u32.to_be_bytes()[..], &messages::text(mechanisms), b"\0"].concat()
}

pub fn servers_are_proved_the_password_with_the_channel_where_they_can() {
    let (plain, plus) = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS");
    for (encrypted, offered, mechanism, flag) in [
        (true, &[plus, plain][..], plus, "p=tls-server-end-point,,n=,r="),
        (true, &[plain, plus], plus, "p=tls-server-end-point,,n=,r="),
        // What somebody in between may have taken away, the server can find out by the flag.
        (true, &[plain], plain, "y,,n=,r="),
        (false, &[plain], plain, "n,,n=,r="),
        (false, &[plus, plain], plain, "n,,n=,r="),
    ] {
        let body = first_response(encrypted, offer(offered), "").unwrap();
        let name = [mechanism.as_bytes(), b"\0"].concat();
        assert!(body.starts_with(&name), "{}", body.escape_ascii());
        assert!(body[name.len() + 4..].starts_with(flag.as_bytes()), "{}", body.escape_ascii());
    }
}

/// `channel_binding`, with libpq's meaning.
pub fn a_server_that_cannot_bind_what_it_is_proved_gets_nothing_where_that_is_required() {
    let (plain, plus) = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS");
    let never = first_response(true, offer(&[plus, plain]), "channel_binding = \"disable\"").unwrap();
    assert!(never[plain.len() + 5..].starts_with(b"n,,n=,r="), "{}", never.escape_ascii());
    let required = "channel_binding = \"require\"";
    let bound = first_response(true, offer(&[plus, plain]), required).unwrap();
    assert!(bound.starts_with(b"SCRAM-SHA-256-PLUS\0"), "{}", bound.escape_ascii());
    for (encrypted, asked) in [
        (true, offer(&[plain])),
        (true, 0_u32.to_be_bytes().to_vec()),
        (true, 3_u32.to_be_bytes().to_vec()),
        (true, [5_u32.to_be_bytes(), *b"salt"].concat()),
        // Without TLS it is not even told who comes.
        (false, offer(&[plus, plain])),
    ] {
        let heard =
            first_response(encrypted, asked.clone(), &format!("cleartext_without_tls = true\n{required}"));
        assert_eq!(heard, None, "{encrypted} {asked:?}");
    }
}

pub fn a_real_server_binds_what_it_is_proved() {
    let encrypted = Encrypted::own();
    let role = encrypted.server.role();
    for (method, expected) in [("scram-sha-256", None), ("trust", Some("08004")), ("password", Some("08004"))]
    {
        encrypted.admit(&format!("host all {role} 127.0.0.1/32 {method}"));
        for mode in ["allow", "prefer", "require"] {
            let target = format!("sslmode = \"{mode}\"\nchannel_binding = \"require\"");
            let proxy = encrypted.proxy(&role, "", &target);
            let refused = Raw::login(proxy.address, &role, DATABASE, &[]).err().map(|failure| failure.code);
            assert_eq!(refused.as_deref(), expected, "{method} {mode}");
        }
    }
}

/// `sslrootcert = "system"`, where the system trusts whom a variable says, as OpenSSL has it.
pub fn those_whom_the_system_trusts_vouch_for_servers() {
    let encrypted = Encrypted::shared();
    let (role, stranger) = (encrypted.server.role(), Authority::new());
    for (host, trusted, expected) in [
        ("localhost", &encrypted.authority.root, true),
        ("localhost", &stranger.root, false),
        ("127.0.0.1", &encrypted.authority.root, false),
    ] {
        let target = format!("host = \"{host}\"\nsslrootcert = \"system\"");
        let path = stranger.folder.join("firepool.toml");
        std::fs::write(&path, super::stage::text_of(encrypted.server.address(), &role, "", &target)).unwrap();
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_firepool"));
        check.args(["check", "--connect", "--config", path.to_str().unwrap()]);
        let output = check.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR").output().unwrap();
        assert_eq!(output.status.success(), expected, "{host} {trusted:?}: {output:?}");
    }
}
