//! What `firepool serve` writes to standard error, as the collectors of logs read it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic like tests")]

mod peers;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use peers::bytes::startup;
use peers::client::Client;
use peers::proxy::{DATABASE, PASSWORD, USER};
use peers::server::Server;
use peers::{PATIENCE, eventually};

/// The proxy as a process of its own.
struct Process {
    child: Child,
    folder: PathBuf,
    server: SocketAddr,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Process {
    fn start(name: &str, server: &Server, log: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("firepool-logs-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (proxy, admin) = (free(), free());
        write(&folder, (server.address, proxy, admin), log);
        let mut command = Command::new(env!("CARGO_BIN_EXE_firepool"));
        command.args(["serve", "--config"]).arg(folder.join("firepool.toml")).env_remove("RUST_LOG");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let process = Self { child, folder, server: server.address, proxy, admin };
        eventually("it listens", || TcpStream::connect(proxy).ok());
        process
    }

    /// What it writes from now on, line by line.
    fn lines(&mut self) -> Lines {
        let stderr = self.child.stderr.take().unwrap();
        let lines = Lines::default();
        let read = lines.clone();
        thread::spawn(move || read.fill(stderr));
        lines
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn reload(&self, log: &str) {
        write(&self.folder, (self.server, self.proxy, self.admin), log);
        self.signal("-HUP");
    }

    /// An answer of admin HTTP: status and body.
    fn ask(&self, request: &str, headers: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            socket,
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.ask("GET /metrics", "", "");
        let line = page.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// A client that speaks another protocol; when it is told so.
    fn stranger(&self) {
        let mut client = Client::connect(self.proxy);
        client.send(&[0, 0, 0, 8, 0, 1, 0, 0]);
        client.until_end();
    }
}

fn write(folder: &std::path::Path, (server, proxy, admin): (SocketAddr, SocketAddr, SocketAddr), log: &str) {
    let text = format!(
        "[proxy]\nlisten = [\"{proxy}\"]\nworkers = 1\n[admin]\nlisten = \"{admin}\"\n[metrics]\nrefresh = \"0s\"\n\
         [log]\n{log}\n[targets.main]\nhost = \"{}\"\nport = {}\nrequired = false\nsslmode = \"disable\"\n\
         [users.{USER}]\npassword = \"{PASSWORD}\"\n[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{USER}\"\n",
        server.ip(),
        server.port()
    );
    fs::write(folder.join("firepool.toml"), text).unwrap();
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn fill(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).split(b'\n') {
            self.0.lock().unwrap().push(String::from_utf8(line.unwrap()).unwrap());
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The first line with all of these words.
    fn wait_for(&self, words: &[&str]) -> String {
        eventually(&format!("a line with {words:?}"), || {
            self.all().into_iter().find(|line| words.iter().all(|word| line.contains(word)))
        })
    }
}

fn parsed(line: &str) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::from_str(line) {
        Ok(serde_json::Value::Object(fields)) => fields,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn each_line_for_machines_is_one_object_with_time_level_target_and_message() {
    let server = Server::honest();
    let mut process = Process::start("json", &server, "format = \"json\"\nfilter = \"debug\"");
    let lines = process.lines();
    Client::log_in(process.proxy).query("SELECT 1").unwrap();
    Client::connect(process.proxy).send(&startup(&[(b"user", b"a\nb\x1b[31m\""), (b"database", b"app")]));
    process.stranger();
    lines.wait_for(&["a client was not let in"]);
    process.signal("-TERM");
    lines.wait_for(&["\"stopped\""]);
    assert!(process.child.wait().unwrap().success());
    let all = lines.all();
    for line in &all {
        let fields = parsed(line);
        let text =
            |name: &str| fields[name].as_str().unwrap_or_else(|| panic!("{name} of {line}")).to_owned();
        let (time, level) = (text("timestamp"), text("level"));
        let (day, clock) = time.split_once('T').unwrap();
        assert!(day.len() == 10 && clock.len() == 16 && clock.ends_with('Z'), "{time}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&level.as_str()), "{level}");
        assert!(text("target").starts_with("firepool") || text("target").starts_with("rustls"), "{line}");
        assert!(!text("message").is_empty(), "{line}");
        // A name twice would be read in two ways.
        let names = fields.keys().filter(|name| line.matches(&format!("\"{name}\":")).count() != 1).count();
        assert_eq!(names, 0, "{line}");
    }
    let ready = all.iter().map(|line| parsed(line)).find(|fields| fields["message"] == "ready").unwrap();
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ready["admin"], format!("Some({})", process.admin));
    let refused = parsed(&lines.wait_for(&["a client was not let in", "kind"]));
    assert_eq!(refused["level"], "INFO");
}

#[test]
fn what_a_client_chose_begins_no_line_and_commands_no_terminal() {
    let server = Server::honest();
    let mut process = Process::start("injection", &server, "filter = \"debug\"");
    let lines = process.lines();
    let evil = b"eve\n2026-01-01T00:00:00Z ERROR firepool: forged\r\x1b[2J\x1b]0;owned\x07\xc2\x9b31m";
    for name in ["user", "database", "application_name", "options"] {
        let mut parameters = vec![(&b"user"[..], USER.as_bytes()), (b"database", DATABASE.as_bytes())];
        parameters.retain(|(known, _)| *known != name.as_bytes());
        parameters.push((name.as_bytes(), evil));
        let mut client = Client::connect(process.proxy);
        client.send(&startup(&parameters));
        if client.prove("a wrong password").is_ok() {
            panic!("{name}");
        }
    }
    process.stranger();
    process.signal("-TERM");
    lines.wait_for(&["stopped"]);
    let all = lines.all();
    for line in &all {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let level = line.split_whitespace().nth(1).unwrap();
        assert!(line.starts_with("20") && ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level), "{line}");
        assert!(!line.starts_with("2026-01-01T00:00:00Z"), "{line}");
    }
    assert!(
        all.iter().any(|line| line.contains("\\n2026-01-01T00:00:00Z ERROR firepool: forged")),
        "{all:#?}"
    );
}

#[test]
fn a_storm_is_limited_hides_nothing_else_and_is_told_with_its_number() {
    let server = Server::honest();
    let mut process = Process::start("storm", &server, "format = \"json\"\nrepeats = 5");
    let lines = process.lines();
    for number in 0..300 {
        if number == 200 {
            let mut client = Client::connect(process.proxy);
            client.send(&startup(&[(b"user", USER.as_bytes()), (b"database", DATABASE.as_bytes())]));
            assert!(client.prove("a wrong password").is_err());
        }
        process.stranger();
    }
    let said = parsed(&lines.wait_for(&["too many lines of one kind"]));
    let all = lines.all();
    let written = |kind: &str| {
        let about = all
            .iter()
            .map(|line| parsed(line))
            .filter(|fields| fields["message"] == "a client was not let in");
        about.filter(|fields| fields["kind"] == kind).count() as u64
    };
    assert_eq!(said["said"], "a client was not let in");
    assert_eq!(said["level"], "INFO");
    let kind = said["kind"].as_str().unwrap();
    let refilled = written(kind);
    assert!((5..=10).contains(&refilled), "{refilled}");
    assert_eq!(written("authentication_failed"), 1, "{all:#?}");
    let suppressed = said["suppressed"].as_u64().unwrap();
    assert_eq!(suppressed + refilled, 300);
    assert_eq!(process.metric("firepool_log_lines_suppressed_total"), suppressed as f64);

    process.reload("format = \"json\"\nrepeats = 0");
    lines.wait_for(&["is reloaded"]);
    let before = lines.all().len();
    (0..50).for_each(|_| process.stranger());
    eventually("all of them", || (lines.all().len() >= before + 50).then_some(()));
}

#[test]
fn the_level_is_changed_by_admin_http_and_by_a_reload_while_it_runs() {
    let server = Server::honest();
    let mut process = Process::start("level", &server, "format = \"json\"\nfilter = \"warn\"\nrepeats = 0");
    let lines = process.lines();
    let get = |process: &Process| process.ask("GET /log-level", "", "");
    assert_eq!(get(&process), (200, "warn\n".to_owned()));
    process.stranger();
    assert_eq!(process.ask("PUT /log-level", "", "info,firepool::pool=debug\n").0, 200);
    assert_eq!(get(&process), (200, "info,firepool::pool=debug\n".to_owned()));
    process.stranger();
    lines.wait_for(&["a client was not let in"]);
    assert_eq!(lines.all().iter().filter(|line| line.contains("a client was not let in")).count(), 1);

    for (bad, headers, status, words) in [
        ("inof", "", 400, "`inof` is no level"),
        ("firepool=loud", "", 400, "level"),
        ("", "", 400, "empty"),
        ("\u{1b}[2J", "", 400, "invalid filter"),
        (&"x".repeat(5000), "", 413, "4096"),
        ("debug", "Origin: http://evil.example\r\n", 403, "browser"),
    ] {
        let (answered, said) = process.ask("PUT /log-level", headers, bad);
        assert!(answered == status && said.contains(words), "{bad}: {answered} {said}");
        assert_eq!(get(&process).1, "info,firepool::pool=debug\n");
    }
    assert_eq!(process.ask("POST /log-level", "", "debug").0, 405);
    assert_eq!(process.ask("PUT /metrics", "", "debug").0, 405);

    process.reload("format = \"json\"\nfilter = \"error\"\nrepeats = 0");
    eventually("the file's filter", || (get(&process).1 == "error\n").then_some(()));
    process.stranger();
    process.reload("format = \"json\"\nfilter = \"debug\"\nrepeats = 0");
    eventually("the file's filter", || (get(&process).1 == "debug\n").then_some(()));
    process.stranger();
    let about = |line: &&String| line.contains("a client was not let in");
    eventually("the second", || (lines.all().iter().filter(about).count() == 2).then_some(()));
}

#[test]
fn a_reader_that_does_not_read_stalls_nobody_and_what_is_lost_is_counted() {
    let server = Server::honest();
    let mut process = Process::start("stalled", &server, "format = \"json\"\nrepeats = 0");
    let long = format!("info{}", ",firepool::a_module_with_a_long_name=info".repeat(95));
    for _ in 0..900 {
        assert_eq!(process.ask("PUT /log-level", "", &long).0, 200);
    }
    (0..50).for_each(|_| process.stranger());
    assert!(process.metric("firepool_log_lines_dropped_total") > 50.0);
    Client::log_in(process.proxy).query("SELECT 1").unwrap();
    // Somebody reads again.
    let lines = process.lines();
    let told = parsed(&lines.wait_for(&["lines were lost"]));
    assert_eq!(told["dropped"].as_u64().unwrap() as f64, process.metric("firepool_log_lines_dropped_total"));
    for line in lines.all() {
        parsed(&line);
    }
}

#[test]
fn a_reader_that_has_gone_ends_nobody() {
    let server = Server::honest();
    let mut process = Process::start("gone", &server, "repeats = 0");
    drop(process.child.stderr.take());
    (0..20).for_each(|_| process.stranger());
    Client::log_in(process.proxy).query("SELECT 1").unwrap();
    eventually("they are counted", || {
        (process.metric("firepool_log_lines_dropped_total") >= 20.0).then_some(())
    });
    process.signal("-TERM");
    assert!(process.child.wait().unwrap().success());
}
