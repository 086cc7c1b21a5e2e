//! What is written, and what is read.

use super::topics;
use everwire_core::Sequence;
use everwire_core::protocol::{Inbound, Name, RpcError};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A message of the server, as far as routing needs it.
#[derive(Deserialize)]
struct Envelope<'m> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'m RawValue>,
    #[serde(borrow)]
    channel: Option<&'m RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'m RawValue>,
    #[serde(borrow)]
    sequence_num: Option<&'m RawValue>,
    #[serde(borrow)]
    events: Option<&'m RawValue>,
    #[serde(borrow)]
    message: Option<&'m RawValue>,
    #[serde(borrow)]
    reason: Option<&'m RawValue>,
}

impl<'m> Envelope<'m> {
    fn read(text: &'m str) -> Option<Self> {
        // What serde reads into a struct may be an array as well.
        serde_json::from_str(text).ok().filter(|_| text.trim_ascii_start().starts_with('{'))
    }
}

/// What a text message is.
pub(super) fn classify(text: &str, tell_heartbeats: bool) -> Inbound<'_> {
    let Some(envelope) = Envelope::read(text) else { return Inbound::other() };
    match (envelope.channel.and_then(plain), envelope.kind.and_then(plain)) {
        (Some("subscriptions"), _) => Inbound::Confirmed(text),
        (Some(topics::HEARTBEATS), _) if !tell_heartbeats => Inbound::Heartbeat,
        (Some(channel), _) => data(channel, &envelope),
        (None, Some("error")) => Inbound::Refused(text),
        _ => Inbound::other(),
    }
}

fn data<'m>(channel: &'m str, envelope: &Envelope<'m>) -> Inbound<'m> {
    // Its name is another one when it is subscribed to.
    let channel = if channel == "l2_data" { "level2" } else { channel };
    let found = envelope.events.map(Found::read).unwrap_or_default();
    let topic = if topics::is_of_products(channel) {
        found.product.map(|product| Name::of(&[channel, product]))
    } else {
        Some(Name::from(channel))
    };
    let sequence = envelope.sequence_num.and_then(number).map(|number| Sequence {
        snapshot: channel == "level2" && found.kind == Some("snapshot"),
        ..Sequence::new(number)
    });
    Inbound::Message { topic, sequence, sent: envelope.timestamp.and_then(plain).and_then(time) }
}

/// What the events of a message are of.
#[derive(Debug, Default)]
struct Found<'m> {
    /// The first product that is named.
    product: Option<&'m str>,
    /// `snapshot` or `update`: of the event that names it.
    kind: Option<&'m str>,
}

impl<'m> Found<'m> {
    fn read(events: &'m RawValue) -> Self {
        let mut found = Self::default();
        let walk = Walk { found: &mut found, item: false };
        // It ends, with an error, as soon as all is found: a book's snapshot is long, and its product stands in front.
        let _ = de::DeserializeSeed::deserialize(walk, &mut serde_json::Deserializer::from_str(events.get()));
        found
    }
}

/// Goes through a list of events, an event, a list of what it holds, or one of those.
struct Walk<'a, 'm> {
    found: &'a mut Found<'m>,
    /// It is in what an event holds.
    item: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Type,
    ProductId,
    Tickers,
    Trades,
    Candles,
    #[serde(other)]
    Other,
}

impl<'m> de::DeserializeSeed<'m> for Walk<'_, 'm> {
    type Value = ();

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'m> Visitor<'m> for Walk<'_, 'm> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("events")
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Walk { found: &mut *self.found, item: self.item })?.is_some() {
            if self.found.product.is_some() {
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'m>>(self, mut map: A) -> Result<(), A::Error> {
        if !self.item {
            self.found.kind = None;
        }
        while let Some(key) = map.next_key()? {
            match key {
                Key::Type if !self.item => self.found.kind = plain(map.next_value()?),
                Key::ProductId if self.found.product.is_none() => {
                    self.found.product = plain(map.next_value()?);
                }
                Key::Tickers | Key::Trades | Key::Candles if !self.item && self.found.product.is_none() => {
                    // Its list ends, with an error, in the middle of this event: what is behind it does not matter, the type is in front.
                    map.next_value_seed(Walk { found: &mut *self.found, item: true })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if self.found.product.is_some() && (self.item || self.found.kind.is_some()) {
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }
}

/// Writes a message that subscribes or unsubscribes.
pub(super) fn write(verb: &str, channel: &str, products: &[&str], jwt: Option<&str>, out: &mut String) {
    out.push_str(r#"{"type":""#);
    out.push_str(verb);
    out.push('"');
    if !products.is_empty() {
        out.push_str(r#","product_ids":["#);
        for (i, product) in products.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            quote(product, out);
        }
        out.push(']');
    }
    out.push_str(r#","channel":"#);
    quote(channel, out);
    if let Some(jwt) = jwt {
        out.push_str(r#","jwt":"#);
        quote(jwt, out);
    }
    out.push('}');
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[derive(Deserialize)]
struct Lists {
    events: Vec<Subscriptions>,
}

#[derive(Deserialize)]
struct Subscriptions {
    subscriptions: BTreeMap<String, Vec<String>>,
}

/// Whether a list of subscriptions names this. What stands in the list of a channel that is of no products, such as an id of the account, does
/// not matter.
pub(super) fn lists(text: &str, channel: &str, product: Option<&str>) -> bool {
    let Ok(Lists { events }) = serde_json::from_str(text) else { return false };
    events.iter().filter_map(|event| event.subscriptions.get(channel)).any(|list| match product {
        Some(product) => list.iter().any(|listed| listed == product),
        None => true,
    })
}

/// An error has no code, and its text where JSON-RPC has it; a reason, if there is one, follows on it.
pub(super) fn read_error(error: &str) -> RpcError<'_> {
    let said =
        |value: Option<&RawValue>| value.and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let envelope = Envelope::read(error);
    let message = match envelope.map(|envelope| (said(envelope.message), said(envelope.reason))) {
        Some((Some(message), Some(reason))) => Cow::Owned(format!("{message}: {reason}")),
        Some((Some(message), None)) => Cow::Owned(message),
        _ => Cow::Borrowed(error),
    };
    RpcError { code: 0, message, data: None }
}

/// Whether it says that too much was sent. Not verified: in which words it does.
pub(super) fn is_about_rate(error: &str) -> bool {
    let said = read_error(error).message.to_ascii_lowercase();
    ["rate limit", "too many"].iter().any(|words| said.contains(words))
}

pub(super) fn number(value: &RawValue) -> Option<u64> {
    // A number that has a fraction or an exponent is none of ours.
    value.get().parse().ok()
}

/// The text of a string that is written without escapes.
pub(super) fn plain(value: &RawValue) -> Option<&str> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

/// Reads `2026-09-05T22:10:29.562008293Z` (RFC 3339, in UTC; up to 9 digits of the second): the time since the Unix epoch.
pub(super) fn time(text: &str) -> Option<Duration> {
    let bytes = text.strip_suffix('Z')?.as_bytes();
    let (whole, fraction) = bytes.split_at_checked(19)?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| whole[*at] != *mark) {
        return None;
    }
    let digits = |bytes: &[u8]| {
        bytes.iter().try_fold(0_u64, |sum, byte| match byte {
            b'0'..=b'9' => Some(sum * 10 + u64::from(byte - b'0')),
            _ => None,
        })
    };
    let part = |at: usize, len: usize| digits(&whole[at..at + len]);
    let (year, month, day) = (part(0, 4)?, part(5, 2)?, part(8, 2)?);
    let (hour, minute, second) = (part(11, 2)?, part(14, 2)?, part(17, 2)?);
    let nanos = match fraction {
        [] => 0,
        [b'.', digits_of @ ..] if (1..=9).contains(&digits_of.len()) => {
            let missing = u32::try_from(9 - digits_of.len()).ok()?;
            u32::try_from(digits(digits_of)?).ok()? * 10_u32.pow(missing)
        }
        _ => return None,
    };
    // A leap second is the first of the next minute.
    if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months = usize::try_from(month - 1).ok()?;
    if day == 0 || day > lengths[months] {
        return None;
    }
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let days = (year - 1970) * 365 + leaps + lengths[..months].iter().sum::<u64>() + day - 1;
    Some(Duration::new(days * 86_400 + hour * 3600 + minute * 60 + second, nanos))
}
