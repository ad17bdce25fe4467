//! Who has to prove what: rules as PostgreSQL's `pg_hba.conf` has them, of which the first that fits counts. Pure.
//!
//! `parse` reads the file; the configuration's own rules are made of the same fields ([`Rule::new`]). What PostgreSQL
//! knows and this does not is refused when it is read, never left out: a rule that is left out lets others in.

mod address;
mod parse;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use address::Network;
pub use parse::{HbaError, parse};

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A Unix socket, and the user id of the process at its other end, where the system tells.
    Unix {
        /// From `SO_PEERCRED`.
        uid: Option<u32>,
    },
    /// TCP without encryption.
    Tcp {
        /// The client's.
        address: IpAddr,
    },
    /// TLS over TCP.
    Tls {
        /// The client's.
        address: IpAddr,
    },
}

/// The first word of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Unix sockets.
    Local,
    /// TCP, with and without TLS.
    Host,
    /// TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
}

/// What a client has to prove, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing.
    Trust,
    /// It is turned away.
    Reject,
    /// The password, with SCRAM-SHA-256.
    ScramSha256,
    /// The password, with MD5; with SCRAM where nothing else is known of it.
    Md5,
    /// The password, in clear text.
    Password,
    /// That the process at the other end of the Unix socket runs as the system's user of that name.
    Peer,
    /// A client certificate.
    Cert,
}

/// A name in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// `all`
    All,
    /// `sameuser`, of a database.
    SameUser,
    /// `replication`, of a database: physical replication, which has none.
    Replication,
    /// Exactly this.
    Exact(String),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands: a line, or its number in a list, from 1.
    pub place: usize,
    /// Which connections it is about.
    pub connection: Connection,
    databases: Vec<Name>,
    users: Vec<Name>,
    /// `None` is every address.
    networks: Option<Vec<Network>>,
    /// What to prove.
    pub method: Method,
    /// Of [`Method::Password`]: also without TLS over TCP.
    pub cleartext_without_tls: bool,
}

/// One word of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Without its quotes.
    pub text: String,
    /// In quotes, so that `all` and the like are names like any other.
    pub quoted: bool,
}

/// A rule as it was written.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Line, or number in a list.
    pub place: usize,
    /// `local`, `host`, `hostssl`, `hostnossl`.
    pub connection: String,
    /// Databases.
    pub databases: Vec<Word>,
    /// Users.
    pub users: Vec<Word>,
    /// Addresses, with a mask where that stood apart; none for `local`.
    pub addresses: Vec<(Word, Option<String>)>,
    /// The method.
    pub method: String,
    /// `name=value`.
    pub options: Vec<String>,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// How it is connected.
    pub transport: Transport,
    /// Its database; `None` for physical replication.
    pub database: Option<&'a str>,
    /// Its user.
    pub user: &'a str,
}

impl Transport {
    /// The client's address; `None` for a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Unix { .. } => None,
            Self::Tcp { address } | Self::Tls { address } => Some(*address),
        }
    }

    /// Whether nobody else on the network can read what is sent.
    pub fn is_private(&self) -> bool {
        !matches!(self, Self::Tcp { .. })
    }
}

impl Method {
    const WORDS: [(&'static str, Self); 7] = [
        ("trust", Self::Trust),
        ("reject", Self::Reject),
        ("scram-sha-256", Self::ScramSha256),
        ("md5", Self::Md5),
        ("password", Self::Password),
        ("peer", Self::Peer),
        ("cert", Self::Cert),
    ];

    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, method)| *method == self).map_or("", |(word, _)| word)
    }
}

/// What PostgreSQL knows beside [`Method::WORDS`], up to its version 18.
const OTHER_METHODS: [&str; 9] = ["gss", "sspi", "ident", "pam", "bsd", "ldap", "radius", "oauth", "krb5"];

impl Rule {
    /// What a rule means.
    ///
    /// # Errors
    /// In words, what is wrong with it or not supported.
    pub fn new(fields: &Fields) -> Result<Self, String> {
        let connection = connection(&fields.connection)?;
        let method = method(&fields.method)?;
        let databases = names("database", &fields.databases)?;
        let users = names("user", &fields.users)?;
        let networks = match (connection, fields.addresses.as_slice()) {
            (Connection::Local, []) => None,
            (Connection::Local, _) => return Err("a `local` rule has no address".to_owned()),
            (_, []) => return Err("the rule needs an address, such as `all` or `10.0.0.0/8`".to_owned()),
            (_, addresses) => address::networks(addresses)?,
        };
        if method == Method::Peer && connection != Connection::Local {
            return Err("`peer` is for `local` rules only".to_owned());
        }
        if method == Method::Cert {
            return Err("`cert` needs TLS, which is not there yet".to_owned());
        }
        let cleartext_without_tls = options(&fields.options, method)?;
        let place = fields.place;
        Ok(Self { place, connection, databases, users, networks, method, cleartext_without_tls })
    }

    /// Whether it is about such a client.
    pub fn fits(&self, asked: &Asked<'_>) -> bool {
        let connected = match (self.connection, asked.transport) {
            (Connection::Local, Transport::Unix { .. })
            | (Connection::Host | Connection::HostNoSsl, Transport::Tcp { .. })
            | (Connection::Host | Connection::HostSsl, Transport::Tls { .. }) => true,
            (Connection::Local | Connection::Host | Connection::HostSsl | Connection::HostNoSsl, _) => false,
        };
        let address = match (&self.networks, asked.transport.address()) {
            (None, _) => true,
            (Some(networks), Some(address)) => networks.iter().any(|network| network.contains(address)),
            (Some(_), None) => false,
        };
        let database = |name: &Name| match (name, asked.database) {
            // As in PostgreSQL, `all` is not about physical replication.
            (Name::Replication, database) => database.is_none(),
            (_, None) => false,
            (Name::All, Some(_)) => true,
            (Name::SameUser, Some(database)) => database == asked.user,
            (Name::Exact(name), Some(database)) => name == database,
        };
        let user = |name: &Name| match name {
            Name::All => true,
            Name::Exact(name) => name == asked.user,
            Name::SameUser | Name::Replication => false,
        };
        connected && address && self.databases.iter().any(database) && self.users.iter().any(user)
    }
}

/// The first rule that is about such a client.
pub fn first<'r>(rules: &'r [Rule], asked: &Asked<'_>) -> Option<&'r Rule> {
    rules.iter().find(|rule| rule.fits(asked))
}

fn connection(word: &str) -> Result<Connection, String> {
    match word {
        "local" => Ok(Connection::Local),
        "host" => Ok(Connection::Host),
        "hostssl" => Ok(Connection::HostSsl),
        // There is no encryption by GSSAPI here, so that its absence asks for nothing.
        "hostnogssenc" => Ok(Connection::Host),
        "hostnossl" => Ok(Connection::HostNoSsl),
        "hostgssenc" => {
            Err("`hostgssenc` is not supported: there is no encryption by GSSAPI here".to_owned())
        }
        "include" | "include_if_exists" | "include_dir" => {
            Err(format!("`{word}` is not supported: write the rules into one file"))
        }
        other => Err(format!("the type must be `local`, `host`, `hostssl` or `hostnossl`, not `{other}`")),
    }
}

fn method(word: &str) -> Result<Method, String> {
    if let Some((_, method)) = Method::WORDS.iter().find(|(known, _)| *known == word) {
        return Ok(*method);
    }
    if OTHER_METHODS.contains(&word) {
        return Err(format!("the method `{word}` of PostgreSQL is not supported"));
    }
    let known: Vec<_> = Method::WORDS.iter().map(|(word, _)| format!("`{word}`")).collect();
    Err(format!("the method must be one of {}, not `{word}`", known.join(", ")))
}

fn names(what: &str, words: &[Word]) -> Result<Vec<Name>, String> {
    if words.is_empty() {
        return Err(format!("the rule names no {what}"));
    }
    words.iter().map(|word| name(what, word)).collect()
}

fn name(what: &str, word: &Word) -> Result<Name, String> {
    let text = word.text.as_str();
    if text.is_empty() {
        return Err(format!("the name of a {what} is empty"));
    }
    if word.quoted {
        return Ok(Name::Exact(text.to_owned()));
    }
    let refused = |why: &str| Err(format!("`{text}` is not supported: {why}"));
    match (what, text) {
        (_, "all") => Ok(Name::All),
        ("database", "sameuser") => Ok(Name::SameUser),
        ("database", "replication") => Ok(Name::Replication),
        ("database", "samerole" | "samegroup") => refused("who is a member of what only the server knows"),
        (_, role) if role.starts_with('+') => refused("who is a member of what only the server knows"),
        (_, file) if file.starts_with('@') => refused("write the names themselves"),
        (_, pattern) if pattern.starts_with('/') => refused("there are no regular expressions here"),
        _ => Ok(Name::Exact(text.to_owned())),
    }
}

/// Whether clear text is allowed without TLS, which is the only option.
fn options(options: &[String], method: Method) -> Result<bool, String> {
    let mut without_tls = false;
    for option in options {
        match option.split_once('=') {
            Some(("cleartext_without_tls", value)) if method == Method::Password => {
                without_tls = match value {
                    "1" => true,
                    "0" => false,
                    _ => return Err("`cleartext_without_tls` must be 0 or 1".to_owned()),
                };
            }
            Some(("cleartext_without_tls", _)) => {
                return Err("`cleartext_without_tls` is for the method `password` only".to_owned());
            }
            Some(("clientcert" | "clientname", _)) => {
                return Err("client certificates need TLS, which is not there yet".to_owned());
            }
            Some(("map", _)) => {
                return Err("`map` is not supported: there is no pg_ident.conf here".to_owned());
            }
            Some((name, _)) => return Err(format!("the option `{name}` is not supported")),
            None => return Err(format!("an option must be `name=value`, not `{option}`")),
        }
    }
    Ok(without_tls)
}
