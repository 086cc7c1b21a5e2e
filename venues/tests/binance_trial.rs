//! Binance against its scripted venue, in simulations.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_core::protocol::Topic;
use everwire_core::{Step, SubscribeOptions, Watch};
use everwire_testing::script::binance::Venue;
use everwire_testing::script::trial::{Read, Trial, sweep};
use everwire_venues::binance::{self, Binance, BinanceApi, Speed};
use serde_json::Value;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The numbers of a stream's events, read by other means than the client's.
fn read(text: &str) -> Option<Read> {
    let message: Value = serde_json::from_str(text).ok()?;
    if let Some(number) = message["event"]["n"].as_u64() {
        return Some(Read::new("userDataStream", number));
    }
    let (topic, data) = (message["stream"].as_str()?, &message["data"]);
    let number = |key: &str| data[key].as_u64();
    match data["e"].as_str()? {
        "depthUpdate" => {
            // Futures leave numbers out: what follows on `pu` follows.
            let first = number("pu").map_or_else(|| number("U"), |previous| Some(previous + 1))?;
            Some(Read::range(topic, first, number("u")?))
        }
        "trade" => Some(Read::new(topic, number("t")?)),
        "aggTrade" => Some(Read::new(topic, number("a")?)),
        _ => None,
    }
}

fn streams(protocol: Binance, venue: Venue, path: &str, topics: Vec<Topic>) -> Trial<Venue> {
    // Few topics to a message, so that the limit is felt.
    let config = protocol.topics_per_message(1).config(&format!("ws://venue.test{path}")).unwrap();
    // Some subscriptions are confirmed and silent.
    let watch = SubscribeOptions::default().watch(Watch::after(10 * SECOND).up_to(Step::Reconnect));
    // Only the changes of books are numbered so that a hole is known.
    let first = topics[0].name().to_owned();
    topics
        .into_iter()
        .fold(Trial::new(config, venue, read), |trial, topic| trial.topic(topic, watch.clone()))
        .requests(|_| ("LIST_SUBSCRIPTIONS".to_owned(), None))
        .faults(20 * SECOND, move |venue, dice, now, out| match dice.below(7) {
            0 => venue.skip(&first),
            1 => venue.silent(true),
            2 => venue.silent(false),
            3 => venue.shut_down(10 * SECOND, now, out),
            4 => venue.late(dice.below(5) as u32 * SECOND),
            5 => venue.grow_old(out),
            // A number that is not documented: it is tried again.
            _ => venue.refuse_next(7, "Not now"),
        })
        .calms(|venue, _, _| {
            venue.silent(false);
            venue.late(Duration::ZERO);
        })
}

#[test]
fn spot_keeps_its_promises() {
    sweep(0..100, |_| {
        let symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT"];
        let topics = symbols.into_iter().flat_map(|symbol| {
            [binance::depth(symbol, Speed::Ms100), binance::trade(symbol), binance::agg_trade(symbol)]
        });
        let venue = Venue::spot().every(2 * SECOND);
        streams(Binance::spot(), venue, "/stream", topics.collect())
    });
}

#[test]
fn futures_keep_their_promises() {
    sweep(1000..1050, |seed| {
        let symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"];
        if seed % 2 == 0 {
            let topics = symbols.into_iter().map(|symbol| binance::depth(symbol, Speed::Ms500)).collect();
            let venue = Venue::usd_futures().every(2 * SECOND);
            streams(Binance::usd_futures(), venue, "/public/stream", topics)
        } else {
            let topics = symbols
                .into_iter()
                .flat_map(|symbol| [binance::depth(symbol, Speed::Default), binance::agg_trade(symbol)]);
            let venue = Venue::coin_futures().every(2 * SECOND);
            streams(Binance::coin_futures(), venue, "/stream", topics.collect())
        }
    });
}

#[test]
fn the_api_keeps_its_promises() {
    sweep(2000..2070, |seed| {
        let verify = |text: &str, signature: &str| signature == format!("signed {text}");
        let venue = Venue::spot()
            .every(2 * SECOND)
            .busy_account()
            .hmac_key("key", "secret")
            .ed25519_key("ed", verify);
        let api = BinanceApi::spot().recv_window(60 * SECOND);
        let api = if seed % 2 == 0 {
            api.hmac("key", "secret")
        } else {
            api.ed25519("ed", |text| Ok::<_, String>(format!("signed {text}")))
        };
        let config = api.config("ws://venue.test/ws-api/v3").unwrap();
        let watch = SubscribeOptions::default().watch(Watch::after(10 * SECOND).up_to(Step::Reconnect));
        Trial::new(config, venue, read)
            .topic(binance::user_data(), watch)
            .requests(|dice| match dice.below(3) {
                0 => ("time".to_owned(), None),
                1 => ("depth".to_owned(), Some(r#"{"symbol":"BTCUSDT"}"#.to_owned())),
                _ => {
                    let order = binance::NewOrder::market("BTCUSDT", binance::Side::Buy, "1");
                    ("order.place".to_owned(), serde_json::to_string(&order).ok())
                }
            })
            .faults(20 * SECOND, |venue, dice, now, out| match dice.below(4) {
                0 => venue.end_user_data(now, out),
                1 => venue.shut_down(10 * SECOND, now, out),
                2 => venue.refuse_next(-1008, "Server is currently overloaded"),
                _ => venue.silent(dice.below(2) == 0),
            })
            .calms(|venue, _, _| venue.silent(false))
    });
}

/// The check can fail: a session that knows nothing of the limit is thrown out, and the simulation says so.
#[test]
fn a_session_that_does_not_count_is_punished() {
    let topics = (0..40).map(|n| {
        let name = format!("s{n}@trade");
        let say = |method: &str| format!(r#"{{"method":"{method}","params":["{name}"],"id":{n}}}"#);
        Topic::new(&name).subscribe_with(say("SUBSCRIBE")).unsubscribe_with(say("UNSUBSCRIBE"))
    });
    let config = everwire_core::Config::new("ws://venue.test/stream").unwrap();
    // A seed whose network has no faults, so that the punishment counts: see `Trial`.
    let report = Trial::new(config, Venue::spot(), read).topics(topics).run(0);
    let violation = report.violation.unwrap();
    assert!(violation.contains("more than 5 messages in a second"), "{violation}");
}
