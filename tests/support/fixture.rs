//! A proxy of a test's own in front of a server, with a role that no other test uses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firepool::app::App;
use firepool::config::{self, Config};

use super::raw::{Failure, Raw};
use super::server::{DATABASE, PASSWORD, Server};
use super::wait::{LIMIT, until};

/// Lines of a configuration file, by table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lines<'a> {
    pub proxy: &'a str,
    pub user: &'a str,
    pub database: &'a str,
    pub route: &'a str,
}

/// A proxy with a route for one role on the database of the tests.
pub struct Fixture {
    pub server: Arc<Server>,
    pub role: String,
    pub proxy: Proxy,
}

impl Fixture {
    /// With the given lines of the route.
    pub fn new(route: &str) -> Self {
        Self::with(Lines { route, ..Lines::default() })
    }

    /// In transaction mode, with so many server connections.
    pub fn transaction(pool_size: u32) -> Self {
        Self::new(&format!("pool_size = {pool_size}"))
    }

    /// With the given lines, in front of the shared server.
    pub fn with(lines: Lines<'_>) -> Self {
        Self::on(Server::shared(), lines)
    }

    /// With the given lines, in front of `server`.
    pub fn on(server: Arc<Server>, lines: Lines<'_>) -> Self {
        let role = server.role();
        let Lines { proxy, user, database, route } = lines;
        let text = format!(
            "[proxy]\nworkers = 2\n{proxy}\n[users.{role}]\npassword = \"{PASSWORD}\"\n{user}\n\
             [databases.{DATABASE}]\n{database}\n[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\n{route}\n"
        );
        let mut config = configuration(server.address(), &text);
        // Asking whether the server is there takes a connection beside the pool's, which these tests count.
        config.targets.iter_mut().for_each(|target| Arc::make_mut(target).required = false);
        // So does asking for its schemas.
        config.metrics.refresh = None;
        Self { server, role, proxy: Proxy::serve(config) }
    }

    /// A client that is logged in through the proxy.
    #[track_caller]
    pub fn client(&self) -> Raw {
        self.login(&[]).unwrap()
    }

    /// A login through the proxy with more startup parameters.
    pub fn login(&self, more: &[(&str, &str)]) -> Result<Raw, Failure> {
        Raw::login(self.proxy.address, &self.role, DATABASE, more)
    }

    /// A superuser's connection to the database of the tests, beside the proxy.
    pub fn superuser(&self) -> Raw {
        self.server.superuser(DATABASE)
    }

    /// How many server connections the role has, as the server sees it.
    pub fn connections(&self, admin: &mut Raw) -> usize {
        self.count(admin, "true")
    }

    /// Server connections of the role of which `condition` holds in pg_stat_activity.
    pub fn count(&self, admin: &mut Raw, condition: &str) -> usize {
        let from = format!("FROM pg_stat_activity WHERE usename = '{}'", self.role);
        admin.value(&format!("SELECT count(*) {from} AND ({condition})")).parse().unwrap()
    }

    /// A URL of the role through the proxy.
    pub fn url(&self) -> String {
        format!("postgresql://{}:{PASSWORD}@{}/{DATABASE}", self.role, self.proxy.address)
    }
}

/// A running proxy.
pub struct Proxy {
    pub app: Option<App>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// What admin HTTP is shown with each request, with its newline.
    pub shown: String,
}

impl Proxy {
    /// Starts a proxy in front of `server`: `text` is everything but the target.
    pub fn start(server: &Server, text: &str) -> Self {
        Self::serve(configuration(server.address(), text))
    }

    /// Starts a proxy on free ports.
    pub fn serve(mut config: Config) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        config.proxy.listen = vec![any];
        config.admin = Some(any);
        let token = config.admin_token.as_ref();
        let shown = token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose()));
        let app = App::start(Arc::new(config)).unwrap();
        let shown = shown.unwrap_or_default();
        Self { address: app.addresses()[0], admin: app.admin().unwrap(), shown, app: Some(app) }
    }

    /// Stops it in good order, on a thread of its own.
    pub fn drain(&mut self, limit: Duration) -> std::thread::JoinHandle<()> {
        let app = self.app.take().unwrap();
        std::thread::spawn(move || app.drain(limit))
    }

    /// What admin HTTP answers: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let shown = &self.shown;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{shown}Connection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The sum of the samples of a metric whose labels contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, body) = self.get("/metrics");
        let samples = body.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples
            .filter(|line| line.contains(label))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until it is ready for clients.
    pub fn ready(&self) {
        until("the proxy is ready", || self.get("/ready").0 == 200);
    }
}

/// The configuration of a proxy in front of a server at `target`.
pub fn configuration(target: SocketAddr, text: &str) -> Config {
    let target = format!("[targets.main]\nhost = \"{}\"\nport = {}\n", target.ip(), target.port());
    config::parse(&format!("{text}\n{target}"), Path::new("test.toml"), &|_| None).unwrap()
}
