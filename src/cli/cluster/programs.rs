//! Where PostgreSQL's programs are.
//!
//! Distributions hide the server programs from `PATH` on purpose, each in its own folder, and people link single ones
//! back. The folder that counts is the one the real `initdb` is in, because PostgreSQL finds its own files relative
//! to it. Nothing here starts a server or caches anything.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{At, ClusterError};

/// Names the folder of the server programs; when it is set, no other folder is considered for them.
pub const BINDIR_VARIABLE: &str = "FIREPOOL_PG_BINDIR";

/// PostgreSQL's programs, as absolute paths without symbolic links to the server programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The folder of the server programs.
    pub bindir: PathBuf,
    /// Makes a data folder.
    pub initdb: PathBuf,
    /// The server.
    pub postgres: PathBuf,
    /// Applies SQL files; it may be in another folder than the server.
    pub psql: PathBuf,
    folders: Vec<PathBuf>,
}

/// Where to look. [`Places::from_env`] is what a user means; tests make their own.
#[derive(Debug, Clone)]
pub struct Places {
    /// The value of [`BINDIR_VARIABLE`].
    pub bindir: Option<PathBuf>,
    /// The folders of `PATH`, in order.
    pub path: Vec<PathBuf>,
    /// `/`, under which the usual folders of distributions are.
    pub root: PathBuf,
}

impl Places {
    /// What the environment of this process says.
    pub fn from_env() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            bindir: std::env::var_os(BINDIR_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
            path: std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect(),
            root: PathBuf::from("/"),
        }
    }

    /// Every folder worth looking into, best first.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.path.clone();
        folders.extend(self.path.iter().find_map(|folder| pg_config_bindir(&folder.join("pg_config"))));
        for (parent, prefix, below) in VERSIONED {
            folders.extend(by_version(&self.root.join(parent), prefix, below));
        }
        folders.push(self.root.join("opt/homebrew/bin"));
        folders
    }
}

/// Folders that carry a version: parent, what stands before the version, and what is below.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("usr/lib/postgresql", "", "bin"),
    ("usr", "pgsql-", "bin"),
    ("opt/homebrew/opt", "postgresql@", "bin"),
    ("usr/local/opt", "postgresql@", "bin"),
];

impl Programs {
    /// Finds the programs in `FIREPOOL_PG_BINDIR`, `PATH`, `pg_config --bindir` and where distributions put them.
    pub fn find() -> Result<Self, Missing> {
        Self::find_in(&Places::from_env())
    }

    /// The same, in given places.
    pub fn find_in(places: &Places) -> Result<Self, Missing> {
        let folders = places.folders();
        let server_folders = match &places.bindir {
            Some(bindir) => std::slice::from_ref(bindir),
            None => folders.as_slice(),
        };
        let bindir = server_folders.iter().find_map(|folder| server_folder(folder));
        let psql = bindir.iter().chain(&folders).find_map(|folder| executable(&folder.join("psql")));
        match (bindir, psql) {
            (Some(bindir), Some(psql)) => Ok(Self {
                initdb: bindir.join("initdb"),
                postgres: bindir.join("postgres"),
                psql,
                folders: std::iter::once(bindir.clone()).chain(folders).collect(),
                bindir,
            }),
            (bindir, psql) => {
                let mut programs = Vec::new();
                if bindir.is_none() {
                    programs.extend(["initdb", "postgres"]);
                }
                if psql.is_none() {
                    programs.push("psql");
                }
                let only = if bindir.is_none() { places.bindir.clone() } else { None };
                Err(Missing { programs, only, folders })
            }
        }
    }

    /// Another program of the same installation, such as `pg_isready`, `pg_ctl` or `pgbench`.
    pub fn other(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().find_map(|folder| executable(&folder.join(name)))
    }

    /// The major version of the server as it stands in `PG_VERSION`: `16`, or `9.6` before version 10.
    pub fn major_version(&self) -> Result<String, ClusterError> {
        let output = Command::new(&self.postgres).arg("--version").output().at("run", &self.postgres)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        major(&text).ok_or_else(|| ClusterError::Program {
            program: self.postgres.clone(),
            status: output.status,
            output: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
        })
    }
}

/// `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)` is `15`; betas are `17beta1`.
fn major(text: &str) -> Option<String> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    match numbers(version).as_slice() {
        [9, minor, ..] => Some(format!("9.{minor}")),
        [major, ..] => Some(major.to_string()),
        [] => None,
    }
}

/// The folder of the real `initdb`, when the real `postgres` is beside it.
fn server_folder(folder: &Path) -> Option<PathBuf> {
    let initdb = fs::canonicalize(executable(&folder.join("initdb"))?).ok()?;
    let real = initdb.parent()?.to_owned();
    executable(&real.join("initdb"))?;
    executable(&real.join("postgres"))?;
    Some(real)
}

fn executable(path: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

fn pg_config_bindir(pg_config: &Path) -> Option<PathBuf> {
    let output = Command::new(executable(pg_config)?).arg("--bindir").output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    let folder = PathBuf::from(line.trim_end());
    folder.is_absolute().then_some(folder)
}

/// `parent/prefix<version>/below` for every version there is, the highest first.
fn by_version(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut found: Vec<(Reverse<Vec<u32>>, OsString)> = names
        .filter_map(|name| {
            let version = name.to_str()?.strip_prefix(prefix)?.to_owned();
            version.starts_with(|c: char| c.is_ascii_digit()).then(|| (Reverse(numbers(&version)), name))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| parent.join(name).join(below)).collect()
}

/// The numbers of a version, so that 16 sorts above 9.6.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).collect()
}

/// Programs that were not found, where they were looked for, and how to get them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Missing {
    programs: Vec<&'static str>,
    only: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "PostgreSQL's programs were not found: {}", self.programs.join(", "))?;
        match &self.only {
            Some(folder) => {
                writeln!(
                    f,
                    "looked in {BINDIR_VARIABLE}={} and, because it is set, nowhere else",
                    folder.display()
                )?;
            }
            None => {
                writeln!(f, "looked in:")?;
                for folder in &self.folders {
                    writeln!(f, "  {}", folder.display())?;
                }
                for (parent, prefix, below) in VERSIONED {
                    writeln!(f, "  /{parent}/{prefix}*/{below}")?;
                }
            }
        }
        writeln!(f, "install them:")?;
        writeln!(f, "  Debian, Ubuntu: apt-get install --no-install-recommends postgresql")?;
        writeln!(f, "  Fedora:         dnf install postgresql-server postgresql-contrib")?;
        writeln!(f, "  macOS:          brew install postgresql@16")?;
        write!(f, "or set {BINDIR_VARIABLE} to the folder that holds initdb and postgres")
    }
}

#[cfg(test)]
mod tests;
