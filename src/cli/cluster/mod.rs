//! A PostgreSQL cluster that lives and dies with this process: what `firepool dev` runs behind the proxy, and what
//! the integration tests run against.
//!
//! Promises:
//! - A started [`Cluster`] accepts connections on a loopback port and a Unix socket, and dropping it stops it. The
//!   postmaster is our direct child, in a process group of its own.
//! - Starting again keeps the data. Should this process be killed so hard that nothing could be dropped, the server
//!   outlives it; the next start *stops* that server and starts its own on the same data. It does not adopt it:
//!   there is one kind of server, our child, with the settings that were asked for now.
//! - Two processes never work on one folder: the second one is told who the first is.
//!
//! Never:
//! - a file is written to, or deleted from, a folder that was neither empty nor marked as ours;
//! - a process is signalled that does not call itself a part of this cluster;
//! - a password is an argument of a program, or readable by other accounts.
//!
//! Everything here blocks: call it before there is a runtime, or through `spawn_blocking`.

mod account;
mod bootstrap;
mod create;
mod error;
mod folder;
mod port;
mod processes;
mod programs;
mod server;
mod settings;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

pub use account::Account;
pub use bootstrap::Bootstrap;
pub use error::ClusterError;
pub use port::Port;
pub use programs::{BINDIR_VARIABLE, Missing, Places, Programs};

use bootstrap::Psql;
use error::At;
use folder::{Folder, short_hash};
use processes::{Recognise, pause};
use server::{PidFile, Server};
use settings::Settings;

/// Name of the superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// How many ports are tried before giving up.
const PORTS: usize = 10;
/// How long a restart waits for its port, which a connection of somebody else may have as its source for a moment.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// What cluster to start.
#[derive(Clone)]
pub struct Options {
    /// Folder of the cluster; made if it does not exist.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub port: Port,
    /// Lines of `postgresql.conf`, over firepool's own choices.
    pub settings: Vec<(String, String)>,
    /// Whether the data survives a crash of the machine; tests do without.
    pub durable: bool,
    /// The superuser's password. `None` keeps the one of existing data, and makes one up for new data.
    pub superuser_password: Option<Zeroizing<String>>,
    /// SQL to apply once the server runs, on every start.
    pub bootstrap: Option<Bootstrap>,
    /// PostgreSQL's programs; `None` finds them.
    pub programs: Option<Programs>,
    /// How long the server may take to accept connections (it may have to recover from a crash first).
    pub ready_timeout: Duration,
}

impl Options {
    /// Durable, on any free port, without bootstrap, 60 seconds to get ready.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            port: Port::Free,
            settings: Vec::new(),
            durable: true,
            superuser_password: None,
            bootstrap: None,
            programs: None,
            ready_timeout: Duration::from_secs(60),
        }
    }

    /// For tests: little memory, and data that need not outlive them.
    pub fn small(data_dir: impl Into<PathBuf>) -> Self {
        let options = Self { durable: false, ..Self::new(data_dir) };
        options.setting("shared_buffers", "32MB").setting("max_wal_size", "128MB")
    }

    /// Adds a line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("port", &self.port)
            .field("settings", &self.settings)
            .field("durable", &self.durable)
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

/// A running PostgreSQL server. Dropping it stops the server and keeps the data.
pub struct Cluster {
    programs: Programs,
    account: Account,
    folder: Folder,
    cluster_name: String,
    recognise: Recognise,
    settings: Vec<(String, String)>,
    durable: bool,
    ready_timeout: Duration,
    password: Zeroizing<String>,
    notices: Vec<String>,
    port: u16,
    server: Option<Server>,
}

impl Cluster {
    /// Starts a server on the data in `options.data_dir`, which is made first if there is none, waits until it
    /// accepts connections, and applies the bootstrap.
    pub fn start(options: Options) -> Result<Self, ClusterError> {
        let programs = options.programs.map_or_else(Programs::find, Ok)?;
        let (folder, account) = Folder::open(&options.data_dir)?;
        let data = folder.data();
        let mut notices: Vec<String> = folder.notice.iter().cloned().collect();
        let (cluster_name, recognise) = identity(&data);
        notices.extend(stop_leftovers(&recognise, &data)?);
        let password = create::password(&folder, options.superuser_password.as_ref())?;
        create::data(&programs, &account, &folder, &password.current, options.durable)?;
        let mut cluster = Self {
            programs,
            account,
            folder,
            cluster_name,
            recognise,
            settings: options.settings,
            durable: options.durable,
            ready_timeout: options.ready_timeout,
            password: password.current,
            notices,
            port: 0,
            server: None,
        };
        cluster.launch(options.port)?;
        if let Some(wanted) = password.wanted {
            cluster.change_password(wanted)?;
        }
        if let Some(bootstrap) = options.bootstrap {
            cluster.apply(&bootstrap)?;
        }
        Ok(cluster)
    }

    /// Applies SQL files as superuser in database `postgres`. The variable `postgres_password` is the superuser's
    /// password.
    pub fn apply(&self, bootstrap: &Bootstrap) -> Result<(), ClusterError> {
        let scratch = self.folder.scratch("psql")?;
        let (program, port, password) = (self.programs.psql.as_path(), self.port, self.password.as_str());
        let bootstrap = bootstrap.clone().variable("postgres_password", password);
        Psql { program, port, password, scratch: &scratch.0 }.apply(&bootstrap)
    }

    /// Stops the server: fast shutdown, then immediate, then SIGKILL. The data stays, [`Cluster::restart`] works.
    pub fn stop(&mut self) -> Result<(), ClusterError> {
        match self.server.take() {
            Some(mut server) => server.stop(),
            None => Ok(()),
        }
    }

    /// Stops the server if it runs, and starts it on the same port with the same settings.
    pub fn restart(&mut self) -> Result<(), ClusterError> {
        self.stop()?;
        let deadline = Instant::now() + PORT_PATIENCE;
        loop {
            match self.launch(Port::Fixed(self.port)) {
                Err(ClusterError::PortInUse { .. }) if Instant::now() < deadline => pause(),
                other => return other,
            }
        }
    }

    /// SIGKILL to the postmaster and all its children, as if the machine had lost power. For tests of what the
    /// proxy does then.
    pub fn kill_hard(&mut self) -> Result<(), ClusterError> {
        match self.server.take() {
            Some(mut server) => server.kill_hard(),
            None => Ok(()),
        }
    }

    /// How the server ended, if it did so without being asked to.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.server.as_mut().map_or(Ok(None), Server::ended)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket `.s.PGSQL.<port>`.
    pub fn socket_dir(&self) -> PathBuf {
        self.folder.socket_dir()
    }

    /// The password of [`SUPERUSER`].
    pub fn superuser_password(&self) -> &str {
        &self.password
    }

    /// PostgreSQL's programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The account the server runs as.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Process id of the postmaster, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// Process ids of the postmaster and all its children.
    pub fn processes(&self) -> Vec<u32> {
        self.recognise.running().into_iter().map(|process| process.pid).collect()
    }

    /// PostgreSQL's own data folder (`PGDATA`).
    pub fn pgdata(&self) -> PathBuf {
        self.folder.data()
    }

    /// What the server writes to.
    pub fn log_path(&self) -> PathBuf {
        self.folder.log()
    }

    /// What the user should be told about this start: data in another folder than asked for, a server found
    /// running, a port other than the preferred one.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// A URL as libpq and most drivers read it, for the TCP port.
    pub fn connection_string(&self, user: &str, password: &str, database: &str) -> String {
        let [user, password, database] = [user, password, database].map(percent_encode);
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    fn launch(&mut self, mut wanted: Port) -> Result<(), ClusterError> {
        self.folder.make_socket_dir(&self.account)?;
        let mut number = 0;
        for _ in 0..PORTS {
            number = match wanted {
                Port::Fixed(number) | Port::Preferred(number) => number,
                Port::Free => port::free()?,
            };
            match self.launch_on(number) {
                Err(ClusterError::Exited { tail, .. }) if port::is_taken(number, &tail) => {}
                other => return other,
            }
            match wanted {
                Port::Fixed(_) => break,
                Port::Preferred(_) => {
                    self.notices.push(format!("port {number} is in use, so another was taken"))
                }
                Port::Free => {}
            }
            wanted = Port::Free;
        }
        Err(ClusterError::PortInUse { port: number })
    }

    fn launch_on(&mut self, port: u16) -> Result<(), ClusterError> {
        let data = self.folder.data();
        let settings = Settings {
            port,
            socket_dir: &self.folder.socket_dir(),
            cluster_name: &self.cluster_name,
            durable: self.durable,
            overrides: &self.settings,
        };
        settings.write(&data, &self.account)?;
        let log = self.folder.log();
        let server = Server::spawn(&self.account, &self.programs.postgres, &data, &log, &self.recognise)?;
        self.port = port;
        // Kept before it is ready, so that a server that never gets there is stopped as well.
        let ready = self.server.insert(server).wait_ready(&data, self.ready_timeout);
        if ready.is_err() {
            self.stop()?;
        }
        ready
    }

    fn change_password(&mut self, wanted: Zeroizing<String>) -> Result<(), ClusterError> {
        let change = create::password_change(&wanted);
        if let Err(error) = self.apply(&change) {
            // An earlier run may have been interrupted after the change and before it was noted.
            let old = std::mem::replace(&mut self.password, wanted.clone());
            if self.apply(&change).is_err() {
                self.password = old;
                return Err(error);
            }
        }
        create::store(&self.folder, &wanted)?;
        self.password = wanted;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "PostgreSQL could not be stopped");
        }
        let sockets = self.folder.socket_dir();
        if !sockets.starts_with(self.folder.home()) {
            let _ = fs::remove_dir(sockets);
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("home", &self.folder.home())
            .field("port", &self.port)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// Stops what may run there and deletes the cluster that [`Cluster::start`] made for `data_dir`. Answers the
/// deleted folders: none if there was nothing. A folder without our marker is refused.
pub fn reset(data_dir: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    folder::delete(data_dir, |data| identity(data).1.stop().map(|_| ()))
}

/// The name the server's processes carry, and how they are recognised by it.
fn identity(data: &Path) -> (String, Recognise) {
    let name = format!("firepool-{}", short_hash(data));
    let recognise = Recognise::new(data, &name);
    (name, recognise)
}

/// Stops the server of a firepool that was killed. We hold the lock, so nobody else wants it.
fn stop_leftovers(recognise: &Recognise, data: &Path) -> Result<Option<String>, ClusterError> {
    let stopped = recognise.stop()?;
    // A number that belongs to an unrelated process by now would make PostgreSQL believe it runs already. That it
    // does not is certain: none of its processes is left.
    if PidFile::read(data).is_some_and(|file| processes::exists(file.pid)) {
        let path = PidFile::path(data);
        fs::remove_file(&path).at("delete", &path)?;
    }
    Ok((!stopped.is_empty()).then(|| {
        "stopped the PostgreSQL server of an earlier run that was killed; its data is kept".to_owned()
    }))
}

/// Everything but the unreserved characters of RFC 3986 becomes `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
