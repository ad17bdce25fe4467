//! Replies in lines that must be the same with and without a proxy. Only what cannot be is left out: process ids, oids
//! of tables, and the places in PostgreSQL's source that errors name.

use crate::support::raw::{Message, Raw, Reply};

/// What a login told of the session.
pub fn welcome(raw: &Raw) -> Vec<String> {
    let mut lines: Vec<_> =
        raw.parameters.iter().map(|(name, value)| format!("S {name} = {value}")).collect();
    lines.sort();
    lines
}

/// A line for each message.
pub fn lines(reply: &Reply) -> Vec<String> {
    let mut lines: Vec<_> = reply.messages.iter().map(line).collect();
    if reply.ended {
        lines.push("the end".to_owned());
    }
    lines
}

fn line(message: &Message) -> String {
    let tag = message.tag as char;
    match message.tag {
        b'E' | b'N' => format!("{tag} {}", fields(message)),
        b'S' => format!("S {} = {}", message.strings(0)[0], message.strings(0)[1]),
        // The process id of the sender comes first.
        b'A' => format!("A {} {}", message.strings(4)[0], message.strings(4)[1]),
        b'T' => format!("T {}", columns(&message.body).join(", ")),
        _ => format!("{tag} {}", message.body.escape_ascii()),
    }
}

fn fields(message: &Message) -> String {
    let fields = message.strings(0);
    // Drivers look for the routine with this one.
    let places: &[_] =
        if fields.iter().any(|field| field == "C0A000") { &['F', 'L'] } else { &['F', 'L', 'R'] };
    let kept = fields.iter().filter(|field| !field.is_empty() && !field.starts_with(places));
    kept.cloned().collect::<Vec<_>>().join(" | ")
}

/// Name, whether it is a table's, column, type, size, modifier and format.
fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == 0).unwrap();
        let (name, tail) = (String::from_utf8_lossy(&rest[..end]), &rest[end + 1..]);
        let (fixed, tail) = tail.split_at(18);
        let table = if fixed[..4] == [0; 4] { "" } else { " of a table" };
        columns.push(format!("{name}{table} {:?}", &fixed[4..]));
        rest = tail;
    }
    columns
}
