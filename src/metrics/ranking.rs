//! What the tables of all workers hold, put together for whoever reads it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::histogram::Spread;
use super::top::{Cells, Row, Shown};
use super::traffic::read;

/// By what statements are ordered, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The time that the server took for all of them.
    Total,
    /// The time that it took for one.
    Mean,
    /// How many were carried out.
    Calls,
    /// The time that 99 of 100 have not exceeded.
    P99,
    /// Rows that they returned or changed.
    Rows,
    /// How many failed.
    Errors,
    /// The time that they waited for a server connection.
    Wait,
}

impl Order {
    /// Each of them.
    pub const ALL: [Self; 7] =
        [Self::Total, Self::Mean, Self::Calls, Self::P99, Self::Rows, Self::Errors, Self::Wait];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Mean => "mean",
            Self::Calls => "calls",
            Self::P99 => "p99",
            Self::Rows => "rows",
            Self::Errors => "errors",
            Self::Wait => "wait",
        }
    }

    fn of(self, figures: &Figures) -> u64 {
        let nanos = |time: Option<Duration>| time.map_or(0, |time| time.as_nanos() as u64);
        match self {
            Self::Total => figures.nanos,
            Self::Mean => nanos(figures.mean()),
            Self::Calls => figures.calls,
            Self::P99 => nanos(figures.quantile(990)),
            Self::Rows => figures.rows,
            Self::Errors => figures.errors,
            Self::Wait => figures.waited,
        }
    }
}

/// What statements have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many were carried out to their end.
    pub calls: u64,
    /// How many failed.
    pub errors: u64,
    /// Rows that they returned or changed.
    pub rows: u64,
    /// How many had to wait for a server connection.
    pub waits: u64,
    waited: u64,
    nanos: u64,
    least: u64,
    most: u64,
    times: Spread,
}

impl Figures {
    /// The time that the server took for all of them.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The time that they waited for a server connection, all of them.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited)
    }

    /// The time that the server took for one. Those that failed count as well.
    pub fn mean(&self) -> Option<Duration> {
        self.nanos.checked_div(self.calls + self.errors).map(Duration::from_nanos)
    }

    /// The shortest time that the server took.
    pub fn min(&self) -> Option<Duration> {
        self.least.checked_sub(1).map(Duration::from_nanos)
    }

    /// The longest one.
    pub fn max(&self) -> Option<Duration> {
        self.min().map(|_| Duration::from_nanos(self.most))
    }

    /// The time that so many of a thousand have not exceeded, at most an eighth off.
    pub fn quantile(&self, of_thousand: u64) -> Option<Duration> {
        let (least, most) = (self.least.checked_sub(1)?, self.most);
        self.times
            .quantile(of_thousand)
            .map(|nanos| Duration::from_nanos(nanos.clamp(least, most.max(least))))
    }

    fn read(&mut self, cells: &Cells) {
        self.calls += read(&cells.calls);
        self.errors += read(&cells.errors);
        self.rows += read(&cells.rows);
        self.waits += read(&cells.waits);
        self.waited += read(&cells.waited);
        self.nanos += read(&cells.nanos);
        self.extremes(read(&cells.least), read(&cells.most));
        self.times.read(&cells.times);
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.rows += other.rows;
        self.waits += other.waits;
        self.waited += other.waited;
        self.nanos += other.nanos;
        self.extremes(other.least, other.most);
        self.times.add(&other.times);
    }

    fn extremes(&mut self, least: u64, most: u64) {
        if least != 0 && (self.least == 0 || least < self.least) {
            self.least = least;
        }
        self.most = self.most.max(most);
    }
}

/// The statements of one shape, database and user.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Of the shape; the same in every process of the same version.
    pub fingerprint: u64,
    /// The shape, without literals.
    pub text: String,
    /// The database as clients name it.
    pub database: String,
    /// The user.
    pub user: String,
    /// The schemas that they name, as they are counted.
    pub schemas: Vec<String>,
    /// What they have come to.
    pub figures: Figures,
}

/// What all workers have counted.
#[derive(Debug, Clone, Default)]
pub struct Ranking {
    /// One for each shape, database and user that is in a table.
    pub statements: Vec<Ranked>,
    /// Statements whose shapes have given way to others, and those of which no text is known.
    pub other: Figures,
    /// Rows that have given way to others.
    pub gone: u64,
}

impl Ranking {
    pub(super) fn read(tables: &[Arc<Shown>]) -> Self {
        let mut ranking = Self::default();
        let mut places: HashMap<(u64, Arc<str>, u64), usize> = HashMap::new();
        let mut owners: HashMap<(String, String), u64> = HashMap::new();
        for table in tables {
            let rows: Vec<Arc<Row>> = {
                let rows = table.rows.lock().unwrap_or_else(PoisonError::into_inner);
                ranking.other.read(&table.other);
                ranking.gone += read(&table.gone);
                rows.clone()
            };
            for row in &rows {
                let next = owners.len() as u64;
                let name = (row.owner.database.clone(), row.owner.user.clone());
                let owner = *owners.entry(name).or_insert(next);
                // Two shapes with the same fingerprint are two, as far as one can see.
                let key = (row.shape.fingerprint, Arc::from(&*row.shape.text), owner);
                let place = *places.entry(key).or_insert_with(|| {
                    ranking.statements.push(ranked(row));
                    ranking.statements.len() - 1
                });
                if let Some(known) = ranking.statements.get_mut(place) {
                    known.figures.read(&row.cells);
                    for schema in schemas(row) {
                        if !known.schemas.contains(&schema) {
                            known.schemas.push(schema);
                        }
                    }
                }
            }
        }
        ranking
    }

    /// All of them together.
    pub fn total(&self) -> Figures {
        let mut total = self.other.clone();
        self.statements.iter().for_each(|statement| total.add(&statement.figures));
        total
    }

    /// The first ones in that order.
    pub fn first(&self, order: Order, limit: usize) -> Vec<&Ranked> {
        let mut keyed: Vec<(u64, &Ranked)> =
            self.statements.iter().map(|statement| (order.of(&statement.figures), statement)).collect();
        keyed.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.text.cmp(&second.text)));
        keyed.into_iter().take(limit).map(|(_, statement)| statement).collect()
    }
}

fn ranked(row: &Row) -> Ranked {
    Ranked {
        fingerprint: row.shape.fingerprint,
        text: row.shape.text.to_string(),
        database: row.owner.database.clone(),
        user: row.owner.user.clone(),
        schemas: Vec::new(),
        figures: Figures::default(),
    }
}

fn schemas(row: &Row) -> Vec<String> {
    let Some(roster) = &row.owner.roster else { return Vec::new() };
    let bits = read(&row.schemas);
    let names = roster.names();
    let named = names.iter().enumerate().filter(|(number, _)| bits >> number & 1 == 1);
    named.map(|(_, name)| name.to_string()).collect()
}
