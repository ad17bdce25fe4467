//! Statements by schema and command: what one worker counts for one pool. Only that worker adds, so that an addition
//! is a load and a store; a scrape reads whatever is there.
//!
//! A statement is counted once under each schema that it names, and once under none in particular, where sums are true.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shard::add;
use crate::statement::Command;

/// Schemas that may be counted: the bits of a `u64`.
const SCHEMAS: usize = u64::BITS as usize;

/// Upper bounds of the times' buckets, in nanoseconds: from a look-up in memory to what somebody waits for.
pub(super) const BOUNDS: [u64; 14] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];

/// Classes of SQLSTATE, of PostgreSQL's `src/backend/utils/errcodes.txt`, in their order. What has none of these is
/// counted as the last one.
pub(super) const CLASSES: [&str; 44] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23",
    "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44",
    "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX",
];

/// How many took how long.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Each that took at most its bound and more than the one before, then those that took longer.
    pub(super) counts: [AtomicU64; BOUNDS.len() + 1],
    pub(super) nanos: AtomicU64,
}

impl Times {
    fn observe(&self, nanos: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        add(&self.counts[bucket], 1);
        add(&self.nanos, nanos);
    }
}

/// The counters of one schema and command.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) statements: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) errors: [AtomicU64; CLASSES.len()],
    pub(super) server: Times,
    pub(super) wait: Times,
}

impl Default for Cell {
    fn default() -> Self {
        let counter = AtomicU64::default;
        Self {
            statements: counter(),
            rows: counter(),
            received: counter(),
            sent: counter(),
            errors: std::array::from_fn(|_| counter()),
            server: Times::default(),
            wait: Times::default(),
        }
    }
}

/// What has become of a statement.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// It has been carried out to its end.
    pub carried: bool,
    /// Rows that it returned or changed.
    pub rows: u64,
    /// The class of its error's SQLSTATE, if it failed.
    pub failed: Option<[u8; 2]>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Nanoseconds that the server took, if it was carried out or failed.
    pub server: Option<u64>,
}

/// Statements that one worker carried to one pool.
#[derive(Debug)]
pub struct Traffic {
    /// By schema, behind those of none in particular, then by command. Made when they are first needed.
    cells: Box<[OnceLock<Box<Cell>>]>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self { cells: (0..(1 + SCHEMAS) * Command::ALL.len()).map(|_| OnceLock::new()).collect() }
    }

    /// The counters of a schema, or of none in particular, if anything was counted there.
    pub(super) fn cell(&self, schema: Option<usize>, command: Command) -> Option<&Cell> {
        self.cells.get(place(schema, command))?.get().map(|cell| &**cell)
    }

    fn each(&self, schemas: u64, command: Command, count: impl Fn(&Cell)) {
        let cell = |schema| self.cells.get(place(schema, command)).map(|cell| cell.get_or_init(Box::default));
        if let Some(cell) = cell(None) {
            count(cell);
        }
        let mut left = schemas;
        while left != 0 {
            if let Some(cell) = cell(Some(left.trailing_zeros() as usize)) {
                count(cell);
            }
            left &= left - 1;
        }
    }

    /// Counts a statement under each of the schemas. To be called by its own worker only.
    pub fn count(&self, schemas: u64, command: Command, counts: Counts) {
        let class = counts.failed.map(|class| {
            let found = CLASSES.binary_search_by(|known| known.as_bytes().cmp(&class[..]));
            found.unwrap_or(CLASSES.len() - 1)
        });
        self.each(schemas, command, |cell| {
            add(&cell.statements, u64::from(counts.carried));
            add(&cell.rows, counts.rows);
            add(&cell.received, counts.received);
            add(&cell.sent, counts.sent);
            if let Some(class) = class {
                add(&cell.errors[class], 1);
            }
            if let Some(nanos) = counts.server {
                cell.server.observe(nanos);
            }
        });
    }

    /// A statement waited so many nanoseconds for a server connection.
    pub fn waited(&self, schemas: u64, command: Command, nanos: u64) {
        self.each(schemas, command, |cell| cell.wait.observe(nanos));
    }
}

fn place(schema: Option<usize>, command: Command) -> usize {
    schema.map_or(0, |schema| schema + 1) * Command::ALL.len() + command as usize
}

pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_counted_under_each_of_its_schemas_and_once_in_all() {
        let traffic = Traffic::new();
        let counts =
            Counts { carried: true, rows: 3, failed: None, received: 10, sent: 20, server: Some(250_000) };
        traffic.count(0b1010_0000, Command::Select, counts);
        traffic.count(1 << 63, Command::Select, Counts { carried: false, failed: Some(*b"42"), ..counts });
        traffic.waited(1 << 5, Command::Select, 31_000_000_000);
        let seen = |schema| {
            let cell = traffic.cell(schema, Command::Select)?;
            Some((read(&cell.statements), read(&cell.rows), read(&cell.server.counts[1])))
        };
        assert_eq!(seen(None), Some((1, 6, 2)));
        assert_eq!(
            [5, 7, 63].map(|schema| seen(Some(schema))),
            [Some((1, 3, 1)), Some((1, 3, 1)), Some((0, 3, 1))]
        );
        assert_eq!([0, 6, 62].map(|schema| seen(Some(schema))), [None; 3]);
        let waits = &traffic.cell(Some(5), Command::Select).unwrap().wait;
        assert_eq!((read(&waits.counts[BOUNDS.len()]), read(&waits.nanos)), (1, 31_000_000_000));
    }

    #[test]
    fn errors_are_counted_by_their_class_and_unheard_of_ones_as_internal() {
        assert!(CLASSES.is_sorted());
        let traffic = Traffic::new();
        let failed = |class: &[u8; 2]| Counts {
            carried: false,
            rows: 0,
            failed: Some(*class),
            received: 0,
            sent: 0,
            server: None,
        };
        for class in [b"23", b"ZZ", b"XX", b"\0\0"] {
            traffic.count(0, Command::Insert, failed(class));
        }
        let cell = traffic.cell(None, Command::Insert).unwrap();
        let errors: Vec<_> = CLASSES
            .iter()
            .zip(&cell.errors)
            .filter(|(_, n)| read(n) > 0)
            .map(|(c, n)| (*c, read(n)))
            .collect();
        assert_eq!(errors, [("23", 1), ("XX", 3)]);
    }
}
