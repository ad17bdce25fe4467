//! Clients that replicate: PostgreSQL's own programs, through the proxy.

use std::fs;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::fixture::{Fixture, Lines, Proxy};
use crate::support::messages::*;
use crate::support::raw::{Failure, Raw};
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

const ALLOWED: Lines<'_> =
    Lines { route: "pool_size = 2\nreplication = true", proxy: "", user: "", database: "" };

/// A server that keeps what logical decoding needs, for all of these tests.
fn server() -> Arc<Server> {
    static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
    let start = || Server::own_with(&[("wal_level", "logical"), ("max_wal_senders", "20")]);
    Arc::clone(SERVER.get_or_init(start))
}

/// A proxy with these lines, whose role may replicate.
fn fixture(lines: Lines<'_>) -> Fixture {
    let fixture = Fixture::on(server(), lines);
    fixture.superuser().run(&format!("ALTER ROLE {} REPLICATION", fixture.role));
    fixture
}

/// A folder for what is copied, deleted at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("firepool-replication-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One of PostgreSQL's programs, as the role through the proxy.
fn program(fixture: &Fixture, name: &str) -> Command {
    let mut command = Command::new(fixture.server.programs().bindir.join(name));
    let address = fixture.proxy.address;
    command.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "20").stdin(Stdio::null());
    command.arg("--host").arg(address.ip().to_string()).arg("--port").arg(address.port().to_string());
    command.args(["--username", &fixture.role, "--no-password"]);
    command
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A replication connection of the role, with more startup parameters.
fn walsender(fixture: &Fixture, kind: &str, more: &[(&str, &str)]) -> Result<Raw, Failure> {
    fixture.login(&[&[("replication", kind)], more].concat())
}

/// How many replication connections the role has, as the server sees it.
fn walsenders(fixture: &Fixture, admin: &mut Raw) -> usize {
    fixture.count(admin, "backend_type = 'walsender'")
}

pub fn a_base_backup_is_taken_with_its_wal_and_verifies() {
    let (fixture, folder) = (fixture(ALLOWED), Folder::new("backup"));
    fixture.superuser().run("CREATE TABLE copied AS SELECT g FROM generate_series(1, 100000) g");
    let mut backup = program(&fixture, "pg_basebackup");
    succeed(backup.args(["-X", "stream", "--checkpoint", "fast", "-D"]).arg(&folder.0));
    for name in ["PG_VERSION", "backup_label", "backup_manifest", "pg_wal"] {
        assert!(folder.0.join(name).exists(), "{name} of {:?}", folder.names());
    }
    succeed(Command::new(fixture.server.programs().bindir.join("pg_verifybackup")).arg(&folder.0));
    let mut admin = fixture.superuser();
    until("its connections are closed", || walsenders(&fixture, &mut admin) == 0);
    let metric =
        |what: &str| fixture.proxy.metric(&format!("firepool_replication_connections_{what}_total"), "");
    // One copies files, the other streams the log that is written meanwhile.
    until("and are counted", || metric("closed") == metric("opened"));
    assert_eq!(metric("opened"), 2.0);
}

pub fn wal_is_received_as_it_is_written() {
    let (fixture, folder) = (fixture(ALLOWED), Folder::new("wal"));
    let mut admin = fixture.superuser();
    let mut receiver = program(&fixture, "pg_receivewal")
        .args(["--no-loop", "--no-sync", "-D"])
        .arg(&folder.0)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it streams", || folder.names().iter().any(|name| name.ends_with(".partial")));
    admin.run("CREATE TABLE written AS SELECT g FROM generate_series(1, 1000) g");
    admin.run("SELECT pg_switch_wal()");
    until("a segment is complete", || folder.names().iter().any(|name| !name.contains('.')));
    kill_process(Pid::from_child(&receiver), Signal::INT).unwrap();
    assert!(receiver.wait().unwrap().success());
    until("its connection is closed", || walsenders(&fixture, &mut admin) == 0);
}

pub fn changes_are_decoded_for_a_client_of_one_database() {
    let (fixture, folder) = (fixture(ALLOWED), Folder::new("decoded"));
    let (mut admin, slot) = (fixture.superuser(), fixture.role.clone());
    let receive = |arguments: &[&str], to: &Path| {
        let mut command = program(&fixture, "pg_recvlogical");
        succeed(command.args(["--dbname", DATABASE, "--slot", &slot]).args(arguments).arg("--file").arg(to));
    };
    let file = folder.0.join("changes");
    receive(&["--create-slot", "--plugin", "test_decoding"], &file);
    admin.run("CREATE TABLE decoded (n int); INSERT INTO decoded SELECT generate_series(1, 500)");
    let end = admin.value("SELECT pg_current_wal_insert_lsn()");
    // Something behind the end, so that it is reached.
    admin.run("INSERT INTO decoded VALUES (0)");
    receive(&["--start", "--no-loop", "--endpos", &end], &file);
    let changes = fs::read_to_string(&file).unwrap();
    assert_eq!(changes.lines().filter(|line| line.contains("public.decoded: INSERT")).count(), 500);
    receive(&["--drop-slot"], &file);
    assert_eq!(
        admin.value(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'")),
        "0"
    );
}

pub fn replication_is_refused_where_no_route_allows_it() {
    let server = server();
    let role = server.role();
    server.superuser(DATABASE).run(&format!("ALTER ROLE {role} REPLICATION"));
    let proxy = |replication: bool| {
        let text = format!(
            "[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\n\
             [[routes]]\ndatabase = \"other\"\nuser = \"{role}\"\nreplication = {replication}\n"
        );
        Proxy::start(&server, &text)
    };
    let (nowhere, elsewhere) = (proxy(false), proxy(true));
    let refused = |proxy: &Proxy, database: &str, kind: &str| {
        Raw::login(proxy.address, &role, database, &[("replication", kind)]).unwrap_err()
    };
    for (proxy, kind) in [(&nowhere, "true"), (&nowhere, "database"), (&elsewhere, "database")] {
        let failure = refused(proxy, DATABASE, kind);
        assert_eq!((failure.severity.as_str(), failure.code.as_str()), ("FATAL", "0A000"), "{kind}");
        assert_eq!(failure.message, "replication connections are not allowed");
        assert!(failure.detail.contains("\"replication = true\""), "{}", failure.detail);
    }
    assert_eq!(refused(&elsewhere, "third", "database").code, "3D000");
    assert_eq!(refused(&elsewhere, DATABASE, "perhaps").code, "22023");
    // All of a server has no database: whichever is named, the one route that allows it serves.
    for database in [DATABASE, "other", "replication", "third"] {
        let mut raw = Raw::login(elsewhere.address, &role, database, &[("replication", "true")]).unwrap();
        assert_eq!(raw.run("IDENTIFY_SYSTEM").len(), 1, "{database}");
    }
    assert_eq!(Raw::login(elsewhere.address, &role, DATABASE, &[]).unwrap().value("SELECT 1"), "1");
}

pub fn what_the_server_refuses_a_replicating_client_for_is_said() {
    let fixture = Fixture::on(server(), ALLOWED);
    let failure = walsender(&fixture, "true", &[]).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.severity.as_str()), ("42501", "FATAL"), "{failure:?}");
    // The words before PostgreSQL 16, and since.
    let words = ["must be superuser or replication role", "permission denied to start WAL sender"];
    assert!(words.iter().any(|words| failure.message.contains(words)), "{failure:?}");
    fixture.superuser().run(&format!("ALTER ROLE {} REPLICATION", fixture.role));
    assert_eq!(walsender(&fixture, "true", &[("work_mem", "much")]).unwrap_err().code, "22023");
    assert!(walsender(&fixture, "true", &[]).is_ok());
}

pub fn a_replicating_client_has_its_own_startup_parameters() {
    let fixture = fixture(ALLOWED);
    let own = [
        ("application_name", "copier"),
        ("options", "-c work_mem=3MB -c statement_timeout=7s"),
        ("DateStyle", "German"),
        ("client_encoding", "LATIN1"),
    ];
    let mut raw = walsender(&fixture, "database", &own).unwrap();
    assert_eq!(raw.parameter("client_encoding"), Some("LATIN1"));
    assert_eq!(raw.parameter("application_name"), Some("copier"));
    assert!(raw.parameter("DateStyle").unwrap().starts_with("German"));
    for (name, value) in [("work_mem", "3MB"), ("statement_timeout", "7s"), ("application_name", "copier")] {
        assert_eq!(raw.value(&format!("SHOW {name}")), value);
    }
    assert_eq!(raw.value("SELECT current_database()"), DATABASE);
}

pub fn a_replicating_client_cancels_with_the_key_that_it_got() {
    let fixture = fixture(ALLOWED);
    let mut admin = fixture.superuser();
    let mut raw = walsender(&fixture, "database", &[]).unwrap();
    assert_ne!(raw.backend(), raw.key.0.to_string());
    raw.send(&query("SELECT pg_sleep(600)"));
    until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
    raw.cancel();
    assert_eq!(raw.reply().code(), "57014");
    assert_eq!(raw.value("SELECT 1"), "1");
}

pub fn replication_connections_count_under_the_limits_of_their_user() {
    let fixture = fixture(Lines {
        user: "max_server_connections = 2\nmax_clients = 4",
        route: "pool_size = 2\nreplication = true\ntimeouts = { query_wait = \"500ms\" }",
        ..ALLOWED
    });
    let mut admin = fixture.superuser();
    // Both connections of the pool are opened and lie idle.
    let (mut first, mut second) = (fixture.client(), fixture.client());
    first.run("BEGIN");
    second.run("BEGIN");
    assert_eq!(walsender(&fixture, "true", &[]).unwrap_err().code, "53300", "both are in use");
    first.run("COMMIT");
    second.run("COMMIT");
    // Idle ones make room.
    let one = walsender(&fixture, "true", &[]).unwrap();
    let _two = walsender(&fixture, "true", &[]).unwrap();
    assert_eq!((fixture.connections(&mut admin), walsenders(&fixture, &mut admin)), (2, 2));
    let failure = fixture.login(&[]).unwrap_err();
    assert_eq!(failure.message, format!("too many connections for role \"{}\"", fixture.role));
    first.send(&query("SELECT 1"));
    assert_eq!(first.farewell().code, "53300", "no place came free");
    drop(one);
    assert_eq!(second.value("SELECT 1"), "1", "until now");
}

pub fn a_replicating_client_that_closes_its_half_gets_the_rest() {
    let fixture = fixture(ALLOWED);
    let mut raw = walsender(&fixture, "database", &[]).unwrap();
    raw.send(&query("SELECT repeat('0123456789', 3200000)"));
    raw.stream.shutdown(Shutdown::Write).unwrap();
    // Nothing is read for a while: what the sockets do not hold, the server keeps.
    std::thread::park_timeout(Duration::from_millis(300));
    let reply = raw.reply();
    assert_eq!((reply.tags().as_str(), reply.rows()[0][0].len()), ("TDCZ", 32_000_000));
    assert_eq!(raw.message(), None);
    let mut admin = fixture.superuser();
    until("its backend is gone", || walsenders(&fixture, &mut admin) == 0);
}

pub fn a_drain_closes_replication_connections() {
    let mut fixture = fixture(ALLOWED);
    let mut admin = fixture.superuser();
    let mut raw = walsender(&fixture, "true", &[]).unwrap();
    assert_eq!(raw.run("IDENTIFY_SYSTEM").len(), 1);
    let drained = fixture.proxy.drain(Duration::from_secs(20));
    assert_eq!(raw.message(), None);
    drained.join().unwrap();
    until("its backend is gone", || walsenders(&fixture, &mut admin) == 0);
}
