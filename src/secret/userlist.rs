//! PgBouncer's `userlist.txt`: on each line a name and what is known of its password, both in double quotes.

use std::collections::HashSet;

use super::{Credential, Secret};
use crate::scram::ScramError;

/// `MAX_USERNAME` and `MAX_PASSWORD` of PgBouncer's `include/bouncer.h` are of this order; longer ones are a mistake.
const LONGEST: usize = 2048;

/// One line.
#[derive(Debug)]
pub struct Entry {
    /// The user.
    pub name: String,
    /// Its password; `None` for `""`, which lets nobody in.
    pub credential: Option<Credential>,
}

/// What is wrong with a line. The line itself is never quoted: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct UserlistError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads the whole file: lines of `"name" "password"`, empty ones, and comments behind `;`. A double quote within
/// quotes is written twice. What stands behind the second text of a line is left out, as PgBouncer does.
///
/// # Errors
/// The first line that is wrong. PgBouncer leaves such lines out; here a user who cannot log in is found out at the start.
pub fn userlist(text: &str) -> Result<Vec<Entry>, UserlistError> {
    let (mut entries, mut names) = (Vec::new(), HashSet::new());
    for (at, line) in text.lines().enumerate() {
        let wrong = |problem: &str| UserlistError { line: at + 1, problem: problem.to_owned() };
        let rest = line.trim_start();
        if rest.is_empty() || rest.starts_with(';') {
            continue;
        }
        let (name, rest) = quoted(rest).ok_or_else(|| wrong("a name in double quotes is due"))?;
        let rest = rest.trim_start();
        let (password, _) = quoted(rest).ok_or_else(|| wrong("a password in double quotes is due"))?;
        let name = name.expose();
        if name.is_empty() || name.len() > LONGEST || password.expose().len() > LONGEST {
            return Err(wrong("the name is empty, or the name or the password too long"));
        }
        if !names.insert(name.to_owned()) {
            return Err(wrong(&format!("a second line for user `{name}`")));
        }
        let credential = if password.expose().is_empty() {
            None
        } else {
            Some(Credential::read(password).map_err(|error| match error {
                ScramError::TooLarge => {
                    wrong("the SCRAM verifier has too many iterations or too long a salt")
                }
                _ => wrong("it begins like a SCRAM verifier and is none"),
            })?)
        };
        entries.push(Entry { name: name.to_owned(), credential });
    }
    Ok(entries)
}

/// A text in double quotes at the start, and what is behind it.
fn quoted(text: &str) -> Option<(Secret, &str)> {
    let mut rest = text.strip_prefix('"')?;
    // As long as it can become, so that no copy is left behind in memory.
    let mut value = zeroize::Zeroizing::new(String::with_capacity(rest.len()));
    loop {
        let end = rest.find('"')?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(behind) => {
                value.push('"');
                rest = behind;
            }
            None => return Some((Secret(value), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Option<String>)> {
        let entries = userlist(text).unwrap().into_iter();
        let password = |entry: &Entry| {
            entry.credential.as_ref().and_then(Credential::password).map(|secret| secret.expose().to_owned())
        };
        entries.map(|entry| (entry.name.clone(), password(&entry))).collect()
    }

    #[test]
    fn names_and_passwords_are_read_with_their_quotes() {
        let pair = |name: &str, password: &str| (name.to_owned(), Some(password.to_owned()));
        assert_eq!(
            read("\"a\" \"x\"\n\n; a comment\n  \"b\"\t\"y\" extra\r\n"),
            [pair("a", "x"), pair("b", "y")]
        );
        assert_eq!(read(r#""a ""b""" "x""y;z # w""#), [pair("a \"b\"", "x\"y;z # w")]);
        assert_eq!(read(r#""a" "back\slash""#), [pair("a", "back\\slash")]);
        assert_eq!(read("\"nobody\" \"\""), [("nobody".to_owned(), None)]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn hashes_are_known_by_their_form() {
        let entries = userlist("\"a\" \"md50123456789abcdef0123456789abcdef\"").unwrap();
        assert!(matches!(entries[0].credential, Some(Credential::Md5(_))));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_not_quoted() {
        for (text, line) in [
            ("a b", 1),
            ("\"a\"", 1),
            ("\"a\" \"hidden", 1),
            ("\"a\" hidden", 1),
            ("\"ok\" \"x\"\n\"\" \"hidden\"", 2),
            ("\"a\" \"hidden\"\n\"a\" \"hidden\"", 2),
            ("\"a\" \"SCRAM-SHA-256$hidden\"", 1),
        ] {
            let error = userlist(text).map(|_| ()).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
        assert!(userlist(&format!("\"a\" \"{}\"", "x".repeat(3000))).is_err());
    }
}
