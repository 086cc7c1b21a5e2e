//! What the client asks for, and the bytes of its request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ws::deflate::DeflateConfig;
use crate::ws::headers::{HeaderError, Headers, is_token};
use crate::ws::target::Target;

/// What a client asks for in its handshake, and how much of an answer it is willing to read.
///
/// [`Debug`] redacts secret headers, and subprotocols that look like a token.
#[derive(Clone)]
pub struct HandshakeOptions {
    /// Further headers of the request, sent in this order. Default: none.
    ///
    /// `Host`, `Origin` and `User-Agent` replace what would be sent otherwise and may occur once; `Authorization`
    /// replaces the credentials of the URL. Refused are `Connection`, `Upgrade`, `Content-Length`,
    /// `Transfer-Encoding` and all that begin with `Sec-WebSocket-`.
    pub headers: Headers,
    /// Subprotocols to offer, the preferred one first (RFC 6455 section 1.9): distinct tokens. Default: none.
    pub subprotocols: Vec<String>,
    /// Compression to offer (RFC 7692). Default: `None`, no compression.
    pub deflate: Option<DeflateConfig>,
    /// The largest response head in bytes, interim responses included. The framing of a chunked body is held to the
    /// same. Default: 16 KiB.
    pub max_head: usize,
    /// The largest number of headers in a response. Default: 100.
    pub max_headers: usize,
    /// How much of the body of a refused response is kept, in bytes. Default: 4 KiB.
    pub max_body: usize,
}

impl HandshakeOptions {
    /// Checks what only the user can have got wrong.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] for a header that cannot be set or was set twice, and for subprotocols that are not tokens or
    /// not distinct.
    pub fn validate(&self) -> Result<(), HeaderError> {
        for (name, _) in self.headers.iter() {
            let lower = name.to_ascii_lowercase();
            if RESERVED.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
                return Err(HeaderError::Reserved { name: name.to_owned() });
            }
        }
        for name in SINGLE {
            if self.headers.all(name).nth(1).is_some() {
                return Err(HeaderError::Repeated { name });
            }
        }
        for (index, subprotocol) in self.subprotocols.iter().enumerate() {
            if !is_token(subprotocol) {
                return Err(HeaderError::Subprotocol { index });
            }
            if self.subprotocols[..index].contains(subprotocol) {
                return Err(HeaderError::SubprotocolRepeated { index });
            }
        }
        Ok(())
    }

    /// The options for following a redirect that leads from `from` to `to`.
    ///
    /// Within one origin they are the same. Another origin (scheme, host or port differ) gets no header that
    /// [`Headers::is_secret`] names and no subprotocol that looks like a token. A `Host` that was set by hand was
    /// meant for the authority of `from`, and goes to no other.
    ///
    /// The credentials in a URL are not part of the options; [`Target::join`] takes the same care of them.
    #[must_use]
    pub fn for_redirect(&self, from: &Target, to: &Target) -> Self {
        let mut options = self.clone();
        if !from.same_origin(to) {
            options.headers.retain(|name, _| !Headers::is_secret(name));
            options.subprotocols.retain(|subprotocol| !may_be_token(subprotocol));
            options.headers.remove("host");
        }
        if from.authority() != to.authority() {
            options.headers.remove("host");
        }
        options
    }
}

impl Default for HandshakeOptions {
    fn default() -> Self {
        Self {
            headers: Headers::new(),
            subprotocols: Vec::new(),
            deflate: None,
            max_head: 16 * 1024,
            max_headers: 100,
            max_body: 4 * 1024,
        }
    }
}

impl fmt::Debug for HandshakeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |name: &'_ String| if may_be_token(name) { "<redacted>".to_owned() } else { name.clone() };
        f.debug_struct("HandshakeOptions")
            .field("headers", &self.headers)
            .field("subprotocols", &self.subprotocols.iter().map(shown).collect::<Vec<_>>())
            .field("deflate", &self.deflate)
            .field("max_head", &self.max_head)
            .field("max_headers", &self.max_headers)
            .field("max_body", &self.max_body)
            .finish()
    }
}

/// `Sec-WebSocket-Key` for a nonce (RFC 6455 section 4.1).
pub(super) fn encode_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// The request, always in the same order: what HTTP and the handshake need, what has defaults, what the user added.
pub(super) fn encode(target: &Target, options: &HandshakeOptions, key: &str) -> Result<Vec<u8>, HeaderError> {
    options.validate()?;
    let user = &options.headers;
    let mut request = format!("GET {} HTTP/1.1\r\n", target.resource());
    // Everything that comes here is free of line ends: targets are ASCII without controls, headers and subprotocols
    // are checked, the rest is ours.
    let mut line = |name: &str, value: &str| {
        request.extend([name, ": ", value, "\r\n"]);
    };

    line("Host", user.first("host").unwrap_or_else(|| target.authority()));
    line("Upgrade", "websocket");
    line("Connection", "Upgrade");
    line("Sec-WebSocket-Key", key);
    line("Sec-WebSocket-Version", "13");
    if !options.subprotocols.is_empty() {
        line("Sec-WebSocket-Protocol", &options.subprotocols.join(", "));
    }
    if let Some(deflate) = &options.deflate {
        line("Sec-WebSocket-Extensions", &deflate.offer());
    }
    if !user.contains("user-agent") {
        line("User-Agent", USER_AGENT);
    }
    if let Some(authorization) = target.authorization()
        && !user.contains("authorization")
    {
        line("Authorization", &authorization);
    }
    for (name, value) in user.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        line(name, value);
    }
    request.push_str("\r\n");
    Ok(request.into_bytes())
}

/// Who asks, unless the user says otherwise.
pub(crate) const USER_AGENT: &str = concat!("everwire/", env!("CARGO_PKG_VERSION"));

/// Headers the user cannot set, besides `Sec-WebSocket-*`: they say that this is a WebSocket handshake and has no body.
const RESERVED: [&str; 4] = ["connection", "upgrade", "content-length", "transfer-encoding"];

/// Headers that may occur once in a request.
const SINGLE: [&str; 4] = ["Host", "Origin", "User-Agent", "Authorization"];

/// Browsers cannot set headers, so that servers made for them often take a token as a subprotocol. Names of real
/// subprotocols are short; rather one too many than one too few.
pub(crate) fn may_be_token(subprotocol: &str) -> bool {
    subprotocol.len() > 40 || subprotocol.to_ascii_lowercase().contains("bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    fn with_headers(fields: &[(&str, &str)]) -> HandshakeOptions {
        let mut options = HandshakeOptions::default();
        for &(name, value) in fields {
            options.headers.append(name, value).unwrap();
        }
        options
    }

    fn encoded(url: &str, options: &HandshakeOptions) -> String {
        let key = encode_key(*b"the sample nonce");
        String::from_utf8(encode(&target(url), options, &key).unwrap()).unwrap()
    }

    #[test]
    fn smallest_request() {
        let expected = concat!(
            "GET / HTTP/1.1\r\n",
            "Host: example.com\r\n",
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "Sec-WebSocket-Version: 13\r\n",
            "User-Agent: everwire/",
            env!("CARGO_PKG_VERSION"),
            "\r\n\r\n",
        );
        assert_eq!(encoded("wss://example.com", &HandshakeOptions::default()), expected);
    }

    #[test]
    fn request_with_everything() {
        let mut options = with_headers(&[
            ("X-First", "1"),
            ("user-agent", "mine/2"),
            ("HOST", "front.example"),
            ("Origin", "https://example.com"),
            ("X-first", "2"),
            ("Cookie", "a=b"),
        ]);
        options.subprotocols = vec!["v2.chat".into(), "chat".into()];
        let expected = "GET /a%20b?x=1&y=%0D HTTP/1.1\r\n\
            Host: front.example\r\n\
            Upgrade: websocket\r\n\
            Connection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Protocol: v2.chat, chat\r\n\
            Authorization: Basic dTpw\r\n\
            X-First: 1\r\n\
            user-agent: mine/2\r\n\
            Origin: https://example.com\r\n\
            X-first: 2\r\n\
            Cookie: a=b\r\n\
            \r\n";
        assert_eq!(encoded("ws://u:p@[::1]:81/a%20b?x=1&y=%0D", &options), expected);
    }

    #[test]
    fn offers_deflate_as_configured() {
        let deflate = DeflateConfig::default();
        let line = format!("Sec-WebSocket-Extensions: {}\r\n", deflate.offer());
        let options = HandshakeOptions { deflate: Some(deflate), ..HandshakeOptions::default() };
        assert!(encoded("ws://h", &options).contains(&line));
        assert!(!encoded("ws://h", &HandshakeOptions::default()).contains("Extensions"));
    }

    #[test]
    fn host_and_authorization() {
        assert!(encoded("ws://[::1]:81", &HandshakeOptions::default()).contains("\r\nHost: [::1]:81\r\n"));
        assert!(encoded("ws://h:80", &HandshakeOptions::default()).contains("\r\nHost: h\r\n"));
        let own = with_headers(&[("authorization", "Bearer t")]);
        let request = encoded("ws://u:p@h", &own);
        assert!(
            request.contains("\r\nauthorization: Bearer t\r\n") && !request.contains("Basic"),
            "{request}"
        );
    }

    #[test]
    fn reserved_and_repeated_headers() {
        #[rustfmt::skip]
        let reserved = [
            "Connection", "upgrade", "Sec-WebSocket-Key", "SEC-WEBSOCKET-VERSION", "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Content-Length", "Transfer-Encoding", "Sec-WebSocket-New",
        ];
        for name in reserved {
            let options = with_headers(&[("X-Fine", "1"), (name, "1")]);
            let error = HeaderError::Reserved { name: name.into() };
            assert_eq!(options.validate(), Err(error.clone()));
            assert_eq!(encode(&target("ws://h"), &options, "key"), Err(error));
        }
        for name in SINGLE {
            let options = with_headers(&[(name, "1"), (&name.to_ascii_uppercase(), "1")]);
            assert_eq!(options.validate(), Err(HeaderError::Repeated { name }));
        }
        assert_eq!(
            with_headers(&[("X-Many", "1"), ("X-Many", "2"), ("Sec-Fetch-Mode", "x")]).validate(),
            Ok(())
        );
    }

    #[test]
    fn subprotocols_must_be_distinct_tokens() {
        let validate = |subprotocols: &[&str]| {
            let subprotocols = subprotocols.iter().map(|&name| name.to_owned()).collect();
            HandshakeOptions { subprotocols, ..HandshakeOptions::default() }.validate()
        };
        assert_eq!(validate(&["chat", "Chat", "chat.v1"]), Ok(()));
        assert_eq!(validate(&["a", "b", "a"]), Err(HeaderError::SubprotocolRepeated { index: 2 }));
        for bad in ["", "a, b", "a b", "a\r\nX-Evil: 1", "a\n", "a\0", "\u{e9}", "a/b", "\"a\""] {
            assert_eq!(validate(&["a", bad]), Err(HeaderError::Subprotocol { index: 1 }), "{bad:?}");
        }
    }

    #[test]
    fn redirects_do_not_leak() {
        let long = "base64url.bearer.authorization.k8s.io.c2VjcmV0";
        let mut options = with_headers(&[
            ("Host", "front.example"),
            ("Origin", "https://o"),
            ("Authorization", "Bearer t"),
            ("proxy-authorization", "Basic dTpw"),
            ("Cookie", "a=b"),
            ("OK-ACCESS-KEY", "k"),
            ("X-Plain", "1"),
        ]);
        options.subprotocols = vec!["chat".into(), long.into()];
        let names = |options: &HandshakeOptions| {
            options.headers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let from = target("wss://u:p@a.example/x");

        let same = options.for_redirect(&from, &target("wss://a.example:443/y"));
        assert_eq!((names(&same), &same.subprotocols), (names(&options), &options.subprotocols));

        for to in ["wss://b.example/x", "wss://a.example:444/x", "ws://a.example/x", "wss://x.a.example/"] {
            let other = options.for_redirect(&from, &target(to));
            assert_eq!(names(&other), ["Origin", "X-Plain"], "{to}");
            assert_eq!(other.subprotocols, ["chat"], "{to}");
            assert_eq!(other.max_head, options.max_head);
        }
        let request =
            encoded("wss://b.example/x", &options.for_redirect(&from, &target("wss://b.example/x")));
        assert!(request.contains("Host: b.example\r\n") && !request.contains("uthorization"), "{request}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut options = with_headers(&[("Authorization", "Bearer hunter2"), ("X-Plain", "plain")]);
        options.subprotocols = vec!["chat".into(), format!("token.{}hunter2", "x".repeat(40))];
        let shown = format!("{options:?}");
        assert!(shown.contains("plain") && shown.contains("chat") && !shown.contains("hunter2"), "{shown}");
    }
}
