//! What the venues' protocols make of any text.
//!
//! Input: the text of one message. Every protocol reads it.

use everwire_core::protocol::{Fault, Inbound, Protocol, Topic};
use everwire_core::{Params, Sequence};
use everwire_venues::{binance, bybit, coinbase, deribit, kraken, kucoin, okx};
use serde_json::Value;
use std::sync::OnceLock;

/// A protocol, topics that it may be asked about, and a slow reading of what topic's data a message is. That need not know all: `None` says
/// nothing.
struct Venue {
    name: &'static str,
    protocol: Box<dyn Protocol>,
    topics: Vec<Topic>,
    topic: fn(&Value) -> Option<String>,
}

fn venues() -> &'static [Venue] {
    static VENUES: OnceLock<Vec<Venue>> = OnceLock::new();
    VENUES.get_or_init(|| {
        let venue = |name, protocol, topics: Vec<Topic>, topic| Venue { name, protocol, topics, topic };
        let books = [bybit::orderbook(50, "BTCUSDT"), bybit::trades("BTCUSDT")];
        vec![
            venue(
                "deribit",
                Box::new(deribit::Deribit::new().snapshot_first(true)),
                vec![deribit::book("BTC-PERPETUAL", deribit::Interval::Raw), deribit::platform_state()],
                of_deribit,
            ),
            venue(
                "binance",
                Box::new(binance::Binance::spot()),
                vec![binance::depth("BTCUSDT", binance::Speed::Ms100), binance::trade("BTCUSDT")],
                of_binance,
            ),
            venue(
                "binance-futures",
                Box::new(binance::Binance::usd_futures().combine()),
                vec![binance::depth("BTCUSDT", binance::Speed::Ms100)],
                of_binance,
            ),
            venue(
                "binance-api",
                Box::new(binance::BinanceApi::spot().hmac("key", "secret")),
                vec![binance::user_data()],
                |_| None,
            ),
            venue(
                "kucoin",
                Box::new(kucoin::Kucoin::new().consecutive("/contractMarket/execution")),
                vec![kucoin::level2("BTC-USDT"), kucoin::futures::level2("XBTUSDTM"), kucoin::orders()],
                of_kucoin,
            ),
            venue(
                "kraken",
                Box::new(kraken::Kraken::new()),
                vec![
                    kraken::book("BTC/USD", kraken::Depth::Ten),
                    kraken::ticker("BTC/USD"),
                    kraken::instruments(),
                ],
                |_| None,
            ),
            venue(
                "coinbase",
                Box::new(coinbase::Coinbase::new().tell_heartbeats(true)),
                vec![coinbase::level2("BTC-USD"), coinbase::user(), coinbase::heartbeats()],
                of_coinbase,
            ),
            venue(
                "okx",
                Box::new(okx::Okx::new().credentials("key", "secret", "phrase")),
                vec![okx::books("BTC-USDT"), okx::trades("BTC-USDT"), okx::orders("SPOT"), okx::account()],
                |_| None,
            ),
            venue("bybit", Box::new(bybit::Bybit::public(bybit::Category::Linear)), books.to_vec(), of_bybit),
            venue(
                "bybit-private",
                Box::new(bybit::Bybit::private("key", "secret")),
                vec![bybit::orders(None), bybit::wallet()],
                of_bybit,
            ),
            venue("bybit-trade", Box::new(bybit::Bybit::trade("key", "secret")), books.to_vec(), of_bybit),
        ]
    })
}

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for venue in venues() {
        venue.read(text, 0);
    }
    // With each key once, and in order, so that nothing is left to say which of two counts.
    let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(text) else { return };
    let text = value.to_string();
    if text.contains('\\') {
        return;
    }
    for venue in venues() {
        let Some(want) = (venue.topic)(&value) else { continue };
        match venue.protocol.classify(&text) {
            Inbound::Message { topic: Some(topic), .. } => {
                assert_eq!(topic.to_string(), want, "{}: {text}", venue.name)
            }
            found => panic!("{}: {text}: {found:?} and not data of {want}", venue.name),
        }
    }
}

impl Venue {
    fn read(&self, text: &str, depth: u32) {
        let (name, protocol) = (self.name, &*self.protocol);
        let inside = |part: &str| {
            let (whole, part) = (text.as_bytes().as_ptr_range(), part.as_bytes().as_ptr_range());
            assert!(
                whole.start <= part.start && part.end <= whole.end,
                "{name}: {text:?}: it is not of the message"
            );
        };
        let found = protocol.classify(text);
        assert_eq!(found, protocol.classify(text), "{name}: the same text was read as something else");
        let mut sequence: Option<Sequence> = None;
        match found {
            Inbound::Message { sequence: told, topic, .. } => {
                sequence = told;
                let _ = topic.map(|topic| topic.to_string());
            }
            Inbound::Response { result: Ok(part) | Err(part), .. }
            | Inbound::Authenticated(Ok(part) | Err(part))
            | Inbound::Subscribed { result: Err(part), .. }
            | Inbound::Confirmed(part)
            | Inbound::Refused(part)
            | Inbound::Notice { text: part, .. } => {
                inside(part);
                let _ = (
                    protocol.error(part),
                    protocol.authenticated(part),
                    protocol.recovery(Fault::Preparation(part)),
                );
            }
            Inbound::Request { id, method, params } => {
                inside(id);
                inside(method);
                params.into_iter().for_each(inside);
            }
            Inbound::Batch => {
                // A batch in a batch is none to the session.
                let (mut cursor, mut items) = (0, 0_usize);
                while let Some(item) = protocol.item(text, &mut cursor) {
                    inside(item);
                    items += 1;
                    assert!(items <= text.len(), "{name}: {text:?}: parts without end");
                    if depth == 0 {
                        self.read(item, 1);
                    }
                }
            }
            _ => {}
        }
        assert_eq!(protocol.error(text).to_string(), protocol.error(text).to_string(), "{name}");
        for fault in [
            Fault::Closed(1008, text),
            Fault::Authentication(text),
            Fault::Preparation(text),
            Fault::Subscription(text),
        ] {
            let _ = protocol.recovery(fault);
        }
        let _ = protocol.authenticated(text);
        for topic in &self.topics {
            let confirms = protocol.confirms(text, topic);
            assert_eq!(confirms, protocol.confirms(text, topic), "{name}: confirmed once");
            let follow = |sequence| {
                let mut tracker = protocol.tracker(topic)?;
                Some([tracker.check(sequence, text), tracker.check(sequence, text), tracker.check(None, "")])
            };
            assert_eq!(follow(sequence), follow(sequence), "{name}: the same numbers were judged otherwise");
        }
        if let Some(mut tracker) = protocol.connection_tracker() {
            let _ = (tracker.check(None, text), tracker.check(None, text));
        }
        let mut reply = "before".to_owned();
        protocol.heartbeat_reply(text, 7, &mut reply);
        let said = reply.strip_prefix("before").expect("a protocol appends to what there is");
        assert!(
            said.is_empty() || said == "pong" || serde_json::from_str::<Value>(said).is_ok(),
            "{name}: {said}"
        );
        // What a user makes of it.
        let params = Params::default();
        let context = everwire_core::protocol::Context::new(crate::wall(), &params).authenticated(Some(text));
        let mut said = String::new();
        let topic = Topic::new(text).with_params(text);
        let wrote = protocol.subscribe(1, &[&topic], &context, &mut said).is_ok();
        let written = said.is_empty() || serde_json::from_str::<Value>(&said).is_ok();
        // The parameters of a topic may be put in as they are.
        assert!(!wrote || written || serde_json::from_str::<Value>(text).is_err(), "{name}: {said}");
        assert!(
            protocol.shares(&topic, &self.topics[0]) == protocol.shares(&self.topics[0], &topic),
            "{name}"
        );
        let _ = protocol.authenticate(1, &context, &mut said);
        let _ = protocol.farewell(1, &context, &mut said);
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn of_deribit(value: &Value) -> Option<String> {
    let params = value.get("params")?;
    let plain = value.get("id").is_none() && value.get("error").is_none() && params.is_object();
    let data = params.get("data")?;
    (plain && text(value, "method") == Some("subscription") && (data.is_array() || data.is_string()))
        .then(|| text(params, "channel").map(str::to_owned))?
}

fn of_binance(value: &Value) -> Option<String> {
    // What events say of the connection has a type.
    let data = value.get("data")?.as_object()?;
    (data.get("e").is_none() && value.as_object()?.len() == 2)
        .then(|| text(value, "stream").map(str::to_owned))?
}

fn of_kucoin(value: &Value) -> Option<String> {
    (text(value, "type") == Some("message")).then(|| text(value, "topic").map(str::to_owned))?
}

fn of_coinbase(value: &Value) -> Option<String> {
    let channel = match text(value, "channel")? {
        "subscriptions" => return None,
        "l2_data" => "level2",
        channel => channel,
    };
    let list = match channel {
        "level2" => None,
        "ticker" | "ticker_batch" => Some("tickers"),
        "market_trades" => Some("trades"),
        "candles" => Some("candles"),
        _ => return Some(channel.to_owned()),
    };
    let event = value.get("events")?.get(0)?;
    // In a book's event, and in one of others that has nothing of its own, all is as documented.
    let of = match list {
        None if event
            .as_object()?
            .keys()
            .all(|key| matches!(key.as_str(), "product_id" | "type" | "updates")) =>
        {
            event
        }
        Some(list) if event.as_object()?.keys().all(|key| key == list || key == "type") => {
            event.get(list)?.get(0)?
        }
        _ => return None,
    };
    text(of, "product_id").map(|product| format!("{channel}:{product}"))
}

fn of_bybit(value: &Value) -> Option<String> {
    let known = ["topic", "type", "ts", "data", "cts"];
    let plain = value.as_object()?.keys().all(|key| known.contains(&key.as_str()));
    let times = value.get("ts")?.is_u64() && value.get("type").is_none_or(Value::is_string);
    (plain && times && value.get("data")?.is_array()).then(|| text(value, "topic").map(str::to_owned))?
}
