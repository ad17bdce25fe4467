//! The log of slow statements, as the program writes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::auth::Folder;
use crate::auth_secrets::{Running, firepool, get, port};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The program with a configuration of its own, whose log is a file.
struct Program {
    role: String,
    address: SocketAddr,
    page: u16,
    folder: Folder,
    _running: Running,
    _server: Arc<Server>,
}

impl Program {
    fn new(log: &str, route: &str) -> Self {
        let (server, folder, own, page) = (Server::shared(), Folder::new(), port(), port());
        let role = server.role();
        let text = format!(
            "[proxy]\nlisten = [\"127.0.0.1:{own}\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:{page}\"\n\
             [log]\nformat = \"json\"\n{log}\n[metrics]\nrefresh = \"0s\"\n[users.{role}]\npassword = \"{PASSWORD}\"\n\
             [targets.main]\nhost = \"{}\"\nport = {}\n[[routes]]\npool_size = 1\n{route}\n",
            server.address().ip(),
            server.address().port(),
        );
        let path = folder.file("firepool.toml", &text);
        let log = std::fs::File::create(folder.0.join("log")).unwrap();
        let mut command = firepool(&["serve", "--config", &path]);
        let running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        until("it is ready", || get(page, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
        let address = SocketAddr::from(([127, 0, 0, 1], own));
        Self { role, address, page, folder, _running: running, _server: server }
    }

    fn client(&self) -> Raw {
        Raw::login(self.address, &self.role, DATABASE, &[("application_name", "the tests")]).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("log")).unwrap()
    }

    /// What was told of slow statements.
    fn told(&self) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("a slow statement") && line.ends_with('}'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn a_slow_statement_is_told_without_literals_and_its_wait_apart_from_the_servers_time() {
    let program = Program::new("slow_query = \"200ms\"", "");
    let (mut first, mut second) = (program.client(), program.client());
    first.run("SELECT 'quick', 'hidden'");
    first.run("SELECT pg_sleep(0.3), 'hidden'");
    first.run("BEGIN");
    let commented = format!(
        "SELECT 'hidden', n FROM generate_series(1, 3) n /*traceparent='00-{TRACE}-00f067aa0ba902b7-01'*/"
    );
    second.send(&query(&commented));
    until("the client waits", || {
        get(program.page, "/metrics").unwrap().lines().any(|line| line.contains("\"waiting\"} 1"))
    });
    let since = Instant::now();
    until("it has waited", || since.elapsed() > Duration::from_secs(1));
    first.run("COMMIT");
    assert_eq!(second.reply().rows().len(), 3);
    second.batch(&[unnamed("SELECT pg_sleep($1) / 0", &["0.3"]), sync()]);
    second.batch(&[unnamed("SELECT 1 / ($1 - count(pg_sleep(0.3)))", &["1"]), sync()]);

    until("it is told", || program.told().len() == 3);
    let told = program.told();
    let [slept, waited, failed] = &told[..] else { panic!("{told:?}") };
    let millis = |line: &Value| ["waited_ms", "server_ms"].map(|name| line[name].as_f64().unwrap());
    assert_eq!(slept["statement"], "select pg_sleep(?), ?");
    assert!(millis(slept)[0] == 0.0 && millis(slept)[1] >= 300.0, "{slept}");
    assert_eq!(waited["statement"], "select ?, n from generate_series(?) n");
    assert!(millis(waited)[0] >= 1_000.0 && millis(waited)[1] < millis(waited)[0], "{waited}");
    assert_eq!((waited["trace"].as_str(), waited["rows"].as_u64()), (Some(TRACE), Some(3)));
    assert_eq!((failed["failed"].as_str(), failed["trace"].as_str()), (Some("22"), Some("")));
    for line in &told {
        assert_eq!(
            (line["user"].as_str(), line["database"].as_str()),
            (Some(&*program.role), Some(DATABASE))
        );
        assert_eq!((line["level"].as_str(), line["application"].as_str()), (Some("WARN"), Some("the tests")));
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1"), "{line}");
        assert_eq!(line["fingerprint"].as_str().unwrap().len(), 16);
    }
    assert!(!program.log().contains("hidden"));
}

pub fn literals_are_told_only_where_that_is_asked_for_and_a_route_may_be_left_out() {
    let log = "slow_query = \"100ms\"\nslow_query_literals = true";
    let program = Program::new(log, "");
    let mut client = program.client();
    client.run("SELECT pg_sleep(0.15), 'shown'");
    client.batch(&[unnamed("SELECT pg_sleep(0.15),\n'shown', $1", &["never"]), sync()]);
    client.batch(&[parse("s", "SELECT pg_sleep(0.15), 'as well', $1"), sync()]);
    client.batch(&[bind("", "s", &["never"]), execute("", 0), sync()]);
    until("they are told", || program.told().len() == 3);
    let texts: Vec<String> =
        program.told().iter().map(|line| line["statement"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        texts,
        [
            "SELECT pg_sleep(0.15), 'shown'",
            "SELECT pg_sleep(0.15), 'shown', $1",
            "SELECT pg_sleep(0.15), 'as well', $1",
        ]
    );
    assert!(!program.log().contains("never"));

    let program = Program::new(log, "slow_query = \"0s\"");
    program.client().run("SELECT pg_sleep(0.15)");
    drop(program.client().query("SELECT 1"));
    assert_eq!(program.told().len(), 0);
}

pub fn a_storm_of_slow_statements_is_told_in_few_lines_and_with_their_number() {
    let program = Program::new("slow_query = \"1us\"", "");
    let mut client = program.client();
    let since = Instant::now();
    (0..400).for_each(|_| drop(client.run("SELECT 1")));
    let windows = since.elapsed().as_secs() + 2;
    let lines = program.told().len() as u64;
    assert!((1..=10 * windows).contains(&lines), "{lines} in {windows} s");
    // The first line of another window says how many were not told.
    let mut sent = 400;
    until("they are told", || {
        client.run("SELECT 1");
        sent += 1;
        let counts = program.told().into_iter().map(|line| 1 + line["unsaid"].as_u64().unwrap());
        counts.sum::<u64>() >= 400
    });
    let told: u64 = program.told().iter().map(|line| 1 + line["unsaid"].as_u64().unwrap()).sum();
    assert!(told <= sent, "{told} of {sent}");

    let program = Program::new("slow_query = \"1us\"\nslow_query_sample = 50", "");
    let mut client = program.client();
    (0..100).for_each(|_| drop(client.run("SELECT 1")));
    until("two of a hundred are told", || program.told().len() == 2);
}
