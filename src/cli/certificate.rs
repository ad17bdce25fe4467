//! The certificate of `firepool dev`: made once, and kept beside the data.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::{Tls, TlsMode};
use crate::tls::certificate::Validity;
use crate::tls::{Acceptor, MinVersion, ServerFiles, generate};

/// Encrypts clients that ask for it with a certificate that nobody vouches for, from `folder`.
///
/// # Errors
/// The folder cannot be written to.
pub(super) fn for_development(folder: &Path) -> io::Result<Tls> {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let files = ServerFiles { certificate, key, client_ca: None, client_crl: None };
    let oldest = MinVersion::default();
    let load = || Acceptor::load(files.clone(), false, oldest);
    let lasts = |validity: Validity| !validity.left(SystemTime::now()).is_zero();
    let acceptor = match load() {
        Ok(acceptor) if acceptor.validity().is_some_and(lasts) => acceptor,
        _ => {
            make(&files)?;
            load().map_err(io::Error::other)?
        }
    };
    Ok(Tls { mode: TlsMode::Allow, oldest, files: Some(files), acceptor: Some(Arc::new(acceptor)) })
}

fn make(files: &ServerFiles) -> io::Result<()> {
    let made = generate::self_signed(&["localhost", "127.0.0.1", "::1"]).map_err(io::Error::other)?;
    for (path, mode, text) in
        [(&files.key, 0o600, &*made.key), (&files.certificate, 0o644, &made.certificate)]
    {
        let _ = fs::remove_file(path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn it_is_made_once_and_again_where_it_has_expired_or_is_broken() {
        let folder = std::env::temp_dir().join(format!("firepool-dev-tls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let read = || fs::read_to_string(folder.join("tls.crt")).unwrap();
        let tls = for_development(&folder).unwrap();
        assert_eq!(tls.mode, TlsMode::Allow);
        let mode = fs::metadata(folder.join("tls.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = read();
        for_development(&folder).unwrap();
        assert_eq!(read(), first);

        let past = SystemTime::now() - Duration::from_secs(60);
        let expired = generate::self_signed_until(&["localhost"], past).unwrap();
        fs::write(folder.join("tls.crt"), &expired.certificate).unwrap();
        fs::write(folder.join("tls.key"), &*expired.key).unwrap();
        for_development(&folder).unwrap();
        let second = read();
        assert!(second != first && second != expired.certificate);
        fs::write(folder.join("tls.key"), "torn").unwrap();
        for_development(&folder).unwrap();
        assert_ne!(read(), second);
        fs::remove_dir_all(&folder).unwrap();
    }
}
