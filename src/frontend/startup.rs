//! From the first byte to exactly one of Startup or Cancel. Reads each packet exactly and nothing behind it, so that
//! no byte that came in plaintext can slip into an encrypted session; and a client that sends more than its request
//! for encryption, before that was answered, is refused.

use std::io;

use crate::error::{ErrorKind, Refusal};
use crate::stream::Stream;
use crate::tls::{self, Acceptor, Established};
use crate::wire::version::{MAJOR, SECRET_BYTES, Version};

/// `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL's `src/include/libpq/pqcomm.h`.
const MAX_PACKET: usize = 10_000;

/// Codes in the place of a protocol version, from the same file.
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = crate::backend::cancel::CANCEL_REQUEST_CODE;

/// What a client came for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// To log in.
    Startup(Startup),
    /// To cancel another connection's query.
    Cancel {
        /// As given in BackendKeyData.
        pid: u32,
        /// As given in BackendKeyData: 4 to 256 bytes.
        secret: Box<[u8]>,
    },
}

/// A startup packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Startup {
    /// Name and value in the order in which they came.
    pub(super) parameters: Vec<(String, String)>,
    /// The minor version that the client asks for.
    minor: u32,
    /// Protocol options (`_pq_.`) that are not known.
    pub(super) unknown_options: Vec<String>,
}

impl Startup {
    /// The version that is spoken with the client. As PostgreSQL does, never a newer one than it asks for.
    pub(super) fn version(&self) -> Version {
        Version::at_most(self.minor)
    }

    /// Whether the client does not get all that it asks for, so that NegotiateProtocolVersion is due. That is also so
    /// for 3.1, which does not exist: PostgreSQL 18 takes it for 3.0 and does not say so, and libpq never asks for it.
    pub(super) fn is_negotiable(&self) -> bool {
        self.version().minor() != self.minor || !self.unknown_options.is_empty()
    }

    /// The last value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why there was neither.
#[derive(Debug)]
pub(super) enum OpeningError {
    /// To be said to the client.
    Refused(Refusal),
    /// Nothing to be said: the client is gone, or sends what is not this protocol.
    Gone(io::Error),
}

impl From<io::Error> for OpeningError {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Reads until it is known what the client wants. Encryption is agreed on or declined, each kind once, as PostgreSQL
/// does; without an acceptor it is declined. What the handshake found out comes along.
pub(super) async fn read(
    stream: &mut Stream,
    acceptor: Option<&Acceptor>,
) -> Result<(Opening, Option<Established>), OpeningError> {
    let acceptor = acceptor.filter(|_| !stream.is_local());
    let (mut ssl, mut gss, mut established) = (true, true, None);
    let mut length = first(stream).await?;
    if length[0] == tls::FIRST_BYTE {
        established = Some(direct(stream, acceptor, length).await?);
        (ssl, gss) = (false, false);
        length = first(stream).await?;
    }
    let opening = loop {
        let packet = packet(stream, length).await?;
        let Some((code, body)) = packet.split_first_chunk::<4>() else { return Err(malformed()) };
        match u32::from_be_bytes(*code) {
            SSL_REQUEST if body.is_empty() && std::mem::take(&mut ssl) => match acceptor {
                Some(acceptor) => {
                    established = Some(encrypt(stream, acceptor).await?);
                    // As in PostgreSQL, encryption within encryption is not for the asking.
                    gss = false;
                }
                None => stream.write_all(b"N").await?,
            },
            GSSENC_REQUEST if body.is_empty() && std::mem::take(&mut gss) => stream.write_all(b"N").await?,
            SSL_REQUEST | GSSENC_REQUEST => return Err(malformed()),
            CANCEL_REQUEST => break cancel(body)?,
            version if version >> 16 == MAJOR => break Opening::Startup(parse(version & 0xffff, body)?),
            version => {
                let (major, minor) = (version >> 16, version & 0xffff);
                return Err(OpeningError::Refused(Refusal::new(
                    ErrorKind::UnsupportedProtocol,
                    format!(
                        "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{}",
                        Version::NEWEST.minor()
                    ),
                )));
            }
        }
        length = first(stream).await?;
    };
    Ok((opening, established))
}

/// Agrees to a request for TLS, and does the handshake. A byte that was sent ahead of it is from somebody who does not
/// know the protocol, or who put it there for the session to come (CVE-2021-23214 of PostgreSQL, CVE-2021-3935 of
/// PgBouncer).
async fn encrypt(stream: &mut Stream, acceptor: &Acceptor) -> Result<Established, OpeningError> {
    if !stream.is_silent()? {
        let message = "received unencrypted data after SSL request";
        let detail = "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.";
        return Err(OpeningError::Refused(
            Refusal::new(ErrorKind::ProtocolViolation, message).detail(detail),
        ));
    }
    stream.write_all(b"S").await?;
    Ok(stream.accept_tls(acceptor, &[]).await?)
}

/// A handshake without a request before it, whose first bytes were read already. Without ALPN it could be meant for
/// another protocol: PostgreSQL 17 does not serve it either.
async fn direct(
    stream: &mut Stream,
    acceptor: Option<&Acceptor>,
    first: [u8; 4],
) -> Result<Established, OpeningError> {
    let refuse = |reason: &str| OpeningError::Gone(io::Error::new(io::ErrorKind::InvalidData, reason));
    let acceptor = acceptor.ok_or_else(|| refuse("TLS where it is off"))?;
    let established = stream.accept_tls(acceptor, &first).await?;
    if !established.alpn {
        stream.close_tls();
        return Err(refuse("direct TLS without ALPN"));
    }
    Ok(established)
}

/// The length of a packet, or the beginning of something else.
async fn first(stream: &mut Stream) -> Result<[u8; 4], OpeningError> {
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    Ok(first)
}

/// The rest of one packet without a type byte: behind a length that counts itself, at least a code.
async fn packet(stream: &mut Stream, length: [u8; 4]) -> Result<Vec<u8>, OpeningError> {
    let length = u32::from_be_bytes(length) as usize;
    if !(8..=MAX_PACKET).contains(&length) {
        return Err(OpeningError::Gone(io::Error::new(
            io::ErrorKind::InvalidData,
            "invalid length of startup packet",
        )));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn cancel(body: &[u8]) -> Result<Opening, OpeningError> {
    match body.split_first_chunk::<4>() {
        Some((pid, secret)) if SECRET_BYTES.contains(&secret.len()) => {
            Ok(Opening::Cancel { pid: u32::from_be_bytes(*pid), secret: secret.into() })
        }
        _ => Err(malformed()),
    }
}

/// A startup packet of this minor version, with this behind it.
pub(super) fn parse(minor: u32, body: &[u8]) -> Result<Startup, OpeningError> {
    let mut startup = Startup { parameters: Vec::new(), minor, unknown_options: Vec::new() };
    let mut strings = body.split(|&byte| byte == 0);
    loop {
        let name = strings.next().ok_or_else(malformed)?;
        if name.is_empty() {
            break;
        }
        let value = strings.next().ok_or_else(malformed)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| not_utf8());
        let (name, value) = (text(name)?, text(value)?);
        if name.starts_with("_pq_.") {
            startup.unknown_options.push(name);
        } else {
            startup.parameters.push((name, value));
        }
    }
    // Behind the empty name nothing may stand: `split` yields one empty rest behind its NUL.
    if strings.next() != Some(&[]) || strings.next().is_some() {
        return Err(malformed());
    }
    Ok(startup)
}

/// Whether the body of a startup packet, and the options in it, can be understood.
pub(super) fn takes(body: &[u8]) -> bool {
    parse(Version::NEWEST.minor(), body)
        .is_ok_and(|startup| startup.get("options").is_none_or(|text| options(text).is_ok()))
}

fn malformed() -> OpeningError {
    OpeningError::Refused(Refusal::new(ErrorKind::ProtocolViolation, "invalid startup packet layout"))
}

fn not_utf8() -> OpeningError {
    OpeningError::Refused(Refusal::new(ErrorKind::ProtocolViolation, "startup packet is not valid UTF-8"))
}

/// Splits the `options` parameter into settings, as `pg_split_opts` and `process_postgres_switches` of PostgreSQL's
/// `src/backend` do: white space separates, a backslash escapes, `-c name=value` and `--name=value` set.
pub(super) fn options(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|character| character.is_ascii_whitespace()).is_some() {}
        if characters.peek().is_none() {
            break;
        }
        let mut word = String::new();
        while let Some(character) = characters.next_if(|character| !character.is_ascii_whitespace()) {
            word.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        words.push(word);
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word
            .strip_prefix("-c")
            .map(str::to_owned)
            .or_else(|| word.strip_prefix("--").map(str::to_owned))
        {
            Some(rest) if rest.is_empty() && word == "-c" => words.next(),
            other => other,
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = pair else {
            let message = format!("invalid command-line argument for server process: {word}");
            return Err(Refusal::new(ErrorKind::FeatureNotSupported, message)
                .detail("Of the options parameter, \"-c name=value\" and \"--name=value\" are supported."));
        };
        // As in PostgreSQL, dashes in a name stand for underscores.
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_packet_is_pairs_of_strings_and_an_empty_name() {
        let parsed = parse(0, b"user\0fireread\0database\0firefoundry\0\0").unwrap();
        assert_eq!(parsed.get("user"), Some("fireread"));
        assert_eq!(parsed.get("database"), Some("firefoundry"));
        assert!(!parsed.is_negotiable());
        assert!(parse(0, b"\0").is_ok());
        for torn in [&b""[..], b"user", b"user\0", b"user\0x", b"user\0x\0", b"user\0x\0\0more", b"\0\0"] {
            assert!(parse(0, torn).is_err(), "{torn:?}");
        }
        assert!(parse(0, b"user\0\xff\0\0").is_err());
    }

    #[test]
    fn newer_minor_versions_and_unknown_protocol_options_are_to_be_negotiated() {
        let table = [
            (0, Version::V3_0, false),
            (1, Version::V3_0, true),
            (2, Version::V3_2, false),
            (3, Version::V3_2, true),
            (9999, Version::V3_2, true),
            (0xffff, Version::V3_2, true),
        ];
        for (minor, version, negotiable) in table {
            let plain = parse(minor, b"user\0x\0\0").unwrap();
            assert_eq!((plain.version(), plain.is_negotiable()), (version, negotiable), "3.{minor}");
            let optional = parse(minor, b"user\0x\0_pq_.test\0on\0_pq_.\0\0\0").unwrap();
            assert_eq!((optional.version(), optional.is_negotiable()), (version, true), "3.{minor}");
            assert_eq!(optional.unknown_options, ["_pq_.test", "_pq_."]);
            assert_eq!(optional.parameters.len(), 1);
        }
    }

    #[test]
    fn a_cancel_request_has_a_process_id_and_a_secret_of_4_to_256_bytes() {
        for length in 0..300 {
            let body = [&7_u32.to_be_bytes()[..], &vec![9; length]].concat();
            match cancel(&body) {
                Ok(opening) => {
                    assert!(SECRET_BYTES.contains(&length), "{length}");
                    assert_eq!(opening, Opening::Cancel { pid: 7, secret: vec![9; length].into() });
                }
                Err(_) => assert!(!SECRET_BYTES.contains(&length), "{length}"),
            }
        }
        assert!(cancel(b"").is_err() && cancel(&[0; 3]).is_err());
    }

    #[test]
    fn options_are_split_as_postgresql_splits_them() {
        let pairs = |text: &str| options(text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("-c work_mem=8MB  --statement-timeout=5s -csearch_path=a,\\ b"),
            [pair("work_mem", "8MB"), pair("statement_timeout", "5s"), pair("search_path", "a, b")]
        );
        assert_eq!(pairs("-c a=b=c"), [pair("a", "b=c")]);
        assert_eq!(pairs("  "), []);
        for bad in ["-c", "-c x", "-e", "x=y", "--", "-W 5"] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }
}
