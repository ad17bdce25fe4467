use std::path::Path;

use super::*;

fn worst_of_routes(tables: &str, routes: &[&str]) -> Vec<Worst> {
    let routes: String = routes.iter().map(|route| format!("[[routes]]\n{route}\n")).collect();
    let text = format!(
        "[targets.main]\nhost = \"pg\"\n[users]\na.password = \"x\"\nb.password = \"x\"\n{tables}\n{routes}"
    );
    worst(&crate::config::parse(&text, Path::new("test.toml"), &|_| None).unwrap())
}

fn one(tables: &str, routes: &[&str]) -> (u64, u64, bool) {
    let worst = worst_of_routes(tables, routes);
    assert_eq!(worst.len(), 1);
    (worst[0].server, worst[0].foreign, worst[0].unbounded)
}

const A: &str = r#"database = "d"
    user = "a"
    pool_size = 10
    reserve_size = 5"#;
const B: &str = r#"database = "d"
    user = "b"
    pool_size = 7
    reads_foreign_tables = true"#;
const ANY_USER: &str = "database = \"d\"\npool_size = 3";
const ANY_DATABASE: &str = "user = \"a\"\npool_size = 3";

#[test]
fn pools_count_with_their_reserve_and_twice_with_foreign_tables() {
    assert_eq!(one("", &[A]), (15, 0, false));
    assert_eq!(one("", &[A, B]), (22, 7, false));
}

#[test]
fn a_route_for_any_user_counts_once_for_each_user_without_a_route_of_its_own() {
    assert_eq!(one("", &[ANY_USER]), (6, 0, false));
    assert_eq!(one("", &[ANY_USER, A]), (15 + 3, 0, false));
}

#[test]
fn a_route_for_any_database_is_unbounded_unless_its_user_is_limited() {
    assert_eq!(one("", &[ANY_DATABASE]), (3, 0, true));
    assert_eq!(one("", &[ANY_DATABASE, A]), (15 + 3, 0, true));
    assert_eq!(one("a.max_server_connections = 40", &[ANY_DATABASE]), (40, 0, false));
    assert_eq!(one("a.max_server_connections = 40", &[ANY_DATABASE, A, B]), (47, 7, false));
}

#[test]
fn a_database_known_from_its_limits_counts_where_a_route_serves_any_database() {
    assert_eq!(one("[databases.e]\nmax_server_connections = 2", &[ANY_DATABASE]), (2 + 3, 0, true));
}

#[test]
fn limits_by_user_and_by_database_lower_the_sum() {
    assert_eq!(one("b.max_server_connections = 4", &[A, B]), (19, 4, false));
    assert_eq!(one("[databases.d]\nmax_server_connections = 12", &[A, B]), (12, 7, false));
}

#[test]
fn each_target_has_a_budget_of_its_own() {
    let worst = worst_of_routes(
        "[targets.other]\nhost = \"pg2\"",
        &[&format!("{A}\ntarget = \"main\""), &format!("{B}\ntarget = \"other\"")],
    );
    let sums: Vec<_> = worst.iter().map(|w| (w.target.as_str(), w.pools, w.total())).collect();
    assert_eq!(sums, [("main", 1, 15), ("other", 1, 14)]);
}

#[test]
fn a_budget_is_judged_against_what_is_left_after_reserved_connections() {
    let worst = |server, foreign, unbounded| Worst {
        target: "main".to_owned(),
        pools: 1,
        server,
        foreign,
        unbounded,
    };
    assert_eq!(judge(&worst(197, 0, false), 200, 3), None);
    let text = judge(&worst(197, 1, false), 200, 3).unwrap();
    assert!(text.contains("up to 197 server connections (198 with foreign tables)"), "{text}");
    assert!(text.contains("allows 197"), "{text}");
    assert!(judge(&worst(10, 0, true), 200, 3).unwrap().contains("unbounded, at least 10"));
}
