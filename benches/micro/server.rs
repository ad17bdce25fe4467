//! A server that logs everybody in and says nothing more, and pools of connections to it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use firepool::clock::Clock;
use firepool::config;
use firepool::metrics::Metrics;
use firepool::pool::{Pool, Registry};

/// AuthenticationOk, a parameter, a cancel key, ReadyForQuery.
const WELCOME: &[u8] =
    b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16server_version\x0015\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

/// A Unix socket in a folder of its own, which goes away with it. Its thread stays until the process ends.
pub(crate) struct Server(PathBuf);

impl Server {
    pub(crate) fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("firepool-micro-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
        thread::spawn(move || {
            let mut clients = Vec::new();
            for client in listener.incoming() {
                clients.push(welcome(client.unwrap()));
            }
        });
        Self(folder)
    }

    /// A pool of so many connections for two workers.
    pub(crate) fn pool(&self, size: usize) -> Arc<Pool> {
        let text = format!(
            "[targets.main]\nhost = \"{}\"\n[users.bench]\npassword = \"bench\"\n\
             [[routes]]\ndatabase = \"bench\"\npool_size = {size}\n",
            self.0.display()
        );
        let config = Arc::new(config::parse(&text, Path::new("bench.toml"), &|_| None).unwrap());
        let metrics = Arc::new(Metrics::new(2).unwrap());
        let registry = Registry::new(Arc::clone(&config), Arc::<Clock>::default(), metrics);
        registry.pool("bench", &config.users[0], &config.routes[0]).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads the startup packet and lets the client in.
fn welcome(mut client: UnixStream) -> UnixStream {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut packet).unwrap();
    client.write_all(WELCOME).unwrap();
    client
}
