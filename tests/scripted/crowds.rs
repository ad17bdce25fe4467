//! Crowds at the door: clients that never finish their login, and those that try one password after the other.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use firepool::scram::{ClientExchange, Keys};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::peers::bytes::{answer, message, packet, startup};
use crate::peers::client::{Client, initial_response, last_sqlstate};
use crate::peers::eventually;
use crate::peers::proxy::{DATABASE, Proxy, USER, Wishes};
use crate::peers::server::Server;

const SSL_REQUEST: u32 = 80_877_103;

/// Clients that stall.
const CROWD: usize = 2_000;

fn allow_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = 5 * CROWD as u64;
    let current = Some(maximum.map_or(wanted, |most| most.min(wanted)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn honest_startup() -> Vec<u8> {
    startup(&[(b"user", USER.as_bytes()), (b"database", DATABASE.as_bytes())])
}

/// A client that stops at one of the places where one can.
fn stalled(address: SocketAddr, number: usize) -> Client {
    let mut client = Client::connect(address);
    match number % 5 {
        0 => {}
        1 => client.send_hopefully(&honest_startup()[..9]),
        2 => client.send_hopefully(&packet(SSL_REQUEST, b"")),
        3 => client.send_hopefully(&honest_startup()),
        _ => client.send_hopefully(&[honest_startup(), initial_response(b"n,,n=,r=abc")].concat()),
    }
    client
}

fn a_crowd_keeps_nobody_out(max_clients: usize, workers: usize) {
    // One crowd at a time: both ends of its connections are in this process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    allow_files();
    let server = Server::honest();
    // Nobody is ended because it takes too long.
    let hour = Duration::from_secs(3_600);
    let proxy = Proxy::with(
        server.address,
        &Wishes { workers, max_clients, login_timeout: hour, ..Wishes::default() },
    );
    let mut before = Client::log_in(proxy.address);
    let crowd: Vec<_> = (0..CROWD).map(|number| stalled(proxy.address, number)).collect();
    for round in 0..20 {
        let mut client = Client::log_in(proxy.address);
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"), "round {round}");
    }
    assert_eq!(before.query("SELECT 2").unwrap(), answer(b"SELECT 2"), "who was in before is still in");
    let dropped = proxy.ask("/metrics");
    let dropped = dropped.lines().find(|line| line.contains("kind=\"too_many_logins\"")).unwrap();
    assert!(!dropped.ends_with(" 0"), "{dropped}");
    drop(crowd);
}

#[test]
fn two_thousand_that_stall_in_their_login_do_not_keep_the_next_one_out() {
    a_crowd_keeps_nobody_out(5_000, 2);
}

#[test]
fn nor_do_they_where_there_are_fewer_sockets_than_stalled_clients() {
    a_crowd_keeps_nobody_out(10, 1);
}

#[test]
fn the_oldest_of_those_that_stall_is_told_why_it_has_to_go() {
    let server = Server::honest();
    let proxy = Proxy::with(server.address, &Wishes { max_logins: 3, ..Wishes::default() });
    let mut crowd: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Client::connect(proxy.address);
            client.send(&honest_startup());
            client.authentication(10).unwrap();
            client
        })
        .collect();
    let mut fourth = Client::log_in(proxy.address);
    assert_eq!(last_sqlstate(&crowd[0].until_end()).as_deref(), Some("53300"));
    assert!(!crowd[1].has_answer() && !crowd[2].has_answer());
    // Whoever is in does not count.
    let mut fifth = Client::log_in(proxy.address);
    assert!(!crowd[1].has_answer() && !crowd[2].has_answer());
    for client in [&mut fourth, &mut fifth] {
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"));
    }
}

#[test]
fn an_address_that_fails_too_often_is_refused_until_that_is_forgotten() {
    let server = Server::honest();
    let wishes =
        Wishes { failed_logins: Some(3), failed_logins_within: Duration::from_secs(1), ..Wishes::default() };
    let proxy = Proxy::with(server.address, &wishes);
    let attempt = |user: &str, password: &str| {
        let mut client = Client::connect(proxy.address);
        client.send(&startup(&[(b"user", user.as_bytes()), (b"database", DATABASE.as_bytes())]));
        client.prove(password)
    };
    // Users who do not exist count as others do; who is in stays in.
    let mut before = Client::log_in(proxy.address);
    for user in [USER, "nobody", USER] {
        assert_eq!(attempt(user, "wrong").unwrap_err(), "28P01");
    }
    assert_eq!(
        attempt(USER, crate::peers::proxy::PASSWORD).unwrap_err(),
        "28000",
        "also with the right password"
    );
    assert_eq!(before.query("SELECT 1").unwrap(), answer(b"SELECT 1"));
    eventually("it is forgotten", || attempt(USER, crate::peers::proxy::PASSWORD).ok());
}

/// Clients that have got their challenges, and only have to send what they make of it.
fn challenged(address: SocketAddr, passwords: &[&str]) -> Vec<(Client, String)> {
    let challenged = |password: &&str| {
        let mut client = Client::connect(address);
        client.send(&honest_startup());
        client.authentication(10).unwrap();
        let exchange = ClientExchange::new().unwrap();
        client.send(&initial_response(exchange.first().as_bytes()));
        let challenged = exchange.challenge(&client.authentication(11).unwrap()).unwrap();
        let keys = Keys::derive(password, challenged.salt(), challenged.iterations());
        (client, challenged.prove(&keys).0)
    };
    passwords.iter().map(challenged).collect()
}

/// What each of them hears when all of them send at once: `12` is the proxy's own proof.
fn hear(clients: Vec<(Client, String)>) -> Vec<String> {
    let mut clients = clients;
    clients.iter_mut().for_each(|(client, proof)| client.send(&message(b'p', proof.as_bytes())));
    let heard = |(client, _): &mut (Client, String)| {
        client.authentication(12).map_or_else(|sqlstate| sqlstate, |_| "12".to_owned())
    };
    clients.iter_mut().map(heard).collect()
}

/// All of them are past the look at the failures before any has failed: only what counts with the guess itself helps.
#[test]
fn of_fifty_parallel_guesses_no_more_than_the_limit_are_compared() {
    let server = Server::honest();
    let proxy = Proxy::with(
        server.address,
        &Wishes { workers: 2, failed_logins: Some(10), max_clients: 100, ..Wishes::default() },
    );
    // The right password behind the limit is not compared either.
    let guesses: Vec<_> = ["wrong"; 50].into_iter().chain([crate::peers::proxy::PASSWORD]).collect();
    let mut clients = challenged(proxy.address, &guesses);
    let right = clients.pop().unwrap();
    let heard = hear(clients);
    assert_eq!(heard.iter().filter(|sqlstate| *sqlstate == "28P01").count(), 10, "{heard:?}");
    assert_eq!(heard.iter().filter(|sqlstate| *sqlstate == "28000").count(), 40, "{heard:?}");
    assert_eq!(hear(vec![right]), ["28000"]);
}

/// Behind one address there may be a cluster of services that all come at once, and some that never send their proof.
#[test]
fn fifty_at_once_that_know_the_password_are_let_in_whatever_the_limit() {
    let server = Server::honest();
    let proxy = Proxy::with(
        server.address,
        &Wishes { workers: 2, failed_logins: Some(1), max_clients: 100, ..Wishes::default() },
    );
    let stalled = challenged(proxy.address, &["wrong"; 5]);
    let clients = challenged(proxy.address, &[crate::peers::proxy::PASSWORD; 50]);
    assert!(hear(clients).iter().all(|heard| heard == "12"));
    assert_eq!(hear(stalled).iter().filter(|sqlstate| *sqlstate == "28P01").count(), 1);
}

/// A second start, or a second proxy: with a verifier's salt, which stays, they would be told apart from who exists.
#[test]
fn who_does_not_exist_has_the_same_salt_after_a_restart() {
    let server = Server::honest();
    let salt = |user: &str, salt_secret: Option<&'static str>| {
        let proxy = Proxy::with(server.address, &Wishes { salt_secret, ..Wishes::default() });
        let mut client = Client::connect(proxy.address);
        client.send(&startup(&[(b"user", user.as_bytes()), (b"database", DATABASE.as_bytes())]));
        client.authentication(10).unwrap();
        let exchange = ClientExchange::new().unwrap();
        client.send(&initial_response(exchange.first().as_bytes()));
        exchange.challenge(&client.authentication(11).unwrap()).unwrap().salt().to_vec()
    };
    let secret = Some("thirty-two characters and a few more");
    for user in [USER, "nobody"] {
        assert_eq!(salt(user, secret), salt(user, secret), "{user}");
        assert_ne!(salt(user, None), salt(user, None), "{user}");
    }
    assert_ne!(salt("nobody", secret), salt("somebody", secret));
}
