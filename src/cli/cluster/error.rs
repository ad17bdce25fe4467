//! What can go wrong with a cluster, in words that say what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::programs::Missing;

/// Why a cluster could not be started, stopped or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// PostgreSQL is not installed, or not where anybody would look.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A file, folder or program could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "create".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Run by root on a machine that has no other account.
    #[error(
        "PostgreSQL refuses to run as root, and no other account was found in /etc/passwd; \
         create one (useradd postgres) or run firepool as an ordinary user"
    )]
    NoAccount,
    /// The folder holds something firepool did not put there.
    #[error(
        "{} holds files that firepool did not put there, so it is left alone; \
         choose an empty folder, or empty it yourself",
        folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// Another firepool works in the folder right now.
    #[error("{} is in use by another `firepool dev` (pid {pid}); stop that one, or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Process id of the other firepool, or `unknown`.
        pid: String,
    },
    /// The data was made by another account, and we are not root.
    #[error(
        "the data in {} belongs to the account with uid {owner}, this is uid {uid}; \
         run as that account, or delete the data with `--reset` as root",
        folder.display()
    )]
    NotOwner {
        /// The folder of the data.
        folder: PathBuf,
        /// Owner of the data.
        owner: u32,
        /// Who runs firepool.
        uid: u32,
    },
    /// The account cannot reach the folder nor the one chosen in its place.
    #[error(
        "the account `{account}` cannot enter {}; choose a folder whose parents it may pass through",
        folder.display()
    )]
    Unreachable {
        /// The folder.
        folder: PathBuf,
        /// The account that runs PostgreSQL.
        account: String,
    },
    /// The data was written by another major version of PostgreSQL.
    #[error(
        "the data in {} was written by PostgreSQL {data}, the programs in {} are PostgreSQL {programs}; \
         point FIREPOOL_PG_BINDIR at the programs of PostgreSQL {data}, or start afresh with `--reset` \
         (which deletes the data)",
        folder.display(), bindir.display()
    )]
    Version {
        /// The folder of the data.
        folder: PathBuf,
        /// Major version that wrote the data.
        data: String,
        /// Major version of the programs.
        programs: String,
        /// Where the programs are.
        bindir: PathBuf,
    },
    /// The port that was asked for is taken.
    #[error(
        "port {port} on 127.0.0.1 is in use by another program; choose another port, or stop that program"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// A setting that cannot be written, or that firepool decides itself.
    #[error("the setting `{name}` cannot be used: {reason}")]
    Setting {
        /// Name of the setting.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A password PostgreSQL's tools could not read from a file.
    #[error("the password of `{user}` is empty or contains a line break or NUL")]
    Password {
        /// Whose.
        user: String,
    },
    /// The data is there, its superuser's password is not.
    #[error(
        "{} is gone, and with it the superuser's password; give the password, \
         or start afresh with `--reset` (which deletes the data)",
        file.display()
    )]
    PasswordLost {
        /// Where it was.
        file: PathBuf,
    },
    /// `initdb` or `psql` failed.
    #[error("{} failed ({status}):\n{output}", program.display())]
    Program {
        /// Which program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, without passwords.
        output: String,
    },
    /// The server ended before it accepted connections.
    #[error("PostgreSQL ended while starting ({status}); the last lines of {}:\n{tail}", log.display())]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The server's log.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// The server did not accept connections in time.
    #[error("PostgreSQL was not ready after {waited:?}; the last lines of {}:\n{tail}", log.display())]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// The server's log.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// A process could not be signalled.
    #[error("cannot signal process {pid}: {source}")]
    Signal {
        /// The process.
        pid: u32,
        /// What the operating system said.
        source: io::Error,
    },
    /// Processes that outlived SIGKILL.
    #[error("these processes of the cluster do not end: {pids:?}")]
    Stuck {
        /// Their ids.
        pids: Vec<u32>,
    },
}

/// Says which action on which path failed.
pub(super) trait At<T> {
    /// Turns an I/O error into one that names `action` and `path`.
    fn at(self, action: &'static str, path: &Path) -> Result<T, ClusterError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, ClusterError> {
        self.map_err(|source| ClusterError::Io { action, path: path.to_owned(), source })
    }
}
