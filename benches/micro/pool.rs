//! Leases: taking a connection and giving it back, on one worker, on another, and with a client waiting for it.
//!
//! A connection that another worker used last is taken out of that worker's reactor and registered with this one's:
//! the difference between the first two figures is the price of that, between the last two it is that and waking the
//! other thread.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use firepool::pool::{Checkout, Lease, Pool, Wish};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::harness::Benches;
use crate::server::Server;

/// A reactor that nobody drives keeps what was taken out of it; the workers' reactors are driven all the time.
const DRIVEN_EVERY: usize = 64;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn lease(pool: &Arc<Pool>, worker: usize) -> Lease {
    match pool.checkout(Wish { worker, client: 0, settings: &Arc::default() }, &mut [0; 64]) {
        Checkout::Ready(lease) => lease,
        Checkout::Wait(mut wait) => std::future::poll_fn(|cx| wait.poll(cx)).await.unwrap(),
        Checkout::Refused(error) => panic!("{error}"),
    }
}

/// Leases at once: there is an idle connection.
fn lease_now(pool: &Arc<Pool>, worker: usize) -> Lease {
    match pool.checkout(Wish { worker, client: 0, settings: &Arc::default() }, &mut [0; 64]) {
        Checkout::Ready(lease) => lease,
        other => panic!("no connection is idle: {other:?}"),
    }
}

pub(crate) fn benches(benches: &mut Benches) {
    let server = Server::start();
    let pool = server.pool(1);
    let runtimes = [runtime(), runtime()];
    drop(runtimes[0].block_on(lease(&pool, 0)));

    benches.bench("a connection is leased and returned on its own worker", |bench| {
        let mut round = 0;
        bench.iter(|| {
            round += 1;
            lease_and_return(&pool, &runtimes, 0, round);
        });
    });
    benches.bench("a connection is leased and returned on the other worker each time", |bench| {
        let mut round = 0;
        bench.iter(|| {
            round += 1;
            lease_and_return(&pool, &runtimes, round % 2, round);
        });
    });
    benches.bench("a connection is handed to a waiting client of the same worker", |bench| {
        bench.iter_custom(|times| hand_over_on_one_worker(&server.pool(1), times));
    });
    benches.bench("a connection is handed to a waiting client of the other worker", |bench| {
        bench.iter_custom(|times| hand_over_between_workers(&server.pool(1), times));
    });
}

fn lease_and_return(pool: &Arc<Pool>, runtimes: &[Runtime; 2], worker: usize, round: usize) {
    if round.is_multiple_of(DRIVEN_EVERY) {
        runtimes.iter().for_each(|runtime| runtime.block_on(yield_now()));
    }
    let _context = runtimes[worker].enter();
    drop(lease_now(pool, worker));
}

/// One of two clients that use the only connection in turns.
async fn take_turns(pool: Arc<Pool>, worker: usize, times: u64) {
    // The other client lines up while this one has the connection; from then on each waits for the other.
    let first = lease(&pool, worker).await;
    yield_now().await;
    drop(first);
    for _ in 0..times / 2 {
        drop(lease(&pool, worker).await);
    }
}

fn hand_over_on_one_worker(pool: &Arc<Pool>, times: u64) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        drop(lease(pool, 0).await);
        let start = Instant::now();
        let clients = [0, 0].map(|worker| tokio::spawn(take_turns(Arc::clone(pool), worker, times)));
        for client in clients {
            client.await.unwrap();
        }
        start.elapsed()
    })
}

fn hand_over_between_workers(pool: &Arc<Pool>, times: u64) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in [0, 1] {
            scope.spawn(move || runtime().block_on(take_turns(Arc::clone(pool), worker, times)));
        }
    });
    start.elapsed()
}
