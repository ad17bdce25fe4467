//! The server as a child process: spawned in the foreground, watched until it is ready, stopped.
//!
//! The postmaster has a process group of its own, so that Ctrl-C in a terminal reaches firepool alone, which drains
//! its clients before it stops the server. Its number cannot be taken by another process while we have not waited
//! for it, so signals to it never go astray.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::account::Account;
use super::error::{At, ClusterError};
use super::processes::{FAST, IMMEDIATE, Recognise, pause, signal, wait};

/// How much of the log is shown when the server does not start.
const TAIL_LINES: usize = 25;

/// A postmaster that we started and have not yet waited for.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    log: PathBuf,
    /// Length of the log before this server wrote to it.
    log_start: u64,
    recognise: Recognise,
}

impl Server {
    /// Starts the server on `data`; it is not ready yet.
    pub(super) fn spawn(
        account: &Account,
        postgres: &Path,
        data: &Path,
        log: &Path,
        recognise: &Recognise,
    ) -> Result<Self, ClusterError> {
        let mut options = OpenOptions::new();
        let output = options.create(true).append(true).mode(0o600).open(log).at("open", log)?;
        let log_start = output.metadata().at("read", log)?.len();
        let mut command = account.command(postgres);
        command.arg("-D").arg(data).process_group(0).stdin(Stdio::null());
        command.stdout(output.try_clone().at("open", log)?).stderr(output);
        let child = command.spawn().at("run", postgres)?;
        Ok(Self { child, log: log.to_owned(), log_start, recognise: recognise.clone() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the server ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until the server accepts connections. It says so itself in `postmaster.pid`, which is what
    /// `pg_ctl --wait` reads too.
    pub(super) fn wait_ready(&mut self, data: &Path, patience: Duration) -> Result<(), ClusterError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended().at("wait for the server of", data)? {
                return Err(ClusterError::Exited { status, log: self.log.clone(), tail: self.tail() });
            }
            if PidFile::read(data).is_some_and(|file| file.pid == self.pid() && file.ready) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ClusterError::NotReady {
                    waited: patience,
                    log: self.log.clone(),
                    tail: self.tail(),
                });
            }
            pause();
        }
    }

    /// Fast shutdown, then immediate shutdown, then SIGKILL; returns when no process is left.
    pub(super) fn stop(&mut self) -> Result<(), ClusterError> {
        for (name, patience) in [(Signal::INT, FAST), (Signal::QUIT, IMMEDIATE)] {
            if self.is_gone() {
                break;
            }
            signal(self.pid(), name)?;
            if wait(patience, || self.is_gone()) {
                break;
            }
        }
        self.kill_hard()
    }

    /// SIGKILL to the postmaster and all its children.
    pub(super) fn kill_hard(&mut self) -> Result<(), ClusterError> {
        if !self.is_gone() {
            self.recognise.kill_hard(self.pid())?;
            self.child.wait().map_err(|source| ClusterError::Signal { pid: self.pid(), source })?;
        }
        // Children of a postmaster that died by itself.
        self.recognise.stop().map(|_| ())
    }

    fn is_gone(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// The last lines this server wrote.
    pub(super) fn tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_start))?;
            file.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("(not readable: {error})");
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// What `postmaster.pid` says. Its lines are numbered in PostgreSQL's `src/include/utils/pidfile.h`: the process id
/// is on the first, the status on the eighth.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) ready: bool,
}

impl PidFile {
    pub(super) fn path(data: &Path) -> PathBuf {
        data.join("postmaster.pid")
    }

    pub(super) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(Self::path(data)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        Some(Self { pid, ready: lines.nth(6).is_some_and(|status| status.trim() == "ready") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_says_who_runs_and_whether_it_is_ready() {
        let lines = "4711\n/data\n1700000000\n5433\n/run\n127.0.0.1\n  5432001  65538\n";
        let read = |status: &str| PidFile::parse(&format!("{lines}{status}"));
        assert_eq!(read("ready   \n"), Some(PidFile { pid: 4711, ready: true }));
        assert_eq!(read("starting\n"), Some(PidFile { pid: 4711, ready: false }));
        assert_eq!(read(""), Some(PidFile { pid: 4711, ready: false }));
        assert_eq!(PidFile::parse(""), None);
    }
}
