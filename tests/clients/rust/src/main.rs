//! tokio-postgres over TLS: the server's certificate is verified, and SCRAM is bound to the channel.

use std::env::var;

use openssl::ssl::{SslConnector, SslMethod};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config};

fn env(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

async fn connect(
    authority: &str,
    password: &str,
    (mode, binding): (SslMode, ChannelBinding),
) -> Result<Client, tokio_postgres::Error> {
    let mut tls = SslConnector::builder(SslMethod::tls()).expect("OpenSSL");
    tls.set_ca_file(env(authority)).expect("a certificate");
    let (client, connection) = Config::new()
        .host("localhost")
        .port(env("PGPORT").parse().expect("a port"))
        .user(env("PGUSER"))
        .password(password)
        .dbname(env("CLIENTS_TRANSACTION"))
        .ssl_mode(mode)
        .channel_binding(binding)
        .connect(MakeTlsConnector::new(tls.build()))
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (mut checks, password) = (0, env("PGPASSWORD"));
    let mut check = |right: bool, what: &str| {
        assert!(right, "{what}");
        checks += 1;
    };
    let encrypted = SslMode::Require;
    for binding in [ChannelBinding::Require, ChannelBinding::Prefer, ChannelBinding::Disable] {
        let client = connect("CLIENTS_CA", &password, (encrypted, binding)).await.expect("a login");
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        check(client.query_one(sql, &[]).await.expect("an answer").get(0), "the other leg");
        for length in [1, 70_000, 3_000_000] {
            let text = "x".repeat(length);
            let row = client.query_one("SELECT $1::text", &[&text]).await.expect("an answer");
            check(row.get::<_, &str>(0) == text, "a long parameter and result");
        }
    }
    for binding in [ChannelBinding::Require, ChannelBinding::Disable] {
        let refused = connect("CLIENTS_CA", "wrong", (encrypted, binding)).await.err();
        let code = refused.as_ref().and_then(|error| error.code()).map(|code| code.code().to_owned());
        check(code.as_deref() == Some("28P01"), &format!("a wrong password: {refused:?}"));
    }
    let refused = connect("CLIENTS_OTHER_CA", &password, (encrypted, ChannelBinding::Require)).await;
    check(refused.is_err(), "another's certificate");
    let refused = connect("CLIENTS_CA", &password, (SslMode::Disable, ChannelBinding::Require)).await;
    check(refused.is_err(), "nothing to bind to without TLS");
    println!("ok {checks} checks");
}
