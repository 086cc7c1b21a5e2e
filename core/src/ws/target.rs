//! Where a WebSocket endpoint is: a parsed `ws://` or `wss://` URL (RFC 6455 section 3).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Position, Url};

/// A parsed `ws://` or `wss://` URL.
///
/// Credentials in the URL (`wss://user:password@host`) are taken out when it is parsed. The handshake sends them as
/// `Authorization: Basic`; neither [`Display`](fmt::Display) nor [`Debug`] shows them. Both leave out the query as
/// well, because tokens travel there. The path is shown: keep secrets out of it, or do not log it.
///
/// Two targets are equal if they name the same resource with the same credentials, after the normalisation that all
/// URLs go through (case of the host, default port, `..` in the path, percent-encoding of what needs it).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Has no userinfo and no fragment, and its scheme is `ws` or `wss`.
    url: Url,
    credentials: Option<Credentials>,
}

impl Target {
    /// Parses an absolute `ws://` or `wss://` URL.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if `text` is not such a URL, has a fragment (forbidden by RFC 6455 section 3), names no host or
    /// port 0, or contains characters that must be percent-encoded. The error never repeats the URL, only the scheme.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        check_characters(text)?;
        let (scheme, rest) = split_scheme(text).ok_or(UrlError::NotAbsolute)?;
        let rest = rest.strip_prefix("//").ok_or(UrlError::NotAbsolute)?;
        if websocket_scheme(scheme) != Some(scheme.to_ascii_lowercase().as_str()) {
            return Err(UrlError::Scheme(scheme.to_ascii_lowercase()));
        }
        check_authority(rest)?;
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        Self::from_url(Url::parse(text)?)
    }

    /// Resolves the `Location` of a redirect against this target (RFC 9110 section 10.2.2, RFC 3986 section 5).
    ///
    /// `location` may be relative. `http` and `https` stand for `ws` and `wss`, and a fragment is dropped, because
    /// both are usual in a `Location` and neither changes the resource. Credentials of this target are kept within
    /// the same origin only. Whether a step from `wss` down to `ws` is acceptable is for the caller to decide.
    ///
    /// # Errors
    ///
    /// [`UrlError`] as for [`parse`](Self::parse).
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        check_characters(location)?;
        let rest = match split_scheme(location) {
            Some((scheme, _)) if websocket_scheme(scheme).is_none() => {
                return Err(UrlError::Scheme(scheme.to_ascii_lowercase()));
            }
            // `https:path` means different things to different parsers, so it means nothing here.
            Some((_, rest)) if !rest.starts_with("//") => return Err(UrlError::NotAbsolute),
            Some((_, rest)) => rest,
            None => location,
        };
        if let Some(rest) = rest.strip_prefix("//") {
            check_authority(rest)?;
        }

        let mut url = self.url.join(location)?;
        url.set_fragment(None);
        let scheme = websocket_scheme(url.scheme()).ok_or(UrlError::NotAbsolute)?;
        url.set_scheme(scheme).map_err(|()| UrlError::NotAbsolute)?;
        let mut joined = Self::from_url(url)?;
        if joined.credentials.is_none() && joined.same_origin(self) {
            joined.credentials.clone_from(&self.credentials);
        }
        Ok(joined)
    }

    /// Whether the connection is encrypted (`wss`).
    #[must_use]
    pub fn secure(&self) -> bool {
        self.url.scheme() == "wss"
    }

    /// The host to resolve and, for `wss`, to verify: a lower-case domain name (international names in their ASCII
    /// form), an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The TCP port; 80 for `ws` and 443 for `wss` unless the URL says otherwise. Never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        let default = if self.secure() { 443 } else { 80 };
        self.url.port().unwrap_or(default)
    }

    /// The value of the `Host` header: the host, an IPv6 address in brackets, and the port unless it is the default
    /// one (RFC 9110 section 7.2).
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// What the request line asks for: path and query, at least `/` (RFC 6455 section 3, "resource-name"). Printable
    /// ASCII without spaces. May hold secrets: do not log it.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// Whether scheme, host and port are the same, so that what may be sent to one may be sent to the other (RFC
    /// 6454 section 4).
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        self.secure() == other.secure() && self.host() == other.host() && self.port() == other.port()
    }

    /// The value of an `Authorization` header made from the credentials of the URL, if it has any (RFC 7617).
    pub(crate) fn authorization(&self) -> Option<String> {
        let Credentials { user, password } = self.credentials.as_ref()?;
        let pair = [user.as_slice(), b":", password.as_slice()].concat();
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// User name and password of the URL, decoded, if it has any.
    pub(crate) fn credentials(&self) -> Option<(&[u8], &[u8])> {
        self.credentials.as_ref().map(|credentials| (&*credentials.user, &*credentials.password))
    }

    fn from_url(mut url: Url) -> Result<Self, UrlError> {
        if url.host_str().unwrap_or_default().is_empty() {
            return Err(UrlError::EmptyHost);
        }
        if url.port() == Some(0) {
            return Err(UrlError::Port);
        }
        let credentials = Credentials::take_from(&mut url)?;
        Ok(Self { url, credentials })
    }
}

/// The URL without credentials and without the query.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url[..Position::AfterPath])
    }
}

/// As [`Display`](fmt::Display): no credentials, no query.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl std::str::FromStr for Target {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

/// Why a text is not a usable WebSocket URL.
///
/// The text itself is not kept: it may contain a password or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// Not of the form `scheme://host...`.
    NotAbsolute,
    /// The scheme (lower case) is neither `ws` nor `wss`.
    Scheme(String),
    /// A space, a control character or a backslash, at this byte (from 0). None of them may stand in a URL.
    Character {
        /// Offset in bytes, from 0.
        at: usize,
    },
    /// The URL names no host.
    EmptyHost,
    /// The host is neither a domain name nor an IP address.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The URL has a fragment (`#...`), which RFC 6455 section 3 forbids.
    Fragment,
    /// The user name contains a colon, or the user name or password a control character (RFC 7617 section 2).
    Credentials,
    /// Any other violation of the URL syntax, in words.
    Syntax(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => {
                f.write_str("not a complete URL; use ws:// or wss://, as in wss://example.com")
            }
            Self::Scheme(scheme) => {
                write!(f, "the URL begins with {scheme:?}, which is not a WebSocket scheme; use ws:// or wss://")
            }
            Self::Character { at } => write!(
                f,
                "the URL has a space, control character or backslash at byte {at}; percent-encode it or remove it"
            ),
            Self::EmptyHost => f.write_str("the URL names no host; write it after //, an IPv6 address in brackets"),
            Self::Host => f.write_str("the host in the URL is neither a domain name nor an IP address (IPv6 in brackets)"),
            Self::Port => f.write_str("the port in the URL is not a number from 1 to 65535; correct or omit it"),
            Self::Fragment => f.write_str("a WebSocket URL has no fragment (RFC 6455 section 3); remove it, or write # as %23"),
            Self::Credentials => f.write_str(
                "the user name or password in the URL cannot be sent as Basic authentication (it contains a control \
                 character, or the user name a colon); set an Authorization header instead",
            ),
            Self::Syntax(what) => write!(f, "the URL is malformed: {what}"),
        }
    }
}

impl std::error::Error for UrlError {}

impl From<url::ParseError> for UrlError {
    fn from(error: url::ParseError) -> Self {
        use url::ParseError as E;
        match error {
            E::EmptyHost => Self::EmptyHost,
            E::InvalidPort => Self::Port,
            E::IdnaError | E::InvalidIpv4Address | E::InvalidIpv6Address | E::InvalidDomainCharacter => {
                Self::Host
            }
            E::RelativeUrlWithoutBase => Self::NotAbsolute,
            other => Self::Syntax(other.to_string()),
        }
    }
}

/// User name and password, percent-decoded. No `Debug`: nothing may print them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// Moves the credentials out of `url`.
    fn take_from(url: &mut Url) -> Result<Option<Self>, UrlError> {
        let user = percent_decode(url.username());
        let password = percent_decode(url.password().unwrap_or_default());
        // Both setters fail only for URLs without a host, which do not come here.
        url.set_password(None).map_err(|()| UrlError::EmptyHost)?;
        url.set_username("").map_err(|()| UrlError::EmptyHost)?;
        if user.is_empty() && password.is_empty() {
            return Ok(None);
        }
        if user.contains(&b':') || user.iter().chain(&password).any(u8::is_ascii_control) {
            return Err(UrlError::Credentials);
        }
        Ok(Some(Self { user, password }))
    }
}

/// The URL standard makes parsers remove tabs and line ends, trim spaces and read `\` as `/`, all silently. Whoever
/// has these in a URL has made a mistake or is trying something.
fn check_characters(text: &str) -> Result<(), UrlError> {
    match text.find(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        Some(at) => Err(UrlError::Character { at }),
        None => Ok(()),
    }
}

/// `rest` follows `//`. The URL standard skips further slashes, so `ws:///path` would connect to a host called `path`.
fn check_authority(rest: &str) -> Result<(), UrlError> {
    if rest.is_empty() || rest.starts_with(['/', '?', '#']) { Err(UrlError::EmptyHost) } else { Ok(()) }
}

/// Splits `scheme:rest` (RFC 3986 section 3.1).
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let tail_is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(tail_is_valid))
        .then_some((scheme, rest))
}

/// The WebSocket scheme that `scheme` is or stands for in a redirect.
fn websocket_scheme(scheme: &str) -> Option<&'static str> {
    match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => Some("ws"),
        "wss" | "https" => Some("wss"),
        _ => None,
    }
}

/// Decodes `%XX`; anything else, a stray `%` included, stands for itself.
fn percent_decode(text: &str) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                // Two hex digits make at most 255.
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parts() {
        // URL, secure, host, port, authority, resource, shown
        #[rustfmt::skip]
        let rows = [
            ("ws://example.com", false, "example.com", 80, "example.com", "/", "ws://example.com/"),
            ("WSS://Example.COM", true, "example.com", 443, "example.com", "/", "wss://example.com/"),
            ("wss://h:443/a/../b?x=1&y=%20", true, "h", 443, "h", "/b?x=1&y=%20", "wss://h/b"),
            ("ws://h:443/", false, "h", 443, "h:443", "/", "ws://h:443/"),
            ("wss://h:80?q", true, "h", 80, "h:80", "/?q", "wss://h:80/"),
            ("ws://h/?", false, "h", 80, "h", "/?", "ws://h/"),
            ("ws://[::1]:9000/x", false, "::1", 9000, "[::1]:9000", "/x", "ws://[::1]:9000/x"),
            ("wss://[2001:DB8::0:1]", true, "2001:db8::1", 443, "[2001:db8::1]", "/", "wss://[2001:db8::1]/"),
            ("ws://127.0.0.1:1", false, "127.0.0.1", 1, "127.0.0.1:1", "/", "ws://127.0.0.1:1/"),
            ("wss://b\u{fc}cher.example/\u{e9}?\u{e9}", true, "xn--bcher-kva.example", 443, "xn--bcher-kva.example",
             "/%C3%A9?%C3%A9", "wss://xn--bcher-kva.example/%C3%A9"),
            ("wss://h/a%23b", true, "h", 443, "h", "/a%23b", "wss://h/a%23b"),
            ("wss://u:p@h:8443/p?token=t", true, "h", 8443, "h:8443", "/p?token=t", "wss://h:8443/p"),
        ];
        for (text, secure, host, port, authority, resource, shown) in rows {
            let target = target(text);
            assert_eq!(target.secure(), secure, "{text}");
            assert_eq!(target.host(), host, "{text}");
            assert_eq!(target.port(), port, "{text}");
            assert_eq!(target.authority(), authority, "{text}");
            assert_eq!(target.resource(), resource, "{text}");
            assert_eq!(target.to_string(), shown, "{text}");
            assert_eq!(text.parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn refused() {
        #[rustfmt::skip]
        let rows = [
            ("", UrlError::NotAbsolute),
            ("example.com", UrlError::NotAbsolute),
            ("localhost:8080/ws", UrlError::NotAbsolute),
            ("//example.com", UrlError::NotAbsolute),
            ("ws:example.com", UrlError::NotAbsolute),
            ("wss:/example.com", UrlError::NotAbsolute),
            ("http://example.com", UrlError::Scheme("http".into())),
            ("HTTPS://example.com", UrlError::Scheme("https".into())),
            ("ftp://example.com", UrlError::Scheme("ftp".into())),
            ("ws://", UrlError::EmptyHost),
            ("ws:///path", UrlError::EmptyHost),
            ("ws://?q", UrlError::EmptyHost),
            ("ws://:80/", UrlError::EmptyHost),
            ("ws://user@/", UrlError::EmptyHost),
            ("ws://h:0/", UrlError::Port),
            ("ws://h:65536/", UrlError::Port),
            ("ws://h:8o/", UrlError::Port),
            ("ws://h/#", UrlError::Fragment),
            ("ws://h/p?q#f", UrlError::Fragment),
            ("ws://#h", UrlError::EmptyHost),
            ("ws://[::1/", UrlError::Host),
            ("ws://::1/", UrlError::EmptyHost),
            ("ws://1.2.3.256/", UrlError::Host),
            ("ws://a b/", UrlError::Character { at: 6 }),
            ("ws://ho%0d%0ast/", UrlError::Host),
            ("ws://ho%20st/", UrlError::Host),
            (" ws://h/", UrlError::Character { at: 0 }),
            ("ws://h/\r\nX-Evil: 1", UrlError::Character { at: 7 }),
            ("ws://h\r\nX-Evil: 1/", UrlError::Character { at: 6 }),
            ("ws://h/a\tb", UrlError::Character { at: 8 }),
            ("ws://h/a\0", UrlError::Character { at: 8 }),
            ("ws://h\\@evil/", UrlError::Character { at: 6 }),
            ("ws://h/\u{85}", UrlError::Character { at: 7 }),
            ("ws://a%3Ab:c@h/", UrlError::Credentials),
            ("ws://a:b%0d%0a@h/", UrlError::Credentials),
        ];
        for (text, error) in rows {
            assert_eq!(Target::parse(text), Err(error), "{text:?}");
        }
        let text = Target::parse("http://h").unwrap_err().to_string();
        assert!(text.contains("use ws:// or wss://"), "{text}");
    }

    #[test]
    fn credentials_are_kept_apart() {
        let rows = [
            ("ws://h/", None),
            ("ws://@h/", None),
            ("ws://:@h/", None),
            ("ws://Aladdin:open%20sesame@h/", Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            ("ws://user@h/", Some("Basic dXNlcjo=")),
            ("ws://:pw@h/", Some("Basic OnB3")),
            ("ws://u:p%3a%25%zz%4@h/", Some("Basic dTpwOiUlenolNA==")),
            ("ws://u:%ff@h/", Some("Basic dTr/")),
        ];
        for (text, authorization) in rows {
            assert_eq!(target(text).authorization().as_deref(), authorization, "{text}");
        }
        let target = target("wss://hunter:correcthorse@h:1/p?token=tttt");
        for shown in [target.to_string(), format!("{target:?}"), format!("{target:#?}")] {
            assert!(shown.contains("wss://h:1/p"), "{shown}");
            for secret in ["hunter", "correcthorse", "tttt", "?"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        assert!(!target.resource().contains("hunter") && !target.authority().contains("hunter"));
    }

    #[test]
    fn origins() {
        let base = target("wss://u:p@h/a");
        for same in ["wss://h", "wss://H:443/b?c", "wss://x:y@h/"] {
            assert!(base.same_origin(&target(same)), "{same}");
        }
        for other in ["ws://h", "ws://h:443", "wss://h:444", "wss://g", "wss://h.", "wss://a.h"] {
            assert!(!base.same_origin(&target(other)), "{other}");
        }
    }

    #[test]
    fn joins() {
        // Location, resulting URL, whether the credentials of the base are kept
        #[rustfmt::skip]
        let rows = [
            ("/x?y=1", "wss://h:8443/x?y=1", true),
            ("x", "wss://h:8443/a/x", true),
            ("../x", "wss://h:8443/x", true),
            ("?q=2", "wss://h:8443/a/b?q=2", true),
            ("", "wss://h:8443/a/b?old=1", true),
            ("/x#fragment", "wss://h:8443/x", true),
            ("/x:y", "wss://h:8443/x:y", true),
            ("//other/x", "wss://other/x", false),
            ("//h/x", "wss://h/x", false),
            ("https://h:8443/z", "wss://h:8443/z", true),
            ("HTTPS://other/z", "wss://other/z", false),
            ("https://other:443/", "wss://other/", false),
            ("https://other:80/", "wss://other:80/", false),
            ("http://h:8443/z", "ws://h:8443/z", false),
            ("http://other/z", "ws://other/z", false),
            ("ws://other/z", "ws://other/z", false),
            ("wss://other:8443/\u{e9}", "wss://other:8443/%C3%A9", false),
        ];
        let base = target("wss://u:p@h:8443/a/b?old=1");
        for (location, expected, keeps) in rows {
            let joined = base.join(location).unwrap_or_else(|error| panic!("{location}: {error}"));
            assert_eq!(joined.url.as_str(), expected, "{location}");
            assert_eq!(joined.authorization(), if keeps { base.authorization() } else { None }, "{location}");
            assert_eq!(joined.url, target(expected).url, "{location}");
        }
        let own = base.join("https://x:y@h:8443/").unwrap();
        assert_eq!(own.authorization().as_deref(), Some("Basic eDp5"));

        #[rustfmt::skip]
        let rows = [
            ("ftp://other/", UrlError::Scheme("ftp".into())),
            ("javascript:alert(1)", UrlError::Scheme("javascript".into())),
            ("https:other", UrlError::NotAbsolute),
            ("wss:x", UrlError::NotAbsolute),
            ("///other/x", UrlError::EmptyHost),
            ("https:///other", UrlError::EmptyHost),
            ("//", UrlError::EmptyHost),
            ("//other:0/", UrlError::Port),
            ("/\\other", UrlError::Character { at: 1 }),
            ("\\\\other", UrlError::Character { at: 0 }),
            ("/x\r\nX-Evil: 1", UrlError::Character { at: 2 }),
            ("/a b", UrlError::Character { at: 2 }),
        ];
        for (location, error) in rows {
            assert_eq!(base.join(location), Err(error), "{location:?}");
        }
    }

    proptest! {
        /// Whatever parses can be put into a request line and a Host header as it is.
        #[test]
        fn nothing_that_parses_can_break_out(prefix in "(wss?://)?", rest in "\\PC*|[ -~\r\n\t]*") {
            let base = target("wss://u:p@h/a");
            let text = format!("{prefix}{rest}");
            for parsed in [Target::parse(&text), base.join(&text)].into_iter().flatten() {
                prop_assert!(parsed.resource().starts_with('/'));
                prop_assert!(parsed.resource().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(parsed.authority().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!parsed.authority().contains(['/', '@', '?', '#']));
                prop_assert!(!parsed.host().is_empty() && parsed.port() != 0);
                prop_assert!(parsed.url.username().is_empty() && parsed.url.password().is_none());
                prop_assert_eq!(Target::parse(parsed.url.as_str()).unwrap().url, parsed.url);
            }
        }
    }
}
