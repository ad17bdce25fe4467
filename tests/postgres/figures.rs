//! What is told of the process and of what pools remember: prepared statements, lost connections, reloads.

use std::net::SocketAddr;
use std::process::Command;

use crate::auth::Folder;
use crate::auth_secrets::{Running, firepool, get, port};
use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

/// One sample of a page.
fn sample(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

pub fn prepared_statements_are_counted_as_found_as_missed_and_as_put_out() {
    let fixture = Fixture::transaction(2);
    let figures = || {
        ["hits", "misses", "evictions"].map(|which| {
            let name = format!("firepool_prepared_statement_{which}_total");
            fixture.proxy.metric(&name, &fixture.role) as u64
        })
    };
    let use_it = [bind("", "s", &["1"]), execute("", 0), sync()];
    let (mut one, mut two) = (fixture.client(), fixture.client());
    one.batch(&[parse("s", "SELECT $1::int"), sync()]);
    for _ in 0..3 {
        assert_eq!(one.batch(&use_it).tags(), "2DCZ");
    }
    assert_eq!(figures(), [3, 0, 0]);
    // While another client has that connection in a transaction, it is parsed on a second one, once.
    two.run("BEGIN");
    for _ in 0..3 {
        assert_eq!(one.batch(&use_it).tags(), "2DCZ");
    }
    two.run("COMMIT");
    assert_eq!(figures(), [5, 1, 0]);
    // More than a server connection keeps.
    let (mut three, most) = (fixture.client(), 256);
    for n in 0..most + 10 {
        three.batch(&[parse(&format!("s{n}"), &format!("SELECT {n}")), sync()]);
    }
    let [_, _, evictions] = figures();
    assert!((9..=11).contains(&evictions), "{evictions}");
}

pub fn a_connection_that_the_server_ends_is_counted_as_lost_and_one_that_the_proxy_ends_is_not() {
    let fixture = Fixture::transaction(1);
    let lost = || fixture.proxy.metric("firepool_server_connections_lost_total", &fixture.role) as u64;
    let mut admin = fixture.superuser();
    let mut client = fixture.client();
    let backend = client.backend();
    until("it is back", || fixture.proxy.metric("firepool_server_connections", "idle") == 1.0);
    admin.run(&format!("SELECT pg_terminate_backend({backend})"));
    until("an idle one is missed", || lost() == 1);
    client.run("BEGIN");
    let backend = client.backend();
    admin.run(&format!("SELECT pg_terminate_backend({backend})"));
    until("one in use is missed", || lost() == 2);
    let mut client = fixture.client();
    client.run("BEGIN; SELECT 1");
    drop(client);
    fixture.client().run("SELECT 1");
    assert_eq!(lost(), 2);
}

pub fn a_reload_that_failed_is_told_until_one_succeeds_and_each_configuration_has_its_hash() {
    let (server, folder) = (Server::shared(), Folder::new());
    let role = server.role();
    let (own, page) = (port(), port());
    let write = |limit: &str| {
        let text = format!(
            "[proxy]\nlisten = [\"127.0.0.1:{own}\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:{page}\"\n\
             [authentication]\nmax_logins = {limit}\n[users.{role}]\npassword = \"{PASSWORD}\"\n\
             [targets.main]\nhost = \"127.0.0.1\"\nport = {}\n[[routes]]\npool_size = 1\n",
            server.address().port(),
        );
        folder.file("firepool.toml", &text)
    };
    let path = write("10");
    let running = Running(firepool(&["serve", "--config", &path]).spawn().unwrap());
    let ready = || get(page, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    until("it is ready", ready);
    Raw::login(SocketAddr::from(([127, 0, 0, 1], own)), &role, DATABASE, &[]).unwrap().run("SELECT 1");
    let metrics = || get(page, "/metrics").unwrap();
    let good = || sample(&metrics(), "firepool_config_last_reload_successful");
    let hash = || {
        let text = metrics();
        let line = text.lines().find(|line| line.starts_with("firepool_config_info{")).unwrap();
        line.to_owned()
    };
    let (first, hangup) = (hash(), || {
        let told = Command::new("kill").args(["-HUP", &running.0.id().to_string()]).status().unwrap();
        assert!(told.success());
    });
    assert_eq!(good(), Some(1.0));
    assert!(sample(&metrics(), "firepool_config_last_reload_success_timestamp_seconds").unwrap() > 1e9);
    write("none");
    hangup();
    until("the failure is told", || good() == Some(0.0));
    assert_eq!(hash(), first, "the old one stays");
    write("11");
    hangup();
    until("the success is told", || good() == Some(1.0));
    assert_ne!(hash(), first);
    write("10");
    hangup();
    until("the first is back", || hash() == first);
}

pub fn logins_that_come_to_nothing_are_counted_by_reason() {
    let fixture = Fixture::transaction(1);
    let failed = |reason: &str| {
        fixture.proxy.metric("firepool_login_failures_total", &format!("reason=\"{reason}\"")) as u64
    };
    Raw::login_with(fixture.proxy.address, "wrong", &[("user", &fixture.role), ("database", DATABASE)])
        .unwrap_err();
    fixture.login(&[("replication", "database")]).unwrap_err();
    drop(Raw::connect(fixture.proxy.address));
    until("the one that said nothing is gone", || failed("gone") == 1);
    assert_eq!([failed("authentication_failed"), failed("feature_not_supported")], [1, 1]);
    assert_eq!(fixture.proxy.metric("firepool_login_failures_total", ""), 3.0);
}
