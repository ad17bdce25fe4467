//! A recorded conversation is played again and again, cut in every way, in both directions: the server gets exactly
//! the client's bytes and the client exactly the server's.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use firepool::relay::request::JUDGED;

use crate::peers::Dice;
use crate::peers::bytes::{
    answer, complete, description, error, extended, message, notice, parameter, query, ready, row,
};
use crate::peers::client::Client;
use crate::peers::honest::NOTHING;
use crate::peers::proxy::Proxy;
use crate::peers::server::Server;

/// What a client sends, and what the server answers.
type Exchange = (Vec<u8>, Vec<u8>);

fn conversation() -> Vec<Exchange> {
    let extended_answer = [
        message(b'1', b""),
        message(b'2', b""),
        description(),
        row(b"one"),
        row(&[0; 3]),
        complete("SELECT 2"),
        ready(b'I'),
    ];
    // As drivers do that ask for the types first; PostgreSQL answers each batch at its Sync.
    let parsed = [message(b'1', b""), message(b't', b"\0\x01\0\0\0\x17"), description(), ready(b'I')];
    let bound = [message(b'2', b""), row(b"bound"), complete("SELECT 1"), ready(b'I')];
    let parse = [message(b'P', b"\0SELECT $1\0\0\0"), message(b'D', b"S\0"), message(b'S', b"")];
    let bind =
        [message(b'B', b"\0\0\0\0\0\x01\0\0\0\x011\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")];
    let failed = [error("ERROR", "42P01", "no such table"), ready(b'I')];
    let copy_in = [message(b'd', b"1\t2\n"), message(b'd', &[b'x'; 70]), message(b'c', b"")];
    vec![
        (query("SELECT 1"), answer(b"1")),
        (extended("SELECT 2"), extended_answer.concat()),
        (parse.concat(), parsed.concat()),
        (bind.concat(), bound.concat()),
        (query("SELECT nothing"), failed.concat()),
        (query("BEGIN"), [complete("BEGIN"), ready(b'T')].concat()),
        (
            query("SELECT 3"),
            [notice("careful"), description(), row(&[b'y'; 90]), complete("SELECT 1"), ready(b'T')].concat(),
        ),
        (query("COMMIT"), [complete("COMMIT"), parameter("TimeZone", "UTC"), ready(b'I')].concat()),
        (
            query("COPY t TO STDOUT"),
            [
                message(b'H', b"\0\0\x01\0\0"),
                message(b'd', b"1\t2\n"),
                message(b'd', &[b'z'; 80]),
                message(b'c', b""),
                complete("COPY 2"),
                ready(b'I'),
            ]
            .concat(),
        ),
        (query("COPY t FROM STDIN"), message(b'G', b"\0\0\x01\0\0")),
        (copy_in.concat(), [complete("COPY 2"), ready(b'I')].concat()),
        (query(""), [message(b'I', b""), ready(b'I')].concat()),
        (message(b'F', &[0; 14]), [message(b'V', &[0, 0, 0, 1, 7]), ready(b'I')].concat()),
    ]
}

/// How one side cuts what it sends.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// Pieces of this size.
    Every(usize),
    /// One cut, at this place.
    Once(usize),
    /// Pieces of random sizes.
    Random(u64),
}

impl Cut {
    pub(crate) fn sizes(self) -> impl FnMut() -> usize {
        let (mut dice, mut first) = (
            Dice(match self {
                Self::Random(seed) => seed,
                _ => 0,
            }),
            true,
        );
        move || match self {
            Self::Every(size) => size,
            Self::Once(place) => {
                if std::mem::take(&mut first) {
                    place
                } else {
                    usize::MAX
                }
            }
            Self::Random(_) => 1 + dice.below(40),
        }
    }
}

/// A proxy before a server that plays its part of an exchange when it is handed one.
struct Stage {
    parts: SyncSender<(Exchange, Cut, bool)>,
    received: Receiver<Vec<u8>>,
    client: Client,
    /// The proxy has asked what the definitions of the database do, as it does behind the first COPY.
    seen: bool,
    // Dropped in this order.
    _proxy: Proxy,
    _server: Server,
}

impl Stage {
    fn set() -> Self {
        let (parts, script) = sync_channel::<(Exchange, Cut, bool)>(1);
        let (heard, received) = sync_channel(1);
        let script = Arc::new(Mutex::new(script));
        let server = Server::start(move |conn| {
            conn.log_in()?;
            let script = script.lock().unwrap();
            while let Ok(((request, reply), cut, asked)) = script.recv() {
                heard.send(conn.receive_raw(request.len())?).unwrap();
                conn.send_in_pieces(&reply, cut.sizes())?;
                if asked {
                    conn.expect_question(NOTHING)?;
                }
            }
            Ok(())
        });
        let proxy = Proxy::before(server.address);
        let client = Client::log_in(proxy.address);
        Self { parts, received, client, seen: false, _proxy: proxy, _server: server }
    }

    fn play(&mut self, exchange: &Exchange, requests: Cut, replies: Cut, what: &str) {
        let carried_out = !exchange.1.starts_with(b"E");
        // What a text did that is too long to be looked at, the proxy asks the server.
        let long = exchange.0[0] == b'Q' && exchange.0.len() > JUDGED && carried_out;
        let first_copy = exchange.0[5..].starts_with(b"COPY") && !std::mem::replace(&mut self.seen, true);
        let asked = long || first_copy;
        self.parts.send((exchange.clone(), replies, asked)).unwrap();
        self.client.send_in_pieces(&exchange.0, requests.sizes());
        let got = self.client.receive_hopefully(exchange.1.len());
        assert!(got == exchange.1, "to the client, {what}: {:?}", String::from_utf8_lossy(&got));
        assert!(self.received.recv().unwrap() == exchange.0, "to the server, {what}");
    }
}

#[test]
fn a_conversation_cut_into_pieces_of_every_size_arrives_byte_for_byte() {
    let mut stage = Stage::set();
    for size in 1..=40 {
        for (number, exchange) in conversation().iter().enumerate() {
            let what = format!("exchange {number} in pieces of {size}");
            stage.play(exchange, Cut::Every(size), Cut::Every(size), &what);
        }
    }
}

#[test]
fn a_conversation_cut_once_at_every_place_arrives_byte_for_byte() {
    let mut stage = Stage::set();
    let longest = conversation().iter().map(|(request, reply)| request.len().max(reply.len())).max();
    for place in 1..=longest.unwrap() {
        for (number, exchange) in conversation().iter().enumerate() {
            let what = format!("exchange {number} cut at {place}");
            stage.play(exchange, Cut::Once(place), Cut::Once(place), &what);
        }
    }
}

#[test]
fn a_conversation_cut_at_random_arrives_byte_for_byte() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let (mut stage, mut dice) = (Stage::set(), Dice(seed));
    for round in 0..60 {
        for (number, exchange) in conversation().iter().enumerate() {
            let what = format!("seed {seed}, round {round}, exchange {number}");
            stage.play(exchange, Cut::Random(dice.next()), Cut::Random(dice.next()), &what);
        }
    }
}

#[test]
fn messages_larger_than_every_buffer_arrive_byte_for_byte() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let (mut stage, mut dice) = (Stage::set(), Dice(seed));
    for size in [4_000, 65_530, 65_536, 65_541, 200_000, 3_000_000] {
        let long: Vec<u8> = dice.bytes(size).iter().map(|byte| b'a' + byte % 26).collect();
        let sql = format!("SELECT '{}'", String::from_utf8(long.clone()).unwrap());
        let long_error = [error("ERROR", "XX000", &sql), ready(b'I')].concat();
        for exchange in [(query(&sql), answer(&long)), (query(&sql), long_error)] {
            let what = format!("seed {seed}, {size} bytes");
            stage.play(&exchange, Cut::Every(usize::MAX), Cut::Every(usize::MAX), &what);
            stage.play(&exchange, Cut::Every(50_021), Cut::Every(30_011), &what);
        }
    }
}
