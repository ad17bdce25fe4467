//! The runner. The built-in harness ends the process without giving anybody the chance to stop a server that tests
//! share; this one returns. Ctrl-C and SIGTERM stop every server as well.

use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::thread;

use libtest_mimic::{Arguments, Trial};
use tokio::signal::unix::{SignalKind, signal};

use super::server;

/// Tests that run at once, where the command line does not say. Most of them wait for something most of the time.
const THREADS: usize = 6;

/// Runs what the command line asks for, and stops every server.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let (ended, end) = sync_channel(2);
    let interrupted = ended.clone();
    thread::spawn(move || {
        wait_for_signal();
        let _ = interrupted.send(ExitCode::from(130));
    });
    thread::spawn(move || {
        let _ = ended.send(libtest_mimic::run(&arguments, trials).exit_code());
    });
    let code = end.recv().unwrap_or(ExitCode::FAILURE);
    server::stop_all();
    code
}

fn wait_for_signal() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| signal(kind).unwrap());
        let [interrupt, terminate, hangup] = &mut signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    });
}

/// The list of tests: `module: test, test;` and so on. A test that is not listed is dead code, which clippy refuses.
macro_rules! trials {
    ($($module:ident: $($name:ident),+;)+) => {{
        let mut trials = Vec::new();
        $($(trials.push(libtest_mimic::Trial::test(
            concat!(stringify!($module), "::", stringify!($name)),
            || { $module::$name(); Ok(()) },
        ));)+)+
        trials
    }};
}
pub(crate) use trials;
