//! What routing needs to know of a message, in one pass over it and without a copy.

use everwire_core::Sequence;
use everwire_core::protocol::RpcError;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A message of the server, of the streams or of the WebSocket API. Of a key that is there twice, the last
/// one counts.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Envelope<'m> {
    /// Of a combined stream.
    pub(super) stream: Option<&'m str>,
    /// What it says of itself, as messages of a raw stream do.
    pub(super) own: Payload<'m>,
    /// `data`, of a combined stream.
    pub(super) data: Payload<'m>,
    /// `event`, of the WebSocket API.
    pub(super) event: Option<Payload<'m>>,
    /// As it is written.
    pub(super) id: Option<&'m str>,
    pub(super) result: Option<&'m str>,
    /// `null` is none.
    pub(super) error: Option<&'m str>,
    pub(super) status: Option<u64>,
    /// Whether there are a `code` and a `msg`: an error of the streams.
    pub(super) code: bool,
    pub(super) msg: bool,
}

impl<'m> Envelope<'m> {
    /// `None`: it is no JSON object.
    pub(super) fn read(text: &'m str) -> Option<Self> {
        let mut from = serde_json::Deserializer::from_str(text);
        let envelope = from.deserialize_map(InEnvelope).ok()?;
        from.end().ok().map(|()| envelope)
    }

    /// The id, if it is one of ours, which are numbers.
    pub(super) fn own_id(&self) -> Option<u64> {
        self.id?.parse().ok()
    }
}

/// What an event says about its place in time and in its stream.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Payload<'m> {
    /// `e`.
    pub(super) kind: Option<&'m str>,
    /// `E`.
    time: Option<u64>,
    /// `U`, `u` and `pu`.
    first: Option<u64>,
    last: Option<u64>,
    previous: Option<u64>,
}

impl<'m> Payload<'m> {
    /// Times are in milliseconds, or with `timeUnit=microsecond` in microseconds. The same number of one is a
    /// thousand times the other, so it tells which it is: no time of day in milliseconds is as large until
    /// the year 5138, none in microseconds as small since 1973.
    pub(super) fn sent(&self) -> Option<Duration> {
        const SMALLEST_IN_MICROSECONDS: u64 = 100_000_000_000_000;
        self.time.map(|time| match time {
            SMALLEST_IN_MICROSECONDS.. => Duration::from_micros(time),
            _ => Duration::from_millis(time),
        })
    }

    /// The numbers of a diff depth event.
    pub(super) fn sequence(&self) -> Option<Sequence> {
        let sequence = Sequence::range(self.first?, self.last?);
        Some(match self.previous {
            Some(previous) => sequence.previous(previous),
            None => sequence,
        })
    }
}

/// An error of the streams, `{"code":2,"msg":"..."}`, or one of the WebSocket API, which has such an object
/// as `error`. What more there is to an answer of the API is its data.
pub(super) fn read_error(text: &str) -> RpcError<'_> {
    #[derive(Deserialize, Default)]
    struct Parts<'a> {
        code: Option<i64>,
        #[serde(borrow)]
        msg: Option<Cow<'a, str>>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let parts = |text| serde_json::from_str::<Parts<'_>>(text).unwrap_or_default();
    let outer = parts(text);
    let (inner, data) = match outer.error {
        Some(error) => (parts(error.get()), Some(text)),
        None => (outer, None),
    };
    RpcError { code: inner.code.unwrap_or(0), message: inner.msg.unwrap_or(Cow::Borrowed(text)), data }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Key {
    #[serde(rename = "stream")]
    Stream,
    #[serde(rename = "data")]
    Data,
    #[serde(rename = "event")]
    Event,
    #[serde(rename = "id")]
    Id,
    #[serde(rename = "result")]
    Result,
    #[serde(rename = "error")]
    Error,
    #[serde(rename = "status")]
    Status,
    #[serde(rename = "code")]
    Code,
    #[serde(rename = "msg")]
    Msg,
    #[serde(rename = "e")]
    Kind,
    #[serde(rename = "E")]
    Time,
    #[serde(rename = "U")]
    First,
    #[serde(rename = "u")]
    Last,
    #[serde(rename = "pu")]
    Previous,
    #[serde(rename = "b", alias = "a")]
    Levels,
    #[serde(other)]
    Other,
}

struct InEnvelope;

impl<'de> Visitor<'de> for InEnvelope {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut it = Envelope::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Stream => it.stream = map.next_value::<Scalar<'de>>()?.text(),
                Key::Data => it.data = map.next_value()?,
                Key::Event => it.event = Some(map.next_value()?),
                Key::Id => it.id = Some(map.next_value::<&RawValue>()?.get()),
                Key::Result => it.result = Some(map.next_value::<&RawValue>()?.get()),
                Key::Error => it.error = map.next_value::<Option<&RawValue>>()?.map(RawValue::get),
                Key::Status => it.status = map.next_value::<Scalar<'de>>()?.number(),
                Key::Code => it.code = map.next_value().map(|IgnoredAny| true)?,
                Key::Msg => it.msg = map.next_value().map(|IgnoredAny| true)?,
                key => it.own.take(&key, &mut map)?,
            }
        }
        Ok(it)
    }
}

impl<'de> Payload<'de> {
    fn take<A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error> {
        match key {
            Key::Kind => self.kind = map.next_value::<Scalar<'de>>()?.text(),
            Key::Time => self.time = map.next_value::<Scalar<'de>>()?.number(),
            Key::First => self.first = map.next_value::<Scalar<'de>>()?.number(),
            Key::Last => self.last = map.next_value::<Scalar<'de>>()?.number(),
            Key::Previous => self.previous = map.next_value::<Scalar<'de>>()?.number(),
            // Lists of lists: passed over one by one, which `serde_json` does without allocating.
            Key::Levels => _ = map.next_value::<Scalar<'de>>()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Takes all that has nothing to say, as nothing.
macro_rules! nothing {
    ($nothing:expr; $($visit:ident($type:ty)),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok($nothing)
        })*

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($nothing)
        }
    };
}

// Some streams have lists for `data`.
impl<'de: 'm, 'm> Deserialize<'de> for Payload<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InPayload;
        impl<'de> Visitor<'de> for InPayload {
            type Value = Payload<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut payload = Payload::default();
                while let Some(key) = map.next_key()? {
                    payload.take(&key, &mut map)?;
                }
                Ok(payload)
            }

            nothing!(Payload::default(); visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
        }
        from.deserialize_any(InPayload)
    }
}

/// A text without escapes, a number, or whatever else.
enum Scalar<'m> {
    Text(&'m str),
    Number(u64),
    Other,
}

impl<'m> Scalar<'m> {
    fn text(self) -> Option<&'m str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Scalar<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InScalar;
        impl<'de> Visitor<'de> for InScalar {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            nothing!(Scalar::Other; visit_bool(bool), visit_i64(i64), visit_f64(f64), visit_str(&str));
        }
        from.deserialize_any(InScalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn reads_what_is_there_and_skips_what_is_odd() {
        let text = r#"{"stream":"a@depth","data":{"e":"depthUpdate","E":1672515782136,"s":"A","U":157,"u":160,"pu":149,"b":[["1","2"]],"a":[]}}"#;
        let read = Envelope::read(text).unwrap();
        assert_eq!((read.stream, read.data.kind), (Some("a@depth"), Some("depthUpdate")));
        assert_eq!(read.data.sequence(), Some(Sequence::range(157, 160).previous(149)));
        assert_eq!(read.data.sent(), Some(Duration::from_millis(1_672_515_782_136)));
        // Keys of another type, twice, or with escapes.
        for (text, expected) in [
            (r#"{"stream":5,"data":[{"e":"x"},1]}"#, Envelope::default()),
            (r#"{"stream":"a\u0040b","data":"x"}"#, Envelope::default()),
            (r#"{"stream":"a","stream":"b"}"#, Envelope { stream: Some("b"), ..Envelope::default() }),
            (
                r#"{"stream":null,"status":-1,"id":null}"#,
                Envelope { id: Some("null"), ..Envelope::default() },
            ),
            // As JSON-RPC 1.0 has it: no error.
            (
                r#"{"id":1,"result":{},"error":null}"#,
                Envelope { id: Some("1"), result: Some("{}"), ..Envelope::default() },
            ),
            (r#" {"x":{"stream":"a"},"status":200} "#, Envelope { status: Some(200), ..Envelope::default() }),
        ] {
            assert_eq!(Envelope::read(text), Some(expected), "{text}");
        }
        for text in ["", "[]", "null", "{", r#"{"stream":"a"} x"#, r#"{"stream":"a",}"#, "\u{feff}{}"] {
            assert_eq!(Envelope::read(text), None, "{text}");
        }
    }

    #[test]
    fn times_tell_their_unit() {
        let sent = |time: u64| Payload { time: Some(time), ..Payload::default() }.sent().unwrap();
        assert_eq!(sent(1_672_515_782_136), sent(1_672_515_782_136_000));
        assert_eq!(sent(1_672_515_782_136_789), Duration::from_micros(1_672_515_782_136_789));
        let _ = (sent(0), sent(u64::MAX));
    }

    #[test]
    fn errors_of_both_kinds() {
        let flat = read_error(r#"{"code":2,"msg":"Invalid request: invalid stream","id":4}"#);
        assert_eq!((flat.code, &*flat.message, flat.data), (2, "Invalid request: invalid stream", None));
        let whole = r#"{"id":1,"status":400,"error":{"code":-2010,"msg":"no \"funds\""}}"#;
        let nested = read_error(whole);
        assert_eq!((nested.code, &*nested.message, nested.data), (-2010, "no \"funds\"", Some(whole)));
        for odd in ["", "x", "[]", "{}", r#"{"error":5}"#, r#"{"code":"x"}"#] {
            assert_eq!((read_error(odd).code, &*read_error(odd).message), (0, odd));
        }
    }

    /// What is found is what `serde_json::Value` finds, in texts of every make.
    #[test]
    fn finds_what_a_value_tree_finds() {
        let mut rng = crate::binance::testing::Dice::new(7);
        let mut found = 0;
        for _ in 0..20_000 {
            let text = crate::binance::testing::message(&mut rng);
            let tree: Option<Value> = serde_json::from_str(&text).ok().filter(Value::is_object);
            let read = Envelope::read(&text);
            // What is skipped over is not looked at as closely: a number that is out of range, for one.
            assert!(read.is_some() || tree.is_none(), "{text}");
            let (Some(read), Some(tree)) = (read, tree) else { continue };
            found += 1;
            // One with escapes is none.
            if let Some(stream) = read.stream {
                assert_eq!(json!(stream), tree["stream"], "{text}");
            }
            if tree["stream"].is_string() && !text.contains('\\') {
                assert!(read.stream.is_some(), "{text}");
            }
            for (payload, at) in [(read.data, &tree["data"]), (read.own, &tree)] {
                let number = |key: &str| at[key].as_u64();
                assert_eq!((payload.first, payload.last), (number("U"), number("u")), "{text}");
                assert_eq!((payload.previous, payload.time), (number("pu"), number("E")), "{text}");
            }
            assert_eq!(read.own_id().is_some(), tree["id"].is_u64(), "{text}");
            for (part, key) in [(read.result, "result"), (read.error, "error")] {
                let part = part.map(|part| serde_json::from_str::<Value>(part).unwrap());
                let expected = tree.get(key).filter(|value| key == "result" || !value.is_null());
                assert_eq!(part.as_ref(), expected, "{text}");
            }
        }
        assert!(found > 5_000, "{found} of them were messages at all");
    }
}
