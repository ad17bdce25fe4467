//! What SIGHUP changes of a running proxy, and what it leaves as it was: what config/REFERENCE.md says of each key.

use std::net::SocketAddr;
use std::process::Command;

use crate::auth::Folder;
use crate::auth_secrets::{Running, firepool, get, port};
use crate::support::fixture::{Proxy, configuration};
use crate::support::messages::startup;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

pub fn limits_of_logins_are_those_of_the_last_reload_and_all_others_those_of_the_start() {
    let server = Server::shared();
    let role = server.role();
    let config = |proxy: &str, authentication: &str, limits: &str, route: &str| {
        let text = format!(
            "[proxy]\n{proxy}\n[authentication]\n{authentication}\n[users.{role}]\npassword = \"{PASSWORD}\"\n{limits}\n\
             [[routes]]\nuser = \"{role}\"\n{route}\n"
        );
        configuration(server.address(), &text)
    };
    let proxy = Proxy::serve(config("login_timeout = \"1h\"", "failed_logins = 0", "", "pool_size = 2"));
    let app = proxy.app.as_ref().unwrap();
    let guess = || {
        Raw::login_with(proxy.address, "wrong", &[("user", &role), ("database", DATABASE)]).unwrap_err().code
    };
    let stalled = || {
        let mut raw = Raw::connect(proxy.address);
        raw.send(&startup((3, 0), &[("user", &role), ("database", DATABASE)]));
        assert_eq!(raw.message().unwrap().tag, b'R');
        raw
    };
    for _ in 0..3 {
        assert_eq!(guess(), "28P01");
    }

    app.reload(&config("login_timeout = \"1h\"", "max_logins = 1", "", ""), true);
    let mut oldest = stalled();
    let newest = stalled();
    assert_eq!(oldest.farewell().code, "53300");
    drop(newest);

    app.reload(&config("login_timeout = \"200ms\"", "", "", ""), true);
    assert_eq!(stalled().farewell().code, "57014");

    app.reload(&config("", "failed_logins = 2\nfailed_logins_within = \"1h\"", "", ""), true);
    assert_eq!([guess(), guess(), guess()], ["28P01", "28P01", "28000"]);
    app.reload(&config("", "failed_logins = 2\nfailed_logins_within = \"1ms\"", "", ""), true);
    until("failures are forgotten sooner", || guess() == "28P01");

    // Everything else is as it was at the start.
    let limits = "max_clients = 1\nmax_server_connections = 1";
    let route = "mode = \"session\"\nmax_clients = 1\npool_size = 1\naccess = \"read-only\"\ntimeouts = { query = \"1ms\" }";
    app.reload(&config("max_clients = 1", "", limits, route), true);
    let mut clients = [0, 1].map(|_| Raw::login(proxy.address, &role, DATABASE, &[]).unwrap());
    for client in &mut clients {
        client
            .run("BEGIN; CREATE TEMPORARY TABLE t (n int); INSERT INTO t VALUES (1); SELECT pg_sleep(0.02)");
    }
}

pub fn how_long_a_drain_may_take_is_that_of_the_last_reload() {
    let (server, folder) = (Server::shared(), Folder::new());
    let (own, page, address, role) = (port(), port(), server.address(), server.role());
    let config = |limit: &str| {
        let text = format!(
            "[proxy]\nlisten = [\"127.0.0.1:{own}\"]\nworkers = 1\nshutdown_timeout = \"{limit}\"\n\
             [admin]\nlisten = \"127.0.0.1:{page}\"\n[users.{role}]\npassword = \"{PASSWORD}\"\n\
             [targets.main]\nhost = \"{}\"\nport = {}\n[[routes]]\npool_size = 1\n",
            address.ip(),
            address.port(),
        );
        folder.file("firepool.toml", &text)
    };
    let log = std::fs::File::create(folder.0.join("log")).unwrap();
    let mut command = firepool(&["serve", "--config", &config("1h")]);
    let mut running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    until("it is ready", || get(page, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    let mut client = Raw::login(SocketAddr::from(([127, 0, 0, 1], own)), &role, DATABASE, &[]).unwrap();
    client.run("BEGIN");
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &running.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    };
    config("200ms");
    signal("-HUP");
    let log = || std::fs::read_to_string(folder.0.join("log")).unwrap();
    until("it is read", || log().contains("proxy.shutdown_timeout 1h -> 200ms"));
    assert!(!log().contains("needs a restart"), "{}", log());
    signal("-TERM");
    until("it does not wait for the transaction", || running.0.try_wait().unwrap().is_some());
}
