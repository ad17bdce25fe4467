//! Scripted conversations, each held with PostgreSQL itself and then through a proxy in transaction mode, where another
//! client of the pool changes everything it can between every two steps. What the client sees must be the same.
//!
//! A conversation is a test of its own: the quick way to see what is not kept.
#![allow(clippy::too_many_lines, reason = "lists of conversations")]

mod changes;
mod copying;
mod drivers;
mod noise;
mod objects;
mod portals;
mod settings;
mod statements;
mod transactions;
mod transcript;

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};
use crate::support::server::DATABASE;
use noise::Noise;

/// Something that is sent, and what is read before the next step.
pub struct Step {
    what: String,
    bytes: Vec<u8>,
    until: Until,
}

#[derive(Clone, Copy)]
enum Until {
    /// So many ReadyForQuery.
    Ready(usize),
    /// A message of this type.
    Tag(u8),
}

/// A conversation.
pub struct Talk {
    name: &'static str,
    startup: Vec<(&'static str, &'static str)>,
    steps: Vec<Step>,
}

/// A conversation of these steps.
fn talk(name: &'static str, steps: impl Into<Vec<Step>>) -> Talk {
    Talk { name, startup: vec![("application_name", "psql")], steps: steps.into() }
}

impl Talk {
    /// With more startup parameters.
    fn with(mut self, more: &[(&'static str, &'static str)]) -> Self {
        self.startup.extend(more);
        self
    }
}

/// A simple query.
fn ask(sql: &str) -> Step {
    Step { what: sql.to_owned(), bytes: query(sql), until: Until::Ready(1) }
}

/// Messages with one Sync, or another message that is answered with ReadyForQuery.
fn say(messages: &[Vec<u8>]) -> Step {
    many(1, messages)
}

/// Messages that are answered with so many ReadyForQuery.
fn many(ready: usize, messages: &[Vec<u8>]) -> Step {
    let bytes = messages.concat();
    Step { what: bytes.escape_ascii().to_string(), bytes, until: Until::Ready(ready) }
}

/// Messages of which the last answer is of this type.
fn upto(tag: u8, messages: &[Vec<u8>]) -> Step {
    Step { until: Until::Tag(tag), ..many(1, messages) }
}

/// Bind and Execute of a statement, and Sync.
fn run(statement: &str, parameters: &[&str]) -> Step {
    say(&[bind("", statement, parameters), describe(b'P', ""), execute("", 0), sync()])
}

/// Parse of a named statement, and Sync.
fn prepare(statement: &str, sql: &str) -> Step {
    say(&[parse(statement, sql), sync()])
}

impl Step {
    /// Says it: every answer, in lines that can be compared. Notifications, which come when they like, go to `told`.
    fn hold(&self, raw: &mut Raw, told: &mut Vec<String>) -> Vec<String> {
        raw.send(&self.bytes);
        let replies = match self.until {
            Until::Ready(count) => (0..count).map(|_| raw.reply()).collect(),
            Until::Tag(tag) => vec![raw.reply_until(tag)],
        };
        let lines = replies.iter().flat_map(transcript::lines);
        let (notifications, lines) = lines.partition(|line| line.starts_with("A "));
        told.extend::<Vec<_>>(notifications);
        lines
    }
}

/// Tables, and what else conversations need, as new for each.
fn furnish(fixture: &Fixture) {
    let role = &fixture.role;
    let mut admin = fixture.superuser();
    admin.run(&format!("DROP SCHEMA {role} CASCADE; CREATE SCHEMA {role} AUTHORIZATION {role}"));
    admin.run(&format!("GRANT pg_read_all_settings TO {role}"));
    let mut owner = direct(fixture, &[]);
    owner.run("CREATE TABLE t (n int, x text); INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')");
    owner.run("CREATE TABLE u (n int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED); CREATE SEQUENCE s");
}

fn direct(fixture: &Fixture, startup: &[(&str, &str)]) -> Raw {
    Raw::login(fixture.server.address(), &fixture.role, DATABASE, startup).unwrap()
}

/// What was answered to a conversation, step by step, with the login first, and what was told in between.
struct Answers {
    steps: Vec<Vec<String>>,
    told: Vec<String>,
}

fn compare(talk: &Talk) {
    let fixture = Fixture::transaction(2);
    furnish(&fixture);
    let mut client = direct(&fixture, &talk.startup);
    let mut expected = Answers { steps: vec![transcript::welcome(&client)], told: Vec::new() };
    for step in &talk.steps {
        let answer = step.hold(&mut client, &mut expected.told);
        expected.steps.push(answer);
    }
    drop(client);
    let mut noise = Noise::new(&fixture);
    let _of_the_other_worker = fixture.client();
    for phase in [0, 2, 4] {
        furnish(&fixture);
        noise.make_until(phase);
        through_the_proxy(talk, &expected, &fixture, &mut noise);
    }
}

fn through_the_proxy(talk: &Talk, expected: &Answers, fixture: &Fixture, noise: &mut Noise<'_>) {
    let mut told = Vec::new();
    let mut client = fixture.login(&talk.startup).unwrap();
    assert_eq!(transcript::welcome(&client), expected.steps[0], "observed and expected at the login");
    let mut said = noise.phase();
    for (step, expected) in talk.steps.iter().zip(&expected.steps[1..]) {
        noise.make();
        let observed = step.hold(&mut client, &mut told);
        said = format!("{said}\n  {}", step.what);
        assert_eq!(&observed, expected, "observed and expected after:\n{said}\n");
    }
    while told.len() < expected.told.len() {
        let message = client.message().expect("a notification");
        told.extend(transcript::lines(&Reply { messages: vec![message], ended: false }));
    }
    assert_eq!(told, expected.told, "the notifications observed and expected");
}

/// Otherwise it would prove nothing. A client keeps to the connections of its worker, and so each second client, which
/// is of the noise's worker, shares them with it.
pub fn the_noise_moves_a_client_between_connections() {
    let fixture = Fixture::transaction(2);
    let (mut noise, _of_the_other_worker) = (Noise::new(&fixture), fixture.client());
    let mut client = fixture.client();
    let backends = (0..12).map(|_| {
        noise.make();
        client.backend()
    });
    assert_eq!(backends.collect::<BTreeSet<_>>().len(), 2);
}

/// A test for each conversation.
pub fn trials() -> Vec<Trial> {
    let talks = [
        drivers::talks(),
        settings::talks(),
        statements::talks(),
        changes::talks(),
        portals::talks(),
        transactions::talks(),
        objects::talks(),
        copying::talks(),
    ];
    let trial = |talk: Talk| {
        Trial::test(format!("fidelity_table::{}", talk.name.replace(' ', "_")), move || {
            compare(&talk);
            Ok(())
        })
    };
    talks.into_iter().flatten().map(trial).collect()
}
