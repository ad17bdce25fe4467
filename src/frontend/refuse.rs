//! The only place that says no to a client.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::ErrorResponse;

use crate::error::{ErrorKind, Refusal};
use crate::rule::Rule;
use crate::statement::Breach;
use crate::wire::frame::HEADER;

/// The ErrorResponse of a refusal, with severity FATAL: the connection is closed behind it. The fields are those of
/// the section "Error and Notice Message Fields" of PostgreSQL's documentation.
pub(super) fn encode(refusal: &Refusal) -> Vec<u8> {
    with_severity(refusal, "FATAL")
}

/// What answers a request that was not carried out, from ErrorResponse to ReadyForQuery; the client stays.
pub(super) fn answer(refusal: &Refusal) -> Vec<u8> {
    let mut bytes = with_severity(refusal, "ERROR");
    bytes.extend_from_slice(&[b'Z', 0, 0, 0, 5, b'I']);
    bytes
}

/// The body of the ErrorResponse to a request that is refused in its place between others; the client stays.
pub(super) fn words(kind: ErrorKind) -> Vec<u8> {
    let (message, source): (_, &[_]) = match kind {
        // As in PostgreSQL's `src/backend/utils/cache/plancache.c`. Drivers look for the function's name, and prepare the
        // statement again.
        ErrorKind::ResultChanged => (
            "cached plan must not change result type",
            &[(b'F', "plancache.c"), (b'R', "RevalidateCachedQuery")],
        ),
        _ => (NO_BLOCKS, &[]),
    };
    let more = source.iter().map(|(field, text)| (*field, (*text).to_owned()));
    with_fields(&Refusal::new(kind, message), "ERROR", more)[HEADER..].into()
}

/// What a client is told that begins a transaction block in statement mode.
pub(super) const NO_BLOCKS: &str = "transaction blocks are not allowed in statement pooling mode";

/// The body of the ErrorResponse that answers what a read-only route refuses.
pub(super) fn body(breach: &Breach) -> Vec<u8> {
    let Breach { rule: broken, what, .. } = breach;
    let mut fields = vec![('S', "ERROR".to_owned()), ('V', "ERROR".to_owned())];
    fields.push(('C', broken.sqlstate().to_owned()));
    match broken {
        Rule::Syntax => fields.push(('M', printable(what))),
        _ => fields.extend([
            ('M', format!("cannot execute {} in a read-only route", printable(what))),
            ('D', rule(*broken)),
        ]),
    }
    let mut bytes = Vec::new();
    for (code, text) in fields {
        bytes.push(code as u8);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// What a client is told of the rule that it broke.
pub(super) fn rule(rule: Rule) -> String {
    format!("The proxy refused it under the rule \"{}\".", rule.as_str())
}

fn with_severity(refusal: &Refusal, severity: &str) -> Vec<u8> {
    with_fields(refusal, severity, [])
}

fn with_fields(refusal: &Refusal, severity: &str, more: impl IntoIterator<Item = (u8, String)>) -> Vec<u8> {
    let mut error = ErrorResponse::default();
    error.fields = vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', printable(refusal.sqlstate())),
        (b'M', printable(&refusal.message)),
    ];
    error.fields.extend(refusal.detail.as_deref().map(|detail| (b'D', printable(detail))));
    error.fields.extend(more);
    let mut bytes = BytesMut::new();
    // Only a message above 2 GiB could not be encoded.
    let _ = error.encode(&mut bytes);
    bytes.to_vec()
}

/// A NUL would end the field early.
fn printable(text: &str) -> String {
    text.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error_fields::{field, is_fatal};

    #[test]
    fn a_refusal_is_fatal_and_carries_its_sqlstate() {
        let refusal =
            Refusal::new(ErrorKind::UnknownDatabase, "database \"a\0b\" does not exist").detail("More.");
        let bytes = encode(&refusal);
        let body = &bytes[5..];
        assert_eq!(bytes[0], b'E');
        assert_eq!(bytes.len(), u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize + 1);
        assert!(is_fatal(body));
        assert_eq!(field(body, b'C'), Some(&b"3D000"[..]));
        assert_eq!(field(body, b'M'), Some(&b"database \"ab\" does not exist"[..]));
        assert_eq!(field(body, b'D'), Some(&b"More."[..]));
    }

    #[test]
    fn what_is_refused_among_others_is_no_reason_to_leave() {
        let body = words(ErrorKind::ResultChanged);
        assert!(!is_fatal(&body) && !is_fatal(&words(ErrorKind::TransactionInStatementMode)));
        assert_eq!(field(&body, b'C'), Some(&b"0A000"[..]));
        assert_eq!(field(&body, b'R'), Some(&b"RevalidateCachedQuery"[..]));
    }
}
