//! HTTP header fields: several of the same name, in order, spelled as given (RFC 9110 section 5).

use super::handshake::may_be_token;
use std::fmt;

/// A list of HTTP header fields.
///
/// Order and spelling are kept, names are compared without regard to case, and a name may occur several times. What
/// is added is checked, so that no value can smuggle a line end, and with it another header, into a request.
///
/// [`Debug`] shows the fields with the values of secret ones (see [`is_secret`](Self::is_secret)) redacted, and subprotocols that look like
/// a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, String)>,
}

impl Headers {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// Adds a field at the end, beside any others of that name.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if `name` is not a token (RFC 9110 section 5.6.2) or `value` has control characters other than
    /// the horizontal tab. Nothing is added then.
    pub fn append(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<(), HeaderError> {
        let (name, value) = (name.into(), value.into());
        check(&name, &value)?;
        self.fields.push((name, value));
        Ok(())
    }

    /// Makes this the only field of that name. It takes the place of the first one, or the end of the list.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append); nothing is changed then.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<(), HeaderError> {
        let (name, value) = (name.into(), value.into());
        check(&name, &value)?;
        let place = self.fields.iter().position(|(other, _)| other.eq_ignore_ascii_case(&name));
        self.remove(&name);
        // Only fields behind the first of that name have moved, so its place is still where it was.
        self.fields.insert(place.unwrap_or(self.fields.len()), (name, value));
        Ok(())
    }

    /// Removes all fields of that name. Says whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.fields.len() != before
    }

    /// Keeps only the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.fields.retain(|(name, value)| keep(name, value));
    }

    /// Whether there is a field of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The subprotocol that the other side chose: `Sec-WebSocket-Protocol` of a response (RFC 6455 section 4.2.2). `None` if it chose none.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.first("sec-websocket-protocol")
    }

    /// The values of all fields of that name, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, name and value, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether a field of this name usually carries a secret, so that its value is not to be logged, nor sent to
    /// another origin after a redirect.
    ///
    /// These are `Authorization`, `Proxy-Authorization`, `Cookie`, `Set-Cookie` and every name that contains `auth`,
    /// `credential`, `jwt`, `key`, `passphrase`, `password`, `secret`, `session`, `sign` or `token`; not the WebSocket
    /// key and the headers in which a server says how to authenticate. Rather one too many than one too few.
    #[must_use]
    pub fn is_secret(name: &str) -> bool {
        const PUBLIC: [&str; 5] = [
            "sec-websocket-key",
            "sec-websocket-accept",
            "www-authenticate",
            "proxy-authenticate",
            "access-control-allow-credentials",
        ];
        const PARTS: [&str; 11] = [
            "auth",
            "cookie",
            "credential",
            "jwt",
            "key",
            "passphrase",
            "password",
            "secret",
            "session",
            "sign",
            "token",
        ];
        let name = name.to_ascii_lowercase();
        !PUBLIC.contains(&name.as_str()) && PARTS.iter().any(|part| name.contains(part))
    }

    /// Adds a field that an HTTP parser found in a response and has checked. Bytes that are not UTF-8 are read as
    /// Latin-1, as RFC 9110 section 5.5 has it from older times.
    pub(crate) fn append_received(&mut self, name: &str, value: &[u8]) {
        let value = match std::str::from_utf8(value) {
            Ok(value) => value.to_owned(),
            Err(_) => value.iter().copied().map(char::from).collect(),
        };
        self.fields.push((name.to_owned(), value));
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| {
            let token = || name.eq_ignore_ascii_case("sec-websocket-protocol") && may_be_token(value);
            if Self::is_secret(name) || token() {
                (name, "<redacted>")
            } else if name.eq_ignore_ascii_case("location") {
                // The query of a URL may hold a token, see `Target`.
                (name, value.split('?').next().unwrap_or_default())
            } else {
                (name, value)
            }
        });
        f.debug_map().entries(shown).finish()
    }
}

/// Why headers or subprotocols cannot be sent.
///
/// Values are never repeated, they may be secret, and neither are malformed names, in case the two were exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is empty.
    EmptyName,
    /// The name contains a character that names may not have.
    Name {
        /// Offset of the character in bytes, from 0.
        at: usize,
        /// The character.
        found: char,
    },
    /// The value contains a control character: a line end, NUL, or any other but the horizontal tab.
    Value {
        /// Name of the field.
        name: String,
        /// Offset of the character in bytes, from 0.
        at: usize,
    },
    /// The handshake sets this header itself, or a WebSocket request cannot have it.
    Reserved {
        /// Name of the field, as given.
        name: String,
    },
    /// A header that may occur once was given several times.
    Repeated {
        /// Name of the field.
        name: &'static str,
    },
    /// A subprotocol is empty or not a token (RFC 6455 section 4.1).
    Subprotocol {
        /// Position in the list, from 0.
        index: usize,
    },
    /// A subprotocol was given twice (RFC 6455 section 4.1 wants them unique).
    SubprotocolRepeated {
        /// Position of the second one in the list, from 0.
        index: usize,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("a header has an empty name; give it one or leave it out"),
            Self::Name { at, found } => write!(
                f,
                "a header name has {found:?} at byte {at}; names consist of letters, digits and !#$%&'*+-.^_`|~"
            ),
            Self::Value { name, at } => write!(
                f,
                "the value of header {name:?} has a control character at byte {at}; remove it (a secret read from a \
                 file often ends in a line end)"
            ),
            Self::Reserved { name } => write!(
                f,
                "header {name:?} belongs to the handshake and cannot be set; remove it (subprotocols and compression \
                 have options of their own)"
            ),
            Self::Repeated { name } => write!(f, "header {name:?} was given more than once; give it once"),
            Self::Subprotocol { index } => write!(
                f,
                "subprotocol number {index} (from 0) is empty or has characters that are not letters, digits or \
                 !#$%&'*+-.^_`|~; correct it, and give several as several entries"
            ),
            Self::SubprotocolRepeated { index } => {
                write!(f, "subprotocol number {index} (from 0) repeats an earlier one; remove it")
            }
        }
    }
}

impl std::error::Error for HeaderError {}

/// Whether `text` is a token: a header name, a subprotocol (RFC 9110 section 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn check(name: &str, value: &str) -> Result<(), HeaderError> {
    if name.is_empty() {
        return Err(HeaderError::EmptyName);
    }
    if let Some((at, found)) = name.char_indices().find(|&(_, c)| !is_token_char(c)) {
        return Err(HeaderError::Name { at, found });
    }
    match value.find(|c: char| c.is_ascii_control() && c != '\t') {
        Some(at) => Err(HeaderError::Value { name: name.to_owned(), at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for &(name, value) in fields {
            headers.append(name, value).unwrap();
        }
        headers
    }

    fn list(headers: &Headers) -> Vec<(&str, &str)> {
        headers.iter().collect()
    }

    #[test]
    fn multi_valued_and_ordered() {
        let mut headers = headers(&[("X-a", "1"), ("B", ""), ("x-A", "2 \t3"), ("C", "\u{e9}")]);
        assert_eq!(headers.first("x-a"), Some("1"));
        assert_eq!(headers.all("X-A").collect::<Vec<_>>(), ["1", "2 \t3"]);
        assert_eq!(headers.first("d"), None);
        assert!(headers.contains("b") && !headers.contains("d"));
        assert_eq!((headers.len(), headers.is_empty()), (4, false));
        assert_eq!(list(&headers), [("X-a", "1"), ("B", ""), ("x-A", "2 \t3"), ("C", "\u{e9}")]);

        headers.set("x-A", "4").unwrap();
        assert_eq!(list(&headers), [("x-A", "4"), ("B", ""), ("C", "\u{e9}")]);
        headers.set("D", "5").unwrap();
        assert_eq!(list(&headers), [("x-A", "4"), ("B", ""), ("C", "\u{e9}"), ("D", "5")]);
        assert!(headers.remove("b") && !headers.remove("b"));
        headers.retain(|name, value| name != "D" && value != "4");
        assert_eq!(list(&headers), [("C", "\u{e9}")]);
        assert!(Headers::default().is_empty());
    }

    #[test]
    fn invalid_names_and_values_change_nothing() {
        let bad_names =
            ["", " X", "X ", "X:", "X-\u{e9}", "a b", "a\r\nb", "a\0", "a\t", "(a)", "a/b", "\u{7f}"];
        let bad_values =
            ["\r", "\n", "a\r\nX-Evil: 1", "\0", "a\u{b}", "\u{1f}", "\u{7f}", "end\n", "\u{e9}\r\n"];
        let mut headers = headers(&[("A", "1")]);
        for name in bad_names {
            assert!(headers.append(name, "v").is_err(), "{name:?}");
            assert!(headers.set(name, "v").is_err(), "{name:?}");
        }
        for value in bad_values {
            assert!(headers.append("A", value).is_err(), "{value:?}");
            assert!(headers.set("A", value).is_err(), "{value:?}");
        }
        assert_eq!(list(&headers), [("A", "1")]);
        assert_eq!(headers.append("", ""), Err(HeaderError::EmptyName));
        assert_eq!(headers.append("a: b", ""), Err(HeaderError::Name { at: 1, found: ':' }));
        assert_eq!(headers.append("a", "b\n"), Err(HeaderError::Value { name: "a".into(), at: 1 }));
        assert!(headers.append("!#$%&'*+-.^_`|~09azAZ", "\t !~\u{80}\u{ff}").is_ok());
    }

    #[test]
    fn errors_do_not_repeat_secrets() {
        let mut headers = Headers::new();
        let wrong_way_round = headers.append("Authorization: Bearer hunter2", "").unwrap_err();
        let line_end = headers.append("Authorization", "Bearer hunter2\n").unwrap_err();
        for error in [wrong_way_round, line_end] {
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_are_redacted() {
        #[rustfmt::skip]
        let secret = [
            "Authorization", "PROXY-AUTHORIZATION", "Cookie", "set-cookie", "X-Auth-Token", "OK-ACCESS-KEY", "apikey",
            "OK-ACCESS-SIGN", "X-Signature", "OK-ACCESS-PASSPHRASE", "Password", "client_secret", "X-Auth", "X-Session-Id",
        ];
        let public = [
            "Host",
            "Sec-WebSocket-Key",
            "sec-websocket-accept",
            "Origin",
            "User-Agent",
            "Date",
            "WWW-Authenticate",
        ];
        for name in secret {
            assert!(Headers::is_secret(name), "{name}");
            let shown = format!("{:?}", headers(&[(name, "hunter2")]));
            assert_eq!(shown, format!("{{{name:?}: \"<redacted>\"}}"));
        }
        let chosen = |value| format!("{:?}", headers(&[("sec-websocket-protocol", value)]));
        assert_eq!(chosen("chat"), r#"{"sec-websocket-protocol": "chat"}"#);
        assert_eq!(chosen("bearer.hunter2"), r#"{"sec-websocket-protocol": "<redacted>"}"#);
        for name in public {
            assert!(!Headers::is_secret(name), "{name}");
            assert!(format!("{:?}", headers(&[(name, "shown")])).contains("shown"));
        }
        let shown = format!("{:?}", headers(&[("location", "/a?token=hunter2")]));
        assert_eq!(shown, "{\"location\": \"/a\"}");
    }

    #[test]
    fn received_bytes_that_are_not_utf8_are_latin1() {
        let mut headers = Headers::new();
        headers.append_received("a", "caf\u{e9}".as_bytes());
        headers.append_received("b", b"caf\xe9 \xff");
        assert_eq!(list(&headers), [("a", "caf\u{e9}"), ("b", "caf\u{e9} \u{ff}")]);
    }

    proptest! {
        #[test]
        fn accepted_fields_cannot_end_a_line(name in ".*|[a-z\r\n:]*", value in ".*|[a-z\r\n\0]*") {
            let mut headers = Headers::new();
            if headers.append(name.clone(), value.clone()).is_ok() {
                prop_assert!(is_token(&name));
                prop_assert!(!value.contains(['\r', '\n', '\0']));
                prop_assert_eq!(headers.first(&name), Some(value.as_str()));
            } else {
                prop_assert!(headers.is_empty());
            }
        }
    }
}
