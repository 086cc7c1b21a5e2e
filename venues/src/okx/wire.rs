//! What routing needs to know of a message, in one pass over it and without a copy.

use everwire_core::Sequence;
use everwire_core::protocol::{Name, RpcError};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A message of the server. Of a key that is there twice, the last one counts.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Envelope<'m> {
    pub(super) event: Option<&'m str>,
    pub(super) op: Option<&'m str>,
    pub(super) id: Option<&'m str>,
    pub(super) code: Option<&'m str>,
    pub(super) msg: Option<&'m str>,
    pub(super) arg: Option<Arg<'m>>,
    pub(super) data: Data,
}

impl<'m> Envelope<'m> {
    /// `None`: it is no JSON object.
    pub(super) fn read(text: &'m str) -> Option<Self> {
        let mut from = serde_json::Deserializer::from_str(text);
        let envelope = from.deserialize_map(In::<Self>::new()).ok()?;
        from.end().ok().map(|()| envelope)
    }

    /// The id, if it is one of ours, which are numbers in quotes.
    pub(super) fn own_id(&self) -> Option<u64> {
        let id = self.id?;
        // Rust's own reading allows a sign.
        id.parse().ok().filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// What a subscription is of.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Arg<'m> {
    channel: Option<&'m str>,
    inst_type: Option<&'m str>,
    inst_family: Option<&'m str>,
    inst_id: Option<&'m str>,
}

impl<'m> Arg<'m> {
    /// The topic's name: channel, type, family and instrument, those of them that there are.
    pub(super) fn name(&self) -> Option<Name<'m>> {
        let mut parts = [self.channel?; Name::PARTS];
        let mut count = 1;
        for part in [self.inst_type, self.inst_family, self.inst_id].into_iter().flatten() {
            if !part.is_empty() {
                parts[count] = part;
                count += 1;
            }
        }
        Some(Name::of(&parts[..count]))
    }

    /// Whether its events are numbered in a chain.
    pub(super) fn is_book(&self) -> bool {
        self.channel.is_some_and(is_book)
    }
}

/// Whether this channel has a snapshot first and then changes of it, each of which names the one before.
pub(super) fn is_book(channel: &str) -> bool {
    matches!(channel, "books" | "books-l2-tbt" | "books50-l2-tbt" | "books-rpi")
}

/// What the first of the data says about its place in time and in its topic.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Data {
    /// In milliseconds.
    ts: Option<u64>,
    seq_id: Option<u64>,
    /// -1 for a snapshot, which comes after nothing.
    prev_seq_id: Option<i64>,
}

impl Data {
    pub(super) fn sent(&self) -> Option<Duration> {
        self.ts.map(Duration::from_millis)
    }

    pub(super) fn sequence(&self) -> Option<Sequence> {
        let sequence = Sequence::new(self.seq_id?);
        Some(match u64::try_from(self.prev_seq_id?) {
            Ok(previous) => sequence.previous(previous),
            Err(_) => sequence.snapshot(),
        })
    }
}

/// An error: of an operation on orders, the first of those of its parts that says more.
pub(super) fn read_error(text: &str) -> RpcError<'_> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Parts<'a> {
        #[serde(borrow)]
        code: Option<Cow<'a, str>>,
        #[serde(borrow)]
        msg: Option<Cow<'a, str>>,
        #[serde(borrow)]
        data: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part<'a> {
        #[serde(borrow)]
        s_code: Cow<'a, str>,
        #[serde(borrow)]
        s_msg: Cow<'a, str>,
    }
    let Parts { code, msg, data } = serde_json::from_str(text).unwrap_or_default();
    let number = |code: Option<Cow<'_, str>>| code.and_then(|code| code.parse().ok()).unwrap_or(0);
    let part =
        data.into_iter().flatten().filter_map(|part| serde_json::from_str::<Part<'_>>(part.get()).ok());
    let (code, message) = match part.into_iter().find(|part| part.s_code != "0") {
        Some(Part { s_code, s_msg }) => (number(Some(s_code)), s_msg),
        None => (number(code), msg.unwrap_or(Cow::Borrowed(text))),
    };
    RpcError { code, message, data: Some(text) }
}

/// Reads an object into a `T`, and whatever else as an empty one.
struct In<T>(std::marker::PhantomData<T>);

impl<T> In<T> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

trait Object<'de>: Default {
    fn take<A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: Object<'de>> Visitor<'de> for In<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut it = T::default();
        while let Some(key) = map.next_key()? {
            it.take(&key, &mut map)?;
        }
        Ok(it)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    Event,
    Op,
    Id,
    Code,
    Msg,
    Arg,
    Data,
    Channel,
    InstType,
    InstFamily,
    InstId,
    Ts,
    SeqId,
    PrevSeqId,
    #[serde(other)]
    Other,
}

impl<'de> Object<'de> for Envelope<'de> {
    fn take<A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error> {
        match key {
            Key::Event => self.event = text(map)?,
            Key::Op => self.op = text(map)?,
            Key::Id => self.id = text(map)?,
            Key::Code => self.code = text(map)?,
            Key::Msg => self.msg = text(map)?,
            // What is of another type says nothing.
            Key::Arg => self.arg = map.next_value::<Any<Arg<'de>>>()?.0,
            Key::Data => self.data = map.next_value::<First>()?.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Object<'de> for Arg<'de> {
    fn take<A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error> {
        match key {
            Key::Channel => self.channel = text(map)?,
            Key::InstType => self.inst_type = text(map)?,
            Key::InstFamily => self.inst_family = text(map)?,
            Key::InstId => self.inst_id = text(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Object<'de> for Data {
    fn take<A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error> {
        match key {
            Key::Ts => self.ts = text(map)?.and_then(|ts| ts.parse().ok()),
            Key::SeqId => self.seq_id = number(map)?.and_then(|number| u64::try_from(number).ok()),
            Key::PrevSeqId => self.prev_seq_id = number(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// A text without escapes.
fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<&'de str>, A::Error> {
    let Any(scalar) = map.next_value::<Any<Scalar<'de>>>()?;
    Ok(match scalar {
        Some(Scalar::Text(text)) => Some(text),
        _ => None,
    })
}

fn number<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<i64>, A::Error> {
    let Any(scalar) = map.next_value::<Any<Scalar<'de>>>()?;
    Ok(match scalar {
        Some(Scalar::Number(number)) => Some(number),
        _ => None,
    })
}

/// A value of whatever type: `None` if it is not of that which is wanted.
struct Any<T>(Option<T>);

enum Scalar<'m> {
    Text(&'m str),
    Number(i64),
}

/// Takes what is not wanted as nothing.
macro_rules! nothing {
    ($nothing:expr; $($visit:ident($type:ty)),*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok($nothing)
        })*

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

impl<'de: 'm, 'm> Deserialize<'de> for Any<Scalar<'m>> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InScalar;
        impl<'de> Visitor<'de> for InScalar {
            type Value = Any<Scalar<'de>>;

            nothing!(Any(None); visit_bool(bool), visit_f64(f64), visit_str(&str));

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Any(Some(Scalar::Text(text))))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Any(Some(Scalar::Number(number))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Any(i64::try_from(number).ok().map(Scalar::Number)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Any(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Any(None))
            }
        }
        from.deserialize_any(InScalar)
    }
}

/// An object, or nothing.
struct InAny<T>(In<T>);

impl<'de, T: Object<'de>> Visitor<'de> for InAny<T> {
    type Value = Any<T>;

    nothing!(Any(None); visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Any(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(map).map(|it| Any(Some(it)))
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Any<Arg<'m>> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(InAny(In::<Arg<'de>>::new()))
    }
}

impl<'de> Deserialize<'de> for Any<Data> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(InAny(In::<Data>::new()))
    }
}

/// The first of a list.
struct First(Data);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InList;
        impl<'de> Visitor<'de> for InList {
            type Value = First;

            nothing!(First(Data::default()); visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let first = seq.next_element::<Any<Data>>()?.and_then(|Any(first)| first);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first.unwrap_or_default()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(First(Data::default()))
            }
        }
        from.deserialize_any(InList)
    }
}
