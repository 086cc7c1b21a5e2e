//! What the server says, and what it holds against the client.

use everwire_core::protocol::{Fault, Inbound, Name, RpcError};
use everwire_core::{Recovery, Sequence};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;

/// A message of the server, as far as routing needs it.
#[derive(Deserialize, Default)]
struct Envelope<'m> {
    #[serde(borrow)]
    channel: Option<&'m RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'m RawValue>,
    #[serde(borrow)]
    data: Option<&'m RawValue>,
    #[serde(borrow)]
    sequence: Option<&'m RawValue>,
    #[serde(borrow)]
    method: Option<&'m RawValue>,
    #[serde(borrow)]
    success: Option<&'m RawValue>,
    #[serde(borrow)]
    result: Option<&'m RawValue>,
    #[serde(borrow, alias = "Error")]
    error: Option<&'m RawValue>,
    #[serde(borrow)]
    req_id: Option<&'m RawValue>,
    #[serde(borrow)]
    symbol: Option<&'m RawValue>,
}

/// What names the topic: the first of a message's data, or the result of a subscription.
#[derive(Deserialize, Default)]
struct Item<'m> {
    #[serde(borrow)]
    channel: Option<&'m RawValue>,
    #[serde(borrow)]
    symbol: Option<&'m RawValue>,
    #[serde(borrow)]
    interval: Option<&'m RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'m RawValue>,
    #[serde(borrow)]
    system: Option<&'m RawValue>,
}

impl<'m> Envelope<'m> {
    fn read(text: &'m str) -> Option<Self> {
        // What serde reads into a struct may be an array as well.
        serde_json::from_str(text).ok().filter(|_| text.trim_ascii_start().starts_with('{'))
    }
}

impl<'m> Item<'m> {
    /// The first of a list; the rest of it is not read.
    fn first(list: &'m RawValue) -> Option<Self> {
        let items = list.get().strip_prefix('[')?;
        serde_json::Deserializer::from_str(items).into_iter().next()?.ok()
    }

    /// The name of its topic in this channel; `None` if it is written with escapes.
    fn name(&self, channel: &'m str) -> Option<Name<'m>> {
        // Executions have symbols as well, but their topic has none.
        let has_symbols = matches!(channel, "book" | "ticker" | "trade" | "ohlc" | "level3");
        match (self.symbol.filter(|_| has_symbols), self.interval) {
            (None, _) => Some(Name::from(channel)),
            (Some(symbol), Some(interval)) if channel == "ohlc" => {
                Some(Name::of(&[channel, plain(symbol)?, interval.get()]))
            }
            (Some(symbol), _) => Some(Name::of(&[channel, plain(symbol)?])),
        }
    }
}

/// What a text message is. `numbered`: whether the account's channels are counted.
pub(super) fn classify(text: &str, numbered: bool) -> Inbound<'_> {
    let Some(envelope) = Envelope::read(text) else { return Inbound::other() };
    match (envelope.method.and_then(plain), envelope.channel.and_then(plain)) {
        (Some(method), _) => answer(text, method, &envelope),
        (None, _) if envelope.error.is_some() => Inbound::Refused(text),
        (None, Some("heartbeat")) => Inbound::Heartbeat,
        (None, Some(channel)) => data(channel, &envelope, numbered),
        (None, None) => Inbound::other(),
    }
}

fn data<'m>(channel: &'m str, envelope: &Envelope<'m>, numbered: bool) -> Inbound<'m> {
    let item = envelope.data.and_then(Item::first).unwrap_or_default();
    if let Some(system) =
        item.system.and_then(plain).filter(|system| channel == "status" && *system != "online")
    {
        return Inbound::Notice { text: system, recovery: None };
    }
    let sequence = envelope.sequence.and_then(number).filter(|_| numbered).map(Sequence::new);
    let snapshot = envelope.kind.is_some_and(|kind| kind.get() == r#""snapshot""#);
    // Of candles it is when their interval ends, of tickers when the last trade was.
    let dated = item.timestamp.filter(|_| matches!(channel, "book" | "trade"));
    Inbound::Message {
        topic: item.name(channel),
        sequence: sequence.map(|sequence| if snapshot { sequence.snapshot() } else { sequence }),
        sent: dated.and_then(plain).and_then(since_epoch),
    }
}

fn answer<'m>(text: &'m str, method: &'m str, envelope: &Envelope<'m>) -> Inbound<'m> {
    let id = envelope.req_id.and_then(number);
    // A pong has no `success`.
    let refused =
        envelope.error.is_some() || envelope.success.is_some_and(|success| success.get() == "false");
    let item = || envelope.result.and_then(|result| serde_json::from_str::<Item<'_>>(result.get()).ok());
    let topic = || {
        let item = item()?;
        item.name(plain(item.channel?)?)
    };
    match (method, id) {
        // It names the symbol, but not the channel.
        ("subscribe", _) if refused && is_there_already(envelope) => Inbound::Confirmed(text),
        (_, Some(id)) if refused => Inbound::Response { id, result: Err(text) },
        ("subscribe", None) if refused => Inbound::Refused(text),
        ("subscribe", id) => match topic() {
            Some(topic) => Inbound::Subscribed { topic, id, result: Ok(()) },
            None => Inbound::other(),
        },
        ("unsubscribe", _) => match topic() {
            Some(topic) => Inbound::Unsubscribed { topic },
            None => Inbound::other(),
        },
        (_, Some(id)) => Inbound::Response { id, result: Ok(envelope.result.map_or(text, RawValue::get)) },
        (_, None) => Inbound::other(),
    }
}

/// The topic was asked for twice: it is in force.
fn is_there_already(envelope: &Envelope<'_>) -> bool {
    envelope.error.and_then(plain).is_some_and(|error| error.starts_with("Already subscribed"))
}

/// Whether an answer of the server to what subscribes is meant for the topic of this symbol.
pub(super) fn names(answer: &str, symbol: Option<&str>) -> bool {
    let Some(envelope) = Envelope::read(answer) else { return false };
    match envelope.symbol {
        Some(named) => named.get().len() > 1 && plain(named) == symbol,
        // One that names none is for all.
        None => true,
    }
}

/// What the server holds against the client, by the words of its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Complaint {
    /// `Exceeded msg rate`: too many messages. The connection goes on, and what was said does not count.
    TooManyMessages,
    /// `ESession`: the token is not known, has expired, or there was none.
    BadToken,
    /// `Currency pair not supported`: there is no such symbol.
    NoSuchSymbol,
    /// `... unavailable on this endpoint`: private topics have another URL than public ones.
    WrongEndpoint,
    /// `Permission denied`: the key may not do that.
    NotAllowed,
    /// `EService`: the venue is busy, or under maintenance.
    Busy,
    /// `Already subscribed`: with other parameters, such as another depth. (With the same ones it is taken for a confirmation.)
    Already,
    /// Anything else.
    Other,
}

impl Complaint {
    /// Reads an error as the server sends it.
    pub fn read(error: &str) -> Self {
        let message = read_error(error).message;
        let says = |words: &str| message.contains(words);
        if says("msg rate") || says("Rate limit") || says("Throttled") {
            Self::TooManyMessages
        } else if says("ESession") {
            Self::BadToken
        } else if says("not supported") {
            Self::NoSuchSymbol
        } else if says("on this endpoint") {
            Self::WrongEndpoint
        } else if says("Permission denied") {
            Self::NotAllowed
        } else if says("EService") {
            Self::Busy
        } else if says("Already subscribed") {
            Self::Already
        } else {
            Self::Other
        }
    }

    /// What it means, and what to do.
    pub fn explain(self) -> &'static str {
        match self {
            Self::TooManyMessages => {
                "too many messages: how many are allowed depends on the venue's load, see Kraken::messages"
            }
            Self::BadToken => {
                "the token has expired or is not known: a fresh one is fetched, if there is a provider"
            }
            Self::NoSuchSymbol => {
                "there is no such symbol: names are those of the instrument channel, such as BTC/USD"
            }
            Self::WrongEndpoint => {
                "private topics are at ws-auth.kraken.com, public ones at ws.kraken.com: one session each"
            }
            Self::NotAllowed => "the key has not the permission for that",
            Self::Busy => "the venue is busy or under maintenance: it is tried again",
            Self::Already => "it is subscribed to already",
            Self::Other => "what this means is not known",
        }
    }

    /// What is done about it: `None` leaves the connection as it is, and a topic to be tried again.
    pub fn recovery(self) -> Option<Recovery> {
        match self {
            Self::TooManyMessages | Self::Busy => Some(Recovery::Backoff(PAUSE)),
            Self::BadToken => Some(Recovery::Reauthenticate),
            Self::NoSuchSymbol | Self::WrongEndpoint | Self::NotAllowed => Some(Recovery::Stop),
            Self::Already | Self::Other => None,
        }
    }
}

/// After maintenance nobody is to come back more often than this.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) fn recovery(fault: Fault<'_>) -> Option<Recovery> {
    match fault {
        Fault::Subscription(error) | Fault::Authentication(error) | Fault::Preparation(error) => {
            Complaint::read(error).recovery()
        }
        _ => None,
    }
}

/// An error is a text, which has a code in words at most.
pub(super) fn read_error(error: &str) -> RpcError<'_> {
    let said = Envelope::read(error).and_then(|envelope| envelope.error);
    let message = said.and_then(|said| match plain(said) {
        Some(text) => Some(Cow::Borrowed(text)),
        None => serde_json::from_str(said.get()).ok().map(Cow::Owned),
    });
    RpcError { code: 0, message: message.unwrap_or(Cow::Borrowed(error)), data: None }
}

/// A number of the client's, or of a sequence.
fn number(value: &RawValue) -> Option<u64> {
    // Rust's own reading allows a sign.
    value.get().parse().ok().filter(|_| value.get().bytes().all(|byte| byte.is_ascii_digit()))
}

/// The text of a string that is written without escapes.
fn plain(value: &RawValue) -> Option<&str> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

/// A time as in `2023-10-06T17:35:55.440295Z` (RFC 3339, always UTC).
fn since_epoch(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.last() != Some(&b'Z') || marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let nanos = match text.get(19..text.len() - 1)? {
        "" => 0,
        fraction => {
            let digits = fraction.strip_prefix('.').filter(|digits| (1..=9).contains(&digits.len()))?;
            let missing = u32::try_from(9 - digits.len()).ok()?;
            number(20, text.len() - 1)? * 10u64.pow(missing)
        }
    };
    // Days since 0000-03-01, of a year that begins in March, so that a leap day is its last.
    let shifted = (month + 9) % 12;
    let year = (year + u64::from(month > 2)).checked_sub(1)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (shifted * 306 + 5) / 10 + day - 1;
    let since = days.checked_sub(719_468)?;
    Some(Duration::new(since * 86_400 + seconds, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Inbound<'_> {
        classify(text, true)
    }

    fn topic(text: &str) -> Option<String> {
        match read(text) {
            Inbound::Message { topic, .. } => topic.map(|name| name.to_string()),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn messages_of_channels_name_their_topics() {
        let book = r#"{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],"asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#;
        let sent = Some(Duration::new(1_696_613_755, 440_295_000));
        let named = Some(Name::of(&["book", "MATIC/USD"]));
        assert_eq!(read(book), Inbound::Message { topic: named, sequence: None, sent });
        let candle = r#"{"channel":"ohlc","type":"update","timestamp":"2026-09-25T17:48:26.844359566Z","data":[{"symbol":"BTC/USD","open":83729.5,"interval_begin":"2026-09-25T17:48:00.000000000Z","interval":5,"timestamp":"2026-09-25T17:49:00.000000Z"}]}"#;
        assert_eq!(topic(candle).as_deref(), Some("ohlc:BTC/USD:5"));
        assert!(matches!(read(candle), Inbound::Message { sent: None, .. }));
        let trades = r#"{"channel":"trade","type":"snapshot","data":[ {"symbol":"BTC/USD","side":"buy","price":83744.3,"qty":0.00044780,"trade_id":1,"timestamp":"2026-09-25T17:48:26.844359Z"}, {"symbol":"BTC/USD"} ]}"#;
        assert_eq!(topic(trades).as_deref(), Some("trade:BTC/USD"));
        let instrument = r#"{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[]}}"#;
        assert_eq!(topic(instrument).as_deref(), Some("instrument"));
        // They have a symbol, which is not their topic's.
        let executions = r#"{"channel":"executions","type":"snapshot","data":[{"order_id":"O","symbol":"BTC/USD"}],"sequence":1}"#;
        let named = Some(Name::from("executions"));
        let first = Some(Sequence::new(1).snapshot());
        assert_eq!(read(executions), Inbound::Message { topic: named, sequence: first, sent: None });
        let update = executions.replace("snapshot", "update").replace(":1}", ":2}");
        assert!(matches!(read(&update), Inbound::Message { sequence: Some(s), .. } if s == Sequence::new(2)));
        assert!(matches!(classify(&update, false), Inbound::Message { sequence: None, .. }));
        assert_eq!(
            topic(r#"{"channel":"balances","data":[],"type":"snapshot"}"#).as_deref(),
            Some("balances")
        );
        // Written with escapes it is data without topic, not lost.
        assert_eq!(topic(r#"{"channel":"trade","data":[{"symbol":"BTC\/USD"}]}"#), None);
    }

    #[test]
    fn answers_are_those_of_topics_or_of_requests() {
        let ack = r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"ALGO/USD"},"success":true,"time_in":"2023-10-06T17:35:55.219022Z","req_id":7}"#;
        let named = Name::of(&["book", "ALGO/USD"]);
        assert_eq!(read(ack), Inbound::Subscribed { topic: named, id: Some(7), result: Ok(()) });
        let candles = ack.replace("book", "ohlc").replace("depth\":10", "interval\":5");
        assert!(
            matches!(read(&candles), Inbound::Subscribed { topic, .. } if topic == "ohlc:ALGO/USD:5".into())
        );
        let balances = r#"{"method":"subscribe","result":{"channel":"balances","snapshot":true},"success":true,"req_id":8}"#;
        assert_eq!(
            read(balances),
            Inbound::Subscribed { topic: "balances".into(), id: Some(8), result: Ok(()) }
        );
        let gone = ack.replace("\"subscribe", "\"unsubscribe");
        assert_eq!(read(&gone), Inbound::Unsubscribed { topic: named });
        let bad = r#"{"error":"Currency pair not supported XBT/USD","method":"subscribe","req_id":7,"success":false,"symbol":"XBT/USD","time_in":"2026-09-25T17:48:54.701041Z"}"#;
        assert_eq!(read(bad), Inbound::Response { id: 7, result: Err(bad) });
        assert!(names(bad, Some("XBT/USD")) && !names(bad, Some("ETH/USD")) && !names(bad, None));
        let twice = r#"{"error":"Already subscribed","method":"subscribe","req_id":7,"success":false,"symbol":"BTC/USD"}"#;
        assert_eq!(read(twice), Inbound::Confirmed(twice));
        assert!(names(twice, Some("BTC/USD")) && !names(twice, Some("ETH/USD")));
        let pong = r#"{"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z"}"#;
        assert_eq!(read(pong), Inbound::Response { id: 101, result: Ok(pong) });
        let order = r#"{"method":"add_order","req_id":9,"result":{"order_id":"AA5JGQ"},"success":true}"#;
        assert_eq!(read(order), Inbound::Response { id: 9, result: Ok(r#"{"order_id":"AA5JGQ"}"#) });
        let poor = r#"{"error":"EOrder:Insufficient funds","method":"add_order","req_id":9,"success":false}"#;
        assert_eq!(read(poor), Inbound::Response { id: 9, result: Err(poor) });
        assert_eq!(read_error(poor).to_string(), "EOrder:Insufficient funds (code 0)");
    }

    #[test]
    fn complaints_without_id_heartbeats_and_states_of_the_venue() {
        for text in [
            r#"{"Error":"Exceeded msg rate"}"#,
            r#"{"error":"Exceeded msg rate"}"#,
            r#"{"error":"Exceeded msg rate","method":"subscribe","success":false}"#,
        ] {
            assert_eq!(read(text), Inbound::Refused(text));
            assert_eq!(Complaint::read(text), Complaint::TooManyMessages);
            let wait = Some(Recovery::Backoff(Duration::from_secs(5)));
            assert_eq!(recovery(Fault::Subscription(text)), wait);
        }
        // It is no subscription that is refused here: it is told as it came, and rejects none.
        for method in ["add_order", "unsubscribe"] {
            let text =
                format!(r#"{{"error":"EGeneral:Invalid arguments","method":"{method}","success":false}}"#);
            assert_eq!(read(&text), Inbound::other(), "{method}");
        }
        assert_eq!(read(r#"{"channel":"heartbeat"}"#), Inbound::Heartbeat);
        let status = r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":18125794168470749634}]}"#;
        assert_eq!(topic(status).as_deref(), Some("status"));
        let down = status.replace("online", "maintenance");
        assert_eq!(read(&down), Inbound::Notice { text: "maintenance", recovery: None });
    }

    #[test]
    fn complaints_are_told_apart_and_explained() {
        use Complaint::*;
        let (stop, wait) = (Some(Recovery::Stop), Some(Recovery::Backoff(PAUSE)));
        for (said, what, then) in [
            ("ESession:Invalid session", BadToken, Some(Recovery::Reauthenticate)),
            ("Currency pair not supported X/Y", NoSuchSymbol, stop),
            (
                "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com",
                WrongEndpoint,
                stop,
            ),
            ("EGeneral:Permission denied", NotAllowed, stop),
            ("EService:Unavailable", Busy, wait),
            ("EAPI:Rate limit exceeded", TooManyMessages, wait),
            ("Already subscribed", Already, None),
            ("new", Other, None),
        ] {
            let text = format!(r#"{{"error":"{said}","method":"subscribe","req_id":1,"success":false}}"#);
            assert_eq!((Complaint::read(&text), Complaint::read(&text).recovery()), (what, then), "{said}");
            assert!(!what.explain().is_empty());
            assert!(names(&text, Some("A/B")) && names(&text, None), "no symbol: it is for all");
        }
        assert_eq!(recovery(Fault::Closed(1000, "")), None);
    }

    #[test]
    fn what_is_not_understood_reaches_the_user() {
        for text in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"channel":7}"#,
            r#"["book"]"#,
            r#"{"method":"subscribe","success":true}"#,
            r#"{"method":"subscribe","success":true,"result":{"channel":"book","symbol":"A\/B"},"req_id":1}"#,
            r#"{"method":"add_order","success":true,"req_id":-1,"result":{}}"#,
            r#"{"channel":"book","channel":"book"}"#,
        ] {
            assert_eq!(read(text), Inbound::other(), "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2000-02-29T12:00:00.5Z", Some((951_825_600, 500_000_000))),
            ("2026-11-21T07:00:00.000001Z", Some((1_795_244_400, 1000))),
            ("2023-10-04T16:26:01.806315597Z", Some((1_696_436_761, 806_315_597))),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-01T00:00:00+01:00", None),
            ("2026-01-01 00:00:00Z", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00.1234567890Z", None),
            ("+026-01-01T00:00:00Z", None),
            ("", None),
            ("Z", None),
            ("2026-01-01T00:00:\u{e9}Z", None),
        ] {
            assert_eq!(since_epoch(text), seconds.map(|(s, n)| Duration::new(s, n)), "{text}");
        }
    }
}
