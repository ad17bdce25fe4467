//! Messages as bytes.

use std::io::{self, Read};

/// One message: a type byte, a length that counts itself, a body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// Parse, Bind, Describe and Execute of the unnamed statement, with their Sync.
pub fn extended(sql: &str) -> Vec<u8> {
    [
        message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat()),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat()
}

/// A packet without a type byte: a length, a code, the rest.
pub fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
    [&(rest.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

/// The startup packet of protocol 3.0.
pub fn startup(parameters: &[(&[u8], &[u8])]) -> Vec<u8> {
    startup_of(0, parameters)
}

/// NegotiateProtocolVersion.
pub fn negotiate(version: u32, options: &[&str]) -> Vec<u8> {
    let mut body = [version, options.len() as u32].map(u32::to_be_bytes).concat();
    options.iter().for_each(|option| body.extend([option.as_bytes(), b"\0"].concat()));
    message(b'v', &body)
}

/// CancelRequest with this process id and secret.
pub fn cancel(key: &[u8]) -> Vec<u8> {
    packet(80_877_102, key)
}

/// The startup packet of this minor version of protocol 3.
pub fn startup_of(minor: u32, parameters: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut rest = Vec::new();
    for (name, value) in parameters {
        rest.extend([*name, b"\0", *value, b"\0"].concat());
    }
    rest.push(0);
    packet(3 << 16 | minor, &rest)
}

/// RowDescription of one text column.
pub fn description() -> Vec<u8> {
    message(b'T', b"\0\x01column\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0")
}

/// DataRow of one column.
pub fn row(value: &[u8]) -> Vec<u8> {
    message(b'D', &[&1_u16.to_be_bytes()[..], &(value.len() as u32).to_be_bytes(), value].concat())
}

/// CommandComplete.
pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

/// ReadyForQuery.
pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// The whole answer to a query that yields `value`.
pub fn answer(value: &[u8]) -> Vec<u8> {
    [description(), row(value), complete("SELECT 1"), ready(b'I')].concat()
}

/// ErrorResponse.
pub fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0").as_bytes())
}

/// NoticeResponse.
pub fn notice(text: &str) -> Vec<u8> {
    message(b'N', format!("SNOTICE\0VNOTICE\0C00000\0M{text}\0\0").as_bytes())
}

/// ParameterStatus.
pub fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

/// Reads one message.
pub fn read_message(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    from.read_exact(&mut header)?;
    let [tag, a, b, c, d] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let length = length.checked_sub(4).ok_or_else(|| io::Error::other("a length counts itself"))?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((tag, body))
}

/// The SQLSTATE of an ErrorResponse's body.
pub fn sqlstate(body: &[u8]) -> String {
    firepool::wire::error_fields::text(body, b'C').unwrap_or_default()
}
