//! What clients are refused for, and with which SQLSTATE.

use crate::support::fixture::{Fixture, Lines, Proxy};
use crate::support::messages::*;
use crate::support::raw::{Failure, Raw};
use crate::support::server::{DATABASE, PASSWORD, Server};

/// The SQLSTATE of a refusal, which is always fatal.
#[track_caller]
fn code(login: Result<Raw, Failure>) -> String {
    let failure = login.unwrap_err();
    assert_eq!(failure.severity, "FATAL", "{failure:?}");
    failure.code
}

pub fn an_unknown_database_is_refused_with_3d000() {
    let fixture = Fixture::transaction(1);
    let failure = Raw::login(fixture.proxy.address, &fixture.role, "nowhere", &[]).unwrap_err();
    assert_eq!(failure.message, "database \"nowhere\" does not exist");
    assert_eq!(failure.code, "3D000");
    // A route that leads to a database which the server does not have.
    let role = fixture.server.role();
    let text = format!("[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\nuser = \"{role}\"\n");
    let proxy = Proxy::start(&fixture.server, &text);
    assert_eq!(code(Raw::login(proxy.address, &role, "nowhere", &[])), "3D000");
    assert_eq!(code(Raw::login(proxy.address, &role, "nowhere", &[])), "3D000");
    assert_eq!(Raw::login(proxy.address, &role, DATABASE, &[]).unwrap().value("SELECT 1"), "1");
}

pub fn a_failed_login_says_the_same_whether_or_not_the_user_exists() {
    let fixture = Fixture::transaction(1);
    let refused = |user: &str, password: &str| {
        let parameters = [("user", user), ("database", DATABASE)];
        Raw::login_with(fixture.proxy.address, password, &parameters).unwrap_err()
    };
    let known = refused(&fixture.role, "wrong");
    assert_eq!((known.code.as_str(), known.severity.as_str()), ("28P01", "FATAL"));
    assert_eq!(known.message, format!("password authentication failed for user \"{}\"", fixture.role));
    let unknown = refused("nobody", PASSWORD);
    assert_eq!(unknown.message, known.message.replace(&fixture.role, "nobody"));
    assert_eq!(Failure { message: known.message.clone(), ..unknown }, known);
    // Neither does a database that nobody knows tell anything before the password is right.
    let parameters = [("user", fixture.role.as_str()), ("database", "nowhere")];
    assert_eq!(Raw::login_with(fixture.proxy.address, "wrong", &parameters).unwrap_err(), known);
}

pub fn a_user_without_a_route_is_refused_with_42501() {
    let server = Server::shared();
    let (role, other) = (server.role(), server.role());
    let text = format!(
        "[users.{role}]\npassword = \"{PASSWORD}\"\n[users.{other}]\npassword = \"{PASSWORD}\"\n\
         [[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\n"
    );
    let proxy = Proxy::start(&server, &text);
    assert_eq!(code(Raw::login(proxy.address, &other, DATABASE, &[])), "42501");
    assert!(Raw::login(proxy.address, &role, DATABASE, &[]).is_ok());
}

/// With room for two clients by these lines, the third is refused, until another leaves.
fn two_clients_at_most(lines: Lines<'_>) {
    let fixture = Fixture::with(lines);
    let (first, mut second) = (fixture.client(), fixture.client());
    for _ in 0..3 {
        assert_eq!(code(fixture.login(&[])), "53300", "{lines:?}");
    }
    assert_eq!(second.value("SELECT 1"), "1");
    let mut first = first;
    first.send(&terminate());
    assert_eq!(first.message(), None);
    let mut third = crate::support::wait::eventually("the place is free again", || fixture.login(&[]).ok());
    assert_eq!(third.value("SELECT 1"), "1");
    assert_eq!(code(fixture.login(&[])), "53300", "{lines:?}");
}

pub fn clients_above_any_limit_are_refused_with_53300() {
    let limit = "max_clients = 2";
    two_clients_at_most(Lines { proxy: limit, ..Lines::default() });
    two_clients_at_most(Lines { user: limit, ..Lines::default() });
    two_clients_at_most(Lines { database: limit, ..Lines::default() });
    two_clients_at_most(Lines { route: limit, ..Lines::default() });
}

pub fn a_server_that_cannot_be_reached_is_08001() {
    let server = Server::shared();
    let role = server.role();
    // A port that was free a moment ago, and that nobody can get while it is bound without listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = socket.local_addr().unwrap().as_socket().unwrap();
    let text = format!(
        "[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\nuser = \"{role}\"\ntimeouts = {{ query_wait = \"300ms\" }}\n"
    );
    let proxy = Proxy::serve(crate::support::fixture::configuration(nobody, &text));
    assert_eq!(code(Raw::login(proxy.address, &role, DATABASE, &[])), "08001");
    assert_eq!(proxy.get("/ready").0, 503);
    assert_eq!(proxy.metric("firepool_refusals_total", "server_unreachable"), 1.0);
}

pub fn a_server_that_refuses_the_proxys_login_is_08004() {
    let fixture = Fixture::transaction(1);
    let text = format!("[users.{}]\npassword = \"another\"\n[[routes]]\n", fixture.role);
    let proxy = Proxy::start(&fixture.server, &text);
    let parameters = [("user", fixture.role.as_str()), ("database", DATABASE)];
    let failure = Raw::login_with(proxy.address, "another", &parameters).unwrap_err();
    assert_eq!(failure.code, "08004");
    assert!(!failure.message.contains(&fixture.role), "the server's words stay in the log: {failure:?}");
}

pub fn transaction_blocks_are_refused_in_statement_mode_before_anything_is_done() {
    let fixture = Fixture::new("mode = \"statement\"\npool_size = 1");
    let mut client = fixture.client();
    client.run("CREATE TABLE t (n int)");
    let insert = unnamed("INSERT INTO t VALUES (1)", &[]);
    let begins = [
        vec![query("BEGIN")],
        vec![query("INSERT INTO t VALUES (1); START TRANSACTION; SELECT 2")],
        vec![query("BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN")],
        vec![unnamed("BEGIN", &[]), insert.clone(), sync()],
        vec![parse("b", "BEGIN"), bind("", "b", &[]), execute("", 0), sync()],
        // What stands before it in its batch is taken back with it.
        vec![insert.clone(), parse("b", "begin isolation level serializable"), insert, sync()],
        vec![parse("s", "INSERT INTO t VALUES (1)"), bind("", "s", &[]), execute("", 0), query("BEGIN")],
    ];
    for begin in &begins {
        let reply = client.batch(begin);
        let failure = reply.failure().unwrap();
        assert_eq!((failure.code.as_str(), failure.severity.as_str()), ("0A000", "ERROR"), "{reply:?}");
        assert_eq!(failure.message, "transaction blocks are not allowed in statement pooling mode");
        assert!(reply.tags().ends_with("EZ") && reply.status() == 'I', "{reply:?}");
        assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    }
    assert_eq!(client.batch(&[bind("", "b", &[]), execute("", 0), sync()]).code(), "26000");
    let refused = fixture.proxy.metric("firepool_refusals_total", "transaction_in_statement_mode");
    assert_eq!(refused, begins.len() as f64);
    // Among others in one write.
    let writes = [query("SELECT 1"), query("BEGIN"), query("SELECT 2"), unnamed("BEGIN", &[]), sync()];
    client.send(&[&writes[..], &[unnamed("SELECT 3", &[]), sync()]].concat().concat());
    let replies: Vec<_> = (0..5).map(|_| client.reply().tags()).collect();
    assert_eq!(replies, ["TDCZ", "EZ", "TDCZ", "EZ", "12TDCZ"]);
    // A block that ends where it began is none of anybody else's.
    assert_eq!(client.query("BEGIN; INSERT INTO t VALUES (1); COMMIT").status(), 'I');
    assert_eq!(client.value("SELECT count(*) FROM t"), "1");
    // Nothing but warnings comes of these, and a prepared transaction is none of the session's.
    for end in ["COMMIT", "ROLLBACK"] {
        assert_eq!(client.query(end).commands(), [end]);
    }
    assert_eq!(client.query("ROLLBACK PREPARED 'none'").code(), "42704");
}

/// Which it is only seen when the server has done it: the client hears of it all the same, whatever it is sending.
pub fn a_transaction_block_that_nobody_could_foresee_ends_the_session_in_statement_mode() {
    let fixture = Fixture::new("mode = \"statement\"\npool_size = 1");
    let long = format!("BEGIN /* {} */", "x".repeat(100_000));
    for _ in 0..5 {
        let mut client = fixture.client();
        client.send(&query(&long));
        assert_eq!(client.reply().status(), 'T');
        // More than the proxy reads before it says no.
        client.stream.set_nonblocking(true).unwrap();
        let _ = std::io::Write::write(&mut client.stream, &query(&"SELECT 1;".repeat(30_000)));
        client.stream.set_nonblocking(false).unwrap();
        let failure = client.farewell();
        assert_eq!((failure.code.as_str(), failure.severity.as_str()), ("0A000", "FATAL"));
        drop(client);
        assert_eq!(fixture.client().query("SELECT 1").status(), 'I');
    }
}

pub fn replication_is_refused_with_0a000() {
    let fixture = Fixture::transaction(1);
    for value in ["true", "on", "1", "yes", "T", "database"] {
        assert_eq!(code(fixture.login(&[("replication", value)])), "0A000", "{value}");
    }
    for value in ["false", "off", "0", "no", "F"] {
        assert_eq!(fixture.login(&[("replication", value)]).unwrap().value("SELECT 1"), "1");
    }
}

pub fn other_protocol_versions_are_refused_with_0a000() {
    let fixture = Fixture::transaction(1);
    for version in [(2, 0), (4, 0), (1, 0)] {
        let mut raw = Raw::connect(fixture.proxy.address);
        raw.send(&startup(version, &[("user", &fixture.role)]));
        let failure = raw.farewell();
        assert_eq!((failure.code.as_str(), failure.severity.as_str()), ("0A000", "FATAL"), "{version:?}");
    }
}

pub fn newer_versions_and_unknown_options_are_negotiated_down() {
    let fixture = Fixture::transaction(1);
    let user = [("user", fixture.role.as_str()), ("database", DATABASE)];
    let options = [("_pq_.first", "1"), ("_pq_.second", "x")];
    for (version, parameters, minor, count) in [
        ((3, 1), user.to_vec(), 0_u16, 0_u32),
        ((3, 3), user.to_vec(), 2, 0),
        ((3, 0), [user, options].concat(), 0, 2),
        ((3, 2), [user, options].concat(), 2, 2),
        ((3, 9999), [user, options].concat(), 2, 2),
    ] {
        let mut raw = Raw::connect(fixture.proxy.address);
        raw.send(&startup(version, &parameters));
        let message = raw.message().unwrap();
        let mut body = [3_u16.to_be_bytes(), minor.to_be_bytes()].concat();
        body.extend(count.to_be_bytes());
        if count > 0 {
            body.extend(text(&["_pq_.first", "_pq_.second"]));
        }
        assert_eq!((message.tag, message.body), (b'v', body));
        raw.authenticate(PASSWORD).unwrap();
        assert_eq!(raw.value("SELECT 1"), "1");
    }
}

pub fn encryption_is_declined_once_of_each_kind() {
    let fixture = Fixture::transaction(1);
    let mut raw = Raw::connect(fixture.proxy.address);
    for code in [80_877_104_u32, 80_877_103] {
        raw.send(&untyped(&code.to_be_bytes()));
        let mut answer = [0];
        std::io::Read::read_exact(&mut raw.stream, &mut answer).unwrap();
        assert_eq!(answer, *b"N");
    }
    raw.send(&startup((3, 0), &[("user", &fixture.role), ("database", DATABASE)]));
    raw.authenticate(PASSWORD).unwrap();
    assert_eq!(raw.value("SELECT 1"), "1");
}

pub fn startup_packets_that_make_no_sense_are_refused() {
    let fixture = Fixture::transaction(1);
    for (packet, code) in [
        (startup((3, 0), &[("database", DATABASE)]), "28000"),
        (startup((3, 0), &[("user", "")]), "28000"),
        (untyped(&[0, 3, 0, 0, b'u', b's']), "08P01"),
        (startup((3, 0), &[("user", &fixture.role), ("options", "-x")]), "0A000"),
    ] {
        let mut raw = Raw::connect(fixture.proxy.address);
        raw.send(&packet);
        assert_eq!(raw.farewell().code, code, "{packet:?}");
    }
    for packet in [b"\0\0\0\0".to_vec(), b"\xff\xff\xff\xff".to_vec(), b"GET / HTTP/1.1\r\n".to_vec()] {
        let mut raw = Raw::connect(fixture.proxy.address);
        raw.send(&packet);
        assert_eq!(raw.message(), None, "{packet:?}");
    }
    assert_eq!(fixture.client().value("SELECT 1"), "1");
}
