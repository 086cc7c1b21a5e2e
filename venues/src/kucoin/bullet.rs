//! What the token service answers: where to connect, with what, for how long, and how often to ping.

use crate::Secret;
use everwire_core::{Endpoint, ProviderError, Recovery};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// Where to `POST` for a token that opens public topics. No key, no body.
pub const BULLET_PUBLIC: &str = "/api/v1/bullet-public";
/// Where to `POST` for a token that opens private topics as well. The request is signed as any other to the REST interface.
pub const BULLET_PRIVATE: &str = "/api/v1/bullet-private";
/// The REST host whose tokens are for spot and margin.
pub const SPOT: &str = "https://api.kucoin.com";
/// The REST host whose tokens are for futures. They open no spot connection, nor the other way round.
pub const FUTURES: &str = "https://api-futures.kucoin.com";
/// How long a token is good, and how long a connection may live that was made with it.
pub const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The name of the endpoint's parameter that holds the token.
pub const TOKEN: &str = "token";
/// The name of the endpoint's parameter that holds the id of the connection.
pub const CONNECT_ID: &str = "connectId";

/// A token, and the servers that take it. Nothing of the token is shown.
///
/// ```
/// use everwire_venues::kucoin::Bullet;
///
/// let answer = r#"{"code":"200000","data":{"token":"2neAiuYv==.x","instanceServers":[{
///     "endpoint":"wss://ws-api-spot.kucoin.com/","encrypt":true,"protocol":"websocket",
///     "pingInterval":18000,"pingTimeout":10000}]}}"#;
/// let endpoint = Bullet::parse(answer)?.endpoint();
/// assert!(!format!("{endpoint:?}").contains("2neAiuYv"));
/// # Ok::<(), everwire_venues::kucoin::BulletError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bullet {
    token: Secret,
    connect_id: String,
    /// At least one.
    servers: Vec<Server>,
}

/// One of the servers that take a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Its URL, without token.
    pub url: String,
    /// How often it wants a ping.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
}

/// There is no token in what the token service said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulletError {
    /// It is not the JSON that the service is known to send. Holds what is wrong with it, without its text.
    Unreadable(String),
    /// The service refused.
    Refused {
        /// Its code, such as `400003`.
        code: String,
        /// What it said.
        message: String,
    },
    /// It names no server that a client of WebSockets can use: no `ws://` or `wss://` URL, or a ping interval or timeout that is not between 1 ms
    /// and 1 h.
    NoServer,
}

impl Bullet {
    /// Most servers that are kept.
    pub const MAX_SERVERS: usize = 16;

    /// Reads the body of the answer to a `POST` to [`BULLET_PUBLIC`] or [`BULLET_PRIVATE`].
    ///
    /// # Errors
    /// [`BulletError`] says what is missing.
    pub fn parse(json: &str) -> Result<Self, BulletError> {
        // The text may hold a token: only where it is wrong is told, not what stands there.
        let answer: Answer = serde_json::from_str(json).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            BulletError::Unreadable(format!("{:?} error at {at}", error.classify()))
        })?;
        let data = match answer {
            Answer { code, data: Some(data), .. } if code == "200000" => data,
            Answer { code, msg, .. } if code == "200000" => {
                return Err(BulletError::Unreadable(format!("no data ({})", cut(msg))));
            }
            Answer { code, msg, .. } => {
                return Err(BulletError::Refused { code: cut(code), message: cut(msg) });
            }
        };
        if data.token.is_empty() {
            return Err(BulletError::Unreadable("the token is empty".to_owned()));
        }
        let servers: Vec<Server> =
            data.instance_servers.iter().filter_map(Instance::server).take(Self::MAX_SERVERS).collect();
        if servers.is_empty() {
            return Err(BulletError::NoServer);
        }
        let connect_id = id_of(&data.token);
        Ok(Self { token: Secret::new(data.token), connect_id, servers })
    }

    /// With this id for the connection, which the server repeats in its welcome. Default: one that is made of the token by a digest, since each
    /// connection has a token of its own.
    pub fn connect_id(self, id: impl Into<String>) -> Self {
        Self { connect_id: id.into(), ..self }
    }

    /// The servers, at least one.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The first server as an endpoint: its URL with token and id, both as parameters too, its times of pings, the end of the token's life.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint_at(0)
    }

    /// The same of another server: `n` counts round and round, so that any number, such as that of the attempt, names one.
    pub fn endpoint_at(&self, n: usize) -> Endpoint {
        let server = &self.servers[n % self.servers.len()];
        let url = url(&server.url, self.token.expose(), &self.connect_id);
        let endpoint = Endpoint::new(&url).expect("the URL was read before, and its query is escaped");
        endpoint
            .param(TOKEN, self.token.expose())
            .param(CONNECT_ID, &*self.connect_id)
            .heartbeat_interval(server.ping_interval)
            .heartbeat_timeout(server.ping_timeout)
            .expires_in(TOKEN_LIFE)
    }
}

impl BulletError {
    /// What is to be done about it: stop if the key is wrong, has no right or no permission from here; wait if too much was asked; otherwise try
    /// again after the usual delay.
    pub fn recovery(&self) -> Option<Recovery> {
        let Self::Refused { code, .. } = self else { return None };
        match code.as_str() {
            // What the headers of a signed request say is wrong, apart from the time (400002), which a clock that is set mends.
            "400001" | "400003" | "400004" | "400005" | "400006" | "400007" | "411100" => {
                Some(Recovery::Stop)
            }
            "429000" | "1015" | "200002" => Some(Recovery::Backoff(TOO_OFTEN)),
            _ => None,
        }
    }
}

/// How long the REST interface counts.
const TOO_OFTEN: Duration = Duration::from_secs(30);

impl fmt::Display for BulletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => write!(f, "the token service's answer has no token: {what}"),
            Self::Refused { code, message } => {
                write!(f, "the token service refused: {message} (code {code})")
            }
            Self::NoServer => f.write_str("the token service named no server that can be used"),
        }
    }
}

// No `std::error::Error`: so that `?` in a provider keeps what is to be done about it, see below.
impl From<BulletError> for ProviderError {
    fn from(error: BulletError) -> Self {
        let told = Self::new(error.to_string());
        match error.recovery() {
            Some(recovery) => told.recovery(recovery),
            None => told,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    code: String,
    #[serde(default)]
    msg: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    token: String,
    #[serde(default)]
    instance_servers: Vec<Instance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    endpoint: String,
    #[serde(default)]
    protocol: Option<String>,
    ping_interval: u64,
    ping_timeout: u64,
}

impl Instance {
    fn server(&self) -> Option<Server> {
        let speaks = self.protocol.as_deref().is_none_or(|protocol| protocol == "websocket");
        // What a query may hold is known only with one.
        let usable = Endpoint::new(&url(&self.endpoint, "t", "c")).is_ok();
        let ms = |n| Some(Duration::from_millis(n)).filter(|_| (1..=3_600_000).contains(&n));
        let (ping_interval, ping_timeout) = (ms(self.ping_interval)?, ms(self.ping_timeout)?);
        (speaks && usable).then(|| Server { url: self.endpoint.clone(), ping_interval, ping_timeout })
    }
}

fn url(server: &str, token: &str, id: &str) -> String {
    let joint = if server.contains('?') { '&' } else { '?' };
    let mut url = format!("{server}{joint}token=");
    escape(token, &mut url);
    url.push_str("&connectId=");
    escape(id, &mut url);
    url
}

/// RFC 3986 section 3.4, and `&` and `+`, which mean something in a query. `=` may stay, as it does in what KuCoin's own clients send.
fn escape(text: &str, out: &mut String) {
    use fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'=' => {
                out.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// A digest of the token tells nothing of it, and differs for each.
fn id_of(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    // No number: the ids of the session's own messages are.
    digest.iter().take(8).fold("ew".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

fn cut(mut text: String) -> String {
    const MOST: usize = 256;
    text.truncate((0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(servers: &str) -> String {
        format!(r#"{{"code":"200000","data":{{"token":"hunter2+/&==.x","instanceServers":{servers}}}}}"#)
    }

    const SERVER: &str = r#"{"endpoint":"wss://ws-api-spot.kucoin.com/","encrypt":true,"protocol":"websocket","pingInterval":18000,"pingTimeout":10000}"#;

    #[test]
    fn an_answer_becomes_an_endpoint_that_shows_nothing() {
        let bullet = Bullet::parse(&answer(&format!("[{SERVER}]"))).unwrap();
        let server = &bullet.servers()[0];
        assert_eq!(server.url, "wss://ws-api-spot.kucoin.com/");
        assert_eq!((server.ping_interval.as_secs(), server.ping_timeout.as_secs()), (18, 10));
        let endpoint = bullet.endpoint();
        let query = endpoint.target().resource();
        assert_eq!(query, format!("/?token=hunter2%2B%2F%26==.x&connectId={}", id_of("hunter2+/&==.x")));
        let shown = format!("{bullet:?} {endpoint:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let named = bullet.connect_id("mine").endpoint();
        assert!(named.target().resource().ends_with("connectId=mine"));
    }

    #[test]
    fn the_id_of_a_connection_is_that_of_its_token_and_no_number() {
        assert_eq!(id_of("a"), id_of("a"));
        assert_ne!(id_of("a"), id_of("b"));
        assert!(id_of("a").parse::<u64>().is_err() && id_of("a").len() == 18);
    }

    #[test]
    fn of_several_servers_those_count_that_can_be_used() {
        let other = SERVER.replace("ws-api-spot.kucoin.com/", "b.example/x?y=1");
        let strange = SERVER.replace("wss://", "https://");
        let sluggish = SERVER.replace("18000", "0");
        let spoken = SERVER.replace("\"websocket\"", "\"socket.io\"");
        let all = format!("[{strange},{sluggish},{spoken},{SERVER},{other}]");
        let bullet = Bullet::parse(&answer(&all)).unwrap();
        assert_eq!(bullet.servers().len(), 2);
        for n in [1, 3, usize::MAX] {
            assert!(bullet.endpoint_at(n).target().resource().starts_with("/x?y=1&token=hunter2"), "{n}");
        }
        let none = Bullet::parse(&answer(&format!("[{strange},{sluggish},{spoken}]"))).unwrap_err();
        assert_eq!(none, BulletError::NoServer);
        let many = vec![SERVER; 100].join(",");
        assert_eq!(Bullet::parse(&answer(&format!("[{many}]"))).unwrap().servers().len(), 16);
    }

    #[test]
    fn what_is_no_token_says_why_and_what_to_do() {
        let refused = |code: &str| {
            let text = format!(r#"{{"code":"{code}","msg":"KC-API-KEY not exists"}}"#);
            Bullet::parse(&text).unwrap_err()
        };
        let error = refused("400003");
        let said = "the token service refused: KC-API-KEY not exists (code 400003)";
        assert_eq!((error.to_string().as_str(), error.recovery()), (said, Some(Recovery::Stop)));
        assert_eq!(refused("400002").recovery(), None);
        assert_eq!(refused("429000").recovery(), Some(Recovery::Backoff(TOO_OFTEN)));
        let told = ProviderError::from(refused("400005"));
        assert_eq!(told.recovery, Some(Recovery::Stop));
        assert!(told.message.contains("400005"));
        assert_eq!(ProviderError::from(BulletError::NoServer).recovery, None);
        for text in ["", "<html>", "[]", "{}", r#"{"code":"200000"}"#, r#"{"code":200000,"data":{}}"#] {
            let error = Bullet::parse(text).unwrap_err();
            assert!(matches!(error, BulletError::Unreadable(_) | BulletError::Refused { .. }), "{text}");
        }
        // Where it breaks off, not what stands there.
        let broken = r#"{"code":"200000","data":{"token":"hunter2","instanceServers":[{"endpoint":"hunter2"#;
        let error = format!("{} {:?}", Bullet::parse(broken).unwrap_err(), Bullet::parse(broken));
        assert!(!error.contains("hunter2"), "{error}");
        let typed = Bullet::parse(r#"{"code":"200000","data":"hunter2"}"#).unwrap_err().to_string();
        assert!(!typed.contains("hunter2"), "{typed}");
        let long = "\u{e9}".repeat(1000);
        let BulletError::Refused { message, .. } =
            Bullet::parse(&format!(r#"{{"code":"1","msg":"{long}"}}"#)).unwrap_err()
        else {
            panic!("refused")
        };
        assert_eq!(message.len(), 256);
    }
}
