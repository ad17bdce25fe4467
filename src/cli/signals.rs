//! When to stop, and when to read files again.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// What the process is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGHUP: certificates are to be read again.
    Reload,
    /// To stop, by the signal of this name.
    Stop(&'static str),
}

/// Waits for SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over. To be called within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// What the next signal is for.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// The name of the next signal to stop. Until then, `reload` is called for each SIGHUP.
    pub(super) async fn stop(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            match self.next().await {
                Wish::Reload => reload(),
                Wish::Stop(name) => return name,
            }
        }
    }
}
