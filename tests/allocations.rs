//! The path of a query does not allocate. A counting allocator, a warm session, a thousand queries of each kind: not one
//! allocation on the worker's thread.
//!
//! Counted is by thread, because the rest of the process (the clock and the pools' sweep, this test's peers) may do as
//! it likes. A `GlobalAlloc` cannot be written without `unsafe`; crates that count (stats_alloc, allocation-counter,
//! dhat) count the whole process, or only the thread that asks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic like tests")]
#![allow(
    unsafe_code,
    reason = "a GlobalAlloc is unsafe by its nature; this one passes everything on to the system's"
)]

mod peers;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use peers::bytes::{answer, extended, message, query};
use peers::client::Client;
use peers::proxy::{Proxy, Wishes};
use peers::server::Server;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, which counts for one thread: the worker, by its number at the operating system.
struct Counting;

/// The thread that is counted for; 0 is none.
static WATCHED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Where it allocated first.
static FIRST: Mutex<Option<Backtrace>> = Mutex::new(None);

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(0) };
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

fn own_number() -> u64 {
    OWN.with(|own| {
        if own.get() == 0 {
            own.set(u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()));
        }
        own.get()
    })
}

fn note() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched == 0 || watched != own_number() || WITHIN.with(|within| within.replace(true)) {
        return;
    }
    if COUNT.fetch_add(1, Ordering::Relaxed) == 0 {
        *FIRST.lock().unwrap() = Some(Backtrace::force_capture());
    }
    WITHIN.with(|within| within.set(false));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The operating system's number of the thread of that name.
fn thread_number(name: &str) -> u64 {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name))
        .and_then(|path| path.file_name()?.to_str()?.parse().ok())
        .unwrap()
}

/// Allocations on the worker's thread while `work` runs, and where the first of them was.
fn counted(work: impl FnOnce()) -> (u64, Option<Backtrace>) {
    COUNT.store(0, Ordering::SeqCst);
    *FIRST.lock().unwrap() = None;
    WATCHED.store(thread_number("worker-0"), Ordering::SeqCst);
    work();
    WATCHED.store(0, Ordering::SeqCst);
    (COUNT.load(Ordering::SeqCst), FIRST.lock().unwrap().take())
}

/// A request and its reply.
type Exchange = (Vec<u8>, Vec<u8>);

/// Allocations and where the first was, while one client has a thousand exchanges on one server connection, once others
/// have warmed it up.
fn a_thousand(
    name: &str,
    client: &mut Client,
    warm: &[Exchange],
    exchanges: &[Exchange],
) -> (u64, Option<Backtrace>) {
    let mut run = |exchanges: &[Exchange]| {
        for (request, reply) in exchanges {
            client.send(request);
            assert_eq!(&client.receive_raw(reply.len()), reply);
        }
    };
    run(warm);
    assert_eq!(exchanges.len(), 1000);
    let (count, first) = counted(|| run(exchanges));
    println!("a thousand queries, {name}: {count} allocations");
    (count, first)
}

/// A query by its number, which is in a string with escapes: what differs in whole numbers and plain strings is not read again.
fn literal(number: usize) -> Exchange {
    let sql = format!("SELECT abalance FROM pgbench_accounts WHERE name = E'n{number}'");
    (query(&sql), answer(sql.as_bytes()))
}

/// Whatever the server answers to this request.
fn learned(client: &mut Client, request: Vec<u8>) -> Exchange {
    client.send(&request);
    let reply = client.until_ready().unwrap();
    (request, reply)
}

/// The cases are one test: they share the process's one counter.
#[test]
fn a_thousand_queries_of_each_kind_allocate_nothing_on_the_worker() {
    let server = Server::honest();
    let proxy = Proxy::with(server.address, &Wishes { workers: 1, ..Wishes::default() });
    let mut client = Client::log_in(proxy.address);

    let (logins, _) = counted(|| drop(Client::log_in(proxy.address)));
    assert!(logins > 0, "a login allocates: the counter would not be working");
    println!("one login: {logins} allocations");

    let simple = (query("SELECT 1"), answer(b"SELECT 1"));
    let parts = learned(&mut client, extended("SELECT 1"));
    let long = format!("SELECT '{}'", "x".repeat(20_000));
    let large = (query(&long), answer(long.as_bytes()));
    let sync = message(b'S', b"");
    let parse = [message(b'P', b"mine\0SELECT $1\0\0\0"), sync.clone()].concat();
    learned(&mut client, parse);
    let bind = message(b'B', b"\0mine\0\0\0\0\x01\0\0\0\x011\0\0");
    let prepared = [bind, message(b'E', b"\0\0\0\0\0"), sync].concat();
    let prepared = learned(&mut client, prepared);
    for (name, exchange) in
        [("simple", simple), ("extended", parts), ("20 kB each way", large), ("a named statement", prepared)]
    {
        let exchanges = vec![exchange; 1000];
        let (count, first) = a_thousand(name, &mut client, &exchanges[..50], &exchanges);
        if let Some(first) = first {
            println!("{first}");
        }
        assert_eq!(count, 0, "{name}: the first allocation is printed above");
    }
    let literals: Vec<_> = (0..2000).map(literal).collect();
    let (count, first) =
        a_thousand("a literal of its own each", &mut client, &literals[..1000], &literals[1000..]);
    // The door to the grammar copies each text that was not seen before, to put a NUL behind it. Nothing else allocates.
    let first = first.map(|first| first.to_string()).unwrap_or_default();
    assert!(count == 1000 && first.contains("pg_raw_parse::parse"), "{count}: {first}");
}
