//! Everything that needs a real PostgreSQL: one server for all tests, started with the first that asks for it, and a
//! proxy of its own for each test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests panic, and so do their helpers"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody builds on tests")]

mod admin;
mod auth;
mod auth_secrets;
mod auth_sources;
mod cancel;
mod chaos;
mod copy;
mod errors;
mod fidelity;
mod fidelity_storm;
mod fidelity_table;
mod figures;
mod guard;
mod guide;
mod hostile;
mod hostile_bodies;
mod hostile_names;
mod hour;
mod limits;
mod listening;
mod load;
mod notify;
mod protocol;
mod reload;
mod replication;
mod schemas;
mod sessions;
mod slow;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each rung of tests uses its part")]
mod support;
mod timeouts;
mod top;
mod tracing;
mod transactions;
mod upkeep;

use std::process::ExitCode;

use guard::{
    escapes as guard_escapes, programs as guard_programs, storm as guard_storm, strict as guard_strict,
};

#[allow(clippy::too_many_lines, reason = "a list")]
fn main() -> ExitCode {
    let mut trials = support::run::trials! {
        guide:
            every_query_of_the_setup_guide_answers_as_it_does_without_a_proxy,
            single_queries_of_the_guide_answer_alike_as_well,
            the_extensions_of_the_guide_can_be_created_by_the_superuser,
            a_wrong_password_is_refused_with_the_servers_words;
        protocol:
            simple_queries_answer_in_every_mode,
            extended_queries_answer_in_every_mode,
            an_error_skips_to_the_next_sync_and_no_further,
            many_batches_in_flight_are_answered_in_order,
            simple_queries_in_flight_are_answered_in_order,
            a_statement_may_be_described_in_one_batch_and_bound_in_the_next,
            flush_brings_answers_without_a_sync,
            ten_megabytes_go_up_and_come_down_again,
            a_message_that_arrives_byte_by_byte_is_answered,
            functions_are_called_in_every_mode,
            notices_and_parameters_reach_the_client_that_caused_them,
            garbage_ends_the_session_with_a_protocol_violation;
        hour:
            an_hour_of_firefoundrys_traffic_is_counted_to_the_statement_and_to_the_row;
        figures:
            prepared_statements_are_counted_as_found_as_missed_and_as_put_out,
            a_connection_that_the_server_ends_is_counted_as_lost_and_one_that_the_proxy_ends_is_not,
            a_reload_that_failed_is_told_until_one_succeeds_and_each_configuration_has_its_hash,
            logins_that_come_to_nothing_are_counted_by_reason;
        copy:
            rows_are_copied_in_and_out_with_simple_queries,
            rows_are_copied_with_extended_queries,
            a_copy_that_fails_leaves_the_connection_in_order,
            a_copy_that_fails_with_a_sync_in_doubt_is_answered_and_its_connection_replaced,
            several_copies_in_one_query_work,
            a_client_that_leaves_in_the_middle_of_a_copy_leaves_nothing_behind,
            a_copy_that_fails_with_a_sync_in_doubt_gives_its_connection_back;
        transactions:
            two_clients_take_turns_on_one_connection,
            a_transaction_keeps_its_connection_until_it_ends,
            a_vanished_clients_transaction_is_rolled_back,
            a_vanished_clients_query_is_cancelled,
            a_vanished_clients_pipeline_is_cancelled_to_its_end,
            what_a_client_set_after_it_vanished_is_gone_as_well,
            a_vanished_client_leaves_no_session_state_in_session_mode,
            a_pinned_client_that_vanishes_leaves_no_session_state_in_transaction_mode,
            clients_that_come_and_vanish_never_exceed_the_pool;
        sessions:
            set_follows_its_client_from_connection_to_connection_and_does_not_leak,
            discard_all_gives_the_connection_back,
            startup_parameters_belong_to_their_client,
            a_bad_startup_setting_is_refused_with_the_servers_sqlstate,
            named_statements_work_for_as_long_as_their_client,
            an_unnamed_statement_is_out_of_reach_of_others,
            a_driver_with_its_prepared_statements_and_pipelines_works,
            a_listening_client_is_told_while_it_is_silent,
            clients_with_different_encodings_share_a_connection,
            a_statement_timeout_of_one_client_does_not_end_anothers_query,
            an_unnamed_statement_may_be_bound_in_several_batches;
        fidelity:
            a_statement_that_is_prepared_behind_discard_all_is_still_its_clients_alone,
            a_reset_leaves_a_client_with_its_startup_settings_at_once,
            a_request_never_runs_with_settings_that_could_not_be_applied,
            settings_mean_the_same_whatever_encoding_the_connection_had,
            what_was_asked_before_terminate_is_done,
            a_statement_whose_columns_changed_fails_until_it_is_parsed_anew,
            a_statement_means_the_same_on_a_server_connection_that_never_had_it,
            the_proxys_own_questions_do_not_suffer_from_a_clients_limits,
            nothing_is_found_under_the_proxys_own_names,
            a_notification_that_nobody_asked_for_reaches_nobody;
        fidelity_storm:
            the_storm_finds_on_postgresql_itself_what_the_model_says,
            the_storm_finds_in_session_mode_what_the_model_says,
            fifty_clients_on_three_connections_each_have_a_session_of_their_own;
        fidelity_table:
            the_noise_moves_a_client_between_connections;
        guard:
            what_is_refused_changes_nothing_though_the_role_owns_the_tables,
            what_is_refused_changes_nothing_though_the_role_is_a_superuser,
            what_only_reads_is_let_through,
            postgresqls_own_mode_leaves_holes_that_the_guard_closes,
            a_refusal_fails_the_transaction_as_an_error_of_postgresqls_would,
            a_connection_that_leaves_the_mode_is_closed_and_its_client_told,
            a_route_may_allow_to_notify_and_list_its_functions,
            refusals_are_counted_by_rule,
            a_text_that_is_too_long_is_refused,
            every_mode_of_a_pool_is_guarded,
            requests_that_are_torn_or_out_of_order_are_guarded,
            every_function_of_postgresqls_own_that_may_do_more_than_compute_is_known;
        guard_programs:
            the_backslash_commands_of_psql_print_what_they_print_without_a_proxy,
            pg_dump_prints_what_it_prints_without_a_proxy,
            a_check_warns_of_what_the_role_of_a_read_only_route_could_write;
        guard_escapes:
            a_cancel_request_does_not_let_a_text_out_of_the_proxys_transaction,
            batches_cannot_step_out_of_the_proxys_transaction;
        guard_storm:
            statements_made_at_random_change_nothing,
            statements_made_at_random_change_nothing_on_a_strict_route;
        guard_strict:
            a_strict_route_refuses_what_another_does_though_the_role_owns_the_tables,
            a_strict_route_refuses_what_another_does_though_the_role_is_a_superuser,
            what_only_reads_is_let_through_on_a_strict_route,
            what_functions_do_from_inside_is_of_effect_at_the_default_level,
            what_functions_do_from_inside_leaves_nothing_on_a_strict_route,
            a_clients_transactions_are_what_they_are_without_a_proxy,
            a_client_of_a_strict_route_is_told_what_cannot_last;
        hostile:
            a_batch_that_was_never_synced_is_taken_back_when_its_client_leaves,
            what_an_unnamed_statement_does_is_noted_whenever_it_is_bound,
            what_definitions_do_to_a_session_stays_with_its_client,
            what_definitions_do_by_way_of_others_stays_with_its_client,
            statements_that_use_no_such_definition_are_not_asked_about,
            what_dynamic_sql_sets_is_nobody_elses,
            definitions_are_looked_at_again_when_a_client_of_another_pool_has_changed_them,
            what_a_long_text_sets_is_nobody_elses,
            a_do_block_costs_its_client_no_connection_of_its_own,
            what_a_function_does_to_the_role_stays_with_its_client,
            sql_execute_does_what_its_statement_does,
            a_table_that_is_temporary_by_its_path_is_its_clients_alone,
            a_hundred_settings_of_its_own_stay_with_their_client,
            lastval_never_tells_another_clients_number,
            pipelines_that_use_what_they_have_just_prepared_do_not_hang,
            a_deallocate_that_was_skipped_removes_nothing,
            a_question_that_the_server_does_not_answer_pins_and_does_not_end_the_session,
            a_seed_is_not_handed_on;
        hostile_names:
            a_statement_of_a_clients_own_under_a_shared_name_harms_nobody;
        hostile_bodies:
            the_function_of_an_operator_is_looked_into_though_nobody_has_looked_before,
            a_table_that_is_temporary_by_its_functions_path_is_nobody_elses,
            what_no_discard_undoes_is_not_handed_on_when_its_client_leaves,
            names_of_settings_that_are_put_together_are_nobody_elses,
            a_set_with_a_blank_within_its_name_is_nobody_elses,
            a_set_behind_the_word_update_is_nobody_elses,
            definitions_are_looked_at_again_though_who_changes_them_does_not_wait_for_it,
            a_table_in_the_temporary_schema_is_nobody_elses,
            a_called_function_with_dynamic_sql_is_looked_into,
            functions_that_run_what_a_string_names_are_looked_into,
            functions_of_extensions_that_run_a_string_are_looked_into;
        errors:
            an_unknown_database_is_refused_with_3d000,
            a_failed_login_says_the_same_whether_or_not_the_user_exists,
            a_user_without_a_route_is_refused_with_42501,
            clients_above_any_limit_are_refused_with_53300,
            a_server_that_cannot_be_reached_is_08001,
            a_server_that_refuses_the_proxys_login_is_08004,
            transaction_blocks_are_refused_in_statement_mode_before_anything_is_done,
            a_transaction_block_that_nobody_could_foresee_ends_the_session_in_statement_mode,
            replication_is_refused_with_0a000,
            other_protocol_versions_are_refused_with_0a000,
            newer_versions_and_unknown_options_are_negotiated_down,
            encryption_is_declined_once_of_each_kind,
            startup_packets_that_make_no_sense_are_refused;
        auth:
            each_method_of_clients_works_with_each_of_servers_as_far_as_what_is_known_goes,
            a_driver_logs_in_with_each_method,
            the_process_behind_a_unix_socket_is_who_the_system_says,
            the_first_rule_that_fits_counts_and_where_none_fits_nobody_gets_in,
            a_password_in_clear_text_is_not_taken_over_the_network_unless_the_rule_says_so,
            nobody_learns_from_a_failed_login_who_exists,
            a_unix_socket_has_no_limit_of_failed_logins;
        auth_secrets:
            no_secret_is_in_the_log_the_metrics_the_errors_or_the_reports,
            a_reload_takes_passwords_and_rules_without_ending_anybody;
        auth_sources:
            with_a_verifier_alone_the_server_is_shown_what_the_client_has_proved,
            a_password_that_is_being_changed_may_be_either_on_both_sides,
            a_userlist_of_pgbouncer_lets_its_users_in,
            passwords_come_from_files_and_variables,
            users_are_looked_up_and_what_they_prove_is_shown_to_the_server,
            an_expired_password_and_a_role_that_may_not_log_in_let_nobody_in,
            who_does_not_exist_is_never_logged_in_as_who_looks_up,
            nothing_of_a_client_reaches_the_connection_that_looks_users_up,
            what_is_asked_by_default_means_the_same_in_every_search_path,
            an_answer_that_is_remembered_is_asked_for_anew_after_a_failure,
            the_password_of_who_looks_up_is_renewed_by_a_reload,
            a_name_for_which_the_look_up_fails_keeps_nobody_else_out,
            where_users_cannot_be_looked_up_those_of_the_configuration_still_log_in;
        timeouts:
            a_client_that_waits_too_long_gets_53300_and_the_others_go_on,
            a_silent_transaction_ends_with_25p03_and_is_rolled_back,
            a_silent_client_ends_with_57p05,
            a_query_that_runs_too_long_ends_with_57014_and_is_cancelled_on_the_server,
            a_login_that_does_not_end_is_ended;
        cancel:
            a_cancel_reaches_the_query_of_its_client_and_no_other,
            a_cancel_with_a_wrong_key_does_nothing,
            a_client_of_protocol_3_2_cancels_with_its_long_secret,
            the_servers_own_key_is_not_the_clients,
            a_cancel_for_an_idle_client_hits_nobody,
            a_cancel_between_the_statements_of_a_transaction_does_nothing,
            however_many_cancel_nobody_elses_query_is_hit,
            a_client_that_waits_for_a_server_connection_is_cancelled_too;
        reload:
            limits_of_logins_are_those_of_the_last_reload_and_all_others_those_of_the_start,
            how_long_a_drain_may_take_is_that_of_the_last_reload;
        replication:
            a_base_backup_is_taken_with_its_wal_and_verifies,
            wal_is_received_as_it_is_written,
            changes_are_decoded_for_a_client_of_one_database,
            replication_is_refused_where_no_route_allows_it,
            what_the_server_refuses_a_replicating_client_for_is_said,
            a_replicating_client_has_its_own_startup_parameters,
            a_replicating_client_cancels_with_the_key_that_it_got,
            replication_connections_count_under_the_limits_of_their_user,
            a_replicating_client_that_closes_its_half_gets_the_rest,
            a_drain_closes_replication_connections;
        limits:
            an_idle_connection_of_the_sibling_makes_room_under_a_shared_limit,
            a_client_waits_while_the_sibling_uses_all_that_is_allowed,
            a_client_that_waits_in_vain_under_a_shared_limit_gets_53300,
            a_users_limit_holds_over_several_databases,
            the_reserve_serves_those_that_have_waited_and_is_given_back,
            a_client_in_session_mode_is_next_when_another_leaves,
            a_saturated_sibling_does_not_starve_the_other;
        upkeep:
            the_minimum_is_opened_ahead_and_kept,
            the_minimum_is_opened_before_the_first_client_comes,
            connections_that_lie_unused_are_closed,
            connections_that_are_old_are_replaced_but_not_inside_a_transaction,
            a_terminated_connection_is_never_handed_out,
            a_terminated_connection_tells_its_client_why,
            without_reuse_a_client_in_session_mode_gets_a_backend_that_nobody_had;
        load:
            sixty_four_clients_of_pgbench_run_on_eight_connections,
            pgbench_with_prepared_statements_needs_no_more_connections_than_without,
            every_client_makes_progress_under_saturation;
        admin:
            metrics_count_what_happened,
            live_and_ready_answer,
            a_drain_lets_a_transaction_end_and_sends_idle_clients_home,
            a_drain_ends_what_takes_too_long,
            a_drain_does_not_wait_for_logins_that_never_end;
        schemas:
            counters_by_schema_are_what_the_clients_counted,
            what_is_made_through_the_proxy_is_known_soon,
            schemas_beyond_the_limit_are_others_and_configured_ones_are_known_without_asking,
            counters_agree_with_pg_stat_statements,
            a_read_only_route_counts_what_it_lets_through_and_no_refusal_of_its_own,
            a_wait_for_a_server_connection_is_counted_under_the_schema_of_what_waited;
        tracing:
            a_query_has_the_trace_and_the_parent_that_its_comment_says,
            a_pipeline_of_queries_gives_each_its_own_trace,
            what_is_skipped_behind_an_error_leaves_its_trace_to_nobody,
            a_wait_for_a_server_connection_is_a_part_of_what_waited,
            a_query_whose_server_dies_has_failed_and_a_statement_that_is_bound_later_is_followed,
            a_collector_that_hangs_or_is_away_costs_spans_and_no_client_its_time,
            a_query_that_is_too_long_to_be_read_is_followed_as_well,
            what_waits_at_the_end_is_still_sent;
        notify:
            what_was_committed_before_is_never_delivered_and_what_comes_after_always,
            a_subscription_in_a_storm_begins_at_one_place_and_misses_nothing_after_it,
            the_order_of_the_server_holds_across_channels,
            five_hundred_mailboxes_of_two_workers_share_one_connection,
            a_mailbox_that_is_not_emptied_fails_and_the_others_go_on,
            a_lost_connection_ends_all_that_listen_and_the_next_one_opens_another,
            who_does_not_listen_any_more_hears_nothing_and_the_connection_is_closed,
            time_outs_of_sessions_and_statements_do_not_end_it,
            a_wait_that_is_given_up_leaves_no_subscription,
            names_are_taken_as_the_server_takes_them,
            limits_refuse_and_do_no_harm;
        listening:
            sixty_listeners_on_two_connections_each_hear_what_is_meant_for_them_and_nothing_else,
            a_listener_that_does_not_read_is_ended_with_53400_and_the_others_go_on,
            listening_begins_and_ends_with_what_is_committed,
            what_fails_or_is_rolled_back_does_not_end_listening,
            the_extended_protocol_listens_as_well,
            discard_all_ends_listening,
            listening_works_in_statement_mode,
            a_function_may_listen,
            a_transaction_hears_nothing_before_it_has_ended,
            what_was_committed_before_listen_is_never_heard_and_what_comes_after_its_answer_always,
            a_lost_connection_ends_who_listens_and_a_new_listen_works,
            a_client_whose_encoding_the_hub_does_not_have_keeps_its_connection,
            names_come_as_postgresql_has_them,
            where_no_more_connections_are_allowed_a_listener_keeps_its_own,
            a_drain_ends_listeners_as_it_ends_idle_clients;
        top:
            calls_rows_and_errors_of_each_shape_are_what_the_client_counted,
            no_literal_is_in_what_admin_http_shows,
            fifty_thousand_shapes_stay_within_the_bound_and_sums_stay_true,
            a_wait_is_counted_with_the_shape_that_waited,
            times_and_schemas_are_shown_and_orders_and_limits_are_kept,
            statements_are_counted_by_shape_without_schemas_and_not_at_all_where_that_is_off;
        slow:
            a_slow_statement_is_told_without_literals_and_its_wait_apart_from_the_servers_time,
            literals_are_told_only_where_that_is_asked_for_and_a_route_may_be_left_out,
            a_storm_of_slow_statements_is_told_in_few_lines_and_with_their_number;
        chaos:
            whatever_others_do_every_client_gets_its_own_rows,
            a_pipeline_longer_than_the_books_is_answered_to_its_end;
    };
    trials.extend(fidelity_table::trials());
    support::run::run(trials)
}
