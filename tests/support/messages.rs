//! Messages of clients, as bytes.

/// A message of type `tag`.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Query
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(&[sql]))
}

/// Parse, with parameter types left to the server.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(&[name, sql]), vec![0, 0]].concat())
}

/// Bind, with parameters and results as text.
pub fn bind(portal: &str, statement: &str, parameters: &[&str]) -> Vec<u8> {
    let mut body = text(&[portal, statement]);
    body.extend([0, 0]);
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        body.extend((parameter.len() as u32).to_be_bytes());
        body.extend(parameter.as_bytes());
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

/// Parse, with the oids of parameter types.
pub fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let count = (types.len() as u16).to_be_bytes().to_vec();
    let types = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    message(b'P', &[text(&[name, sql]), count, types].concat())
}

/// Bind, with parameters and results as PostgreSQL's binary format; `None` is NULL.
pub fn bind_binary(portal: &str, statement: &str, parameters: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = text(&[portal, statement]);
    body.extend([0, 1, 0, 1]);
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        body.extend(parameter.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(parameter.unwrap_or_default());
    }
    body.extend([0, 1, 0, 1]);
    message(b'B', &body)
}

/// FunctionCall, with arguments and result as text.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend((arguments.len() as u16).to_be_bytes());
    for argument in arguments {
        body.extend((argument.len() as u32).to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    message(b'F', &body)
}

/// Describe of a statement (`S`) or portal (`P`).
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], text(&[name])].concat())
}

/// Close of a statement (`S`) or portal (`P`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], text(&[name])].concat())
}

/// Execute; 0 rows are all rows.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[text(&[portal]), rows.to_be_bytes().to_vec()].concat())
}

/// Sync
pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Flush
pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// CopyData
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone
pub fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

/// CopyFail
pub fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &text(&[reason]))
}

/// Parse, Bind, Describe, Execute of an unnamed statement, without Sync.
pub fn unnamed(sql: &str, parameters: &[&str]) -> Vec<u8> {
    [parse("", sql), bind("", "", parameters), describe(b'P', ""), execute("", 0)].concat()
}

/// Terminate
pub fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// A startup packet.
pub fn startup(version: (u16, u16), parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = [version.0.to_be_bytes(), version.1.to_be_bytes()].concat();
    for (name, value) in parameters {
        body.extend(text(&[name, value]));
    }
    body.push(0);
    untyped(&body)
}

/// CancelRequest; its code is in PostgreSQL's `src/include/libpq/pqcomm.h`.
pub fn cancel(pid: u32, secret: &[u8]) -> Vec<u8> {
    untyped(&[[80_877_102, pid].map(u32::to_be_bytes).as_flattened(), secret].concat())
}

/// A packet without a type, as before a login.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// Strings with their NULs.
pub fn text(strings: &[&str]) -> Vec<u8> {
    strings.iter().flat_map(|string| string.bytes().chain([0])).collect()
}
