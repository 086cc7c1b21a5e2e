//! What is taken out of a record before it is written.

use crate::line::{Body, Line, Outcome};
use crate::text::Payload;
use everwire_core::Headers;
use everwire_core::record::EndpointRecord;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// What stands where a secret was.
pub const MARK: &str = EndpointRecord::SECRET;

/// Rules for what is secret. [`MARK`] takes its place.
///
/// The default rules hide
///
/// - values of headers that [`Headers::is_secret`] names, and subprotocols that look like a token;
/// - all values in the query of a URL, and all parameters of an endpoint;
/// - in JSON, at any depth, values of [keys](Self::KEYS) such as `access_token`, `client_secret`, `signature`, `sign`, `apiKey`, `passphrase`,
///   `jwt`, `token`, `listenKey`, however they are written (`api_key`, `API-Key`); all that is under such a key, if it is an object or a list;
/// - all arguments of a message that says `"op": "auth"` or `"op": "login"`, as some venues have no names for them.
///
/// Whatever else is secret, such as a key in the path of a URL, is for [`text`](Self::text) to find. Bytes are written as they are.
///
/// ```
/// use everwire_record::Redaction;
///
/// let rules = Redaction::new().key("pin").text(|text| text.contains("/ws/").then(|| "GET /ws/***".to_owned()));
/// assert_eq!(rules.apply_text(r#"{"pin": 1234, "n": 1}"#), r#"{"pin": "***", "n": 1}"#);
/// assert_eq!(rules.apply_text(r#"{"auth":{"apiKey":"a","sign":"b"}}"#), r#"{"auth":{"apiKey":"***","sign":"***"}}"#);
/// ```
#[derive(Clone)]
pub struct Redaction {
    keys: Vec<String>,
    headers: Vec<String>,
    shown: Vec<String>,
    texts: Vec<Arc<Rule>>,
    off: bool,
}

type Rule = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Default for Redaction {
    fn default() -> Self {
        Self::new()
    }
}

impl Redaction {
    /// Keys whose values are secret, in lower case and without `_` and `-`.
    pub const KEYS: [&'static str; 20] = [
        "accesstoken",
        "refreshtoken",
        "clientid",
        "clientsecret",
        "secret",
        "secretkey",
        "signature",
        "sign",
        "sig",
        "apikey",
        "apisecret",
        "passphrase",
        "password",
        "jwt",
        "token",
        "sessiontoken",
        "listenkey",
        "privatekey",
        "authorization",
        "credentials",
    ];

    /// The default rules.
    pub fn new() -> Self {
        Self {
            keys: Self::KEYS.iter().map(|key| (*key).to_owned()).collect(),
            headers: Vec::new(),
            shown: Vec::new(),
            texts: Vec::new(),
            off: false,
        }
    }

    /// No rules: what is written is what was sent and received, but for what the core does not tell anybody: secret headers and parameters of
    /// endpoints.
    pub fn off() -> Self {
        Self { off: true, ..Self::new() }
    }

    /// Values of this key in JSON are secret too.
    pub fn key(mut self, key: &str) -> Self {
        self.keys.push(plain(key));
        self
    }

    /// Values of this key are no secret, such as `token` where that is a coin.
    pub fn show_key(mut self, key: &str) -> Self {
        let key = plain(key);
        self.keys.retain(|known| *known != key);
        self
    }

    /// Values of this header are secret too.
    pub fn header(mut self, name: &str) -> Self {
        self.headers.push(name.to_ascii_lowercase());
        self
    }

    /// The value of this name in the query of a URL is no secret, such as `streams`.
    pub fn show_query(mut self, name: &str) -> Self {
        self.shown.push(name.to_owned());
        self
    }

    /// A rule of your own: it is given each text, after the other rules (messages, requests and responses of handshakes, URLs), and answers what is
    /// to be written in its place, or `None` to leave it. It is called in the writer's thread.
    pub fn text(mut self, rule: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.texts.push(Arc::new(rule));
        self
    }

    /// A message without its secrets.
    pub fn apply_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.redact(&mut text);
        text
    }

    /// A line without its secrets. What is done twice changes nothing more.
    pub fn apply(&self, line: &mut Line) {
        if self.off {
            return;
        }
        match &mut line.what {
            Body::Endpoint { result: Outcome::Given(endpoint), .. } => {
                endpoint.url = self.url(&endpoint.url);
                self.own(&mut endpoint.url);
                for (name, value) in &mut endpoint.headers {
                    self.header_value(name, value);
                }
            }
            Body::Send { payload, .. } => self.payload(payload),
            Body::Frame(frame) => self.payload(&mut frame.payload),
            Body::Request { params, .. } | Body::Notify { params, .. } => {
                params.iter_mut().for_each(|text| self.redact(text));
            }
            Body::Batch { requests, .. } => {
                requests
                    .iter_mut()
                    .filter_map(|(_, params)| params.as_mut())
                    .for_each(|text| self.redact(text));
            }
            Body::Respond { result, error, .. } => {
                result.iter_mut().for_each(|text| self.redact(text));
                if let Some((_, message, data)) = error {
                    self.redact(message);
                    data.iter_mut().for_each(|text| self.redact(text));
                }
            }
            Body::Subscribe { topic, .. } => {
                let mut value = serde_json::to_value(&*topic).unwrap_or_default();
                self.value(&mut value);
                if let Ok(redacted) = serde_json::from_value(value) {
                    *topic = redacted;
                }
            }
            Body::HandshakeRequest { payload, .. } | Body::HandshakeResponse { payload, .. }
                if !payload.is_binary() =>
            {
                payload.data = self.head(&payload.data);
                self.own(&mut payload.data);
            }
            Body::Event { event } => {
                if let Some(Value::Array(headers)) = event.get_mut("headers") {
                    for pair in headers {
                        if let Value::Array(pair) = pair
                            && let [Value::String(name), Value::String(value)] = &mut pair[..]
                        {
                            self.header_value(name, value);
                        }
                    }
                }
                if event.get("binary").is_none() {
                    for name in ["data", "result", "params", "error", "text", "reason"] {
                        if let Some(Value::String(text)) = event.get_mut(name) {
                            self.redact(text);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn payload(&self, payload: &mut Payload) {
        if !payload.is_binary() {
            self.redact(&mut payload.data);
        }
    }

    /// Every string of it that may be a message.
    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.redact(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.value(value)),
            _ => {}
        }
    }

    fn redact(&self, text: &mut String) {
        if self.off {
            return;
        }
        if text.starts_with(['{', '[', ' ', '\t', '\n', '\r'])
            && let Some(redacted) = self.json(text)
        {
            *text = redacted;
        }
        self.own(text);
    }

    fn own(&self, text: &mut String) {
        for rule in &self.texts {
            if let Some(other) = rule(text) {
                *text = other;
            }
        }
    }

    fn is_secret(&self, key: &str) -> bool {
        let key = plain(key);
        self.keys.contains(&key)
    }

    /// The same JSON, byte for byte, but for secret values; `None` if there is none.
    fn json(&self, text: &str) -> Option<String> {
        let login = says_login(text);
        let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
        let mut out = String::new();
        let (mut kept, mut depth, mut secret_above) = (0, 0_usize, None);
        while scan.at < scan.bytes.len() {
            match scan.bytes[scan.at] {
                b'"' => {
                    let string = scan.string();
                    let is_key = scan.next_is(b':');
                    if is_key {
                        scan.at += 1;
                        scan.space();
                        let key = &text[string.clone()];
                        let secret = self.is_secret(key) || (login && matches!(key, "args" | "params"));
                        if secret && secret_above.is_none() {
                            match scan.bytes.get(scan.at) {
                                Some(b'{' | b'[') => secret_above = Some(depth),
                                Some(b'"') => {
                                    let value = scan.string();
                                    out.push_str(&text[kept..value.start]);
                                    out.push_str(MARK);
                                    kept = value.end;
                                }
                                Some(b'-' | b'0'..=b'9') => {
                                    out.push_str(&text[kept..scan.at]);
                                    out.extend(["\"", MARK, "\""]);
                                    scan.number();
                                    kept = scan.at;
                                }
                                _ => {}
                            }
                        }
                    } else if secret_above.is_some() {
                        out.push_str(&text[kept..string.start]);
                        out.push_str(MARK);
                        kept = string.end;
                    }
                }
                b'{' | b'[' => {
                    depth += 1;
                    scan.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if secret_above == Some(depth) {
                        secret_above = None;
                    }
                    scan.at += 1;
                }
                b'-' | b'0'..=b'9' if secret_above.is_some() => {
                    out.push_str(&text[kept..scan.at]);
                    out.extend(["\"", MARK, "\""]);
                    scan.number();
                    kept = scan.at;
                }
                _ => scan.at += 1,
            }
        }
        if kept == 0 {
            return None;
        }
        out.push_str(&text[kept..]);
        Some(out)
    }

    /// The request or response of a handshake.
    fn head(&self, text: &str) -> String {
        let (head, body) =
            text.split_once("\r\n\r\n").map_or((text, None), |(head, body)| (head, Some(body)));
        let mut lines = Vec::new();
        for (index, line) in head.split("\r\n").enumerate() {
            if index == 0 {
                lines.push(self.url(line));
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                lines.push(line.to_owned());
                continue;
            };
            let mut shown = value.trim().to_owned();
            self.header_value(name, &mut shown);
            let space = if value.starts_with(' ') { " " } else { "" };
            lines.push(if shown == value.trim() {
                line.to_owned()
            } else {
                format!("{name}:{space}{shown}")
            });
        }
        let Some(body) = body else { return lines.join("\r\n") };
        let shown = self.json(body);
        if let Some(shown) = &shown {
            // What says how long the body is says it of this one.
            for line in &mut lines {
                if let Some((name, _)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    *line = format!("{name}: {}", shown.len());
                }
            }
        }
        format!("{}\r\n\r\n{}", lines.join("\r\n"), shown.as_deref().unwrap_or(body))
    }

    fn header_value(&self, name: &str, value: &mut String) {
        let lower = name.to_ascii_lowercase();
        if Headers::is_secret(name) || self.headers.contains(&lower) {
            *value = MARK.to_owned();
        } else if lower == "sec-websocket-protocol" {
            let names = value.split(',').map(str::trim);
            *value =
                names.map(|name| if may_be_token(name) { MARK } else { name }).collect::<Vec<_>>().join(", ");
        } else if lower == "location" {
            *value = self.url(value);
        }
    }

    /// A URL, or a line with one, without the values of its query.
    fn url(&self, text: &str) -> String {
        let Some((path, rest)) = text.split_once('?') else { return text.to_owned() };
        let (query, behind) = rest.find([' ', '#']).map_or((rest, ""), |at| rest.split_at(at));
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if self.shown.iter().any(|shown| shown == name) => pair.to_owned(),
            Some((name, _)) => format!("{name}={MARK}"),
            None => MARK.to_owned(),
        };
        format!("{path}?{}{behind}", query.split('&').map(pair).collect::<Vec<_>>().join("&"))
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("keys", &self.keys.len())
            .field("headers", &self.headers)
            .field("own", &self.texts.len())
            .field("off", &self.off)
            .finish_non_exhaustive()
    }
}

fn plain(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// As the core has it.
fn may_be_token(subprotocol: &str) -> bool {
    subprotocol.len() > 40 || subprotocol.to_ascii_lowercase().contains("bearer")
}

/// A message whose arguments are credentials, by their places.
fn says_login(text: &str) -> bool {
    if !text.contains("auth") && !text.contains("login") {
        return false;
    }
    let op = serde_json::from_str::<Value>(text).ok();
    let op = op.as_ref().and_then(|value| value.get("op")?.as_str());
    matches!(op, Some("auth" | "login"))
}

/// A look at JSON that need not be valid.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    /// Steps over a string that begins here. Where its contents are.
    fn string(&mut self) -> std::ops::Range<usize> {
        let start = self.at + 1;
        let mut end = start;
        while let Some(byte) = self.bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let end = end.min(self.bytes.len());
        self.at = (end + 1).min(self.bytes.len());
        start.min(end)..end
    }

    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// Whether that is what follows; then it stands there.
    fn next_is(&mut self, byte: u8) -> bool {
        let before = self.at;
        self.space();
        let is = self.bytes.get(self.at) == Some(&byte);
        if !is {
            self.at = before;
        }
        is
    }

    fn number(&mut self) {
        while self
            .bytes
            .get(self.at)
            .is_some_and(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
        {
            self.at += 1;
        }
    }
}
