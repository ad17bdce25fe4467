//! The `ssl...` keys of targets and `channel_binding`, which mean what they mean to libpq.

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::{file, judge_lists, place_of};
use crate::config::file::TargetTable;
use crate::config::problem::Found;
use crate::config::typed::Field;
use crate::config::values::Text;
use crate::tls::{ClientFiles, Connector, Trust};

/// libpq's word for those whom the operating system trusts, in the place of a file.
const SYSTEM: &str = "system";

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

/// libpq's `channel_binding`: whether what is proved to a server is worth nothing to somebody in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    #[default]
    Prefer,
    /// Always: a server that asks for anything but SCRAM-SHA-256-PLUS gets nothing.
    Require,
}

/// How connections to a server are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetTls {
    /// What is asked of the server.
    pub mode: SslMode,
    /// The handshake begins without being asked for: libpq's `sslnegotiation=direct`.
    pub direct: bool,
    /// Whether what is proved is bound to the connection.
    pub binding: ChannelBinding,
    /// Where certificates are.
    pub files: ClientFiles,
    /// Does it; `None` where it is never done.
    pub connector: Option<Arc<Connector>>,
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

impl ChannelBinding {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Disable, Self::Prefer, Self::Require];

    /// libpq's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// What the `ssl...` keys of a target mean.
pub(in crate::config) fn target(
    table: &TargetTable,
    host: &str,
    at: usize,
    found: &mut Found<'_>,
) -> TargetTls {
    let texts = [&table.sslrootcert, &table.sslcrl, &table.sslcert, &table.sslkey];
    let wrong = texts.iter().any(|field| field.is_wrong());
    if wrong || table.sslmode.is_wrong() || table.channel_binding.is_wrong() {
        return TargetTls::default();
    }
    if host.starts_with('/') {
        return local(table, found);
    }
    let system = table.sslrootcert.get().filter(|(Text(typed), _)| typed == SYSTEM).is_some();
    let preset = if system { SslMode::VerifyFull } else { SslMode::Prefer };
    let mode = table.sslmode.get().map_or(preset, |(mode, _)| mode.0);
    let binding = table.channel_binding.get().map_or(ChannelBinding::default(), |(binding, _)| binding.0);
    let direct = table.sslnegotiation.get().is_some_and(|(negotiation, _)| negotiation.is_direct());
    judge(table, (mode, binding, system), direct, found);
    let Some(files) = files(table, (mode, system), at, found) else { return TargetTls::default() };
    let trust = if mode == SslMode::VerifyFull { Trust::Host } else { Trust::Roots };
    let host = host.parse::<Ipv6Addr>().map_or_else(|_| host.to_owned(), |address| address.to_string());
    match Connector::load(&host, files.clone(), trust) {
        Ok(connector) => {
            judge_lists(connector.lists_until(), file(&table.sslcrl, found), found);
            let connector = (mode != SslMode::Disable).then(|| Arc::new(connector));
            TargetTls { mode, direct, binding, files, connector }
        }
        Err(trouble) => {
            found.error(place_of(&trouble, texts, found).unwrap_or(at), trouble.to_string());
            TargetTls::default()
        }
    }
}

/// A Unix socket is never encrypted.
fn local(table: &TargetTable, found: &mut Found<'_>) -> TargetTls {
    if let Some((_, at)) = table.sslmode.get().filter(|(mode, _)| mode.0.is_required()) {
        found.warning(at, "`sslmode` means nothing for a Unix socket");
    }
    if let Some((_, at)) = table.channel_binding.get().filter(|(it, _)| it.0 == ChannelBinding::Require) {
        found.error(at, "`channel_binding` \"require\" needs TLS, and a Unix socket has none");
    }
    TargetTls::default()
}

/// What does not go together, as in libpq.
fn judge(
    table: &TargetTable,
    (mode, binding, system): (SslMode, ChannelBinding, bool),
    direct: bool,
    found: &mut Found<'_>,
) {
    if let Some((_, at)) = table.sslnegotiation.get().filter(|_| direct && !mode.is_required()) {
        // A server that is asked for nothing cannot say that it has no TLS.
        found.error(at, "`sslnegotiation` \"direct\" needs an `sslmode` of \"require\" or more");
    }
    if let Some((typed, at)) = table.sslmode.get().filter(|_| system && mode != SslMode::VerifyFull) {
        let why =
            "anybody gets a certificate from one of those who vouch there: it has to be \"verify-full\"";
        let mode = typed.0.as_str();
        found.error(at, format!("`sslmode` \"{mode}\" is too weak for `sslrootcert` \"{SYSTEM}\": {why}"));
    }
    if let Some((_, at)) = table.channel_binding.get()
        && (mode, binding) == (SslMode::Disable, ChannelBinding::Require)
    {
        found.error(at, "`channel_binding` \"require\" needs TLS, which `sslmode` \"disable\" switches off");
    }
}

/// Where certificates are; `None` if that was reported.
fn files(
    table: &TargetTable,
    (mode, system): (SslMode, bool),
    at: usize,
    found: &mut Found<'_>,
) -> Option<ClientFiles> {
    let root = file(&table.sslrootcert, found).filter(|_| !system).map(|(path, _)| path);
    if mode.verifies() && root.is_none() && !system {
        let place = table.sslmode.get().map_or(at, |(_, at)| at);
        found.error(place, format!("`sslmode` \"{}\" needs an `sslrootcert`", mode.as_str()));
        return None;
    }
    let mut lone = |at: usize, message: &str| {
        found.error(at, message);
        None
    };
    let place = |field: &Field<Text>| field.get().map(|(_, at)| at);
    if let (Some(at), false) = (place(&table.sslcrl), root.is_some() || system) {
        return lone(at, "`sslcrl` needs the `sslrootcert` whose lists they are");
    }
    match (place(&table.sslcert), place(&table.sslkey)) {
        (Some(at), None) => return lone(at, "`sslcert` needs its `sslkey`"),
        (None, Some(at)) => return lone(at, "`sslkey` needs the `sslcert` that it belongs to"),
        _ => {}
    }
    let path = |field: &Field<Text>| file(field, found).map(|(path, _)| path);
    let identity = path(&table.sslcert).zip(path(&table.sslkey));
    Some(ClientFiles { root, system, revoked: path(&table.sslcrl), identity })
}
