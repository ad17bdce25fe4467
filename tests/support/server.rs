//! PostgreSQL servers of the tests. One is shared by all tests that do it no harm; those that kill it have their own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use firepool::cli::cluster::{Bootstrap, Cluster, Options, Programs};

use super::raw::Raw;

/// The password of every role.
pub const PASSWORD: &str = "sesame";

/// The database in which tests make their own schemas.
pub const DATABASE: &str = "test";

/// Every server that may run, and whether more may be started.
static SERVERS: Mutex<Servers> = Mutex::new(Servers { closed: false, all: Vec::new() });
static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Servers {
    closed: bool,
    all: Vec<Weak<Server>>,
}

/// A server, and the folder that goes with it.
pub struct Server {
    cluster: Mutex<Option<Cluster>>,
    home: PathBuf,
    port: u16,
    programs: Programs,
}

impl Server {
    /// The server with FireFoundry's databases that all tests share. It fails where PostgreSQL is missing.
    pub fn shared() -> Arc<Self> {
        Arc::clone(SHARED.get_or_init(|| Self::firefoundry(&[])))
    }

    /// One with FireFoundry's databases of a test's own, with these lines of `postgresql.conf`.
    pub fn firefoundry(settings: &[(&str, &str)]) -> Arc<Self> {
        let mut bootstrap = Bootstrap::firefoundry();
        for role in ["fireinsert", "firebroker", "fireread", "firebrand"] {
            bootstrap = bootstrap.variable(&format!("{role}_password"), PASSWORD);
        }
        Self::start(Some(bootstrap), settings)
    }

    /// A server of a test's own, stopped when it is dropped.
    pub fn own() -> Arc<Self> {
        Self::own_with(&[])
    }

    /// The same with these lines of `postgresql.conf`.
    pub fn own_with(settings: &[(&str, &str)]) -> Arc<Self> {
        Self::start(None, settings)
    }

    fn start(bootstrap: Option<Bootstrap>, settings: &[(&str, &str)]) -> Arc<Self> {
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!servers.closed, "the tests are being stopped");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("firepool-itests-{}-{number}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        // PostgreSQL's account has to get through.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        // What a test has committed is there after a SIGKILL, though not after a power cut.
        let mut options = Options::small(home.join("data")).setting("synchronous_commit", "on");
        for (name, value) in settings {
            options = options.setting(name, value);
        }
        options.superuser_password = Some(PASSWORD.to_owned().into());
        options.bootstrap = bootstrap;
        let cluster = Cluster::start(options).unwrap();
        let (port, programs) = (cluster.port(), cluster.programs().clone());
        let server = Arc::new(Self { cluster: Mutex::new(Some(cluster)), home, port, programs });
        servers.all.push(Arc::downgrade(&server));
        drop(servers);
        server.superuser("postgres").run(&format!("CREATE DATABASE {DATABASE}"));
        server
    }

    fn cluster(&self) -> MutexGuard<'_, Option<Cluster>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where psql and pgbench are.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A superuser's connection that does not go through any proxy.
    pub fn superuser(&self, database: &str) -> Raw {
        Raw::login(self.address(), "postgres", database, &[]).unwrap()
    }

    /// A new login role with a schema of its own.
    pub fn role(&self) -> String {
        let role = format!("role_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.superuser(DATABASE);
        admin.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
        admin.run(&format!("CREATE SCHEMA AUTHORIZATION {role}"));
        role
    }

    /// Puts these lines before the server's own rules, and waits until they are in force.
    pub fn rules(&self, lines: &str) {
        let mut admin = self.superuser("postgres");
        let file = PathBuf::from(admin.value("SHOW hba_file"));
        let own = fs::read_to_string(&file).unwrap();
        let marker = format!("marker_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        fs::write(&file, format!("{lines}\nhost all {marker} 0.0.0.0/0 reject\n{own}")).unwrap();
        admin.run("SELECT pg_reload_conf()");
        super::wait::until("the rules are in force", || {
            let refused = Raw::login(self.address(), &marker, "postgres", &[]).unwrap_err();
            refused.message.contains("rejects")
        });
    }

    /// SIGKILL to every process, as if the machine had lost power.
    pub fn kill(&self) {
        self.cluster().as_mut().unwrap().kill_hard().unwrap();
    }

    /// Fast shutdown.
    pub fn stop(&self) {
        self.cluster().as_mut().unwrap().stop().unwrap();
    }

    /// Starts it again, on the same port.
    pub fn restart(&self) {
        self.cluster().as_mut().unwrap().restart().unwrap();
    }

    fn end(&self) {
        self.cluster().take();
        let _ = fs::remove_dir_all(&self.home);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Stops every server for good.
pub fn stop_all() {
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    servers.closed = true;
    servers.all.drain(..).filter_map(|server| server.upgrade()).for_each(|server| server.end());
}
