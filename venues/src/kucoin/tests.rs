//! What is written, and that nothing that is read does harm.

use super::*;
use everwire_core::protocol::Traffic;
use everwire_core::{Continuity, Params, Rate, Sequence};
use everwire_testing::sim::Dice;
use std::time::SystemTime;

fn write(verb: &str, topics: &[Topic]) -> Result<String, String> {
    let (kucoin, params) = (Kucoin::new(), Params::default());
    let context = Context::new(SystemTime::UNIX_EPOCH, &params);
    let topics: Vec<&Topic> = topics.iter().collect();
    let mut out = String::new();
    let said = match verb {
        "subscribe" => kucoin.subscribe(7, &topics, &context, &mut out),
        _ => kucoin.unsubscribe(7, &topics, &context, &mut out),
    };
    said.map(|ack| assert_eq!(ack, Ack::Response)).map_err(|unsaid| unsaid.reason)?;
    Ok(out)
}

#[test]
fn a_welcome_is_ours_if_it_names_our_connection() {
    let welcome = |params: &Params, text: &str| {
        Kucoin::new().greeting(text, &Context::new(SystemTime::UNIX_EPOCH, params)).is_ok()
    };
    let ours = Params::from_iter([(CONNECT_ID, "one\u{e9}")]);
    assert!(welcome(&ours, "{\"id\":\"one\\u00e9\",\"type\":\"welcome\"}"));
    assert!(!welcome(&ours, r#"{"id":"two","type":"welcome"}"#));
    // What names none may be ours, and a connection that has none asks for none.
    for text in [r#"{"type":"welcome"}"#, r#"{"id":7,"type":"welcome"}"#, "no JSON"] {
        assert!(welcome(&ours, text), "{text}");
    }
    assert!(welcome(&Params::default(), r#"{"id":"two","type":"welcome"}"#));
}

#[test]
fn topics_of_a_channel_share_a_message() {
    assert_eq!(
        write("subscribe", &[ticker("BTC-USDT"), ticker("ETH-USDT")]).unwrap(),
        r#"{"id":"7","type":"subscribe","topic":"/market/ticker:BTC-USDT,ETH-USDT","privateChannel":false,"response":true}"#
    );
    assert_eq!(
        write("unsubscribe", &[futures::position("XBTUSDTM")]).unwrap(),
        r#"{"id":"7","type":"unsubscribe","topic":"/contract/position:XBTUSDTM","privateChannel":true,"response":true}"#
    );
    assert!(write("subscribe", &[all_tickers()]).unwrap().contains(r#""topic":"/market/ticker:all""#));
    let quoted = write("subscribe", &[public("/market/ticker:\"\\")]).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&quoted).is_ok(), "{quoted}");
}

#[test]
fn what_shares_a_message_and_what_does_not() {
    let kucoin = Kucoin::new();
    let shares = |a: &Topic, b: &Topic| {
        assert_eq!(kucoin.shares(a, b), kucoin.shares(b, a));
        kucoin.shares(a, b)
    };
    assert!(shares(&ticker("A-B"), &ticker("C-D")));
    assert!(shares(&candles("A-B", "1min"), &candles("A-B", "1hour")));
    for (a, b) in [
        (ticker("A-B"), all_tickers()),
        (all_tickers(), all_tickers()),
        (ticker("A-B"), level2("A-B")),
        (level2("A-B"), futures::level2("A")),
        (orders(), balances()),
        (orders(), orders()),
        (private("/market/ticker:A-B"), ticker("C-D")),
    ] {
        assert!(!shares(&a, &b), "{} {}", a.name(), b.name());
    }
}

#[test]
fn a_list_or_something_else_is_no_topic() {
    assert!(write("subscribe", &[ticker("A-B,C-D")]).unwrap_err().contains("each symbol by itself"));
    assert!(write("subscribe", &[ticker("A-B"), all_tickers()]).unwrap_err().contains("share no message"));
    assert!(write("subscribe", &[public("BTC-USDT")]).unwrap_err().contains("begin with a slash"));
}

#[test]
fn limits_and_options_are_as_documented() {
    let kucoin = Kucoin::new();
    assert_eq!(kucoin.topics_per_message(500).topics_per_message, 100);
    let kucoin = Kucoin::new();
    assert_eq!(Protocol::topics_per_connection(&kucoin), Some(300));
    assert_eq!(Protocol::topics_per_connection(&kucoin.clone().topics_per_connection(None)), None);
    let limits = kucoin.limits();
    assert_eq!(limits[0].rate(), Rate::Window { max: 100, per: Duration::from_secs(10) });
    assert_eq!(kucoin.cost("messages", Traffic::Heartbeat), 1);
    assert_eq!(kucoin.life(), Some(TOKEN_LIFE));
    assert!(kucoin.greets());
    let params = Params::default();
    let context = Context::new(SystemTime::UNIX_EPOCH, &params);
    let mut out = String::new();
    assert_eq!(kucoin.heartbeat(12, &context, &mut out), Ack::Response);
    assert_eq!(out, r#"{"id":"12","type":"ping"}"#);
    let refused = kucoin.request(1, &Request::new("order"), &context, &mut out).unwrap_err();
    assert!(refused.reason.contains("use REST"));
}

#[test]
fn books_are_watched_and_others_if_that_is_wanted() {
    let plain = Kucoin::new();
    let mut spot = plain.tracker(&level2("A-B")).unwrap();
    assert_eq!(spot.check(Some(Sequence::range(5, 9)), ""), Continuity::Continues);
    assert_eq!(spot.check(Some(Sequence::range(10, 10)), ""), Continuity::Continues);
    assert_eq!(spot.check(Some(Sequence::range(13, 13)), ""), Continuity::Gap { expected: 11, got: 13 });
    assert!(plain.tracker(&futures::level2("A")).is_some());
    for topic in [ticker("A-B"), depth5("A-B"), futures::depth50("A"), futures::matches("A"), orders()] {
        assert!(plain.tracker(&topic).is_none(), "{}", topic.name());
    }
    let asked = plain.consecutive("/contractMarket/execution").watch_books(false);
    assert!(asked.tracker(&futures::matches("A")).is_some() && asked.tracker(&level2("A-B")).is_none());
}

/// Any text whatever: nothing panics, and what is read is a part of it.
#[test]
fn texts_that_are_broken_do_no_harm() {
    let frames = [
        r#"{"id":"hQvf8jkno","type":"welcome"}"#,
        r#"{"id":"1545910660739","type":"ack"}"#,
        r#"{"id":"28","type":"error","code":404,"data":"topic does not exist"}"#,
        r#"{"topic":"/market/level2:BTC-USDT","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[["67993.3","1.2","14701689783"]],"bids":[]},"sequenceEnd":14701689783,"sequenceStart":14701689783,"symbol":"BTC-USDT","time":1729816425625}}"#,
        r#"{"topic":"/contractMarket/level2:XBTUSDTM","type":"message","subject":"level2","sn":17,"data":{"sequence":17,"change":"90631.2,sell,2","timestamp":1731897467182}}"#,
    ];
    let pieces = ["\"", "\\", "{", "}", "[", ",", ":", "null", "1e999", "-0", "\u{e9}", "\u{1f980}", "type"];
    let kucoin = Kucoin::new();
    let mut dice = Dice::new(7, 0);
    let mut whole = 0;
    for _ in 0..20_000 {
        let mut text: Vec<char> = frames[dice.below(frames.len() as u64) as usize].chars().collect();
        for _ in 0..=dice.below(3) {
            let at = dice.below(text.len() as u64 + 1) as usize;
            let piece = pieces[dice.below(pieces.len() as u64) as usize];
            match dice.below(3) {
                0 => text.truncate(at),
                1 => drop(text.splice(at..at, piece.chars())),
                _ if at < text.len() => drop(text.remove(at)),
                _ => {}
            }
        }
        let text: String = text.into_iter().collect();
        let _ = kucoin.classify(&text);
        let _ = kucoin.error(&text);
        let _ = kucoin.recovery(Fault::Subscription(&text));
        // Whole JSON that names a topic keeps it: reading less than all of a message must not lose it.
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
            && value["type"] == "message"
            && let Some(topic) = value["topic"].as_str().filter(|_| !text.contains('\\'))
        {
            let found = kucoin.classify(&text);
            let Inbound::Message { topic: Some(name), .. } = found else { panic!("{text}: {found:?}") };
            assert_eq!(name, topic.into(), "{text}");
            whole += 1;
        }
    }
    assert!(whole > 500, "{whole} messages were still whole");
}
