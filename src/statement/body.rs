//! What the body of a function may do to the session, by its words, whatever its language. Too much is found rather than
//! too little.

use super::functions::runs_sql;

/// What a statement may do by what it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Nothing that its text does not tell.
    #[default]
    Nothing,
    /// Something, which the server can be asked about.
    Session,
    /// Something, by SQL that is put together as it runs: settings may be set that nobody knows to ask about.
    Dynamic,
    /// Something that cannot be found out afterwards.
    Untold,
}

impl Touch {
    /// Those that are more than nothing.
    pub const GRADES: [Self; 3] = [Self::Session, Self::Dynamic, Self::Untold];
}

/// What the body of one function may do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Something, which the server can be asked about.
    pub any: bool,
    /// It runs SQL that it puts together or is given.
    pub dynamic: bool,
    /// Something that cannot be found out afterwards.
    pub untold: bool,
    /// Settings of the application's own that it may set. The server lists others by itself.
    pub names: Vec<Box<str>>,
}

impl Body {
    /// The most that it may do.
    pub fn touch(&self) -> Touch {
        match self {
            Self { any: false, .. } => Touch::Nothing,
            Self { untold: true, .. } => Touch::Untold,
            Self { dynamic: true, .. } => Touch::Dynamic,
            _ => Touch::Session,
        }
    }

    /// Reads the source.
    pub fn read(source: &str) -> Self {
        let source = source.to_ascii_lowercase();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        let (bytes, mut at) = (source.as_bytes(), 0);
        let (mut found, mut update) = (Self::default(), Update::default());
        while at < bytes.len() {
            let length = bytes[at..].iter().take_while(|&&byte| is_word(byte)).count();
            if length == 0 {
                update.passes(&bytes[at..]);
                at += 1;
                continue;
            }
            let word = &source[at..at + length];
            at += length;
            let sets_columns = update.reads(word);
            found.any |= word.contains("pg_temp");
            match word.rsplit('.').next().unwrap_or(word) {
                "set_config" => found.sets_config(&source[at..]),
                "set" if !sets_columns => found.sets(&source[at..]),
                "setseed" | "load" | "dblink_connect" | "dblink_connect_u" => {
                    (found.any, found.untold) = (true, true)
                }
                "temp" | "temporary" | "listen" | "prepare" | "deallocate" | "discard" | "hold"
                | "pg_settings" => found.any = true,
                "reset" => found.resets(&source[at..]),
                "execute" | "spi_exec" | "spi_exec_query" | "spi_query" | "spi_prepare"
                    if is_dynamic(&source[at..]) =>
                {
                    (found.any, found.dynamic) = (true, true);
                }
                // Of PL/Python and PL/v8; a column of that name costs little.
                "cursor" if word.contains('.') => (found.any, found.dynamic) = (true, true),
                name if runs_sql(name) => (found.any, found.dynamic) = (true, true),
                word => found.any |= word.contains("advisory_lock") && !word.contains("xact"),
            }
        }
        found
    }

    fn sets_config(&mut self, rest: &str) {
        self.any = true;
        // Without arguments it is a name: that of a view's column, most likely.
        let Some(rest) = rest.trim_start().strip_prefix('(') else { return };
        match whole_constant(rest.trim_start()) {
            Some(name) => self.name(name),
            None => self.untold = true,
        }
    }

    fn sets(&mut self, rest: &str) {
        let mut words = rest.split_ascii_whitespace();
        let mut name = words.next().unwrap_or_default();
        if name == "session" {
            name = words.next().unwrap_or_default();
        }
        if name == "local" {
            return;
        }
        self.any = true;
        // What is behind a point of its own is not in the word.
        let parted = words.next().is_some_and(|next| next.starts_with('.')) || name.ends_with('.');
        let name = name.split(['=', ';', '\'']).next().unwrap_or_default();
        self.untold |= parted;
        if name == "session_authorization" || name == "authorization" {
            self.untold = true;
        }
        self.name(name);
    }

    fn resets(&mut self, rest: &str) {
        self.any = true;
        let name = rest.split_ascii_whitespace().next().unwrap_or_default();
        let name = name.split(['=', ';', '\'']).next().unwrap_or_default();
        if name.contains('.') {
            self.name(name);
        }
    }

    /// Those without a dot the server lists by itself.
    fn name(&mut self, name: &str) {
        let plain =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'));
        match (name.contains('.'), plain) {
            (true, true) => self.names.push(name.into()),
            (_, false) => self.untold = true,
            _ => {}
        }
    }
}

/// Follows an UPDATE up to its SET, which sets columns and no setting.
#[derive(Default)]
struct Update {
    /// Words since UPDATE; `None` outside of one.
    words: Option<u8>,
    /// Within a comment that ends with its line.
    comment: bool,
}

impl Update {
    /// `ONLY`, the table, `AS`, and its other name.
    const MOST: u8 = 4;

    /// Something that is no word. Only blanks and quoted names stand between UPDATE and its SET.
    fn passes(&mut self, rest: &[u8]) {
        self.comment = (self.comment || rest.starts_with(b"--")) && rest[0] != b'\n';
        if !rest[0].is_ascii_whitespace() && rest[0] != b'"' && rest[0].is_ascii() {
            self.words = None;
        }
    }

    /// The next word; whether it is the SET of an UPDATE.
    fn reads(&mut self, word: &str) -> bool {
        let words = self.words.take();
        match word {
            "update" => self.words = (!self.comment).then_some(0),
            "set" => return words.is_some(),
            "then" | "else" | "loop" | "begin" => {}
            _ => self.words = words.map(|words| words + 1).filter(|words| *words <= Self::MOST),
        }
        false
    }
}

/// A constant that is all of an argument, with its quotes doubled where it stands in another constant.
fn whole_constant(rest: &str) -> Option<&str> {
    let quote = if rest.starts_with("''") { "''" } else { "'" };
    let (constant, behind) = rest.strip_prefix(quote)?.split_once(quote)?;
    let behind = behind.strip_prefix("::text").unwrap_or(behind);
    behind.trim_start().starts_with(',').then_some(constant)
}

/// Whether EXECUTE, which stands in front, runs anything but a constant, whose words are read like others. (What it names
/// may also be a trigger's function, or a privilege.)
fn is_dynamic(rest: &str) -> bool {
    let rest = rest.trim_start().trim_start_matches('(').trim_start();
    if ["function", "procedure", "on "].iter().any(|start| rest.starts_with(start)) {
        return false;
    }
    let Some((_, after)) = rest.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) else {
        return true;
    };
    ![";", ")", "into ", "using ", "loop"].iter().any(|end| after.trim_start().starts_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_source_tells_which_settings_it_touches() {
        for (source, names, untold) in [
            (
                "create rule r as on select to v do instead select set_config('app.x'::text, 'a'::text, false) as set_config;",
                &["app.x"][..],
                false,
            ),
            ("begin perform set_config('app.tenant', t, false); end", &["app.tenant"][..], false),
            (
                "BEGIN PERFORM pg_catalog.set_config ( 'App.User' , u, false); SET app.x = 1; END",
                &["app.user", "app.x"],
                false,
            ),
            ("begin perform set_config(name, value, false); end", &[], true),
            ("begin execute format('set %I = %L', n, v); end", &[], true),
            ("select setseed(0.5)", &[], true),
            ("begin set session timezone to 'UTC'; set role nobody; end", &[], false),
            ("create temp table t (n int)", &[], false),
            ("select pg_try_advisory_lock_shared(1)", &[], false),
            ("select set_config('app.tenant'::text, t, false)", &["app.tenant"], false),
            ("plpy.execute('select set_config(''app.tenant'', ''x'', false)')", &["app.tenant"], false),
            ("select set_config('app.' || n, v, false)", &[], true),
            ("select set_config('app.x'::text || n, v, false)", &[], true),
            ("begin set app . tenant = 'x'; end", &[], true),
            ("if tg_op = 'UPDATE' then set app.x = 1; end if", &["app.x"], false),
            ("begin if update then set app.x = 1; end if", &["app.x"], false),
            ("-- at each update\n set app.x = 1", &["app.x"], false),
            ("/* update */ set app.x = 1", &["app.x"], false),
            ("update t set n = 1 returning n\n') plpy.execute('set app.x = 1", &["app.x"], false),
            ("create table pg_temp.t (n int)", &[], false),
        ] {
            let found = Body::read(source);
            assert!(found.any, "{source}");
            assert_eq!(found.names.iter().map(|name| &**name).collect::<Vec<_>>(), names, "{source}");
            assert_eq!(found.untold, untold, "{source}");
        }
    }

    #[test]
    fn what_touches_no_session_is_let_alone() {
        for source in [
            "begin update t set n = n + 1 where id = new.id; return new; end",
            "insert into t values (1) on conflict (n) do update set n = excluded.n",
            "update only \"T\" as x\n set n = 1; update s.t set n = 2",
            "begin set local work_mem = '1GB'; perform pg_advisory_xact_lock(1); end",
            "select settings, offset_set from templates",
            "",
        ] {
            assert_eq!(Body::read(source), Body::default(), "{source}");
        }
    }

    #[test]
    fn execute_of_what_is_no_constant_may_do_anything() {
        for (source, dynamic) in [
            ("begin execute query; end", true),
            ("begin execute 'insert into ' || t; end", true),
            ("begin execute 'insert into t values ($1)' using x; end", false),
            ("begin execute 'insert into t default values'; end", false),
            ("begin execute 'select ''a'''; end", true),
            ("execute format('create table %i ()', n)", true),
            ("create trigger x after insert on t execute function f()", false),
            ("grant execute on function f to x", false),
            ("plpy.execute(query)", true),
            ("plpy.execute('delete from t')", false),
            ("for row in plpy.cursor(query)", true),
            ("spi_exec $query", true),
            ("return query select * from crosstab(query)", true),
            ("select query_to_xml(query, true, true, '')", true),
        ] {
            assert_eq!(Body::read(source).dynamic, dynamic, "{source}");
        }
    }
}
