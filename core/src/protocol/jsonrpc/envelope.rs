//! The outside of a message: what routing needs of it, borrowed. All else is skipped, not parsed.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// A JSON-RPC object as JSON texts. Of a key that is there twice, the last one counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'m> {
    /// `null` is none.
    pub(super) id: Option<&'m str>,
    /// `null` is none. Within, its name, if it is one that can be borrowed.
    pub(super) method: Option<Option<&'m str>>,
    /// The name in the key `channel` of the parameters, unquoted.
    pub(super) topic: Option<&'m str>,
    /// `null` is none. Only [`with_params`](Self::with_params) reads it.
    pub(super) params: Option<&'m str>,
    /// `null` is a result.
    pub(super) result: Option<&'m str>,
    /// May be `null`.
    pub(super) error: Option<&'m str>,
}

impl<'m> Envelope<'m> {
    /// Reads an object, in one pass. `None`: it is none, or not JSON, or more than that.
    pub(super) fn read(text: &'m str) -> Option<Self> {
        let Fields { id, method, params: Channel(topic), result, error } = serde_json::from_str(text).ok()?;
        Some(Self { id, method, topic, params: None, result, error })
    }

    /// The same with the parameters' text, which takes a second pass over them.
    #[inline(never)] // Keeps it out of the way that most messages take, which is measurably faster.
    pub(super) fn with_params(text: &'m str) -> Option<Self> {
        let fields: Fields<'m, Option<&'m RawValue>> = serde_json::from_str(text).ok()?;
        let Fields { id, method, params, result, error } = fields;
        let params = params.map(RawValue::get);
        let Channel(topic) = params.and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default();
        Some(Self { id, method, topic, params, result, error })
    }

    /// What is answered, if this is an answer. An error wins over a result; `"error":null` is no error, and a result if nothing else is.
    pub(super) fn answer(&self) -> Option<Result<&'m str, &'m str>> {
        match (self.result, self.error) {
            (_, Some(error)) if error != "null" => Some(Err(error)),
            (result, error) => result.or(error).map(Ok),
        }
    }
}

/// Whether a text is a batch (specification section 6): an array that begins with an object and has no arrays in it. Other arrays are
/// somebody's data; and the parts of a batch are no batches.
pub(super) fn is_batch(text: &str) -> bool {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
            let first = seq.next_element::<&RawValue>()?;
            let mut batch = first.is_some_and(|first| first.get().starts_with('{'));
            while let Some(next) = seq.next_element::<&RawValue>()? {
                batch &= !next.get().starts_with('[');
            }
            Ok(batch)
        }
    }
    let mut from = serde_json::Deserializer::from_str(text);
    from.deserialize_seq(Items).is_ok_and(|batch| batch && from.end().is_ok())
}

/// The next element of an array. `cursor` is 0 or where the last one ended; at the end of the text nothing follows.
pub(super) fn next_item<'m>(text: &'m str, cursor: &mut usize) -> Option<&'m str> {
    let separator = if *cursor == 0 { '[' } else { ',' };
    let rest = trim(text.get(*cursor..)?).strip_prefix(separator).map(trim);
    // Whatever cannot be read ends it, now and for each later call.
    *cursor = text.len();
    let item = <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(rest?)).ok()?.get();
    *cursor -= rest?.len() - item.len();
    Some(item)
}

/// Whether a list of names has this one; `None` if it is no such list.
pub(super) fn names(list: &str, name: &str) -> Option<bool> {
    struct Names<'n>(&'n str);
    impl<'de> Visitor<'de> for Names<'_> {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
            let mut found = false;
            while let Some(is) = seq.next_element_seed(Is(self.0))? {
                found |= is;
            }
            Ok(found)
        }
    }
    struct Is<'n>(&'n str);
    impl<'de> DeserializeSeed<'de> for Is<'_> {
        type Value = bool;

        fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
            from.deserialize_str(self)
        }
    }
    impl Visitor<'_> for Is<'_> {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name")
        }

        fn visit_str<E>(self, name: &str) -> Result<bool, E> {
            Ok(name == self.0)
        }
    }
    let mut from = serde_json::Deserializer::from_str(list);
    from.deserialize_seq(Names(name)).ok()
}

/// The text of a string that has no escapes: one that has some is not a slice of the message.
pub(super) fn plain_string(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

/// Without JSON's white space before it, which is less than Unicode's (RFC 8259 section 2).
pub(super) fn trim(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

struct Fields<'m, P> {
    id: Option<&'m str>,
    method: Option<Option<&'m str>>,
    params: P,
    result: Option<&'m str>,
    error: Option<&'m str>,
}

// By hand, as a derived one refuses a key that is there twice.
impl<'de: 'm, 'm, P: Deserialize<'de> + Default> Deserialize<'de> for Fields<'m, P> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
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
        struct InMessage<P>(PhantomData<P>);
        impl<'de, P: Deserialize<'de> + Default> Visitor<'de> for InMessage<P> {
            type Value = Fields<'de, P>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields =
                    Fields { id: None, method: None, params: P::default(), result: None, error: None };
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Id => fields.id = map.next_value::<Option<&RawValue>>()?.map(RawValue::get),
                        Key::Method => {
                            fields.method = map.next_value::<Option<Text<'de>>>()?.map(|Text(name)| name);
                        }
                        Key::Params => fields.params = map.next_value()?,
                        Key::Result => fields.result = Some(map.next_value::<&RawValue>()?.get()),
                        Key::Error => fields.error = Some(map.next_value::<&RawValue>()?.get()),
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }
        from.deserialize_map(InMessage(PhantomData))
    }
}

/// Takes what is neither list, object nor string for nothing.
macro_rules! skip_scalars {
    () => {
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
    };
}

/// The text of a value, if it is a string without escapes. Faster than to look at a `RawValue`.
struct Text<'m>(Option<&'m str>);

impl<'de: 'm, 'm> Deserialize<'de> for Text<'m> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InText;
        impl<'de> Visitor<'de> for InText {
            type Value = Option<&'de str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Some(text))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }

            skip_scalars!();
        }
        from.deserialize_any(InText).map(Text)
    }
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
                        Key::Channel => Text(channel) = map.next_value()?,
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(channel)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }

            skip_scalars!();

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(None)
            }
        }
        from.deserialize_any(InParams).map(Channel)
    }
}
