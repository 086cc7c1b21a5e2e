//! What to offer, and what to make of the answer (RFC 7692 section 7.1, grammar of RFC 6455 section 9.1).

use std::borrow::Cow;
use std::fmt;

const EXTENSION: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// What this client asks for when it offers `permessage-deflate`, and how it compresses what it sends.
///
/// The default is right for streams of small messages: both contexts live as long as the connection, windows are
/// as large as DEFLATE allows, and messages are compressed at the level that costs least.
///
/// Memory per connection, each allocated with the first compressed message in its direction and never more than
/// that: receiving about 45 KiB of decoder state and up to `1 << server_max_window_bits` bytes of history, sending
/// about 370 KiB at the full window (250 KiB at `client_max_window_bits` 9). With `*_no_context_takeover` a
/// direction's memory is given back at the end of each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Ask the server to compress each message on its own, so that no memory is held for receiving between
    /// messages. Costs compression: small messages resemble each other more than themselves. A server that
    /// accepts the extension must comply (RFC 7692 section 7.1.1.1). Default: `false`.
    pub server_no_context_takeover: bool,
    /// Compress each message on its own, so that no memory is held for sending between messages, whether the
    /// server answers this or not (RFC 7692 section 7.1.1.2). Default: `false`.
    pub client_no_context_takeover: bool,
    /// The largest window the server may compress with, as a power of two, `8..=15`. `15` is no limit, and is
    /// then not sent; with less, a server that cannot limit itself declines the extension (RFC 7692 section
    /// 7.1.2.1). Default: `15`.
    pub server_max_window_bits: u8,
    /// The largest window this client compresses with, as a power of two, `9..=15`. The server may lower it
    /// further (RFC 7692 section 7.1.2.2). Default: `15`.
    pub client_max_window_bits: u8,
    /// How hard to try, `0..=9`, as in zlib. `0` sends everything uncompressed; what the server sends is still
    /// decompressed. Default: `1`, which uses fixed codes: the levels above make tables for each message, which
    /// takes five to fifty times as long for a small one and makes it a tenth to a quarter smaller. (They are
    /// worth trying for messages of many kilobytes, or without context takeover.)
    pub level: u8,
    /// Messages shorter than this many bytes are sent uncompressed: what they could shrink by is less than the
    /// headers of the packet they travel in. Default: `128`. Without context takeover, 512 is a better value: most
    /// of what makes a small message smaller is the message before.
    pub threshold: usize,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            level: 1,
            threshold: 128,
        }
    }
}

impl DeflateConfig {
    /// Checks that each field is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), DeflateConfigError> {
        if !(8..=15).contains(&self.server_max_window_bits) {
            return Err(DeflateConfigError::ServerMaxWindowBits(self.server_max_window_bits));
        }
        if !(9..=15).contains(&self.client_max_window_bits) {
            return Err(DeflateConfigError::ClientMaxWindowBits(self.client_max_window_bits));
        }
        if self.level > 9 {
            return Err(DeflateConfigError::Level(self.level));
        }
        Ok(())
    }

    /// The value of the request's `Sec-WebSocket-Extensions` header.
    ///
    /// `client_max_window_bits` is always in it: without it the server may not limit our window (RFC 7692 section
    /// 7.1.2.2), and one that needs to would decline.
    pub fn offer(&self) -> String {
        let mut offer = String::from(EXTENSION);
        for (wanted, name) in [
            (self.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER),
            (self.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
        ] {
            if wanted {
                offer.push_str("; ");
                offer.push_str(name);
            }
        }
        if self.server_max_window_bits < 15 {
            offer.push_str(&format!("; {SERVER_MAX_WINDOW_BITS}={}", self.server_max_window_bits));
        }
        offer.push_str("; ");
        offer.push_str(CLIENT_MAX_WINDOW_BITS);
        if self.client_max_window_bits < 15 {
            offer.push_str(&format!("={}", self.client_max_window_bits));
        }
        offer
    }

    /// Reads the server's answer to [`offer`](Self::offer): the values of all its `Sec-WebSocket-Extensions`
    /// headers, in their order, which together are one list (RFC 6455 section 9.1). `None` if the server agreed to
    /// no extension.
    ///
    /// # Errors
    ///
    /// Any answer that is not one to this offer. The connection must then be failed (RFC 7692 section 7.1; RFC
    /// 6455 section 9.1 for an extension that was not offered).
    pub fn accept(&self, response: &[&str]) -> Result<Option<DeflateParams>, NegotiationError> {
        let mut agreed = None;
        for value in response {
            let mut cursor = Cursor::new(value);
            // RFC 2616 section 2.1: recipients skip the empty elements of a list.
            while cursor.next_element() {
                let name = cursor.token()?;
                if name != EXTENSION {
                    return Err(NegotiationError::UnknownExtension(shorten(name)));
                }
                if agreed.is_some() {
                    return Err(NegotiationError::DuplicateExtension);
                }
                agreed = Some(self.agree(&Answer::parse(&mut cursor)?)?);
            }
        }
        Ok(agreed)
    }

    /// Holds the answer against the offer.
    fn agree(&self, answer: &Answer) -> Result<DeflateParams, NegotiationError> {
        // Section 7.1.1.1: a server accepts the parameter by including it; the other direction, a server that
        // includes it unasked, is explicitly allowed.
        if self.server_no_context_takeover && !answer.server_no_context_takeover {
            return Err(NegotiationError::ServerContextTakeover);
        }
        // Section 7.1.2.1: accepted "with the same or smaller value"; unasked, any value is fine.
        if self.server_max_window_bits < 15
            && answer.server_max_window_bits.is_none_or(|bits| bits > self.server_max_window_bits)
        {
            return Err(NegotiationError::ServerWindow {
                offered: self.server_max_window_bits,
                answered: answer.server_max_window_bits,
            });
        }
        // Section 7.1.2.2: "a value equal to or smaller than the received value"; without an answer the offered
        // value still binds us, as we announced not to use more.
        if let Some(answered) = answer.client_max_window_bits
            && answered > self.client_max_window_bits
        {
            return Err(NegotiationError::ClientWindow { offered: self.client_max_window_bits, answered });
        }
        Ok(DeflateParams {
            server_no_context_takeover: answer.server_no_context_takeover,
            // Section 7.1.1.2: the server may demand it unasked, and our own announcement holds unanswered.
            client_no_context_takeover: self.client_no_context_takeover || answer.client_no_context_takeover,
            server_max_window_bits: answer.server_max_window_bits.unwrap_or(15),
            client_max_window_bits: answer.client_max_window_bits.unwrap_or(self.client_max_window_bits),
        })
    }
}

/// What client and server agreed on for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParams {
    /// The server compresses each message on its own (RFC 7692 section 7.1.1.1).
    pub server_no_context_takeover: bool,
    /// This client compresses each message on its own (RFC 7692 section 7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's window is at most `1 << server_max_window_bits` bytes, `8..=15` (RFC 7692 section 7.1.2.1).
    pub server_max_window_bits: u8,
    /// This client's window is at most `1 << client_max_window_bits` bytes, `8..=15` (RFC 7692 section 7.1.2.2).
    pub client_max_window_bits: u8,
}

/// A [`DeflateConfig`] field is out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeflateConfigError {
    /// `server_max_window_bits` is not in `8..=15`.
    ServerMaxWindowBits(u8),
    /// `client_max_window_bits` is not in `9..=15`.
    ClientMaxWindowBits(u8),
    /// `level` is not in `0..=9`.
    Level(u8),
}

impl fmt::Display for DeflateConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerMaxWindowBits(bits) => {
                write!(f, "server_max_window_bits is {bits}; choose 8 to 15 (15 is no limit)")
            }
            Self::ClientMaxWindowBits(bits) => write!(
                f,
                "client_max_window_bits is {bits}; choose 9 to 15 (the compressor cannot work with a window of 8 bits)"
            ),
            Self::Level(level) => {
                write!(f, "compression level is {level}; choose 0 (do not compress) to 9 (smallest)")
            }
        }
    }
}

impl std::error::Error for DeflateConfigError {}

/// The server's `Sec-WebSocket-Extensions` is not an answer to our offer.
///
/// Names from the header are shortened to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The header does not follow the grammar of RFC 6455 section 9.1.
    Syntax,
    /// The server accepted an extension that was not offered.
    UnknownExtension(String),
    /// The server accepted `permessage-deflate` more than once.
    DuplicateExtension,
    /// A parameter that RFC 7692 does not define.
    UnknownParameter(String),
    /// A parameter given twice.
    DuplicateParameter(&'static str),
    /// A value for a parameter that has none.
    UnexpectedValue(&'static str),
    /// No value for a parameter that must have one in a response.
    MissingValue(&'static str),
    /// A window size that is not a number from 8 to 15 without leading zeros.
    InvalidWindowBits(&'static str),
    /// We offered `server_no_context_takeover`, and the server accepted without it.
    ServerContextTakeover,
    /// The server's window is larger than we offered, or unlimited where we offered a limit.
    ServerWindow {
        /// The limit in our offer, `8..=14`.
        offered: u8,
        /// The server's answer, `8..=15`.
        answered: Option<u8>,
    },
    /// The server answered a larger window for us than we offered to use.
    ClientWindow {
        /// The limit in our offer, `9..=14`.
        offered: u8,
        /// The server's answer, `10..=15`.
        answered: u8,
    },
}

impl fmt::Display for NegotiationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server's Sec-WebSocket-Extensions header ")?;
        match self {
            Self::Syntax => f.write_str("is malformed"),
            Self::UnknownExtension(name) => write!(f, "accepts `{name}`, which was not offered"),
            Self::DuplicateExtension => write!(f, "accepts {EXTENSION} more than once"),
            Self::UnknownParameter(name) => write!(f, "has the unknown parameter `{name}`"),
            Self::DuplicateParameter(name) => write!(f, "has {name} more than once"),
            Self::UnexpectedValue(name) => write!(f, "gives a value to {name}, which has none"),
            Self::MissingValue(name) => write!(f, "has no value for {name}"),
            Self::InvalidWindowBits(name) => write!(f, "has a {name} that is not a number from 8 to 15"),
            Self::ServerContextTakeover => {
                write!(f, "ignores {SERVER_NO_CONTEXT_TAKEOVER}, which was asked for")
            }
            Self::ServerWindow { offered, answered: Some(answered) } => {
                write!(f, "has {SERVER_MAX_WINDOW_BITS}={answered}, but at most {offered} was offered")
            }
            Self::ServerWindow { offered, answered: None } => {
                write!(f, "ignores {SERVER_MAX_WINDOW_BITS}={offered}, which was asked for")
            }
            Self::ClientWindow { offered, answered } => {
                write!(f, "has {CLIENT_MAX_WINDOW_BITS}={answered}, but at most {offered} was offered")
            }
        }?;
        f.write_str("; the server is at fault, connect without compression if it cannot be repaired")
    }
}

impl std::error::Error for NegotiationError {}

/// The parameters of one `permessage-deflate` element of a response.
#[derive(Debug, Default)]
struct Answer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Answer {
    /// Section 7.1: a response with an undefined parameter, an invalid value or a parameter given twice fails
    /// the connection.
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, NegotiationError> {
        let mut answer = Self::default();
        while let Some((name, value)) = cursor.parameter()? {
            match name {
                SERVER_NO_CONTEXT_TAKEOVER => {
                    flag(&mut answer.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER, value)?;
                }
                CLIENT_NO_CONTEXT_TAKEOVER => {
                    flag(&mut answer.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER, value)?;
                }
                SERVER_MAX_WINDOW_BITS => {
                    window(&mut answer.server_max_window_bits, SERVER_MAX_WINDOW_BITS, value)?;
                }
                CLIENT_MAX_WINDOW_BITS => {
                    window(&mut answer.client_max_window_bits, CLIENT_MAX_WINDOW_BITS, value)?;
                }
                _ => return Err(NegotiationError::UnknownParameter(shorten(name))),
            }
        }
        Ok(answer)
    }
}

fn flag(slot: &mut bool, name: &'static str, value: Option<Cow<'_, str>>) -> Result<(), NegotiationError> {
    if value.is_some() {
        return Err(NegotiationError::UnexpectedValue(name));
    }
    if std::mem::replace(slot, true) {
        return Err(NegotiationError::DuplicateParameter(name));
    }
    Ok(())
}

fn window(
    slot: &mut Option<u8>,
    name: &'static str,
    value: Option<Cow<'_, str>>,
) -> Result<(), NegotiationError> {
    let bits = match value.as_deref() {
        None => return Err(NegotiationError::MissingValue(name)),
        Some("8") => 8,
        Some("9") => 9,
        Some("10") => 10,
        Some("11") => 11,
        Some("12") => 12,
        Some("13") => 13,
        Some("14") => 14,
        Some("15") => 15,
        Some(_) => return Err(NegotiationError::InvalidWindowBits(name)),
    };
    if slot.replace(bits).is_some() {
        return Err(NegotiationError::DuplicateParameter(name));
    }
    Ok(())
}

fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Name and unquoted value.
type Parameter<'a> = (&'a str, Option<Cow<'a, str>>);

/// Reads one header value. Optional white space (space and tab) is skipped before each terminal.
#[derive(Debug)]
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn new(value: &'a str) -> Self {
        Self { rest: value }
    }

    /// Moves to the next element that is not empty; `false` at the end of the value. Called at its start or behind
    /// an element, of which [`parameter`](Self::parameter) made sure that a comma or the end follows.
    fn next_element(&mut self) -> bool {
        while self.eat(',') {}
        !self.rest.is_empty()
    }

    /// The next `; name` or `; name=value` of this element; `None` at its end.
    fn parameter(&mut self) -> Result<Option<Parameter<'a>>, NegotiationError> {
        if !self.eat(';') {
            return if self.rest.is_empty() || self.rest.starts_with(',') {
                Ok(None)
            } else {
                Err(NegotiationError::Syntax)
            };
        }
        let name = self.token()?;
        let value = if self.eat('=') { Some(self.value()?) } else { None };
        Ok(Some((name, value)))
    }

    fn value(&mut self) -> Result<Cow<'a, str>, NegotiationError> {
        if !self.eat('"') {
            return self.token().map(Cow::Borrowed);
        }
        // RFC 6455 section 9.1: after unescaping, a quoted value must be a token as well. So nothing that could
        // not stand unquoted is let in, not even behind a backslash.
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            let c = match c {
                '"' if value.is_empty() => return Err(NegotiationError::Syntax),
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Cow::Owned(value));
                }
                '\\' => chars.next().map_or('"', |(_, escaped)| escaped),
                c => c,
            };
            if !is_token(c) {
                return Err(NegotiationError::Syntax);
            }
            value.push(c);
        }
        Err(NegotiationError::Syntax)
    }

    fn token(&mut self) -> Result<&'a str, NegotiationError> {
        self.skip_space();
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        if token.is_empty() {
            return Err(NegotiationError::Syntax);
        }
        self.rest = rest;
        Ok(token)
    }

    fn eat(&mut self, terminal: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(terminal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// RFC 7230 section 3.2.6, the same set as RFC 2616's `token`.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests;
