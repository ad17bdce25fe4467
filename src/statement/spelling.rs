//! The words of a text in one spelling, for `shape`: the tokens of PostgreSQL's lexer (`src/backend/parser/scan.l`),
//! as far as they are needed to tell literals from words.

use super::shape::{LOOKED_AT, MORE};
use super::tokens::{
    Strings, begins_word, comment, continues_word, ends_line, is_keyword, is_of_session, is_operator, length,
    quoted, string,
};

/// `NAMEDATALEN - 1` of PostgreSQL's src/include/pg_config_manual.h: the server cuts longer names as well.
const LONGEST_NAME: usize = 63;

/// Parentheses within one another whose contents are compared.
const DEPTH: usize = 16;

/// What stands last in the words.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Last {
    #[default]
    Nothing,
    Word,
    /// A word that is no name in front of a parenthesis.
    Keyword,
    Literal,
    Operator,
    Comma,
    Semicolon,
    /// Something that nothing is put behind with a blank.
    Tight,
    Close,
}

/// Which words of a statement are names of a moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Names {
    /// None.
    #[default]
    Stay,
    /// Those that are no keywords of it.
    Hidden,
    /// The next one.
    NextHidden,
    /// None yet: behind TO or `=`, everything is a value.
    Set,
    /// None, unless SET comes: of a role, of a database, of the system.
    Alter,
    /// Everything up to the end.
    Value,
}

/// Makes words, and keeps the memory for them.
#[derive(Default, Debug)]
pub(super) struct Speller {
    out: Vec<u8>,
    /// Where the statements end, before their semicolons.
    ends: Vec<usize>,
    last: Last,
    /// The comma at the end has a literal in front of it.
    listed: bool,
    names: Names,
    /// NULL and the like are no values behind the last word.
    of_word: bool,
    depth: usize,
    /// Where the parentheses that are open begin.
    open: [usize; DEPTH],
    /// What was closed last, by its depth.
    closed: [(usize, usize); DEPTH],
}

impl Speller {
    /// Reads a text.
    pub(super) fn read(&mut self, text: &[u8], strings: Strings) {
        let Self { out, ends, .. } = std::mem::take(self);
        (self.out, self.ends) = (out, ends);
        self.out.clear();
        self.ends.clear();
        let cut = &text[..text.len().min(LOOKED_AT)];
        let mut rest = cut;
        while let Some(first) = rest.first() {
            match self.token(*first, rest, strings) {
                Some(taken) => rest = &rest[taken.clamp(1, rest.len())..],
                None => break,
            }
        }
        if !rest.is_empty() || cut.len() < text.len() {
            self.leave();
        }
    }

    /// All of them.
    pub(super) fn words(&self) -> &[u8] {
        let end = self.out.iter().rposition(|byte| !b"; ".contains(byte));
        &self.out[..end.map_or(0, |end| end + 1)]
    }

    /// Those of each statement that has any.
    pub(super) fn statements(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.iter().copied().chain([self.out.len()]);
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end + 1));
        let parts = starts.zip(ends).map(|(start, end)| self.out.get(start..end).unwrap_or_default());
        parts.map(<[u8]>::trim_ascii).filter(|words| !words.is_empty())
    }

    /// Takes the token at the beginning of `rest`, and returns how long it is; `None` where that is not certain.
    fn token(&mut self, first: u8, rest: &[u8], strings: Strings) -> Option<usize> {
        let next = rest.get(1).copied().unwrap_or(0);
        match first {
            0..=b' ' | 0x7f => return Some(1),
            b'-' if next == b'-' => {
                return Some(length(rest, |byte| !ends_line(byte)));
            }
            b'/' if next == b'*' => return comment(rest),
            b'\'' => return self.string(rest, 0, strings),
            b'"' => {
                let end = quoted(rest)?;
                if strings == Strings::Doubtful && rest[..end].iter().any(|byte| b"'$".contains(byte)) {
                    return None;
                }
                self.name(&rest[..end.min(LONGEST_NAME + 1)], end > LONGEST_NAME + 1);
                return Some(end);
            }
            b'$' if next.is_ascii_digit() => {
                self.literal();
                return Some(1 + length(&rest[1..], continues_number));
            }
            b'$' if strings == Strings::Doubtful => return None,
            b'$' => return self.dollar(rest),
            b'0'..=b'9' => return Some(self.number(rest)),
            b'.' if next.is_ascii_digit() && !matches!(self.last, Last::Word | Last::Close) => {
                return Some(self.number(rest));
            }
            b'(' | b'[' => self.open(first),
            b')' | b']' => self.close(first),
            b',' => {
                self.listed = self.last == Last::Literal;
                self.put(b",", Last::Comma);
                return Some(1);
            }
            b';' => {
                self.semicolon();
                return Some(1);
            }
            b'.' => self.put(b".", Last::Tight),
            b':' if next == b':' => {
                self.put(b"::", Last::Tight);
                return Some(2);
            }
            _ if is_operator(first) => return Some(self.operator(rest)),
            _ if begins_word(first) => return self.word(rest, strings),
            _ => self.put(&[first], Last::Operator),
        }
        Some(1)
    }

    fn word(&mut self, rest: &[u8], strings: Strings) -> Option<usize> {
        let taken = length(rest, continues_word);
        let word = &rest[..taken];
        let behind = &rest[taken..];
        match (word, behind) {
            ([b'e' | b'E'], [b'\'', ..]) if matches!(strings, Strings::Plain | Strings::Escaping) => {
                return self.string(rest, 1, Strings::Escaping);
            }
            ([b'e' | b'E' | b'n' | b'N'], [b'\'', ..]) => return self.string(rest, 1, strings),
            ([b'b' | b'B' | b'x' | b'X'], [b'\'', ..]) => {
                return self.string(rest, 1, strings.without_escapes());
            }
            ([b'u' | b'U'], [b'&', b'\'', ..]) => return self.string(rest, 2, strings.without_escapes()),
            _ => {}
        }
        let mut lower = [0; LONGEST_NAME];
        let short = taken.min(LONGEST_NAME);
        lower[..short].copy_from_slice(&word[..short]);
        lower[..short].make_ascii_lowercase();
        let word = &lower[..short];
        if self.last == Last::Nothing {
            self.begin(word);
            return Some(taken);
        }
        match word {
            b"null" | b"true" | b"false" if !self.of_word => self.literal(),
            b"to" if self.names == Names::Set && self.depth == 0 => self.value(),
            b"set" if self.names == Names::Alter && self.depth == 0 => {
                self.name(word, false);
                self.names = Names::Set;
            }
            b"role" | b"authorization" if self.names == Names::Set => {
                self.name(word, false);
                self.names = Names::NextHidden;
            }
            _ => self.name(word, false),
        }
        self.of_word = matches!(word, b"is" | b"not" | b"set" | b"on");
        // What follows is a secret that somebody has forgotten to quote.
        let secret = strings == Strings::Doubtful && matches!(word, b"password" | b"identified");
        (!secret).then_some(taken)
    }

    /// The first word of a statement says what its names are.
    fn begin(&mut self, word: &[u8]) {
        self.put(word, if is_keyword(word) { Last::Keyword } else { Last::Word });
        self.names = match word {
            b"set" => Names::Set,
            b"alter" => Names::Alter,
            b"declare" | b"prepare" | b"execute" => Names::NextHidden,
            b"savepoint" | b"release" | b"rollback" | b"deallocate" | b"close" | b"fetch" | b"move"
            | b"listen" | b"unlisten" | b"notify" => Names::Hidden,
            _ => Names::Stay,
        };
    }

    /// A word that may be a name, as it is to be written.
    fn name(&mut self, word: &[u8], cut: bool) {
        let names = self.names;
        if names == Names::NextHidden {
            self.names = Names::Stay;
        }
        let hidden = matches!(names, Names::NextHidden if word != b"transaction");
        if hidden || (names == Names::Hidden && !is_of_session(word)) {
            return self.literal();
        }
        self.put(word, if is_keyword(word) { Last::Keyword } else { Last::Word });
        if cut && self.names != Names::Value {
            self.out.push(b'"');
        }
    }

    /// What SET sets.
    fn value(&mut self) {
        self.put(b"=", Last::Operator);
        self.literal();
        self.names = Names::Value;
    }

    fn operator(&mut self, rest: &[u8]) -> usize {
        let mut taken = length(rest, is_operator);
        let comment = rest[..taken].windows(2).position(|pair| matches!(pair, b"--" | b"/*"));
        taken = comment.unwrap_or(taken);
        // One with signs at its end is another one, unless it has something of these.
        let special = |byte: &u8| b"~!@#%^&|`?".contains(byte);
        while taken > 1 && matches!(rest[taken - 1], b'+' | b'-') && !rest[..taken].iter().any(special) {
            taken -= 1;
        }
        let operator = &rest[..taken];
        if matches!(operator, b"-" | b"+") && self.takes_sign() {
            let behind = rest[taken..].trim_ascii_start();
            if matches!(behind, [b'0'..=b'9', ..] | [b'.' | b'$', b'0'..=b'9', ..]) {
                return taken;
            }
        }
        match self.names {
            Names::Set if operator == b"=" && self.depth == 0 => self.value(),
            _ => self.put(operator, Last::Operator),
        }
        taken
    }

    /// Whether a sign is a number's, not between two values.
    fn takes_sign(&self) -> bool {
        matches!(self.last, Last::Nothing | Last::Keyword | Last::Operator | Last::Comma | Last::Tight)
    }

    fn string(&mut self, rest: &[u8], prefix: usize, strings: Strings) -> Option<usize> {
        let length = string(&rest[prefix..], strings)?;
        self.literal();
        Some(prefix + length)
    }

    fn dollar(&mut self, rest: &[u8]) -> Option<usize> {
        let tag = 1 + length(&rest[1..], |byte| continues_word(byte) && byte != b'$');
        if rest.get(tag) != Some(&b'$') {
            self.put(b"$", Last::Operator);
            return Some(1);
        }
        let (tag, behind) = rest.split_at(tag + 1);
        let end = behind.windows(tag.len()).position(|bytes| bytes == tag)?;
        self.literal();
        Some(end + 2 * tag.len())
    }

    /// A number, with whatever follows it directly.
    fn number(&mut self, rest: &[u8]) -> usize {
        let mut taken = length(rest, |byte| continues_number(byte) || byte == b'.');
        let hexadecimal = matches!(rest, [b'0', b'x' | b'X', ..]);
        let exponent = matches!(rest[taken - 1], b'e' | b'E') && !hexadecimal;
        if exponent && matches!(rest[taken..], [b'+' | b'-', b'0'..=b'9', ..]) {
            taken += 1 + length(&rest[taken + 1..], continues_number);
        }
        self.literal();
        taken
    }

    /// One behind another is the same, and so is one behind another and a comma.
    fn literal(&mut self) {
        if self.last == Last::Comma && self.listed {
            self.out.pop();
            self.last = Last::Literal;
        }
        if self.last != Last::Literal {
            self.put(b"?", Last::Literal);
        }
        self.of_word = false;
    }

    fn open(&mut self, bracket: u8) {
        let tight = bracket == b'[' || self.last == Last::Word;
        if !tight {
            self.blank();
        }
        if let Some(open) = self.open.get_mut(self.depth) {
            *open = self.out.len();
        }
        self.depth += 1;
        self.tight(&[bracket], Last::Tight);
    }

    fn close(&mut self, bracket: u8) {
        self.tight(&[bracket], Last::Close);
        self.depth = self.depth.saturating_sub(1);
        if self.depth >= DEPTH {
            return;
        }
        let (start, end) = (self.open[self.depth], self.out.len());
        if let Some(before) = self.same_before(start) {
            let equal = self.out.get(before.0..before.1) == self.out.get(start..end);
            if equal {
                self.out.truncate(before.1);
                return;
            }
        }
        self.closed[self.depth] = (start, end);
    }

    /// What was closed last at this depth, if only a comma is between it and `start`.
    fn same_before(&self, start: usize) -> Option<(usize, usize)> {
        let (from, to) = *self.closed.get(self.depth)?;
        (from < to && self.out.get(to..start) == Some(b", ")).then_some((from, to))
    }

    fn semicolon(&mut self) {
        self.names = Names::Stay;
        if self.depth == 0 {
            self.ends.push(self.out.len());
        }
        self.tight(b";", Last::Semicolon);
        if self.depth == 0 {
            // The next word is the first of a statement.
            self.out.push(b' ');
            self.last = Last::Nothing;
        }
    }

    /// The text does not end here. Where a row in a list of them is cut, what is there of it depends on where.
    fn leave(&mut self) {
        let depth = self.depth.min(DEPTH);
        for level in 0..depth {
            self.depth = level;
            if let Some((_, end)) = self.same_before(self.open[level]) {
                self.out.truncate(end);
                break;
            }
        }
        let words = self.out.trim_ascii_end();
        let end = words.strip_suffix(b",").unwrap_or(words).len();
        self.out.truncate(end);
        self.out.extend_from_slice(MORE.as_bytes());
    }

    fn blank(&mut self) {
        if !matches!(self.last, Last::Nothing | Last::Tight) && self.names != Names::Value {
            self.out.push(b' ');
        }
    }

    fn put(&mut self, token: &[u8], last: Last) {
        if !matches!(token, b"," | b"." | b"::") {
            self.blank();
        }
        self.tight(token, last);
    }

    fn tight(&mut self, token: &[u8], last: Last) {
        if self.names == Names::Value {
            return;
        }
        let plain = token.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte });
        self.out.extend(plain);
        self.last = last;
        self.of_word = false;
    }
}

/// A number ends in front of a dollar sign, which may begin a string.
fn continues_number(byte: u8) -> bool {
    continues_word(byte) && byte != b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn words(text: &str, strings: Strings) -> String {
        let mut speller = Speller::default();
        speller.read(text.as_bytes(), strings);
        String::from_utf8_lossy(speller.words()).into_owned()
    }

    /// Each text has the words in front of it.
    #[track_caller]
    fn alike(cases: &[(&str, &[&str])]) {
        for (expected, texts) in cases {
            for text in *texts {
                assert_eq!(words(text, Strings::Plain), *expected, "{text}");
            }
        }
    }

    #[test]
    fn texts_that_differ_in_literals_and_layout_have_the_same_words() {
        alike(&[
            (
                "select a, \"B c\" from wm.t where b = ? and c in (?) limit ?",
                &[
                    "SELECT a, \"B c\" FROM wm.t WHERE b = 1 AND c IN (1, 2, 3) LIMIT 10",
                    "select a,\"B c\"from wm . t\nwhere b='x''y'and c in($1,$2)limit $3;",
                ],
            ),
            (
                "insert into t(a, b) values (?)",
                &[
                    "INSERT INTO t (a, b) VALUES (1, 'x')",
                    "INSERT INTO t(a,b) VALUES (-1, NULL), (0x1F, E'a\\'b'), (1_000, TRUE)",
                    "INSERT INTO t(a,b) VALUES ($1, $2), ($3, $4);",
                ],
            ),
            (
                "insert into t values (?, now(), f(?, a[?]))",
                &["INSERT INTO t VALUES (1, now(), f(1, a[2])), (2, now(), f(3, a[4])),(9,now(),f(1,a[1]))"],
            ),
            (
                "select a - ?, b + ?, (? * ?), count(*), t.* from t",
                &[
                    "SELECT a - 1, b+2, (-3 * -4), count(*), t.* FROM t",
                    "SELECT a-1.5, b + .2, (3*4), COUNT( * ), t . * FROM t",
                ],
            ),
            (
                "select a = ? and b is null and c is not true",
                &[
                    "SELECT a=-1 AND b IS NULL AND c IS NOT TRUE",
                    "SELECT a = NULL AND b IS NULL AND c IS NOT TRUE",
                ],
            ),
            ("select ?::int, a::text[], ? from t", &["SELECT '1'::int, a :: text[], 'a'\n'b' FROM t"]),
        ]);
    }

    #[test]
    fn commands_that_differ_in_literals_and_layout_have_the_same_words() {
        alike(&[
            ("do ?; select ?", &["DO $x$ secret $$ $x$; SELECT $$secret$$", "do 'x'; select 1"]),
            (
                "set local app.tenant = ?; select ?",
                &["SET LOCAL app.tenant TO bob; SELECT 1", "SET LOCAL app.tenant = 'a', b, c; SELECT 2"],
            ),
            (
                "set transaction isolation level serializable",
                &["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
            ),
            ("rollback to savepoint ?", &["ROLLBACK TO SAVEPOINT sp_12", "rollback to savepoint \"X\""]),
            ("fetch forward ? from ?", &["FETCH FORWARD 100 FROM \"_curs_17\"", "fetch forward 5 from c1"]),
            (
                "declare ? no scroll cursor for select a from t",
                &["DECLARE c1 NO SCROLL CURSOR FOR SELECT a FROM t"],
            ),
            ("execute ? (?)", &["EXECUTE p(1, 'x')"]),
            (
                "update t set a = a || ? where data ? ? returning *",
                &["UPDATE t SET a = a||'x' WHERE data ? 'key' RETURNING *"],
            ),
        ]);
    }

    #[test]
    fn what_alter_sets_is_in_no_words_as_what_set_sets() {
        for (text, expected) in [
            (
                "ALTER ROLE app IN DATABASE d SET app.token TO secret",
                "alter role app in database d set app.token = ?",
            ),
            ("ALTER DATABASE d SET app.token = 'x', y", "alter database d set app.token = ?"),
            ("ALTER SYSTEM SET a = secret; SELECT 1", "alter system set a = ?; select ?"),
            ("ALTER TABLE t RENAME TO u", "alter table t rename to u"),
            (
                "ALTER TABLE t SET SCHEMA u, ALTER c SET DEFAULT 5",
                "alter table t set schema u, alter c set default ?",
            ),
        ] {
            assert_eq!(words(text, Strings::Plain), expected, "{text}");
        }
    }

    #[test]
    fn literals_are_in_no_words_whatever_they_look_like() {
        for (text, strings, expected) in [
            (r"UPDATE t SET a = E'secret\'; more secret'", Strings::Unknown, "update t set a = ..."),
            (r"UPDATE t SET a = E'secret\'; more secret'", Strings::Plain, "update t set a = ?"),
            (r"UPDATE t SET a = 'secret\'; SELECT ''secret'", Strings::Escaping, "update t set a = ?"),
            (r"UPDATE t SET a = 'secret\', b", Strings::Plain, "update t set a = ?, b"),
            ("SELECT 'never closed secret", Strings::Plain, "select ..."),
            ("SELECT $tag$ secret", Strings::Plain, "select ..."),
            ("SELECT /* secret", Strings::Plain, "select ..."),
            ("SELECT 1 /* /* secret */ secret */ + 2 -- secret", Strings::Plain, "select ? + ?"),
            ("SELECT U&'\\0073ecret', X'5ec2e7', B'01', N'secret'", Strings::Plain, "select ?"),
            ("SELECT 123secret, 1.5e10secret", Strings::Plain, "select ?"),
            ("SELECT a$b$c, $1secret, a$$b", Strings::Plain, "select a$b$c, ?, a$$b"),
            ("ALTER ROLE a PASSWORD 'secret'", Strings::Unknown, "alter role a password ?"),
            ("SELECT 1\u{7}\\ 2", Strings::Plain, "select ? \\ ?"),
            ("SELECT E'a'\n'b\\' secret', c", Strings::Plain, "select ?, c"),
            ("SELECT E'a' -- '\r\t-- '\n'b\\' secret', c", Strings::Plain, "select ?, c"),
            ("SELECT E'a' 'b\\', c", Strings::Plain, "select ?, c"),
            ("SELECT --\r 'a\n secret', b", Strings::Plain, "select ?, b"),
            ("SELECT 1$$my secret$$, $1$$my secret$$, 1$2", Strings::Plain, "select ?"),
            ("SELECT b'\\', 'secret', U&'\\', 'secret', c", Strings::Escaping, "select ?, c"),
        ] {
            assert_eq!(words(text, strings), expected, "{text}");
        }
        let name = format!("SELECT \"{}\", {}", "a".repeat(100), "B".repeat(100));
        let expected = format!("select \"{}\", {}", "a".repeat(63), "b".repeat(63));
        assert_eq!(words(&name, Strings::Plain), expected);
    }

    /// The cache keeps one shape for texts that differ in these numbers.
    #[test]
    fn numbers_that_the_cache_leaves_out_are_in_no_words() {
        let corpus = include_str!("../../tests/postgres/guard/allowed.txt");
        let (mut blank, mut tried) = (Vec::new(), 0);
        for line in corpus.lines().map(str::trim) {
            if !crate::statement::numbers::blank(line.as_bytes(), &mut blank) {
                continue;
            }
            let blank = std::str::from_utf8(&blank).unwrap();
            let spelled =
                ["0", "7", "10", "999999999"].map(|n| words(&blank.replace('\0', n), Strings::Plain));
            assert!(spelled.iter().all(|words| *words == spelled[0]), "{line}: {spelled:?}");
            tried += 1;
        }
        assert!(tried > 40, "{tried}");
    }

    /// libpg_query leaves out the constants that the grammar has found; what is left has to have the same words.
    #[test]
    fn the_grammar_finds_the_same_literals() {
        let corpus = [
            include_str!("../../tests/postgres/guard/refused.txt"),
            include_str!("../../tests/postgres/guard/allowed.txt"),
        ];
        let lines = corpus.iter().flat_map(|text| text.lines()).flat_map(|line| line.split(" ;;; "));
        let (mut same, mut others) = (0, Vec::new());
        // It takes these keywords for constants.
        let keywords =
            ["SET TRANSACTION", "AS TRANSACTION", "LOCAL TRANSACTION", "XML OPTION", "extract(", "NFC"];
        let lines = lines.filter(|line| !keywords.iter().any(|keyword| line.contains(keyword)));
        for text in lines.map(|line| line.trim().replace(['{', '}'], "")) {
            let Ok(normal) = pg_raw_parse::normalize::normalize(&text) else { continue };
            let (ours, theirs) = (words(&text, Strings::Plain), words(&normal, Strings::Plain));
            if ours == theirs {
                same += usize::from(normal != text);
            } else {
                others.push(format!("{text}\n  {ours}\n  {theirs}"));
            }
        }
        assert!(others.is_empty() && same > 250, "{same} are the same, but not: {}", others.join("\n"));
    }

    /// Pieces that end and begin strings, put together in any order: where the grammar reads them, so do we.
    #[test]
    fn the_grammar_finds_the_same_literals_in_texts_that_nobody_would_write() {
        let pieces = [
            "'",
            "''",
            "E'",
            "e'",
            "U&'",
            "x'",
            "b'",
            "\\",
            "\\'",
            "\n",
            "\r",
            "\r\n",
            " ",
            "\t",
            "--",
            "/*",
            "*/",
            "$$",
            "$a$",
            "$",
            "1",
            ".5",
            "1.5e3",
            "$1",
            " a ",
            " secret ",
            ",",
            "\"x' --\"",
            "(",
            ")",
            "::",
            "||",
            "=",
        ];
        let (mut state, mut read) = (11_u64, 0);
        for _ in 0..60_000 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize
            };
            let many = 2 + next() % 9;
            let text: String = (0..many).map(|_| pieces[next() % pieces.len()]).collect();
            let text = format!("SELECT {text}");
            let Ok(normal) = pg_raw_parse::normalize::normalize(&text) else { continue };
            read += usize::from(normal != text);
            // It leaves no blank where a literal had none behind it.
            let normal = (1..=9).fold(normal, |text, n| text.replace(&format!("${n}"), &format!("${n} ")));
            assert_eq!(words(&text, Strings::Plain), words(&normal, Strings::Plain), "{text:?} {normal:?}");
        }
        assert!(read > 1_000, "{read}");
    }

    #[test]
    fn a_long_list_of_rows_has_the_same_words_wherever_it_is_cut() {
        let rows = |width: usize, many: usize| {
            let row = format!("({}, 'x, (y', now())", "1".repeat(width));
            format!("INSERT INTO t VALUES {}", vec![row; many].join(", "))
        };
        let whole = words(&rows(3, 10), Strings::Plain);
        assert_eq!(whole, "insert into t values (?, now())");
        for width in 1..60 {
            let cut = words(&rows(width, 5_000), Strings::Plain);
            assert_eq!(cut, format!("{whole} ..."), "{width}");
        }
    }

    #[test]
    fn whatever_the_bytes_it_comes_to_an_end_and_grows_little() {
        let mut speller = Speller::default();
        let mut state = 7_u64;
        for _ in 0..3_000 {
            let text: Vec<u8> = (0..60)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    b"'\"$a1.;()[],:-/*+=\\ eE\nuU&_\0\xc3\xa9?"[(state >> 40) as usize % 31]
                })
                .collect();
            for strings in [Strings::Plain, Strings::Escaping, Strings::Unknown] {
                speller.read(&text, strings);
                assert!(speller.words().len() <= 3 * text.len() + 8);
                speller.statements().for_each(drop);
            }
        }
        speller.read(&b"(".repeat(100_000), Strings::Plain);
        speller.read(&b")".repeat(100_000), Strings::Plain);
    }
}
