//! How everything is put together. The only file that knows every room: it builds, binds, starts and stops.
//!
//! Threads: one that accepts, N workers, and one for admin HTTP and housekeeping (the clock, the pools' sweep), so that
//! health checks and metrics answer while every worker is busy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::admin::gate::Gate;
use crate::admin::http::{self, Readiness, Site};
use crate::admin::page::Page;
use crate::backend::connect::{ConnectError, Opener};
use crate::clock::{self, Clock};
use crate::config::{self, Config, Target, Tracing, budget};
use crate::frontend::Shared;
use crate::frontend::accept::Listeners;
use crate::frontend::worker::{self, Handle, Stage};
use crate::log::Logs;
use crate::metrics::{self, Metrics};
use crate::pool::Registry;
use crate::scram::ScramError;
use crate::spans::{Exporter, Tracer};
use crate::tls::{Reloaded, Trouble};

/// How often the pools are swept.
const SWEEP: Duration = Duration::from_millis(100);

/// How often a required target that has not answered is asked again.
const PROBE: Duration = Duration::from_millis(500);

/// Clients that may be about to log in at once, at the least.
const LOGINS: usize = 1_000;

/// Clients that were told to go and are not gone yet.
const PARTING: usize = 256;

/// File descriptors that are neither clients' nor server connections': listeners, reactors, admin HTTP, cancel requests.
const OWN_FILES: u64 = 128;

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address that cannot be bound, or no threads.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A metric was declared wrongly.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics::Error),
    /// The operating system gives no random numbers.
    #[error("{0}")]
    Scram(#[from] ScramError),
}

/// A proxy that runs. Dropping it ends it at once.
#[derive(Debug)]
pub struct App {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    stage: watch::Sender<Stage>,
    readiness: Arc<Readiness>,
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    workers: Arc<Vec<Handle>>,
    threads: Vec<thread::JoinHandle<()>>,
    exporter: Option<Exporter>,
}

impl App {
    /// Binds, starts every thread, and returns.
    ///
    /// # Errors
    /// Nothing runs then.
    pub fn start(config: Arc<Config>) -> Result<Self, StartError> {
        Self::start_with(config, Logs::default())
    }

    /// [`Self::start`] with the logs of the process, which admin HTTP shows and changes.
    ///
    /// # Errors
    /// Nothing runs then.
    pub fn start_with(config: Arc<Config>, logs: Logs) -> Result<Self, StartError> {
        let count =
            config.proxy.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let (clock, metrics) = (Arc::<Clock>::default(), measure(&config, count)?);
        show_logs(&metrics, &logs)?;
        let registry = Arc::new(Registry::new(Arc::clone(&config), Arc::clone(&clock), Arc::clone(&metrics)));
        let (shared, asker) = Shared::new(Arc::clone(&registry), Arc::clone(&metrics), Arc::clone(&clock))?;
        let (exporter, tracer) = trace(&config, &clock, &metrics)?;
        let shared = Arc::new(shared.traced(tracer));

        let (accepting, keeping) = (runtime()?, runtime()?);
        let listeners = accepting.block_on(async { Listeners::bind(&config.proxy) })?;
        let admin = match config.admin {
            Some(address) => {
                let listener = keeping.block_on(bind_admin(address))?;
                Some((listener, Gate::new(address, config.admin_token.clone())))
            }
            None => None,
        };
        let (addresses, admin_address) =
            (listeners.addresses(), admin.as_ref().and_then(|(listener, _)| listener.local_addr().ok()));

        let (stage, stages) = watch::channel(Stage::Serving);
        let workers = (0..count)
            .map(|id| worker::spawn(id, Arc::clone(&shared), stages.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let workers = Arc::new(workers);
        let required: Vec<_> = config.targets.iter().filter(|target| target.required).cloned().collect();
        let readiness = Arc::new(Readiness::waits_for(required.len()));

        let (handles, sockets) = (Arc::clone(&workers), sockets(&config));
        let (serving, at_door) = (stages.clone(), Arc::clone(&shared));
        let acceptor = thread::Builder::new()
            .name("accept".into())
            .spawn(move || accepting.block_on(listeners.serve(handles, (sockets, at_door), serving)))?;
        let housekeeping = Housekeeping { clock, registry: Arc::clone(&registry), config };
        let (ready, shown) = (Arc::clone(&readiness), Arc::clone(&metrics));
        let keeper = thread::Builder::new().name("admin".into()).spawn(move || {
            keeping.block_on(async move {
                for target in required {
                    tokio::spawn(probe(Arc::clone(&housekeeping.config), target, Arc::clone(&ready)));
                }
                if let Some(asker) = asker {
                    tokio::spawn(asker.run());
                }
                if let Some((listener, gate)) = admin {
                    let site = Site { metrics: shown, readiness: ready, gate, page: Page::default(), logs };
                    tokio::spawn(http::serve(listener, Arc::new(site)));
                }
                housekeeping.run(stages).await;
            });
            // As of the workers.
            keeping.shutdown_background();
        })?;
        Ok(Self {
            addresses,
            admin: admin_address,
            stage,
            readiness,
            registry,
            shared,
            metrics,
            workers,
            threads: vec![acceptor, keeper],
            exporter,
        })
    }

    /// The TCP addresses that clients connect to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of admin HTTP, if it is on.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Reads every file of certificates and keys again, for new connections. Those that exist stay as they are, and what
    /// does not fit together is reported and not used. Returns whether all did.
    pub fn reload_certificates(&self) -> bool {
        let mut fit = true;
        if let Some(acceptor) = self.shared.acceptor() {
            fit &= report("clients", acceptor.reload());
        }
        for target in &self.registry.config().targets {
            if let Some(connector) = &target.tls.connector {
                fit &= report(&target.name, connector.reload());
            }
        }
        fit
    }

    /// Takes `[tls]`, users, their secrets, rules and the limits of logins from another configuration, and nothing else of it.
    /// `certificates` says whether those could be read again.
    pub fn reload(&self, config: &Config, certificates: bool) {
        self.shared.reload(config);
        self.metrics.accepting(self.shared.acceptor());
        self.metrics.configured(config::fingerprint(config), certificates);
    }

    /// Another configuration was of no use.
    pub fn reload_failed(&self) {
        self.metrics.reload_failed();
    }

    /// Whether `/ready` says so.
    pub fn is_ready(&self) -> bool {
        self.readiness.check().is_ok()
    }

    /// Stops accepting, lets what runs come to its end for at most `limit`, and ends. Blocks.
    pub fn drain(self, limit: Duration) {
        self.readiness.drain();
        let _ = self.stage.send(Stage::Draining);
        let deadline = Instant::now() + limit;
        // Clients are gone from the counts of the workers before the workers end.
        let (_wake, wait) = std::sync::mpsc::sync_channel::<()>(0);
        while self.workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
            let _ = wait.recv_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.stage.send(Stage::Ending);
        self.registry.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread ended by a panic");
            }
        }
        // The acceptor held the other reference.
        if let Some(workers) = Arc::get_mut(&mut self.workers) {
            workers.drain(..).for_each(Handle::join);
        }
        // Nobody hands anything in any more.
        drop(self.exporter.take());
    }
}

/// What sends spans, and where they are handed in, if there is a collector.
fn trace(
    config: &Config,
    clock: &Arc<Clock>,
    metrics: &Metrics,
) -> Result<(Option<Exporter>, Option<Tracer>), StartError> {
    let Some(Tracing { endpoint, sample, service_name }) = config.tracing.clone() else {
        return Ok((None, None));
    };
    let (exporter, tracer) = Exporter::start(endpoint, service_name, sample, Arc::clone(clock))?;
    let [exported, dropped] = [(); 2].map(|()| Arc::clone(tracer.counts()));
    metrics.show_total(metrics::SPANS_EXPORTED, Box::new(move || exported.exported()))?;
    metrics.show_total(metrics::SPANS_DROPPED, Box::new(move || dropped.dropped()))?;
    Ok((Some(exporter), Some(tracer)))
}

/// Lines of the log that nobody will read.
fn show_logs(metrics: &Metrics, logs: &Logs) -> Result<(), metrics::Error> {
    let (suppressing, dropping) = (logs.clone(), logs.clone());
    metrics.show_total(metrics::LOG_SUPPRESSED, Box::new(move || suppressing.suppressed()))?;
    metrics.show_total(metrics::LOG_DROPPED, Box::new(move || dropping.dropped()))
}

/// Every metric, with what it says of the configuration from the start.
fn measure(config: &Config, workers: usize) -> Result<Arc<Metrics>, metrics::Error> {
    let metrics = Metrics::new(workers)?.ranking_statements(config.metrics.top_statements);
    metrics.configured(config::fingerprint(config), true);
    let connectors = config.targets.iter().filter_map(|target| target.tls.connector.clone());
    metrics.watch_tls(config.tls.acceptor.clone(), connectors.collect());
    if config.metrics.pgbouncer_names {
        metrics.show_pgbouncer_names()?;
    }
    Ok(Arc::new(metrics))
}

fn report(what: &str, reloaded: Result<Reloaded, Trouble>) -> bool {
    match &reloaded {
        Ok(Reloaded::New) => tracing::info!(what, "new certificates are in use"),
        Ok(Reloaded::Same) => {}
        Err(error) => {
            tracing::error!(what, %error, "certificates were not reloaded; the old ones stay in use")
        }
    }
    reloaded.is_ok()
}

/// How many clients' sockets may be open at once: those that may log in and as many again that are about to, but never
/// so many that server connections would find no file descriptor.
fn sockets(config: &Config) -> usize {
    let logins = config.authentication.max_logins.max(config.proxy.max_clients).max(LOGINS);
    let wanted = config.proxy.max_clients.saturating_add(logins).saturating_add(PARTING);
    let pools: u64 = budget::worst(config).iter().map(|worst| worst.server).sum();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = files.saturating_sub(pools).saturating_sub(OWN_FILES).max(1);
    wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn bind_admin(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("could not listen on {address}: {error}")))
}

struct Housekeeping {
    clock: Arc<Clock>,
    registry: Arc<Registry>,
    config: Arc<Config>,
}

impl Housekeeping {
    /// Moves the clock and sweeps the pools until the process ends.
    async fn run(self, mut stage: watch::Receiver<Stage>) {
        let mut tick = tokio::time::interval(clock::TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut scratch = vec![0; 64 * 1024];
        self.registry.open_ahead();
        let (mut swept, start) = (Duration::ZERO, Instant::now());
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                ended = stage.wait_for(|stage| *stage == Stage::Ending) => {
                    drop(ended);
                    return;
                }
            }
            self.clock.tick();
            if start.elapsed() >= swept + SWEEP {
                swept = start.elapsed();
                self.registry.sweep(&mut scratch);
            }
        }
    }
}

/// Asks a required target until it answers.
async fn probe(config: Arc<Config>, target: Arc<Target>, readiness: Arc<Readiness>) {
    let route = config.routes.iter().find(|route| route.target.name == target.name);
    let named = |pattern: &crate::config::Pattern| match pattern {
        crate::config::Pattern::Exact(name) => Some(name.clone()),
        crate::config::Pattern::Any => None,
    };
    let user = route
        .and_then(|route| named(&route.user))
        .and_then(|name| config.user(&name))
        .or(config.users.first());
    let (Some(route), Some(user)) = (route, user) else { return readiness.answered() };
    let database = route.target_database.clone().or_else(|| named(&route.database));
    let opener = Opener::new(
        Arc::clone(&target),
        Arc::clone(user),
        database.unwrap_or_else(|| "postgres".to_owned()),
        route.timeouts.connect,
    );
    loop {
        match opener.open().await {
            // 57P03 is "cannot connect now": the server starts up. Any other answer is one.
            Err(ConnectError::Refused { sqlstate, .. }) if sqlstate != "57P03" => break,
            Err(ConnectError::Unproved(_)) | Ok(_) => break,
            Err(error) => {
                tracing::info!(server = target.name, %error, "a required target has not answered yet")
            }
        }
        tokio::time::sleep(PROBE).await;
    }
    tracing::info!(server = target.name, "a required target has answered");
    readiness.answered();
}
