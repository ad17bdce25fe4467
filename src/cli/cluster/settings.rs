//! What stands in the cluster's configuration.
//!
//! `postgresql.conf` stays as `initdb` wrote it, but for one line that includes `firepool.conf`, which is written
//! anew on every start. `ALTER SYSTEM` still has the last word, as anybody who knows PostgreSQL expects.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::account::Account;
use super::error::{At, ClusterError};
use super::folder::write_private;

/// The file that holds our settings, beside `postgresql.conf`.
pub(super) const FILE: &str = "firepool.conf";

/// FireFoundry's recommendations for a development machine, and logs that say who asked.
const DEFAULTS: [(&str, &str); 6] = [
    ("max_connections", "200"),
    ("shared_buffers", "256MB"),
    ("effective_cache_size", "768MB"),
    ("work_mem", "4MB"),
    ("maintenance_work_mem", "64MB"),
    ("log_line_prefix", "%m [%p] %q%u@%d %a "),
];

/// For data that may be lost with the machine: nothing waits for the disk.
const NOT_DURABLE: [(&str, &str); 3] =
    [("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];

/// Settings that the cluster itself depends on.
const OURS: [&str; 8] = [
    "port",
    "listen_addresses",
    "unix_socket_directories",
    "cluster_name",
    "data_directory",
    "logging_collector",
    "log_destination",
    "external_pid_file",
];

/// What one cluster's configuration says.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) port: u16,
    pub(super) socket_dir: &'a Path,
    pub(super) cluster_name: &'a str,
    pub(super) durable: bool,
    pub(super) overrides: &'a [(String, String)],
}

impl Settings<'_> {
    /// Writes [`FILE`] into the data folder. A later setting of the same name wins, so the overrides come last.
    pub(super) fn write(&self, data: &Path, account: &Account) -> Result<(), ClusterError> {
        let path = data.join(FILE);
        write_private(&path, &self.text()?)?;
        account.own(&path, 0o600)
    }

    fn text(&self) -> Result<String, ClusterError> {
        let port = self.port.to_string();
        let socket_dir = self.socket_dir.to_string_lossy();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            // A list: inner quotes keep a comma in the path from splitting it.
            ("unix_socket_directories", &format!("\"{socket_dir}\"")),
            ("cluster_name", self.cluster_name),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
        ];
        let durability = if self.durable { [].as_slice() } else { &NOT_DURABLE };
        let overrides = self.overrides.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = "# Written by firepool on every start; changes made here are lost.\n".to_owned();
        for (name, value) in DEFAULTS.iter().chain(durability).chain(&ours).copied().chain(overrides) {
            let _ = writeln!(text, "{name} = {}", quote(value));
        }
        check(self.overrides)?;
        Ok(text)
    }
}

/// Refuses overrides that cannot be written or that would pull the rug from under the cluster.
fn check(overrides: &[(String, String)]) -> Result<(), ClusterError> {
    for (name, value) in overrides {
        let refuse = |reason| Err(ClusterError::Setting { name: name.clone(), reason });
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
        {
            return refuse("names consist of letters, digits, _ and .");
        }
        if value.contains(['\n', '\r', '\0']) {
            return refuse("values fit on one line");
        }
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            return refuse("firepool decides it");
        }
    }
    Ok(())
}

/// A string as `guc-file.l` reads it: quotes are doubled, backslashes escape.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Makes `postgresql.conf` include [`FILE`]; once, after `initdb`.
pub(super) fn include(data: &Path) -> Result<(), ClusterError> {
    let path = data.join("postgresql.conf");
    let mut file = OpenOptions::new().append(true).open(&path).at("open", &path)?;
    writeln!(file, "\ninclude_if_exists = '{FILE}'").at("write", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(overrides: &[(&str, &str)], durable: bool) -> Result<String, ClusterError> {
        let overrides: Vec<_> =
            overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let socket_dir = Path::new("/tmp/it's");
        Settings { port: 5433, socket_dir, cluster_name: "firepool-0", durable, overrides: &overrides }.text()
    }

    #[test]
    fn overrides_come_after_the_defaults_and_are_quoted() {
        let text = text(&[("work_mem", "8MB"), ("my.text", r"it's C:\")], true).unwrap();
        assert!(text.find("work_mem = '4MB'").unwrap() < text.find("work_mem = '8MB'").unwrap());
        assert!(text.contains(r"my.text = 'it''s C:\\'"), "{text}");
        assert!(text.contains("unix_socket_directories = '\"/tmp/it''s\"'"), "{text}");
        assert!(!text.contains("fsync"));
    }

    #[test]
    fn data_that_may_be_lost_does_not_wait_for_the_disk() {
        assert!(text(&[], false).unwrap().contains("fsync = 'off'"));
    }

    #[test]
    fn settings_that_firepool_depends_on_or_cannot_write_are_refused() {
        for (name, value) in
            [("Port", "1"), ("cluster_name", "x"), ("a b", "1"), ("", "1"), ("work_mem", "1\n2")]
        {
            assert!(matches!(text(&[(name, value)], true), Err(ClusterError::Setting { .. })), "{name}");
        }
    }
}
