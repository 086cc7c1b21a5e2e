//! What is written, what is read, and that nothing that is read does harm.

use super::*;
use everwire_core::protocol::{Name, Traffic};
use everwire_core::{Params, Rate, Sequence};
use everwire_testing::sim::Dice;
use serde_json::Value;
use std::time::SystemTime;

// As they came on 2026-09-05.
const SNAPSHOT: &str = r#"{"channel":"ticker","timestamp":"2026-09-05T22:10:29.562008293Z","sequence_num":0,"events":[{"type":"snapshot","tickers":[{"type":"ticker","product_id":"BTC-PERP-INTX","price":"79879.1","best_bid":"79879"}]}]}"#;
const LISTS: &str = r#"{"channel":"subscriptions","timestamp":"2026-09-05T22:10:29.563180868Z","sequence_num":3,"events":[{"subscriptions":{"heartbeats":["heartbeats"],"ticker":["BTC-PERP-INTX","ETH-PERP-INTX"]}}]}"#;
const BEAT: &str = r#"{"channel":"heartbeats","timestamp":"2026-09-05T22:10:30.260465255Z","sequence_num":4,"events":[{"current_time":"2026-09-05 22:10:30.25788961 +0000 UTC m=+139651.272674714","heartbeat_counter":139651}]}"#;
const ERROR: &str = r#"{"type":"error","message":"authentication failure"}"#;
// As documented.
const BOOK: &str = r#"{"channel":"l2_data","client_id":"","timestamp":"2023-02-09T20:32:50.714964855Z","sequence_num":7,"events":[{"type":"snapshot","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"1970-01-01T00:00:00Z","price_level":"21921.73","new_quantity":"0.06317902"},{"side":"offer","event_time":"1970-01-01T00:00:00Z","price_level":"21921.74","new_quantity":"1"}]}]}"#;
const TRADES: &str = r#"{"channel":"market_trades","client_id":"","timestamp":"2023-02-09T20:19:35.39625135Z","sequence_num":0,"events":[{"type":"update","trades":[{"trade_id":"000000000","product_id":"ETH-USD","price":"1260.01","size":"0.3","side":"BUY","time":"2019-08-14T20:42:27.265Z"}]}]}"#;
const CANDLES: &str = r#"{"channel":"candles","client_id":"","timestamp":"2023-06-09T20:19:35.39625135Z","sequence_num":0,"events":[{"type":"snapshot","candles":[{"start":"1688998200","high":"1867.72","low":"1865.63","open":"1867.38","close":"1866.81","volume":"0.20269406","product_id":"ETH-USD"},{"start":"1688998200","product_id":"BTC-USD"}]}]}"#;
const STATUS: &str = r#"{"channel":"status","client_id":"","timestamp":"2023-02-09T20:29:49.753424311Z","sequence_num":0,"events":[{"type":"snapshot","products":[{"product_type":"SPOT","id":"BTC-USD","status":"online"}]}]}"#;
const ORDERS: &str = r#"{"channel":"user","client_id":"","timestamp":"2026-04-07T14:30:06.000000Z","sequence_num":1,"events":[{"type":"snapshot","orders":[{"order_id":"a1b2c3d4","product_id":"BTC-USD","status":"OPEN"}]}]}"#;

fn write(coinbase: &Coinbase, verb: &str, topics: &[Topic]) -> Result<String, String> {
    let params = Params::default();
    let context = Context::new(SystemTime::UNIX_EPOCH + Duration::from_secs(7), &params);
    let topics: Vec<&Topic> = topics.iter().collect();
    let mut out = String::new();
    let (said, ack) = match verb {
        "subscribe" => (coinbase.subscribe(1, &topics, &context, &mut out), Ack::Separate),
        "unsubscribe" => (coinbase.unsubscribe(1, &topics, &context, &mut out), Ack::None),
        _ => (coinbase.prepare(u32::from(verb == "second"), 1, &context, &mut out), Ack::None),
    };
    said.map(|said| assert_eq!(said, ack)).map_err(|unsaid| unsaid.reason)?;
    Ok(out)
}

fn message<'m>(topic: &'m str, sequence: Sequence, sent: &str) -> Inbound<'m> {
    Inbound::Message { topic: Some(topic.into()), sequence: Some(sequence), sent: wire::time(sent) }
}

#[test]
fn products_of_a_channel_share_a_message() {
    let plain = Coinbase::new();
    let books = [level2("BTC-USD"), level2("ETH-USD")];
    let said = r#"{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channel":"level2"}"#;
    assert_eq!(write(&plain, "subscribe", &books).unwrap(), said);
    let ended = said.replace("subscribe", "unsubscribe");
    assert_eq!(write(&plain, "unsubscribe", &books).unwrap(), ended);
    assert_eq!(write(&plain, "first", &[]).unwrap(), r#"{"type":"subscribe","channel":"heartbeats"}"#);
    assert_eq!(write(&plain, "second", &[]).unwrap(), "");
    let some = write(&plain, "subscribe", &[status(&["BTC-USD"])]).unwrap();
    assert_eq!(some, r#"{"type":"subscribe","product_ids":["BTC-USD"],"channel":"status"}"#);
    let all = write(&plain, "subscribe", &[status(&[])]).unwrap();
    assert_eq!(all, r#"{"type":"subscribe","channel":"status"}"#);
    // Nobody ends what keeps all others open.
    assert_eq!(write(&plain, "unsubscribe", &[heartbeats()]).unwrap(), "");
    let odd = write(&plain, "subscribe", &[level2("\"\\")]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&odd).unwrap()["product_ids"][0], "\"\\");
    for (a, b, share) in [
        (level2("A"), level2("B"), true),
        (level2("A"), ticker("A"), false),
        (user(), user(), false),
        (status(&["A"]), status(&["B"]), false),
        (user(), ticker("A"), false),
    ] {
        assert_eq!((plain.shares(&a, &b), plain.shares(&b, &a)), (share, share), "{} {}", a.name(), b.name());
    }
}

#[test]
fn what_is_no_topic_says_why() {
    let coinbase = Coinbase::new();
    for (topic, why) in [
        (Topic::new("level2"), "name the product"),
        (Topic::new("ticker:"), "name the product"),
        (level2("BTC-USD,ETH-USD"), "each product by itself"),
        (Topic::new("l2_data:BTC-USD"), "subscribe to level2"),
        (Topic::new("user:BTC-USD"), "of one topic"),
        (Topic::new("status").with_params("BTC-USD"), "JSON list"),
        (user(), "configure Coinbase::jwt"),
        (futures_balance_summary(), "configure Coinbase::jwt"),
    ] {
        let reason = write(&coinbase, "subscribe", &[topic]).unwrap_err();
        assert!(reason.contains(why), "{reason}");
    }
    let apart = write(&coinbase, "subscribe", &[level2("A"), ticker("A")]).unwrap_err();
    assert!(apart.contains("share no message"));
    let params = Params::default();
    let context = Context::new(SystemTime::UNIX_EPOCH, &params);
    let asked = coinbase.request(1, &Request::new("order"), &context, &mut String::new()).unwrap_err();
    assert!(asked.reason.contains("use REST"));
}

#[test]
fn each_message_has_a_token_of_its_own_and_none_is_shown() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let made = AtomicU64::new(0);
    let mine = Coinbase::new().jwt(move |context| {
        let secs = context.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Ok(format!("token-{secs}-{}", made.fetch_add(1, Ordering::Relaxed)))
    });
    let beats = write(&mine, "first", &[]).unwrap();
    assert_eq!(beats, r#"{"type":"subscribe","channel":"heartbeats","jwt":"token-7-0"}"#);
    let orders = write(&mine, "subscribe", &[user_of(&["BTC-USD"])]).unwrap();
    assert_eq!(
        orders,
        r#"{"type":"subscribe","product_ids":["BTC-USD"],"channel":"user","jwt":"token-7-1"}"#
    );
    assert!(write(&mine, "unsubscribe", &[level2("A")]).unwrap().contains("token-7-2"));
    assert!(format!("{mine:?}").contains("Jwt(..)"));
    let broken = Coinbase::new().jwt(|_| Err("the vault is closed".to_owned()));
    let reason = write(&broken, "first", &[]).unwrap_err();
    assert_eq!(reason, "the function that makes the token for heartbeats refused: the vault is closed");
    assert!(write(&broken, "subscribe", &[level2("A")]).unwrap_err().ends_with("the vault is closed"));
}

#[test]
fn each_kind_of_message_is_known() {
    let coinbase = Coinbase::new();
    assert_eq!(coinbase.classify(LISTS), Inbound::Confirmed(LISTS));
    assert_eq!(coinbase.classify(BEAT), Inbound::Heartbeat);
    assert_eq!(coinbase.classify(ERROR), Inbound::Refused(ERROR));
    for (text, topic, sequence, sent) in [
        (SNAPSHOT, "ticker:BTC-PERP-INTX", Sequence::new(0), "2026-09-05T22:10:29.562008293Z"),
        (BOOK, "level2:BTC-USD", Sequence::new(7).snapshot(), "2023-02-09T20:32:50.714964855Z"),
        (TRADES, "market_trades:ETH-USD", Sequence::new(0), "2023-02-09T20:19:35.39625135Z"),
        // Of several products, the first.
        (CANDLES, "candles:ETH-USD", Sequence::new(0), "2023-06-09T20:19:35.39625135Z"),
        (STATUS, "status", Sequence::new(0), "2023-02-09T20:29:49.753424311Z"),
        (ORDERS, "user", Sequence::new(1), "2026-04-07T14:30:06Z"),
    ] {
        assert_eq!(coinbase.classify(text), message(topic, sequence, sent), "{text}");
    }
    let update = BOOK.replace("snapshot", "update");
    let plain = message("level2:BTC-USD", Sequence::new(7), "2023-02-09T20:32:50.714964855Z");
    assert_eq!(coinbase.classify(&update), plain);
    let told = Coinbase::new().tell_heartbeats(true);
    let beat = message("heartbeats", Sequence::new(4), "2026-09-05T22:10:30.260465255Z");
    assert_eq!(told.classify(BEAT), beat);
    // A list that is empty, and another that is not.
    let second = r#"{"channel":"market_trades","events":[{"type":"snapshot","trades":[]},{"trades":[{"x":1,"product_id":"A"}]}]}"#;
    let named = Inbound::data(Some(Name::of(&["market_trades", "A"])));
    assert_eq!(coinbase.classify(second), named);
}

#[test]
fn what_is_not_understood_reaches_the_user() {
    let coinbase = Coinbase::new();
    for text in [
        "",
        "x",
        "[]",
        "5",
        "{}",
        r#"["error","ticker"]"#,
        r#"{"type":"new"}"#,
        r#"{"channel":5}"#,
        r#"{"channel":"tick\u0065r","events":[]}"#,
        r#"{"channel":"ticker","events":[]}"#,
        r#"{"channel":"ticker","events":[5]}"#,
        r#"{"channel":"ticker","events":{"tickers":7}}"#,
        r#"{"channel":"ticker","events":[{"tickers":[{"product_id":"B\u0054C"}]}]}"#,
        r#"{"channel":"ticker","channel":"ticker"}"#,
        r#"{"channel":"ticker"} trailing"#,
    ] {
        assert_eq!(coinbase.classify(text), Inbound::other(), "{text}");
    }
    let new = r#"{"channel":"news","sequence_num":9,"events":[]}"#;
    let told = Inbound::Message { topic: Some("news".into()), sequence: Some(Sequence::new(9)), sent: None };
    assert_eq!(coinbase.classify(new), told);
}

#[test]
fn lists_confirm_what_they_name() {
    let coinbase = Coinbase::new();
    let confirms = |topic: Topic| coinbase.confirms(LISTS, &topic);
    assert!(confirms(ticker("BTC-PERP-INTX")) && confirms(ticker("ETH-PERP-INTX")) && confirms(heartbeats()));
    assert!(!confirms(ticker("BTC")) && !confirms(level2("BTC-PERP-INTX")) && !confirms(user()));
    let orders = r#"{"channel":"subscriptions","events":[{"subscriptions":{"user":["portfolio-1"]}}]}"#;
    assert!(coinbase.confirms(orders, &user()) && coinbase.confirms(orders, &user_of(&["BTC-USD"])));
    for odd in ["", "{}", r#"{"events":[]}"#, r#"{"events":[{"subscriptions":[]}]}"#] {
        assert!(!coinbase.confirms(odd, &user()), "{odd}");
    }
}

#[test]
fn errors_are_read() {
    let coinbase = Coinbase::new();
    assert_eq!(&*coinbase.error(ERROR).message, "authentication failure");
    let reasoned = r#"{"type":"error","message":"Failed to subscribe","reason":"BTC \"X\""}"#;
    assert_eq!(&*coinbase.error(reasoned).message, "Failed to subscribe: BTC \"X\"");
    assert_eq!(&*coinbase.error("what?").message, "what?");
    assert_eq!(coinbase.recovery(Fault::Subscription(ERROR)), None);
    let rate = r#"{"type":"error","message":"Rate limit exceeded"}"#;
    assert_eq!(coinbase.recovery(Fault::Subscription(rate)), Some(Recovery::Backoff(PAUSE)));
    assert_eq!(coinbase.recovery(Fault::Closed(1008, "rate limit")), None);
}

#[test]
fn limits_are_as_documented() {
    let coinbase = Coinbase::new().address("10.0.0.1");
    let limits = coinbase.limits();
    assert_eq!(limits[0].rate(), Rate::Window { max: 8, per: Duration::from_secs(1) });
    assert_eq!(limits[0].account(), Some("10.0.0.1"));
    assert_eq!(coinbase.cost("messages", Traffic::Subscribe(5)), 1);
    let more = Coinbase::new().messages(750, Duration::from_secs(1)).topics_per_message(0);
    assert_eq!(more.limits()[0].rate(), Rate::Window { max: 750, per: Duration::from_secs(1) });
    assert_eq!(Protocol::topics_per_message(&more), 1);
    assert!(Coinbase::new().config("https://x").is_err());
}

#[test]
fn times_are_read() {
    let at = |text: &str| wire::time(text).map(|time| (time.as_secs(), time.subsec_nanos()));
    assert_eq!(at("1970-01-01T00:00:00Z"), Some((0, 0)));
    assert_eq!(at("2026-01-01T01:02:03.045678Z"), Some((1_767_229_323, 45_678_000)));
    assert_eq!(at("2000-02-29T00:00:00.1Z"), Some((951_782_400, 100_000_000)));
    assert_eq!(at("2000-03-01T00:00:00Z"), Some((951_868_800, 0)));
    assert_eq!(at("2100-03-01T00:00:00Z"), Some((4_107_542_400, 0)));
    assert_eq!(at("9999-12-31T23:59:60.999999999Z"), Some((253_402_300_800, 999_999_999)));
    for text in [
        "",
        "Z",
        "2026-01-01T01:02:03",
        "2026-01-01T01:02:03.Z",
        "2026-01-01T01:02:03.1234567890Z",
        "2026-01-01T01:02:03+01:00Z",
        "2026-13-01T01:02:03Z",
        "2026-00-01T01:02:03Z",
        "2026-02-29T01:02:03Z",
        "2026-01-00T01:02:03Z",
        "2026-01-01T24:02:03Z",
        "1969-12-31T23:59:59Z",
        "2026-01-01 01:02:03Z",
        "+026-01-01T01:02:03Z",
        "2026-01-01T01:02:0\u{e9}Z",
    ] {
        assert_eq!(at(text), None, "{text}");
    }
    // Against the script's own, day by day.
    for day in 0..60_000 {
        let time = Duration::from_secs(day * 86_400 + day % 86_400);
        let wall = everwire_testing::script::kit::Wall::new(SystemTime::UNIX_EPOCH);
        assert_eq!(wire::time(&wall.rfc3339(time, (day % 10) as usize)), Some(time));
    }
}

/// Any text whatever: nothing panics, and what is whole is read as it is.
#[test]
fn texts_that_are_broken_do_no_harm() {
    let frames = [SNAPSHOT, LISTS, BEAT, ERROR, BOOK, TRADES, CANDLES, STATUS, ORDERS];
    let pieces =
        ["\"", "\\", "{", "}", "[", "]", ",", ":", "null", "1e999", "-0", "\u{e9}", "\u{1f980}", "type"];
    let coinbase = Coinbase::new();
    let mut dice = Dice::new(11, 0);
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
        let found = coinbase.classify(&text);
        let _ = coinbase.error(&text);
        let _ = coinbase.confirms(&text, &ticker("BTC-USD"));
        let _ = coinbase.connection_tracker().unwrap().check(None, &text);
        let Ok(value) = serde_json::from_str::<Value>(&text) else {
            // Numbers that are too large for a `Value` are none of ours.
            let whole = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            assert!(whole || found == Inbound::other(), "{text}");
            continue;
        };
        if let Some(channel) = value["channel"].as_str().filter(|_| !text.contains('\\')) {
            whole += 1;
            match channel {
                "subscriptions" => assert_eq!(found, Inbound::Confirmed(&text)),
                "heartbeats" => assert_eq!(found, Inbound::Heartbeat),
                _ => {
                    let Inbound::Message { topic, sequence, .. } = found else { panic!("{text}: {found:?}") };
                    let event = &value["events"][0];
                    let items = [&event["tickers"][0], &event["trades"][0], &event["candles"][0], event];
                    let product = items.iter().find_map(|item| item["product_id"].as_str());
                    let channel = if channel == "l2_data" { "level2" } else { channel };
                    match (topics::is_of_products(channel), product) {
                        (true, Some(product)) => {
                            assert_eq!(topic, Some(Name::of(&[channel, product])), "{text}");
                        }
                        // A later one may name it.
                        (true, None) => {}
                        (false, _) => assert_eq!(topic, Some(channel.into()), "{text}"),
                    }
                    assert_eq!(
                        sequence.map(|sequence| sequence.last),
                        value["sequence_num"].as_u64(),
                        "{text}"
                    );
                }
            }
        }
    }
    assert!(whole > 500, "{whole} messages were still whole");
}
