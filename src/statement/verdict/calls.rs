//! Functions by name. Those of `pg_catalog` that are known and not listed here are harmless: they read, or compute. Those
//! of the database's own are the route's business, because the server's mode covers what they write; but those of known
//! extensions that do what the mode does not cover are refused.

use std::borrow::Cow;

use pg_raw_parse::raw::A_Expr_Kind as Operation;
use pg_raw_parse::raw::BoolExprType;
use pg_raw_parse::{ConstValue, Node, nodes};

use super::super::effects::constant;
use super::super::functions::is_builtin;
use super::super::parse::STAND_IN;
use super::super::settings::argument;
use super::Inspector;
use super::settings::{Value, setting};
use crate::rule::Rule;

/// `INV_WRITE` of PostgreSQL's `libpq/libpq-fs.h`.
const INV_WRITE: i32 = 0x0002_0000;

/// Numbers of functions in PostgreSQL's `pg_proc.dat` that libpq and JDBC call by message to read a large object:
/// `lo_close`, `loread`, `lo_lseek`, `lo_tell`, `lo_lseek64`, `lo_tell64`.
const READ_LARGE_OBJECTS: [u32; 6] = [953, 954, 956, 958, 3170, 3171];

/// `lo_open`.
const LO_OPEN: u32 = 952;

/// What is refused under its name, in whatever schema of PostgreSQL's own or none.
const REFUSED: &[(Rule, &[&str])] = &[
    (
        Rule::LargeObject,
        &[
            "lo_creat",
            "lo_create",
            "lo_export",
            "lo_from_bytea",
            "lo_import",
            "lo_put",
            "lo_truncate",
            "lo_truncate64",
            "lo_unlink",
            "lowrite",
        ],
    ),
    (
        Rule::HiddenSql,
        &[
            "connectby",
            "crosstab",
            "crosstab2",
            "crosstab3",
            "crosstab4",
            "crosstabn",
            "cursor_to_xml",
            "cursor_to_xmlschema",
            "database_to_xml",
            "database_to_xml_and_xmlschema",
            "database_to_xmlschema",
            "query_to_xml",
            "query_to_xml_and_xmlschema",
            "query_to_xmlschema",
            "schema_to_xml",
            "schema_to_xml_and_xmlschema",
            "schema_to_xmlschema",
            "table_to_xml",
            "table_to_xml_and_xmlschema",
            "table_to_xmlschema",
            "ts_stat",
            "xpath_table",
        ],
    ),
    (
        Rule::Lock,
        &[
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
        ],
    ),
    (
        Rule::Function,
        &[
            "autoprewarm_dump_now",
            "autoprewarm_start_worker",
            "brin_desummarize_range",
            "brin_summarize_new_values",
            "brin_summarize_range",
            "gin_clean_pending_list",
            "heap_force_freeze",
            "heap_force_kill",
            "pg_background_launch",
            "pg_backup_start",
            "pg_backup_stop",
            "pg_buffercache_evict",
            "pg_buffercache_evict_all",
            "pg_buffercache_evict_relation",
            "pg_cancel_backend",
            "pg_clear_attribute_stats",
            "pg_clear_relation_stats",
            "pg_copy_logical_replication_slot",
            "pg_copy_physical_replication_slot",
            "pg_create_logical_replication_slot",
            "pg_create_physical_replication_slot",
            "pg_create_restore_point",
            "pg_drop_replication_slot",
            "pg_extension_config_dump",
            "pg_file_rename",
            "pg_file_sync",
            "pg_file_unlink",
            "pg_file_write",
            "pg_import_system_collations",
            "pg_log_backend_memory_contexts",
            "pg_log_standby_snapshot",
            "pg_logdir_ls",
            "pg_logical_emit_message",
            "pg_logical_slot_get_binary_changes",
            "pg_logical_slot_get_changes",
            "pg_logical_slot_peek_binary_changes",
            "pg_logical_slot_peek_changes",
            "pg_nextoid",
            "pg_promote",
            "pg_read_binary_file",
            "pg_read_file",
            "pg_read_file_old",
            "pg_reload_conf",
            "pg_replication_origin_advance",
            "pg_replication_origin_create",
            "pg_replication_origin_drop",
            "pg_replication_origin_session_reset",
            "pg_replication_origin_session_setup",
            "pg_replication_origin_xact_reset",
            "pg_replication_origin_xact_setup",
            "pg_replication_slot_advance",
            "pg_restore_attribute_stats",
            "pg_restore_relation_stats",
            "pg_rotate_logfile",
            "pg_rotate_logfile_old",
            "pg_rotate_logfile_v2",
            "pg_set_attribute_stats",
            "pg_set_relation_stats",
            "pg_start_backup",
            "pg_stat_reset",
            "pg_stat_reset_backend_stats",
            "pg_stat_reset_replication_slot",
            "pg_stat_reset_shared",
            "pg_stat_reset_single_function_counters",
            "pg_stat_reset_single_table_counters",
            "pg_stat_reset_slru",
            "pg_stat_reset_subscription_stats",
            "pg_stat_statements_reset",
            "pg_stop_backup",
            "pg_stop_making_pinned_objects",
            "pg_switch_wal",
            "pg_sync_replication_slots",
            "pg_terminate_backend",
            "pg_truncate_visibility_map",
            "pg_wal_replay_pause",
            "pg_wal_replay_resume",
        ],
    ),
];

/// Of extensions, and harmless, though their names begin as those of PostgreSQL's own.
const OF_EXTENSIONS: [&str; 18] = [
    "pg_buffercache_pages",
    "pg_buffercache_summary",
    "pg_buffercache_usage_counts",
    "pg_check_frozen",
    "pg_check_visible",
    "pg_freespace",
    "pg_get_wal_block_info",
    "pg_get_wal_record_info",
    "pg_get_wal_records_info",
    "pg_get_wal_stats",
    "pg_old_snapshot_time_mapping",
    "pg_prewarm",
    "pg_relpages",
    "pg_stat_statements",
    "pg_stat_statements_info",
    "pg_visibility",
    "pg_visibility_map",
    "pg_visibility_map_summary",
];

/// The rule under which a function is refused, whatever its arguments are.
fn refused(name: &str) -> Option<Rule> {
    let listed = REFUSED.iter().find(|(_, names)| names.contains(&name)).map(|(rule, _)| *rule);
    listed.or_else(|| match name {
        _ if name.starts_with("dblink") => Some(Rule::OtherSession),
        _ if name.starts_with("binary_upgrade_") => Some(Rule::Function),
        _ => None,
    })
}

/// Whether a FunctionCall message does no more than read a large object. `mode` is the second argument, in binary.
pub fn is_harmless_call(function: u32, mode: Option<u32>) -> bool {
    let writes = mode.is_none_or(|mode| mode & INV_WRITE.cast_unsigned() != 0);
    READ_LARGE_OBJECTS.contains(&function) || (function == LO_OPEN && !writes)
}

impl Inspector<'_> {
    /// A function is called. `proven` are the only values that the column `name` can have here.
    pub(super) fn call(&mut self, call: &nodes::FuncCall, proven: Option<&[&str]>) {
        let mut names = call.funcname().iter().filter_map(Node::as_str).rev();
        let Some(name) = names.next().map(folded) else {
            return self.refuse(Rule::Function, "a call without a name");
        };
        let (name, schema) = (&*name, names.next());
        match schema {
            None | Some("pg_catalog") => {}
            // By whatever schema an extension is in.
            Some(_) if refused(name).is_none() => {
                return self.calls(format!("{}.{name}", schema.unwrap_or_default()));
            }
            Some(_) => {}
        }
        if let Some(rule) = refused(name) {
            return self.refuse(rule, format!("{name}()"));
        }
        match name {
            "set_config" => self.set_config(call, proven),
            "pg_notify" => self.notifies("pg_notify()"),
            "nextval" | "setval" => self.refuse(Rule::Sequence, format!("{name}()")),
            "lo_open" if opens_to_read(call) => self.verdict.by_number = true,
            "lo_open" => self.refuse(Rule::LargeObject, "lo_open() to write"),
            // With two arguments the second one is a query.
            "ts_rewrite" if call.args().len() != 3 || call.func_variadic => {
                self.refuse(Rule::HiddenSql, "ts_rewrite() of a query");
            }
            _ if is_builtin(name) || OF_EXTENSIONS.contains(&name) => {}
            _ if schema.is_some() || name.starts_with("pg_") => {
                self.refuse(Rule::Function, format!("{name}()"));
            }
            _ => self.calls(name.to_owned()),
        }
    }

    /// `t.f` and `(x).f` are calls as well, where there is no such column.
    pub(super) fn attribute(&mut self, field: Node<'_>) {
        let Some(name) = field.as_str().map(folded) else { return };
        if let Some(rule) = refused(&name) {
            self.refuse(rule, format!("{name}()"));
        }
    }

    fn set_config(&mut self, call: &nodes::FuncCall, proven: Option<&[&str]>) {
        self.sets_session |= !super::conduct::is_local(call);
        let value = match argument(call, 1, "new_value").and_then(constant) {
            Some(ConstValue::String(text)) => Value::Text(text),
            _ => Value::Unknown,
        };
        let name = argument(call, 0, "setting_name");
        let constant = match name.and_then(constant) {
            Some(ConstValue::String(name)) if !call.func_variadic => Some(name),
            _ => None,
        };
        let names = match (&constant, proven, name) {
            (Some(name), ..) => std::slice::from_ref(name),
            (None, Some(names), Some(column)) if is_column_name(column) && !call.func_variadic => names,
            _ => return self.refuse(Rule::SetConfig, "set_config() of a name that is not in the text"),
        };
        for name in names {
            if let Some(rule) = setting(name, value) {
                return self.refuse(rule, format!("set_config() of {name}"));
            }
        }
    }
}

/// A name as a server may fold it that has a single-byte encoding and a Turkish locale: there, the small letter of the
/// dotted capital I is the ASCII one. A letter that stands for another may be that.
fn folded(name: &str) -> Cow<'_, str> {
    if name.is_ascii() { Cow::Borrowed(name) } else { Cow::Owned(name.replace(['\u{130}', STAND_IN], "i")) }
}

fn opens_to_read(call: &nodes::FuncCall) -> bool {
    let mode = call.args().get(1).filter(|_| call.args().len() == 2 && !call.func_variadic);
    match mode {
        Some(Node::A_Const(mode)) => {
            matches!(mode.val(), Some(ConstValue::Integer(mode)) if mode & INV_WRITE == 0)
        }
        _ => false,
    }
}

/// The column `name`, perhaps by its table.
fn is_column_name(node: Node<'_>) -> bool {
    match node {
        Node::ColumnRef(column) => {
            column.fields().len() <= 2
                && column.fields().iter().next_back().and_then(Node::as_str) == Some("name")
        }
        _ => false,
    }
}

/// Whether a SELECT has nothing but targets, tables and a WHERE.
pub(super) fn has_no_more_clauses(select: &nodes::SelectStmt) -> bool {
    select.with_clause().is_none()
        && select.larg().is_none()
        && select.into_clause().is_none()
        && select.distinct_clause().is_empty()
        && select.group_clause().is_empty()
        && matches!(select.having_clause(), Node::None)
        && select.window_clause().is_empty()
        && select.values_lists().is_empty()
        && select.sort_clause().is_empty()
        && select.locking_clause().is_empty()
        && matches!(select.limit_offset(), Node::None)
        && matches!(select.limit_count(), Node::None)
}

/// Of `SELECT f(...), g(...) FROM pg_settings WHERE name = 'this'`, which may be one of several or have more conditions,
/// the names. Nothing of any other query.
pub(super) fn proven_names(select: &nodes::SelectStmt) -> Option<Vec<&str>> {
    let mut tables = select.from_clause().iter();
    let (Some(Node::RangeVar(table)), None) = (tables.next(), tables.next()) else { return None };
    let plain = table.relname() == Some("pg_settings")
        && matches!(table.schemaname(), None | Some("pg_catalog"))
        && table.alias().is_none()
        && has_no_more_clauses(select)
        && select
            .target_list()
            .iter()
            .all(|target| matches!(target.val(), Node::FuncCall(call) if is_simple(call)));
    if !plain {
        return None;
    }
    named(select.where_clause())
}

/// A call with nothing but its arguments.
fn is_simple(call: &nodes::FuncCall) -> bool {
    call.agg_order().is_empty() && matches!(call.agg_filter(), Node::None) && call.over().is_none()
}

/// The values that `name` has where a condition holds.
fn named(condition: Node<'_>) -> Option<Vec<&str>> {
    let text = |node| match constant(node) {
        Some(ConstValue::String(text)) => Some(text),
        _ => None,
    };
    match condition {
        Node::BoolExpr(both) if both.boolop == BoolExprType::AND_EXPR => both.args().iter().find_map(named),
        Node::A_Expr(equals) if is_column_name(equals.lexpr()) => {
            if equals.name().iter().next_back().and_then(Node::as_str) != Some("=") {
                return None;
            }
            match (equals.kind, equals.rexpr()) {
                (Operation::AEXPR_OP, value) => Some(vec![text(value)?]),
                (Operation::AEXPR_IN, Node::NodeList(values)) => values.iter().map(text).collect(),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_a_large_object_is_called_by_message() {
        assert!(is_harmless_call(954, None) && is_harmless_call(LO_OPEN, Some(0x0004_0000)));
        assert!(!is_harmless_call(LO_OPEN, Some(0x0006_0000)) && !is_harmless_call(LO_OPEN, None));
        // lowrite, lo_creat, lo_create, lo_unlink, set_config, one of the database's own.
        assert!(
            [955, 957, 715, 964, 2078, 16_384].iter().all(|function| !is_harmless_call(*function, Some(0)))
        );
    }

    #[test]
    fn each_name_is_there_once() {
        let mut names: Vec<_> = REFUSED.iter().flat_map(|(_, names)| names.iter()).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
