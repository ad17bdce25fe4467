//! TLS on both legs, with libpq, with a PostgreSQL that has TLS, and with peers that do not keep to the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests panic, and so do their helpers"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody builds on tests")]

mod binding;
mod bulk;
mod forged;
mod methods;
mod modes;
mod renewal;
mod stage;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each rung of tests uses its part")]
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let trials = support::run::trials! {
        modes:
            each_sslmode_of_libpq_meets_each_mode_of_the_proxy,
            each_sslmode_of_the_proxy_meets_each_server,
            a_servers_certificate_is_asked_for_what_libpq_asks,
            a_server_is_shown_the_certificate_that_it_asks_for,
            direct_tls_works_on_both_legs;
        binding:
            libpq_binds_its_password_to_the_channel,
            servers_are_proved_the_password_with_the_channel_where_they_can,
            a_server_that_cannot_bind_what_it_is_proved_gets_nothing_where_that_is_required,
            a_real_server_binds_what_it_is_proved,
            those_whom_the_system_trusts_vouch_for_servers;
        forged:
            bytes_ahead_of_a_clients_handshake_are_refused,
            bytes_ahead_of_a_servers_handshake_are_refused,
            a_server_that_answers_with_an_error_is_not_quoted,
            a_server_that_is_not_asked_first_has_to_agree_by_alpn,
            direct_tls_without_alpn_is_not_served,
            a_client_that_stalls_in_its_handshake_is_dropped;
        bulk:
            large_results_and_copies_pass_through_both_legs,
            a_client_that_does_not_read_costs_no_memory,
            a_client_that_replicates_is_encrypted_on_both_legs,
            a_query_is_cancelled_over_tls_on_both_legs,
            connections_change_workers_with_their_sessions;
        methods:
            each_method_asks_each_client_for_what_its_rule_says,
            a_certificate_that_nobody_vouches_for_lets_nobody_in,
            servers_are_proved_what_they_ask_for_over_tls,
            what_a_client_has_proved_over_its_channel_is_proved_over_the_servers,
            users_are_looked_up_over_tls;
        renewal:
            renewed_certificates_are_shown_to_new_clients_and_disturb_no_others,
            a_renewal_that_does_not_fit_keeps_the_old_certificate,
            handshakes_sessions_and_certificates_of_both_legs_are_told,
            one_sighup_renews_certificates_and_has_passwords_and_rules_read_again,
            a_reload_changes_how_clients_are_encrypted_and_who_was_revoked,
            a_server_that_was_revoked_gets_no_password;
    };
    support::run::run(trials)
}
