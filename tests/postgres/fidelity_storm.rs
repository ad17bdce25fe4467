//! The storm: many clients on few server connections, each with a session of its own in which nothing is missing and
//! nothing is another's. Every client looks after every step.
//!
//! `FIREPOOL_TEST_SEED` repeats what each client does; in which order the clients do it is up to the machine.

mod board;
mod channels;
mod client;
pub mod dice;
mod model;
mod pins;
mod plain;
mod play;
mod settings;
mod statements;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use board::Board;
use client::{Client, History};
use model::SETTINGS;

use crate::support::fixture::{Fixture, Lines};
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, Server};
use crate::support::wait::until;

const CLIENTS: usize = 50;

/// Transactions, or steps without, of each client. About half a minute in all on two busy cores.
const ACTS: usize = 150;

/// Where the storm takes place.
pub struct Storm {
    pub seed: u64,
    pub clients: usize,
    acts: usize,
    address: SocketAddr,
    /// Without a proxy.
    pub direct: bool,
    pub role: String,
    /// Of the role, for locks.
    pub number: u32,
    /// What the settings are where a client says nothing.
    pub defaults: Vec<String>,
    pub board: Board,
}

impl Storm {
    fn new(server: &Server, role: &str, address: SocketAddr, clients: usize) -> Self {
        let number = role.rsplit('_').next().unwrap().parse().unwrap();
        let direct = address == server.address();
        let seed = seed();
        let mut storm = Self {
            seed,
            clients,
            acts: ACTS,
            address,
            direct,
            role: role.to_owned(),
            number,
            defaults: Vec::new(),
            board: Board::default(),
        };
        storm.furnish(server);
        let mut direct = Raw::login(server.address(), role, DATABASE, &[]).unwrap();
        let mut show =
            |name: &&str| direct.value(&format!("SELECT coalesce(current_setting('{name}', true), '')"));
        storm.defaults = SETTINGS.iter().map(&mut show).collect();
        storm
    }

    /// Four schemas with a table of the same name, and two roles that the role may become.
    fn furnish(&self, server: &Server) {
        let mut admin = server.superuser(DATABASE);
        let grantees = ["a", "b"].map(|which| self.granted(which)).join(", ");
        admin.run(&grantees.split(", ").map(|role| format!("CREATE ROLE {role};")).collect::<String>());
        admin.run(&format!("GRANT {grantees} TO {}", self.role));
        for schema in (0..4).map(|which| self.schema(which)) {
            admin.run(&format!("CREATE SCHEMA {schema} AUTHORIZATION {}", self.role));
            admin.run(&format!("CREATE TABLE {schema}.whoami AS SELECT '{schema}'::text AS who"));
            admin.run(&format!("CREATE TABLE {schema}.copied (who text, n int)"));
            admin.run(&format!("CREATE SEQUENCE {schema}.numbers"));
            let everybody = format!("{grantees}, {}", self.role);
            admin.run(&format!("GRANT ALL ON SCHEMA {schema} TO {everybody}"));
            for all in ["TABLES", "SEQUENCES"] {
                admin.run(&format!("GRANT ALL ON ALL {all} IN SCHEMA {schema} TO {everybody}"));
            }
        }
    }

    /// The name of one of the four schemas.
    pub fn schema(&self, which: usize) -> String {
        format!("{}_s{which}", self.role)
    }

    /// A role that the role of the storm may become.
    pub fn granted(&self, which: &str) -> String {
        format!("{}_{which}", self.role)
    }

    /// The name of a channel.
    pub fn channel(&self, of: &str) -> String {
        format!("{}_{of}", self.role)
    }

    /// A client that waits so long for an answer.
    pub fn log_in(&self, startup: &[(&str, &str)], patience: Duration) -> Raw {
        let raw = Raw::login(self.address, &self.role, DATABASE, startup).unwrap();
        raw.stream.set_read_timeout(Some(patience)).unwrap();
        raw
    }

    /// Lets it rage, and reports the first client that did not find what it should.
    fn rage(&self) {
        println!("FIREPOOL_TEST_SEED={}", self.seed);
        let stop = AtomicBool::new(false);
        let failures: Vec<String> = thread::scope(|scope| {
            let client = |number| {
                let stop = &stop;
                scope.spawn(move || self.one(number, stop))
            };
            let clients: Vec<_> = (0..self.clients).map(client).collect();
            clients.into_iter().filter_map(|client| client.join().unwrap()).collect()
        });
        let first = failures.iter().max_by_key(|failure| failure.len());
        assert!(failures.is_empty(), "{} clients failed; {}", failures.len(), first.unwrap());
    }

    fn one(&self, number: usize, stop: &AtomicBool) -> Option<String> {
        let history = History::default();
        let life = || {
            let mut client = Client::new(self, number, &history);
            client.check();
            for _ in 0..self.acts {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                client.act();
            }
            client.leave();
        };
        let failure = catch_unwind(AssertUnwindSafe(life)).err()?;
        let words = failure.downcast_ref::<String>().cloned();
        let words = words.or_else(|| failure.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        if stop.swap(true, Ordering::Relaxed) {
            return Some(String::new());
        }
        Some(format!(
            "seed {}, client {number}, after these steps:\n{}  {}",
            self.seed,
            history.text(),
            words.unwrap_or_default()
        ))
    }

    /// What the server still keeps for the role.
    fn left(&self, admin: &mut Raw) -> Vec<String> {
        let role = &self.role;
        let mut count = |what: &str| admin.value(&format!("SELECT count(*) FROM {what}"));
        let locks = count(&format!(
            "pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND usename = '{role}'"
        ));
        let temps = count(&format!(
            "pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname LIKE 'pg\\_temp\\_%' \
             AND pg_get_userbyid(relowner) = '{role}'"
        ));
        let open = count(&format!(
            "pg_stat_activity WHERE usename = '{role}' AND state LIKE 'idle in transaction%'"
        ));
        vec![locks, temps, open]
    }
}

fn seed() -> u64 {
    let given = std::env::var("FIREPOOL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    given.unwrap_or(u64::from(now.subsec_nanos()) + now.as_secs() % 1_000_000)
}

pub fn the_storm_finds_on_postgresql_itself_what_the_model_says() {
    let server = Server::shared();
    let role = server.role();
    let mut storm = Storm::new(&server, &role, server.address(), 10);
    storm.acts = ACTS / 2;
    storm.rage();
    let mut admin = server.superuser(DATABASE);
    until("nothing is left", || storm.left(&mut admin) == ["0", "0", "0"]);
}

pub fn the_storm_finds_in_session_mode_what_the_model_says() {
    let fixture = Fixture::new("mode = \"session\"\npool_size = 10");
    let mut storm = Storm::new(&fixture.server, &fixture.role, fixture.proxy.address, 10);
    storm.acts = ACTS / 2;
    storm.rage();
    let mut admin = fixture.superuser();
    until("nothing is left", || storm.left(&mut admin) == ["0", "0", "0"]);
    assert!(fixture.connections(&mut admin) <= 10);
}

pub fn fifty_clients_on_three_connections_each_have_a_session_of_their_own() {
    const SIZE: usize = 3;
    let route = format!("pool_size = {SIZE}\ntimeouts = {{ query_wait = \"60s\" }}");
    let fixture = Fixture::with(Lines { route: &route, ..Lines::default() });
    let storm = Storm::new(&fixture.server, &fixture.role, fixture.proxy.address, CLIENTS);
    storm.rage();
    let mut admin = fixture.superuser();
    until("nothing is left", || storm.left(&mut admin) == ["0", "0", "0"]);
    // And the one that listens for all of them.
    assert!(fixture.connections(&mut admin) <= SIZE + 1);
    let (_, metrics) = fixture.proxy.get("/metrics");
    let pins = ["firepool_pins_total", "firepool_pinned_seconds_total", "firepool_session_questions_total"];
    for line in metrics.lines().filter(|line| pins.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
    assert_eq!(fixture.proxy.metric("firepool_pins_total", "reason=\"listen\""), 0.0);
    // A fresh client on each connection at once.
    let history = History::default();
    let mut fresh: Vec<_> = (0..SIZE).map(|n| Client::new(&storm, CLIENTS + n, &history)).collect();
    let mut backends = Vec::new();
    for client in &mut fresh {
        client.done("BEGIN", "BEGIN");
        client.model.begin();
        backends.push(client.raw.backend());
    }
    for client in &mut fresh {
        client.check();
        let channels = client.value("SELECT count(*) FROM pg_listening_channels()");
        assert_eq!(channels, "0", "a connection of the pool still listens");
    }
    backends.sort();
    backends.dedup();
    assert_eq!(backends.len(), SIZE, "three connections");
}
