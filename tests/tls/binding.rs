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

/// What a server with TLS, or without, that offers these mechanisms is sent first.
fn first_response(encrypted: bool, mechanisms: &[&str]) -> Vec<u8> {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("server", "server", &["localhost"]);
    let files = ServerFiles { certificate, key, client_ca: None, client_crl: None };
    let acceptor = Acceptor::load(files, false, MinVersion::V1_2).unwrap();
    let mut offer = 10_u32.to_be_bytes().to_vec();
    offer.extend(messages::text(mechanisms));
    offer.push(0);
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
            stream.read_exact(&mut length).await.unwrap();
            stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4]).await.unwrap();
            stream.write_all(&messages::message(b'R', &offer)).await.unwrap();
            let mut header = [0; 5];
            stream.read_exact(&mut header).await.unwrap();
            let [_, length @ ..] = header;
            let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut body).await.unwrap();
            body
        })
    });
    let config = config_of(address.recv().unwrap(), "somebody", "", "sslmode = \"prefer\"");
    let proxy = Proxy::serve(config);
    let client = thread::spawn(move || Raw::login(proxy.address, "somebody", DATABASE, &[]).map(drop));
    let body = serving.join().unwrap();
    let _ = client.join().unwrap();
    body
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
        let body = first_response(encrypted, offered);
        let name = [mechanism.as_bytes(), b"\0"].concat();
        assert!(body.starts_with(&name), "{}", body.escape_ascii());
        assert!(body[name.len() + 4..].starts_with(flag.as_bytes()), "{}", body.escape_ascii());
    }
}
