//! A worker: one thread, one current-thread runtime, and the clients that were given to it. Nothing moves between
//! workers but server connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::Shared;
use super::audit::Audit;
use super::login::{self, Admitted};
use super::slow::Budget;
use super::texts::Texts;
use super::views::Views;
use super::visit::Stay;
use super::watch::Watches;
use crate::metrics::Table;
use crate::spans::{Sampler, Tracer};
use crate::stream::Detached;

/// Bytes that a worker reads at once, on either side. One buffer serves all its clients, because a read is always
/// followed by a write before anybody else's turn comes.
pub(super) const SCRATCH: usize = 64 * 1024;

/// The same where there are read-only routes, for whose clients a longer text has to be there as a whole.
const SCRATCH_GUARDED: usize = crate::relay::request::GUARDED + SCRATCH;

/// How often clients' deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Ticks for which clients may still be told that everything ends.
const LAST_WORDS: usize = 15;

/// Sockets that may wait for a worker that is busy.
const BACKLOG: usize = 1024;

/// How the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Clients are served.
    Serving,
    /// No new clients; clients are ended where they have nothing under way.
    Draining,
    /// Everything ends now.
    Ending,
}

/// What the clients of a worker share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: usize,
    pub(super) shared: Arc<Shared>,
    /// Memory for one read; borrowed only between two points where others could run.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Memory for reading from idle server connections while `scratch` holds a client's request.
    pub(super) aside: RefCell<Box<[u8]>>,
    pub(super) texts: RefCell<Texts>,
    pub(super) audit: RefCell<Audit>,
    pub(super) slow: RefCell<Budget>,
    pub(super) views: RefCell<Views>,
    /// Where statements are counted by their shapes, if they are.
    pub(super) table: Option<RefCell<Table>>,
    /// Decides which queries are recorded, if any are.
    pub(super) sampler: Option<Sampler>,
    /// Memory of visits that are over, for the next ones.
    #[allow(clippy::vec_box, reason = "a client takes one, and half a kilobyte would be copied each time")]
    pub(super) stays: RefCell<Vec<Box<Stay>>>,
    /// How many clients it has given a number.
    numbers: Cell<u64>,
    pub(super) watches: Watches,
    pub(super) draining: Cell<bool>,
    pub(super) stage: watch::Receiver<Stage>,
}

impl Worker {
    /// A number that no other client of the process has.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        (self.id as u64) << 48 | self.numbers.get()
    }
}

/// The way to a worker.
#[derive(Debug)]
pub struct Handle {
    sockets: mpsc::Sender<Detached>,
    clients: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Handle {
    /// Clients that it has.
    pub(super) fn load(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Gives it a client.
    pub(super) async fn take(&self, socket: Detached) {
        self.clients.fetch_add(1, Ordering::Relaxed);
        // A worker ends only with the process; the client sees its connection closed.
        let _ = self.sockets.send(socket).await;
    }

    /// Whether its thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended. Blocks the thread.
    pub fn join(self) {
        let Self { sockets, thread, .. } = self;
        drop(sockets);
        if thread.join().is_err() {
            tracing::error!("a worker ended by a panic");
        }
    }
}

/// Starts worker number `id`.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn(id: usize, shared: Arc<Shared>, stage: watch::Receiver<Stage>) -> io::Result<Handle> {
    let (sockets, inbox) = mpsc::channel(BACKLOG);
    let clients = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&clients);
    let builder = thread::Builder::new().name(format!("worker-{id}")).stack_size(crate::statement::STACK);
    let thread = builder.spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                runtime.block_on(run(id, shared, inbox, stage, count));
                // The look-up of a server's name that nobody answers may take longer than the end of the process.
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "a worker could not start"),
        }
    })?;
    Ok(Handle { sockets, clients, thread })
}

async fn run(
    id: usize,
    shared: Arc<Shared>,
    mut sockets: mpsc::Receiver<Detached>,
    mut stage: watch::Receiver<Stage>,
    clients: Arc<AtomicUsize>,
) {
    let guarded = shared.config.routes.iter().any(|route| route.access.is_read_only());
    let scratch = if guarded { SCRATCH_GUARDED } else { SCRATCH };
    let slow = shared.config.routes.iter().any(|route| route.slow_query.is_some());
    let shaping = shared.config.metrics.top_statements > 0 || slow;
    let worker = Rc::new(Worker {
        id,
        audit: RefCell::default(),
        slow: RefCell::default(),
        texts: RefCell::new(Texts::new(shared.statement_secret, shaping)),
        views: RefCell::default(),
        table: shared.metrics.table(id).map(RefCell::new),
        sampler: shared.tracer.as_ref().map(Tracer::sampler),
        stays: RefCell::default(),
        numbers: Cell::new(0),
        shared,
        scratch: RefCell::new(vec![0; scratch].into_boxed_slice()),
        aside: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
        watches: Watches::default(),
        draining: Cell::new(false),
        stage: stage.clone(),
    });
    let figures = worker.shared.metrics.worker(id);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut open, mut ending) = (true, 0);
    loop {
        tokio::select! {
            socket = sockets.recv(), if open => match socket {
                Some(socket) => start(&worker, socket, &clients),
                None => open = false,
            },
            _ = tick.tick() => {
                worker.watches.tick(worker.shared.clock.now());
                figures.tick(clients.load(Ordering::Relaxed), worker.texts.borrow().stats());
                let stage = *stage.borrow_and_update();
                if stage != Stage::Serving {
                    worker.draining.set(true);
                    worker.watches.shut_down(stage == Stage::Ending);
                    ending += usize::from(stage == Stage::Ending);
                    if clients.load(Ordering::Relaxed) == 0 || ending > LAST_WORDS {
                        return;
                    }
                }
            }
        }
    }
}

fn start(worker: &Rc<Worker>, socket: Detached, clients: &Arc<AtomicUsize>) {
    let count = Counted(Arc::clone(clients));
    let worker = Rc::clone(worker);
    let login = async move {
        let stream = socket.attach().ok()?;
        Some(match login::run(&worker, stream).await? {
            Admitted::Session(session) => Box::pin(session.run(count)) as Service,
            Admitted::Replication(passage) => Box::pin(async move {
                let _count = count;
                passage.run().await;
            }),
        })
    };
    tokio::task::spawn_local(Life::Login(Box::pin(login)));
}

/// What a client gets that was let in.
type Service = Pin<Box<dyn Future<Output = ()>>>;

/// The task of a client, with its login apart, so that a session does not occupy the memory that its login needed. It is
/// this small because tokio's part of a task and it are one piece of memory, whose size is a multiple of 128.
enum Life {
    Login(Pin<Box<dyn Future<Output = Option<Service>>>>),
    Service(Service),
}

// Tokio has a place for the result of a task, which is as large.
const _: () = assert!(size_of::<Life>() <= 24);

impl Future for Life {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Login(login) = &mut *self {
            match ready!(login.as_mut().poll(cx)) {
                Some(service) => self.set(Self::Service(service)),
                None => return Poll::Ready(()),
            }
        }
        match &mut *self {
            Self::Service(service) => service.as_mut().poll(cx),
            Self::Login(_) => Poll::Pending,
        }
    }
}

/// A client of the worker's, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
