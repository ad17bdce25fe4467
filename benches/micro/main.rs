//! What the pieces of a transaction cost, one by one: `cargo bench --bench micro`, or with `-- --quick` at the end.
//!
//! The pool's figures need connections: they come from a server in `server`, which only knows how to log in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on ends")]

mod pool;
mod server;
mod statement;
mod top;
mod wire;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    statement::benches(&mut criterion);
    top::benches(&mut criterion);
    wire::benches(&mut criterion);
    pool::benches(&mut criterion);
    criterion.final_summary();
}
