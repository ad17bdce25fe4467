//! The rooms of the crate and who may name whom, checked against the sources as text.
//!
//! Rooms stand on floors; a room names only rooms of floors below it, and of those only the ones in this table. A new
//! room has to be added here, with a floor.
//!
//! | floor | room | may name |
//! |---|---|---|
//! | 9 | `main` | `cli` |
//! | 8 | `cli` | `app`, `backend` (to try a login), `config`, `log`, `tls` (to make a certificate) |
//! | 7 | `app` | every room below |
//! | 6 | `admin` | `log`, `metrics`, `secret` |
//! | 6 | `frontend` | `pool`, `notify`, `backend`, `relay`, `schemas`, `spans`, `statement`, `wire`, the ground floor |
//! | 5 | `pool` | `backend`, `schemas`, `statement`, the ground floor |
//! | 5 | `notify` | `backend`, `relay`, `wire`, the ground floor |
//! | 4 | `backend` | `relay`, `statement`, `wire`, and of the ground floor `config`, `error`, `scram`, `stream`, `tls` |
//! | 3 | `relay` | `wire` |
//! | 3 | `schemas` | `statement`, and of the ground floor `metrics` |
//! | 2 | `metrics` | `wire`, `statement`, `error`, `rule`, `tls` |
//! | 2 | `config` | `log`, `spans`, `hba`, `secret`, `scram` |
//! | 1 | `secret` | `scram` |
//! | 1 | `wire` | `fnv` |
//! | 1 | `statement` | `rule`, `fnv` |
//! | 1 | `stream` | `tls` |
//! | 1 | `spans` | `clock` |
//! | 0 | `log`, `hba`, `scram`, `tls`, `clock`, `error`, `rule`, `fnv` | nothing |
//!
//! `metrics`, `config`, `secret` and `stream` count as ground floor for those who name them; `wire` is so pure that it could stand there as well.
//!
//! | crate | may be named in |
//! |---|---|
//! | tokio | everywhere but in `wire`, `relay`, `schemas` and `statement` |
//! | bb8 | `pool` |
//! | pgwire | `frontend`, `backend`, `admin` |
//! | prometheus | `metrics`, and `admin/http.rs` |
//! | pg_raw_parse | `statement` |
//! | rustls, rustls_native_certs, x509_parser, rcgen | `tls` |
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic like tests")]

use std::fs;
use std::path::{Path, PathBuf};

const GROUND: &[&str] = &["metrics", "config", "secret", "scram", "stream", "tls", "clock", "error"];

/// Each room with its floor and the rooms that it may name.
const ROOMS: &[(&str, u8, &[&str])] = &[
    ("main", 9, &["cli"]),
    ("cli", 8, &["app", "backend", "config", "log", "tls"]),
    (
        "app",
        7,
        &[
            "admin", "log", "spans", "frontend", "pool", "notify", "backend", "relay", "wire", "metrics",
            "config", "secret", "scram", "stream", "tls", "clock", "error",
        ],
    ),
    ("admin", 6, &["log", "metrics", "secret"]),
    (
        "frontend",
        6,
        &[
            "pool",
            "notify",
            "backend",
            "relay",
            "schemas",
            "spans",
            "statement",
            "wire",
            "metrics",
            "config",
            "hba",
            "secret",
            "scram",
            "stream",
            "tls",
            "clock",
            "error",
            "rule",
        ],
    ),
    (
        "pool",
        5,
        &[
            "backend",
            "schemas",
            "statement",
            "metrics",
            "config",
            "secret",
            "scram",
            "stream",
            "tls",
            "clock",
            "error",
        ],
    ),
    (
        "notify",
        5,
        &[
            "backend", "relay", "wire", "metrics", "config", "secret", "scram", "stream", "tls", "clock",
            "error",
        ],
    ),
    ("backend", 4, &["relay", "statement", "wire", "config", "error", "secret", "scram", "stream", "tls"]),
    ("relay", 3, &["wire"]),
    ("schemas", 3, &["statement", "metrics"]),
    ("metrics", 2, &["wire", "statement", "error", "rule", "tls"]),
    ("wire", 1, &["fnv"]),
    ("statement", 1, &["rule", "fnv"]),
    ("config", 2, &["log", "spans", "hba", "secret", "scram", "tls"]),
    ("secret", 1, &["scram"]),
    ("stream", 1, &["tls"]),
    ("spans", 1, &["clock"]),
    ("log", 0, &[]),
    ("hba", 0, &[]),
    ("scram", 0, &[]),
    ("tls", 0, &[]),
    ("clock", 0, &[]),
    ("error", 0, &[]),
    ("rule", 0, &[]),
    ("fnv", 0, &[]),
];

/// Crates that have doors, and where those are: rooms, or files.
const DOORS: &[(&str, &[&str])] = &[
    ("bb8", &["pool"]),
    ("pgwire", &["frontend", "backend", "admin"]),
    ("prometheus", &["metrics", "admin/http.rs"]),
    ("pg_raw_parse", &["statement"]),
    ("rustls", &["tls"]),
    ("rustls_native_certs", &["tls"]),
    ("x509_parser", &["tls"]),
    ("rcgen", &["tls"]),
];

/// Rooms that are pure: no sockets, no clock.
const WITHOUT_TOKIO: &[&str] = &["wire", "relay", "schemas", "statement"];

/// Rooms that have secrets, and the words of what may not be compared there byte by byte until one differs: how long that
/// takes tells how much of a guess is right. `constant_time` and `Secret::is` compare them.
const SECRETIVE: &[&str] = &["secret", "scram", "config", "pool", "backend", "frontend", "admin"];
const SECRETS: &[&str] =
    &["expose", "secret", "token", "password", "proof", "signature", "stored", "digits", "hash", "keys"];

/// Lines of a file, its inline tests not counted.
const LONGEST_FILE: usize = 450;

/// The source without comments, and without what stands in string and character literals. Lines stay where they are.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let previous = code.chars().next_back();
        let fresh = !previous.is_some_and(|before| before.is_alphanumeric() || before == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            end_of_block_comment(rest)
        } else if first == '"' {
            end_of_string(&rest[1..]) + 1
        } else if fresh && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br")) {
            end_of_raw_string(rest)
        } else if first == '\'' {
            end_of_character(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|&character| character == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

fn end_of_block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Behind the closing quote of a string whose opening quote was taken.
fn end_of_string(text: &str) -> usize {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string, or 0 if there is none here.
fn end_of_raw_string(text: &str) -> usize {
    let start = text.strip_prefix("br").or_else(|| text.strip_prefix('r')).unwrap_or(text);
    let hashes = start.len() - start.trim_start_matches('#').len();
    if !start[hashes..].starts_with('"') {
        return 0;
    }
    let opening = text.len() - start.len() + hashes + 1;
    let closing = format!("\"{}", "#".repeat(hashes));
    text[opening..].find(&closing).map_or(text.len(), |at| opening + at + closing.len())
}

/// The length of a character literal, or 0 for a lifetime.
fn end_of_character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The text behind each place where `word` stands as a word of its own.
fn behind<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = &'c str> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let rest = &code[at + word.len()..];
        let alone =
            !code[..at].chars().next_back().is_some_and(is_word) && !rest.chars().next().is_some_and(is_word);
        alone.then_some(rest)
    })
}

/// The first names of a path behind `crate`: one, or several in braces.
fn first_names(path: &str) -> Vec<String> {
    let Some(path) = path.trim_start().strip_prefix("::") else { return Vec::new() };
    let path = path.trim_start();
    let word = |text: &str| text.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut names) = (0, vec![word(group)]);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The rooms that a file names. `file` is its path below `src/`.
fn named_rooms(file: &str, code: &str) -> Vec<String> {
    let mut names: Vec<String> = behind(code, "crate").flat_map(first_names).collect();
    // `super` as often as the file lies deep is the crate as well.
    let depth = file.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count();
    let to_the_top = vec!["super"; depth].join("::");
    let known = |name: &String| ROOMS.iter().any(|(room, ..)| room == name);
    names.extend(behind(code, &to_the_top).flat_map(first_names).filter(known));
    if file == "main.rs" {
        names.extend(behind(code, "firepool").flat_map(first_names));
    }
    names
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The lines before the inline tests.
fn lines_without_tests(source: &str) -> usize {
    let lines: Vec<&str> = source.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

/// Everything that is wrong with one file.
fn complaints(file: &str, source: &str) -> Vec<String> {
    let (room, code) = (room_of(file), code_of(source));
    let mut found = Vec::new();
    if file != "lib.rs" {
        match ROOMS.iter().find(|(name, ..)| *name == room) {
            None => found.push(format!("{file}: the room `{room}` has no floor")),
            Some((_, _, allowed)) => {
                for name in named_rooms(file, &code) {
                    if name != room && !allowed.contains(&name.as_str()) {
                        found.push(format!("{file}: `{room}` may not name `{name}`"));
                    }
                }
            }
        }
    }
    for (name, doors) in DOORS {
        let open = doors.iter().any(|door| *door == room || *door == file);
        if !open && is_used(&code, name) {
            found.push(format!("{file}: {name} has no door here"));
        }
    }
    if SECRETIVE.contains(&room) {
        for operand in hasty_comparisons(&code_of(without_tests(source))) {
            found.push(format!("{file}: `{}` is compared, and not in constant time", operand.trim()));
        }
    }
    if WITHOUT_TOKIO.contains(&room) && is_used(&code, "tokio") {
        found.push(format!("{file}: `{room}` does without tokio"));
    }
    if behind(&code, "unsafe").next().is_some() {
        found.push(format!("{file}: unsafe"));
    }
    if matches!(file, "lib.rs" | "main.rs") && !source.contains("#![forbid(unsafe_code)]") {
        found.push(format!("{file}: does not forbid unsafe code"));
    }
    let only_tests = file.ends_with("tests.rs");
    if !only_tests && lines_without_tests(source) > LONGEST_FILE {
        found.push(format!("{file}: {} lines", lines_without_tests(source)));
    }
    let is_door_plate = file.ends_with("/mod.rs") || !file.contains('/');
    if is_door_plate && !source.starts_with("//!") {
        found.push(format!("{file}: does not open with what it promises"));
    }
    found
}

/// The source before its inline tests.
fn without_tests(source: &str) -> &str {
    source.find("#[cfg(test)]\nmod ").map_or(source, |at| &source[..at])
}

/// What is compared with `==` or `!=`, and is a secret by its name: the operands in which a word of [`SECRETS`] stands, but
/// not those about a length or about whether there is one.
fn hasty_comparisons(code: &str) -> Vec<String> {
    let ends = |c: char| matches!(c, '&' | '|' | ',' | ';' | '{' | '}' | '=' | '?' | '\n');
    let is_secret = |operand: &str| {
        let harmless = [".len()", ".is_none()", ".is_some()", ".is_empty()"];
        !harmless.iter().any(|end| operand.trim_end_matches([' ', ')']).ends_with(end.trim_end_matches(')')))
            && SECRETS.iter().any(|word| behind(operand, word).next().is_some())
    };
    let mut found = Vec::new();
    for operator in ["==", "!="] {
        for (at, _) in code.match_indices(operator) {
            let before = &code[..at].trim_end_matches(['?', ' ']);
            let left = before.rfind(ends).map_or(*before, |end| &before[end..]);
            let behind = code[at + operator.len()..].trim_start_matches([' ', '&', '*']);
            let right = behind.find(ends).map_or(behind, |end| &behind[..end]);
            found
                .extend([left, right].iter().filter(|operand| is_secret(operand)).map(|it| (*it).to_owned()));
        }
    }
    found
}

/// Whether a path starts at the crate `name`, or it is imported or renamed.
fn is_used(code: &str, name: &str) -> bool {
    let imported = |rest: &str| rest.starts_with(';') || rest.trim_start().starts_with("as ");
    // A field or method of that name is none.
    let field = format!(".{name}");
    let uses =
        behind(code, name).filter(|rest| rest.trim_start().starts_with("::") || imported(rest)).count();
    uses > code.matches(&format!("{field}::")).count()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_its_floor_its_doors_and_its_size() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 40, "the sources were not found");
    let found: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let file = path.strip_prefix(&src).unwrap().to_str().unwrap();
            complaints(file, &fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_table_of_rooms_has_only_arrows_that_point_down() {
    let floor =
        |name: &str| ROOMS.iter().find(|(room, ..)| *room == name).map(|(_, floor, _)| *floor).unwrap();
    for (room, own, allowed) in ROOMS {
        for name in *allowed {
            // `metrics` names `error`, and is ground floor for everybody else.
            assert!(floor(name) < *own, "{room} -> {name}");
        }
    }
    for room in ["frontend", "pool", "notify"] {
        let allowed = ROOMS.iter().find(|(name, ..)| *name == room).unwrap().2;
        assert!(GROUND.iter().all(|ground| allowed.contains(ground)), "{room}");
    }
}

#[test]
fn clippy_bounds_the_length_of_functions() {
    let settings = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("clippy.toml")).unwrap();
    assert!(settings.lines().any(|line| line == "too-many-lines-threshold = 70"));
}

#[test]
fn an_upward_or_sideways_import_is_found_however_it_is_written() {
    for (file, source) in [
        ("relay/reply.rs", "use crate::backend::ServerConn;"),
        ("relay/reply.rs", "use super::super::backend::ServerConn;"),
        ("relay/mod.rs", "//! x\nuse super::backend::ServerConn;"),
        ("relay/reply.rs", "fn f() { crate :: pool :: Pool::new() }"),
        ("wire/turn.rs", "use crate::error::ErrorKind;"),
        ("wire/turn.rs", "use crate::{wire::frame, error::ErrorKind};"),
        ("wire/turn.rs", "use crate::{\n    wire::{frame, tag},\n    error,\n};"),
        ("admin/http.rs", "use crate::frontend::Shared;"),
        ("frontend/login.rs", "use crate::admin::http;"),
        ("config/mod.rs", "//! x\nuse crate::metrics::Metrics;"),
        ("main.rs", "//! x\n#![forbid(unsafe_code)]\nfn main() { firepool::app::run() }"),
        ("cellar/mod.rs", "//! x"),
    ] {
        assert_eq!(complaints(file, source).len(), 1, "{file}: {source}");
    }
}

#[test]
fn what_is_allowed_and_what_only_looks_forbidden_passes() {
    for (file, source) in [
        ("relay/reply.rs", "use crate::wire::{frame, turn};"),
        ("relay/reply.rs", "// use crate::backend;\n/* crate::backend /* tokio::x */ unsafe */"),
        (
            "relay/reply.rs",
            "const A: &str = \"crate::backend \\\" unsafe\"; const B: &str = r#\"tokio::x\"#;",
        ),
        ("relay/reply.rs", "fn f<'a>(x: &'a str) { g('\"', '\\'', b'\"', \"crate::pool\") }"),
        ("relay/mod.rs", "//! x\npub mod reply;\nuse reply::backend;"),
        ("frontend/auth.rs", "use pgwire::messages::Message;\nuse crate::pool::Pool;"),
        ("admin/http.rs", "use prometheus::Error;\nuse crate::metrics::Metrics;"),
        ("pool/mod.rs", "//! x\nfn f(&self) { self.bb8.state() }"),
        ("scram.rs", "//! x\n#![deny(unsafe_code)]"),
    ] {
        assert_eq!(complaints(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn a_crate_behind_the_wrong_door_is_found() {
    for (file, source) in [
        ("wire/frame.rs", "use tokio::net::TcpStream;"),
        ("statement/cache.rs", "use tokio::time::Instant;"),
        ("relay/request.rs", "use pg_raw_parse::parse;"),
        ("relay/reply.rs", "async fn f() { tokio::time::sleep(d).await }"),
        ("backend/mod.rs", "//! x\nuse bb8::Pool;"),
        ("pool/manager.rs", "use pgwire::messages::Message;"),
        ("pool/manager.rs", "use prometheus as p;"),
        ("admin/console.rs", "use prometheus::Encoder;"),
    ] {
        assert_eq!(complaints(file, source).len(), 1, "{file}: {source}");
    }
}

#[test]
fn a_comparison_of_secrets_that_takes_longer_the_more_is_right_is_found() {
    for source in [
        "fn f() { if self.token == shown { g() } }",
        "fn f() -> bool { a && secret.expose() != other }",
        "fn f() -> bool { row.name?.expose() != user }",
        "fn f() -> bool { other.as_bytes() == self.secret.as_bytes() }",
        "fn f() -> bool { **stored == [0; 32] }",
        "fn f() -> bool { &signature == &self.server_signature }",
        "fn f() -> bool { known.iter().any(|keys| *keys == shown) }",
    ] {
        assert_eq!(complaints("frontend/auth.rs", source).len(), 1, "{source}");
        assert_eq!(complaints("statement/words.rs", source).len(), 0, "{source}");
    }
    for source in [
        "fn f() -> bool { left.keys.len() == right.keys.len() && self.salt == salt }",
        "fn f() -> bool { self.token.is_none() != token.is_none() }",
        "fn f() -> bool { name == \"password\" } // secret == secret",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n fn g() { assert!(secret == secret) }\n}",
    ] {
        assert_eq!(complaints("frontend/auth.rs", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn unsafe_code_long_files_and_rooms_without_a_door_plate_are_found() {
    assert_eq!(complaints("pool/lease.rs", "fn f() { unsafe { g() } }").len(), 1);
    assert_eq!(complaints("lib.rs", "//! x").len(), 1);
    assert_eq!(complaints("pool/mod.rs", "use std::fmt;").len(), 1);
    let line = "fn f() {}\n";
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(500));
    assert_eq!(complaints("pool/lease.rs", &line.repeat(451)).len(), 1);
    assert_eq!(complaints("pool/lease.rs", &(line.repeat(450) + &tests)).len(), 0);
    assert_eq!(complaints("pool/queue_tests.rs", &line.repeat(700)).len(), 0);
}
