//! A configuration as data.
//!
//! Reading goes by way of `serde_json::Value`, which any format that describes itself can fill. That way each error names its option,
//! and none repeats what may be a secret, neither of which serde's own errors do.

use super::settings::Settings;
use super::units::{Size, Time, parse_size, parse_time};
use super::validate::{Range, Unit};
use super::{Config, ConfigError, Endpoint, Keepalive, Transport};
use crate::session::{Step, Watch};
use crate::ws::Target;
use crate::ws::deflate::DeflateConfig;
use crate::ws::handshake::HandshakeOptions;
use crate::ws::headers::Headers;
use ::serde::de::Error as _;
use ::serde::ser::SerializeMap;
use ::serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// What is written in the place of a secret.
const SECRET: &str = "***";

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<(&str, Value)> = Vec::new();
        for option in OPTIONS {
            let value = (option.write)(self);
            match (option.name.split_once('.'), entries.last_mut()) {
                // The parts of a group follow each other, and the option that says whether there is one.
                (Some((group, part)), Some((last, Value::Object(parts)))) if *last == group => {
                    parts.insert(part.to_owned(), value);
                }
                (Some((group, _)), Some((last, _))) if *last == group => {}
                (Some((group, part)), _) => entries.push((group, json!({ part: value }))),
                (None, _) => entries.push((option.name, value)),
            }
        }
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (name, value) in entries {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Settings::deserialize(deserializer)?.into_config().map_err(D::Error::custom)
    }
}

/// An option as data.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) write: fn(&Config) -> Value,
    pub(super) read: fn(&mut Config, &Given<'_>) -> Result<(), ConfigError>,
}

/// An option of one kind (`time`, `size`, `count`, `flag`), or one that may be off, in one field of the config; or one with
/// functions of its own.
macro_rules! entry {
    ($name:literal, off $kind:ident, $($field:ident).+) => {
        entry!($name, |c| c.$($field).+.map_or(Value::Null, $kind), |c, given| {
            given.unless_off(Given::$kind).map(|value| c.$($field).+ = value)
        })
    };
    ($name:literal, $kind:ident, $($field:ident).+) => {
        entry!($name, |c| $kind(c.$($field).+), |c, given| given.$kind().map(|value| c.$($field).+ = value))
    };
    ($name:literal, part $kind:ident, $field:ident) => {
        entry!(
            $name,
            |c| c.handshake.deflate.as_ref().map_or(Value::Null, |deflate| $kind(deflate.$field)),
            |c, given| given.$kind().map(|value| deflate(c).$field = value)
        )
    };
    ($name:literal, $write:expr, $read:expr) => {
        Entry { name: $name, write: $write, read: $read }
    };
}

/// All options, in the order in which they are written.
pub(super) const OPTIONS: &[Entry] = &[
    entry!("url", |c| c.endpoint.as_ref().map_or(Value::Null, url), |c, given| {
        let url = given.unless_off(Given::text)?;
        c.endpoint = url.map(|url| Endpoint::new(url).map_err(ConfigError::Url)).transpose()?;
        Ok(())
    }),
    entry!("endpoints", |c| c.fallbacks.iter().map(url).collect(), |c, given| {
        let urls = given.list()?.iter().map(|url| given.item(url).text()).collect::<Result<Vec<_>, _>>()?;
        c.fallbacks = Config::provided().endpoints(urls)?.fallbacks;
        Ok(())
    }),
    Entry { name: "headers", write: headers, read: read_headers },
    entry!("subprotocols", subprotocols, |c, given| {
        let names = given.list()?.iter().map(|name| given.item(name).text().map(str::to_owned));
        c.handshake.subprotocols = names.collect::<Result<_, _>>()?;
        Ok(())
    }),
    entry!("transport", |c| json!(c.transport), |c, given| {
        let transport = Transport::deserialize(given.value);
        let wrong = |_| given.is_wrong(r#""tcp", "connector" or "secured_connector""#);
        transport.map(|transport| c.transport = transport).map_err(wrong)
    }),
    entry!("sockets.nodelay", flag, sockets.nodelay),
    entry!(
        "sockets.local_addresses",
        |c| [c.sockets.local_v4.map(IpAddr::V4), c.sockets.local_v6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .map(|address| json!(address))
            .collect(),
        read_local_addresses
    ),
    entry!("sockets.interface", |c| json!(c.sockets.interface), |c, given| {
        given.unless_off(Given::text).map(|name| c.sockets.interface = name.map(str::to_owned))
    }),
    entry!("sockets.send_buffer", off size, sockets.send_buffer),
    entry!("sockets.recv_buffer", off size, sockets.recv_buffer),
    entry!("keepalive", |c| group(c.sockets.keepalive.is_some()), |c, given| {
        let on = given.group()?;
        c.sockets.keepalive = on.then(|| *keepalive(c));
        Ok(())
    }),
    entry!(
        "keepalive.time",
        |c| c.sockets.keepalive.map_or(Value::Null, |keepalive| time(keepalive.time)),
        |c, given| given.time().map(|time| keepalive(c).time = time)
    ),
    entry!(
        "keepalive.interval",
        |c| c.sockets.keepalive.map_or(Value::Null, |keepalive| time(keepalive.interval)),
        |c, given| given.time().map(|time| keepalive(c).interval = time)
    ),
    entry!(
        "keepalive.retries",
        |c| c.sockets.keepalive.map_or(Value::Null, |keepalive| count(keepalive.retries)),
        |c, given| given.count().map(|retries| keepalive(c).retries = retries)
    ),
    entry!("race_delay", off time, race_delay),
    entry!("connect_timeout", time, connect_timeout),
    entry!("handshake_timeout", time, handshake_timeout),
    entry!("request_timeout", time, request_timeout),
    entry!("write_timeout", off time, write_timeout),
    entry!("close_timeout", time, close_timeout),
    entry!("ping_interval", off time, ping_interval),
    entry!("pong_timeout", time, pong_timeout),
    entry!("heartbeat_interval", off time, heartbeat_interval),
    entry!("heartbeat_timeout", time, heartbeat_timeout),
    entry!("reconnect", flag, reconnects),
    entry!("max_attempts", off count, max_attempts),
    entry!("max_redirects", count, max_redirects),
    entry!("backoff.initial", time, backoff_initial),
    entry!("backoff.max", time, backoff_max),
    entry!("stable_after", time, stable_after),
    entry!("flap_budget", |c| group(c.flap_budget.is_some()), |c, given| {
        let on = given.group()?;
        c.flap_budget = on.then(|| *flap_budget(c));
        Ok(())
    }),
    entry!(
        "flap_budget.attempts",
        |c| c.flap_budget.map_or(Value::Null, |budget| count(budget.0)),
        |c, given| { given.count().map(|attempts| flap_budget(c).0 = attempts) }
    ),
    entry!("flap_budget.span", |c| c.flap_budget.map_or(Value::Null, |budget| time(budget.1)), |c, given| {
        given.time().map(|span| flap_budget(c).1 = span)
    }),
    entry!("restore", flag, restore),
    entry!("resubscribe_backoff.initial", time, resubscribe_initial),
    entry!("resubscribe_backoff.max", time, resubscribe_max),
    entry!("recv_buffer", size, recv_buffer),
    entry!("send_buffer", size, send_buffer),
    entry!("fragment_size", size, fragment),
    entry!("limits.max_frame", size, limits.max_frame),
    entry!("limits.max_message", size, limits.max_message),
    entry!("limits.max_fragments", count, limits.max_fragments),
    entry!("limits.chunk", off size, limits.chunk),
    entry!("handshake_limits.max_head", size, handshake.max_head),
    entry!("handshake_limits.max_headers", count, handshake.max_headers),
    entry!("deflate", |c| group(c.handshake.deflate.is_some()), |c, given| {
        let on = given.group()?;
        c.handshake.deflate = on.then(|| deflate(c).clone());
        Ok(())
    }),
    entry!("deflate.server_no_context_takeover", part flag, server_no_context_takeover),
    entry!("deflate.client_no_context_takeover", part flag, client_no_context_takeover),
    entry!("deflate.server_max_window_bits", part count, server_max_window_bits),
    entry!("deflate.client_max_window_bits", part count, client_max_window_bits),
    entry!("deflate.level", part count, level),
    entry!("deflate.threshold", part size, threshold),
    entry!("max_requests", count, max_requests),
    entry!("queue.messages", count, queue_messages),
    entry!("queue.bytes", size, queue_bytes),
    entry!("queue_timeout", time, queue_timeout),
    entry!("latency_buffer", count, latency_buffer),
    entry!("event_buffer", count, event_buffer),
    Entry { name: "data_watch", write: data_watch, read: read_data_watch },
    entry!("policy", |c| json!(c.policy), |c, given| given.data().map(|policy| c.policy = policy)),
    entry!("send_limits", |c| json!(c.send_limits), |c, given| given
        .data()
        .map(|limits| c.send_limits = limits)),
];

fn data_watch(config: &Config) -> Value {
    config.data_watch.map_or(Value::Null, |watch| json!({ "after": time(watch.after), "up_to": watch.up_to }))
}

fn read_data_watch(config: &mut Config, given: &Given<'_>) -> Result<(), ConfigError> {
    let form = r#"null or {"after": "30s", "up_to": "probe"}, "resubscribe" or "reconnect""#;
    config.data_watch = match given.value {
        Value::Null => None,
        Value::String(off) if off == "off" => None,
        Value::Object(parts) if parts.keys().all(|key| key == "after" || key == "up_to") => {
            let after = parts.get("after").ok_or_else(|| given.kind_is_wrong(form))?;
            let watch = Watch::after(Given { field: "data_watch", value: after }.time()?);
            match parts.get("up_to") {
                Some(step) => {
                    let step = Step::deserialize(step).map_err(|_| given.kind_is_wrong(form))?;
                    Some(watch.up_to(step))
                }
                None => Some(watch),
            }
        }
        _ => return Err(given.kind_is_wrong(form)),
    };
    Ok(())
}

fn deflate(config: &mut Config) -> &mut DeflateConfig {
    config.handshake.deflate.get_or_insert_default()
}

fn keepalive(config: &mut Config) -> &mut Keepalive {
    config.sockets.keepalive.get_or_insert_default()
}

fn read_local_addresses(config: &mut Config, given: &Given<'_>) -> Result<(), ConfigError> {
    let form = || given.kind_is_wrong("a list of IP addresses, at most one of each family");
    (config.sockets.local_v4, config.sockets.local_v6) = (None, None);
    for item in given.value.as_array().ok_or_else(form)? {
        let address: IpAddr = item.as_str().and_then(|text| text.parse().ok()).ok_or_else(form)?;
        let taken = match address {
            IpAddr::V4(address) => config.sockets.local_v4.replace(address).is_some(),
            IpAddr::V6(address) => config.sockets.local_v6.replace(address).is_some(),
        };
        if taken {
            return Err(form());
        }
    }
    Ok(())
}

fn flap_budget(config: &mut Config) -> &mut (u32, Duration) {
    let default = || Config::provided().flap_budget.unwrap_or((60, Duration::from_secs(600)));
    config.flap_budget.get_or_insert_with(default)
}

// How each kind is written.

fn time(time: Duration) -> Value {
    Value::String(Time(time).to_string())
}

fn size(bytes: usize) -> Value {
    if bytes > 0 && bytes.is_multiple_of(1024) {
        Value::String(Size(bytes as u64).to_string())
    } else {
        json!(bytes)
    }
}

fn count(number: impl Into<Value>) -> Value {
    number.into()
}

fn flag(flag: bool) -> Value {
    Value::Bool(flag)
}

fn group(on: bool) -> Value {
    if on { Value::Object(Map::new()) } else { Value::Null }
}

fn url(endpoint: &Endpoint) -> Value {
    let target = &endpoint.target;
    // Without credentials and query.
    let mut text = target.to_string();
    if let (true, Some(scheme)) = (target.authorization().is_some(), text.find("://")) {
        text.insert_str(scheme + 3, "***@");
    }
    if target.resource().contains('?') {
        text.push_str("?***");
    }
    Value::String(text)
}

fn headers(config: &Config) -> Value {
    let shown = |(name, value)| json!([name, if Headers::is_secret(name) { SECRET } else { value }]);
    config.handshake.headers.iter().map(shown).collect()
}

/// Those that look like a token would not be sent to another origin. The rule is asked there, so that there is only one.
fn subprotocols(config: &Config) -> Value {
    let [Ok(here), Ok(elsewhere)] = ["ws://a", "ws://b"].map(Target::parse) else { return json!([]) };
    let safe = config.handshake.for_redirect(&here, &elsewhere).subprotocols;
    let shown = |name: &String| if safe.contains(name) { name.clone() } else { SECRET.to_owned() };
    config.handshake.subprotocols.iter().map(shown).collect()
}

fn read_headers(config: &mut Config, given: &Given<'_>) -> Result<(), ConfigError> {
    let HandshakeOptions { headers, .. } = &mut config.handshake;
    for field in given.list()? {
        let Some([Value::String(name), Value::String(value)]) = field.as_array().map(Vec::as_slice) else {
            return Err(given.kind_is_wrong(r#"a list of pairs, as in [["X-Client", "recorder"]]"#));
        };
        if value == SECRET {
            return Err(given.secret(&format!("{SECRET} ({name})")));
        }
        headers.append(name, value).map_err(ConfigError::Header)?;
    }
    Ok(())
}

/// How each kind is read.
pub(super) struct Given<'a> {
    pub(super) field: &'static str,
    pub(super) value: &'a Value,
}

impl<'a> Given<'a> {
    /// What has a form of its own.
    fn data<T: Deserialize<'a>>(&self) -> Result<T, ConfigError> {
        T::deserialize(self.value).map_err(|error| self.kind_is_wrong(&error.to_string()))
    }

    fn time(&self) -> Result<Duration, ConfigError> {
        let time = match self.value {
            Value::String(text) => parse_time(text),
            // Whole seconds exactly, others as exact as they are.
            Value::Number(number) => match number.as_u64() {
                Some(seconds) => Some(Duration::from_secs(seconds)),
                None => number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            },
            _ => None,
        };
        time.ok_or_else(|| self.wrong())
    }

    fn size(&self) -> Result<usize, ConfigError> {
        let size = match self.value {
            Value::String(text) => parse_size(text),
            value => value.as_u64(),
        };
        size.and_then(|size| size.try_into().ok()).ok_or_else(|| self.wrong())
    }

    fn count<T: TryFrom<u64>>(&self) -> Result<T, ConfigError> {
        let number = self.value.as_u64().and_then(|number| number.try_into().ok());
        number.ok_or_else(|| self.wrong())
    }

    fn flag(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.wrong())
    }

    /// Whether a group that may be off is there.
    fn group(&self) -> Result<bool, ConfigError> {
        match self.value {
            Value::Object(_) => Ok(true),
            _ => self.unless_off(|given| Err(given.wrong())).map(|off: Option<bool>| off.unwrap_or(false)),
        }
    }

    /// A URL or a subprotocol, which may hold secrets.
    fn text(&self) -> Result<&'a str, ConfigError> {
        let text = self.value.as_str().ok_or_else(|| self.kind_is_wrong("a text"))?;
        let authority = text.split_once("://").map_or("", |(_, rest)| rest);
        if text == SECRET || authority.starts_with("***@") || text.ends_with("?***") {
            return Err(self.secret(SECRET));
        }
        Ok(text)
    }

    fn list(&self) -> Result<&'a [Value], ConfigError> {
        self.value.as_array().map(Vec::as_slice).ok_or_else(|| self.kind_is_wrong("a list"))
    }

    fn item(&self, value: &'a Value) -> Self {
        Self { value, ..*self }
    }

    fn unless_off<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        if self.value.is_null() || *self.value == "off" { Ok(None) } else { read(self).map(Some) }
    }

    fn wrong(&self) -> ConfigError {
        let allowed = match Range::of(self.field) {
            Some(range) => {
                let form = match range.unit {
                    Unit::Nanoseconds => r#"a time as in "500ms", "10s", "5m", "1h", or a number of seconds"#,
                    Unit::Bytes => r#"a size as in "16KiB", "4MiB", or a number of bytes"#,
                    Unit::One => "a whole number",
                };
                format!("{form}, {}", range.allowed())
            }
            None if self.value.is_object()
                || matches!(self.field, "deflate" | "flap_budget" | "keepalive") =>
            {
                "an object, or null".to_owned()
            }
            None => "true or false".to_owned(),
        };
        ConfigError::Range { field: self.field, value: shown(self.value), allowed }
    }

    /// Says what it is, not its text, which may be secret.
    fn kind_is_wrong(&self, allowed: &str) -> ConfigError {
        let value = match self.value {
            Value::Array(_) => "a list with something else in it",
            value => kind(value),
        };
        ConfigError::Range { field: self.field, value: value.to_owned(), allowed: allowed.to_owned() }
    }

    /// Says what it is, of what cannot be secret.
    fn is_wrong(&self, allowed: &str) -> ConfigError {
        ConfigError::Range { field: self.field, value: shown(self.value), allowed: allowed.to_owned() }
    }

    fn secret(&self, value: &str) -> ConfigError {
        let allowed =
            "the real one: *** stands for a secret, which is not written when a Config is".to_owned();
        ConfigError::Range { field: self.field, value: value.to_owned(), allowed }
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A number, flag or short text itself, for anything longer what it is.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        Value::String(text) => format!("{:?}", shorten(text)),
        value => value.to_string(),
    }
}

pub(super) fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
