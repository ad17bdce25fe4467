//! How clients and servers are encrypted: the table `[tls]`, and the `ssl...` keys of targets.
//!
//! Certificates are read here, so that a file that does not fit is a problem of the configuration with a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::file::TlsTable;
use super::problem::Found;
use super::typed::Field;
use super::values::Text;
use crate::tls::certificate::Validity;
use crate::tls::{Acceptor, MinVersion, ServerFiles, Trouble};

mod target;

pub(super) use target::target;
pub use target::{ChannelBinding, SslMode, TargetTls};

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
