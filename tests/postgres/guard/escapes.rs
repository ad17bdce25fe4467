//! Ways out of the proxy's transaction on a strict route: the order of messages, names, and cancel requests that meet the
//! proxy's own statements. No text ever runs without the transaction around it.

use super::ground::{Ground, READ_ONLY};
use super::strict::{ROUTE, dig};
use crate::support::messages::{self as msg};
use crate::support::server::Server;
use crate::support::wait;

pub fn a_cancel_request_does_not_let_a_text_out_of_the_proxys_transaction() {
    let server = Server::own();
    let mut ground = Ground::new(&server, ROUTE);
    dig(&mut ground);
    let before = ground.state();
    let mut client = ground.client(false);
    let (mut cancelled, mut ended) = (0, 0);
    for round in 0..300 {
        let write = "SELECT resets() FROM generate_series(1, 3)";
        let requests = match round % 4 {
            0 => msg::query(write),
            1 => [msg::unnamed(write, &[]), msg::sync()].concat(),
            2 => [msg::query("BEGIN"), msg::query(write), msg::query("COMMIT")].concat(),
            _ => msg::query("SET work_mem = '9MB'"),
        };
        client.send(&requests);
        (0..round % 3).for_each(|_| client.cancel());
        for _ in 0..if round % 4 == 2 { 3 } else { 1 } {
            let reply = client.reply();
            cancelled += u32::from(reply.code() == "57014");
            if reply.ended {
                ended += 1;
                client = ground.client(false);
                break;
            }
        }
        if round % 20 == 0 {
            assert_eq!(ground.state(), before, "round {round}");
        }
    }
    drop(client);
    assert_eq!(ground.state(), before);
    println!("{cancelled} requests were cancelled, {ended} sessions ended");
}

/// Messages in another order than is usual.
fn orders() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let parse = |name: &str, sql: &str| msg::parse(name, sql);
    let bind = |portal: &str, name: &str| msg::bind(portal, name, &[]);
    let run = |portal: &str| msg::execute(portal, 0);
    let write = "SELECT resets()";
    vec![
        (
            "a portal that is bound behind BEGIN and runs before it",
            vec![parse("", "BEGIN"), bind("b", ""), parse("", write), bind("w", ""), run("w"), msg::sync()],
        ),
        (
            "a portal that is bound before COMMIT and runs behind it",
            vec![
                parse("", write),
                bind("w", ""),
                parse("", "COMMIT"),
                bind("c", ""),
                run("c"),
                run("w"),
                msg::sync(),
            ],
        ),
        (
            "what is bound behind COMMIT",
            vec![
                msg::unnamed("BEGIN", &[]),
                msg::unnamed("COMMIT", &[]),
                msg::unnamed(write, &[]),
                msg::sync(),
            ],
        ),
        (
            "what is bound behind what is harmless",
            vec![msg::unnamed("SHOW work_mem", &[]), msg::unnamed(write, &[]), msg::sync()],
        ),
        (
            "a COMMIT in the middle",
            vec![
                msg::unnamed(write, &[]),
                msg::unnamed("COMMIT", &[]),
                msg::unnamed(write, &[]),
                msg::sync(),
            ],
        ),
    ]
}

/// Messages that mean something else than they did.
fn namings() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let parse = |name: &str, sql: &str| msg::parse(name, sql);
    let bind = |portal: &str, name: &str| msg::bind(portal, name, &[]);
    let run = |portal: &str| msg::execute(portal, 0);
    let write = "SELECT resets()";
    vec![
        (
            "another unnamed statement than was sent",
            vec![
                parse("", write),
                msg::sync(),
                msg::unnamed("SELECT 1/0", &[]),
                parse("", "SHOW work_mem"),
                msg::sync(),
                bind("", ""),
                run(""),
                msg::sync(),
            ],
        ),
        (
            "COMMIT in the place of a statement that SQL had prepared",
            vec![
                msg::query("PREPARE n AS SELECT 1"),
                msg::query("DEALLOCATE n"),
                parse("n", "COMMIT"),
                msg::sync(),
                msg::unnamed(write, &[]),
                bind("", "n"),
                run(""),
                msg::sync(),
            ],
        ),
        ("a Query in a batch", vec![msg::unnamed(write, &[]), msg::query("COMMIT")]),
        ("a Query behind what is harmless", vec![msg::unnamed("SHOW work_mem", &[]), msg::query(write)]),
        ("no Sync", vec![msg::unnamed(write, &[]), msg::flush()]),
        ("a batch that ends with the session", vec![msg::unnamed(write, &[]), msg::terminate()]),
        (
            "a function that runs whatever has a name",
            vec![
                parse("n", "COMMIT"),
                msg::sync(),
                parse("m", "ROLLBACK"),
                msg::sync(),
                msg::query("SELECT runs_all(); SELECT resets()"),
                msg::query("BEGIN; SELECT runs_all(); SELECT resets()"),
            ],
        ),
        (
            "EXECUTE of what is no query",
            vec![
                parse("n", "ROLLBACK"),
                msg::sync(),
                msg::query("SELECT resets(); EXECUTE n; SELECT resets()"),
            ],
        ),
    ]
}

/// The order of messages, and what they name, make no way around the proxy's transaction.
pub fn batches_cannot_step_out_of_the_proxys_transaction() {
    let server = Server::own();
    let mut ground = Ground::new(&server, ROUTE);
    dig(&mut ground);
    let before = ground.state();
    for (name, parts) in orders().into_iter().chain(namings()) {
        let mut client = ground.client(false);
        client.send(&parts.concat());
        // Whatever the answers are.
        let due = parts.iter().filter(|part| matches!(part[0], b'Q' | b'S')).count();
        let _ = (0..due).find(|_| client.reply().ended);
        drop(client);
        let mut other = ground.client(false);
        assert_eq!(other.query("SELECT count(*) FROM t").rows(), [["3"]], "{name}");
        let role = ground.fixture.role.clone();
        let open =
            format!("SELECT FROM pg_stat_activity WHERE usename = '{role}' AND backend_xid IS NOT NULL");
        wait::until("no transaction is open", || ground.admin.run(&open).is_empty());
        assert_eq!(ground.state(), before, "{name}");
        assert_eq!(other.query("SELECT writes()").code(), READ_ONLY, "{name}");
    }
}
