//! The processes of one cluster, found by what they call themselves, and how they are made to end.
//!
//! A process id read from a file proves nothing: after a crash the number may belong to anybody. So a process counts
//! as ours only if its command line says so: the postmaster was started with `-D <our data folder>`, and its
//! children carry our `cluster_name` in their titles. Nothing else is ever signalled. A zombie has no command line,
//! which makes it as gone as it is.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::error::ClusterError;

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

/// What to wait for after each signal, from polite to final. SIGINT is PostgreSQL's fast shutdown, SIGQUIT its
/// immediate one, after which it kills what is left of its children within five seconds (`postmaster.c`,
/// `SIGKILL_CHILDREN_AFTER_SECS`).
pub(super) const FAST: Duration = Duration::from_secs(20);
pub(super) const IMMEDIATE: Duration = Duration::from_secs(8);
pub(super) const KILLED: Duration = Duration::from_secs(5);

/// How the processes of one cluster are recognised.
#[derive(Debug, Clone)]
pub(super) struct Recognise {
    postmaster: String,
    child: String,
}

/// A process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) postmaster: bool,
}

impl Recognise {
    pub(super) fn new(data: &Path, cluster_name: &str) -> Self {
        Self {
            postmaster: format!("postgres -D {}", data.display()),
            child: format!("postgres: {cluster_name}: "),
        }
    }

    /// Every process of the cluster that runs now.
    pub(super) fn running(&self) -> Vec<Process> {
        let all = if Path::new("/proc/self/cmdline").exists() { from_proc() } else { from_ps() };
        all.into_iter()
            .filter_map(|(pid, line)| {
                let postmaster = line.trim_end().ends_with(&self.postmaster);
                (postmaster || line.starts_with(&self.child)).then_some(Process { pid, postmaster })
            })
            .collect()
    }

    /// Ends every process of the cluster, politely first; answers which there were.
    pub(super) fn stop(&self) -> Result<Vec<u32>, ClusterError> {
        let found = self.running();
        let pids = found.iter().map(|process| process.pid).collect();
        for (which, name, patience) in [
            (found.iter().any(|process| process.postmaster), Signal::INT, FAST),
            (true, Signal::QUIT, IMMEDIATE),
            (true, Signal::KILL, KILLED),
        ] {
            if !which || self.running().is_empty() {
                continue;
            }
            for process in self.running() {
                // To a child SIGINT only means "cancel the query".
                if name != Signal::INT || process.postmaster {
                    signal(process.pid, name)?;
                }
            }
            wait(patience, || self.running().is_empty());
        }
        match self.running().as_slice() {
            [] => Ok(pids),
            left => Err(ClusterError::Stuck { pids: left.iter().map(|process| process.pid).collect() }),
        }
    }

    /// What a power cut does: nobody gets to say anything. The postmaster is frozen first, so that it starts no
    /// child behind our back.
    pub(super) fn kill_hard(&self, postmaster: u32) -> Result<(), ClusterError> {
        signal(postmaster, Signal::STOP)?;
        let children = || self.running().into_iter().filter(|process| process.pid != postmaster);
        for child in children() {
            signal(child.pid, Signal::KILL)?;
        }
        wait(KILLED, || children().next().is_none());
        signal(postmaster, Signal::KILL)
    }
}

/// Sends a signal; a process that is gone already is fine.
pub(super) fn signal(pid: u32, name: Signal) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Signal { pid, source };
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    match kill_process(number, name) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether any process, ours or not, has this number.
pub(super) fn exists(pid: u32) -> bool {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    number.is_some_and(|number| rustix::process::test_kill_process(number) != Err(Errno::SRCH))
}

/// Waits until `done`, at most for `patience`; answers whether it came true.
pub(super) fn wait(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        pause();
    }
    true
}

/// Gives way for a moment. May return early, which costs its callers nothing but another look.
pub(super) fn pause() {
    std::thread::park_timeout(POLL);
}

fn from_proc() -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            Some((pid, words.join(" ")))
        })
        .collect()
}

/// Where there is no /proc, as on macOS.
fn from_ps() -> Vec<(u32, String)> {
    let Ok(output) = Command::new("ps").args(["-A", "-ww", "-o", "pid=,command="]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let process = |line: &str| {
        let (pid, command) = line.trim_start().split_once(' ')?;
        Some((pid.parse().ok()?, command.trim_start().to_owned()))
    };
    text.lines().filter_map(process).collect()
}
