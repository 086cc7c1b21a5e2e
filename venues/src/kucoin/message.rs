//! What the server says, and what it holds against the client.

use everwire_core::protocol::{Fault, Inbound, RpcError};
use everwire_core::{Recovery, Sequence};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;

/// A message of the server, as far as routing needs it.
#[derive(Deserialize)]
struct Envelope<'m> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'m RawValue>,
    #[serde(borrow)]
    id: Option<&'m RawValue>,
    #[serde(borrow)]
    topic: Option<&'m RawValue>,
    #[serde(borrow)]
    sn: Option<&'m RawValue>,
    #[serde(borrow)]
    code: Option<&'m RawValue>,
    #[serde(borrow)]
    data: Option<&'m RawValue>,
}

impl<'m> Envelope<'m> {
    fn read(text: &'m str) -> Option<Self> {
        // What serde reads into a struct may be an array as well.
        serde_json::from_str(text).ok().filter(|_| text.trim_ascii_start().starts_with('{'))
    }

    /// The id of a message of ours. Those of the server's own are no numbers.
    fn own_id(&self) -> Option<u64> {
        number(self.id?)
    }
}

/// What a text message is. `consecutive`: whether the `sn` of the topic counts one by one.
pub(super) fn classify<'m>(text: &'m str, consecutive: impl Fn(&str) -> bool) -> Inbound<'m> {
    let Some(envelope) = Envelope::read(text) else { return Inbound::other() };
    match (envelope.kind.map(RawValue::get), envelope.own_id()) {
        (Some(r#""message""#), _) => data(&envelope, consecutive),
        (Some(r#""ack""# | r#""pong""#), Some(id)) => Inbound::Response { id, result: Ok(text) },
        (Some(r#""error""#), Some(id)) => Inbound::Response { id, result: Err(text) },
        (Some(r#""error""#), None) => {
            let recovery = Complaint::read(text).recovery();
            Inbound::Notice { text: envelope.data.and_then(plain).unwrap_or(text), recovery }
        }
        (Some(r#""welcome""#), _) => Inbound::Greeting,
        _ => Inbound::other(),
    }
}

/// The id of the connection that a welcome names, if it names one.
pub(super) fn welcomed(text: &str) -> Option<Cow<'_, str>> {
    let id = Envelope::read(text)?.id?;
    serde_json::from_str(id.get()).ok()
}

fn data<'m>(envelope: &Envelope<'m>, consecutive: impl Fn(&str) -> bool) -> Inbound<'m> {
    // One that is written with escapes is data without topic.
    let Some(topic) = envelope.topic.and_then(plain) else { return Inbound::other() };
    let body = envelope.data.map(RawValue::get).unwrap_or_default();
    let (sequence, sent) = match Channel::of(topic) {
        Channel::Spot => {
            let Changes { start, end, time } = serde_json::from_str(body).unwrap_or_default();
            let sequence = start.zip(end).map(|(start, end)| Sequence::range(start, end));
            (sequence, time)
        }
        Channel::Futures => {
            let Change { sequence, timestamp } = serde_json::from_str(body).unwrap_or_default();
            (sequence.map(Sequence::new), timestamp)
        }
        Channel::Other if consecutive(topic) => (envelope.sn.and_then(number).map(Sequence::new), None),
        Channel::Other => (None, None),
    };
    Inbound::Message { topic: Some(topic.into()), sequence, sent: sent.map(Duration::from_millis) }
}

/// Which topics are numbered, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// Changes of a spot book: each message stands for the numbers from `sequenceStart` to `sequenceEnd`.
    Spot,
    /// Changes of a futures book: each has the number after that of the one before.
    Futures,
    /// Any other.
    Other,
}

impl Channel {
    pub(super) fn of(topic: &str) -> Self {
        match topic.split_once(':') {
            Some(("/market/level2", _)) => Self::Spot,
            Some(("/contractMarket/level2", _)) => Self::Futures,
            _ => Self::Other,
        }
    }
}

#[derive(Deserialize, Default)]
struct Changes {
    #[serde(rename = "sequenceStart")]
    start: Option<u64>,
    #[serde(rename = "sequenceEnd")]
    end: Option<u64>,
    /// In milliseconds.
    time: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Change {
    sequence: Option<u64>,
    /// In milliseconds.
    timestamp: Option<u64>,
}

/// What the server holds against the client, by the code and the words of its errors
/// [kucoin.com/docs-new/error-code/websocket, 2026-08]. What is known by its code alone is told apart by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Complaint {
    /// 400 `ping timeout`: no message of the client for too long. It then ends the connection.
    PingTimeout,
    /// 400, 406: a topic, or what should name one, is not written as one.
    BadTopic,
    /// 401: the token is not known, or has expired.
    BadToken,
    /// 403: a private topic, and the token is a public one.
    LoginRequired,
    /// 404: there is no such topic. (It does not say so of a symbol that is not known: such a topic is confirmed and stays silent.)
    NoSuchTopic,
    /// 415: it does not know this type of message.
    UnknownCommand,
    /// 500: an error of its own.
    System,
    /// 509 `exceed max permits per second`: too many messages. It then ends the connection.
    TooManyMessages,
    /// 509 `exceed max subscription count limitation`: too many topics in a message, or on a connection.
    TooManyTopics,
    /// 509 `exceed max session count limitation`: too many connections.
    TooManyConnections,
    /// 509 `service busy`.
    Busy,
    /// Anything else.
    Other,
}

impl Complaint {
    /// Reads an error as the server sends it.
    pub fn read(error: &str) -> Self {
        let RpcError { code, message, .. } = read_error(error);
        let says = |words: &str| message.contains(words);
        match code {
            400 if says("ping timeout") => Self::PingTimeout,
            400 | 406 => Self::BadTopic,
            401 => Self::BadToken,
            403 => Self::LoginRequired,
            404 => Self::NoSuchTopic,
            415 => Self::UnknownCommand,
            500 => Self::System,
            509 if says("permits") => Self::TooManyMessages,
            509 if says("subscription count") => Self::TooManyTopics,
            509 if says("session count") => Self::TooManyConnections,
            509 => Self::Busy,
            _ => Self::Other,
        }
    }

    /// What it means, and what to do.
    pub fn explain(self) -> &'static str {
        match self {
            Self::PingTimeout => {
                "the server heard nothing for too long: pings are sent as the token's answer says"
            }
            Self::BadTopic => {
                "the topic is written wrongly: it is a path, a colon and one symbol, such as /market/ticker:BTC-USDT"
            }
            Self::BadToken => {
                "the token has expired, or is for another host: spot takes none of futures, nor the other way round"
            }
            Self::LoginRequired => "the topic is a private one: fetch the token from /api/v1/bullet-private",
            Self::NoSuchTopic => "there is no such channel",
            Self::UnknownCommand => "the server does not know messages of this type",
            Self::System => "an error within the server: it is tried again",
            Self::TooManyMessages => "more than 100 messages in 10 s: send less on this connection",
            Self::TooManyTopics => {
                "more topics than a message or a connection may have: see Kucoin::topics_per_connection"
            }
            Self::TooManyConnections => "too many connections: close some, or put more topics on each",
            Self::Busy => "the server is busy: it is tried again",
            Self::Other => "what this means is not known",
        }
    }

    /// What is done about it: `None` leaves the connection as it is, and a topic to be tried again.
    pub fn recovery(self) -> Option<Recovery> {
        match self {
            Self::PingTimeout => Some(Recovery::Reconnect),
            Self::BadToken => Some(Recovery::Reauthenticate),
            Self::TooManyMessages | Self::TooManyConnections | Self::Busy => Some(Recovery::Backoff(PAUSE)),
            // Of those a message is to blame, not the connection.
            _ => None,
        }
    }

    /// The same of a topic that was refused.
    fn of_topic(self) -> Option<Recovery> {
        match self {
            Self::BadTopic | Self::LoginRequired | Self::NoSuchTopic => Some(Recovery::Stop),
            Self::System => Some(Recovery::Backoff(PAUSE)),
            other => other.recovery(),
        }
    }
}

/// In so much time it counts messages.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) fn recovery(fault: Fault<'_>) -> Option<Recovery> {
    match fault {
        Fault::Subscription(error) => Complaint::read(error).of_topic(),
        Fault::Authentication(error) | Fault::Preparation(error) => Complaint::read(error).recovery(),
        // It says "Bye" with 1000 whatever the reason, so it comes back at once.
        _ => None,
    }
}

/// An error has its text where JSON-RPC has more of it.
pub(super) fn read_error(error: &str) -> RpcError<'_> {
    let envelope = Envelope::read(error);
    let (code, data) = envelope.map_or((None, None), |envelope| (envelope.code, envelope.data));
    let message = data.and_then(|data| match plain(data) {
        Some(text) => Some(Cow::Borrowed(text)),
        None => serde_json::from_str(data.get()).ok().map(Cow::Owned),
    });
    let code = code.and_then(number).and_then(|code| i64::try_from(code).ok()).unwrap_or_default();
    RpcError { code, message: message.unwrap_or(Cow::Borrowed(error)), data: None }
}

/// A number, or one in quotes.
fn number(value: &RawValue) -> Option<u64> {
    let digits = plain(value).unwrap_or_else(|| value.get());
    // Rust's own reading allows a sign.
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The text of a string that is written without escapes.
fn plain(value: &RawValue) -> Option<&str> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Inbound<'_> {
        classify(text, |topic| topic.starts_with("/counted:"))
    }

    fn message(topic: &str, sequence: Option<Sequence>, sent: Option<u64>) -> Inbound<'_> {
        Inbound::Message { topic: Some(topic.into()), sequence, sent: sent.map(Duration::from_millis) }
    }

    #[test]
    fn each_kind_of_message_is_known() {
        let ack = r#"{"id":"1545910660739","type":"ack"}"#;
        let pong = r#"{"id":"16","type":"pong","timestamp":1790113097236506}"#;
        let error = r#"{"id":"28","type":"error","code":404,"data":"topic does not exist"}"#;
        assert_eq!(read(ack), Inbound::Response { id: 1_545_910_660_739, result: Ok(ack) });
        assert_eq!(read(pong), Inbound::Response { id: 16, result: Ok(pong) });
        assert_eq!(read(error), Inbound::Response { id: 28, result: Err(error) });
        assert_eq!(read(r#"{"id":"hQvf8jkno","type":"welcome"}"#), Inbound::Greeting);
        assert_eq!(read(r#"{"type":"welcome","id":"7"}"#), Inbound::Greeting);
        // An id as a number, which is what it answers to one.
        assert!(matches!(read(r#"{"id":5,"type":"ack"}"#), Inbound::Response { id: 5, .. }));
    }

    #[test]
    fn messages_of_topics_have_their_numbers() {
        let spot = r#"{"topic":"/market/level2:BTC-USDT","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[["67993.3","1.21427407","14701689783"]],"bids":[]},"sequenceEnd":14701689785,"sequenceStart":14701689783,"symbol":"BTC-USDT","time":1729816425625}}"#;
        let range = Sequence::range(14_701_689_783, 14_701_689_785);
        assert_eq!(read(spot), message("/market/level2:BTC-USDT", Some(range), Some(1_729_816_425_625)));
        let futures = r#"{"topic":"/contractMarket/level2:XBTUSDTM","type":"message","subject":"level2","sn":1709400450243,"data":{"sequence":1709400450243,"change":"90631.2,sell,2","timestamp":1731897467182}}"#;
        let one = Sequence::new(1_709_400_450_243);
        assert_eq!(
            read(futures),
            message("/contractMarket/level2:XBTUSDTM", Some(one), Some(1_731_897_467_182))
        );
        // The number of a ticker tells its place in something else.
        let ticker = r#"{"type":"message","topic":"/market/ticker:all","subject":"BTC-USDT","data":{"sequence":"1545896668986","price":"0.08"}}"#;
        assert_eq!(read(ticker), message("/market/ticker:all", None, None));
        let sn = r#"{"type":"message","topic":"/counted:X","subject":"s","sn":7,"data":{}}"#;
        assert_eq!(read(sn), message("/counted:X", Some(Sequence::new(7)), None));
        assert_eq!(read(&sn.replace("/counted", "/other")), message("/other:X", None, None));
        let private = r#"{"type":"message","topic":"/account/balance","userId":"5","channelType":"private","subject":"account.balance","data":{"total":"88"}}"#;
        assert_eq!(read(private), message("/account/balance", None, None));
        // Numbers that are not there, or not numbers, are none; the message stays.
        for data in ["{}", "[]", "null", "5", r#"{"sequenceStart":"x","sequenceEnd":1}"#] {
            let text = format!(r#"{{"type":"message","topic":"/market/level2:A-B","data":{data}}}"#);
            assert_eq!(read(&text), message("/market/level2:A-B", None, None), "{data}");
        }
    }

    #[test]
    fn what_is_not_understood_reaches_the_user() {
        for text in [
            "",
            "x",
            "[]",
            "5",
            "{}",
            r#"["\"ack\"",1]"#,
            r#"{"type":"notice","data":"soon"}"#,
            r#"{"type":"disconnect"}"#,
            r#"{"id":"x1","type":"ack"}"#,
            r#"{"id":"-1","type":"ack"}"#,
            r#"{"id":"+1","type":"ack"}"#,
            r#"{"id":"1","type":"ack","id":"2"}"#,
            r#"{"type":"message","data":{}}"#,
            r#"{"type":"message","topic":"\/market\/ticker:A","data":{}}"#,
            r#"{"type":"message","topic":"/market/ticker:A","data":{}} trailing"#,
        ] {
            assert_eq!(read(text), Inbound::other(), "{text}");
        }
    }

    #[test]
    fn an_error_that_answers_nothing_is_a_notice() {
        let rate = r#"{"id":"695cb272a02344126eb870a6","type":"error","code":509,"data":"exceed max permits per second"}"#;
        let said = Inbound::Notice {
            text: "exceed max permits per second",
            recovery: Some(Recovery::Backoff(Duration::from_secs(10))),
        };
        assert_eq!(read(rate), said);
        let timeout = r#"{"type":"error","code":400,"data":"ping timeout"}"#;
        let reconnect = Some(Recovery::Reconnect);
        assert_eq!(read(timeout), Inbound::Notice { text: "ping timeout", recovery: reconnect });
        let odd = r#"{"id":"x","type":"error","code":"400","data":"Unrecognized token \"not\""}"#;
        assert_eq!(read(odd), Inbound::Notice { text: odd, recovery: None });
    }

    #[test]
    fn complaints_are_told_apart_and_explained() {
        use Complaint::*;
        let stop = Some(Recovery::Stop);
        let wait = Some(Recovery::Backoff(Duration::from_secs(10)));
        for (code, said, what, connection, topic) in [
            (400, "ping timeout", PingTimeout, Some(Recovery::Reconnect), Some(Recovery::Reconnect)),
            (400, "topic is invalid", BadTopic, None, stop),
            (
                401,
                "token is invalid",
                BadToken,
                Some(Recovery::Reauthenticate),
                Some(Recovery::Reauthenticate),
            ),
            (403, "login is required", LoginRequired, None, stop),
            (404, "topic does not exist", NoSuchTopic, None, stop),
            (406, "topic is required", BadTopic, None, stop),
            (415, "command type is invalid", UnknownCommand, None, None),
            (500, "system error", System, None, wait),
            (509, "exceed max permits per second", TooManyMessages, wait, wait),
            (509, "exceed max subscription count limitation of 400 per session", TooManyTopics, None, None),
            (509, "exceed max session count limitation of 50", TooManyConnections, wait, wait),
            (509, "service busy, please retry later", Busy, wait, wait),
            (777, "new", Other, None, None),
        ] {
            let text = format!(r#"{{"id":"1","type":"error","code":{code},"data":"{said}"}}"#);
            let found = Complaint::read(&text);
            assert_eq!((found, found.recovery()), (what, connection), "{text}");
            assert_eq!(recovery(Fault::Subscription(&text)), topic, "{text}");
            let error = read_error(&text);
            assert_eq!((error.code, &*error.message), (code, said));
            assert!(!found.explain().is_empty());
        }
        assert_eq!(recovery(Fault::Closed(1000, "Bye")), None);
        assert_eq!(read_error(r#"{"code":"509","data":"a \"b\""}"#).message, "a \"b\"");
        assert_eq!(&*read_error("what?").message, "what?");
    }
}
