//! Functions by name: those that leave something in the session, and those that are PostgreSQL's own.

use std::sync::LazyLock;

/// What a call may do to the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Takes an advisory lock for the session. (The `_xact_` ones end with the transaction.)
    Locks,
    /// Gives one back.
    Unlocks,
    /// `set_config`.
    Sets,
    /// Sets the one setting of that name.
    SetsOne(&'static str),
    /// `setseed`.
    Seeds,
    /// Reads what the session's sequences gave.
    ReadsSequence,
    /// Runs SQL that it is given as a string, or reads a relation that a string names.
    RunsSql,
    /// The same, of an extension.
    Queries,
    /// Leaves something that the server does not show: a connection of its own, a replication origin or slot, a backup.
    Opaque,
}

/// What a call of the function does to the session, whatever its schema.
pub(super) fn act(name: &str) -> Option<Act> {
    Some(match name {
        "pg_advisory_lock"
        | "pg_advisory_lock_shared"
        | "pg_try_advisory_lock"
        | "pg_try_advisory_lock_shared" => Act::Locks,
        "pg_advisory_unlock" | "pg_advisory_unlock_shared" | "pg_advisory_unlock_all" => Act::Unlocks,
        "set_config" => Act::Sets,
        // pg_trgm's.
        "set_limit" => Act::SetsOne("pg_trgm.similarity_threshold"),
        "setseed" => Act::Seeds,
        "currval" | "lastval" => Act::ReadsSequence,
        "query_to_xml"
        | "query_to_xmlschema"
        | "query_to_xml_and_xmlschema"
        | "cursor_to_xml"
        | "cursor_to_xmlschema"
        | "table_to_xml"
        | "table_to_xml_and_xmlschema"
        | "schema_to_xml"
        | "schema_to_xml_and_xmlschema"
        | "database_to_xml"
        | "database_to_xml_and_xmlschema"
        | "ts_stat"
        | "ts_rewrite" => Act::RunsSql,
        // tablefunc's and xml2's.
        "crosstab" | "crosstab2" | "crosstab3" | "crosstab4" | "connectby" | "xpath_table" => Act::Queries,
        // A replication slot may be a temporary one.
        "dblink_connect"
        | "dblink_connect_u"
        | "dblink_open"
        | "dblink_send_query"
        | "pg_replication_origin_session_setup"
        | "pg_replication_origin_xact_setup"
        | "pg_create_physical_replication_slot"
        | "pg_create_logical_replication_slot"
        | "pg_copy_physical_replication_slot"
        | "pg_copy_logical_replication_slot"
        | "pg_backup_start"
        | "pg_start_backup" => Act::Opaque,
        _ if name.starts_with("binary_upgrade_") => Act::Opaque,
        _ => return None,
    })
}

/// Whether it runs SQL that it is given.
pub(super) fn runs_sql(name: &str) -> bool {
    matches!(act(name), Some(Act::RunsSql | Act::Queries))
}

/// The list, without its comment.
static PG_CATALOG: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("pg_catalog.txt").lines().filter(|line| !line.starts_with('#')).collect());

/// Whether PostgreSQL brings a function of that name in `pg_catalog`.
pub(super) fn is_builtin(name: &str) -> bool {
    PG_CATALOG.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{PG_CATALOG, is_builtin};

    #[test]
    fn the_names_are_sorted_and_each_is_there_once() {
        assert!(PG_CATALOG.len() > 1_900);
        assert!(PG_CATALOG.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn what_postgresql_brings_is_known_and_nothing_else() {
        for name in
            ["now", "count", "lower", "nextval", "uuidv7", "generate_series", "jsonb_path_query", "lo_open"]
        {
            assert!(is_builtin(name), "{name}");
        }
        for name in ["", "NOW", "my_function", "dblink", "crosstab", "uuid_generate_v4"] {
            assert!(!is_builtin(name), "{name}");
        }
    }
}
