//! Read-only routes hold: whatever a client sends, in whatever way, nothing changes, though its role owns the tables or is
//! a superuser; and what only reads is let through.
//!
//! The cases are in `guard/refused.txt` and `guard/allowed.txt`.

pub mod escapes;
mod ground;
pub mod programs;
pub mod storm;
pub mod strict;

use std::collections::BTreeMap;

use crate::support::messages::{self as msg};
use crate::support::server::Server;
use firepool::statement::{Dialect, Encoding, judge_guarded};
use ground::{Ground, READ_ONLY, ROUTE, WAYS, cases, is_ended, send};

/// Every refused case in every way, as a role with these rights.
fn refused_cases_change_nothing(route: &str, attributes: &str) {
    let server = Server::own_with(&[("max_prepared_transactions", "5")]);
    let mut ground = Ground::new(&server, route);
    let role = ground.fixture.role.clone();
    ground.admin.run(&format!("ALTER ROLE {role} {attributes}"));
    let before = ground.state();
    let mut bystander = ground.client(false);
    let mut client = ground.client(false);
    let mut wrong = Vec::new();
    let all = cases(include_str!("guard/refused.txt"));
    assert!(all.len() >= 300, "{}", all.len());
    for case in all {
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        let ways = if case.simple { &WAYS[..1] } else { &WAYS[..] };
        for way in if matches!(case.group, "startup" | "call") { &["-"][..] } else { ways } {
            let code = match case.group {
                "startup" => {
                    let (name, value) = texts[0].split_once('=').unwrap();
                    ground
                        .fixture
                        .login(&[(name, value)])
                        .err()
                        .map(|failure| failure.code)
                        .unwrap_or_default()
                }
                "call" => {
                    let mut words = texts[0].split(' ');
                    let function = words.next().unwrap().parse().unwrap();
                    client.send(&msg::function_call(function, &words.collect::<Vec<_>>()));
                    client.reply().code()
                }
                _ => {
                    let reply = send(&mut client, &texts, way);
                    if *way == "pipelined" {
                        assert!(
                            !format!("{:?}", reply.rows()).contains("42"),
                            "{case:?}: what follows has run"
                        );
                    }
                    if is_ended(&reply) { "the session ended".to_owned() } else { reply.code() }
                }
            };
            if code == "the session ended" {
                client = ground.client(false);
            }
            client.query("ROLLBACK");
            let written = client.query("SELECT writes()").code();
            client.query("DISCARD ALL");
            let after = ground.state();
            if code != READ_ONLY || written != READ_ONLY || after != before {
                let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
                wrong.push(format!(
                    "line {} {way} {:?}: answered {code:?}, then a write {written:?}; changed {changed:?}",
                    case.line, case.steps
                ));
                ground.fill();
            }
            assert_eq!(bystander.query("SELECT 1").code(), "", "{case:?} {way}: another's session ended");
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

pub fn what_is_refused_changes_nothing_though_the_role_owns_the_tables() {
    refused_cases_change_nothing(ROUTE, "NOSUPERUSER");
}

pub fn what_is_refused_changes_nothing_though_the_role_is_a_superuser() {
    refused_cases_change_nothing(ROUTE, "SUPERUSER");
}

/// What only reads is let through in every way, and answers as it does without a proxy.
pub fn what_only_reads_is_let_through() {
    let server = Server::own();
    let ground = Ground::new(&server, ROUTE);
    let (mut client, mut direct) = (ground.client(false), ground.client(true));
    let mut wrong = Vec::new();
    let all = cases(include_str!("guard/allowed.txt"));
    assert!(all.len() >= 150, "{}", all.len());
    for case in all {
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        if case.group == "startup" {
            let (name, value) = texts[0].split_once('=').unwrap();
            let mode = ground.fixture.login(&[(name, value)]).unwrap().value("SHOW transaction_read_only");
            assert_eq!(mode, "on", "{case:?}");
            continue;
        }
        for way in if case.simple { &WAYS[..1] } else { &WAYS[..3] } {
            for step in 0..texts.len() {
                let text = &texts[step..=step];
                let (ours, theirs) = (send(&mut client, text, way), send(&mut direct, text, way));
                if ours.code() != theirs.code() || ours.tags() != theirs.tags() {
                    wrong.push(format!("line {} {way} {text:?}: {ours:?}\ndirectly: {theirs:?}", case.line));
                }
                assert_eq!(theirs.code(), "", "{case:?} is wrong itself");
                assert_eq!(ours.status(), theirs.status(), "{case:?}");
            }
            for client in [&mut client, &mut direct] {
                client.query("ROLLBACK");
                client.query("DISCARD ALL");
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What PostgreSQL's own mode lets through, so that it is known what the guard is for.
pub fn postgresqls_own_mode_leaves_holes_that_the_guard_closes() {
    let server = Server::own_with(&[("max_prepared_transactions", "5")]);
    let mut ground = Ground::new(&server, ROUTE);
    let mut groups = BTreeMap::<&str, [usize; 3]>::new();
    for case in cases(include_str!("guard/refused.txt")) {
        if matches!(case.group, "startup" | "call") {
            continue;
        }
        let before = ground.state();
        let mut client = ground.client(true);
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        let reply = send(&mut client, &texts, "simple");
        let passed = reply.code().is_empty() || is_ended(&reply);
        if is_ended(&reply) {
            client = ground.client(true);
        }
        client.query("COMMIT");
        let written = client.query("SELECT writes()").code().is_empty();
        drop(client);
        let changed = ground.state() != before;
        let counts = groups.entry(case.group).or_default();
        for (count, is) in counts.iter_mut().zip([true, passed, written || changed]) {
            *count += usize::from(is);
        }
        if changed {
            ground.admin.query("ROLLBACK PREPARED 'x'");
            ground.fill();
        }
    }
    println!("PostgreSQL's own read-only mode, for the owner of the tables:");
    println!("{:16}{:>8}{:>12}{:>12}", "rule", "cases", "let through", "of effect");
    for (group, [cases, passed, changed]) in &groups {
        println!("{group:16}{cases:>8}{passed:>12}{changed:>12}");
    }
    let holes: usize = groups.values().map(|[_, _, changed]| changed).sum();
    // 16 and later let nobody leave the mode once a query has run.
    assert!(holes > 45, "PostgreSQL leaves {holes} holes: are the cases still what they were?");
}

/// The transaction status that the client sees is what PostgreSQL shows after an error.
pub fn a_refusal_fails_the_transaction_as_an_error_of_postgresqls_would() {
    let server = Server::shared();
    let ground = Ground::new(&server, ROUTE);
    let (mut client, mut direct) = (ground.client(false), ground.client(true));
    for texts in [
        &["DELETE FROM t"][..],
        &["BEGIN", "DELETE FROM t", "SELECT 1", "COMMIT"],
        &["BEGIN", "SAVEPOINT a", "DELETE FROM t", "ROLLBACK TO a", "SELECT 1", "COMMIT"],
        &["SELECT 1; DELETE FROM t; SELECT 2"],
        &["BEGIN; SELECT 1; DELETE FROM t; COMMIT", "SELECT 1", "ROLLBACK"],
        &["BEGIN", "COMMIT; DELETE FROM t", "SELECT 1"],
        &["BEGIN", "COMMIT; BEGIN; DELETE FROM t", "DELETE FROM t", "END"],
        &["SELECT 1/0; DELETE FROM t"],
        &["BEGIN; SELECT 1/0; DELETE FROM t", "DELETE FROM t", "ROLLBACK; DELETE FROM t; BEGIN"],
        &["BEGIN READ ONLY; DELETE FROM t", "COMMIT"],
        &["SELECT 'é'; BEGIN; DELETE FROM t", "ROLLBACK"],
        &[
            "SET work_mem = '9MB'; DELETE FROM t",
            "SHOW work_mem",
            "SET work_mem = '9MB'; COMMIT; DELETE FROM t",
            "SHOW work_mem",
        ],
    ] {
        for text in texts {
            let (ours, theirs) = (client.query(text), direct.query(text));
            assert_eq!(
                (ours.tags(), ours.code(), ours.status()),
                (theirs.tags(), theirs.code(), theirs.status()),
                "{text} of {texts:?}"
            );
            assert_eq!(ours.rows(), theirs.rows(), "{text} of {texts:?}");
        }
    }
    let batch = |sql: &[&str]| {
        let statements: Vec<_> = sql.iter().map(|sql| msg::unnamed(sql, &[])).collect();
        [statements.concat(), msg::sync()].concat()
    };
    for batches in [
        &[&["SELECT 1", "DELETE FROM t", "SELECT 2"][..], &["SELECT 3"]][..],
        &[&["BEGIN", "SELECT 1"], &["DELETE FROM t", "COMMIT"], &["SELECT 1"], &["ROLLBACK"]],
        &[&["BEGIN READ WRITE", "SELECT 1", "COMMIT"], &["SELECT 2"]],
        &[&["SELECT 1/0", "DELETE FROM t"], &["DELETE FROM t"], &["SELECT 1"]],
    ] {
        let all: Vec<_> = batches.iter().map(|statements| batch(statements)).collect();
        client.send(&all.concat());
        direct.send(&all.concat());
        for _ in batches {
            let (ours, theirs) = (client.reply(), direct.reply());
            assert_eq!(ours.code(), theirs.code(), "{batches:?}");
            assert_eq!((ours.commands(), ours.status()), (theirs.commands(), theirs.status()), "{batches:?}");
        }
    }
    let refused = client.query("INSERT INTO t VALUES (1); SELECT 1").failure().unwrap();
    assert_eq!(refused.message, "cannot execute INSERT in a read-only route");
    assert_eq!(refused.detail, "The proxy refused it under the rule \"write\".");
    assert_eq!(client.query("SELEC 1").failure().unwrap().message, "syntax error at or near \"SELEC\"");
}

/// A function that leaves the mode from inside is closed out by what the server reports.
pub fn a_connection_that_leaves_the_mode_is_closed_and_its_client_told() {
    let server = Server::shared();
    let mut ground = Ground::new(&server, ROUTE);
    let role = ground.fixture.role.clone();
    for (setting, value) in [
        ("default_transaction_read_only", "off"),
        ("standard_conforming_strings", "off"),
        ("client_encoding", "SJIS"),
    ] {
        ground.admin.run(&format!(
            "CREATE OR REPLACE FUNCTION {role}.leaves() RETURNS text LANGUAGE sql
               AS $$ SELECT set_config('{setting}', '{value}', false) $$"
        ));
        let mut client = ground.client(false);
        client.send(&msg::query("SELECT leaves()"));
        let farewell = client.farewell();
        assert_eq!((farewell.severity.as_str(), farewell.code.as_str()), ("FATAL", READ_ONLY), "{setting}");
        let mut next = ground.client(false);
        assert_eq!(
            next.value(&format!("SHOW {setting}")),
            if setting.starts_with('c') { "UTF8" } else { "on" }
        );
    }
}

/// What a route says of notifications and functions.
pub fn a_route_may_allow_to_notify_and_list_its_functions() {
    let server = Server::shared();
    let ground = Ground::new(&server, &format!("{ROUTE}\nallow_notify = true\nfunctions = [\"reads\"]"));
    let mut client = ground.client(false);
    client.run("LISTEN mine");
    assert_eq!(client.query("NOTIFY mine, 'x'").code(), "");
    assert_eq!(client.query("SELECT pg_notify('mine', 'x')").code(), "");
    assert_eq!(client.value("SELECT reads()"), "3");
    for text in [
        "SELECT writes()",
        "SELECT public.reads()",
        "SELECT reads(), writes()",
        "SELECT reads(); SELECT writes()",
    ] {
        let failure = client.query(text).failure().unwrap();
        assert_eq!((failure.code.as_str(), failure.message.contains("()")), (READ_ONLY, true), "{text}");
        assert!(failure.detail.contains("unlisted_function"), "{failure:?}");
    }
    assert_eq!(client.query("SELECT count(*), lower(s) FROM t GROUP BY 2").code(), "");
}

/// Refusals are counted by route and rule.
pub fn refusals_are_counted_by_rule() {
    let server = Server::shared();
    let ground = Ground::new(&server, ROUTE);
    let mut client = ground.client(false);
    for text in ["DELETE FROM t", "TRUNCATE t", "DO 'BEGIN END'", "SELECT 1"] {
        client.query(text);
    }
    let count = |rule: &str| {
        let label = format!("user=\"{}\",rule=\"{rule}\"", ground.fixture.role);
        ground.fixture.proxy.metric("firepool_guard_refusals_total", &label)
    };
    assert_eq!((count("write"), count("procedure"), count("copy")), (2.0, 1.0, 0.0));
}

/// A text that is too long to be read does not go to the server, and what follows it does.
pub fn a_text_that_is_too_long_is_refused() {
    let server = Server::own();
    let mut ground = Ground::new(&server, ROUTE);
    let before = ground.state();
    let mut client = ground.client(false);
    let many: Vec<_> = (0..40_000).map(|n: u32| n.to_string()).collect();
    let text = format!("SELECT count(*) FROM t WHERE i IN ({})", many.join(","));
    assert!(text.len() > 200_000);
    let batch = |text: &str| [msg::unnamed(text, &[]), msg::sync()].concat();
    for _ in 0..3 {
        assert_eq!(client.value(&text), "3");
        assert_eq!(client.batch(&[batch(&text)]).rows(), [["3"]]);
        assert_eq!(send(&mut client, std::slice::from_ref(&text), "named").rows(), [["3"]]);
    }
    for length in [50_000, 70_000, 255_000, 262_000, 500_000, 5_000_000] {
        let text = format!("DELETE FROM t; -- {}", "x".repeat(length));
        assert_eq!(client.query(&text).code(), READ_ONLY);
        let batch = [msg::unnamed(&text, &[]), msg::unnamed("SELECT writes()", &[]), msg::sync()];
        assert_eq!(client.batch(&batch).code(), READ_ONLY);
        client.send(&[msg::query(&text), msg::query("SELECT 7"), msg::query(&text)].concat());
        assert_eq!(client.reply().code(), READ_ONLY);
        assert_eq!(client.reply().rows(), [["7"]]);
        assert_eq!(client.reply().code(), READ_ONLY);
    }
    assert_eq!(ground.state(), before);
}

/// In session mode as well, and in statement mode.
pub fn every_mode_of_a_pool_is_guarded() {
    let server = Server::own();
    for mode in ["transaction", "session", "statement"] {
        let mut ground = Ground::new(&server, &format!("access = \"read-only\"\nmode = \"{mode}\""));
        let before = ground.state();
        let mut client = ground.client(false);
        for text in
            ["DELETE FROM t", "SET transaction_read_only = off", "SELECT 1; DELETE FROM t", "DO 'BEGIN END'"]
        {
            for way in WAYS {
                let code = send(&mut client, &[text.to_owned()], way).code();
                assert_eq!(code, READ_ONLY, "{mode} {way} {text}");
            }
        }
        client.send(&msg::function_call(957, &["-1"]));
        assert_eq!(client.reply().code(), READ_ONLY);
        if mode != "statement" {
            for way in &WAYS[..3] {
                assert_eq!(send(&mut client, &["BEGIN READ WRITE".to_owned()], way).code(), "", "{way}");
                assert_eq!(client.query("SELECT writes()").code(), READ_ONLY, "{way}");
                client.run("ROLLBACK");
            }
            client.run("RESET ALL");
            client.run("DISCARD ALL");
        }
        if mode == "statement" {
            for way in &WAYS[..3] {
                let begun = send(&mut client, &["BEGIN READ WRITE".to_owned()], way);
                assert_eq!((begun.code().as_str(), begun.ended), ("0A000", false), "{way}");
            }
            assert_eq!(client.query("BEGIN READ WRITE; SELECT 1; COMMIT").tags(), "CTDCCZ");
        }
        assert_eq!(client.query("SELECT writes()").code(), READ_ONLY);
        assert_eq!(ground.state(), before, "{mode}");
    }
}

/// What is refused in the middle of a batch, or comes in pieces, is refused like anything else.
pub fn requests_that_are_torn_or_out_of_order_are_guarded() {
    let server = Server::own();
    let mut ground = Ground::new(&server, ROUTE);
    let before = ground.state();
    let mut client = ground.client(false);
    let write = "INSERT INTO t VALUES (9, 'x')";
    // A Query within a batch that was not synced, and a call by message.
    for end in [msg::query(write), msg::function_call(957, &["-1"])] {
        client.send(&[msg::unnamed("SELECT 1", &[]), end].concat());
        let reply = client.reply();
        assert_eq!((reply.code().as_str(), reply.status()), (READ_ONLY, 'I'));
    }
    // The error is there without a Sync.
    client.send(&[msg::parse("", write), msg::flush()].concat());
    assert_eq!(client.message().unwrap().failure().code, READ_ONLY);
    client.send(&[msg::bind("", "", &[]), msg::execute("", 0), msg::query(write), msg::sync()].concat());
    assert_eq!((client.reply().tags().as_str(), client.value("SELECT 1").as_str()), ("Z", "1"));
    // A refused name is no statement, and one that was there before stays.
    client.batch(&[msg::parse("n", "SELECT 5"), msg::sync()]);
    assert_eq!(client.batch(&[msg::parse("n", write), msg::sync()]).code(), READ_ONLY);
    let run = |name: &str| [msg::bind("", name, &[]), msg::execute("", 0), msg::sync()].concat();
    assert_eq!(client.batch(&[run("n")]).rows(), [["5"]]);
    assert_eq!(client.batch(&[msg::parse("m", write), msg::sync()]).code(), READ_ONLY);
    assert_eq!(client.batch(&[run("m")]).code(), "26000");
    // A COPY that is refused, with its data behind it.
    let data = [msg::copy_data(b"9\tx\n"), msg::copy_done()].concat();
    client.send(&[msg::query("COPY t FROM STDIN"), data.clone(), msg::query("SELECT 6")].concat());
    assert_eq!(
        (client.reply().code().as_str(), client.reply().rows().concat()),
        (READ_ONLY, vec!["6".to_owned()])
    );
    client.send(&[msg::unnamed("COPY t FROM STDIN", &[]), data, msg::sync()].concat());
    assert_eq!(client.reply().code(), READ_ONLY);
    // Byte by byte.
    for byte in [msg::query("SELECT 1; DELETE FROM t"), msg::unnamed(write, &[]), msg::sync()].concat() {
        client.send(&[byte]);
    }
    assert_eq!((client.reply().code(), client.reply().code()), (READ_ONLY.to_owned(), READ_ONLY.to_owned()));
    // What comes behind the end of a text.
    client.send(&msg::message(b'Q', b"SELECT 1\0; DELETE FROM t\0"));
    assert_eq!(client.reply().code(), READ_ONLY);
    client.send(&[msg::message(b'P', b"\0SELECT 1\0\0\x05"), msg::sync()].concat());
    assert_eq!(client.reply().code(), READ_ONLY);
    assert_eq!(client.query("SELECT writes()").code(), READ_ONLY);
    assert_eq!(ground.state(), before);
}

/// Functions of PostgreSQL's own that may do more than compute, have been looked at one by one, and are let through: they
/// read what is shared, wait, end what the session holds itself, or begin what ends with the transaction.
const LOOKED_AT: &str = "amvalidate clock_timestamp current_query currtid2 currval gen_random_uuid lastval lo_close lo_get
    lo_lseek lo_lseek64 lo_tell lo_tell64 loread pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_blocking_pids pg_collation_actual_version pg_control_checkpoint
    pg_control_init pg_control_recovery pg_control_system pg_current_logfile pg_current_wal_flush_lsn
    pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version pg_database_size pg_export_snapshot
    pg_get_backend_memory_contexts pg_get_multixact_members pg_get_shmem_allocations pg_get_wal_replay_pause_state
    pg_get_wal_resource_managers pg_hba_file_rules pg_ident_file_mappings pg_indexes_size pg_is_in_recovery
    pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available pg_last_committed_xact
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status pg_ls_archive_statusdir
    pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_tmpdir pg_ls_waldir
    pg_notification_queue_usage pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_relation_size
    pg_replication_origin_progress pg_replication_origin_session_is_setup pg_replication_origin_session_progress
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_all_file_settings pg_show_replication_origin_status pg_sleep
    pg_sleep_for pg_sleep_until pg_stat_clear_snapshot pg_stat_file pg_stat_force_next_flush pg_stat_get_recovery_prefetch
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
    pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_stat_have_stats
    pg_table_size pg_tablespace_size pg_total_relation_size pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
    pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status random setseed timeofday txid_status
    pg_config pg_replication_origin_oid plpgsql_validator array_sample array_shuffle pg_available_wal_summaries pg_get_aios
    pg_get_loaded_modules pg_get_wal_summarizer_state pg_ls_summariesdir pg_stat_get_backend_io pg_stat_get_backend_wal
    pg_stat_get_io pg_wal_summary_contents random_normal uuidv4 uuidv7";

/// Whatever PostgreSQL says is volatile, or no ordinary user may call, is refused or has been looked at.
pub fn every_function_of_postgresqls_own_that_may_do_more_than_compute_is_known() {
    let server = Server::shared();
    let mut admin = server.superuser("postgres");
    let names = admin.run(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
           AND (provolatile = 'v' OR NOT coalesce(has_function_privilege('pg_monitor', oid, 'EXECUTE'), true))
           AND prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype,
                                  'language_handler'::regtype)
           AND NOT proargtypes::oid[] && ARRAY['internal'::regtype, 'cstring'::regtype]::oid[] ORDER BY 1",
    );
    let dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
    let looked_at: Vec<_> = LOOKED_AT.split_whitespace().collect();
    let passes = |name: &str| {
        let facts = judge_guarded(format!("SELECT {name}()").as_bytes(), dialect);
        facts.verdict().is_none_or(|verdict| verdict.breach(false, None).is_none())
    };
    let new: Vec<_> = names
        .concat()
        .into_iter()
        .filter(|name| passes(name) && !looked_at.contains(&name.as_str()))
        .collect();
    assert!(new.is_empty(), "let through and not looked at: {new:?}");
    let refused: Vec<_> = looked_at.iter().filter(|name| !passes(name)).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
