//! Cancel requests that meet the proxy's own statements: a text never runs without the transaction around it.

use super::ground::Ground;
use super::strict::{ROUTE, dig};
use crate::support::messages::{self as msg};
use crate::support::server::Server;

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
