//! A provider that answers as a script says: RFC 8628 (device grant), OpenID Connect Discovery 1.0,
//! OpenID Connect Core 1.0 (ID token, userinfo), RFC 7517 (keys), over TLS with a CA of its own.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

pub const CLIENT: &str = "gpuhub-test";
pub const SECRET: &str = "s3cret:with/odd+chars";

/// What the token endpoint answers to one poll; the last one is repeated.
#[derive(Clone)]
pub enum Poll {
    Json(u16, Value),
    Token(Token),
    /// The same after so many spaces, which JSON permits; without a Content-Length if `chunked`.
    Padded {
        token: Token,
        spaces: usize,
        chunked: bool,
    },
    Raw(u16, String, &'static str),
    /// A body that is no JSON, with its type.
    Text(u16, &'static str, String),
    Hang,
    HangUp,
}

/// An ID token: the claims of a right one with these changed (`null` removes), and how it is signed.
#[derive(Clone)]
pub struct Token {
    pub change: Value,
    pub signer: Signer,
    pub kid: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Signer {
    /// The key called so.
    Key(&'static str),
    /// HS256 with these bytes.
    Hmac(&'static str),
    /// `alg: none`.
    Nobody,
    /// The right key, one bit of the signature wrong.
    Broken,
}

/// What a path answers that no OpenID provider has.
pub type Route = Box<dyn Fn(&Seen) -> Poll + Send>;

pub struct Script {
    /// By path, without the query. They come before all others.
    pub routes: HashMap<String, Route>,
    pub metadata: Value,
    pub device: (u16, Value),
    pub polls: VecDeque<Poll>,
    pub userinfo: Option<Value>,
    /// Names of the keys in the key set.
    pub keys: Vec<&'static str>,
    /// The provider's clock, if it tells it.
    pub date: Option<&'static str>,
    pub seen: Vec<Seen>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub query: String,
    pub accept: String,
    pub authorization: String,
    pub agent: String,
    pub form: HashMap<String, String>,
    pub body: String,
    pub consistency: String,
    pub at: Instant,
}

pub struct Idp {
    pub issuer: String,
    pub ca_pem: String,
    pub script: Arc<Mutex<Script>>,
    keys: Arc<Keys>,
}

struct Keys(HashMap<&'static str, EcdsaKeyPair>);

impl Idp {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (ca_pem, acceptor) = tls();
        let script = Arc::new(Mutex::new(Script {
            routes: HashMap::new(),
            metadata: json!({
                "issuer": issuer,
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
                "device_authorization_endpoint": format!("{issuer}/device/auth"),
                "userinfo_endpoint": format!("{issuer}/userinfo"),
                "id_token_signing_alg_values_supported": ["ES256"],
            }),
            device: (
                200,
                json!({
                    "device_code": "the-device-code",
                    "user_code": "WDJB-MJHT",
                    "verification_uri": format!("{issuer}/device"),
                    "verification_uri_complete": format!("{issuer}/device?user_code=WDJB-MJHT"),
                    "expires_in": 60,
                    "interval": 0,
                }),
            ),
            polls: VecDeque::new(),
            userinfo: None,
            keys: vec!["a"],
            date: None,
            seen: Vec::new(),
        }));
        let keys = Arc::new(Keys(["a", "b"].into_iter().map(|name| (name, key_pair())).collect()));
        let idp = Self { issuer: issuer.clone(), ca_pem, script: script.clone(), keys: keys.clone() };
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, script, keys, issuer) = (acceptor.clone(), script.clone(), keys.clone(), issuer.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        serve(tls, &script, &keys, &issuer).await;
                    }
                });
            }
        });
        idp
    }

    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub fn polls(&self, polls: impl IntoIterator<Item = Poll>) {
        self.change(|s| s.polls = polls.into_iter().collect());
    }

    pub fn route(&self, path: &str, answer: impl Fn(&Seen) -> Poll + Send + 'static) {
        self.change(|s| drop(s.routes.insert(path.to_owned(), Box::new(answer))));
    }

    /// Requests for `path`, in order.
    /// The ID token of such an answer, by itself.
    pub fn id_token(&self, answer: &Poll) -> String {
        let Poll::Token(token) = answer else { panic!("no token") };
        self.keys.sign(token, &self.issuer)
    }

    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.script.lock().unwrap().seen.iter().filter(|s| s.path == path).cloned().collect()
    }
}

/// One request a connection; enough for a client that can do more.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, script: &Mutex<Script>, keys: &Keys, issuer: &str) {
    let mut stream = BufReader::new(stream);
    let Some(seen) = read(&mut stream).await else { return };
    let mut date = String::new();
    let answer = {
        let mut script = script.lock().unwrap();
        script.seen.push(seen.clone());
        if let Some(time) = script.date {
            date = format!("Date: {time}\r\n");
        }
        let route = script.routes.get(&seen.path).map(|route| route(&seen));
        match seen.path.as_str() {
            _ if route.is_some() => route.unwrap(),
            "/.well-known/openid-configuration" => Poll::Json(200, script.metadata.clone()),
            "/jwks" => Poll::Json(200, json!({"keys": script.keys.iter().map(|k| keys.jwk(k)).collect::<Vec<_>>()})),
            "/device/auth" => Poll::Json(script.device.0, script.device.1.clone()),
            "/userinfo" => match &script.userinfo {
                Some(claims) if seen.authorization == "Bearer the-access-token" => Poll::Json(200, claims.clone()),
                _ => Poll::Json(401, json!({"error": "invalid_token"})),
            },
            "/token" if script.polls.len() > 1 => script.polls.pop_front().unwrap(),
            "/token" => script.polls.front().cloned().unwrap_or(pending()),
            _ => Poll::Json(404, json!({})),
        }
    };
    let mut kind = "application/json";
    let (status, extra, body) = match answer {
        Poll::Text(status, type_, body) => {
            kind = type_;
            (status, String::new(), body)
        }
        Poll::Json(status, body) => (status, String::new(), body.to_string()),
        Poll::Raw(status, extra, body) => (status, extra, body.to_owned()),
        Poll::Token(token) => (200, String::new(), keys.answer(&token, issuer)),
        Poll::Padded { token, spaces, chunked: false } => {
            (200, String::new(), " ".repeat(spaces) + &keys.answer(&token, issuer))
        }
        Poll::Padded { token, spaces, chunked: true } => {
            // RFC 9112 §7.1
            let body = keys.answer(&token, issuer);
            let body = format!("{spaces:x}\r\n{}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", " ".repeat(spaces), body.len());
            (200, "Transfer-Encoding: chunked\r\n".to_owned(), body)
        }
        Poll::Hang => return tokio::time::sleep(Duration::from_secs(600)).await,
        Poll::HangUp => return,
    };
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: {kind}\r\n{date}{extra}");
    let length = if extra.contains("chunked") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    // A client that has seen enough goes away.
    let _ = stream.write_all(format!("{head}{length}\r\n{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut body = vec![0; headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let form = body.split('&').filter_map(|p| p.split_once('=')).map(pair).collect();
    let mut header = |name: &str| headers.remove(name).unwrap_or_default();
    Some(Seen {
        path: path.to_owned(),
        query: query.to_owned(),
        accept: header("accept"),
        authorization: header("authorization"),
        agent: header("user-agent"),
        form,
        body,
        consistency: header("consistencylevel"),
        at: Instant::now(),
    })
}

fn pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.replace('+', " ").replace("%3A", ":"))
}

/// RFC 8628 §3.5.
pub fn pending() -> Poll {
    error("authorization_pending")
}

/// RFC 6749 §5.2.
pub fn error(code: &str) -> Poll {
    Poll::Json(400, json!({"error": code}))
}

/// A right token of alice with these changes.
pub fn token(change: Value) -> Poll {
    signed(change, Signer::Key("a"), "a")
}

pub fn signed(change: Value, signer: Signer, kid: &'static str) -> Poll {
    Poll::Token(Token { change, signer, kid })
}

/// A right token of alice behind so many spaces.
pub fn padded(spaces: usize, chunked: bool) -> Poll {
    Poll::Padded { token: Token { change: json!({}), signer: Signer::Key("a"), kid: "a" }, spaces, chunked }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Keys {
    fn jwk(&self, name: &str) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.0[name].public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": name, "x": base64url(&point[1..33]), "y": base64url(&point[33..])})
    }

    /// RFC 6749 §5.1, with the ID token of OpenID Connect Core §3.1.3.3.
    fn answer(&self, token: &Token, issuer: &str) -> String {
        let id_token = self.sign(token, issuer);
        json!({"access_token": "the-access-token", "token_type": "Bearer", "id_token": id_token}).to_string()
    }

    fn sign(&self, token: &Token, issuer: &str) -> String {
        let mut claims = json!({
            "iss": issuer, "aud": CLIENT, "sub": "subject-of-alice", "iat": now(), "exp": now() + 300,
            "preferred_username": "alice", "name": "Alice A", "email": "alice@example.org", "email_verified": true,
            "groups": ["gpu-users", "/ml"],
        });
        for (name, value) in token.change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let alg = match token.signer {
            Signer::Key(_) | Signer::Broken => "ES256",
            Signer::Hmac(_) => "HS256",
            Signer::Nobody => "none",
        };
        let header = json!({"alg": alg, "typ": "JWT", "kid": token.kid});
        let input =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        let ecdsa = |name| self.0[name].sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec();
        let signature = match token.signer {
            Signer::Key(name) => ecdsa(name),
            Signer::Broken => {
                let mut signature = ecdsa("a");
                signature[40] ^= 1;
                signature
            }
            Signer::Hmac(secret) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
                ring::hmac::sign(&key, input.as_bytes()).as_ref().to_vec()
            }
            Signer::Nobody => Vec::new(),
        };
        format!("{input}.{}", base64url(&signature))
    }
}

fn key_pair() -> EcdsaKeyPair {
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap()
}

/// A CA and a server of 127.0.0.1.
fn tls() -> (String, TlsAcceptor) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    (ca_pem, TlsAcceptor::from(Arc::new(config)))
}

/// RFC 4648 §5, without padding (RFC 7515 §2).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * n)) as usize & 63]));
        }
    }
    text
}
