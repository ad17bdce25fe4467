//! Data that is new, data that is there already, and the superuser's password to it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::account::Account;
use super::bootstrap::Bootstrap;
use super::error::{At, ClusterError};
use super::folder::{Folder, write_private};
use super::programs::Programs;
use super::{SUPERUSER, settings};

/// The superuser's password.
pub(super) struct Password {
    /// As far as we know.
    pub(super) current: Zeroizing<String>,
    /// What to change it to.
    pub(super) wanted: Option<Zeroizing<String>>,
}

/// Makes the data if there is none. It appears under its name only when it is complete, so that an interrupted
/// `initdb` is begun again and never started from.
pub(super) fn data(
    programs: &Programs,
    account: &Account,
    folder: &Folder,
    password: &str,
    durable: bool,
) -> Result<(), ClusterError> {
    let data = folder.data();
    if data.exists() {
        return check_version(programs, &data);
    }
    store(folder, password)?;
    let new = folder.home().join("pgdata.new");
    let password_file = folder.home().join("initdb-password");
    write_private(&password_file, password)?;
    account.own(&password_file, 0o600)?;
    // Not every system has C.UTF-8; the plain C locale sorts the same way.
    let mut made = Ok(());
    for locale in ["--locale=C.UTF-8", "--no-locale"] {
        made = empty(&new, account).and_then(|()| {
            let mut command = account.command(&programs.initdb);
            command.args([
                "--auth-local=scram-sha-256",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                locale,
            ]);
            command.args(["-U", SUPERUSER]).arg("--pwfile").arg(&password_file).arg("-D").arg(&new);
            command.args((!durable).then_some("--no-sync"));
            let output = command.output().at("run", &programs.initdb)?;
            match output.status.success() {
                true => settings::include(&new),
                false => Err(ClusterError::Program {
                    program: programs.initdb.clone(),
                    status: output.status,
                    output: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
                }),
            }
        });
        if !matches!(made, Err(ClusterError::Program { .. })) {
            break;
        }
    }
    fs::remove_file(&password_file).at("delete", &password_file)?;
    made?;
    fs::rename(&new, &data).at("rename", &new)
}

/// An empty folder that belongs to the account.
fn empty(folder: &Path, account: &Account) -> Result<(), ClusterError> {
    if folder.exists() {
        fs::remove_dir_all(folder).at("delete", folder)?;
    }
    DirBuilder::new().mode(0o700).create(folder).at("create", folder)?;
    account.own(folder, 0o700)
}

fn check_version(programs: &Programs, data: &Path) -> Result<(), ClusterError> {
    let file = data.join("PG_VERSION");
    let wrote = fs::read_to_string(&file).at("read", &file)?;
    let wrote = wrote.trim();
    let major = programs.major_version()?;
    if wrote == major {
        return Ok(());
    }
    Err(ClusterError::Version {
        folder: data.to_owned(),
        data: wrote.to_owned(),
        programs: major,
        bindir: programs.bindir.clone(),
    })
}

/// The password the data has, and the one that was asked for. New data gets the latter, or one made up here.
pub(super) fn password(folder: &Folder, given: Option<&Zeroizing<String>>) -> Result<Password, ClusterError> {
    if given.is_some_and(|given| given.is_empty() || given.contains(['\n', '\r', '\0'])) {
        return Err(ClusterError::Password { user: SUPERUSER.to_owned() });
    }
    let file = folder.password_file();
    let stored = fs::read_to_string(&file).ok().map(Zeroizing::new);
    let (current, wanted) = match (folder.data().exists(), stored, given.cloned()) {
        (true, Some(stored), given) => {
            let wanted = given.filter(|given| *given != stored);
            (stored, wanted)
        }
        // "Changing" it to what it may be already proves that it is.
        (true, None, Some(given)) => (given.clone(), Some(given)),
        (true, None, None) => return Err(ClusterError::PasswordLost { file }),
        (false, _, Some(given)) => (given, None),
        (false, Some(stored), None) => (stored, None),
        (false, None, None) => (random()?, None),
    };
    Ok(Password { current, wanted })
}

/// SQL that changes the superuser's password, and keeps it out of the log whatever happens.
pub(super) fn password_change(password: &str) -> Bootstrap {
    let sql = "SET log_statement = none;\nSET log_min_duration_statement = -1;\n\
        SET log_min_error_statement = panic;\nALTER ROLE postgres PASSWORD :'new_password';\n";
    Bootstrap::new("password.sql", [("password.sql", sql)]).variable("new_password", password)
}

/// Remembers the superuser's password, in a folder that only we may read.
pub(super) fn store(folder: &Folder, password: &str) -> Result<(), ClusterError> {
    let file = folder.password_file();
    if let Some(parent) = file.parent().filter(|parent| !parent.exists()) {
        DirBuilder::new().mode(0o700).create(parent).at("create", parent)?;
    }
    write_private(&file, password)
}

/// 192 random bits in hexadecimal.
fn random() -> Result<Zeroizing<String>, ClusterError> {
    let mut bytes = Zeroizing::new([0u8; 24]);
    let filled = aws_lc_rs::rand::fill(bytes.as_mut());
    filled.map_err(|_| std::io::Error::other("no random numbers")).at("read", Path::new("/dev/urandom"))?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}
