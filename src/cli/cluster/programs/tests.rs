use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder that stands for `/` and is deleted at the end.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("firepool-programs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(fs::canonicalize(folder).unwrap())
    }

    /// Puts programs that write `says` into a folder.
    fn put(&self, folder: &str, names: &[&str], says: &str) -> PathBuf {
        let folder = self.0.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for name in names {
            // Written by another process: while ours has a file open for writing, a child that another test forks
            // at that moment would have it open too, and running it would fail with ETXTBSY.
            let script = r#"printf '#!/bin/sh\necho "%s"\n' "$2" >"$1" && chmod 755 "$1""#;
            let path = folder.join(name);
            let status = Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(says).status();
            assert!(status.unwrap().success());
        }
        folder
    }

    fn places(&self, path: &[&Path]) -> Places {
        let path = path.iter().map(|folder| folder.to_path_buf()).collect();
        Places { bindir: None, path, root: self.0.clone() }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ALL: &[&str] = &["initdb", "postgres", "psql"];

#[test]
fn the_highest_version_wins_and_versions_are_compared_as_numbers() {
    let root = Root::new();
    for version in ["9.6", "15", "16", "8.4"] {
        root.put(&format!("usr/lib/postgresql/{version}/bin"), ALL, "");
    }
    root.put("usr/lib/postgresql/not-a-version/bin", ALL, "");
    let found = Programs::find_in(&root.places(&[])).unwrap();
    assert_eq!(found.bindir, root.0.join("usr/lib/postgresql/16/bin"));
    let order = by_version(&root.0.join("usr/lib/postgresql"), "", "bin");
    let names: Vec<_> = order.iter().map(|folder| folder.parent().unwrap().file_name().unwrap()).collect();
    assert_eq!(names, ["16", "15", "9.6", "8.4"]);
}

#[test]
fn a_folder_without_the_server_is_passed_over() {
    let root = Root::new();
    root.put("usr/lib/postgresql/17/bin", &["psql"], "");
    root.put("usr/lib/postgresql/15/bin", ALL, "");
    let found = Programs::find_in(&root.places(&[])).unwrap();
    assert_eq!(found.bindir, root.0.join("usr/lib/postgresql/15/bin"));
    assert_eq!(found.psql, found.bindir.join("psql"));
}

#[test]
fn a_single_link_in_path_leads_to_the_real_folder_and_psql_may_be_elsewhere() {
    let root = Root::new();
    let real = root.put("elsewhere/bin", &["initdb", "postgres"], "");
    let links = root.put("links", &[], "");
    let clients = root.put("clients", &["psql", "pgbench"], "");
    symlink(real.join("initdb"), links.join("initdb")).unwrap();
    let found = Programs::find_in(&root.places(&[&clients, &links])).unwrap();
    assert_eq!(found.bindir, real);
    assert_eq!(found.psql, clients.join("psql"));
    assert_eq!(found.other("pgbench"), Some(clients.join("pgbench")));
    assert_eq!(found.other("pg_isready"), None);
}

#[test]
fn pg_config_says_where_the_server_is() {
    let root = Root::new();
    let real = root.put("opt/custom/bin", ALL, "");
    let path = root.put("usr/bin", &["pg_config"], real.to_str().unwrap());
    assert_eq!(Programs::find_in(&root.places(&[&path])).unwrap().bindir, real);
}

#[test]
fn other_distributions_keep_theirs_in_other_folders() {
    for folder in ["usr/pgsql-16/bin", "opt/homebrew/opt/postgresql@16/bin", "opt/homebrew/bin"] {
        let root = Root::new();
        let real = root.put(folder, ALL, "");
        assert_eq!(Programs::find_in(&root.places(&[])).unwrap().bindir, real, "{folder}");
    }
}

#[test]
fn the_variable_is_the_only_place_for_the_server_when_it_is_set() {
    let root = Root::new();
    root.put("usr/lib/postgresql/16/bin", &["initdb", "postgres"], "");
    let chosen = root.put("chosen", &["initdb", "postgres"], "");
    let mut places = root.places(&[]);
    places.bindir = Some(chosen.clone());
    assert_eq!(Programs::find_in(&places).map(|found| found.bindir), Err(missing(&places, None, &["psql"])));
    places.path.push(root.put("clients", &["psql"], ""));
    assert_eq!(Programs::find_in(&places).unwrap().bindir, chosen);
    places.bindir = Some(root.0.join("nothing"));
    let message = Programs::find_in(&places).unwrap_err().to_string();
    assert!(message.contains("FIREPOOL_PG_BINDIR=") && message.contains("nowhere else"), "{message}");
}

fn missing(places: &Places, only: Option<PathBuf>, programs: &[&'static str]) -> Missing {
    Missing { programs: programs.to_vec(), only, folders: places.folders() }
}

#[test]
fn what_is_missing_where_it_was_looked_for_and_what_to_install_is_said() {
    let root = Root::new();
    let path = root.put("usr/bin", &[], "");
    let message = Programs::find_in(&root.places(&[&path])).unwrap_err().to_string();
    for part in [
        "initdb, postgres, psql",
        path.to_str().unwrap(),
        "/usr/lib/postgresql/*/bin",
        "apt-get install --no-install-recommends postgresql",
        "dnf install postgresql-server",
        "brew install postgresql@",
    ] {
        assert!(message.contains(part), "{part} is not in:\n{message}");
    }
}

#[test]
fn major_versions_are_read_from_what_the_server_prints() {
    assert_eq!(major("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)").as_deref(), Some("15"));
    assert_eq!(major("postgres (PostgreSQL) 9.6.24").as_deref(), Some("9.6"));
    assert_eq!(major("postgres (PostgreSQL) 17beta1").as_deref(), Some("17"));
    assert_eq!(major("nothing to see"), None);
}
