//! What comes before it is known what a client wants, over a socket: startup packets, requests for encryption, TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use firepool::frontend::takes_opening;
use firepool::stream::Stream;
use firepool::tls::{Acceptor, MinVersion, ServerFiles, generate};

/// SSLRequest and GSSENCRequest of PostgreSQL's `src/include/libpq/pqcomm.h`.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSSENC_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];

/// A server of TLS, whose files are gone when it has been made.
fn acceptor() -> &'static Acceptor {
    static ACCEPTOR: OnceLock<Acceptor> = OnceLock::new();
    ACCEPTOR.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("firepool-entry-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("a.crt"), folder.join("a.key"));
        let made = generate::self_signed(&["localhost"]).unwrap();
        std::fs::write(&certificate, &made.certificate).unwrap();
        std::fs::write(&key, &*made.key).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let files = ServerFiles { certificate, key, client_ca: None, client_crl: None };
        let acceptor = Acceptor::load(files, false, MinVersion::V1_2).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        acceptor
    })
}

/// Whether a client that sends this and nothing more gets to say what it wants, whether it is encrypted then, and what it
/// is sent.
fn enter(data: &[u8], acceptor: Option<&Acceptor>) -> (bool, bool, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    client.write_all(data).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (taken, encrypted) = runtime.block_on(async {
        socket.set_nonblocking(true).unwrap();
        let mut stream = Stream::tcp(tokio::net::TcpStream::from_std(socket).unwrap()).unwrap();
        let opening = takes_opening(&mut stream, acceptor);
        let taken = tokio::time::timeout(Duration::from_secs(10), opening).await;
        (taken.expect("the end of the client is the end"), stream.is_encrypted())
    });
    let mut answer = Vec::new();
    // The socket may have been closed with something unread, which resets it.
    let _ = client.read_to_end(&mut answer);
    (taken, encrypted, answer)
}

/// Nobody is encrypted by chance, nothing that was sent in plaintext behind a request for TLS is taken for the client's
/// wish, and what is answered is little. Without TLS, a request for it changes
/// nothing of what stands behind it.
pub fn entry(data: &[u8]) {
    // It has to fit the socket's buffer.
    let data = &data[..data.len().min(16 * 1024)];
    let (taken, encrypted, answer) = enter(data, Some(acceptor()));
    assert!(!encrypted && answer.len() < 16 * 1024, "{encrypted}, {} bytes", answer.len());
    let behind_gss = data.strip_prefix(GSSENC_REQUEST).unwrap_or(data);
    let wants_tls = behind_gss.starts_with(SSL_REQUEST) || data.first() == Some(&firepool::tls::FIRST_BYTE);
    assert!(!(wants_tls && taken), "a wish in plaintext");
    let (without, _, answer) = enter(data, None);
    assert!(answer.len() <= 2 && answer.iter().all(|&byte| byte == b'N'), "{}", answer.escape_ascii());
    if !wants_tls {
        assert_eq!(without, taken);
    }
    if let Some(rest) = data.strip_prefix(SSL_REQUEST)
        && ![SSL_REQUEST, GSSENC_REQUEST].iter().any(|request| rest.starts_with(request))
    {
        assert_eq!(without, enter(rest, None).0);
    }
}
