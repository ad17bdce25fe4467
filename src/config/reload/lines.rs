//! What is said of a reload, a line for each change.

use std::fmt;

use super::{Changes, Delta};

/// One line of what a reload comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What has changed.
    pub text: String,
    /// Whether a running process takes it over; otherwise it counts from the next start on.
    pub is_applied: bool,
}

/// Keys outside of tables with names that a running process takes over, beside all of `[tls]`.
const APPLIED: [&str; 7] = [
    "log.filter",
    "log.repeats",
    "authentication.max_logins",
    "authentication.failed_logins",
    "authentication.failed_logins_within",
    "authentication.rules",
    "proxy.login_timeout",
];

impl Changes {
    /// Every change, and whether a running process takes it over: `App::reload` takes over how clients log in.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        describe("route for", &self.routes, false, &mut lines);
        describe("user", &self.users, true, &mut lines);
        describe("database", &self.databases, false, &mut lines);
        describe("target", &self.targets, false, &mut lines);
        lines.extend(self.settings.iter().map(|change| Line {
            text: change.to_string(),
            is_applied: change.key.starts_with("tls.") || APPLIED.contains(&change.key),
        }));
        lines.extend(self.restart.iter().map(|change| Line { text: change.to_string(), is_applied: false }));
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

/// Of what is applied, secrets are, and that somebody came or went; limits are not.
fn describe<K: fmt::Display>(what: &str, delta: &Delta<K>, is_applied: bool, lines: &mut Vec<Line>) {
    let mut add = |text: String, is_applied: bool| lines.push(Line { text, is_applied });
    delta.added.iter().for_each(|key| add(format!("{what} {key} added"), is_applied));
    delta.removed.iter().for_each(|key| add(format!("{what} {key} removed"), is_applied));
    for (key, changes) in &delta.changed {
        let (secret, open): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.values.is_none());
        for (changes, is_applied) in [(secret, is_applied), (open, false)] {
            let changes: Vec<_> = changes.iter().map(|change| change.to_string()).collect();
            if !changes.is_empty() {
                add(format!("{what} {key}: {}", changes.join(", ")), is_applied);
            }
        }
    }
}
