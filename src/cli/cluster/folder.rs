//! The folder a cluster lives in, which firepool creates, marks, locks and may delete.
//!
//! Only a folder that was empty or carries our marker is ever written to, and only one with the marker is deleted.
//! The lock is held by the process, not by a file's existence: it is gone when the process is, however that died.
//!
//! ```text
//! firepool-dev        the marker
//! lock                locked while a firepool works here; holds its pid
//! pgdata/             PostgreSQL's data, the only folder its account writes to besides run/
//! run/                the Unix socket, unless the path is too long for one
//! private/            the superuser's password, mode 0600
//! postgresql.log      what the server says
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::account::Account;
use super::error::{At, ClusterError};

const MARKER: &str = "firepool-dev";
const MARKER_TEXT: &str =
    "This folder was made by `firepool dev`, which deletes it with all its data on `firepool dev --reset`.\n";

/// Longest path of a Unix socket: sun_path has 104 bytes on macOS and 108 on Linux, one of them for the final NUL.
const SOCKET_PATH_MAX: usize = 103;
/// What PostgreSQL appends to the folder, with the longest port there is.
const SOCKET_NAME_MAX: &str = "/.s.PGSQL.65535";

/// A folder that is ours, exists and is locked until this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    home: PathBuf,
    /// Why `home` is not the folder that was asked for.
    pub(super) notice: Option<String>,
    _lock: Lock,
}

/// Our hold on a folder.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing the file would not do: a program that another thread is starting at this moment has a copy of the
    /// descriptor until its `exec`, and with it the lock.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// What is found where a cluster shall live.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Empty,
    Ours,
}

impl Folder {
    /// Takes possession of `wanted`, or of a folder under `/var/tmp` if the account cannot enter `wanted`.
    pub(super) fn open(wanted: &Path) -> Result<(Self, Account), ClusterError> {
        let wanted = absolute(wanted)?;
        if let Some((home, account)) = take(&wanted)? {
            let lock = lock(&home)?;
            return Ok((Self { home, notice: None, _lock: lock }, account));
        }
        let other = fallback(&wanted);
        let Some((home, account)) = take(&other)? else {
            let account = Account::choose(&other, &other.join("pgdata"))?;
            return Err(ClusterError::Unreachable { folder: wanted, account: account.name });
        };
        let notice = format!(
            "PostgreSQL runs as the account `{}`, which cannot enter {}; its data is in {} instead",
            account.name,
            wanted.display(),
            home.display()
        );
        let lock = lock(&home)?;
        Ok((Self { home, notice: Some(notice), _lock: lock }, account))
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.join("pgdata")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.home.join("postgresql.log")
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.home.join("private/superuser-password")
    }

    /// Where the Unix socket goes: below the folder if its path is short enough for one, else in `/tmp`.
    pub(super) fn socket_dir(&self) -> PathBuf {
        socket_dir(&self.home)
    }

    /// Makes the socket's folder; one that somebody else put in our way is refused.
    pub(super) fn make_socket_dir(&self, account: &Account) -> Result<(), ClusterError> {
        let folder = self.socket_dir();
        match fs::symlink_metadata(&folder) {
            Err(_) => DirBuilder::new().mode(0o755).create(&folder).at("create", &folder)?,
            Ok(found) if found.is_dir() && [account.uid, geteuid().as_raw()].contains(&found.uid()) => {}
            Ok(_) => return Err(ClusterError::Foreign { folder }),
        }
        account.own(&folder, 0o755)
    }

    /// Makes `private`, which only we may read, and a new empty folder of that name in it.
    pub(super) fn scratch(&self, name: &str) -> Result<Scratch, ClusterError> {
        let folder = self.home.join("private").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).at("delete", &folder)?;
        }
        DirBuilder::new().mode(0o700).recursive(true).create(&folder).at("create", &folder)?;
        Ok(Scratch(folder))
    }
}

/// A folder that is deleted with everything in it when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a file that only the owner may read, replacing one that is there.
pub(super) fn write_private(path: &Path, content: &str) -> Result<(), ClusterError> {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).at("create", path)?;
    file.write_all(content.as_bytes()).at("write", path)
}

/// Deletes the folders that may have been used for `wanted`, after `stop` has dealt with a server that runs there.
/// Answers what was deleted.
pub(super) fn delete(
    wanted: &Path,
    stop: impl Fn(&Path) -> Result<(), ClusterError>,
) -> Result<Vec<PathBuf>, ClusterError> {
    let wanted = absolute(wanted)?;
    let mut deleted = Vec::new();
    for home in [wanted.clone(), fallback(&wanted)] {
        if find(&home)? != Found::Ours {
            continue;
        }
        let _lock = lock(&home)?;
        stop(&home.join("pgdata"))?;
        // The marker goes last: what an interrupted deletion leaves can still be told to be ours.
        for entry in fs::read_dir(&home).at("read", &home)? {
            let path = entry.at("read", &home)?.path();
            match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(&path).at("delete", &path)?,
                false if path.ends_with(MARKER) => {}
                false => fs::remove_file(&path).at("delete", &path)?,
            }
        }
        fs::remove_dir_all(&home).at("delete", &home)?;
        let sockets = socket_dir(&home);
        if !sockets.starts_with(&home) {
            let _ = fs::remove_dir(&sockets);
        }
        deleted.push(home);
    }
    Ok(deleted)
}

/// Makes `home` ours if the account can get there; answers the real path.
fn take(home: &Path) -> Result<Option<(PathBuf, Account)>, ClusterError> {
    let account = Account::choose(home, &home.join("pgdata"))?;
    let found = find(home)?;
    if !existing(home).is_some_and(|ancestor| account.can_enter(ancestor)) {
        return Ok(None);
    }
    if found == Found::Nothing {
        create(home, &account)?;
    }
    let home = fs::canonicalize(home).at("find", home)?;
    if !account.can_enter(&home) {
        return Ok(None);
    }
    let marker = home.join(MARKER);
    if found != Found::Ours {
        fs::write(&marker, MARKER_TEXT).at("write", &marker)?;
    }
    Ok(Some((home, account)))
}

/// Makes a folder and its missing parents. A strict umask of root must not keep the account out of them.
fn create(home: &Path, account: &Account) -> Result<(), ClusterError> {
    let mut missing: Vec<&Path> = home.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    while let Some(folder) = missing.pop() {
        DirBuilder::new().mode(0o755).create(folder).at("create", folder)?;
        if account.is_other() {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
                .at("set the permissions of", folder)?;
        }
    }
    Ok(())
}

fn find(home: &Path) -> Result<Found, ClusterError> {
    let foreign = || Err(ClusterError::Foreign { folder: home.to_owned() });
    let Ok(metadata) = fs::symlink_metadata(home) else { return Ok(Found::Nothing) };
    // In /var/tmp anybody may have made a folder of this name, marker and all.
    if !metadata.is_dir() || (home.starts_with(FALLBACK) && metadata.uid() != geteuid().as_raw()) {
        return foreign();
    }
    if fs::symlink_metadata(home.join(MARKER)).is_ok_and(|marker| marker.is_file()) {
        return Ok(Found::Ours);
    }
    match fs::read_dir(home).at("read", home)?.next() {
        None => Ok(Found::Empty),
        Some(_) => foreign(),
    }
}

fn lock(home: &Path) -> Result<Lock, ClusterError> {
    let path = home.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&path)
        .at("open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
            return Err(ClusterError::InUse { folder: home.to_owned(), pid: pid.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(error).at("lock", &path),
    }
    file.set_len(0).and_then(|()| file.rewind()).at("write", &path)?;
    writeln!(file, "{}", std::process::id()).at("write", &path)?;
    Ok(Lock(file))
}

const FALLBACK: &str = "/var/tmp";

/// Where the data of `wanted` goes when the account cannot enter `wanted`.
fn fallback(wanted: &Path) -> PathBuf {
    Path::new(FALLBACK).join(format!("firepool-{}", short_hash(wanted)))
}

fn socket_dir(home: &Path) -> PathBuf {
    let below = home.join("run");
    match below.as_os_str().len() + SOCKET_NAME_MAX.len() <= SOCKET_PATH_MAX {
        true => below,
        false => Path::new("/tmp").join(format!("firepool-{}", short_hash(home))),
    }
}

/// Sixteen hexadecimal digits that stand for a path, the same in every run.
pub(super) fn short_hash(path: &Path) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_os_str().as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The nearest ancestor that exists, or the path itself.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|ancestor| ancestor.exists())
}

/// An absolute path without symbolic links in the part that exists.
fn absolute(path: &Path) -> Result<PathBuf, ClusterError> {
    let path = std::path::absolute(path).at("find", path)?;
    let Some(ancestor) = existing(&path) else { return Ok(path) };
    let real = fs::canonicalize(ancestor).at("find", ancestor)?;
    Ok(match path.strip_prefix(ancestor) {
        Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
        _ => real,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_is_never_longer_than_the_operating_system_allows() {
        let short = Path::new("/home/ann/project/.firepool");
        assert_eq!(socket_dir(short), short.join("run"));
        for length in 60..140 {
            let home = PathBuf::from(format!("/{}", "x".repeat(length)));
            let socket = format!("{}{SOCKET_NAME_MAX}", socket_dir(&home).display());
            assert!(socket.len() <= SOCKET_PATH_MAX, "{socket}");
        }
    }

    #[test]
    fn the_names_made_from_a_path_stay_the_same() {
        // The next start must find the folder that an earlier version of firepool chose.
        assert_eq!(short_hash(Path::new("/a")), "6a50dc8584134c7d");
    }
}
