//! The proxy itself, inside of the test's process.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firepool::app::App;
use firepool::config::{self, PoolMode};
use firepool::secret::Secret;

use super::PATIENCE;

/// Who logs in.
pub const USER: &str = "alice";
/// With what.
pub const PASSWORD: &str = "correct horse";
/// To what.
pub const DATABASE: &str = "app";

/// What a test wants to be different.
pub struct Wishes {
    pub workers: usize,
    pub pool_size: u32,
    pub mode: PoolMode,
    pub login_timeout: Duration,
    pub connect: Duration,
    pub query_wait: Duration,
    pub replication: bool,
    pub pgbouncer_names: bool,
    /// What admin HTTP wants to be shown.
    pub token: Option<&'static str>,
    pub max_clients: usize,
    pub max_logins: usize,
    pub failed_logins: Option<u32>,
    pub failed_logins_within: Duration,
    pub salt_secret: Option<&'static str>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            workers: 1,
            pool_size: 1,
            mode: PoolMode::Transaction,
            login_timeout: Duration::from_secs(15),
            connect: Duration::from_secs(5),
            query_wait: Duration::from_secs(10),
            replication: false,
            pgbouncer_names: false,
            token: None,
            max_clients: 5000,
            max_logins: 1000,
            // Tests fail often, and all of them from one address.
            failed_logins: None,
            failed_logins_within: Duration::from_secs(60),
            salt_secret: None,
        }
    }
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    app: App,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Proxy {
    /// One worker, one server connection.
    pub fn before(server: SocketAddr) -> Self {
        Self::with(server, &Wishes::default())
    }

    /// A proxy in front of `server`, which it asks nothing before a client does.
    pub fn with(server: SocketAddr, wishes: &Wishes) -> Self {
        let mut text = String::new();
        let _ = write!(
            text,
            "[targets.main]\nhost = \"{}\"\nport = {}\nrequired = false\nsslmode = \"disable\"\n\
             [users.{USER}]\npassword = \"{PASSWORD}\"\n\
             [[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{USER}\"\nmode = \"{}\"\npool_size = {}\n",
            server.ip(),
            server.port(),
            wishes.mode.as_str(),
            wishes.pool_size,
        );
        let mut config = config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
        config.proxy.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.proxy.workers = Some(wishes.workers);
        // Only clients' requests come to the server.
        config.metrics.refresh = None;
        config.metrics.pgbouncer_names = wishes.pgbouncer_names;
        config.proxy.max_clients = wishes.max_clients;
        config.authentication.max_logins = wishes.max_logins;
        config.authentication.failed_logins = wishes.failed_logins;
        config.authentication.failed_logins_within = wishes.failed_logins_within;
        config.authentication.salt_secret = wishes.salt_secret.map(|text| Secret::new(text.to_owned()));
        config.proxy.login_timeout = wishes.login_timeout;
        config.admin_token = wishes.token.map(|token| config::Secret::new(token.to_owned()));
        config.admin = Some("127.0.0.1:0".parse().unwrap());
        for route in &mut config.routes {
            let route = Arc::make_mut(route);
            route.timeouts.connect = wishes.connect;
            route.timeouts.query_wait = wishes.query_wait;
            route.replication = wishes.replication;
        }
        let app = App::start(Arc::new(config)).unwrap();
        let (address, admin) = (app.addresses()[0], app.admin().unwrap());
        Self { app, address, admin }
    }

    /// An answer of admin HTTP: status line, headers and body.
    pub fn ask(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum of a metric's samples.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.ask("/metrics");
        let samples = page.lines().filter_map(|line| line.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with(['{', ' ']));
        samples.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// `/live` answers and a client is served: no thread has died.
    pub fn assert_alive(&self) {
        assert!(self.ask("/live").starts_with("HTTP/1.1 200"), "/live");
        let mut client = super::client::Client::log_in(self.address);
        assert_eq!(
            client.query("SELECT 'still here'").unwrap(),
            super::bytes::answer(b"SELECT 'still here'")
        );
    }

    /// Whether `/ready` says so.
    pub fn is_ready(&self) -> bool {
        self.app.is_ready()
    }
}
