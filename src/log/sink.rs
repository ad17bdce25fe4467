//! The way of a line to standard error. Whoever logs puts it into a queue and goes on; a thread writes. What the queue has
//! no room for is counted: a pipe that nobody reads stalls that thread and no worker.
//!
//! The queue is bounded in lines and in bytes. tracing-appender, which does the same, is bounded in lines only.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::limit::{self, Limiter};

/// Lines that may wait, and their bytes.
const LINES: usize = 8192;
const BYTES: usize = 4 << 20;

/// How long the end of the process waits for what was not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

enum Entry {
    Line(Box<[u8]>),
    /// Everything before it is to be written, and then this to be told.
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

/// Takes lines.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    queue: SyncSender<Entry>,
    counts: Arc<Counts>,
}

/// Writes what waits when it is dropped, or gives up after a second.
#[derive(Debug)]
pub struct Flush(SyncSender<Entry>);

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        let mut entry = Entry::Flush(done);
        // A full queue empties, or nobody reads.
        while let Err(std::sync::mpsc::TrySendError::Full(back)) = self.0.try_send(entry) {
            if Instant::now() >= deadline {
                return;
            }
            entry = back;
            thread::park_timeout(Duration::from_millis(5));
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Sink {
    /// Starts the thread that writes to `output`, and now and then says what `limiter` has kept back.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        limiter: Arc<Limiter>,
    ) -> io::Result<(Self, Flush)> {
        let (queue, lines) = sync_channel(LINES);
        let counts = Arc::<Counts>::default();
        let keeper = Keeper { lines, output, counts: Arc::clone(&counts), limiter };
        thread::Builder::new().name("log".into()).spawn(move || keeper.run())?;
        Ok((Self { queue: queue.clone(), counts }, Flush(queue)))
    }

    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    fn offer(&self, line: &[u8]) {
        let waiting = self.counts.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let fits = waiting.saturating_add(line.len()) <= BYTES;
        if !fits || self.queue.try_send(Entry::Line(line.into())).is_err() {
            self.counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for &Sink {
    /// One call is one line: the formatter writes a line as a whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offer(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The thread's.
struct Keeper<W> {
    lines: Receiver<Entry>,
    output: W,
    counts: Arc<Counts>,
    limiter: Arc<Limiter>,
}

impl<W: Write> Keeper<W> {
    fn run(mut self) {
        let (mut next, mut told) = (Instant::now() + limit::PERIOD, 0);
        loop {
            match self.lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Entry::Line(line)) => self.write(&line),
                Ok(Entry::Flush(done)) => {
                    let _ = self.output.flush();
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next {
                next = Instant::now() + limit::PERIOD;
                self.limiter.report();
                let dropped = self.counts.dropped.load(Ordering::Relaxed);
                if dropped > told {
                    limit::tell_of_dropped(dropped - told);
                    told = dropped;
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        self.counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        // A reader that has gone may come back, as a restarted collector does.
        if self.output.write_all(line).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Writes only once it may.
    struct Gate(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_neither_time_nor_memory() {
        let (open, gate) = sync_channel(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let output = Gate(gate, Arc::clone(&written));
        let (sink, flush) = Sink::start(output, Arc::new(Limiter::new(0))).unwrap();
        for _ in 0..3 * LINES {
            sink.offer(b"line\n");
        }
        let dropped = usize::try_from(sink.dropped()).unwrap();
        assert!((2 * LINES - 1..=2 * LINES).contains(&dropped), "{dropped}");
        // Once somebody reads, everything comes that had found room.
        drop(open);
        drop(flush);
        assert_eq!(written.lock().unwrap().len(), (3 * LINES - dropped) * 5);
        assert_eq!(sink.counts.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn long_lines_count_by_their_bytes() {
        let (_open, gate) = sync_channel(0);
        let (sink, _flush) = Sink::start(Gate(gate, Arc::default()), Arc::new(Limiter::new(0))).unwrap();
        let line = vec![b'x'; BYTES / 8];
        for _ in 0..20 {
            sink.offer(&line);
        }
        assert!(sink.dropped() >= 11, "{}", sink.dropped());
        assert!(sink.counts.waiting.load(Ordering::Relaxed) <= BYTES);
    }

    #[test]
    fn a_pipe_that_is_closed_ends_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sink, flush) = Sink::start(Closed, Arc::new(Limiter::new(0))).unwrap();
        (0..10).for_each(|_| sink.offer(b"line\n"));
        drop(flush);
        assert_eq!(sink.dropped(), 10);
    }
}
