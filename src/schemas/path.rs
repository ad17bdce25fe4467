//! The value of `search_path`, as PostgreSQL reads it: `SplitIdentifierString` of its `src/backend/utils/adt/varlena.c`.

/// The schemas of a path, in their order. What is not well formed ends it: PostgreSQL would not have taken it.
pub(super) fn split(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = path.trim_start();
    while !rest.is_empty() {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => match unquote(quoted) {
                Some(parts) => parts,
                None => break,
            },
            None => {
                let end = rest.find([',', ' ', '\t', '\n', '\r', '"']).unwrap_or(rest.len());
                (rest[..end].to_ascii_lowercase(), &rest[end..])
            }
        };
        names.push(name);
        let behind = behind.trim_start();
        match behind.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => break,
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Up to the closing quote, with doubled ones made single, and what is behind.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_path_is_read_as_postgresql_reads_it() {
        for (path, expected) in [
            ("\"$user\", public", &["$user", "public"][..]),
            ("wm,entity , Public", &["wm", "entity", "public"]),
            ("\"We\"\"ird, one\",x", &["We\"ird, one", "x"]),
            ("\"\"", &[]),
            ("", &[]),
            ("  a  ", &["a"]),
            ("a b, c", &["a"]),
            ("\"open, a", &[]),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
