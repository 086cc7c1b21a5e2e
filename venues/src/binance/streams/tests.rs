use super::*;
use crate::binance::testing::{Dice, SHAPES, message};
use everwire_core::{Clock, Continuity, Params, Sequence, Session};
use std::time::SystemTime;

const SENT: Option<Duration> = Some(Duration::from_millis(1_672_515_782_136));

fn data(topic: &str, sequence: Option<Sequence>, sent: Option<Duration>) -> Inbound<'_> {
    Inbound::Message { topic: Some(topic.into()), sequence, sent }
}

fn shutdown() -> Inbound<'static> {
    Inbound::Notice { text: "serverShutdown", recovery: Some(Recovery::Reconnect) }
}

#[test]
fn each_shape_is_what_it_is() {
    let read = |at: usize| Binance::spot().classify(SHAPES[at]);
    assert_eq!(read(0), data("bnbbtc@depth@100ms", Some(Sequence::range(157, 160)), SENT));
    let numbers = Sequence::range(157, 160).previous(149);
    assert_eq!(read(1), data("btcusdt@depth", Some(numbers), Some(Duration::from_millis(123_456_789))));
    assert_eq!(read(2), data("bnbusdt@bookTicker", None, None));
    assert_eq!(read(3), data("!ticker@arr", None, None));
    assert_eq!((read(4), read(5)), (shutdown(), shutdown()));
    assert_eq!(read(8), Inbound::Response { id: 1, result: Ok("null") });
    assert_eq!(read(9), Inbound::Response { id: 3, result: Ok(r#"["btcusdt@aggTrade"]"#) });
    assert_eq!(read(10), Inbound::Response { id: 7, result: Err(SHAPES[10]) });
    assert_eq!(read(11), Inbound::Refused(SHAPES[11]));
    let nested = r#"{"code":2,"msg":"Invalid request: invalid stream"}"#;
    assert_eq!(read(12), Inbound::Response { id: 2, result: Err(nested) });
    let expired = Inbound::Notice { text: "listenKeyExpired", recovery: Some(Recovery::Reauthenticate) };
    assert_eq!(read(15), expired);
}

#[test]
fn what_is_odd_reaches_the_user() {
    let spot = Binance::spot();
    // A level's quantity may be what it likes; a name with escapes is none; a depth of 20 is no row of
    // changes.
    let partial = r#"{"stream":"a@depth20@100ms","data":{"U":1,"u":2,"pu":0}}"#;
    assert_eq!(spot.classify(partial), data("a@depth20@100ms", None, None));
    let half = r#"{"stream":"a@depth","data":{"U":1,"u":"2"}}"#;
    assert_eq!(spot.classify(half), data("a@depth", None, None));
    for text in [
        "",
        "[1]",
        "x",
        r#"{"stream":"a\u0040depth","data":{"U":1,"u":2}}"#,
        r#"{"result":null,"id":"x"}"#,
        r#"{"id":5}"#,
        r#"{"msg":"no code"}"#,
        r#"{"result":null}"#,
    ] {
        assert_eq!(spot.classify(text), Inbound::other(), "{text}");
    }
    // Raw, as user data of a listen key are.
    let raw = r#"{"e":"ORDER_TRADE_UPDATE","E":1672515782136,"o":{"e":"x"}}"#;
    assert_eq!(spot.classify(raw), Inbound::Message { topic: None, sequence: None, sent: SENT });
}

#[test]
fn never_panics_and_parts_are_of_the_text() {
    let (spot, mut rng) = (Binance::spot(), Dice::new(3));
    let mut kinds = [0; 4];
    for _ in 0..20_000 {
        let text = message(&mut rng);
        let within = |part: &str| text.as_bytes().as_ptr_range().contains(&part.as_ptr()) || part.is_empty();
        let kind = match spot.classify(&text) {
            Inbound::Message { topic, .. } => usize::from(topic.is_some()),
            Inbound::Response { result: Ok(part) | Err(part), .. } | Inbound::Refused(part) => {
                let _ = spot.error(part);
                assert!(within(part), "{text}");
                2
            }
            Inbound::Notice { text: said, .. } => {
                assert!(within(said), "{text}");
                3
            }
            other => panic!("{other:?}: {text}"),
        };
        kinds[kind] += 1;
    }
    assert!(kinds.iter().all(|count| *count > 500), "{kinds:?}");
}

fn written(write: impl FnOnce(&Context<'_>, &mut String) -> Result<Ack, Unsupported>) -> (String, Ack) {
    let (params, mut out) = (Params::default(), String::new());
    let ack = write(&Context::new(SystemTime::UNIX_EPOCH, &params), &mut out).unwrap();
    (out, ack)
}

#[test]
fn says_what_the_documents_say() {
    let spot = Binance::spot();
    let topics = [Topic::new("btcusdt@aggTrade"), Topic::new("\"odd\"@depth")];
    let [one, two] = [&topics[0], &topics[1]];
    let subscribe = written(|context, out| spot.subscribe(1, &[one, two], context, out));
    let text = r#"{"method":"SUBSCRIBE","params":["btcusdt@aggTrade","\"odd\"@depth"],"id":1}"#;
    assert_eq!(subscribe, (text.to_owned(), Ack::Response));
    let unsubscribe = written(|context, out| spot.unsubscribe(312, &[one], context, out));
    assert_eq!(unsubscribe.0, r#"{"method":"UNSUBSCRIBE","params":["btcusdt@aggTrade"],"id":312}"#);
    assert_eq!(written(|context, out| spot.prepare(0, 5, context, out)).0, "");
    let combined = Binance::spot().combine();
    let first = written(|context, out| combined.prepare(0, 5, context, out));
    let text = r#"{"method":"SET_PROPERTY","params":["combined",true],"id":5}"#;
    assert_eq!(first, (text.to_owned(), Ack::Response));
    assert_eq!(written(|context, out| combined.prepare(1, 6, context, out)).0, "");
    let list = written(|context, out| {
        spot.request(3, &Request::new("LIST_SUBSCRIPTIONS"), context, out).map(|()| Ack::None)
    });
    assert_eq!(list.0, r#"{"method":"LIST_SUBSCRIPTIONS","id":3}"#);
    let (params, mut out) = (Params::default(), String::new());
    let context = &Context::new(SystemTime::UNIX_EPOCH, &params);
    let upper = spot.subscribe(1, &[one, &"BTCUSDT@trade".into()], context, &mut out).unwrap_err();
    assert!(upper.reason.contains("lower case"), "{upper}");
    let object = Request::new("GET_PROPERTY").params(r#"{"a":1}"#);
    assert!(spot.request(1, &object, context, &mut out).is_err());
    assert_eq!(out, "");
}

#[test]
fn limits_and_rules_of_each_market() {
    for (venue, messages, streams) in
        [(Binance::spot(), 5, 1024), (Binance::usd_futures(), 10, 200), (Binance::coin_futures(), 10, 200)]
    {
        let limits = venue.limits();
        let expected = Limit::window("messages", messages, Duration::from_secs(1));
        assert_eq!(limits, [expected.margin(Duration::from_millis(250))]);
        assert!(limits[0].validate().is_ok());
        for traffic in [Traffic::Ping, Traffic::Pong, Traffic::Subscribe(9), Traffic::Message(1)] {
            assert_eq!(venue.cost("messages", traffic), 1);
        }
        assert_eq!(venue.cost("messages", Traffic::Close), 0);
        assert_eq!(Protocol::topics_per_connection(&venue), Some(streams));
        assert_eq!(venue.life(), Some(Duration::from_secs(86_400)));
        assert!(venue.tracker(&"a@trade".into()).is_none() && venue.tracker(&"a@depth5".into()).is_none());
    }
    let mut spot = Binance::spot().tracker(&"a@depth".into()).unwrap();
    let mut futures = Binance::usd_futures().tracker(&"a@depth@500ms".into()).unwrap();
    let range = Sequence::range;
    assert_eq!(spot.check(Some(range(1, 5)), ""), Continuity::Continues);
    assert_eq!(spot.check(Some(range(6, 6)), ""), Continuity::Continues);
    assert_eq!(spot.check(Some(range(8, 9)), ""), Continuity::Gap { expected: 7, got: 8 });
    assert_eq!(futures.check(Some(range(1, 5).previous(0)), ""), Continuity::Continues);
    assert_eq!(futures.check(Some(range(8, 9).previous(5)), ""), Continuity::Continues);
    assert_eq!(futures.check(Some(range(20, 30).previous(12)), ""), Continuity::Gap { expected: 9, got: 12 });
}

#[test]
fn keys_are_shown_nowhere() {
    let key = Secret::new("pqia91ma19a5s61cv6a81va65sdf19v8a65a1");
    for (venue, base, target) in [
        (Binance::usd_futures(), crate::binance::USD_FUTURES_PRIVATE, "/private/ws?listenKey="),
        (Binance::coin_futures(), "wss://dstream.binance.com/", "/stream?streams="),
    ] {
        let endpoint = venue.user_data(base, &key).unwrap();
        let shown = format!("{endpoint:?} {}", endpoint.target());
        assert!(!shown.contains(key.expose()), "{shown}");
        assert_eq!(endpoint.target().resource(), format!("{target}{}", key.expose()));
        assert!(venue.user_config().is_ok());
    }
    assert!(Binance::spot().user_data("https://x", &key).is_err());
}

#[test]
fn configurations_can_work() {
    let clock = Clock { instant: std::time::Instant::now(), system: SystemTime::UNIX_EPOCH };
    for (venue, url) in [
        (Binance::spot(), crate::binance::SPOT),
        (Binance::spot().microseconds(), crate::binance::SPOT_MARKET_DATA),
        (Binance::usd_futures(), crate::binance::USD_FUTURES_PUBLIC),
        (Binance::usd_futures(), crate::binance::USD_FUTURES_MARKET),
        (Binance::coin_futures(), crate::binance::COIN_FUTURES),
    ] {
        let config = venue.config(url).unwrap();
        assert!(Session::new(config, clock, [0; 32]).is_ok(), "{url}");
    }
    assert!(matches!(Binance::spot().config("https://x"), Err(ConfigError::Url(_))));
}
