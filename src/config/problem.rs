//! What is wrong with a configuration file, and where.
//!
//! Everything that can be found in one reading is found in one reading: a person who mends a file should not be told
//! of the next mistake only after mending the last. No message ever quotes a value that could be a password.

use std::fmt;
use std::path::{Path, PathBuf};

/// Whether a configuration can be used in spite of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The proxy does not start, or does not reload.
    Error,
    /// The file means something, but probably not what was meant.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// The file as it was named to us.
    pub file: PathBuf,
    /// The line, from 1; `None` where it concerns the file as a whole.
    pub line: Option<usize>,
    /// What is wrong, for people.
    pub message: String,
}

/// Everything that was found in one file, by line. Prints one [`Problem`] a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// Collects problems while a file is read. Not `Debug`: the text may hold passwords.
pub(super) struct Found<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Problems {
    /// In the order of the lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At least one problem forbids using the file.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, " {severity}: {}", self.message)
    }
}

impl<'a> Found<'a> {
    /// Nothing yet, in `text`, which is what `file` holds.
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    /// The configuration cannot be used; `at` is a byte offset in the text.
    pub(super) fn error(&mut self, at: usize, message: impl Into<String>) {
        self.push(Severity::Error, Some(at), message.into());
    }

    /// The configuration can be used, but is probably not what was meant.
    pub(super) fn warning(&mut self, at: usize, message: impl Into<String>) {
        self.push(Severity::Warning, Some(at), message.into());
    }

    /// The configuration cannot be used, and no line is to blame.
    pub(super) fn whole_file(&mut self, message: impl Into<String>) {
        self.push(Severity::Error, None, message.into());
    }

    /// The configuration can be used, but as a whole is probably not what was meant.
    pub(super) fn whole_file_warning(&mut self, message: impl Into<String>) {
        self.push(Severity::Warning, None, message.into());
    }

    /// How many problems forbid using the file, so far.
    pub(super) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The file, whose folder is where relative paths in it start.
    pub(super) fn file(&self) -> &'a Path {
        self.file
    }

    /// Everything found, by line.
    pub(super) fn finish(mut self) -> Problems {
        self.problems.sort_by_key(|problem| problem.line);
        Problems(self.problems)
    }

    fn push(&mut self, severity: Severity, at: Option<usize>, message: String) {
        let line = at.map(|at| self.line(at));
        self.problems.push(Problem { severity, file: self.file.to_path_buf(), line, message });
    }
}

/// `; did you mean ...?` with the candidate nearest to `word`, or nothing where none is near.
pub(super) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    // A third of the word may be wrong, as in rustc's own suggestions; letter case costs nothing.
    let limit = word.chars().count().max(3) / 3;
    let folded = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| format!("; did you mean `{candidate}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_candidate_is_offered_and_a_distant_one_is_not() {
        let keys = ["pool_size", "min_size", "mode", "host"];
        for (typed, meant) in
            [("pol_size", "pool_size"), ("mod", "mode"), ("hsot", "host"), ("POOL_SIZE", "pool_size")]
        {
            assert_eq!(did_you_mean(typed, keys), format!("; did you mean `{meant}`?"), "{typed}");
        }
        for typed in ["banana", "x", ""] {
            assert_eq!(did_you_mean(typed, keys), "", "{typed}");
        }
    }

    #[test]
    fn problems_print_one_a_line_in_the_order_of_the_file() {
        let mut found = Found::new(Path::new("a.toml"), "one\ntwo\nthree\n");
        found.warning(8, "third");
        found.error(0, "first");
        found.whole_file("all of it");
        let problems = found.finish();
        assert!(problems.has_errors());
        assert_eq!(
            problems.to_string(),
            "a.toml: error: all of it\na.toml:1: error: first\na.toml:3: warning: third"
        );
    }
}
