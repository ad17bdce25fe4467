//! Faults: servers that die and clients that do not behave. Tests that harm a server have one of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests panic, and so do their helpers"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody builds on tests")]

mod clients;
mod outage;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each rung of tests uses its part")]
mod support;

use std::process::ExitCode;

#[allow(clippy::too_many_lines, reason = "a list")]
fn main() -> ExitCode {
    support::run::run(support::run::trials! {
        outage:
            after_a_crash_of_the_server_everything_works_again,
            a_crash_in_the_middle_of_traffic_is_told_to_every_client_it_hits,
            clients_that_wait_during_a_restart_are_served_after_it,
            a_shutdown_of_the_server_tells_a_client_in_a_transaction_and_nobody_else,
            a_restart_of_the_server_is_counted,
            a_server_that_is_not_there_is_waited_for_and_then_08001,
            a_server_that_comes_in_time_serves_those_that_waited,
            a_server_that_accepts_and_says_nothing_is_given_up;
        clients:
            a_client_that_never_reads_costs_little_and_hurts_nobody,
            a_client_that_never_reads_can_be_ended,
            a_client_that_pipelines_without_reading_is_held_back,
            half_open_clients_are_gone_when_they_close_their_side,
            a_torn_login_leaves_nothing,
            five_hundred_that_never_finish_their_login_keep_nobody_out,
            clients_that_vanish_at_every_moment_leave_the_pool_whole,
            a_connection_is_replaced_only_after_its_backend_has_ended;
    })
}
