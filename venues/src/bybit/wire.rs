//! The outside of a message, read in one pass and borrowed. All else is skipped.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A message of any of the endpoints. Of a key that is there twice, the last one counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'m> {
    pub(super) topic: Option<&'m str>,
    /// `snapshot`, `delta`, `COMMAND_RESP`.
    pub(super) kind: Option<&'m str>,
    /// `ts`, or `creationTime` of private topics: milliseconds since the Unix epoch.
    pub(super) sent: Option<u64>,
    pub(super) update: Option<u64>,
    pub(super) op: Option<&'m str>,
    /// `req_id`, or `reqId` of orders.
    pub(super) id: Option<&'m str>,
    pub(super) success: Option<bool>,
    /// `ret_msg`, or `retMsg` of orders.
    pub(super) says: Option<&'m str>,
    pub(super) code: Option<u64>,
    /// JSON text.
    pub(super) data: Option<&'m str>,
}

impl<'m> Envelope<'m> {
    /// `None`: it is no JSON object.
    pub(super) fn read(text: &'m str) -> Option<Self> {
        let fields: Fields<'m, Data> = serde_json::from_str(text).ok()?;
        Some(fields.envelope)
    }

    /// The same with the text of the data.
    pub(super) fn with_data(text: &'m str) -> Option<Self> {
        let fields: Fields<'m, &'m RawValue> = serde_json::from_str(text).ok()?;
        Some(Envelope { data: fields.data.map(RawValue::get), ..fields.envelope })
    }
}

/// What the answer to a subscription of options lists.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Lists<'m> {
    #[serde(borrow)]
    pub(super) success_topics: Vec<Cow<'m, str>>,
}

/// An answer that refuses.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Refusal<'m> {
    #[serde(borrow, alias = "retMsg")]
    pub(super) ret_msg: Option<Cow<'m, str>>,
    #[serde(alias = "retCode")]
    pub(super) ret_code: Option<i64>,
    #[serde(borrow)]
    pub(super) data: Option<&'m RawValue>,
}

struct Fields<'m, D> {
    envelope: Envelope<'m>,
    data: Option<D>,
}

/// The update of a book.
struct Data(Option<u64>);

/// What a value of the data tells the envelope.
trait Tells {
    fn update(&self) -> Option<u64>;
}

impl Tells for Data {
    fn update(&self) -> Option<u64> {
        self.0
    }
}

impl Tells for &RawValue {
    fn update(&self) -> Option<u64> {
        None
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Key {
    #[serde(rename = "topic")]
    Topic,
    #[serde(rename = "type")]
    Type,
    #[serde(rename = "ts", alias = "creationTime")]
    Sent,
    #[serde(rename = "op")]
    Op,
    #[serde(rename = "req_id", alias = "reqId")]
    Id,
    #[serde(rename = "success")]
    Success,
    #[serde(rename = "ret_msg", alias = "retMsg")]
    Says,
    #[serde(rename = "ret_code", alias = "retCode")]
    Code,
    #[serde(rename = "data")]
    Data,
    #[serde(other)]
    Other,
}

// By hand, as a derived one refuses a key that is there twice.
impl<'de: 'm, 'm, D: Deserialize<'de> + Tells> Deserialize<'de> for Fields<'m, D> {
    fn deserialize<F: Deserializer<'de>>(from: F) -> Result<Self, F::Error> {
        struct InMessage<D>(std::marker::PhantomData<D>);
        impl<'de, D: Deserialize<'de> + Tells> Visitor<'de> for InMessage<D> {
            type Value = Fields<'de, D>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut is, mut data) = (Envelope::default(), None);
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Topic => is.topic = map.next_value::<Scalar<'_>>()?.text(),
                        Key::Type => is.kind = map.next_value::<Scalar<'_>>()?.text(),
                        Key::Sent => is.sent = map.next_value::<Scalar<'_>>()?.number(),
                        Key::Op => is.op = map.next_value::<Scalar<'_>>()?.text(),
                        Key::Id => is.id = map.next_value::<Scalar<'_>>()?.text(),
                        Key::Success => is.success = map.next_value::<Scalar<'_>>()?.truth(),
                        Key::Says => is.says = map.next_value::<Scalar<'_>>()?.text(),
                        Key::Code => is.code = map.next_value::<Scalar<'_>>()?.number(),
                        Key::Data => {
                            let value: D = map.next_value()?;
                            is.update = value.update();
                            data = Some(value);
                        }
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Fields { envelope: is, data })
            }
        }
        from.deserialize_map(InMessage(std::marker::PhantomData))
    }
}

/// A value that is a string without escapes, a whole number, or a truth; whatever else it is, is nothing, and never an error.
enum Scalar<'m> {
    Text(&'m str),
    Number(u64),
    Truth(bool),
    Nothing,
}

impl<'m> Scalar<'m> {
    fn text(self) -> Option<&'m str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    fn truth(self) -> Option<bool> {
        if let Self::Truth(truth) = self { Some(truth) } else { None }
    }
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

            fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Truth(truth))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }
        }
        from.deserialize_any(InValue)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum DataKey {
    #[serde(rename = "u")]
    Update,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InData;
        impl<'de> Visitor<'de> for InData {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("data")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut update = None;
                while let Some(key) = map.next_key()? {
                    match key {
                        DataKey::Update => update = map.next_value::<Scalar<'_>>()?.number(),
                        DataKey::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Data(update))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Data(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Data(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Data(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Data(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Data(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Data(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Data(None))
            }
        }
        from.deserialize_any(InData)
    }
}
