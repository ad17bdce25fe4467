//! LISTEN in transaction and statement mode: many listeners, few server connections, and what they hear is what they
//! would on connections of their own.

use std::thread;

use crate::support::fixture::{Fixture, Lines};
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};
use crate::support::wait::until;

/// Channel and payload of the next message, which must be a notification.
#[track_caller]
fn heard(client: &mut Raw) -> String {
    let message = client.message().expect("the session was ended");
    assert_eq!(message.tag, b'A', "{message:?}");
    message.strings(4)[..2].join(" ")
}

/// What was told before and within the answer to something harmless.
#[track_caller]
fn told(client: &mut Raw) -> Vec<String> {
    let reply = client.query("SELECT 1");
    assert!(reply.code().is_empty() && !reply.ended, "{reply:?}");
    notifications(&reply)
}

fn notifications(reply: &Reply) -> Vec<String> {
    let told = reply.messages.iter().filter(|message| message.tag == b'A');
    told.map(|message| message.strings(4)[..2].join(" ")).collect()
}

/// Channels belong to the database, which all tests share: each has its own.
fn channel(fixture: &Fixture, name: &str) -> String {
    format!("{}_{name}", fixture.role)
}

fn pins(fixture: &Fixture) -> f64 {
    fixture.proxy.metric("firepool_pins_total", "reason=\"listen\"")
}

/// A client, and one that hears everything on the channels `a` to `c`: what it has heard, the other has as well by then.
struct Pair {
    fixture: Fixture,
    client: Raw,
    witness: Raw,
    notifier: Raw,
}

impl Pair {
    fn new(fixture: Fixture) -> Self {
        let mut witness = fixture.client();
        for name in ["a", "b", "c"] {
            witness.run(&format!("LISTEN {}", channel(&fixture, name)));
        }
        let notifier = Raw::login(fixture.server.address(), &fixture.role, "test", &[]).unwrap();
        Self { client: fixture.client(), witness, notifier, fixture }
    }

    /// `@a` stands for the channel.
    fn sql(&self, sql: &str) -> String {
        sql.replace('@', &format!("{}_", self.fixture.role))
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        let sql = self.sql(sql);
        self.client.run(&sql);
    }

    /// On which of the channels the client hears what is committed now.
    #[track_caller]
    fn hears(&mut self) -> String {
        told(&mut self.client);
        for name in ["a", "b", "c"] {
            let channel = channel(&self.fixture, name);
            self.notifier.run(&format!("NOTIFY {channel}"));
            while heard(&mut self.witness).trim() != channel {}
        }
        let own = format!("{}_", self.fixture.role);
        told(&mut self.client).iter().map(|told| told.trim().trim_start_matches(&own)).collect()
    }
}

pub fn sixty_listeners_on_two_connections_each_hear_what_is_meant_for_them_and_nothing_else() {
    const LISTENERS: usize = 60;
    const ROUNDS: usize = 20;
    let fixture = Fixture::transaction(2);
    let mut admin = fixture.superuser();
    let all = channel(&fixture, "all");
    let mut listeners: Vec<_> = (0..LISTENERS).map(|_| fixture.client()).collect();
    for (n, listener) in listeners.iter_mut().enumerate() {
        listener.run(&format!("LISTEN {}; LISTEN {all}", channel(&fixture, &n.to_string())));
    }
    let listening = || fixture.proxy.metric("firepool_listening_clients", "");
    // Answered when the hub has it: what comes from here on is counted there.
    assert!(listeners.iter_mut().all(|listener| told(listener).is_empty()));
    assert_eq!(listening(), LISTENERS as f64);
    thread::scope(|scope| {
        let fixture = &fixture;
        for half in 0..2 {
            let all = &all;
            scope.spawn(move || {
                let mut notifier = fixture.client();
                for round in 0..ROUNDS {
                    for n in (half..LISTENERS).step_by(2) {
                        let own = channel(fixture, &n.to_string());
                        notifier.run(&format!("NOTIFY {own}, '{round}'"));
                    }
                    notifier.run(&format!("NOTIFY {all}, '{half} {round}'"));
                }
            });
        }
        for (n, listener) in listeners.iter_mut().enumerate() {
            let own = channel(fixture, &n.to_string());
            let mut streams = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..3 * ROUNDS {
                let heard = heard(listener);
                let stream = ["0 ", "1 "].iter().position(|half| heard.contains(&format!(" {half}")));
                streams[stream.unwrap_or(2)].push(heard);
            }
            for (half, stream) in streams.iter().enumerate() {
                let expected = (0..ROUNDS).map(|round| match half {
                    2 => format!("{own} {round}"),
                    half => format!("{all} {half} {round}"),
                });
                assert_eq!(*stream, expected.collect::<Vec<_>>(), "listener {n}");
            }
        }
    });
    assert!(listeners.iter_mut().all(|listener| told(listener).is_empty()));
    assert!(fixture.connections(&mut admin) <= 3);
    assert_eq!(pins(&fixture), 0.0);
    assert!(fixture.proxy.metric("firepool_notifications_total", "") >= (3 * ROUNDS * LISTENERS) as f64);
    drop(listeners);
    until("nobody listens", || listening() == 0.0);
}

pub fn a_listener_that_does_not_read_is_ended_with_53400_and_the_others_go_on() {
    let fixture = Fixture::transaction(2);
    let mut notifier = fixture.client();
    let (mut lazy, mut busy) = (fixture.client(), fixture.client());
    let name = channel(&fixture, "flood");
    lazy.run(&format!("LISTEN {name}"));
    busy.run(&format!("LISTEN {name}"));
    let ended = || fixture.proxy.metric("firepool_refusals_total", "kind=\"notification_overflow\"") == 1.0;
    let mut sent = 0;
    while !ended() {
        for _ in 0..20 {
            sent += 1;
            notifier.run(&format!("SELECT pg_notify('{name}', {sent} || repeat('x', 7900))"));
        }
        for n in sent - 19..=sent {
            assert!(heard(&mut busy).starts_with(&format!("{name} {n}x")));
        }
        assert!(sent < 20_000, "a client that does not read goes on");
    }
    let mut last = 0;
    let code = loop {
        let message = lazy.message().expect("it is told why");
        if message.tag == b'E' {
            break message.failure().code;
        }
        let text = message.strings(4).remove(1);
        let number: usize = text.trim_end_matches('x').parse().unwrap();
        assert_eq!(number, last + 1, "nothing is left out before the end");
        last = number;
    };
    assert_eq!(code, "53400");
    notifier.run(&format!("NOTIFY {name}, 'last'"));
    assert_eq!(heard(&mut busy), format!("{name} last"));
}

pub fn listening_begins_and_ends_with_what_is_committed() {
    let mut pair = Pair::new(Fixture::transaction(2));
    for (said, hears) in [
        ("BEGIN; LISTEN @a; ROLLBACK", ""),
        ("BEGIN; LISTEN @a; UNLISTEN @a; COMMIT", ""),
        ("LISTEN @a; SELECT 1", "a"),
        ("BEGIN; UNLISTEN @a; LISTEN @a; COMMIT", "a"),
        ("BEGIN; UNLISTEN *; ROLLBACK", "a"),
        ("BEGIN; LISTEN @b; SAVEPOINT s; UNLISTEN *; LISTEN @c; ROLLBACK TO s; COMMIT", "ab"),
        ("UNLISTEN @c; LISTEN @a", "ab"),
        ("BEGIN; UNLISTEN *; LISTEN @c; COMMIT", "c"),
        ("LISTEN @a; UNLISTEN @c; LISTEN @b", "ab"),
        ("UNLISTEN @a", "b"),
        ("UNLISTEN *", ""),
        ("LISTEN @a; LISTEN @b; LISTEN @c", "abc"),
        ("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;", ""),
        ("LISTEN @c", "c"),
    ] {
        // In one message, and in many.
        pair.run(said);
        assert_eq!(pair.hears(), hears, "{said}");
        let one_by_one: Vec<_> = said.split("; ").collect();
        for said in &one_by_one {
            pair.run(said);
        }
        assert_eq!(pair.hears(), hears, "{one_by_one:?}");
    }
    assert_eq!(pins(&pair.fixture), 0.0);
}

pub fn what_fails_or_is_rolled_back_does_not_end_listening() {
    let mut pair = Pair::new(Fixture::transaction(2));
    pair.run("LISTEN @a; LISTEN @b");
    for said in ["UNLISTEN *; SELECT 1/0", "UNLISTEN @a; SELECT 1/0", "BEGIN; UNLISTEN @b; SELECT 1/0"] {
        let said = pair.sql(said);
        assert_eq!(pair.client.query(&said).code(), "22012");
        pair.client.query("ROLLBACK");
        assert_eq!(pair.hears(), "ab", "{said}");
    }
    pair.client.send(&[query("BEGIN"), query("UNLISTEN *"), query("ROLLBACK")].concat());
    for _ in 0..3 {
        assert_eq!(pair.client.reply().code(), "");
    }
    assert_eq!(pair.hears(), "ab");
    // What a driver says that gets a connection back in the middle of a transaction.
    pair.run("BEGIN; SELECT 1");
    pair.run("ROLLBACK; UNLISTEN *; RESET ALL");
    assert_eq!(pair.hears(), "");
}

pub fn the_extended_protocol_listens_as_well() {
    let mut pair = Pair::new(Fixture::transaction(2));
    let (listen, unlisten) = (pair.sql("LISTEN @a"), pair.sql("UNLISTEN @a"));
    for (sql, hears) in [(listen.as_str(), "a"), (unlisten.as_str(), ""), (&listen, "a"), ("UNLISTEN *", "")]
    {
        assert_eq!(pair.client.batch(&[unnamed(sql, &[]), sync()]).code(), "");
        assert_eq!(pair.hears(), hears, "{sql}");
    }
    for (n, (sql, hears)) in [(&listen, "a"), (&unlisten, "")].into_iter().enumerate() {
        // Parsed is not said.
        let before = pair.hears();
        pair.client.batch(&[parse(&n.to_string(), sql), sync()]);
        assert_eq!(pair.hears(), before);
        pair.client.batch(&[bind("", &n.to_string(), &[]), execute("", 0), sync()]);
        assert_eq!(pair.hears(), hears, "{sql}, by name");
    }
    for (sql, hears) in [(&listen, "a"), (&unlisten, "")] {
        assert_eq!(pair.client.batch(&[parse("", sql), sync()]).tags(), "1Z");
        assert_eq!(pair.client.batch(&[bind("", "", &[]), execute("", 0), sync()]).tags(), "2CZ");
        assert_eq!(pair.hears(), hears, "{sql}, in two batches");
    }
    assert_eq!(pins(&pair.fixture), 0.0);
}

pub fn discard_all_ends_listening() {
    let mut pair = Pair::new(Fixture::transaction(2));
    pair.run("LISTEN @a; LISTEN @b");
    pair.run("DISCARD ALL");
    assert_eq!(pair.hears(), "");
    pair.run("LISTEN @a; LISTEN @c");
    assert_eq!(pair.client.batch(&[unnamed("DISCARD ALL", &[]), sync()]).code(), "");
    assert_eq!(pair.hears(), "");
    pair.run("LISTEN @b");
    assert_eq!(pair.hears(), "b");
    let bytes = [query("DISCARD ALL"), query(&pair.sql("LISTEN @c"))].concat();
    pair.client.send(&bytes);
    assert_eq!((pair.client.reply().code(), pair.client.reply().code()), (String::new(), String::new()));
    assert_eq!(pair.hears(), "c");
}

pub fn listening_works_in_statement_mode() {
    let mut pair = Pair::new(Fixture::new("mode = \"statement\"\npool_size = 1"));
    pair.run("LISTEN @b");
    assert_eq!(pair.hears(), "b");
    pair.run("UNLISTEN @b");
    assert_eq!(pair.hears(), "");
    assert_eq!(pins(&pair.fixture), 0.0);
}

pub fn a_function_may_listen() {
    let mut pair = Pair::new(Fixture::transaction(2));
    let body = "CREATE FUNCTION hark() RETURNS int LANGUAGE plpgsql AS $$ BEGIN LISTEN @a; RETURN 1; END $$";
    pair.run(body);
    pair.run("SELECT hark()");
    assert_eq!(pair.hears(), "a");
    assert_eq!(pins(&pair.fixture), 0.0);
}

pub fn a_transaction_hears_nothing_before_it_has_ended() {
    let mut pair = Pair::new(Fixture::transaction(2));
    pair.run("LISTEN @a");
    pair.run("BEGIN");
    assert_eq!(pair.hears(), "", "within the transaction");
    pair.run("CREATE TEMP TABLE mine (n int); COMMIT");
    assert_eq!(heard(&mut pair.client).trim(), channel(&pair.fixture, "a"));
    // Pinned by now, for something else.
    assert_eq!(pair.hears(), "a");
    pair.run("LISTEN @b; UNLISTEN @a");
    assert_eq!(pair.hears(), "b");
    assert_eq!(pins(&pair.fixture), 0.0);
}

pub fn what_was_committed_before_listen_is_never_heard_and_what_comes_after_its_answer_always() {
    let fixture = Fixture::transaction(1);
    let (mut notifier, mut client) = (fixture.client(), fixture.client());
    let name = channel(&fixture, "rounds");
    for round in 0..200 {
        notifier.run(&format!("NOTIFY {name}, 'before {round}'"));
        let reply = client.query(&format!("LISTEN {name}"));
        assert_eq!(notifications(&reply), [""; 0], "round {round}");
        notifier.run(&format!("NOTIFY {name}, 'after {round}'"));
        assert_eq!(heard(&mut client), format!("{name} after {round}"));
        notifier.run(&format!("NOTIFY {name}, 'again {round}'"));
        let reply = client.query(&format!("UNLISTEN {name}"));
        // As from PostgreSQL, it need not be told of what came while it stopped; but of nothing later.
        assert!(notifications(&reply).len() + told(&mut client).len() <= 1, "round {round}");
    }
    assert_eq!(pins(&fixture), 0.0);
}

pub fn a_lost_connection_ends_who_listens_and_a_new_listen_works() {
    let fixture = Fixture::transaction(2);
    let mut admin = fixture.superuser();
    let (mut listener, mut other) = (fixture.client(), fixture.client());
    let name = channel(&fixture, "lost");
    for _ in 0..2 {
        listener.run(&format!("LISTEN {name}"));
        assert_eq!(told(&mut listener), [""; 0], "it is answered when it listens through the hub");
        let from = format!("FROM pg_stat_activity WHERE usename = '{}'", fixture.role);
        let gone = admin.run(&format!(
            "SELECT pg_terminate_backend(pid, 10000) {from} AND application_name = 'firepool listener'"
        ));
        assert_eq!(gone, [["t"]]);
        assert_eq!(listener.farewell().code, "08006");
        assert_eq!(other.value("SELECT 'goes on'"), "goes on");
        listener = fixture.client();
    }
    listener.run(&format!("LISTEN {name}"));
    other.run(&format!("NOTIFY {name}, 'news'"));
    assert_eq!(heard(&mut listener), format!("{name} news"));
}

pub fn a_client_whose_encoding_the_hub_does_not_have_keeps_its_connection() {
    let fixture = Fixture::transaction(3);
    let mut notifier = fixture.client();
    let mut latin = fixture.login(&[("client_encoding", "LATIN1")]).unwrap();
    let name = channel(&fixture, "encoded");
    latin.run(&format!("LISTEN {name}"));
    notifier.run(&format!("NOTIFY {name}, 'ä'"));
    let message = latin.message().unwrap();
    assert!(message.body.ends_with(b"\0\xe4\0"), "{message:?}");
    until("the pin is counted", || pins(&fixture) == 1.0);
    latin.run("UNLISTEN *");
    until("it is not pinned any more", || {
        fixture.proxy.metric("firepool_unpins_total", "reason=\"listen\"") == 1.0
    });

    let mut fickle = fixture.login(&[("client_encoding", "UTF8")]).unwrap();
    fickle.run(&format!("LISTEN {name}"));
    fickle.run("SET client_encoding = 'LATIN1'");
    notifier.run(&format!("NOTIFY {name}, 'a'"));
    assert_eq!(heard(&mut fickle), format!("{name} a"));
    notifier.run(&format!("NOTIFY {name}, 'ä'"));
    assert_eq!(fickle.farewell().code, "0A000");
}

pub fn names_come_as_postgresql_has_them() {
    let fixture = Fixture::transaction(1);
    let (mut notifier, mut client) = (fixture.client(), fixture.client());
    for name in [channel(&fixture, "Große \"Namen\""), channel(&fixture, &"ä".repeat(20)), "x".repeat(100)]
    {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        client.run(&format!("LISTEN {quoted}"));
        notifier.run(&format!("NOTIFY {quoted}, '{}'", fixture.role));
        let told = heard(&mut client);
        let known = told.strip_suffix(&format!(" {}", fixture.role)).unwrap();
        assert!(known.len() <= 63 && name.starts_with(known), "{told}");
        client.run(&format!("UNLISTEN {quoted}"));
        notifier.run(&format!("NOTIFY {quoted}, '{}'", fixture.role));
        client.run("LISTEN fence");
        notifier.run(&format!("NOTIFY fence, '{}'", fixture.role));
        while heard(&mut client) != format!("fence {}", fixture.role) {}
        client.run("UNLISTEN *");
    }
    assert_eq!(pins(&fixture), 0.0);
}

pub fn where_no_more_connections_are_allowed_a_listener_keeps_its_own() {
    let fixture = Fixture::with(Lines {
        route: "pool_size = 2",
        user: "max_server_connections = 1",
        ..Lines::default()
    });
    let mut listener = fixture.client();
    let name = channel(&fixture, "capped");
    listener.run(&format!("LISTEN {name}"));
    until("the pin is counted", || pins(&fixture) == 1.0);
    listener.run(&format!("NOTIFY {name}, 'own'"));
    listener.run("UNLISTEN *");
    assert_eq!(fixture.client().value("SELECT 1"), "1");
    assert!(fixture.connections(&mut fixture.superuser()) <= 1);
}

pub fn a_drain_ends_listeners_as_it_ends_idle_clients() {
    let mut fixture = Fixture::transaction(2);
    let mut listeners: Vec<_> = (0..4).map(|_| fixture.client()).collect();
    let name = channel(&fixture, "drained");
    for listener in &mut listeners {
        listener.run(&format!("LISTEN {name}"));
    }
    let drained = fixture.proxy.drain(crate::support::wait::LIMIT);
    for listener in &mut listeners {
        assert_eq!(listener.farewell().code, "57P01");
    }
    drained.join().unwrap();
}
