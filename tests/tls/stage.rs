//! Certificates, a PostgreSQL with TLS, proxies, and tunnels that put TLS around clients that have none.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use firepool::config::{self, Config};
use firepool::stream::Stream;
use firepool::tls::{ClientFiles, Connector, Trust, generate::pem};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;

use crate::support::fixture::Proxy;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

/// SSLRequest of PostgreSQL's `src/include/libpq/pqcomm.h`.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Somebody who vouches for others, and a folder for their certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub folder: PathBuf,
    pub root: PathBuf,
    /// The proxy's certificate and key. They are made once: tests that share an authority read them at any time.
    proxy: OnceLock<(PathBuf, PathBuf)>,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Authority {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("firepool-ca-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = folder.join("ca.crt");
        fs::write(&root, pem("CERTIFICATE", params.self_signed(&key).unwrap().der())).unwrap();
        Self { issuer: Issuer::new(params, key), folder, root, proxy: OnceLock::new() }
    }

    /// A certificate and its key.
    pub fn issue(&self, file: &str, common: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.folder.join(format!("{file}.crt")), self.folder.join(format!("{file}.key")));
        fs::write(&paths.0, pem("CERTIFICATE", signed.der())).unwrap();
        fs::write(&paths.1, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        // libpq insists.
        fs::set_permissions(&paths.1, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        paths
    }

    /// A list of the certificates that were revoked, which is made by openssl as PostgreSQL's own manual has it.
    pub fn revoke(&self, certificates: &[&Path]) -> PathBuf {
        let key = self.folder.join("ca.key");
        fs::write(&key, pem("PRIVATE KEY", &self.issuer.key().serialize_der())).unwrap();
        let (index, config) = (self.folder.join("index"), self.folder.join("openssl.cnf"));
        fs::write(&index, "").unwrap();
        fs::write(
            &config,
            format!(
                "[ca]\ndefault_ca=it\n[it]\ndatabase={}\ndefault_md=sha256\ndefault_crl_days=1\n\
                 crl_extensions=more\n[more]\nauthorityKeyIdentifier=keyid:always\n",
                index.display()
            ),
        )
        .unwrap();
        let list = self.folder.join("ca.crl");
        let openssl = |arguments: &[&Path]| {
            let mut command = Command::new("openssl");
            command.arg("ca").arg("-config").arg(&config).arg("-cert").arg(&self.root);
            let done = command.arg("-keyfile").arg(&key).args(arguments).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        certificates.iter().for_each(|certificate| openssl(&["-revoke".as_ref(), certificate]));
        openssl(&["-gencrl".as_ref(), "-out".as_ref(), &list]);
        list
    }

    /// Lines of `[tls]` with a certificate for `localhost`.
    pub fn tls(&self, mode: &str) -> String {
        let issue = || self.issue("proxy", "proxy", &["localhost", "127.0.0.1"]);
        let (certificate, key) = self.proxy.get_or_init(issue);
        format!(
            "[tls]\nmode = \"{mode}\"\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n",
            certificate.display(),
            key.display(),
            self.root.display()
        )
    }
}

/// A PostgreSQL with TLS, whose certificate is for `localhost`.
pub struct Encrypted {
    pub server: Arc<Server>,
    pub authority: Authority,
}

impl Encrypted {
    /// The one of tests that do it no harm.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Encrypted> = OnceLock::new();
        SHARED.get_or_init(Self::own)
    }

    pub fn own() -> Self {
        let (server, authority) = (Server::own(), Authority::new());
        let (certificate, key) = authority.issue("server", "postgresql", &["localhost"]);
        let encrypted = Self { server, authority };
        encrypted.put("tls.crt", &certificate);
        encrypted.put("tls.key", &key);
        encrypted.put("tls.ca", &encrypted.authority.root);
        for (name, file) in [("cert", "tls.crt"), ("key", "tls.key"), ("ca", "tls.ca")] {
            let mut admin = encrypted.server.superuser("postgres");
            admin.run(&format!("ALTER SYSTEM SET ssl_{name}_file = '{file}'"));
        }
        encrypted.switch(true);
        encrypted
    }

    /// Puts a file into the server's folder, as the server's account.
    fn put(&self, name: &str, path: &Path) {
        let text = fs::read_to_string(path).unwrap();
        self.write(name, text.trim_end());
    }

    fn write(&self, name: &str, text: &str) {
        let lines = format!("SELECT unnest(string_to_array('{text}', E'\\n'))");
        let mut admin = self.server.superuser("postgres");
        admin.run(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}'"));
    }

    fn reload(&self) {
        let loaded = || self.server.superuser("postgres").value("SELECT pg_conf_load_time()");
        let before = loaded();
        self.server.superuser("postgres").run("SELECT pg_reload_conf()");
        until("the server has read its files again", || loaded() != before);
    }

    /// Switches TLS on or off.
    pub fn switch(&self, on: bool) {
        self.server.superuser("postgres").run(&format!("ALTER SYSTEM SET ssl = {on}"));
        self.reload();
        // The postmaster is through with it when it gives newcomers the new value.
        let wanted = if on { "on" } else { "off" };
        until("TLS is switched", || self.server.superuser("postgres").value("SHOW ssl") == wanted);
    }

    /// What pg_hba.conf says of others than the superuser.
    pub fn admit(&self, lines: &str) {
        self.write("pg_hba.conf", &format!("host all postgres 127.0.0.1/32 scram-sha-256\n{lines}"));
        self.reload();
    }

    /// The configuration of a proxy for `role`: `more` are other tables, `target` lines of the target.
    pub fn config(&self, role: &str, more: &str, target: &str) -> Config {
        config_of(self.server.address(), role, more, target)
    }

    pub fn proxy(&self, role: &str, more: &str, target: &str) -> Proxy {
        Proxy::serve(self.config(role, more, target))
    }

    /// Lines of a target that is verified as far as can be.
    pub fn verified(&self) -> String {
        format!(
            "host = \"localhost\"\nsslmode = \"verify-full\"\nsslrootcert = \"{}\"",
            self.authority.root.display()
        )
    }
}

/// As text: what the configuration file of such a proxy says.
pub fn text_of(server: SocketAddr, role: &str, more: &str, target: &str) -> String {
    let host = if target.contains("host =") { "" } else { "host = \"127.0.0.1\"\n" };
    format!(
        "{more}\n[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\n\
         pool_size = 4\nreplication = true\n[targets.main]\nport = {}\nrequired = false\n{host}{target}\n",
        server.port()
    )
}

pub fn config_of(server: SocketAddr, role: &str, more: &str, target: &str) -> Config {
    let text = text_of(server, role, more, target);
    let mut config = config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
    config.proxy.workers = Some(2);
    config
}

/// psql, with libpq's environment variables.
pub fn psql(server: &Server, address: SocketAddr, role: &str, env: &[(&str, &str)], sql: &str) -> Output {
    let port = address.port();
    let mut command = Command::new(&server.programs().psql);
    command
        .args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .arg(format!("host=localhost hostaddr=127.0.0.1 port={port} user={role} dbname={DATABASE}"))
        .env_clear()
        .env("PGPASSWORD", PASSWORD)
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command.envs(env.iter().copied());
    command.output().unwrap()
}

/// Listens in plaintext and connects to `proxy` with TLS for each that comes.
pub fn tunnel(proxy: SocketAddr) -> SocketAddr {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let connector = Connector::load("localhost", ClientFiles::default(), Trust::Roots).unwrap();
            let connector = Arc::new(connector);
            while let Ok((socket, _)) = listener.accept().await {
                let connector = Arc::clone(&connector);
                tokio::spawn(async move {
                    let mut client = Stream::tcp(socket).unwrap();
                    let socket = tokio::net::TcpStream::connect(proxy).await.unwrap();
                    let mut server = Stream::tcp(socket).unwrap();
                    server.write_all(&SSL_REQUEST).await.unwrap();
                    let mut answer = [0];
                    server.read_exact(&mut answer).await.unwrap();
                    assert_eq!(answer, *b"S");
                    server.connect_tls(&connector).await.unwrap();
                    join(&mut client, &mut server).await;
                });
            }
        });
    });
    receiver.recv().unwrap()
}

/// Passes bytes both ways until one side ends; what one does not take, the other is not asked for.
async fn join(client: &mut Stream, server: &mut Stream) {
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        let (length, to_server) = tokio::select! {
            read = client.read(&mut up) => (read.unwrap_or(0), true),
            read = server.read(&mut down) => (read.unwrap_or(0), false),
        };
        let written = match (length, to_server) {
            (0, _) => break,
            (length, true) => server.write_all(&up[..length]).await,
            (length, false) => client.write_all(&down[..length]).await,
        };
        if written.is_err() {
            break;
        }
    }
    server.close_tls();
}

/// Passes connections on to `server`, and tells the first nine bytes that each brings.
pub fn spy(server: SocketAddr) -> (SocketAddr, mpsc::Receiver<[u8; 9]>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::sync_channel(1000);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, sender) = (client.unwrap(), sender.clone());
            let mut upstream = TcpStream::connect(server).unwrap();
            let (mut back, mut forth) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut upstream, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let mut first = [0; 9];
                for byte in &mut first {
                    let mut one = [0];
                    if client.read_exact(&mut one).is_err() || forth.write_all(&one).is_err() {
                        return;
                    }
                    *byte = one[0];
                }
                let _ = sender.send(first);
                let _ = std::io::copy(&mut client, &mut forth);
                let _ = forth.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, receiver)
}
