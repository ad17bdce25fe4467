//! Much, slow, cancelled and moved.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::stage::{Encrypted, SSL_REQUEST, psql, spy, text_of, tunnel};
use super::support::messages;
use super::support::raw::Raw;
use super::support::server::DATABASE;
use super::support::wait::{LIMIT, until};

pub fn large_results_and_copies_pass_through_both_legs() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let tls = encrypted.authority.tls("require");
    let proxy = encrypted.proxy(&role, &tls, &encrypted.verified());
    let rows = "SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 20000) i";
    let through = |sql: &str| {
        let output = psql(&encrypted.server, proxy.address, &role, &[("PGSSLMODE", "require")], sql);
        assert!(output.status.success(), "{sql}: {:?}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let direct = |sql: &str| {
        let env = [("PGSSLMODE", "disable")];
        psql(&encrypted.server, encrypted.server.address(), &role, &env, sql).stdout
    };
    let expected = direct(rows);
    assert!(expected.len() > 19_000_000);
    assert!(through(rows) == expected, "a result");
    assert!(
        through(&format!("COPY ({rows}) TO STDOUT")) == direct(&format!("COPY ({rows}) TO STDOUT")),
        "COPY"
    );

    let file = encrypted.authority.folder.join(format!("{role}.copy"));
    fs::write(&file, direct(&format!("COPY ({rows}) TO STDOUT"))).unwrap();
    through(&format!("CREATE TABLE {role}.t (i int, t text)"));
    through(&format!("\\copy {role}.t FROM '{}'", file.display()));
    assert!(direct(&format!("SELECT * FROM {role}.t ORDER BY i")) == expected, "what was copied in");
}

pub fn a_client_that_replicates_is_encrypted_on_both_legs() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    encrypted.server.superuser("postgres").run(&format!("ALTER ROLE {role} REPLICATION"));
    let proxy = encrypted.proxy(&role, &encrypted.authority.tls("require"), &encrypted.verified());
    let mut client =
        Raw::login(tunnel(proxy.address), &role, DATABASE, &[("replication", "database")]).unwrap();
    assert_eq!(client.run("IDENTIFY_SYSTEM")[0][3], DATABASE);
    let rows = client.run("SELECT repeat(i::text, 1000) FROM generate_series(10001, 12000) i");
    assert!((10_001..).zip(&rows).all(|(i, row)| row[0] == i.to_string().repeat(1000)) && rows.len() == 2000);
    assert_eq!(client.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
}

/// A proxy in a process of its own, ended when it is dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(role: &str) -> Self {
        let encrypted = Encrypted::shared();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tls = encrypted.authority.tls("require");
        let head =
            format!("[proxy]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 1\n[admin]\nlisten = \"\"\n{tls}");
        let text = text_of(encrypted.server.address(), role, &head, &encrypted.verified());
        let path = encrypted.authority.folder.join(format!("{role}.toml"));
        fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_firepool"));
        command.arg("serve").arg("--config").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Self { child: command.spawn().unwrap(), port };
        until("the proxy listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        process
    }

    /// KiB of memory that is resident.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

pub fn a_client_that_does_not_read_costs_no_memory() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let process = Process::start(&role);
    let address = tunnel(([127, 0, 0, 1], process.port).into());
    let mut client = Raw::login(address, &role, DATABASE, &[]).unwrap();
    client.run("SELECT 1");
    let before = process.resident();
    client.send(&messages::query("SELECT repeat('x', 100000) FROM generate_series(1, 2000)"));
    // Until the server cannot send more, because nobody takes it.
    let mut admin = encrypted.server.superuser(DATABASE);
    until("the server waits for its client", || {
        let wait = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND wait_event = 'ClientWrite'"
        );
        admin.value(&wait) == "1"
    });
    let stuck = process.resident();
    assert!(stuck < before + 8 * 1024, "{before} KiB, then {stuck} KiB");
    let reply = client.reply();
    let bytes: usize =
        reply.messages.iter().filter(|message| message.tag == b'D').map(|it| it.body.len()).sum();
    assert_eq!(bytes, 2000 * 100_006);
}

pub fn a_query_is_cancelled_over_tls_on_both_legs() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let (behind, seen) = spy(encrypted.server.address());
    let tls = encrypted.authority.tls("require");
    let config = super::stage::config_of(behind, &role, &tls, &encrypted.verified());
    let proxy = super::support::fixture::Proxy::serve(config);
    let (before, asked) = spy(proxy.address);
    let mut client = Raw::login(tunnel(before), &role, DATABASE, &[]).unwrap();
    client.send(&messages::query("SELECT pg_sleep(60)"));
    let mut admin = encrypted.server.superuser(DATABASE);
    until("the query runs", || {
        let running =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state = 'active'");
        admin.value(&running) == "1"
    });
    client.cancel();
    assert_eq!(client.reply().code(), "57014");
    for connections in [seen, asked] {
        let first = connections.recv_timeout(LIMIT).unwrap();
        let mut all = vec![first];
        all.extend(std::iter::from_fn(|| connections.recv_timeout(Duration::from_millis(500)).ok()));
        assert!(all.len() >= 2, "the session and its cancel request");
        for first in all {
            assert_eq!((&first[..8], first[8]), (&SSL_REQUEST[..], 0x16), "encrypted from its first byte on");
        }
    }
}

pub fn connections_change_workers_with_their_sessions() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let mut config = encrypted.config(&role, &encrypted.authority.tls("require"), &encrypted.verified());
    for route in &mut config.routes {
        std::sync::Arc::make_mut(route).pool_size = 1;
    }
    let proxy = super::support::fixture::Proxy::serve(config);
    let address = tunnel(proxy.address);
    // A worker each, and one server connection between them.
    let mut clients = [(); 4].map(|()| Raw::login(address, &role, DATABASE, &[]).unwrap());
    let backend = clients[0].backend();
    for round in 0..50 {
        for client in &mut clients {
            let sql = format!("SELECT repeat('{}', 30000), pg_backend_pid()", round % 10);
            let rows = client.run(&sql);
            assert_eq!((rows[0][0].len(), &rows[0][1]), (30_000, &backend));
        }
    }
}
