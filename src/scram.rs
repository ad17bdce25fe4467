//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it, for both ends: the proxy proves the user's password to
//! servers ([`ClientExchange`]) and has clients prove it ([`ServerExchange`]). Pure: messages in, messages out.
//!
//! Each step consumes the exchange and yields the next one, so that no step can be left out. Both peers are hostile:
//! sizes and iteration counts are bounded, and proofs are compared in constant time.

mod verifier;

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

pub use verifier::{Look, Verifier};

/// The mechanism's name in SASL messages.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// The same with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The flag of the only kind of channel binding that PostgreSQL has (RFC 5929).
const END_POINT: &str = "p=tls-server-end-point";

/// `SCRAM_SHA_256_DEFAULT_ITERATIONS` of PostgreSQL's `src/include/common/scram-common.h`.
pub const DEFAULT_ITERATIONS: u32 = 4096;

/// The most iterations that a server may ask for: about 0.1 s of CPU. PostgreSQL's default is 4,096, and a server
/// that asks for billions would stop the proxy.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// The longest SCRAM message that is looked at. PostgreSQL's own are below 200 bytes.
pub const MAX_MESSAGE: usize = 2048;

/// The longest nonce that is taken, the peer's part and our own together. PostgreSQL's own have 48 characters.
const MAX_NONCE: usize = 1024;

/// `SCRAM_DEFAULT_SALT_LEN` and `SCRAM_RAW_NONCE_LEN` of PostgreSQL's `scram-common.h`.
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 18;

type Key = [u8; 32];

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The peer's message does not have the form of RFC 5802.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The message or the iteration count is larger than any honest peer's.
    #[error("SCRAM message or iteration count too large")]
    TooLarge,
    /// The client asked for channel binding, which was not offered.
    #[error("SCRAM channel binding was not offered")]
    ChannelBinding,
    /// The client could bind the channel and thinks that the server cannot, though it had offered that: somebody took the
    /// offer away.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// The ends do not see the same certificate: somebody is between them.
    #[error("SCRAM channel binding check failed")]
    OtherChannel,
    /// The nonce is not the one that was sent.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// The proof is wrong: not the password, or not the server it claims to be.
    #[error("SCRAM proof does not match")]
    Proof,
    /// The operating system gave no random numbers.
    #[error("no random numbers")]
    Random,
}

/// What an exchange has to do with the channel that it goes over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Channel {
    /// Nothing: there is no TLS, or no binding is defined for its certificate.
    #[default]
    Plain,
    /// It could be bound to it, and is not: the server does not offer it, or the client did not choose it.
    Able,
    /// It is bound to this.
    Bound(Arc<[u8]>),
}

impl Channel {
    fn binding(&self) -> &[u8] {
        match self {
            Self::Plain | Self::Able => &[],
            Self::Bound(binding) => binding,
        }
    }
}

/// The keys that a password gives with a salt. Wiped on drop.
#[derive(Clone)]
pub struct Keys {
    client: Zeroizing<Key>,
    server: Zeroizing<Key>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

impl Keys {
    /// Whether they are those of the same password under the same salt.
    pub fn is_same(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.client.as_ref(), other.client.as_ref()).is_ok()
    }

    /// RFC 5802's `ClientKey` and `ServerKey`. Costs CPU in proportion to `iterations`.
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // PostgreSQL uses the password as it is where SASLprep refuses it (`pg_saslprep` in src/common/saslprep.c).
        let prepared = stringprep::saslprep(password).unwrap_or(std::borrow::Cow::Borrowed(password));
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), salted.as_mut());
        Self {
            client: Zeroizing::new(hmac_sha256(salted.as_ref(), &[b"Client Key"])),
            server: Zeroizing::new(hmac_sha256(salted.as_ref(), &[b"Server Key"])),
        }
    }
}

/// The client's half before anything was said.
#[derive(Debug)]
pub struct ClientExchange {
    nonce: String,
    channel: Channel,
}

/// The client's half after its first message.
#[derive(Debug)]
pub struct ClientChallenged {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    combined_nonce: String,
    server_first: String,
    client_first_bare: String,
    /// The gs2-header and the binding, in base64.
    binding: String,
}

/// The client's half after its proof.
#[derive(Debug)]
pub struct ClientProved {
    server_signature: Key,
}

impl ClientExchange {
    /// Picks a nonce.
    pub fn new() -> Result<Self, ScramError> {
        Ok(Self { nonce: nonce()?, channel: Channel::Plain })
    }

    /// Over this channel. With [`Channel::Bound`], the mechanism is [`MECHANISM_PLUS`].
    #[must_use]
    pub fn over(self, channel: Channel) -> Self {
        Self { channel, ..self }
    }

    fn gs2_header(&self) -> String {
        let flag = match &self.channel {
            Channel::Plain => "n",
            Channel::Able => "y",
            Channel::Bound(_) => END_POINT,
        };
        format!("{flag},,")
    }

    /// `client-first-message`. The user's name is left empty: PostgreSQL takes it from the startup packet.
    pub fn first(&self) -> String {
        format!("{}n=,r={}", self.gs2_header(), self.nonce)
    }

    /// Reads `server-first-message`.
    pub fn challenge(self, message: &[u8]) -> Result<ClientChallenged, ScramError> {
        let message = text(message)?;
        let mut parts = message.split(',');
        let combined = attribute(parts.next(), 'r')?;
        let salt = BASE64.decode(attribute(parts.next(), 's')?).map_err(|_| ScramError::Malformed)?;
        if salt.is_empty() {
            return Err(ScramError::Malformed);
        }
        if salt.len() > verifier::MAX_SALT || combined.len() > MAX_NONCE {
            return Err(ScramError::TooLarge);
        }
        let count: u32 = attribute(parts.next(), 'i')?.parse().map_err(|_| ScramError::Malformed)?;
        if !combined.starts_with(&self.nonce) || combined.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        Ok(ClientChallenged {
            salt,
            iterations: iterations(count)?,
            combined_nonce: combined.to_owned(),
            server_first: message.to_owned(),
            client_first_bare: format!("n=,r={}", self.nonce),
            binding: bound(&self.gs2_header(), &self.channel),
        })
    }
}

impl ClientChallenged {
    /// The salt that the server gave.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations that the server asked for, at most [`MAX_ITERATIONS`].
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// `client-final-message` with the proof.
    pub fn prove(self, keys: &Keys) -> (String, ClientProved) {
        let without_proof = format!("c={},r={}", self.binding, self.combined_nonce);
        let auth = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let stored_key = sha256(keys.client.as_ref());
        let signature = hmac_sha256(&stored_key, &auth);
        let proof = xor(&keys.client, &signature);
        let server_signature = hmac_sha256(keys.server.as_ref(), &auth);
        (format!("{without_proof},p={}", BASE64.encode(proof)), ClientProved { server_signature })
    }
}

impl ClientProved {
    /// Reads `server-final-message`: the server proves that it knows the password as well.
    pub fn verify(self, message: &[u8]) -> Result<(), ScramError> {
        let signature = attribute(text(message)?.split(',').next(), 'v')?;
        let signature = BASE64.decode(signature).map_err(|_| ScramError::Malformed)?;
        constant_time::verify_slices_are_equal(&signature, &self.server_signature)
            .map_err(|_| ScramError::Proof)
    }
}

/// The server's half before anything was said.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    channel: Channel,
}

/// The server's half after its challenge.
#[derive(Debug)]
pub struct ServerChallenged {
    verifier: Verifier,
    /// The gs2-header and the binding, in base64.
    binding: String,
    is_bound: bool,
    client_first_bare: String,
    server_first: String,
    combined_nonce: String,
}

impl ServerExchange {
    /// An exchange about the password behind `verifier`.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, channel: Channel::Plain }
    }

    /// Over this channel. [`Channel::Bound`] is for clients that chose [`MECHANISM_PLUS`], [`Channel::Able`] for those that
    /// were offered it and chose the other.
    #[must_use]
    pub fn over(self, channel: Channel) -> Self {
        Self { channel, ..self }
    }

    /// Reads `client-first-message` and returns `server-first-message`.
    pub fn challenge(self, message: &[u8]) -> Result<(String, ServerChallenged), ScramError> {
        let message = text(message)?;
        // gs2-header: flag "n" (no channel binding), "y" (the client could, and thinks that we cannot) or "p=...".
        let mut parts = message.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next(), parts.next(), parts.next().ok_or(ScramError::Malformed)?);
        let flag = match (flag, &self.channel) {
            (Some(flag @ "n"), Channel::Plain | Channel::Able) => flag,
            (Some(flag @ "y"), Channel::Plain) => flag,
            (Some("y"), Channel::Able) => return Err(ScramError::Downgrade),
            (Some(flag @ END_POINT), Channel::Bound(_)) => flag,
            (Some(flag), _) if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        };
        if authzid != Some("") {
            return Err(ScramError::Malformed);
        }
        let mut attributes = bare.split(',');
        attribute(attributes.next(), 'n')?;
        let client_nonce = attribute(attributes.next(), 'r')?;
        let printable = client_nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if client_nonce.is_empty() || !printable {
            return Err(ScramError::Malformed);
        }
        if client_nonce.len() > MAX_NONCE {
            return Err(ScramError::TooLarge);
        }
        let combined_nonce = format!("{client_nonce}{}", nonce()?);
        let salt = BASE64.encode(&self.verifier.salt);
        let server_first = format!("r={combined_nonce},s={salt},i={}", self.verifier.iterations);
        Ok((
            server_first.clone(),
            ServerChallenged {
                binding: bound(&format!("{flag},,"), &self.channel),
                is_bound: matches!(self.channel, Channel::Bound(_)),
                client_first_bare: bare.to_owned(),
                verifier: self.verifier,
                server_first,
                combined_nonce,
            },
        ))
    }
}

impl ServerChallenged {
    /// Reads `client-final-message`, checks the proof, and returns `server-final-message`.
    ///
    /// # Errors
    /// [`ScramError::Proof`] if it is not the password.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        self.learn(message).map(|(last, _)| last)
    }

    /// [`ServerChallenged::finish`], with the keys that the client's proof has shown: whoever has them can prove the
    /// password to any server that has the same verifier.
    pub fn learn(self, message: &[u8]) -> Result<(String, Keys), ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut parts = without_proof.split(',');
        let binding = attribute(parts.next(), 'c')?;
        let nonce = attribute(parts.next(), 'r')?;
        if binding != self.binding {
            return Err(if self.is_bound { ScramError::OtherChannel } else { ScramError::ChannelBinding });
        }
        if nonce != self.combined_nonce {
            return Err(ScramError::Nonce);
        }
        let proof: Key =
            BASE64.decode(proof).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ScramError::Malformed)?;
        let auth = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let recover = |stored: &Key| xor(&proof, &hmac_sha256(stored, &auth));
        let keys = self.verifier.check(recover).ok_or(ScramError::Proof)?;
        let server_signature = hmac_sha256(keys.server.as_ref(), &auth);
        Ok((format!("v={}", BASE64.encode(server_signature)), keys))
    }
}

/// What `c=` is about.
fn bound(gs2_header: &str, channel: &Channel) -> String {
    BASE64.encode([gs2_header.as_bytes(), channel.binding()].concat())
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE {
        return Err(ScramError::TooLarge);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed)
}

fn attribute(part: Option<&str>, name: char) -> Result<&str, ScramError> {
    part.and_then(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or(ScramError::Malformed)
}

fn iterations(count: u32) -> Result<NonZeroU32, ScramError> {
    match NonZeroU32::new(count) {
        Some(count) if count.get() <= MAX_ITERATIONS => Ok(count),
        Some(_) => Err(ScramError::TooLarge),
        None => Err(ScramError::Malformed),
    }
}

fn nonce() -> Result<String, ScramError> {
    Ok(BASE64.encode(random::<NONCE_LEN>()?))
}

/// Random bytes of the operating system's.
pub fn random<const N: usize>() -> Result<[u8; N], ScramError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ScramError::Random)?;
    Ok(bytes)
}

/// What salts are made with, out of something secret that others are made of as well.
pub fn salt_secret(material: &[u8]) -> [u8; 32] {
    hmac_sha256(material, &[b"firepool: salts of SCRAM"])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    into_key(context.sign().as_ref())
}

fn sha256(bytes: &[u8]) -> Key {
    into_key(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn into_key(bytes: &[u8]) -> Key {
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
    key
}

fn xor(left: &Key, right: &Key) -> Key {
    let mut out = [0; 32];
    for (out, (left, right)) in out.iter_mut().zip(left.iter().zip(right)) {
        *out = left ^ right;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(right: &str, tried: &str) -> Result<(), ScramError> {
        let client = ClientExchange::new()?;
        let server = ServerExchange::new(Verifier::of_password(right)?);
        let (server_first, server) = server.challenge(client.first().as_bytes())?;
        let challenged = client.challenge(server_first.as_bytes())?;
        let keys = Keys::derive(tried, challenged.salt(), challenged.iterations());
        let (client_final, client) = challenged.prove(&keys);
        let server_final = server.finish(client_final.as_bytes())?;
        client.verify(server_final.as_bytes())
    }

    #[test]
    fn both_ends_agree_on_the_right_password_and_only_on_it() {
        assert_eq!(exchange("password", "password"), Ok(()));
        assert_eq!(exchange("pä\u{00a0}ss", "pä ss"), Ok(()), "SASLprep maps the no-break space to a space");
        assert_eq!(exchange("password", "Password"), Err(ScramError::Proof));
        assert_eq!(exchange("password", ""), Err(ScramError::Proof));
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_rfcs_example_gives_the_rfcs_proof() {
        let client = ClientChallenged {
            salt: BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            iterations: NonZeroU32::new(4096).unwrap(),
            combined_nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
            server_first:
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                    .into(),
            binding: "biws".into(),
            client_first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
        };
        let keys = Keys::derive("pencil", &client.salt, client.iterations);
        let (message, proved) = client.prove(&keys);
        assert!(message.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{message}");
        assert_eq!(proved.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    #[test]
    fn a_user_who_does_not_exist_gets_the_same_salt_each_time_and_never_in() {
        let secret = [7; 32];
        let first = |user: &str| {
            let server = ServerExchange::new(Verifier::mock(user, &secret, Look::DEFAULT));
            server.challenge(b"n,,n=,r=abc").unwrap().0
        };
        let salt = |message: String| message.split(',').nth(1).unwrap().to_owned();
        assert_eq!(salt(first("nobody")), salt(first("nobody")));
        assert_ne!(salt(first("nobody")), salt(first("somebody")));

        // All keys of the mock are zero: whoever knows that must not get in either.
        let (server_first, server) = ServerExchange::new(Verifier::mock("nobody", &secret, Look::DEFAULT))
            .challenge(b"n,,n=,r=abc")
            .unwrap();
        let nonce = attribute(server_first.split(',').next(), 'r').unwrap().to_owned();
        let without_proof = format!("c=biws,r={nonce}");
        let auth = ["n=,r=abc".as_bytes(), b",", server_first.as_bytes(), b",", without_proof.as_bytes()];
        let proof = BASE64.encode(hmac_sha256(&[0; 32], &auth));
        assert_eq!(server.finish(format!("{without_proof},p={proof}").as_bytes()), Err(ScramError::Proof));
    }

    #[test]
    fn both_ends_have_to_see_the_same_channel() {
        let bound = |bytes: &[u8]| Channel::Bound(bytes.into());
        for (client, server, expected) in [
            (Channel::Plain, Channel::Plain, Ok(())),
            (Channel::Able, Channel::Plain, Ok(())),
            (bound(b"hash"), bound(b"hash"), Ok(())),
            // Somebody is between them.
            (bound(b"hash"), bound(b"other"), Err(ScramError::OtherChannel)),
            // Somebody took the offer away on its way to the client.
            (Channel::Able, Channel::Able, Err(ScramError::Downgrade)),
            // A client that cannot.
            (Channel::Plain, Channel::Able, Ok(())),
            // Another mechanism than the message is for.
            (bound(b"hash"), Channel::Able, Err(ScramError::ChannelBinding)),
            (bound(b"hash"), Channel::Plain, Err(ScramError::ChannelBinding)),
            (Channel::Plain, bound(b"hash"), Err(ScramError::Malformed)),
            (Channel::Able, bound(b"hash"), Err(ScramError::Malformed)),
        ] {
            let what = format!("{client:?} {server:?}");
            let result = (|| {
                let client = ClientExchange::new()?.over(client);
                let server = ServerExchange::new(Verifier::of_password("x")?).over(server);
                let (server_first, server) = server.challenge(client.first().as_bytes())?;
                let challenged = client.challenge(server_first.as_bytes())?;
                let keys = Keys::derive("x", challenged.salt(), challenged.iterations());
                let (client_final, client) = challenged.prove(&keys);
                client.verify(server.finish(client_final.as_bytes())?.as_bytes())
            })();
            assert_eq!(result, expected, "{what}");
        }
        let server = ServerExchange::new(Verifier::of_password("x").unwrap()).over(bound(b"hash"));
        let other_kind = server.challenge(b"p=tls-unique,,n=,r=abc").map(|_| ());
        assert_eq!(other_kind, Err(ScramError::ChannelBinding));
    }

    #[test]
    fn a_server_that_asks_for_too_much_work_or_echoes_the_wrong_nonce_is_refused() {
        let challenge = |message: &dyn Fn(&str) -> String| {
            let client = ClientExchange::new().unwrap();
            let message = message(&client.nonce);
            client.challenge(message.as_bytes()).map(|_| ()).unwrap_err()
        };
        assert_eq!(challenge(&|n| format!("r={n}x,s=AAAA,i=2000000000")), ScramError::TooLarge);
        assert_eq!(challenge(&|n| format!("r={n}x,s=AAAA,i=0")), ScramError::Malformed);
        assert_eq!(challenge(&|n| format!("r={n}x,s=AAAA,i=99999999999")), ScramError::Malformed);
        assert_eq!(challenge(&|_| "r=other,s=AAAA,i=4096".into()), ScramError::Nonce);
        assert_eq!(challenge(&|n| format!("r={n},s=AAAA,i=4096")), ScramError::Nonce);
        assert_eq!(challenge(&|n| format!("r={n}x,s=?,i=4096")), ScramError::Malformed);
        assert_eq!(challenge(&|n| format!("r={n}{},s=AAAA,i=4096", "x".repeat(3000))), ScramError::TooLarge);
        assert_eq!(challenge(&|_| String::new()), ScramError::Malformed);
        assert_eq!(challenge(&|n| format!("r={n}x,s=,i=4096")), ScramError::Malformed);
        assert_eq!(challenge(&|n| format!("r={n}{},s=AAAA,i=4096", "x".repeat(1100))), ScramError::TooLarge);
        assert_eq!(challenge(&|n| format!("r={n}x,s={},i=4096", "AAAA".repeat(100))), ScramError::TooLarge);
    }

    #[test]
    fn a_client_that_deviates_is_refused() {
        let server = || ServerExchange::new(Verifier::of_password("x").unwrap());
        for (message, expected) in [
            ("p=tls-unique,,n=,r=abc", ScramError::ChannelBinding),
            ("n,a=admin,n=,r=abc", ScramError::Malformed),
            ("n,,n=,r=", ScramError::Malformed),
            ("n,,n=,r=a b", ScramError::Malformed),
            (&format!("n,,n=,r={}", "x".repeat(1025)), ScramError::TooLarge),
            (&format!("n,,n=,r=abc,{}", "x".repeat(2048)), ScramError::TooLarge),
            ("n,,m=ext,n=,r=abc", ScramError::Malformed),
            ("", ScramError::Malformed),
            ("n,", ScramError::Malformed),
        ] {
            assert_eq!(server().challenge(message.as_bytes()).map(|_| ()), Err(expected), "{message}");
        }
        let finish = |make: &dyn Fn(&str) -> String| {
            let (first, challenged) = server().challenge(b"y,,n=,r=abc").unwrap();
            let nonce = attribute(first.split(',').next(), 'r').unwrap().to_owned();
            challenged.finish(make(&nonce).as_bytes()).unwrap_err()
        };
        // "biws" is "n,,": the client took back what it had said about channel binding.
        assert_eq!(finish(&|n| format!("c=biws,r={n},p=AAAA")), ScramError::ChannelBinding);
        assert_eq!(finish(&|_| "c=eSws,r=abc,p=AAAA".into()), ScramError::Nonce);
        assert_eq!(finish(&|n| format!("c=eSws,r={n},p=AAAA")), ScramError::Malformed);
        assert_eq!(finish(&|n| format!("c=eSws,r={n}")), ScramError::Malformed);
        assert_eq!(finish(&|n| format!("c=eSws,r={n},p={}", BASE64.encode([0; 32]))), ScramError::Proof);
    }
}
