//! What is written, and that nothing that is read does harm.

use super::*;
use everwire_core::{Continuity, Params, Rate, Sequence};
use everwire_testing::sim::Dice;
use std::time::SystemTime;

fn with_token() -> Params {
    [(TOKEN, "hun\"ter2")].into_iter().collect()
}

fn write_as(method: &str, topics: &[Topic], params: &Params) -> Result<(Ack, String), String> {
    let kraken = Kraken::new();
    let context = Context::new(SystemTime::UNIX_EPOCH, params);
    let topics: Vec<&Topic> = topics.iter().collect();
    let mut out = String::new();
    let said = match method {
        "subscribe" => kraken.subscribe(7, &topics, &context, &mut out),
        _ => kraken.unsubscribe(7, &topics, &context, &mut out),
    };
    said.map(|ack| (ack, out)).map_err(|unsaid| unsaid.reason)
}

#[test]
fn symbols_of_a_channel_share_a_message() {
    let none = Params::default();
    let books = [book("BTC/USD", Depth::Hundred), book("ETH/USD", Depth::Hundred)];
    assert_eq!(
        write_as("subscribe", &books, &none).unwrap(),
        (Ack::Separate, r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD","ETH/USD"],"depth":100},"req_id":7}"#.to_owned())
    );
    assert_eq!(
        write_as("unsubscribe", &books, &none).unwrap().1,
        r#"{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USD","ETH/USD"]},"req_id":7}"#
    );
    assert_eq!(
        write_as("unsubscribe", &[ohlc("BTC/USD", 5)], &none).unwrap(),
        (Ack::Separate, r#"{"method":"unsubscribe","params":{"channel":"ohlc","symbol":["BTC/USD"],"interval":5},"req_id":7}"#.to_owned())
    );
    assert_eq!(
        write_as("subscribe", &[instruments()], &none).unwrap(),
        (Ack::Separate, r#"{"method":"subscribe","params":{"channel":"instrument"},"req_id":7}"#.to_owned())
    );
    let trigger = topic("ticker", Some("BTC/USD"), r#"{"event_trigger":"bbo"}"#);
    assert!(write_as("subscribe", &[trigger], &none).unwrap().1.contains(r#""event_trigger":"bbo""#));
    let wrong = topic("ticker", Some("BTC/USD"), "bbo");
    assert!(write_as("subscribe", &[wrong], &none).unwrap_err().contains("must be a JSON object"));
}

#[test]
fn what_shares_a_message_and_what_does_not() {
    let kraken = Kraken::new();
    let shares = |a: &Topic, b: &Topic| {
        assert_eq!(kraken.shares(a, b), kraken.shares(b, a));
        kraken.shares(a, b)
    };
    assert!(shares(&trades("A/B"), &trades("C/D")));
    assert!(shares(&ohlc("A/B", 5), &ohlc("C/D", 5)));
    for (a, b) in [
        (trades("A/B"), ticker("A/B")),
        (book("A/B", Depth::Ten), book("C/D", Depth::TwentyFive)),
        (ohlc("A/B", 5), ohlc("A/B", 15)),
        (executions(), balances()),
    ] {
        assert!(!shares(&a, &b), "{} {}", a.name(), b.name());
    }
    let mixed = write_as("subscribe", &[trades("A/B"), ticker("A/B")], &Params::default());
    assert!(mixed.unwrap_err().contains("share no message"));
}

#[test]
fn tokens_go_into_what_needs_them() {
    let (none, token) = (Params::default(), with_token());
    assert!(write_as("subscribe", &[executions()], &none).unwrap_err().contains("needs a token"));
    assert_eq!(
        write_as("subscribe", &[executions()], &token).unwrap().1,
        r#"{"method":"subscribe","params":{"channel":"executions","token":"hun\"ter2"},"req_id":7}"#
    );
    assert!(!write_as("subscribe", &[trades("A/B")], &token).unwrap().1.contains("token"));
    let (kraken, mut out) = (Kraken::new(), String::new());
    let mut order = |request: Request<'_>, params: &Params| {
        out.clear();
        let context = Context::new(SystemTime::UNIX_EPOCH, params);
        kraken.request(9, &request, &context, &mut out).map(|()| out.clone())
    };
    let cancel = Request::new("cancel_order").params(r#"{"order_id":["O-1"]}"#);
    assert_eq!(
        order(cancel, &token).unwrap(),
        r#"{"method":"cancel_order","params":{"order_id":["O-1"],"token":"hun\"ter2"},"req_id":9}"#
    );
    let own = Request::new("cancel_all").params(r#"{"token":"mine"}"#);
    assert_eq!(
        order(own, &token).unwrap(),
        r#"{"method":"cancel_all","params":{"token":"mine"},"req_id":9}"#
    );
    assert_eq!(order(Request::new("ping"), &none).unwrap(), r#"{"method":"ping","params":{},"req_id":9}"#);
    // Where it is wrong, not what stands there.
    for params in ["[1]", r#""hunter2""#, r#"{"token":hunter2}"#, ""] {
        let reason = order(Request::new("x").params(params), &none).unwrap_err().reason;
        assert!(reason.contains("must be a JSON object") && !reason.contains("hunter2"), "{reason}");
    }
    assert!(order(cancel, &none).unwrap_err().reason.contains("cancel_order needs a token"));
    assert!(order(own, &none).is_ok());
}

#[test]
fn names_have_their_parts() {
    for (name, channel, symbol) in [
        ("book:BTC/USD", "book", Some("BTC/USD")),
        ("ohlc:BTC/USD:5", "ohlc", Some("BTC/USD")),
        ("ohlc:BTC/USD", "ohlc", Some("BTC/USD")),
        ("executions", "executions", None),
    ] {
        assert_eq!(Parts::of(name), Parts { channel, symbol });
    }
    assert_eq!(ohlc("BTC/USD", 5).name(), "ohlc:BTC/USD:5");
    for (depth, levels) in [
        (Depth::Ten, 10),
        (Depth::TwentyFive, 25),
        (Depth::Hundred, 100),
        (Depth::FiveHundred, 500),
        (Depth::Thousand, 1000),
    ] {
        assert_eq!(depth.levels(), levels);
    }
}

#[test]
fn limits_and_trackers_are_as_documented() {
    let kraken = Kraken::new();
    assert_eq!(kraken.limits()[0].rate(), Rate::Window { max: 10, per: Duration::from_secs(1) });
    assert!(kraken.config(URL).is_ok() && kraken.config(BETA_URL).is_ok() && kraken.config("x").is_err());
    assert!(
        everwire_core::Endpoint::new(PRIVATE_URL).is_ok()
            && everwire_core::Endpoint::new(BETA_PRIVATE_URL).is_ok()
    );
    let params = Params::default();
    let mut out = String::new();
    let context = Context::new(SystemTime::UNIX_EPOCH, &params);
    assert_eq!(kraken.heartbeat(12, &context, &mut out), Ack::Response);
    assert_eq!(out, r#"{"method":"ping","req_id":12}"#);
    let mut account = kraken.tracker(&executions()).unwrap();
    assert_eq!(account.check(Some(Sequence::new(1)), ""), Continuity::Continues);
    assert_eq!(account.check(Some(Sequence::new(3)), ""), Continuity::Gap { expected: 2, got: 3 });
    assert!(kraken.tracker(&book("A/B", Depth::Ten)).is_some() && kraken.tracker(&trades("A/B")).is_none());
    assert!(kraken.tracker(&topic("book", Some("A/B"), r#"{"snapshot":false}"#)).is_none());
    let loose = kraken.checksums(false).numbers(false);
    assert!(loose.tracker(&book("A/B", Depth::Ten)).is_none() && loose.tracker(&balances()).is_none());
}

/// Any text whatever: nothing panics, and what is read is a part of it.
#[test]
fn texts_that_are_broken_do_no_harm() {
    let frames = [
        r#"{"channel":"heartbeat"}"#,
        r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"ALGO/USD"},"success":true,"req_id":7}"#,
        r#"{"error":"Currency pair not supported XBT/USD","method":"subscribe","req_id":7,"success":false,"symbol":"XBT/USD"}"#,
        r#"{"channel":"book","type":"snapshot","data":[{"symbol":"A/B","bids":[{"price":0.5657,"qty":1098.39}],"asks":[{"price":0.5658,"qty":3}],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
        r#"{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[],"asks":[{"price":0.5658,"qty":0.0}],"checksum":1}]}"#,
        r#"{"channel":"executions","type":"update","data":[{"order_id":"O","symbol":"A/B"}],"sequence":2}"#,
    ];
    let pieces = ["\"", "\\", "{", "}", "[", ",", ":", "null", "1e999", "-0", "\u{e9}", "\u{1f980}", "data"];
    let kraken = Kraken::new();
    let mut tracker = kraken.tracker(&book("A/B", Depth::Ten)).unwrap();
    let mut dice = Dice::new(7, 0);
    let mut whole = 0;
    for _ in 0..20_000 {
        let mut text: Vec<char> = frames[dice.index(frames.len())].chars().collect();
        for _ in 0..=dice.below(3) {
            let at = dice.index(text.len() + 1);
            let piece = pieces[dice.index(pieces.len())];
            match dice.below(3) {
                0 => text.truncate(at),
                1 => drop(text.splice(at..at, piece.chars())),
                _ if at < text.len() => drop(text.remove(at)),
                _ => {}
            }
        }
        let text: String = text.into_iter().collect();
        let _ =
            (kraken.error(&text), kraken.recovery(Fault::Subscription(&text)), tracker.check(None, &text));
        let _ = kraken.confirms(&text, &trades("A/B"));
        let inbound = kraken.classify(&text);
        // Whole JSON that names a symbol keeps it: reading less than all of a message must not lose it.
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
            && value["channel"] == "book"
            && value
                .as_object()
                .is_some_and(|object| !object.contains_key("method") && !object.contains_key("error"))
            && let Some(symbol) = value["data"][0]["symbol"].as_str().filter(|_| !text.contains('\\'))
        {
            let Inbound::Message { topic: Some(name), .. } = inbound else { panic!("{text}: {inbound:?}") };
            assert_eq!(name.to_string(), format!("book:{symbol}"), "{text}");
            whole += 1;
        }
    }
    assert!(whole > 500, "{whole} messages were still whole");
}
