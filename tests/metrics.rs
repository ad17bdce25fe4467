//! What `/metrics` shows is an interface: dashboards and alerts are built on it. `metrics.txt` lists every family with
//! its type, and every series with its labels; a change of that list is a change that the changelog has to tell.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests")]

mod peers;

use std::collections::BTreeSet;

use peers::client::Client;
use peers::proxy::{Proxy, Wishes};
use peers::server::Server;

/// Families with their types, and series with their labels; no values, and no version.
fn interface(page: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            lines.insert(family.to_owned());
        } else if line.starts_with(|first: char| first.is_ascii_lowercase())
            && let Some((series, _value)) = line.rsplit_once(' ')
            && series.contains('{')
        {
            let series = series.replace(env!("CARGO_PKG_VERSION"), "VERSION");
            lines.insert(without_hash(&series));
        }
    }
    lines
}

/// The hash of a configuration is as long as it is whatever it is.
fn without_hash(series: &str) -> String {
    match series.split_once("{hash=\"") {
        Some((name, rest)) if rest.len() == 16 + 2 => format!("{name}{{hash=\"HASH\"}}"),
        _ => series.to_owned(),
    }
}

#[test]
fn the_exposition_has_the_families_types_and_labels_of_the_committed_list_and_no_others() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    Client::log_in(proxy.address).query("SELECT 1").unwrap();
    let page = proxy.ask("/metrics");
    let body = page.split_once("\r\n\r\n").unwrap().1;
    let actual = interface(body);
    let expected: BTreeSet<String> = include_str!("metrics.txt").lines().map(str::to_owned).collect();
    let missing: Vec<_> = expected.difference(&actual).collect();
    let new: Vec<_> = actual.difference(&expected).collect();
    let list: String = actual.iter().map(|line| format!("{line}\n")).collect();
    assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}\nnew: {new:#?}\nall:\n{list}");
}

#[test]
fn every_family_has_a_help_text_and_every_series_belongs_to_a_family() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    Client::log_in(proxy.address).query("SELECT 1").unwrap();
    let page = proxy.ask("/metrics");
    let body = page.split_once("\r\n\r\n").unwrap().1;
    let named = |keyword: &str| -> BTreeSet<&str> {
        let lines = body.lines().filter_map(|line| line.strip_prefix(keyword));
        lines.map(|rest| rest.split(' ').next().unwrap()).collect()
    };
    let families = named("# TYPE ");
    assert_eq!(named("# HELP "), families);
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = families.contains(name) || base.is_some_and(|base| families.contains(base));
        assert!(known, "{line}");
    }
}

#[test]
fn rules_and_the_dashboard_ask_only_for_families_that_there_are() {
    let families: BTreeSet<&str> =
        include_str!("metrics.txt").lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    // Shown only where there is a read-only route, errors, a client that had to wait, or a certificate.
    let seldom = [
        "firepool_guard_refusals_total",
        "firepool_schema_errors_total",
        "firepool_schema_wait_seconds",
        "firepool_tls_certificate_expiry_timestamp_seconds",
    ];
    let texts =
        [include_str!("../deploy/prometheus/rules.yml"), include_str!("../deploy/grafana/firepool.json")];
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut asked = 0;
    for text in texts {
        for (at, _) in text.match_indices("firepool_") {
            let name = text[at..].split(|letter| !is_word(letter)).next().unwrap();
            asked += 1;
            assert!(families.contains(name) || seldom.contains(&name), "{name}");
        }
    }
    assert!(asked > 30, "the queries were not found");
}

#[test]
fn the_names_of_pgbouncer_exporter_are_shown_where_they_are_wanted() {
    let server = Server::honest();
    let page = |wished: bool| {
        let proxy = Proxy::with(server.address, &Wishes { pgbouncer_names: wished, ..Wishes::default() });
        Client::log_in(proxy.address).query("SELECT 1").unwrap();
        proxy.ask("/metrics")
    };
    assert!(!page(false).contains("pgbouncer_"));
    let page = page(true);
    let port = server.address.port();
    let of_database = format!(
        "{{name=\"app\",host=\"127.0.0.1\",port=\"{port}\",database=\"app\",force_user=\"alice\",pool_mode=\"transaction\"}}"
    );
    for sample in [
        "pgbouncer_up 1".to_owned(),
        "pgbouncer_pools 1".to_owned(),
        "pgbouncer_stats_totals_queries_pooled_total{database=\"app\"} 1".to_owned(),
        "pgbouncer_stats_totals_sql_transactions_pooled_total{database=\"app\"} 1".to_owned(),
        "pgbouncer_pools_client_waiting_connections{database=\"app\",user=\"alice\"} 0".to_owned(),
        format!("pgbouncer_databases_pool_size{of_database} 1"),
        format!("pgbouncer_databases_paused{of_database} 0"),
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
    }
}
