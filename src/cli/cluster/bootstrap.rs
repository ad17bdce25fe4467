//! SQL files applied to a running cluster with `psql`.
//!
//! Passwords reach `psql` in files that only we may read, never as arguments: those show up in `ps`. What `psql`
//! says is repeated in errors only after every password has been struck out. The files are applied on every start;
//! they must bear that.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use zeroize::Zeroizing;

use super::account::clean;
use super::error::{At, ClusterError};
use super::folder::write_private;

/// Every SQL file below `deploy/sql`: its path there and its text. A test compares the list with the folder.
const EMBEDDED: &[(&str, &str)] = &[
    ("00-session.sql", include_str!("../../../deploy/sql/00-session.sql")),
    ("05-requirements.sql", include_str!("../../../deploy/sql/05-requirements.sql")),
    ("10-roles.sql", include_str!("../../../deploy/sql/10-roles.sql")),
    ("20-databases.sql", include_str!("../../../deploy/sql/20-databases.sql")),
    ("25-passwords.sql", include_str!("../../../deploy/sql/25-passwords.sql")),
    ("30-registry-schema.sql", include_str!("../../../deploy/sql/30-registry-schema.sql")),
    ("31-registry-tables.sql", include_str!("../../../deploy/sql/31-registry-tables.sql")),
    ("32-registry-grants.sql", include_str!("../../../deploy/sql/32-registry-grants.sql")),
    ("40-public-functions.sql", include_str!("../../../deploy/sql/40-public-functions.sql")),
    ("50-extensions.sql", include_str!("../../../deploy/sql/50-extensions.sql")),
    ("51-schemas.sql", include_str!("../../../deploy/sql/51-schemas.sql")),
    ("52-wm.sql", include_str!("../../../deploy/sql/52-wm.sql")),
    ("53-entity.sql", include_str!("../../../deploy/sql/53-entity.sql")),
    ("54-broker.sql", include_str!("../../../deploy/sql/54-broker.sql")),
    ("55-services.sql", include_str!("../../../deploy/sql/55-services.sql")),
    ("60-fdw-server.sql", include_str!("../../../deploy/sql/60-fdw-server.sql")),
    ("61-fdw-tables.sql", include_str!("../../../deploy/sql/61-fdw-tables.sql")),
    ("70-grants.sql", include_str!("../../../deploy/sql/70-grants.sql")),
    ("90-registry-sample.sql", include_str!("../../../deploy/sql/90-registry-sample.sql")),
    ("91-sample.sql", include_str!("../../../deploy/sql/91-sample.sql")),
    ("99-check.sql", include_str!("../../../deploy/sql/99-check.sql")),
    ("bootstrap.sql", include_str!("../../../deploy/sql/bootstrap.sql")),
];

/// The file that includes all others.
const ENTRY: &str = "bootstrap.sql";

/// SQL files, which of them to begin with, and the variables they use.
#[derive(Clone)]
pub struct Bootstrap {
    files: Vec<(PathBuf, String)>,
    entry: PathBuf,
    variables: Vec<(String, Zeroizing<String>)>,
}

impl Bootstrap {
    /// FireFoundry's databases, roles and schemas, as they were in `deploy/sql` when firepool was built.
    pub fn firefoundry() -> Self {
        Self::new(ENTRY, EMBEDDED.iter().copied())
    }

    /// Other files: paths relative to one folder, with their text. `entry` is run and may include the others
    /// with `\ir`.
    pub fn new<'a>(entry: &str, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let files = files.into_iter().map(|(path, text)| (PathBuf::from(path), text.to_owned())).collect();
        Self { files, entry: PathBuf::from(entry), variables: Vec::new() }
    }

    /// Sets a psql variable, such as `fireread_password`. The later of two with one name wins.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), Zeroizing::new(value.to_owned())));
        self
    }
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Bootstrap")
            .field("entry", &self.entry)
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

/// `psql` as superuser on a running cluster.
#[derive(Debug)]
pub(super) struct Psql<'a> {
    pub(super) program: &'a Path,
    pub(super) port: u16,
    pub(super) password: &'a str,
    /// An empty folder that only we may read.
    pub(super) scratch: &'a Path,
}

impl Psql<'_> {
    /// Applies the files, in database `postgres`, stopping at the first error.
    pub(super) fn apply(&self, bootstrap: &Bootstrap) -> Result<(), ClusterError> {
        let passfile = self.scratch.join("pgpass");
        write_private(&passfile, &format!("*:*:*:*:{}\n", escape_passfile(self.password)))?;
        let variables = self.scratch.join("variables.psql");
        write_private(&variables, &Zeroizing::new(self.variables(bootstrap)?))?;
        let folder = self.scratch.join("sql");
        for (path, text) in &bootstrap.files {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).at("create", parent)?;
            }
            write_private(&path, text)?;
        }
        let mut command = clean(self.program);
        // HOME keeps libpq away from the user's certificates, and psql from the user's history.
        command.env("PGPASSFILE", &passfile).env("HOME", self.scratch).env("PGAPPNAME", "firepool bootstrap");
        command.args(["-X", "-q", "-w", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-p"]);
        command
            .arg(self.port.to_string())
            .arg("-f")
            .arg(&variables)
            .arg("-f")
            .arg(folder.join(&bootstrap.entry));
        let output = command.stdin(Stdio::null()).output().at("run", self.program)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(ClusterError::Program {
            program: self.program.to_owned(),
            status: output.status,
            output: self.without_secrets(bootstrap, &said),
        })
    }

    fn variables(&self, bootstrap: &Bootstrap) -> Result<String, ClusterError> {
        let mut text = "\\set ON_ERROR_STOP on\n".to_owned();
        for (name, value) in &bootstrap.variables {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(known) || value.contains('\0') {
                let reason = "psql variables have names of letters, digits and _, and values without NUL";
                return Err(ClusterError::Setting { name: name.clone(), reason });
            }
            text.push_str(&format!("\\set {name} {}\n", quote(value)));
        }
        Ok(text)
    }

    /// PostgreSQL quotes the statement that failed, and a statement may set a password.
    fn without_secrets(&self, bootstrap: &Bootstrap, said: &str) -> String {
        let secrets = bootstrap.variables.iter().filter(|(name, _)| name.contains("password"));
        let mut secrets: Vec<&str> = secrets.map(|(_, value)| value.as_str()).collect();
        secrets.push(self.password);
        // A password may be the beginning of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut said = said.trim_end().to_owned();
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            said = said.replace(&secret.replace('\'', "''"), "***").replace(secret, "***");
        }
        said
    }
}

/// A quoted argument of a psql command (`psqlscanslash.l`): quotes are doubled, backslashes escape as in C.
fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n").replace('\r', "\\r");
    format!("'{escaped}'")
}

/// In a password file a backslash goes before a colon or a backslash.
fn escape_passfile(password: &str) -> String {
    password.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SQL files below a folder, with paths relative to it, sorted.
    fn sql_files(folder: &Path, below: &str) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                files.extend(sql_files(&entry.path(), &format!("{name}/")));
            } else if name.ends_with(".sql") {
                files.push((name, fs::read_to_string(entry.path()).unwrap()));
            }
        }
        files.sort();
        files
    }

    #[test]
    fn every_sql_file_of_deploy_is_in_the_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sql");
        let there = sql_files(&folder, "");
        let mut embedded: Vec<(String, String)> =
            EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        embedded.sort();
        let names =
            |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&embedded), names(&there));
        assert_eq!(embedded, there);
    }

    #[test]
    fn passwords_are_quoted_for_psql_and_for_the_password_file() {
        assert_eq!(quote(r"a'b\c"), r"'a''b\\c'");
        assert_eq!(quote("two\nlines"), r"'two\nlines'");
        assert_eq!(escape_passfile(r"a:b\c"), r"a\:b\\c");
    }

    #[test]
    fn passwords_are_struck_out_of_what_psql_says() {
        let psql = Psql { program: Path::new("psql"), port: 1, password: "root", scratch: Path::new("/") };
        let bootstrap =
            Bootstrap::new("x", []).variable("a_password", "it's").variable("b_password", "root2");
        let said = psql.without_secrets(&bootstrap, "LINE 1: PASSWORD 'it''s', 'root2', 'root'\n");
        assert_eq!(said, "LINE 1: PASSWORD '***', '***', '***'");
        assert!(!format!("{bootstrap:?}").contains("it's"));
    }

    #[test]
    fn a_variable_that_would_be_another_command_is_refused() {
        let psql = Psql { program: Path::new("psql"), port: 1, password: "", scratch: Path::new("/") };
        for (name, value) in [("a b", "x"), ("a\n\\! ls", "x"), ("", "x"), ("a", "\0")] {
            let bootstrap = Bootstrap::new("x", []).variable(name, value);
            assert!(matches!(psql.variables(&bootstrap), Err(ClusterError::Setting { .. })), "{name:?}");
        }
    }
}
