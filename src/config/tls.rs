//! How clients and servers are encrypted: the table `[tls]`, and the `ssl...` keys of targets.
//!
//! Certificates are read here, so that a file that does not fit is a problem of the configuration with a line.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::file::{TargetTable, TlsTable};
use super::problem::Found;
use super::typed::Field;
use super::values::Text;
use crate::tls::certificate::Validity;
use crate::tls::{Acceptor, ClientFiles, Connector, MinVersion, ServerFiles, Trouble, Trust};

/// A certificate with less time left is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Lists are renewed every few days, some of them every day.
const LIST_SOON: Duration = Duration::from_secs(24 * 60 * 60);

/// What is asked of clients. Unix sockets are never encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// No client is encrypted.
    #[default]
    Disable,
    /// Clients are encrypted if they ask for it.
    Allow,
    /// Clients that do not ask for it are refused (SQLSTATE 28000).
    Require,
    /// They have to show a certificate as well.
    VerifyCa,
    /// The certificate has to name the user.
    VerifyFull,
}

/// How clients are encrypted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tls {
    /// What is asked of them.
    pub mode: TlsMode,
    /// The oldest version that they may use.
    pub oldest: MinVersion,
    /// Where what they see is, if it was configured.
    pub files: Option<ServerFiles>,
    /// What they see; `None` where nobody is encrypted.
    pub acceptor: Option<Arc<Acceptor>>,
}

/// libpq's `sslmode`. Unix sockets are never encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SslMode {
    /// Never.
    #[default]
    Disable,
    /// If the server does not let anybody in without.
    Allow,
    /// If the server can, and otherwise not.
    Prefer,
    /// Always; the server's certificate is verified if there is a root certificate.
    Require,
    /// And the server's certificate is verified.
    VerifyCa,
    /// And it has to name the host.
    VerifyFull,
}

/// How connections to a server are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetTls {
    /// What is asked of the server.
    pub mode: SslMode,
    /// The handshake begins without being asked for: libpq's `sslnegotiation=direct`.
    pub direct: bool,
    /// Where certificates are.
    pub files: ClientFiles,
    /// Does it; `None` where it is never done.
    pub connector: Option<Arc<Connector>>,
}

impl TlsMode {
    /// Every mode, the least demanding first.
    pub const ALL: [Self; 5] = [Self::Disable, Self::Allow, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether clients have to be encrypted.
    pub fn is_required(self) -> bool {
        !matches!(self, Self::Disable | Self::Allow)
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl SslMode {
    /// Every mode, the least demanding first.
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// libpq's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether nothing may be sent that is not encrypted.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// What `[tls]` means.
pub(super) fn clients(table: &TlsTable, found: &mut Found<'_>) -> Tls {
    let texts = [&table.certificate, &table.key, &table.client_ca, &table.client_crl];
    if texts.iter().any(|field| field.is_wrong()) || table.mode.is_wrong() {
        return Tls::default();
    }
    let Some((certificate, at)) = file(&table.certificate, found) else {
        if let Some((_, at)) = table.key.get() {
            found.error(at, "`key` needs the `certificate` that it belongs to");
        }
        if let Some((mode, at)) = table.mode.get()
            && mode.0 != TlsMode::Disable
        {
            found.error(at, format!("`mode` \"{}\" needs a `certificate` and its `key`", mode.0.as_str()));
        }
        return Tls::default();
    };
    let Some((key, _)) = file(&table.key, found) else {
        found.error(at, "`certificate` needs its `key`");
        return Tls::default();
    };
    let mode = table.mode.get().map_or(TlsMode::Allow, |(mode, _)| mode.0);
    let client_ca = file(&table.client_ca, found).map(|(path, _)| path);
    if mode.verifies() && client_ca.is_none() {
        let place = table.mode.get().map_or(at, |(_, at)| at);
        found.error(place, format!("`mode` \"{}\" needs a `client_ca`", mode.as_str()));
        return Tls::default();
    }
    let client_crl = file(&table.client_crl, found);
    if let (Some((_, at)), None) = (&client_crl, &client_ca) {
        found.error(*at, "`client_crl` needs the `client_ca` whose lists they are");
    }
    let client_crl = client_crl.map(|(path, _)| path);
    let oldest = table.min_version.get().map_or(MinVersion::default(), |(version, _)| version.0);
    let files = ServerFiles { certificate, key, client_ca, client_crl };
    match Acceptor::load(files.clone(), mode.verifies(), oldest) {
        Ok(acceptor) => {
            if let Some(warning) = warning(&acceptor) {
                found.warning(at, warning);
            }
            judge_lists(acceptor.lists_until(), file(&table.client_crl, found), found);
            let acceptor = (mode != TlsMode::Disable).then(|| Arc::new(acceptor));
            Tls { mode, oldest, files: Some(files), acceptor }
        }
        Err(trouble) => {
            found.error(place_of(&trouble, texts, found).unwrap_or(at), trouble.to_string());
            Tls::default()
        }
    }
}

/// What is worth saying about a certificate that is right for now.
fn warning(acceptor: &Acceptor) -> Option<String> {
    let path = acceptor.certificate().display();
    match acceptor.validity()?.left(SystemTime::now()) {
        Duration::ZERO => Some(format!("the certificate {path} is not valid today")),
        left if left < SOON => {
            Some(format!("the certificate {path} expires in {} days", left.as_secs() / (24 * 60 * 60)))
        }
        _ => None,
    }
}

/// A list that has expired keeps out everybody whom it is about, which is not to come as a surprise.
fn judge_lists(until: Option<i64>, file: Option<(PathBuf, usize)>, found: &mut Found<'_>) {
    let (Some(until), Some((path, at))) = (until, file) else { return };
    let left = Validity { from: 0, until }.left(SystemTime::now());
    if left < LIST_SOON {
        let path = path.display();
        let what = "whom its lists are about is refused then";
        found.warning(
            at,
            match left {
                Duration::ZERO => format!("{path} has a list that has expired: whom it is about is refused"),
                left => {
                    format!("{path} has a list that expires in {} hours: {what}", left.as_secs() / (60 * 60))
                }
            },
        );
    }
}

/// What the `ssl...` keys of a target mean.
pub(super) fn target(table: &TargetTable, host: &str, at: usize, found: &mut Found<'_>) -> TargetTls {
    let texts = [&table.sslrootcert, &table.sslcrl, &table.sslcert, &table.sslkey];
    if texts.iter().any(|field| field.is_wrong()) || table.sslmode.is_wrong() {
        return TargetTls::default();
    }
    let mode = table.sslmode.get().map_or(SslMode::Prefer, |(mode, _)| mode.0);
    let direct = table.sslnegotiation.get().is_some_and(|(negotiation, _)| negotiation.is_direct());
    if host.starts_with('/') {
        if let Some((_, at)) = table.sslmode.get().filter(|(mode, _)| mode.0.is_required()) {
            found.warning(at, "`sslmode` means nothing for a Unix socket");
        }
        return TargetTls::default();
    }
    let place = table.sslmode.get().map_or(at, |(_, at)| at);
    if direct && !mode.is_required() {
        // As libpq: a server that is asked for nothing cannot say that it has no TLS.
        let message = "`sslnegotiation` \"direct\" needs an `sslmode` of \"require\" or more";
        found.error(table.sslnegotiation.get().map_or(at, |(_, at)| at), message);
    }
    let root = file(&table.sslrootcert, found).map(|(path, _)| path);
    if mode.verifies() && root.is_none() {
        found.error(place, format!("`sslmode` \"{}\" needs an `sslrootcert`", mode.as_str()));
        return TargetTls::default();
    }
    let revoked = match (file(&table.sslcrl, found), &root) {
        (Some((_, at)), None) => {
            return lone(at, "`sslcrl` needs the `sslrootcert` whose lists they are", found);
        }
        (revoked, _) => revoked.map(|(path, _)| path),
    };
    let identity = match (file(&table.sslcert, found), file(&table.sslkey, found)) {
        (Some((certificate, _)), Some((key, _))) => Some((certificate, key)),
        (None, None) => None,
        (Some((_, at)), None) => return lone(at, "`sslcert` needs its `sslkey`", found),
        (None, Some((_, at))) => return lone(at, "`sslkey` needs the `sslcert` that it belongs to", found),
    };
    let trust = if mode == SslMode::VerifyFull { Trust::Host } else { Trust::Roots };
    let host = host.parse::<Ipv6Addr>().map_or_else(|_| host.to_owned(), |address| address.to_string());
    let files = ClientFiles { root, revoked, identity };
    match Connector::load(&host, files.clone(), trust) {
        Ok(connector) => {
            judge_lists(connector.lists_until(), file(&table.sslcrl, found), found);
            let connector = (mode != SslMode::Disable).then(|| Arc::new(connector));
            TargetTls { mode, direct, files, connector }
        }
        Err(trouble) => {
            found.error(place_of(&trouble, texts, found).unwrap_or(at), trouble.to_string());
            TargetTls::default()
        }
    }
}

fn lone(at: usize, message: &str, found: &mut Found<'_>) -> TargetTls {
    found.error(at, message);
    TargetTls::default()
}

/// The file that a key names, and where it was typed. A relative path starts at the configuration's folder.
fn file(field: &Field<Text>, found: &Found<'_>) -> Option<(PathBuf, usize)> {
    let (Text(typed), at) = field.get()?;
    Some((found.file().parent().unwrap_or(Path::new("")).join(typed), at))
}

/// Where the file was typed that is the trouble.
fn place_of<'f>(
    trouble: &Trouble,
    fields: impl IntoIterator<Item = &'f Field<Text>>,
    found: &Found<'_>,
) -> Option<usize> {
    let mut named = fields.into_iter().filter_map(|field| file(field, found));
    named.find(|(path, _)| *path == trouble.path).map(|(_, at)| at)
}

#[cfg(test)]
mod tests;
