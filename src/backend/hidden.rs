//! What a database's own functions, triggers and views may do to a session. No statement's text tells: `SELECT
//! set_tenant('a')` may set anything, and an INSERT may fire a trigger that does. So their definitions are looked at, as a
//! whole and now and then: where none of them touches a session, which is so in most databases, nothing has to be asked
//! for their sake; where some do, the server is asked after every statement that may run them.
//!
//! PostgreSQL lists the settings of a session but for those that it does not know (`app.tenant`): their names are taken
//! from the definitions, and where they are not there either, the client is pinned.

use super::own::columns;

/// Every function of the database's own that the user can reach and that may touch a session, by the words in its source: name, source, whether it
/// is a trigger's, and whether something else than a function runs it (a view, a default, a constraint, a policy, an
/// operator, a cast), or it is called as one of PostgreSQL's own is. The last row stands for views, defaults, constraints
/// and policies that call such functions of PostgreSQL's directly, by their numbers in `pg_proc.dat`.
pub const ASK_HIDDEN: &str = "WITH risky AS MATERIALIZED (\
    SELECT p.oid, p.proname, p.prosrc, p.pronamespace FROM pg_catalog.pg_proc p \
    WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
    AND p.prosrc OPERATOR(pg_catalog.~*) '(set_config|setseed|advisory_lock|\\mset\\M|\\mtemp|\\mlisten\\M|\\mprepare\\M|\\mdeallocate\\M|\\mdiscard\\M|\\mload\\M|dblink_connect)'::pg_catalog.text), \
  run AS (SELECT p.proname, p.prosrc, \
      pg_catalog.has_schema_privilege(p.pronamespace, 'USAGE'::pg_catalog.text) AS calls, \
      EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid \
        WHERE t.tgfoid OPERATOR(pg_catalog.=) p.oid AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'::pg_catalog.text)) \
      OR EXISTS (SELECT FROM pg_catalog.pg_event_trigger t WHERE t.evtfoid OPERATOR(pg_catalog.=) p.oid) AS writes, \
      pg_catalog.has_schema_privilege(p.pronamespace, 'USAGE'::pg_catalog.text) AND (\
        EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
          AND d.refobjid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.<>) 'e'::\"char\" \
          AND d.classid OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_trigger'::pg_catalog.regclass]::pg_catalog.oid[])) \
        OR EXISTS (SELECT FROM pg_catalog.pg_proc b WHERE b.proname OPERATOR(pg_catalog.=) p.proname \
          AND b.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid)) AS reads \
    FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) ANY (SELECT oid FROM risky) \
      OR (p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND EXISTS (SELECT FROM risky r WHERE r.oid OPERATOR(pg_catalog.<>) p.oid \
        AND pg_catalog.strpos(p.prosrc, r.proname::pg_catalog.text) OPERATOR(pg_catalog.>) 0))) \
  SELECT proname, prosrc, writes, reads FROM run WHERE calls OR writes OR reads \
  UNION ALL SELECT '', 'setseed', false, true WHERE EXISTS (\
    SELECT FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.ev_class \
      WHERE w.ev_class OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'::pg_catalog.text) \
      AND w.ev_action::pg_catalog.text OPERATOR(pg_catalog.~) ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '::pg_catalog.text) \
  OR EXISTS (SELECT FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.adrelid \
      WHERE pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'::pg_catalog.text) \
      AND d.adbin::pg_catalog.text OPERATOR(pg_catalog.~) ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '::pg_catalog.text) \
  OR EXISTS (SELECT FROM pg_catalog.pg_constraint d WHERE d.conbin IS NOT NULL \
      AND pg_catalog.has_schema_privilege(d.connamespace, 'USAGE'::pg_catalog.text) \
      AND d.conbin::pg_catalog.text OPERATOR(pg_catalog.~) ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '::pg_catalog.text) \
  OR EXISTS (SELECT FROM pg_catalog.pg_policy d JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.polrelid \
      WHERE pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'::pg_catalog.text) \
      AND pg_catalog.concat(d.polqual::pg_catalog.text, d.polwithcheck::pg_catalog.text) \
        OPERATOR(pg_catalog.~) ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '::pg_catalog.text)";

/// Names of settings that are taken from definitions. Databases with more have their clients pinned.
const MAX_NAMES: usize = 50;

/// What a database's own definitions may do to a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// A function may touch it.
    pub calls: bool,
    /// A statement that writes may, by a trigger.
    pub writes: bool,
    /// Any statement may, by a view, a default, an operator or the like.
    pub reads: bool,
    /// Settings of the application's own that are named in definitions.
    pub names: Vec<Box<str>>,
    /// What a function does cannot be found out afterwards.
    pub calls_untold: bool,
    /// Nor what a trigger, a view or the like does.
    pub runs_untold: bool,
}

impl Hidden {
    /// Reads the rows of [`ASK_HIDDEN`]. What cannot be read may do anything.
    pub fn read<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hidden = Self::default();
        for row in rows {
            let columns = columns(row).unwrap_or_default();
            let [_, source, writes, reads] = columns.as_slice() else {
                return Self {
                    calls: true,
                    reads: true,
                    calls_untold: true,
                    runs_untold: true,
                    ..Self::default()
                };
            };
            hidden.add(
                source.as_deref().unwrap_or_default(),
                writes.as_deref() == Some("t"),
                reads.as_deref() == Some("t"),
            );
        }
        if hidden.names.len() > MAX_NAMES {
            hidden.names.clear();
            (hidden.calls_untold, hidden.runs_untold) = (true, true);
        }
        hidden
    }

    fn add(&mut self, source: &str, writes: bool, reads: bool) {
        let found = look(source);
        if !found.any {
            return;
        }
        self.calls = true;
        self.writes |= writes;
        self.reads |= reads;
        self.calls_untold |= found.untold;
        self.runs_untold |= found.untold && (writes || reads);
        for name in found.names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }
}

/// What the source of one function may do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    any: bool,
    untold: bool,
    names: Vec<Box<str>>,
}

/// Reads words, whatever the language. Too much is found rather than too little.
fn look(source: &str) -> Found {
    let source = source.to_ascii_lowercase();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let (bytes, mut at) = (source.as_bytes(), 0);
    let (mut found, mut in_update) = (Found::default(), false);
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|&&byte| is_word(byte)).count();
        if length == 0 {
            in_update &= bytes[at] != b';';
            at += 1;
            continue;
        }
        let word = &source[at..at + length];
        at += length;
        match word.rsplit('.').next().unwrap_or(word) {
            "update" => in_update = true,
            "set_config" => found.sets_config(&source[at..]),
            "set" if !in_update => found.sets(&source[at..]),
            "setseed" | "load" | "dblink_connect" | "dblink_connect_u" => {
                (found.any, found.untold) = (true, true)
            }
            "temp" | "temporary" | "pg_temp" | "listen" | "prepare" | "deallocate" | "discard" => {
                found.any = true
            }
            word => found.any |= word.contains("advisory_lock") && !word.contains("xact"),
        }
    }
    found
}

impl Found {
    fn sets_config(&mut self, rest: &str) {
        self.any = true;
        let name = rest.trim_start().strip_prefix('(').and_then(|rest| rest.trim_start().strip_prefix('\''));
        match name.and_then(|rest| rest.split_once('\'')) {
            Some((name, _)) => self.name(name),
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
        let name = name.split(['=', ';', '\'']).next().unwrap_or_default();
        if name == "session_authorization" || name == "authorization" {
            self.untold = true;
        }
        self.name(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_source_tells_which_settings_it_touches() {
        for (source, names, untold) in [
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
        ] {
            let found = look(source);
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
            "begin set local work_mem = '1GB'; perform pg_advisory_xact_lock(1); end",
            "select settings, offset_set from templates",
            "",
        ] {
            assert_eq!(look(source), Found::default(), "{source}");
        }
    }

    #[test]
    fn definitions_that_cannot_be_read_may_do_anything() {
        let hidden = Hidden::read([&b"\0\x01"[..]].into_iter());
        assert!(hidden.calls && hidden.reads && hidden.calls_untold && hidden.runs_untold);
        assert_eq!(Hidden::read(std::iter::empty()), Hidden::default());
    }
}
