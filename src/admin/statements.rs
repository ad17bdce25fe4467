//! The statements that take the most, as `/statements.json` for machines and `/statements.txt` for people.
//!
//! Both take `order` (`total`, `mean`, `calls`, `p99`, `rows`, `errors`, `wait`; `total` by default) and `limit` (1 to 500,
//! 50 by default). Texts are without literals, and times are in seconds in JSON. What a table had no place for is
//! `other`, and `total` is everything, so that sums stay true.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::metrics::{Figures, Order, Ranked, Ranking};

/// Statements that are shown, by default and at most.
const SHOWN: usize = 50;
const MOST: usize = 500;

/// Characters of a text in a line for people.
const WIDTH: usize = 100;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    order: Order,
    limit: usize,
}

impl Wish {
    /// From the part of an address behind its `?`.
    ///
    /// # Errors
    /// What is wrong with it, for whoever asked.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut wish = Self { order: Order::Total, limit: SHOWN };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("order", name) => {
                    let known = Order::ALL.into_iter().find(|order| order.as_str() == name);
                    wish.order = known.ok_or_else(|| {
                        let names = Order::ALL.map(Order::as_str).join(", ");
                        format!("order is one of {names}\n")
                    })?;
                }
                ("limit", number) => {
                    let limit = number.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    wish.limit = limit.ok_or_else(|| format!("limit is a number from 1 to {MOST}\n"))?;
                }
                _ => return Err("only order and limit\n".into()),
            }
        }
        Ok(wish)
    }
}

#[derive(Serialize)]
struct Page<'r> {
    /// By what they are ordered.
    order: &'static str,
    limit: usize,
    /// Shapes that there are, by database and user.
    shapes: usize,
    /// Shapes that have given way to others.
    gone: u64,
    total: Sums,
    other: Sums,
    statements: Vec<Line<'r>>,
}

#[derive(Serialize)]
struct Sums {
    calls: u64,
    errors: u64,
    rows: u64,
    total_seconds: f64,
    mean_seconds: Option<f64>,
    min_seconds: Option<f64>,
    max_seconds: Option<f64>,
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    waits: u64,
    wait_seconds: f64,
}

#[derive(Serialize)]
struct Line<'r> {
    /// 16 digits.
    fingerprint: String,
    statement: &'r str,
    database: &'r str,
    user: &'r str,
    schemas: &'r [String],
    #[serde(flatten)]
    sums: Sums,
}

impl Sums {
    fn of(figures: &Figures) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Self {
            calls: figures.calls,
            errors: figures.errors,
            rows: figures.rows,
            total_seconds: figures.total().as_secs_f64(),
            mean_seconds: seconds(figures.mean()),
            min_seconds: seconds(figures.min()),
            max_seconds: seconds(figures.max()),
            p50_seconds: seconds(figures.quantile(500)),
            p95_seconds: seconds(figures.quantile(950)),
            p99_seconds: seconds(figures.quantile(990)),
            waits: figures.waits,
            wait_seconds: figures.waited().as_secs_f64(),
        }
    }
}

fn line(ranked: &Ranked) -> Line<'_> {
    Line {
        fingerprint: format!("{:016x}", ranked.fingerprint),
        statement: &ranked.text,
        database: &ranked.database,
        user: &ranked.user,
        schemas: &ranked.schemas,
        sums: Sums::of(&ranked.figures),
    }
}

/// As one JSON object.
///
/// # Errors
/// None that its types allow.
pub(super) fn json(ranking: &Ranking, wish: &Wish) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Page {
        order: wish.order.as_str(),
        limit: wish.limit,
        shapes: ranking.statements.len(),
        gone: ranking.gone,
        total: Sums::of(&ranking.total()),
        other: Sums::of(&ranking.other),
        statements: ranking.first(wish.order, wish.limit).into_iter().map(line).collect(),
    })
}

/// Headings of the table for people.
const HEADINGS: [&str; 13] = [
    "calls",
    "errors",
    "rows",
    "total ms",
    "mean ms",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "max ms",
    "waits",
    "wait ms",
    "whose",
    "statement",
];

/// As a table with aligned columns, times in milliseconds.
pub(super) fn text(ranking: &Ranking, wish: &Wish) -> String {
    let first = ranking.first(wish.order, wish.limit);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for ranked in &first {
        let schemas = ranked.schemas.join(",");
        // Whoever may make a schema chooses its name, which is not to begin another line.
        let whose = format!("{}/{} {schemas}", ranked.database, ranked.user).replace(char::is_control, " ");
        rows.push(row(&ranked.figures, whose, shortened(&ranked.text)));
    }
    rows.push(row(&ranking.other, String::new(), "(other)".into()));
    rows.push(row(&ranking.total(), String::new(), "(total)".into()));
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    // writing to a String cannot fail
    let mut page = String::new();
    let (shown, all) = (first.len(), ranking.statements.len());
    let _ = writeln!(page, "{shown} of {all} shapes of statements, by {}", wish.order.as_str());
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0..11 => write!(page, "{cell:>width$}  "),
                11 => write!(page, "{cell:<width$}  "),
                _ => writeln!(page, "{cell}"),
            };
        }
    }
    page
}

fn row(figures: &Figures, whose: String, text: String) -> [String; HEADINGS.len()] {
    let millis = |time: Duration| format!("{:.3}", time.as_secs_f64() * 1e3);
    let or_none = |time: Option<Duration>| time.map_or_else(|| "-".into(), millis);
    [
        figures.calls.to_string(),
        figures.errors.to_string(),
        figures.rows.to_string(),
        millis(figures.total()),
        or_none(figures.mean()),
        or_none(figures.quantile(500)),
        or_none(figures.quantile(950)),
        or_none(figures.quantile(990)),
        or_none(figures.max()),
        figures.waits.to_string(),
        millis(figures.waited()),
        whose,
        text,
    ]
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(texts: &[&str]) -> Ranking {
        let mut figures = Figures::default();
        (figures.calls, figures.rows) = (3, 6);
        let ranked = |text: &&str| Ranked {
            fingerprint: 10,
            text: (*text).into(),
            database: "db\"x".into(),
            user: "user".into(),
            schemas: vec!["wm".into(), "entity".into()],
            figures: figures.clone(),
        };
        Ranking { statements: texts.iter().map(ranked).collect(), ..Ranking::default() }
    }

    #[test]
    fn what_is_asked_for_is_read_and_what_is_wrong_is_said() {
        assert_eq!(Wish::read(""), Ok(Wish { order: Order::Total, limit: SHOWN }));
        assert_eq!(Wish::read("order=p99&limit=3"), Ok(Wish { order: Order::P99, limit: 3 }));
        for (query, said) in [
            ("order=", "order is one of total"),
            ("limit=0", "from 1 to 500"),
            ("limit=501", "from 1 to 500"),
            ("limit=99999999999999999999", "from 1 to 500"),
            ("other=1", "only order"),
        ] {
            assert!(Wish::read(query).unwrap_err().contains(said), "{query}");
        }
    }

    #[test]
    fn json_has_figures_of_each_statement_of_others_and_of_all() {
        let wish = Wish::read("limit=1").unwrap();
        let page = json(&ranking(&["select \"a\\b\"", "select c"]), &wish).unwrap();
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        assert_eq!(
            (&page["shapes"], &page["total"]["calls"], &page["other"]["calls"]),
            (&2.into(), &6.into(), &0.into())
        );
        let [statement] = &page["statements"].as_array().unwrap()[..] else { panic!("{page}") };
        assert_eq!(statement["statement"], "select \"a\\b\"");
        assert_eq!(statement["fingerprint"], "000000000000000a");
        assert_eq!((&statement["calls"], &statement["rows"]), (&3.into(), &6.into()));
        assert_eq!(statement["database"], "db\"x");
        assert_eq!(statement["schemas"].as_array().unwrap().len(), 2);
        assert!(statement["p99_seconds"].is_null() && statement["total_seconds"] == 0.0);
    }

    #[test]
    fn a_name_begins_no_line_and_commands_no_terminal() {
        let mut ranking = ranking(&["select a"]);
        ranking.statements[0].schemas = vec!["x\n9999  0".into(), "y\u{1b}[2J\u{9b}2J".into()];
        let page = text(&ranking, &Wish::read("").unwrap());
        assert_eq!(page.lines().count(), 5, "{page}");
        assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{page:?}");
    }

    #[test]
    fn columns_are_aligned_and_long_texts_are_cut() {
        let long = "é".repeat(300);
        let page = text(&ranking(&["select a", &long]), &Wish::read("").unwrap());
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "2 of 2 shapes of statements, by total");
        let column = lines[1].find("statement").unwrap();
        assert!(lines[2][column..].starts_with("select a"), "{page}");
        assert!(lines[3].ends_with("é ...") && lines[3].chars().count() < column + WIDTH + 5);
        assert!(lines[4].ends_with("(other)") && lines[5].ends_with("(total)"));
    }
}
