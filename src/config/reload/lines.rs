//! What is said of a reload, a line for each change.

use std::fmt;

use super::{Changes, Delta, KeyChange, applied};

/// One line of what a reload comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What has changed.
    pub text: String,
    /// Whether a running process takes it over; otherwise it counts from the next start on.
    pub is_applied: bool,
}

impl Changes {
    /// Every change, and whether a running process takes it over.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        describe(("routes", "route for"), &self.routes, &mut lines);
        describe(("users", "user"), &self.users, &mut lines);
        describe(("databases", "database"), &self.databases, &mut lines);
        describe(("targets", "target"), &self.targets, &mut lines);
        let (applied, others): (Vec<_>, Vec<_>) = self.keys.iter().partition(|change| change.is_applied);
        let line = |change: &KeyChange| Line { text: change.to_string(), is_applied: change.is_applied };
        lines.extend(applied.into_iter().chain(others).map(line));
        lines
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = if self.is_applied { "" } else { " (needs a restart)" };
        write!(f, "{}{waits}", self.text)
    }
}

/// One line a change, without a newline at the end; `nothing changed` if there is none.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.lines().iter().map(Line::to_string).collect();
        f.write_str(if lines.is_empty() { "nothing changed" } else { "" })?;
        f.write_str(&lines.join("\n"))
    }
}

/// The lines of one table: whether somebody came or went is applied as the whole table is, and keys by themselves.
fn describe<K: fmt::Display>((table, what): (&str, &str), delta: &Delta<K>, lines: &mut Vec<Line>) {
    let mut add = |text: String, is_applied: bool| lines.push(Line { text, is_applied });
    let whole = applied::by_reload("", table);
    delta.added.iter().for_each(|key| add(format!("{what} {key} added"), whole));
    delta.removed.iter().for_each(|key| add(format!("{what} {key} removed"), whole));
    for (key, changes) in &delta.changed {
        let (applied, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.is_applied);
        for (changes, is_applied) in [(applied, true), (others, false)] {
            let changes: Vec<_> = changes.iter().map(|change| change.to_string()).collect();
            if !changes.is_empty() {
                add(format!("{what} {key}: {}", changes.join(", ")), is_applied);
            }
        }
    }
}
