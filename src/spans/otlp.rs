//! The messages of OTLP 1.x, as far as spans need them: the numbers are those of `opentelemetry/proto/trace/v1/trace.proto`,
//! `common/v1` and `resource/v1`. The attributes are those of OpenTelemetry's semantic conventions for databases.
//!
//! opentelemetry-proto has them all, and needs the SDK for it; the tests read what is written here with it.

use prost::{Message, Oneof};

use super::{Outcome, Query, identity};

/// A request to `/v1/traces`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// The answer to a request.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

/// `Span.SpanKind`.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// `Status.StatusCode.STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// `SpanFlags`: the trace is recorded, and whether the parent is of another process is known; then that it is.
const SAMPLED: u32 = 0x01;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

impl Answer {
    /// Spans that were not taken.
    pub(super) fn rejected(&self) -> u64 {
        let rejected = self.partial_success.as_ref().map_or(0, |partial| partial.rejected_spans);
        u64::try_from(rejected).unwrap_or(0)
    }
}

impl Request {
    /// The spans of these queries; `epoch` is when the process's clock began, in nanoseconds since 1970.
    pub(super) fn of(queries: &[Query], service: &str, epoch: u64) -> Self {
        let scope =
            Scope { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let attributes =
            vec![text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
        let spans = queries.iter().flat_map(|query| spans(query, epoch)).collect();
        Self {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
            }],
        }
    }

    /// How many spans it has.
    pub(super) fn spans(&self) -> u64 {
        let scopes = self.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.map(|scope| scope.spans.len() as u64).sum()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Text(value.to_owned())) }) }
}

fn number(key: &str, value: u64) -> KeyValue {
    let value = Value::Number(i64::try_from(value).unwrap_or(i64::MAX));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// The whole of a query, from the client's point of view; and in it the wait for a server connection, if there was one,
/// and what the server took.
fn spans(query: &Query, epoch: u64) -> Vec<Span> {
    let context = &query.context;
    let bare = |parent: Option<[u8; 8]>, (start, end): (u64, u64)| Span {
        trace_id: context.trace.to_vec(),
        span_id: identity::<8>().to_vec(),
        parent_span_id: parent.map(Vec::from).unwrap_or_default(),
        start_time_unix_nano: epoch.saturating_add(start),
        end_time_unix_nano: epoch.saturating_add(end.max(start)),
        flags: SAMPLED | HAS_IS_REMOTE,
        ..Span::default()
    };
    let start = query.waited.map_or(query.sent, |(since, _)| since.min(query.sent));
    let attributes = attributes(query);
    let status = match query.outcome {
        Outcome::Done(_) => None,
        Outcome::Failed(sqlstate) => {
            Some(Status { message: String::from_utf8_lossy(&sqlstate).into_owned(), code: ERROR })
        }
    };
    let remote = if context.parent.is_some() { IS_REMOTE } else { 0 };
    let whole = Span {
        span_id: context.span.to_vec(),
        name: format!("{} {}", query.operation.to_ascii_uppercase(), query.place.database),
        kind: SERVER,
        attributes: attributes.clone(),
        status: status.clone(),
        flags: SAMPLED | HAS_IS_REMOTE | remote,
        ..bare(context.parent, (start, query.ended))
    };
    let waited = query.waited.map(|waited| Span {
        name: "wait for a server connection".to_owned(),
        kind: INTERNAL,
        ..bare(Some(context.span), waited)
    });
    let server = Span {
        name: format!("{} {}", query.operation.to_ascii_uppercase(), query.place.database),
        kind: CLIENT,
        attributes,
        status,
        ..bare(Some(context.span), (query.sent, query.ended))
    };
    [Some(whole), waited, Some(server)].into_iter().flatten().collect()
}

fn attributes(query: &Query) -> Vec<KeyValue> {
    let place = &query.place;
    let mut attributes = vec![
        text("db.system.name", "postgresql"),
        text("db.namespace", &place.database),
        text("db.operation.name", &query.operation.to_ascii_uppercase()),
        text("server.address", &place.host),
        number("server.port", u64::from(place.port)),
        text("firepool.user", &place.user),
    ];
    attributes.extend(query.text.as_ref().map(|words| text("db.query.text", words)));
    match query.outcome {
        // Of others, the number is that of the rows that they changed.
        Outcome::Done(rows) if matches!(query.operation, "select" | "fetch") => {
            attributes.push(number("db.response.returned_rows", rows));
        }
        Outcome::Done(_) => {}
        Outcome::Failed(sqlstate) => {
            let sqlstate = String::from_utf8_lossy(&sqlstate);
            attributes.push(text("db.response.status_code", &sqlstate));
            attributes.push(text("error.type", &sqlstate));
        }
    }
    attributes
}
