//! What is told of TLS to whoever watches: how handshakes came out, how many sessions there are, and when certificates
//! expire. A handshake costs a thousand times what counting it does, so that one set of counters serves all threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;

use super::certificate::Validity;

/// Handshakes and sessions of one leg, or of a part of it.
#[derive(Debug, Default)]
pub struct Counts {
    v1_2: AtomicU64,
    v1_3: AtomicU64,
    failed: AtomicU64,
    closed: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Those that came to a session of TLS 1.2.
    pub v1_2: u64,
    /// Those that came to a session of TLS 1.3.
    pub v1_3: u64,
    /// Those that came to nothing, whoever gave up.
    pub failed: u64,
    /// Sessions that there are.
    pub open: u64,
}

impl std::ops::Add for Handshakes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            v1_2: self.v1_2 + other.v1_2,
            v1_3: self.v1_3 + other.v1_3,
            failed: self.failed + other.failed,
            open: self.open + other.open,
        }
    }
}

impl Counts {
    /// The figures now.
    pub fn read(&self) -> Handshakes {
        // Closed ones first: those that close meanwhile are then counted as open, and never as less than none.
        let closed = self.closed.load(Ordering::Acquire);
        let [v1_2, v1_3, failed] =
            [&self.v1_2, &self.v1_3, &self.failed].map(|count| count.load(Ordering::Relaxed));
        Handshakes { v1_2, v1_3, failed, open: (v1_2 + v1_3).saturating_sub(closed) }
    }

    /// A handshake begins. It has failed unless somebody says otherwise, also where it is not awaited to its end.
    pub(super) fn attempt(self: &Arc<Self>) -> Attempt {
        Attempt(Some(Arc::clone(self)))
    }
}

/// A handshake.
#[derive(Debug)]
pub(super) struct Attempt(Option<Arc<Counts>>);

impl Attempt {
    /// It came to a session, which is counted for as long as the result lives.
    pub(super) fn succeeded(mut self, version: Option<ProtocolVersion>) -> Option<Open> {
        let counts = self.0.take()?;
        let older = version == Some(ProtocolVersion::TLSv1_2);
        let count = if older { &counts.v1_2 } else { &counts.v1_3 };
        count.fetch_add(1, Ordering::Relaxed);
        Some(Open(counts))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(counts) = &self.0 {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A session that there is.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Release);
    }
}

/// When a file of certificates is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// The key of the configuration that names the file.
    pub role: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Seconds since 1970.
    pub until: i64,
}

impl Expiry {
    /// Of a chain, each of which is needed: when the first expires.
    pub(super) fn of_chain(role: &'static str, path: &Path, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let until = chain.iter().filter_map(|der| Some(Validity::of(der)?.until)).min()?;
        Some(Self { role, path: path.to_owned(), until })
    }

    /// Of lists of what was revoked, each of which is needed.
    pub(super) fn of_lists(role: &'static str, path: &Path, until: Option<i64>) -> Option<Self> {
        Some(Self { role, path: path.to_owned(), until: until? })
    }

    /// Of those who vouch, one of whom may be enough: when the last expires.
    pub(super) fn of_any(role: &'static str, path: &Path, all: &[CertificateDer<'_>]) -> Option<Self> {
        let until = all.iter().filter_map(|der| Some(Validity::of(der)?.until)).max()?;
        Some(Self { role, path: path.to_owned(), until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_has_failed_unless_it_came_to_a_session_which_is_open_until_it_is_dropped() {
        let counts = Arc::<Counts>::default();
        drop(counts.attempt());
        let [older, newer] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3]
            .map(|version| counts.attempt().succeeded(Some(version)));
        assert_eq!(counts.read(), Handshakes { v1_2: 1, v1_3: 1, failed: 1, open: 2 });
        drop(older);
        assert_eq!(counts.read().open, 1);
        drop(newer);
        assert_eq!(counts.read(), Handshakes { v1_2: 1, v1_3: 1, failed: 1, open: 0 });
    }

    #[test]
    fn a_chain_lasts_as_long_as_its_first_and_authorities_as_long_as_their_last() {
        let at = |seconds: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let certificates: Vec<CertificateDer<'static>> = [2_000_000_000, 3_000_000_000, 1_900_000_000]
            .into_iter()
            .map(|until| {
                use rustls::pki_types::pem::PemObject;
                let made = super::super::generate::self_signed_until(&["localhost"], at(until)).unwrap();
                CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()
            })
            .collect();
        let path = Path::new("a.crt");
        assert_eq!(Expiry::of_chain("sslcert", path, &certificates).unwrap().until, 1_900_000_000);
        assert_eq!(Expiry::of_any("sslrootcert", path, &certificates).unwrap().until, 3_000_000_000);
        assert_eq!(Expiry::of_chain("sslcert", path, &[]), None);
    }
}
