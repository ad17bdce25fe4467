//! The thread that sends spans to a collector: OTLP over HTTP/1.1, as protobuf, a connection for each request. A collector
//! that hangs costs what comes meanwhile and finds no place in the queue; one that is away costs what was to be sent.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use super::otlp::{Answer, Request as Spans};
use super::{Counts, QUEUE, Query, Tracer, threshold};
use crate::clock::Clock;

/// How often the queue is looked at. It is not waited for: waking this thread would cost whoever hands something in a
/// system call.
const TICK: Duration = Duration::from_millis(100);

/// After this, what there is is sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Queries in one request.
const BATCH: usize = 512;

/// How long a collector may take for a request; OTLP's default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The same at the end of the process.
const LAST: Duration = Duration::from_secs(1);

/// Bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;

/// Where the collector is: `http://host:port/base`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// Of the Host header.
    authority: String,
    path: String,
}

impl Endpoint {
    /// Reads the base of a URL; `/v1/traces` is put behind it, as OpenTelemetry's `OTEL_EXPORTER_OTLP_ENDPOINT` says.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
        let authority = uri.authority().ok_or("it has no host")?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err("a collector is spoken to without TLS: use one on this machine".into());
            }
            _ => return Err("it does not begin with http://".into()),
        }
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err("it has no place for a user, a query, or no host".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(4318),
            authority: authority.to_string(),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// The thread, which ends when this is dropped: after one more attempt to send what there is.
#[derive(Debug)]
pub struct Exporter {
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Exporter {
    /// Starts the thread. Of queries that nobody has decided about, a part of `sample` is recorded.
    ///
    /// # Errors
    /// Nothing runs then.
    pub fn start(
        endpoint: Endpoint,
        service: String,
        sample: f64,
        clock: Arc<Clock>,
    ) -> io::Result<(Self, Tracer)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (queue, queries) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let sender = Sender { endpoint, service, clock, counts: Arc::clone(&counts), fails: false };
        let thread = thread::Builder::new()
            .name("spans".into())
            .spawn(move || see_through(runtime, sender.run(queries, stopped)))?;
        let tracer = Tracer { queue, counts, threshold: threshold(sample) };
        Ok((Self { stop, thread: Some(thread) }, tracer))
    }
}

/// Runs `work` to its end, and waits for nothing else: where the collector's name is looked up and nobody answers, that
/// takes longer than the end of the process may.
fn see_through(runtime: Runtime, work: impl Future<Output = ()>) {
    runtime.block_on(work);
    runtime.shutdown_background();
}

/// The thread's.
struct Sender {
    endpoint: Endpoint,
    service: String,
    clock: Arc<Clock>,
    counts: Arc<Counts>,
    /// The last request failed: it has been said.
    fails: bool,
}

impl Sender {
    async fn run(mut self, mut queries: mpsc::Receiver<Query>, mut stopped: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut batch, mut ticks) = (Vec::with_capacity(BATCH), 0);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            ticks += 1;
            loop {
                while batch.len() < BATCH
                    && let Ok(query) = queries.try_recv()
                {
                    batch.push(query);
                }
                if batch.len() < BATCH && (TICK * ticks < PATIENCE || batch.is_empty()) {
                    break;
                }
                ticks = 0;
                tokio::select! {
                    () = self.send(&mut batch, TIMEOUT) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                }
            }
        }
        queries.close();
        let deadline = tokio::time::Instant::now() + LAST;
        loop {
            while batch.len() < BATCH
                && let Ok(query) = queries.try_recv()
            {
                batch.push(query);
            }
            if batch.is_empty() {
                return;
            }
            self.send(&mut batch, deadline.saturating_duration_since(tokio::time::Instant::now())).await;
        }
    }

    /// Sends what there is, or gives it up. The batch is empty afterwards; dropped in the middle, it is as it was.
    async fn send(&mut self, batch: &mut Vec<Query>, limit: Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let request = Spans::of(batch, &self.service, now.saturating_sub(self.clock.exact()));
        let spans = request.spans();
        let sent = tokio::time::timeout(limit, post(&self.endpoint, request.encode_to_vec())).await;
        batch.clear();
        let failed = match sent {
            Ok(Ok(answer)) => {
                let rejected = answer.rejected().min(spans);
                self.counts.add_exported(spans - rejected);
                self.counts.add_dropped(rejected);
                if self.fails {
                    tracing::info!(collector = self.endpoint.authority, "spans are taken again");
                }
                self.fails = false;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it did not answer in time".to_owned(),
        };
        self.counts.add_dropped(spans);
        if !std::mem::replace(&mut self.fails, true) {
            tracing::warn!(collector = self.endpoint.authority, error = ?failed, "spans are lost");
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn post(endpoint: &Endpoint, body: Vec<u8>) -> Result<Answer, Failure> {
    let socket = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, endpoint.port)).await?,
        Err(_) => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::post(&endpoint.path)
        .header(HOST, &endpoint.authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))?;
    // The connection ends once nobody can send another request.
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect().await?.to_bytes();
        if status != StatusCode::OK {
            return Err(Failure::from(format!("it answered {status}")));
        }
        // What else it says of it is no failure of ours.
        Ok(Answer::decode(body).unwrap_or_default())
    };
    let (answer, _) = tokio::join!(exchange, async {
        let _ = connection.await;
    });
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_nobody_answers_does_not_hold_up_the_end() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (answer, never) = std::sync::mpsc::sync_channel::<()>(0);
        let began = std::time::Instant::now();
        see_through(runtime, async {
            // As tokio looks names up.
            drop(tokio::task::spawn_blocking(move || never.recv_timeout(Duration::from_secs(60))));
            tokio::task::yield_now().await;
        });
        assert!(began.elapsed() < Duration::from_secs(30));
        drop(answer);
    }

    #[test]
    fn an_endpoint_is_the_base_of_a_url() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1", 4318, "/v1/traces"),
            ("http://collector/", "collector", 4318, "/v1/traces"),
            ("http://[::1]:80/otlp/", "::1", 80, "/otlp/v1/traces"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.path.as_str()), (host, port, path));
        }
        for bad in
            ["", "collector:4318", "https://c", "ftp://c", "http://", "http://a@b", "http://c/?x=1", "/v1"]
        {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
