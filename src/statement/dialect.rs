//! What must be known of a session before its text can be read.

/// How the server will read a text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dialect {
    /// Of the bytes that the client sends.
    pub encoding: Encoding,
    /// Off: a backslash in any string is an escape.
    pub standard_conforming_strings: bool,
}

/// `client_encoding`, as far as finding the ends of strings and names cares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// What the grammar reads natively.
    Utf8,
    /// No byte of a character beyond ASCII looks like ASCII: LATINx, WIN125x, KOI8, EUC_*, SQL_ASCII.
    AsciiSafe,
    /// A trailing byte may look like a quote or a backslash (SJIS, BIG5, GBK, UHC, GB18030, JOHAB), or it is unknown.
    Unsafe,
}

impl Default for Dialect {
    /// As a server reads texts that nobody has told anything else.
    fn default() -> Self {
        Self { encoding: Encoding::Utf8, standard_conforming_strings: true }
    }
}

impl Encoding {
    /// From the name as ParameterStatus reports it or a client asks for it: like PostgreSQL (`src/common/encnames.c`),
    /// letters and digits count, in any case.
    pub fn of(client_encoding: &[u8]) -> Self {
        let mut name = [0; LONGEST];
        let mut length = 0;
        for byte in client_encoding.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            let Some(place) = name.get_mut(length) else { return Self::Unsafe };
            *place = byte.to_ascii_lowercase();
            length += 1;
        }
        let name = &name[..length];
        if matches!(name, b"utf8" | b"unicode") {
            return Self::Utf8;
        }
        let safe = ASCII_SAFE.iter().any(|known| known.as_bytes() == name);
        if safe { Self::AsciiSafe } else { Self::Unsafe }
    }
}

/// Longer than every name below.
const LONGEST: usize = 16;

/// From `pg_encname_tbl`: the names and aliases of encodings whose bytes beyond ASCII are never below 0x80.
const ASCII_SAFE: &[&str] = &[
    "abc",
    "alt",
    "euccn",
    "eucjis2004",
    "eucjp",
    "euckr",
    "euctw",
    "iso88591",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "koi8",
    "koi8r",
    "koi8u",
    "latin1",
    "latin10",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "muleinternal",
    "sqlascii",
    "tcvn",
    "tcvn5712",
    "vscii",
    "win",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "windows866",
    "windows874",
];
