//! Limits of server connections that several pools share, and the reserve.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::fixture::{Fixture, Proxy};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

/// Two users on one database that allows them two server connections in all.
struct Siblings {
    proxy: Proxy,
    roles: [String; 2],
    admin: Raw,
}

impl Siblings {
    fn new(timeouts: &str) -> Self {
        let server = Server::shared();
        let roles = [server.role(), server.role()];
        let mut text =
            format!("[databases.{DATABASE}]\nmax_server_connections = 2\n[timeouts]\n{timeouts}\n");
        for role in &roles {
            text += &format!("[users.{role}]\npassword = \"{PASSWORD}\"\n");
            text += &format!("[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\npool_size = 2\n");
        }
        let proxy = Proxy::start(&server, &text);
        Self { proxy, roles, admin: server.superuser(DATABASE) }
    }

    fn client(&self, of: usize) -> Raw {
        Raw::login(self.proxy.address, &self.roles[of], DATABASE, &[]).unwrap()
    }

    fn connections(&mut self) -> [usize; 2] {
        self.roles.each_ref().map(|role| {
            let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
            self.admin.value(&sql).parse().unwrap()
        })
    }
}

pub fn an_idle_connection_of_the_sibling_makes_room_under_a_shared_limit() {
    let mut siblings = Siblings::new("");
    let mut first: Vec<Raw> = (0..2).map(|_| siblings.client(0)).collect();
    for client in &mut first {
        client.run("BEGIN");
    }
    first.iter_mut().for_each(|client| client.run("COMMIT").clear());
    assert_eq!(siblings.connections(), [2, 0]);
    let mut second = siblings.client(1);
    assert_eq!(second.value("SELECT 1"), "1");
    until("the evicted connection is closed", || siblings.connections() == [1, 1]);
    for _ in 0..10 {
        assert_eq!(second.value("SELECT 1"), "1");
        assert_eq!(first[0].value("SELECT 1"), "1");
        assert!(siblings.connections().iter().sum::<usize>() <= 2);
    }
}

pub fn a_client_waits_while_the_sibling_uses_all_that_is_allowed() {
    let mut siblings = Siblings::new("");
    let mut first: Vec<Raw> = (0..2).map(|_| siblings.client(0)).collect();
    let mut second = siblings.client(1);
    for client in &mut first {
        client.run("BEGIN");
    }
    until("the pool of the second is empty", || siblings.connections() == [2, 0]);
    second.send(&query("SELECT 'served'"));
    until("the second waits", || siblings.proxy.metric("firepool_clients", "waiting") == 1.0);
    assert_eq!(siblings.connections(), [2, 0]);
    first[0].run("COMMIT");
    assert_eq!(second.reply().rows(), [["served"]]);
}

pub fn a_client_that_waits_in_vain_under_a_shared_limit_gets_53300() {
    let siblings = Siblings::new("query_wait = \"500ms\"");
    let mut first: Vec<Raw> = (0..2).map(|_| siblings.client(0)).collect();
    let mut second = siblings.client(1);
    for client in &mut first {
        client.run("BEGIN");
    }
    second.send(&query("SELECT 'never'"));
    assert_eq!(second.farewell().code, "53300");
}

pub fn a_users_limit_holds_over_several_databases() {
    let server = Server::shared();
    let role = server.role();
    let text = format!(
        "[users.{role}]\npassword = \"{PASSWORD}\"\nmax_server_connections = 1\n\
         [[routes]]\nuser = \"{role}\"\ndatabase = \"a\"\ntarget_database = \"{DATABASE}\"\n\
         [[routes]]\nuser = \"{role}\"\ndatabase = \"b\"\ntarget_database = \"{DATABASE}\"\n"
    );
    let proxy = Proxy::start(&server, &text);
    let mut admin = server.superuser(DATABASE);
    let client = |database: &str| Raw::login(proxy.address, &role, database, &[]).unwrap();
    let (mut a, mut b) = (client("a"), client("b"));
    for _ in 0..5 {
        assert_eq!(a.value("SELECT 1"), "1");
        assert_eq!(b.value("SELECT 1"), "1");
        let sql =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state = 'active'");
        assert_eq!(admin.value(&sql), "0");
    }
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    until("one connection is left", || admin.value(&sql) == "1");
}

pub fn the_reserve_serves_those_that_have_waited_and_is_given_back() {
    let fixture = Fixture::new("pool_size = 1\nreserve_size = 1\nreserve_after = \"200ms\"");
    let mut admin = fixture.superuser();
    let (mut first, mut second, mut third) = (fixture.client(), fixture.client(), fixture.client());
    first.run("BEGIN");
    second.run("BEGIN");
    assert_eq!(fixture.connections(&mut admin), 2);
    third.send(&query("SELECT 'third'"));
    until("the third waits", || fixture.proxy.metric("firepool_clients", "waiting") == 1.0);
    assert_eq!(fixture.connections(&mut admin), 2);
    first.run("COMMIT");
    assert_eq!(third.reply().rows(), [["third"]]);
    second.run("COMMIT");
    until("the reserve is closed", || fixture.connections(&mut admin) == 1);
}

pub fn a_saturated_sibling_does_not_starve_the_other() {
    let siblings = Siblings::new("query_wait = \"5s\"");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = siblings.client(0);
                while !over.load(Ordering::Relaxed) {
                    client.run("SELECT pg_sleep(0.005)");
                }
            });
        }
        until("the first is saturated", || siblings.proxy.metric("firepool_clients", "waiting") >= 3.0);
        let mut reply = None;
        if let Ok(mut other) = Raw::login(siblings.proxy.address, &siblings.roles[1], DATABASE, &[]) {
            reply = Some(other.query("SELECT 'served'"));
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(reply.expect("the login waited in vain").rows(), [["served"]]);
    });
}

pub fn a_client_in_session_mode_is_next_when_another_leaves() {
    let fixture = Fixture::new("mode = \"session\"\npool_size = 1");
    let mut first = fixture.client();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| fixture.client().value("SELECT 'next'"));
        until("the second waits", || fixture.proxy.metric("firepool_clients", "waiting") == 1.0);
        first.run("SELECT 1");
        first.send(&terminate());
        assert_eq!(second.join().unwrap(), "next");
    });
    assert!(fixture.connections(&mut fixture.superuser()) <= 1);
}
