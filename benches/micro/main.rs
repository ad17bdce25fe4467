//! What the pieces of a transaction cost, one by one: `cargo bench --bench micro`, or with `-- --quick` at the end; and in
//! instructions, which repeat: `benches/micro/instructions`.
//!
//! The pool's figures need connections: they come from a server in `server`, which only knows how to log in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on ends")]

mod harness;
mod pool;
mod server;
mod statement;
mod top;
mod wire;

use harness::Benches;

fn main() {
    let mut benches = Benches::from_arguments();
    statement::benches(&mut benches);
    top::benches(&mut benches);
    wire::benches(&mut benches);
    pool::benches(&mut benches);
    benches.end();
}
