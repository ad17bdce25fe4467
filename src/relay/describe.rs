//! What the server says of a prepared statement, while it passes by.
//!
//! Kept is what PostgreSQL holds a statement to from its Parse on: the types of the parameters, and of each column of the
//! result the name, the type and its modifier (`RevalidateCachedQuery` in its `src/backend/utils/cache/plancache.c`).
//! Which table a column comes from may change, and so that is not looked at.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

/// The longest list of parameter types that is kept, in bytes: 4,095 of them.
const LONGEST_TYPES: usize = 16 * 1024;

/// Bytes of a column behind its name: table (4), number (2), type (4), size (2), modifier (4), format (2). See
/// RowDescription in the section "Message Formats" of PostgreSQL's documentation.
const COLUMN: usize = 18;

/// Those that count: type and modifier.
const COUNTS: [std::ops::Range<usize>; 2] = [6..10, 12..16];

/// Stands for all that a client is told of a statement. Two that are equal were told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    digest: [u8; 16],
    rows: bool,
}

impl Shape {
    /// Whether it yields rows: only then can its result change.
    pub fn has_rows(self) -> bool {
        self.rows
    }

    /// One that differs from that of another number.
    #[cfg(test)]
    pub fn of_test(number: u8, rows: bool) -> Self {
        Self { digest: [number; 16], rows }
    }
}

/// What the server said of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// All of it.
    pub shape: Shape,
    /// The types of its parameters with their count, as Parse has them; `None` if there are too many to keep.
    pub types: Option<Arc<[u8]>>,
}

/// Where in a message the next byte stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Within the list of parameter types.
    Types,
    /// So many bytes of the number of columns are still to come.
    Count(usize),
    /// In the name of a column.
    Name,
    /// So many bytes behind the name of a column.
    Behind(usize),
}

/// Takes down one description.
pub(super) struct Scribe {
    digest: Context,
    types: Vec<u8>,
    place: Place,
    rows: bool,
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Scribe {
    pub(super) fn new() -> Self {
        Self { digest: Context::new(&SHA256), types: Vec::new(), place: Place::Types, rows: false }
    }

    /// A message of this type begins.
    pub(super) fn begin(&mut self, tag: u8) {
        self.digest.update(&[tag]);
        self.rows = tag == b'T';
        self.place = if tag == b't' { Place::Types } else { Place::Count(2) };
    }

    /// The next bytes of its body, however it is cut.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.place {
                Place::Types => {
                    let room = (LONGEST_TYPES + 1).saturating_sub(self.types.len());
                    self.types.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    self.digest.update(bytes);
                    bytes.len()
                }
                Place::Count(left) => {
                    let taken = left.min(bytes.len());
                    self.digest.update(&bytes[..taken]);
                    self.place = if taken < left { Place::Count(left - taken) } else { Place::Name };
                    taken
                }
                Place::Name => {
                    let end = bytes.iter().position(|&byte| byte == 0);
                    let taken = end.map_or(bytes.len(), |end| end + 1);
                    self.digest.update(&bytes[..taken]);
                    if end.is_some() {
                        self.place = Place::Behind(0);
                    }
                    taken
                }
                Place::Behind(at) => {
                    let taken = bytes.len().min(COLUMN - at);
                    for counts in COUNTS {
                        let (from, to) = (counts.start.max(at), counts.end.min(at + taken));
                        if from < to {
                            self.digest.update(&bytes[from - at..to - at]);
                        }
                    }
                    self.place = if at + taken < COLUMN { Place::Behind(at + taken) } else { Place::Name };
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// The end of the last message.
    pub(super) fn finish(self) -> Description {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.digest.finish().as_ref()[..16]);
        let kept = self.types.len() <= LONGEST_TYPES;
        Description {
            shape: Shape { digest, rows: self.rows },
            types: kept.then(|| Arc::from(self.types.as_slice())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, table: u32, oid: u32, modifier: i32, format: u16) -> Vec<u8> {
        let mut bytes = [name.as_bytes(), b"\0"].concat();
        bytes.extend(table.to_be_bytes());
        bytes.extend(7_u16.to_be_bytes());
        bytes.extend(oid.to_be_bytes());
        bytes.extend(4_u16.to_be_bytes());
        bytes.extend(modifier.to_be_bytes());
        bytes.extend(format.to_be_bytes());
        bytes
    }

    fn rows(columns: &[Vec<u8>]) -> Vec<u8> {
        [&(columns.len() as u16).to_be_bytes()[..], &columns.concat()].concat()
    }

    fn describe(types: &[u8], result: Option<&[u8]>, piece: usize) -> Description {
        let mut scribe = Scribe::new();
        scribe.begin(b't');
        types.chunks(piece).for_each(|piece| scribe.take(piece));
        scribe.begin(if result.is_some() { b'T' } else { b'n' });
        result.unwrap_or_default().chunks(piece).for_each(|piece| scribe.take(piece));
        scribe.finish()
    }

    #[test]
    fn a_description_is_the_same_however_it_is_cut() {
        let result = rows(&[column("n", 16_384, 23, -1, 0), column("Größe", 0, 1043, 14, 0)]);
        let whole = describe(b"\0\x01\0\0\0\x17", Some(&result), usize::MAX);
        for piece in 1..result.len() {
            assert_eq!(describe(b"\0\x01\0\0\0\x17", Some(&result), piece), whole, "pieces of {piece}");
        }
        assert!(whole.shape.has_rows() && !describe(b"\0\0", None, 1).shape.has_rows());
        assert_eq!(whole.types.as_deref(), Some(&b"\0\x01\0\0\0\x17"[..]));
    }

    #[test]
    fn what_a_client_relies_on_makes_a_difference_and_nothing_else_does() {
        let shape = |types: &[u8], columns: &[Vec<u8>]| describe(types, Some(&rows(columns)), 7).shape;
        let known = shape(b"\0\0", &[column("n", 1, 23, -1, 0)]);
        assert_eq!(shape(b"\0\0", &[column("n", 2, 23, -1, 1)]), known, "another table of the same columns");
        for (what, other) in [
            ("a name", shape(b"\0\0", &[column("m", 1, 23, -1, 0)])),
            ("a type", shape(b"\0\0", &[column("n", 1, 20, -1, 0)])),
            ("a modifier", shape(b"\0\0", &[column("n", 1, 23, 8, 0)])),
            ("a column more", shape(b"\0\0", &[column("n", 1, 23, -1, 0), column("x", 1, 25, -1, 0)])),
            ("no column", shape(b"\0\0", &[])),
            ("a parameter", shape(b"\0\x01\0\0\0\x17", &[column("n", 1, 23, -1, 0)])),
            ("no result", describe(b"\0\0", None, 7).shape),
        ] {
            assert_ne!(other, known, "{what}");
        }
    }

    #[test]
    fn a_list_of_types_without_end_is_not_kept() {
        let types = vec![1; LONGEST_TYPES + 1];
        let long = describe(&types, None, 1000);
        assert_eq!(long.types, None);
        assert_ne!(long.shape, describe(&vec![1; LONGEST_TYPES + 2], None, 1000).shape);
        assert!(describe(&types[1..], None, 1000).types.is_some());
    }

    #[test]
    fn whatever_comes_it_does_not_panic() {
        for length in 0..100 {
            describe(&vec![0; length], Some(&vec![0; length]), 3);
            describe(&vec![0xff; length], Some(&vec![0xff; length]), 3);
        }
    }
}
