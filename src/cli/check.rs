//! `firepool check`: what is wrong with a configuration, and what it comes to.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::{Config, Examined, Route, budget, examine};

/// Everything that is wrong with the file as `file:line: error: message`, and, unless there are errors, its pools and
/// how many server connections each target has to expect. The second value is false if there are errors.
///
/// Nothing is connected to, and no password is printed.
pub fn report(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> (String, bool) {
    let Examined { config, problems } = examine(path, env);
    let mut text = String::new();
    // writing to a String cannot fail
    for problem in &problems {
        let _ = writeln!(text, "{problem}");
    }
    match &config {
        Some(config) => summarise(config, &mut text),
        None => {
            let _ = writeln!(text, "{}: cannot be used", path.display());
        }
    }
    (text, config.is_some())
}

fn summarise(config: &Config, text: &mut String) {
    let users = config.users.len();
    let clients = config.proxy.max_clients;
    let _ = writeln!(text, "routes: {}, users: {users}, clients: at most {clients}", config.routes.len());
    let titles = ["database", "user", "target", "mode", "size", "reserve", "foreign tables", "access"];
    let titles = titles.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(titles).chain(config.routes.iter().map(|route| row(route))).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
    let authentication = &config.authentication;
    let rules = match &authentication.rules {
        Some(rules) => format!("by {} rules", rules.len()),
        None => "with SCRAM-SHA-256".to_owned(),
    };
    let others = match &authentication.lookup {
        Some(lookup) => {
            format!(", other users are looked up by `{}` on `{}`", lookup.user.name, lookup.target.name)
        }
        None => String::new(),
    };
    let _ = writeln!(text, "clients log in {rules}{others}");
    for worst in budget::worst(config) {
        let _ = writeln!(text, "target `{}`: {worst}", worst.target);
    }
}

fn row(route: &Route) -> [String; 8] {
    [
        route.database.to_string(),
        route.user.to_string(),
        route.target.name.clone(),
        route.mode.as_str().to_owned(),
        route.pool_size.to_string(),
        route.reserve_size.to_string(),
        if route.reads_foreign_tables { "yes" } else { "no" }.to_owned(),
        route.access.as_str().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/firepool.toml")
    }

    #[test]
    fn a_good_file_is_summed_up_by_pool_and_by_target() {
        let (text, ok) = report(&shipped(), &|_| Some("sesame".to_owned()));
        assert!(ok, "{text}");
        assert!(text.starts_with("routes: 8, users: 5, clients: at most 2000\n"), "{text}");
        assert!(
            text.contains("  firefoundry      fireread    main    transaction  20    5        yes             read-only\n"),
            "{text}"
        );
        assert!(text.contains("\nclients log in with SCRAM-SHA-256\n"), "{text}");
        let last = "target `main`: up to 103 server connections (153 with foreign tables)";
        assert_eq!(text.lines().last(), Some(last));
        assert!(!text.contains("sesame"), "{text}");
    }

    #[test]
    fn every_problem_is_printed_with_its_place_and_nothing_is_summed_up() {
        let (text, ok) = report(&shipped(), &|_| None);
        assert!(!ok);
        assert_eq!(
            text.lines().filter(|line| line.contains("firepool.toml:") && line.contains(": error: ")).count(),
            5
        );
        assert!(text.ends_with("firepool.toml: cannot be used\n"), "{text}");
    }

    #[test]
    fn a_warning_does_not_make_it_fail() {
        let folder = std::env::temp_dir().join(format!("firepool-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("warned.toml");
        std::fs::write(&path, "routes = [{}]\n[targets.main]\nhost = \"pg\"\n").unwrap();
        let (text, ok) = report(&path, &|_| None);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(ok, "{text}");
        assert!(text.contains("warned.toml: warning: there are no users: nobody may log in\n"), "{text}");
    }
}
