//! The format of `pg_hba.conf`, with the lexer's corners of `next_token` in PostgreSQL's `src/backend/libpq/hba.c`:
//! white space separates, commas make lists, quotes keep both and `#`, a doubled quote within quotes is one, and a
//! backslash at the end of a line continues it.

use std::net::IpAddr;

use super::{Fields, Rule, Word};

/// Rules of one file. PostgreSQL has no limit; every login walks over them.
const MOST: usize = 10_000;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct HbaError {
    /// From 1; the first one of a line that was continued.
    pub line: usize,
    /// In words.
    pub problem: String,
}

/// Reads a whole file.
///
/// # Errors
/// Everything that is wrong or not supported, one for each line.
pub fn parse(text: &str) -> Result<Vec<Rule>, Vec<HbaError>> {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for (line, text) in logical_lines(text) {
        let rule = match fields(&text) {
            Ok(fields) if fields.is_empty() => continue,
            Ok(fields) => rule(line, fields),
            Err(problem) => Err(problem),
        };
        match rule {
            Ok(_) if rules.len() >= MOST => {
                errors.push(HbaError { line, problem: format!("more than {MOST} rules") });
                break;
            }
            Ok(rule) => rules.push(rule),
            Err(problem) => errors.push(HbaError { line, problem }),
        }
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// Lines with those that continue them, each with the number of its first one.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (at, line) in text.lines().enumerate() {
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, before)) if continued => before.push_str(line),
            _ => lines.push((at + 1, line.to_owned())),
        }
        continued = goes_on;
    }
    lines
}

/// The fields of a line, each a list of words.
fn fields(line: &str) -> Result<Vec<Vec<Word>>, String> {
    let blank = |character: char| matches!(character, ' ' | '\t' | '\r');
    let mut characters = line.chars().peekable();
    let (mut fields, mut field) = (Vec::new(), Vec::new());
    loop {
        while characters.next_if(|&next| blank(next) || next == ',').is_some() {}
        if characters.peek().is_none_or(|&next| next == '#') {
            break;
        }
        let mut word = Word { text: String::new(), quoted: false };
        let mut comma = false;
        while let Some(&next) = characters.peek() {
            if blank(next) || next == '#' {
                break;
            }
            characters.next();
            match next {
                ',' => {
                    comma = true;
                    break;
                }
                '"' => {
                    word.quoted |= word.text.is_empty();
                    quoted(&mut characters, &mut word.text)?;
                }
                other => word.text.push(other),
            }
        }
        field.push(word);
        if !comma {
            fields.push(std::mem::take(&mut field));
        }
    }
    if !field.is_empty() {
        fields.push(field);
    }
    Ok(fields)
}

fn quoted(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    text: &mut String,
) -> Result<(), String> {
    while let Some(next) = characters.next() {
        match next {
            '"' if characters.next_if_eq(&'"').is_some() => text.push('"'),
            '"' => return Ok(()),
            other => text.push(other),
        }
    }
    Err("a quote is not closed".to_owned())
}

fn rule(place: usize, fields: Vec<Vec<Word>>) -> Result<Rule, String> {
    let mut rest = fields.into_iter();
    let mut connection = one("type", rest.next())?.text;
    connection.make_ascii_lowercase();
    if connection.starts_with("include") {
        return Rule::new(&Fields { place, connection, ..Fields::default() });
    }
    let databases = rest.next().ok_or("the rule ends before its database")?;
    let users = rest.next().ok_or("the rule ends before its user")?;
    let mut addresses = Vec::new();
    if connection != "local" {
        let address = one("address", rest.next())?;
        let bare = !address.quoted && !address.text.contains('/') && address.text.parse::<IpAddr>().is_ok();
        let mask = if bare { Some(one("mask", rest.next())?.text) } else { None };
        addresses.push((address, mask));
    }
    let method = one("method", rest.next())?.text;
    let options = rest.flatten().map(|word| word.text).collect();
    Rule::new(&Fields { place, connection, databases, users, addresses, method, options })
}

fn one(what: &str, field: Option<Vec<Word>>) -> Result<Word, String> {
    match field.as_deref() {
        None | Some([]) => Err(format!("the rule ends before its {what}")),
        Some([word]) => Ok(word.clone()),
        Some(_) => Err(format!("the {what} of a rule is one word, not a list")),
    }
}
