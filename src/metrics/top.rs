//! The statements of one worker by their shapes: a table of bounded size. Only the worker adds, so that an addition is a
//! load and a store; a lock is taken where a shape comes or goes, and by whoever reads.
//!
//! Where the table is full, the row with the least score gives way to a new shape, when the first statement of that has
//! ended. The score is the server's time, with the score of whoever had the place before (Space-Saving: Metwally, Agrawal,
//! El Abbadi, 2005), so that a shape that comes again and again is not driven out by those that never do. It is halved each
//! time that as many rows have gone as there are places, so that what was slow once does not stay for ever. What a row has
//! counted that goes is added to `other`, and so is what belongs to no shape, so that sums stay true.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::PoolMetrics;
use super::histogram::Histogram;
use super::roster::Roster;
use super::shard::add;
use super::traffic::{Counts, read};
use crate::statement::Shape;

/// Whose statements they are: those of a pool.
#[derive(Debug)]
pub(super) struct Owner {
    /// No other pool of the process has it, nor had it.
    pub(super) number: u64,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) roster: Option<Arc<Roster>>,
}

/// The counters of one row.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) calls: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) rows: AtomicU64,
    /// Nanoseconds that the server took.
    pub(super) nanos: AtomicU64,
    /// The shortest of them, and 1 more, so that 0 is none.
    pub(super) least: AtomicU64,
    pub(super) most: AtomicU64,
    pub(super) times: Histogram,
    pub(super) waits: AtomicU64,
    /// Nanoseconds of waiting for a server connection.
    pub(super) waited: AtomicU64,
}

impl Cells {
    fn count(&self, counts: &Counts) {
        add(&self.calls, u64::from(counts.carried));
        add(&self.errors, u64::from(counts.failed.is_some()));
        add(&self.rows, counts.rows);
        if let Some(nanos) = counts.server {
            add(&self.nanos, nanos);
            self.times.observe(nanos);
            self.extremes(nanos.saturating_add(1), nanos);
        }
    }

    fn waited(&self, nanos: u64) {
        add(&self.waits, 1);
        add(&self.waited, nanos);
    }

    fn extremes(&self, least: u64, most: u64) {
        let known = read(&self.least);
        if least != 0 && (known == 0 || least < known) {
            self.least.store(least, Ordering::Relaxed);
        }
        if most > read(&self.most) {
            self.most.store(most, Ordering::Relaxed);
        }
    }

    /// Takes what a row has counted that goes.
    fn take(&self, other: &Self) {
        for (own, other) in [
            (&self.calls, &other.calls),
            (&self.errors, &other.errors),
            (&self.rows, &other.rows),
            (&self.nanos, &other.nanos),
            (&self.waits, &other.waits),
            (&self.waited, &other.waited),
        ] {
            add(own, read(other));
        }
        self.times.take(&other.times);
        self.extremes(read(&other.least), read(&other.most));
    }
}

/// The statements of one shape and pool.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) shape: Arc<Shape>,
    pub(super) owner: Arc<Owner>,
    /// Every schema that one of them has named, by the bits of its number.
    pub(super) schemas: AtomicU64,
    pub(super) cells: Cells,
}

/// What whoever reads sees of one worker's table.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) rows: Mutex<Vec<Arc<Row>>>,
    /// Changed only with `rows` locked, but for what belongs to no shape.
    pub(super) other: Cells,
    /// Rows that have gone.
    pub(super) gone: AtomicU64,
}

/// Where a table keeps a shape, until another one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The row, from 1 on; 0 is none.
    pub row: u16,
    /// How many shapes it has had before.
    pub generation: u32,
}

/// The most places that a table may have.
const MOST: usize = 2_000;

/// One worker's table.
#[derive(Debug)]
pub struct Table {
    shown: Arc<Shown>,
    rows: Vec<Arc<Row>>,
    /// The aged times of the rows.
    scores: Vec<u64>,
    generations: Vec<u32>,
    /// By the keys of shapes and owners.
    places: HashMap<u64, u16, BuildHasherDefault<Mixed>>,
    most: usize,
    /// Rows that have gone since the times were halved.
    gone: usize,
}

impl Table {
    pub(super) fn new(shown: Arc<Shown>, most: usize) -> Self {
        Self {
            shown,
            rows: Vec::new(),
            scores: Vec::new(),
            generations: Vec::new(),
            places: HashMap::default(),
            most: most.clamp(1, MOST),
            gone: 0,
        }
    }

    /// The place of a shape of a pool's statements, if it has one.
    pub fn find(&self, shape: &Shape, pool: &PoolMetrics) -> Place {
        let owner = &pool.owner;
        let is = |row: &Arc<Row>| row.owner.number == owner.number && row.shape.key == shape.key;
        let mut row = shape.hint.load(Ordering::Relaxed) as usize;
        if !self.rows.get(row).is_some_and(is) {
            let place = self.places.get(&mixed(shape.key, owner.number)).copied().map(usize::from);
            let Some(found) = place.filter(|row| self.rows.get(*row).is_some_and(is)) else {
                return Place::default();
            };
            row = found;
            shape.hint.store(row as u32, Ordering::Relaxed);
        }
        self.at(row)
    }

    fn at(&self, row: usize) -> Place {
        let generation = self.generations.get(row).copied().unwrap_or_default();
        Place { row: u16::try_from(row + 1).unwrap_or(0), generation }
    }

    /// The place of a shape of a pool's statements, which it gets if it has none.
    pub fn enter(&mut self, shape: &Arc<Shape>, pool: &PoolMetrics) -> Place {
        let known = self.find(shape, pool);
        if known.row != 0 {
            return known;
        }
        let (shape, owner) = (Arc::clone(shape), Arc::clone(&pool.owner));
        let key = mixed(shape.key, owner.number);
        let row = Arc::new(Row { shape, owner, schemas: AtomicU64::new(0), cells: Cells::default() });
        let place = if self.rows.len() < self.most { self.append(row) } else { self.replace(row) };
        self.places.insert(key, place as u16);
        self.at(place)
    }

    fn append(&mut self, row: Arc<Row>) -> usize {
        self.shown.rows.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&row));
        self.rows.push(row);
        self.scores.push(0);
        self.generations.push(0);
        self.rows.len() - 1
    }

    /// In the place of the one with the least time, whose score it inherits.
    fn replace(&mut self, row: Arc<Row>) -> usize {
        let least = self.scores.iter().copied().min();
        let place = self.scores.iter().position(|score| Some(*score) == least).unwrap_or(0);
        let mut shown = self.shown.rows.lock().unwrap_or_else(PoisonError::into_inner);
        shown[place] = Arc::clone(&row);
        let before = std::mem::replace(&mut self.rows[place], row);
        self.shown.other.take(&before.cells);
        add(&self.shown.gone, 1);
        drop(shown);
        self.places.remove(&mixed(before.shape.key, before.owner.number));
        self.generations[place] = self.generations[place].wrapping_add(1);
        self.gone += 1;
        if self.gone >= self.most {
            self.gone = 0;
            self.scores.iter_mut().for_each(|score| *score /= 2);
        }
        place
    }

    fn row(&self, place: Place) -> Option<(usize, &Row)> {
        let row = usize::from(place.row).checked_sub(1)?;
        let same = self.generations.get(row) == Some(&place.generation);
        self.rows.get(row).filter(|_| same).map(|found| (row, &**found))
    }

    /// The shape that has that place.
    pub fn shape(&self, place: Place) -> Option<&Arc<Shape>> {
        self.row(place).map(|(_, row)| &row.shape)
    }

    /// Counts a statement of the shape that has that place, or had it.
    pub fn count(&mut self, place: Place, schemas: u64, counts: &Counts) {
        let Some((number, row)) = self.row(place) else { return self.shown.other.count(counts) };
        row.cells.count(counts);
        row.schemas.store(read(&row.schemas) | schemas, Ordering::Relaxed);
        let score = self.scores[number].saturating_add(counts.server.unwrap_or(0)).saturating_add(1);
        self.scores[number] = score;
    }

    /// One has waited so many nanoseconds for a server connection.
    pub fn waited(&self, place: Place, nanos: u64) {
        let cells = self.row(place).map_or(&self.shown.other, |(_, row)| &row.cells);
        cells.waited(nanos);
    }
}

/// Two shapes or owners with the same number are told apart where they are found.
fn mixed(shape: u64, owner: u64) -> u64 {
    // The multiplier is that of Fibonacci hashing.
    shape ^ owner.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What is hashed is a hash already.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
