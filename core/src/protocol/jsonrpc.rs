//! JSON-RPC 2.0 with subscriptions by channel name.

use super::{Ack, Inbound, Protocol, Request, Topic, Unsupported};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>), with subscriptions in the shape that is most common on it:
///
/// ```json
/// {"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"channels":["a","b"]}}
/// {"jsonrpc":"2.0","id":1,"result":["a","b"]}
/// {"jsonrpc":"2.0","method":"subscription","params":{"channel":"a","data":1}}
/// ```
///
/// A result that is a list confirms the channels that it names; any other result confirms all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonRpc {
    subscribe: String,
    unsubscribe: String,
    batch: usize,
}

impl Default for JsonRpc {
    fn default() -> Self {
        Self { subscribe: "subscribe".into(), unsubscribe: "unsubscribe".into(), batch: 100 }
    }
}

impl JsonRpc {
    /// With methods named `subscribe` and `unsubscribe`, and up to 100 channels in each call.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the methods that subscribe and unsubscribe, such as `public/subscribe` and `public/unsubscribe`.
    pub fn methods(self, subscribe: impl Into<String>, unsubscribe: impl Into<String>) -> Self {
        Self { subscribe: subscribe.into(), unsubscribe: unsubscribe.into(), ..self }
    }

    /// Most channels in one call; at least 1. Default 100.
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { batch: max.max(1), ..self }
    }

    fn channels(method: &str, id: u64, topics: &[&Topic], out: &mut String) -> Ack {
        out.push_str(r#"{"jsonrpc":"2.0","id":"#);
        out.push_str(&id.to_string());
        out.push_str(r#","method":"#);
        push_json(method, out);
        out.push_str(r#","params":{"channels":["#);
        for (i, topic) in topics.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            push_json(topic.name(), out);
        }
        out.push_str("]}}");
        Ack::Response
    }
}

/// Only what routing needs; everything else in the message is skipped, not parsed.
#[derive(Deserialize)]
struct Envelope<'m> {
    #[serde(borrow, default)]
    id: Option<&'m RawValue>,
    #[serde(default)]
    method: Option<IgnoredAny>,
    #[serde(borrow, default)]
    params: Channel<'m>,
    // `null` is a result; only absence is none.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'m RawValue>,
    #[serde(borrow, default)]
    error: Option<&'m RawValue>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// The channel that parameters name, whatever else they are.
#[derive(Default)]
struct Channel<'m>(Option<&'m str>);

impl<'de: 'm, 'm> Deserialize<'de> for Channel<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Key {
            Channel,
            #[serde(other)]
            Other,
        }
        struct InParams;
        impl<'de> Visitor<'de> for InParams {
            type Value = Option<&'de str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut channel = None;
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Channel => channel = plain_string(map.next_value()?),
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(channel)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(None)
            }
        }
        from.deserialize_any(InParams).map(Channel)
    }
}

/// The string that a JSON value is, if it has no escapes: a topic that the user named has none.
fn plain_string(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

impl Protocol for JsonRpc {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let nothing = Inbound::data(None);
        let Ok(envelope) = serde_json::from_str::<Envelope<'m>>(text) else { return nothing };
        match envelope {
            Envelope { method: Some(_), params: Channel(topic), .. } => Inbound::data(topic),
            Envelope { method: None, id: Some(id), result, error, .. } => {
                let result = match (result, error) {
                    (_, Some(error)) => Err(error.get()),
                    (Some(result), None) => Ok(result.get()),
                    (None, None) => return nothing,
                };
                // Ids of ours are numbers; whatever else it is, somebody else asked.
                id.get().parse().map_or(nothing, |id| Inbound::Response { id, result })
            }
            _ => nothing,
        }
    }

    fn request(&self, id: u64, request: &Request<'_>, out: &mut String) -> Result<(), Unsupported> {
        out.push_str(r#"{"jsonrpc":"2.0","id":"#);
        out.push_str(&id.to_string());
        out.push_str(r#","method":"#);
        push_json(request.method, out);
        if let Some(params) = request.params {
            let structured =
                serde_json::from_str::<&RawValue>(params).is_ok_and(|raw| raw.get().starts_with(['{', '[']));
            if !structured {
                let reason = format!("request {:?}: params must be a JSON object or array", request.method);
                return Err(Unsupported { reason });
            }
            out.push_str(r#","params":"#);
            out.push_str(params);
        }
        out.push('}');
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.batch
    }

    fn subscribe(&self, id: u64, topics: &[&Topic], out: &mut String) -> Ack {
        Self::channels(&self.subscribe, id, topics, out)
    }

    fn unsubscribe(&self, id: u64, topics: &[&Topic], out: &mut String) -> Ack {
        Self::channels(&self.unsubscribe, id, topics, out)
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        match serde_json::from_str::<Vec<Cow<'_, str>>>(result) {
            Ok(channels) => channels.iter().any(|channel| channel == topic.name()),
            Err(_) => true,
        }
    }
}

fn push_json(text: &str, out: &mut String) {
    // Cannot fail: a string has no map keys that are not strings, and a `String` takes every write.
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The error object of a JSON-RPC response (specification section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError<'a> {
    /// The error's number; 0 if the object has none.
    pub code: i64,
    /// A short description; the object's text if it has none.
    pub message: Cow<'a, str>,
    /// More, as JSON text.
    pub data: Option<&'a str>,
}

impl<'a> RpcError<'a> {
    /// Reads an error object; whatever is missing in it is taken as the fields say.
    pub fn parse(json: &'a str) -> Self {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(default)]
            code: i64,
            #[serde(borrow)]
            message: Cow<'a, str>,
            #[serde(borrow, default)]
            data: Option<&'a RawValue>,
        }
        match serde_json::from_str::<Object<'a>>(json) {
            Ok(Object { code, message, data }) => Self { code, message, data: data.map(RawValue::get) },
            Err(_) => Self { code: 0, message: Cow::Borrowed(json), data: None },
        }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> OwnedRpcError {
        OwnedRpcError {
            code: self.code,
            message: self.message.into_owned(),
            data: self.data.map(str::to_owned),
        }
    }
}

impl fmt::Display for RpcError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

/// [`RpcError`], owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRpcError {
    /// The error's number; 0 if the object has none.
    pub code: i64,
    /// A short description; the object's text if it has none.
    pub message: String,
    /// More, as JSON text.
    pub data: Option<String>,
}

impl fmt::Display for OwnedRpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for OwnedRpcError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies() {
        let nothing = Inbound::data(None);
        let topic = |name| Inbound::data(Some(name));
        for (text, want) in [
            (
                r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#,
                Inbound::Response { id: 7, result: Ok(r#"{"a":1}"#) },
            ),
            (r#"{"id":7,"result":null}"#, Inbound::Response { id: 7, result: Ok("null") }),
            (
                r#"{"id":7,"error":{"code":1,"message":"x"}}"#,
                Inbound::Response { id: 7, result: Err(r#"{"code":1,"message":"x"}"#) },
            ),
            (r#"{"id":7,"result":1,"error":null}"#, Inbound::Response { id: 7, result: Ok("1") }),
            (
                r#"{"method":"subscription","params":{"channel":"a.b","data":[1,{"channel":"no"}]}}"#,
                topic("a.b"),
            ),
            (r#"{"params":{"data":{},"channel":"late"},"method":"subscription"}"#, topic("late")),
            (r#"{"method":"n","params":["a"]}"#, nothing),
            (r#"{"method":"n","params":null}"#, nothing),
            (r#"{"method":"n","params":3}"#, nothing),
            (r#"{"method":"n","params":"channel"}"#, nothing),
            (r#"{"method":"n","params":{"channel":5}}"#, nothing),
            (r#"{"method":"n","params":{"channel":"a\u0062"}}"#, nothing),
            (r#"{"id":"seven","result":1}"#, nothing),
            (r#"{"id":7.5,"result":1}"#, nothing),
            (r#"{"id":-7,"result":1}"#, nothing),
            (r#"{"id":7}"#, nothing),
            (r#"{"id":null,"error":{"code":-32700,"message":"Parse error"}}"#, nothing),
            (r#"{"id":9,"method":"ask","params":{}}"#, nothing),
            (r#"[{"id":1,"result":1}]"#, nothing),
            ("not json", nothing),
            ("", nothing),
        ] {
            assert_eq!(JsonRpc::new().classify(text), want, "{text}");
        }
    }

    #[test]
    fn builds_valid_json() {
        let rpc = JsonRpc::new().methods("public/\"sub", "public/unsubscribe");
        let mut out = String::new();
        assert_eq!(rpc.subscribe(3, &[&Topic::new("a\nb"), &Topic::new("c")], &mut out), Ack::Response);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["id"], 3);
        assert_eq!(value["method"], "public/\"sub");
        assert_eq!(value["params"]["channels"], serde_json::json!(["a\nb", "c"]));
        out.clear();
        rpc.request(4, &Request::new("m").params(r#"{"x":[1]}"#), &mut out).unwrap();
        assert_eq!(out, r#"{"jsonrpc":"2.0","id":4,"method":"m","params":{"x":[1]}}"#);
        out.clear();
        rpc.request(5, &Request::new("m"), &mut out).unwrap();
        assert_eq!(out, r#"{"jsonrpc":"2.0","id":5,"method":"m"}"#);
    }

    #[test]
    fn params_that_would_break_the_message_are_refused() {
        for bad in ["", "1", "\"x\"", "{", "{},\"id\":5", "nonsense"] {
            let mut out = String::new();
            assert!(JsonRpc::new().request(1, &Request::new("m").params(bad), &mut out).is_err(), "{bad}");
        }
    }

    #[test]
    fn results_confirm() {
        let rpc = JsonRpc::new();
        assert!(rpc.confirms(r#"["a","b"]"#, &Topic::new("a")));
        assert!(!rpc.confirms(r#"["a","b"]"#, &Topic::new("c")));
        assert!(!rpc.confirms("[]", &Topic::new("c")));
        assert!(rpc.confirms("\"ok\"", &Topic::new("c")));
        assert!(rpc.confirms("null", &Topic::new("c")));
    }

    #[test]
    fn errors_are_read_leniently() {
        let error = RpcError::parse(r#"{"code":10028,"message":"too_many_requests","data":{"x":1}}"#);
        assert_eq!(
            (error.code, &*error.message, error.data),
            (10028, "too_many_requests", Some(r#"{"x":1}"#))
        );
        assert_eq!(RpcError::parse("\"bad\"").message, "\"bad\"");
        assert_eq!(RpcError::parse(r#"{"code":5}"#).code, 0);
    }
}
