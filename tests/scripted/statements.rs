//! Prepared statements that have other names on the server: what is sent in their place, what is answered in the server's
//! place, and that neither depends on how the bytes are cut, nor on when the server dies.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::chunks::Cut;
use crate::peers::Dice;
use crate::peers::bytes::{answer, complete, description, error, message, query, read_message, ready, row};
use crate::peers::client::{Client, last_sqlstate};
use crate::peers::honest::{FAILS, Honest, strings};
use crate::peers::proxy::Proxy;
use crate::peers::server::{Conn, Server};

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind and Execute.
fn run(name: &str) -> Vec<u8> {
    let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
    [bind, message(b'E', b"\0\0\0\0\0")].concat()
}

fn describe(name: &str) -> Vec<u8> {
    message(b'D', format!("S{name}\0").as_bytes())
}

fn close(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn flush() -> Vec<u8> {
    message(b'H', b"")
}

const PARSED: &[u8] = b"1\0\0\0\x04";
const BOUND: &[u8] = b"2\0\0\0\x04";
const CLOSED: &[u8] = b"3\0\0\0\x04";

/// The answer to [`run`].
fn ran(sql: &str) -> Vec<u8> {
    [BOUND, &row(sql.as_bytes()), &complete("SELECT 1")].concat()
}

fn described() -> Vec<u8> {
    [message(b't', b"\0\0"), description()].concat()
}

fn failed(sqlstate: &str, text: &str) -> Vec<u8> {
    error("ERROR", sqlstate, text)
}

const MISSING: &str = "prepared statement does not exist";

/// What a client sends in one go and what it gets, and what the server is told meanwhile: see [`Heard`].
type Exchange = (Vec<u8>, Vec<u8>, &'static [&'static str]);

fn exchange(request: &[Vec<u8>], reply: &[&[u8]], told: &'static [&'static str]) -> Exchange {
    (request.concat(), reply.concat(), told)
}

/// What the server is told of a batch in which a statement is closed.
const CLOSED_AMONG: &[&str] = &[
    "B #0",
    "E",
    "C S#0",
    "P #0 SELECT 1",
    "D S#0",
    "B #0",
    "E",
    "C S#1",
    "P #1 SELECT 2",
    "D S#1",
    "B #1",
    "E",
    "S",
];

/// Each exchange is answered to its end before the next one begins.
fn conversation() -> Vec<Exchange> {
    let idle = ready(b'I');
    let one = ran("SELECT 1");
    vec![
        exchange(
            &[parse("a", "SELECT 1"), describe("a"), run("a"), sync()],
            &[PARSED, &described(), &one, &idle],
            &["C S#0", "P #0 SELECT 1", "D S#0", "D S#0", "B #0", "E", "S"],
        ),
        exchange(&[run("a"), run("a"), sync()], &[&one, &one, &idle], &["B #0", "E", "B #0", "E", "S"]),
        // A Close is answered in its place between the server's replies; a Parse goes to the server in any case.
        exchange(
            &[
                run("a"),
                parse("b", "SELECT 1"),
                run("b"),
                close("a"),
                parse("a", "SELECT 2"),
                run("a"),
                sync(),
            ],
            &[&one, PARSED, &one, CLOSED, PARSED, &ran("SELECT 2"), &idle],
            CLOSED_AMONG,
        ),
        exchange(
            &[parse("c", "SELECT 1"), close("c"), sync()],
            &[PARSED, CLOSED, &idle],
            &["C S#0", "P #0 SELECT 1", "D S#0", "S"],
        ),
        // With Flush, on which the server has nothing to say.
        exchange(&[parse("c", "SELECT 2"), flush()], &[PARSED], &["C S#1", "P #1 SELECT 2", "D S#1", "H"]),
        exchange(&[run("c"), close("c"), flush()], &[&ran("SELECT 2"), CLOSED], &["B #1", "E", "H"]),
        exchange(
            &[close("b"), parse("b", "SELECT 1"), flush(), describe("b"), flush()],
            &[CLOSED, PARSED, &described()],
            &["C S#0", "P #0 SELECT 1", "D S#0", "H", "D S#0", "H"],
        ),
        exchange(&[sync()], &[&idle], &["S"]),
        // What stands behind the error never happened: `d` and `a` are as they were.
        exchange(
            &[parse("f", FAILS), run("f"), parse("d", "SELECT 1"), close("a"), sync()],
            &[PARSED, BOUND, &failed("22012", "division by zero"), &idle],
            &["C S#2", "P #2 SELECT 1/0", "D S#2", "B #2", "E", "S"],
        ),
        exchange(&[run("d"), sync()], &[&failed("26000", MISSING), &idle], &["B d", "S"]),
        exchange(&[run("a"), sync()], &[&ran("SELECT 2"), &idle], &["B #1", "E", "S"]),
        exchange(
            &[run("f"), sync()],
            &[BOUND, &failed("22012", "division by zero"), &idle],
            &["B #2", "E", "S"],
        ),
        exchange(
            &[query("SELECT 1"), parse("e", "SELECT 3"), sync(), query("SELECT 2")],
            &[&answer(b"SELECT 1"), PARSED, &idle, &answer(b"SELECT 2")],
            &["Q SELECT 1", "C S#3", "P #3 SELECT 3", "D S#3", "S", "Q SELECT 2"],
        ),
        // The name is taken; behind it the name is taken back from the server connection.
        exchange(
            &[parse("e", "SELECT 4"), run("e"), sync()],
            &[&failed("42P05", "prepared statement already exists"), &idle],
            &["C Se", "P e SELECT 3", "P e SELECT 4", "S", "C Se", "C Sfp_own", "S"],
        ),
        exchange(&[run("e"), sync()], &[&ran("SELECT 3"), &idle], &["B #3", "E", "S"]),
    ]
}

/// What a server was told: type and beginning of each message that it did not skip behind an error. Statements that
/// clients share are numbered in the order of their appearance.
#[derive(Default)]
struct Heard {
    shared: Vec<Vec<u8>>,
    told: Vec<String>,
}

impl Heard {
    fn name(&mut self, name: &[u8]) -> String {
        if name.len() != 35 || !name.starts_with(b"fp_") {
            return String::from_utf8(name.to_vec()).unwrap();
        }
        let place = self.shared.iter().position(|known| known == name).unwrap_or_else(|| {
            self.shared.push(name.to_vec());
            self.shared.len() - 1
        });
        format!("#{place}")
    }

    fn note(&mut self, tag: u8, body: &[u8]) {
        let string = |place| strings(body).nth(place).unwrap();
        let said = match tag {
            b'C' | b'D' => format!(" {}{}", char::from(body[0]), self.name(&string(0)[1..])),
            b'P' => format!(" {} {}", self.name(string(0)), String::from_utf8_lossy(string(1))),
            b'B' => format!(" {}", self.name(string(1))),
            b'Q' => format!(" {}", String::from_utf8_lossy(string(0))),
            _ => String::new(),
        };
        self.told.push(format!("{}{said}", char::from(tag)));
    }
}

/// Serves an honest session that notes what it is told, and sends what it says for each Sync, Flush or Query with `send`.
fn serve(
    conn: &mut Conn,
    heard: &Mutex<Heard>,
    send: impl FnMut(&mut Conn, Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    conn.log_in()?;
    talk(conn, Honest::default(), heard, send)
}

/// The same behind a login, as this session.
fn talk(
    conn: &mut Conn,
    mut session: Honest,
    heard: &Mutex<Heard>,
    mut send: impl FnMut(&mut Conn, Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let (tag, body) = conn.receive()?;
        if tag == b'X' {
            return Ok(());
        }
        if !session.is_skipping() || tag == b'S' {
            heard.lock().unwrap().note(tag, &body);
        }
        out.extend(session.reply(tag, &body));
        if matches!(tag, b'S' | b'H' | b'Q') {
            send(conn, std::mem::take(&mut out))?;
        }
    }
}

/// Plays the conversation from its beginning before a server of its own.
fn play(requests: impl Fn() -> Cut, replies: impl Fn(usize) -> Cut + Send + Sync + 'static, what: &str) {
    let heard = Arc::<Mutex<Heard>>::default();
    let notes = Arc::clone(&heard);
    let server = Server::start(move |conn| {
        let mut number = 0;
        serve(conn, &notes, |conn, out| {
            number += 1;
            conn.send_in_pieces(&out, replies(number).sizes())
        })
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    let mut due = Vec::new();
    for (number, (request, reply, told)) in conversation().iter().enumerate() {
        client.send_in_pieces(request, requests().sizes());
        let got = client.receive_hopefully(reply.len());
        assert!(got == *reply, "{what}, exchange {number}: {:?}", String::from_utf8_lossy(&got));
        due.extend_from_slice(told);
    }
    assert!(!client.has_answer(), "{what}: more than was due");
    assert_eq!(heard.lock().unwrap().told, due, "{what}");
    assert_eq!(server.accepted(), 1, "{what}");
}

#[test]
fn statements_cut_into_pieces_of_every_size_reach_the_server_under_its_names_and_are_answered_in_order() {
    play(|| Cut::Every(usize::MAX), |_| Cut::Every(usize::MAX), "in one piece");
    for size in 1..=40 {
        play(move || Cut::Every(size), move |_| Cut::Every(size), &format!("in pieces of {size}"));
    }
}

#[test]
fn statements_cut_once_at_every_place_reach_the_server_under_its_names_and_are_answered_in_order() {
    let longest = conversation().iter().map(|(request, reply, _)| request.len().max(reply.len())).max();
    // The server's replies have some messages more than the client's.
    for place in 1..=longest.unwrap() + 10 {
        play(move || Cut::Once(place), move |_| Cut::Once(place), &format!("cut at {place}"));
    }
}

#[test]
fn statements_cut_at_random_reach_the_server_under_its_names_and_are_answered_in_order() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for round in 0..40 {
        let dice = Mutex::new(Dice(seed ^ round << 32));
        let requests = move || Cut::Random(dice.lock().unwrap().next());
        let replies = move |number| Cut::Random(seed ^ round << 48 ^ number as u64);
        play(requests, replies, &format!("seed {seed}, round {round}"));
    }
}

/// What the server is told depends on which of its replies have come, what the client is told does not.
#[test]
fn statements_of_a_pipeline_that_is_not_waited_for_are_answered_in_order() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let exchanges = conversation();
    let request: Vec<u8> = exchanges.iter().flat_map(|(request, ..)| request.clone()).collect();
    let reply: Vec<u8> = exchanges.iter().flat_map(|(_, reply, _)| reply.clone()).collect();
    for round in 0..40 {
        let mut dice = Dice(seed ^ round << 32);
        let server = Server::start(move |conn| {
            let sizes = Cut::Random(seed ^ round << 48).sizes();
            let sizes = Mutex::new(sizes);
            serve(conn, &Mutex::default(), |conn, out| {
                let mut sizes = sizes.lock().unwrap();
                conn.send_in_pieces(&out, || if round == 0 { usize::MAX } else { sizes() })
            })
        });
        let proxy = Proxy::before(server.address);
        let mut client = Client::log_in(proxy.address);
        client.send_in_pieces(&request, || if round == 0 { usize::MAX } else { 1 + dice.below(40) });
        let got = client.receive_hopefully(reply.len());
        assert!(got == reply, "seed {seed}, round {round}: {:?}", String::from_utf8_lossy(&got));
        assert_eq!(server.accepted(), 1);
    }
}

#[test]
fn a_client_that_leaves_at_any_byte_leaves_its_statements_to_nobody() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let batch = [parse("a", "SELECT 'stolen'"), run("a"), parse("b", "SELECT 'stolen'"), close("a"), sync()];
    let whole = batch.concat();
    for end in 1..=whole.len() {
        let mut client = Client::log_in(proxy.address);
        client.send(&whole[..end]);
        drop(client);
        let mut other = Client::log_in(proxy.address);
        other.send(&[run("a"), sync(), parse("a", "SELECT 'own'"), run("a"), sync()].concat());
        let refused = [failed("26000", MISSING), ready(b'I')].concat();
        assert_eq!(other.until_ready().unwrap(), refused, "after {end} bytes");
        let own = [PARSED, &ran("SELECT 'own'"), &ready(b'I')].concat();
        assert_eq!(other.until_ready().unwrap(), own, "after {end} bytes");
    }
}

#[test]
fn clients_that_mean_different_statements_by_one_name_share_a_server_connection() {
    let heard = Arc::<Mutex<Heard>>::default();
    let notes = Arc::clone(&heard);
    let server = Server::start(move |conn| serve(conn, &notes, |conn, out| conn.send(&out)));
    let proxy = Proxy::before(server.address);
    let mut clients = [0, 1].map(|number| (number, Client::log_in(proxy.address)));
    for (number, client) in &mut clients {
        client.send(&[parse("mine", &format!("SELECT {number}")), sync()].concat());
        assert_eq!(client.until_ready().unwrap(), [PARSED, &ready(b'I')].concat());
    }
    for _ in 0..3 {
        for (number, client) in &mut clients {
            client.send(&[run("mine"), sync()].concat());
            let due = [ran(&format!("SELECT {number}")), ready(b'I')];
            assert_eq!(client.until_ready().unwrap(), due.concat());
        }
    }
    let parses = heard.lock().unwrap().told.iter().filter(|said| said.starts_with('P')).count();
    assert_eq!((parses, server.accepted()), (2, 1));
}

#[test]
fn a_statement_is_parsed_again_on_a_server_connection_that_does_not_have_it() {
    let heard = Arc::<Mutex<Heard>>::default();
    let notes = Arc::clone(&heard);
    let server = Server::start(move |conn| {
        let mut served = 0;
        serve(conn, &notes, |conn, out| {
            served += 1;
            // The first connection ends after its first batch.
            conn.send(&out)?;
            if conn.number == 0 { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
        })
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    client.send(&[parse("a", "SELECT 1"), run("a"), sync()].concat());
    client.until_ready().unwrap();
    crate::peers::eventually("the end of the first connection", || {
        (proxy.metric("firepool_server_connections_closed_total") >= 1.0).then_some(())
    });
    client.send(&[run("a"), parse("b", "SELECT 1"), sync()].concat());
    assert_eq!(client.until_ready().unwrap(), [&ran("SELECT 1"), PARSED, &ready(b'I')].concat());
    let parse = ["C S#0", "P #0 SELECT 1", "D S#0"];
    let first = [&parse[..], &["B #0", "E", "S"]].concat();
    // It is bound when the server has said that it is the same.
    let second = [&parse[..], &["H", "B #0", "E"], &parse, &["S"]].concat();
    assert_eq!(heard.lock().unwrap().told, [first, second].concat());
}

/// A batch that uses a statement of which the next server connection says something else, and what is due.
fn outdated() -> [Exchange; 3] {
    let first = "DROP TABLE t";
    let fields = "C0A000\0Mcached plan must not change result type\0Fplancache.c\0RRevalidateCachedQuery\0\0";
    let refused = message(b'E', format!("SERROR\0VERROR\0{fields}").as_bytes());
    let idle = ready(b'I');
    [
        exchange(
            &[parse("b", first), run("b"), run("a"), describe("a"), parse("c", "SELECT 2"), sync()],
            &[PARSED, &ran(first), &refused, &idle],
            &["C S#1", "P #1 DROP TABLE t", "D S#1", "B #1", "E"],
        ),
        exchange(&[describe("a"), run("a"), sync()], &[&refused, &idle], &[]),
        // What stood behind the error never happened, and what is parsed anew is as it is now.
        exchange(
            &[close("a"), parse("a", "SELECT 1"), run("a"), parse("c", "SELECT 1"), sync()],
            &[CLOSED, PARSED, &ran("SELECT 1"), PARSED, &idle],
            &[],
        ),
    ]
}

/// Plays it, both sides cut like this.
fn play_outdated(cut: impl Fn() -> Cut + Copy + Send + Sync + 'static, what: &str) {
    let heard = Arc::<Mutex<Heard>>::default();
    let notes = Arc::clone(&heard);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        let mut session = Honest::default();
        if conn.number > 0 {
            session.columns =
                message(b'T', b"\0\x01other\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        }
        talk(conn, session, &notes, |conn, out| {
            conn.send_in_pieces(&out, cut().sizes())?;
            // The first connection ends after its first batch.
            if conn.number == 0 { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
        })
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    client.send(&[parse("a", "SELECT 1"), run("a"), sync()].concat());
    client.until_ready().unwrap();
    crate::peers::eventually("the end of the first connection", || {
        (proxy.metric("firepool_server_connections_closed_total") >= 1.0).then_some(())
    });
    for (number, (request, reply, told)) in outdated().iter().enumerate() {
        client.send_in_pieces(request, cut().sizes());
        let got = client.receive_hopefully(reply.len());
        assert!(got == *reply, "{what}, exchange {number}: {:?}", String::from_utf8_lossy(&got));
        let heard = heard.lock().unwrap();
        let said = told.is_empty() || heard.told.windows(told.len()).any(|said| said == *told);
        assert!(said, "{what}: {:?}", heard.told);
        // It is never bound before the server has said what it is.
        assert!(number == 2 || !heard.told[6..].contains(&"B #0".to_owned()), "{what}: {:?}", heard.told);
    }
    assert!(!client.has_answer(), "{what}: more than was due");
    assert_eq!(server.accepted(), 2, "{what}");
}

#[test]
fn a_statement_that_has_other_columns_on_the_next_server_connection_is_not_bound_however_its_description_is_cut()
 {
    play_outdated(|| Cut::Every(usize::MAX), "in one piece");
    for size in 1..=12 {
        play_outdated(move || Cut::Every(size), &format!("in pieces of {size}"));
    }
    for place in (1..=120).step_by(5) {
        play_outdated(move || Cut::Once(place), &format!("cut at {place}"));
    }
}

/// Where the messages of `reply` end.
fn seams(reply: &[u8]) -> Vec<usize> {
    let (mut rest, mut seams) = (reply, vec![0]);
    while read_message(&mut rest).is_ok() {
        seams.push(reply.len() - rest.len());
    }
    seams
}

/// A server whose connections die after `length` bytes of replies. `total` becomes what one of them has sent at most.
fn mortal(length: &Arc<AtomicUsize>, total: &Arc<AtomicUsize>) -> Server {
    let (length, total, heard) = (Arc::clone(length), Arc::clone(total), Arc::<Mutex<Heard>>::default());
    Server::start(move |conn| {
        let mut sent = 0;
        serve(conn, &heard, |conn, out| {
            // A connection of the round before may still be there.
            let left = length.load(Ordering::SeqCst).saturating_sub(sent);
            conn.send(&out[..left.min(out.len())])?;
            sent += out.len();
            total.fetch_max(sent, Ordering::SeqCst);
            if left <= out.len() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
        })
    })
}

/// Sends each request once the one before is answered; everything that came, and everything that was due.
fn converse(client: &mut Client, own: &str) -> (Vec<u8>, Vec<u8>) {
    let idle = ready(b'I');
    let exchanges = [
        exchange(
            &[parse("a", own), run("a"), parse("b", own), sync()],
            &[PARSED, &ran(own), PARSED, &idle],
            &[],
        ),
        exchange(
            &[run("b"), close("a"), parse("c", own), flush(), describe("c"), sync()],
            &[&ran(own), CLOSED, PARSED, &described(), &idle],
            &[],
        ),
    ];
    let (mut got, mut due) = (Vec::new(), Vec::new());
    for (request, reply, _) in exchanges {
        if got == due {
            client.send_hopefully(&request);
            got.extend(client.receive_hopefully(reply.len()));
        }
        due.extend(reply);
    }
    if got != due {
        got.extend(client.until_end());
    }
    (got, due)
}

#[test]
fn a_server_that_dies_at_any_byte_leaves_an_error_or_an_end_and_nothing_of_anybody_else() {
    let (length, total) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::<AtomicUsize>::default());
    let server = mortal(&length, &total);
    let proxy = Proxy::before(server.address);
    let (got, due) = converse(&mut Client::log_in(proxy.address), "SELECT 'client ???'");
    assert_eq!(got, due);
    let total = total.load(Ordering::SeqCst);
    // The connection that is there dies of the next answer.
    length.store(total, Ordering::SeqCst);
    converse(&mut Client::log_in(proxy.address), "SELECT 'client !!!'");
    let mut dead = 0;
    for place in 0..total {
        length.store(place, Ordering::SeqCst);
        let mut client = Client::log_in(proxy.address);
        let (got, due) = converse(&mut client, &format!("SELECT 'client {place:03}'"));
        let seams = seams(&due);
        let own_part = (0..=due.len().min(got.len())).rev().find(|&end| {
            let (own, words) = got.split_at(end);
            // Between messages a reason is due; within one, it would become part of the message.
            let reason = last_sqlstate(words).is_some_and(|sqlstate| sqlstate == "08006");
            own == &due[..end] && if seams.contains(&end) { reason || got == due } else { words.is_empty() }
        });
        assert!(own_part.is_some(), "dead after {place} bytes: {:?}", String::from_utf8_lossy(&got));
        dead += usize::from(got != due);
    }
    // A death between two answers can go unnoticed.
    assert!(dead + 3 > total, "{dead} deaths");
}
