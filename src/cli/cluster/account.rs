//! The account that PostgreSQL runs as.
//!
//! PostgreSQL refuses to run as root. When firepool is run by root, programs get another account and lose root's
//! groups; otherwise they run as whoever runs firepool. Programs never inherit the environment: a stray `PGPORT`
//! or `PGOPTIONS` would send them elsewhere.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{getegid, geteuid};

use super::error::{At, ClusterError};

/// Environment variables that programs keep: where libraries are, and nothing that libpq reads.
const KEPT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ"];

/// Who runs PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name in `/etc/passwd`, or the uid as text if it has none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    home: PathBuf,
    /// We are root and this is somebody else: change user before running a program, and give files away.
    switch: bool,
}

impl Account {
    /// Who shall run PostgreSQL. Data that exists already decides by its owner; `folder` is where it lies.
    pub(super) fn choose(folder: &Path, data: &Path) -> Result<Self, ClusterError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let entries = parse(&passwd);
        let uid = geteuid().as_raw();
        let data_owner = fs::metadata(data).ok().map(|metadata| metadata.uid());
        if uid != 0 {
            return match data_owner {
                Some(owner) if owner != uid => {
                    Err(ClusterError::NotOwner { folder: data.to_owned(), owner, uid })
                }
                _ => Ok(Self::current(uid, &entries)),
            };
        }
        let folder_owner = fs::metadata(folder).ok().map(|metadata| metadata.uid());
        let sudo = std::env::var("SUDO_USER").ok();
        pick(&entries, data_owner, folder_owner, sudo.as_deref()).ok_or(ClusterError::NoAccount)
    }

    fn current(uid: u32, entries: &[Self]) -> Self {
        let known = entries.iter().find(|entry| entry.uid == uid);
        Self {
            name: known.map_or_else(|| uid.to_string(), |entry| entry.name.clone()),
            uid,
            gid: getegid().as_raw(),
            home: known.map_or_else(|| PathBuf::from("/"), |entry| entry.home.clone()),
            switch: false,
        }
    }

    /// Whether this is another account than ours.
    pub(super) fn is_other(&self) -> bool {
        self.switch
    }

    /// A program that will run as this account, in a folder everybody may enter, with next to no environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = clean(program);
        command.env("HOME", &self.home).env("USER", &self.name).env("LOGNAME", &self.name);
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives a file or folder to the account, with these permission bits.
    pub(super) fn own(&self, path: &Path, mode: u32) -> Result<(), ClusterError> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the permissions of", path)?;
        if self.switch {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
                .at("change the owner of", path)?;
        }
        Ok(())
    }

    /// Whether the account may pass through every folder from `/` down to `folder`.
    pub(super) fn can_enter(&self, folder: &Path) -> bool {
        !self.switch
            || folder.ancestors().all(|ancestor| {
                fs::metadata(ancestor)
                    .is_ok_and(|found| self.passes(found.uid(), found.gid(), found.mode()) && found.is_dir())
            })
    }

    /// The operating system's rule: the owner's bits count for the owner, the group's for the group, else the rest.
    fn passes(&self, owner: u32, group: u32, mode: u32) -> bool {
        let bit = match () {
            () if owner == self.uid => 0o100,
            () if group == self.gid => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }
}

/// A program without the caller's environment. `LC_ALL=C` keeps its messages in English, and macOS needs it:
/// without a locale its libraries start threads, and the postmaster refuses to run with threads.
pub(super) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// The lines of `/etc/passwd`: `name:password:uid:gid:comment:home:shell`.
fn parse(passwd: &str) -> Vec<Account> {
    let account = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        Some(Account {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: PathBuf::from(home),
            switch: true,
        })
    };
    passwd.lines().filter_map(account).filter(|account| account.uid != 0).collect()
}

/// Whom root takes: the owner of existing data, `postgres`, the owner of the folder, who called sudo, the first
/// ordinary user (uids from 1000 to 60000 are people's on Linux, see login.defs), `nobody`.
fn pick(
    entries: &[Account],
    data_owner: Option<u32>,
    folder_owner: Option<u32>,
    sudo: Option<&str>,
) -> Option<Account> {
    let by_uid = |uid: Option<u32>| entries.iter().find(|entry| Some(entry.uid) == uid);
    let by_name = |name: Option<&str>| entries.iter().find(|entry| Some(entry.name.as_str()) == name);
    by_uid(data_owner)
        .or_else(|| by_name(Some("postgres")))
        .or_else(|| by_uid(folder_owner))
        .or_else(|| by_name(sudo))
        .or_else(|| entries.iter().find(|entry| (1000..=60_000).contains(&entry.uid)))
        .or_else(|| by_name(Some("nobody")))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
        broken line\n\
        daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
        ann:x:1000:1000:Ann,,,:/home/ann:/bin/bash\n\
        bob:x:1001:1001::/home/bob:/bin/bash\n";
    const POSTGRES: &str = "postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n";

    fn picked(passwd: &str, data: Option<u32>, folder: Option<u32>, sudo: Option<&str>) -> Option<String> {
        pick(&parse(passwd), data, folder, sudo).map(|account| account.name)
    }

    #[test]
    fn root_takes_the_owner_of_the_data_then_postgres_then_whoever_is_nearest() {
        let both = format!("{PASSWD}{POSTGRES}");
        assert_eq!(picked(&both, Some(1001), Some(1000), Some("ann")).as_deref(), Some("bob"));
        assert_eq!(picked(&both, None, Some(1001), Some("bob")).as_deref(), Some("postgres"));
        assert_eq!(picked(&both, Some(0), None, None).as_deref(), Some("postgres"));
        assert_eq!(picked(PASSWD, None, Some(1001), Some("ann")).as_deref(), Some("bob"));
        assert_eq!(picked(PASSWD, None, Some(0), Some("bob")).as_deref(), Some("bob"));
        assert_eq!(picked(PASSWD, None, None, None).as_deref(), Some("ann"));
        let nobody = "nobody:x:65534:65534::/:/bin/false\nroot:x:0:0::/root:/bin/sh\n";
        assert_eq!(picked(nobody, None, None, Some("root")).as_deref(), Some("nobody"));
        assert_eq!(picked("root:x:0:0::/root:/bin/sh\n", None, None, None), None);
    }

    #[test]
    fn the_most_specific_permission_decides_even_when_a_wider_one_would_allow_more() {
        let account = parse(POSTGRES).remove(0);
        assert!(account.passes(101, 0, 0o700));
        assert!(!account.passes(101, 104, 0o077));
        assert!(account.passes(0, 104, 0o710));
        assert!(!account.passes(0, 104, 0o701));
        assert!(account.passes(0, 0, 0o701));
        assert!(!account.passes(0, 0, 0o700));
    }

    #[test]
    fn programs_do_not_inherit_the_environment() {
        let command = parse(POSTGRES).remove(0).command(Path::new("/bin/true"));
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        assert!(names.iter().all(|name| !name.starts_with("PG")), "{names:?}");
        assert!(names.contains(&"HOME".to_owned()) && names.contains(&"LC_ALL".to_owned()));
    }
}
