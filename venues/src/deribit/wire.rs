//! The outside of a message, read in one pass and borrowed. All else is skipped.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A message. Of a key that is there twice, the last one counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'m> {
    /// JSON text; `null` is none.
    pub(super) id: Option<&'m str>,
    /// `null`, and one that cannot be borrowed, is none.
    pub(super) method: Option<&'m str>,
    pub(super) params: Params<'m>,
    /// JSON text.
    pub(super) result: Option<&'m str>,
    /// JSON text; `null` is none.
    pub(super) error: Option<&'m str>,
}

/// What a notification has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Params<'m> {
    pub(super) channel: Option<&'m str>,
    /// Of a heartbeat.
    pub(super) kind: Option<&'m str>,
    pub(super) data: Data<'m>,
}

/// What is read of a notification's data; of a list, of the last in it that has a timestamp.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Data<'m> {
    /// Milliseconds since the Unix epoch.
    pub(super) timestamp: Option<u64>,
    pub(super) change_id: Option<u64>,
    pub(super) prev_change_id: Option<u64>,
    /// `snapshot` or `change`, of a book.
    pub(super) kind: Option<&'m str>,
}

/// The result of `public/auth`.
#[derive(Deserialize)]
pub(super) struct Tokens<'m> {
    #[serde(borrow)]
    pub(super) access_token: Cow<'m, str>,
    #[serde(borrow, default)]
    pub(super) refresh_token: Option<Cow<'m, str>>,
    /// Seconds.
    #[serde(default)]
    pub(super) expires_in: Option<u64>,
}

impl<'m> Envelope<'m> {
    /// `None`: it is no JSON object.
    pub(super) fn read(text: &'m str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl<'m> Tokens<'m> {
    /// `None`: it is no such result.
    pub(super) fn read(result: &'m str) -> Option<Self> {
        serde_json::from_str(result).ok()
    }
}

/// Whether a list of names has this one. What is no list of names has none.
pub(super) fn names(list: &str, name: &str) -> bool {
    let names: Result<Vec<Cow<'_, str>>, _> = serde_json::from_str(list);
    names.is_ok_and(|names| names.iter().any(|known| known == name))
}

/// What an object of parameters is: whether it has a key of this name, and whether it has any. `None` if it is no object.
pub(super) fn keys(object: &str, name: &str) -> Option<(bool, bool)> {
    struct Keys<'n>(&'n str);
    impl<'de> Visitor<'de> for Keys<'_> {
        type Value = (bool, bool);

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut has, mut any) = (false, false);
            while let Some((key, _)) = map.next_entry::<Cow<'de, str>, IgnoredAny>()? {
                (has, any) = (has || key == self.0, true);
            }
            Ok((has, any))
        }
    }
    let mut from = serde_json::Deserializer::from_str(object);
    let found = from.deserialize_map(Keys(name)).ok()?;
    from.end().ok().map(|()| found)
}

/// A value that is a string without escapes or a whole number; whatever else it is, is nothing, and never an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar<'m> {
    Text(&'m str),
    Number(u64),
    Nothing,
}

impl<'m> Scalar<'m> {
    fn text(self) -> Option<&'m str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

/// The visits in which there is nothing to be read.
macro_rules! nothing_in {
    ($nothing:expr => $($visit:ident($kind:ty)),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok($nothing)
        })*

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

/// A list is passed over.
macro_rules! skip_list {
    ($nothing:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($nothing)
        }
    };
}

impl<'de: 'm, 'm> Deserialize<'de> for Scalar<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InValue;
        impl<'de> Visitor<'de> for InValue {
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
                Ok(Scalar::Nothing)
            }

            skip_list!(Scalar::Nothing);
            nothing_in!(Scalar::Nothing => visit_bool(bool), visit_i64(i64), visit_f64(f64), visit_str(&str));
        }
        from.deserialize_any(InValue)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Id,
    Method,
    Params,
    Result,
    Error,
    #[serde(other)]
    Other,
}

// By hand, as a derived one refuses a key that is there twice.
impl<'de: 'm, 'm> Deserialize<'de> for Envelope<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InMessage;
        impl<'de> Visitor<'de> for InMessage {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Id => envelope.id = map.next_value::<Option<&RawValue>>()?.map(RawValue::get),
                        Key::Method => envelope.method = map.next_value::<Scalar<'_>>()?.text(),
                        Key::Params => envelope.params = map.next_value()?,
                        Key::Result => envelope.result = Some(map.next_value::<&RawValue>()?.get()),
                        Key::Error => {
                            envelope.error = map.next_value::<Option<&RawValue>>()?.map(RawValue::get);
                        }
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(envelope)
            }
        }
        from.deserialize_map(InMessage)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum ParamsKey {
    Channel,
    Type,
    Data,
    #[serde(other)]
    Other,
}

impl<'de: 'm, 'm> Deserialize<'de> for Params<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InParams;
        impl<'de> Visitor<'de> for InParams {
            type Value = Params<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut params = Params::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        ParamsKey::Channel => params.channel = map.next_value::<Scalar<'_>>()?.text(),
                        ParamsKey::Type => params.kind = map.next_value::<Scalar<'_>>()?.text(),
                        ParamsKey::Data => params.data = map.next_value()?,
                        ParamsKey::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(params)
            }

            skip_list!(Params::default());
            nothing_in!(Params::default() => visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64),
                visit_str(&str));
        }
        from.deserialize_any(InParams)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum DataKey {
    Timestamp,
    ChangeId,
    PrevChangeId,
    Type,
    Bids,
    Asks,
    #[serde(other)]
    Other,
}

fn data_of<'de, A: MapAccess<'de>>(mut map: A) -> Result<Data<'de>, A::Error> {
    let mut data = Data::default();
    while let Some(key) = map.next_key()? {
        match key {
            DataKey::Timestamp => data.timestamp = map.next_value::<Scalar<'_>>()?.number(),
            DataKey::ChangeId => data.change_id = map.next_value::<Scalar<'_>>()?.number(),
            DataKey::PrevChangeId => data.prev_change_id = map.next_value::<Scalar<'_>>()?.number(),
            DataKey::Type => data.kind = map.next_value::<Scalar<'_>>()?.text(),
            // Lists of lists: passed over one by one, which `serde_json` does without allocating.
            DataKey::Bids | DataKey::Asks => _ = map.next_value::<Scalar<'_>>()?,
            DataKey::Other => drop(map.next_value::<IgnoredAny>()?),
        }
    }
    Ok(data)
}

impl<'de: 'm, 'm> Deserialize<'de> for Data<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InData;
        impl<'de> Visitor<'de> for InData {
            type Value = Data<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("data")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                data_of(map)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut last = Data::default();
                while let Some(Element(data)) = seq.next_element()? {
                    if data.timestamp.is_some() {
                        last = data;
                    }
                }
                Ok(last)
            }

            nothing_in!(Data::default() => visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64),
                visit_str(&str));
        }
        from.deserialize_any(InData)
    }
}

/// One of a list of data. Lists within it are passed over: data that are nested without end are no reason to nest calls.
struct Element<'m>(Data<'m>);

impl<'de: 'm, 'm> Deserialize<'de> for Element<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InElement;
        impl<'de> Visitor<'de> for InElement {
            type Value = Data<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("data")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                data_of(map)
            }

            skip_list!(Data::default());
            nothing_in!(Data::default() => visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64),
                visit_str(&str));
        }
        from.deserialize_any(InElement).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_with_and_without_escapes() {
        let tokens =
            Tokens::read(r#"{"access_token":"a\/b","expires_in":900,"scope":"connection"}"#).unwrap();
        assert_eq!((&*tokens.access_token, tokens.expires_in), ("a/b", Some(900)));
        assert!(tokens.refresh_token.is_none());
        assert!(Tokens::read("{}").is_none() && Tokens::read("\"ok\"").is_none());
    }

    #[test]
    fn lists_name_what_they_name() {
        assert!(names(r#"["a","b"]"#, "b") && names(r#"["\u0062"]"#, "b"));
        assert!(!names(r#"["a"]"#, "b") && !names("\"ok\"", "ok") && !names("[1]", "1") && !names("", ""));
    }

    #[test]
    fn keys_of_objects() {
        assert_eq!(keys("{}", "a"), Some((false, false)));
        assert_eq!(keys(r#" {"b":{"a":1}} "#, "a"), Some((false, true)));
        assert_eq!(keys(r#"{"b":1,"\u0061":2}"#, "a"), Some((true, true)));
        for bad in ["", "[]", "{} {}", "{", "null"] {
            assert_eq!(keys(bad, "a"), None, "{bad}");
        }
    }

    #[test]
    fn whatever_the_values_are_the_rest_is_read() {
        let odd = [
            "null",
            "true",
            "-1",
            "1.5",
            "1e400",
            "\"a\\n\"",
            "[[1],{}]",
            "{\"a\":{\"timestamp\":1}}",
            "18446744073709551616",
        ];
        for odd in odd {
            let text = format!(
                r#"{{"method":"subscription","params":{{"type":{odd},"data":{{"timestamp":{odd},"change_id":7,"type":{odd}}},"x":{odd},"channel":"c"}}}}"#
            );
            let Some(envelope) = Envelope::read(&text) else {
                assert_eq!(odd, "1e400", "no number that serde_json reads");
                continue;
            };
            assert_eq!(
                (envelope.method, envelope.params.channel),
                (Some("subscription"), Some("c")),
                "{odd}"
            );
            assert_eq!(envelope.params.data, Data { change_id: Some(7), ..Data::default() }, "{odd}");
            for text in
                [format!(r#"{{"params":{odd},"id":1}}"#), format!(r#"{{"params":{{"data":{odd}}},"id":1}}"#)]
            {
                assert_eq!(Envelope::read(&text).unwrap().id, Some("1"), "{text}");
            }
        }
    }
}
