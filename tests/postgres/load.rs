//! Many clients on few connections.

use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::fixture::Fixture;

fn pgbench(fixture: &Fixture, arguments: &[&str]) -> Output {
    let program = fixture.server.programs().other("pgbench").expect("pgbench is a part of PostgreSQL");
    let mut command = Command::new(program);
    command.env_clear().args(arguments).arg(fixture.url());
    let output = command.output().unwrap();
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{arguments:?}: {text}");
    assert!(!text.contains("ERROR") && !text.contains("aborted"), "{arguments:?}: {text}");
    output
}

pub fn sixty_four_clients_of_pgbench_run_on_eight_connections() {
    let fixture = Fixture::transaction(8);
    pgbench(&fixture, &["-i", "-q", "-s", "1"]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut admin = fixture.superuser();
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(fixture.connections(&mut admin));
            }
            most
        });
        for mode in ["simple", "extended"] {
            for script in ["tpcb-like", "select-only"] {
                let output =
                    pgbench(&fixture, &["-n", "-M", mode, "-b", script, "-c", "64", "-j", "2", "-T", "2"]);
                let text = String::from_utf8(output.stdout).unwrap();
                let line = |name: &str| {
                    text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
                };
                println!("pgbench -M {mode} -b {script} -c 64: {}", line("tps"));
            }
        }
        over.store(true, Ordering::Relaxed);
        let most = watching.join().unwrap();
        assert!((1..=8).contains(&most), "{most} connections");
    });
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

pub fn pgbench_with_prepared_statements_needs_no_more_connections_than_without() {
    let fixture = Fixture::transaction(2);
    pgbench(&fixture, &["-i", "-q", "-s", "1"]);
    pgbench(&fixture, &["-n", "-M", "prepared", "-S", "-c", "8", "-j", "2", "-T", "1"]);
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

pub fn every_client_makes_progress_under_saturation() {
    let fixture = Fixture::transaction(2);
    let (over, all) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut client = fixture.client();
                let mut waits = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    client.run("SELECT pg_sleep(0.001)");
                    waits.push(asked.elapsed());
                }
                all.lock().unwrap().push(waits);
            });
        }
        thread::park_timeout(Duration::from_secs(3));
        over.store(true, Ordering::Relaxed);
    });
    let all = all.into_inner().unwrap();
    let served: Vec<usize> = all.iter().map(Vec::len).collect();
    let mut waits: Vec<Duration> = all.into_iter().flatten().collect();
    waits.sort_unstable();
    println!(
        "40 clients on 2 connections: {} queries, {} to {} a client; median {:?}, 99 % {:?}, longest {:?}",
        waits.len(),
        served.iter().min().unwrap(),
        served.iter().max().unwrap(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits[waits.len() - 1],
    );
    assert_eq!(served.len(), 40);
    assert!(served.iter().all(|count| *count > 1), "{served:?}");
    assert!(fixture.connections(&mut fixture.superuser()) <= 2);
}
