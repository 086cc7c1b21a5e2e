//! Binance against its scripted venue, over real sockets.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::script::Live;
use everwire_testing::script::binance::Venue;
use everwire_testing::tungstenite::{self, Message};
use everwire_tokio::rpc::CallError;
use everwire_tokio::{
    Client, CloseOptions, Config, Driver, Error, Events, GapCause, OwnedEvent, ProviderError, Recovery,
    Request, RequestError, SubscribeOptions, Topic, connect, spawn,
};
use everwire_venues::Secret;
use everwire_venues::binance::{
    self, Answer, Binance, BinanceApi, CancelOrder, Depth, DepthSync, ErrorCode, Joined, NewOrder, Side,
    Speed, Trading, depth_numbers,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const STREAMS: &str = "/stream";
const API: &str = "/ws-api/v3";

fn spot() -> Live<Venue> {
    let venue = Venue::spot().every(Duration::from_millis(20)).hmac_key("key", "secret");
    Live::start(venue.ed25519_key("ed", |text, signature| signature == format!("signed {text}")))
}

fn streams(live: &Live<Venue>) -> (Client, Events) {
    connect(Binance::spot().config(&live.url(STREAMS)).unwrap()).unwrap()
}

fn api(api: &BinanceApi, live: &Live<Venue>) -> (Client, Events) {
    connect(api.config(&live.url(API)).unwrap()).unwrap()
}

/// Takes events until one is this.
async fn until<T>(events: &mut Events, mut is: impl FnMut(&OwnedEvent) -> Option<T>) -> T {
    let mut last = None;
    let found = async {
        loop {
            let event = events.next().await.expect("the session goes on");
            if let Some(found) = is(&event) {
                return found;
            }
            last = Some(event);
        }
    };
    let found = tokio::time::timeout(SOON, found).await;
    found.unwrap_or_else(|_| panic!("it does not come; last was {last:?}"))
}

async fn online(events: &mut Events) -> bool {
    until(events, |event| match event {
        OwnedEvent::Online { resumed, .. } => Some(*resumed),
        _ => None,
    })
    .await
}

/// The next data of a stream, with the subscription that they belong to.
async fn data(events: &mut Events, stream: &str) -> Value {
    until(events, |event| {
        let OwnedEvent::Message { message, subscription, .. } = event else { return None };
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        (message["stream"] == stream && subscription.is_some()).then(|| message["data"].clone())
    })
    .await
}

async fn gap(events: &mut Events) -> GapCause {
    until(events, |event| if let OwnedEvent::Gap(gap) = event { Some(gap.cause.clone()) } else { None }).await
}

async fn lost(events: &mut Events) -> (Error, Duration) {
    until(events, |event| match event {
        OwnedEvent::Lost { error, retry_at, .. } => {
            let wait = retry_at.unwrap().saturating_duration_since(Instant::now());
            Some((error.clone(), wait))
        }
        _ => None,
    })
    .await
}

fn unpunished(live: &Live<Venue>) {
    assert_eq!(live.punishments(), [], "{}", live.transcript());
}

async fn closes(client: Client) {
    let end = client.shutdown(CloseOptions::new()).await;
    assert!(end.error.is_none(), "{end:?}");
}

#[tokio::test]
async fn market_data_survive_a_cut() {
    let live = spot();
    let (client, mut events) = streams(&live);
    let topics = [
        binance::trade("BTCUSDT"),
        binance::agg_trade("BTCUSDT"),
        binance::depth("BTCUSDT", Speed::Ms100),
        binance::partial_depth("BTCUSDT", binance::Levels::Five, Speed::Default),
        binance::book_ticker("ETHUSDT"),
        binance::kline("ETHUSDT", "1m"),
        binance::all_mini_tickers(),
    ];
    topics.iter().for_each(|topic| _ = client.subscribe(topic.clone()));
    for topic in &topics {
        data(&mut events, topic.name()).await;
    }
    live.cut_all();
    assert_eq!(gap(&mut events).await, GapCause::Reconnect);
    for topic in &topics {
        data(&mut events, topic.name()).await;
    }
    let list = client.request(Request::new("LIST_SUBSCRIPTIONS")).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(&list).unwrap().len(), topics.len());
    assert!(client.latency().lag.is_some(), "messages tell when they were sent");
    closes(client).await;
    assert_eq!(live.connections(), 2);
    unpunished(&live);
}

/// The whole of it: a book from a snapshot and a stream, an event that is lost, and the book anew.
#[tokio::test]
async fn a_book_is_kept_over_a_hole() {
    let live = spot();
    let (requests, _events) = api(&BinanceApi::spot(), &live);
    let (client, mut events) = streams(&live);
    client.subscribe(binance::depth("BTCUSDT", Speed::Default));
    let (mut book, mut joined, mut applied, mut gaps) = (DepthSync::spot(), 0, 0, 0);
    while applied < 20 || joined < 2 {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        match event {
            OwnedEvent::Gap(gap) => {
                assert!(matches!(gap.cause, GapCause::Sequence { .. } | GapCause::Resync), "{gap:?}");
                gaps += 1;
                book.clear();
            }
            OwnedEvent::Message { message, .. } => {
                let Some(numbers) = depth_numbers(message.to_text().unwrap()) else { continue };
                match book.push(numbers, numbers) {
                    Depth::Apply(numbers) => {
                        applied += 1;
                        assert_eq!(book.last(), Some(numbers.last));
                        if applied == 10 {
                            live.with(|venue| venue.skip("btcusdt@depth"));
                        }
                    }
                    Depth::Kept => {
                        let params = r#"{"symbol":"BTCUSDT","limit":1000}"#;
                        let snapshot = requests.request(Request::new("depth").params(params)).await.unwrap();
                        let snapshot: Value = serde_json::from_str(&snapshot).unwrap();
                        if let Joined::Apply(_) = book.snapshot(snapshot["lastUpdateId"].as_u64().unwrap()) {
                            joined += 1;
                        }
                    }
                    Depth::Old => {}
                    Depth::Gap { .. } => panic!("the session tells it first"),
                }
            }
            _ => {}
        }
    }
    assert!(gaps >= 1, "{gaps} {joined}");
    unpunished(&live);
}

#[tokio::test]
async fn a_shutdown_is_left_at_once() {
    let live = spot();
    let (client, mut events) = streams(&live);
    client.subscribe(binance::trade("BTCUSDT"));
    data(&mut events, "btcusdt@trade").await;
    live.act(|venue, now, out| venue.shut_down(Duration::from_secs(600), now, out));
    let told = until(&mut events, |event| match event {
        OwnedEvent::Notice { text, recovery, .. } => Some((text.clone(), *recovery)),
        _ => None,
    })
    .await;
    assert_eq!(told, ("serverShutdown".to_owned(), Some(Recovery::Reconnect)));
    assert!(online(&mut events).await, "on another connection");
    data(&mut events, "btcusdt@trade").await;
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn what_cannot_be_is_refused_alone() {
    let live = spot();
    let (client, mut events) = streams(&live);
    let refused = async |events: &mut Events, name: &str| {
        until(events, |event| match event {
            OwnedEvent::Rejected { topic, reason, .. } if topic == name => Some(reason.clone()),
            _ => None,
        })
        .await
    };
    client.subscribe("btc usdt@trade");
    client.subscribe(binance::trade("BTCUSDT"));
    assert!(refused(&mut events, "btc usdt@trade").await.contains("invalid stream"));
    data(&mut events, "btcusdt@trade").await;
    client.subscribe("BTCUSDT@aggTrade");
    assert!(refused(&mut events, "BTCUSDT@aggTrade").await.contains("lower case"));
    data(&mut events, "btcusdt@trade").await;
    unpunished(&live);
}

#[tokio::test]
async fn the_end_of_a_connections_life() {
    let live = Live::start(Venue::spot().every(Duration::from_millis(20)).life(Duration::from_millis(300)));
    let (client, mut events) = streams(&live);
    client.subscribe(binance::trade("BTCUSDT"));
    for _ in 0..2 {
        data(&mut events, "btcusdt@trade").await;
        let (error, wait) = lost(&mut events).await;
        assert!(matches!(error, Error::Closed(_)) && wait < Duration::from_secs(1), "{error} {wait:?}");
    }
    data(&mut events, "btcusdt@trade").await;
    unpunished(&live);
}

/// The check can fail: who does not count is thrown out, and then banned.
#[test]
fn a_client_that_does_not_count_is_thrown_out() {
    let live = spot();
    for banned in [false, true] {
        let (mut client, _) = tungstenite::connect(live.url(STREAMS)).unwrap();
        for id in 0..6 {
            let text = json!({"method": "SUBSCRIBE", "params": ["a@kline_1M"], "id": id}).to_string();
            client.send(Message::text(text)).unwrap();
        }
        let closed = loop {
            match client.read().unwrap() {
                Message::Close(frame) => break frame.unwrap(),
                Message::Text(_) => {}
                other => panic!("{other}"),
            }
        };
        assert_eq!((u16::from(closed.code), &*closed.reason), (1008, "Too many requests"));
        let next = tungstenite::connect(live.url(STREAMS));
        match next {
            Err(tungstenite::Error::Http(response)) if banned => {
                assert_eq!(
                    (response.status(), &response.headers()["retry-after"]),
                    (418.try_into().unwrap(), &"120".parse().unwrap())
                );
            }
            Ok(_) if !banned => {}
            other => panic!("{other:?}"),
        }
    }
    let punished = live.punishments();
    assert_eq!(punished.len(), 2, "{punished:?}");
    assert_eq!(punished[0].why, "more than 5 messages in a second");
}

#[tokio::test]
async fn who_was_thrown_out_and_banned_waits() {
    let live = spot();
    let (client, mut events) = streams(&live);
    assert!(!online(&mut events).await);
    let conn = live.open()[0];
    live.act(|_, _, out| out.close(conn, 1008, "Too many requests"));
    let (error, wait) = lost(&mut events).await;
    assert!(wait > Duration::from_secs(8), "{error} {wait:?}");
    closes(client).await;

    // Another program did it.
    let offend = |live: &Live<Venue>| {
        let (mut other, _) = tungstenite::connect(live.url(STREAMS)).unwrap();
        (0..6).for_each(|_| drop(other.send(Message::Ping(Vec::new().into()))));
        while other.read().is_ok() {}
    };
    offend(&live);
    offend(&live);
    let (_client, mut events) = streams(&live);
    let (error, wait) = until(&mut events, |event| match event {
        OwnedEvent::AttemptFailed { error, retry_at, .. } => {
            Some((error.to_string(), retry_at.unwrap().saturating_duration_since(Instant::now())))
        }
        _ => None,
    })
    .await;
    assert!(error.contains("418"), "{error}");
    assert!(wait > Duration::from_secs(110) && wait < Duration::from_secs(130), "{wait:?}");
}

#[tokio::test]
async fn orders_are_signed_placed_and_cancelled() {
    let live = spot();
    let hmac = BinanceApi::spot().hmac("key", "secret");
    let (client, mut events) = api(&hmac, &live);
    client.subscribe(binance::user_data());
    until(&mut events, |event| matches!(event, OwnedEvent::Subscribed { .. }).then_some(())).await;
    let trading = Trading::new(client.clone());
    let order = NewOrder::limit("BTCUSDT", Side::Buy, "0.01", "40000.00").client_order_id("mine");
    trading.test(&order).await.unwrap();
    let placed = trading.place(&order).await.unwrap();
    assert_eq!((&*placed.client_order_id, placed.status.as_deref()), ("mine", Some("NEW")));
    let report = until(&mut events, |event| match event {
        OwnedEvent::Message { message, subscription: Some(_), .. } => {
            Some(message.to_text().unwrap().to_owned())
        }
        _ => None,
    })
    .await;
    assert!(report.contains(r#""e":"executionReport""#) && report.contains("mine"), "{report}");
    let cancelled = trading.cancel(&CancelOrder::by_id("BTCUSDT", placed.order_id)).await.unwrap();
    assert_eq!(cancelled.status.as_deref(), Some("CANCELED"));

    // Refused, and known to be.
    let Err(CallError::Refused { error, .. }) = trading.cancel(&CancelOrder::by_id("BTCUSDT", 99)).await
    else {
        panic!("it is refused")
    };
    assert_eq!(ErrorCode::new(error.error.code), Some(ErrorCode::CancelRejected));
    assert!(!error.is_execution_unknown() && error.details.unwrap().status == 400);

    // Not known: so it is asked for.
    live.with(Venue::time_out_next);
    let order = order.client_order_id("unknown");
    let Err(CallError::Refused { error, .. }) = trading.place(&order).await else { panic!("it is refused") };
    assert!(error.is_execution_unknown(), "{error}");
    let found = trading.status(&CancelOrder::by_client_order_id("BTCUSDT", "unknown")).await.unwrap();
    assert_eq!((found.status.as_deref(), live.with(|venue| venue.open_orders())), (Some("NEW"), 1));

    // The stream of user data ends, and is asked for again.
    live.act(|venue, now, out| venue.end_user_data(now, out));
    until(&mut events, |event| matches!(event, OwnedEvent::Subscribed { .. }).then_some(())).await;
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_wrong_secret_is_told_and_punished() {
    let live = spot();
    let (client, mut events) = api(&BinanceApi::spot().hmac("key", "wrong"), &live);
    online(&mut events).await;
    let refused = Trading::new(client).place(&NewOrder::market("BTCUSDT", Side::Sell, "1")).await;
    let Err(CallError::Refused { error, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(error.error.code, -1022);
    assert_eq!(live.punishments().len(), 1);
}

#[tokio::test]
async fn sessions_log_on_and_lose_their_key() {
    let live = spot();
    let signed = Arc::new(AtomicUsize::new(0));
    let count = signed.clone();
    let ed25519 = BinanceApi::spot().rate_limits(true).ed25519("ed", move |text| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, String>(format!("signed {text}"))
    });
    let (client, mut events) = api(&ed25519, &live);
    client.subscribe(binance::user_data());
    until(&mut events, |event| matches!(event, OwnedEvent::Authenticated { .. }).then_some(())).await;
    assert!(!online(&mut events).await);
    let order = r#"{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"1"}"#;
    let placed = client.request(Request::new("order.place").params(order)).await.unwrap();
    let answer = Answer::parse(&placed).unwrap();
    assert_eq!(answer.result_as::<Value>().unwrap()["status"], "NEW");
    let limits = answer.rate_limits();
    assert_eq!((limits.len(), limits[0].limit, limits[0].per()), (1, 6000, Some(Duration::from_secs(60))));
    assert_eq!(signed.load(Ordering::Relaxed), 1, "once for the connection");

    live.with(Venue::revoke_keys);
    let lost_request = client.request(Request::new("order.place").params(order)).await;
    assert!(matches!(lost_request, Err(RequestError::SentUnknown(_))), "{lost_request:?}");
    // The same key is refused when it logs on again.
    let (error, _) = lost(&mut events).await;
    assert!(matches!(error, Error::Notice(_)), "{error:?}");
    let (error, _) = lost(&mut events).await;
    assert!(matches!(&error, Error::Authentication(_)) && error.to_string().contains("-2015"), "{error}");
    unpunished(&live);
}

/// User data of futures: a listen key from REST for each connection, which ends.
#[tokio::test]
async fn listen_keys_are_fetched_anew() {
    let live = Arc::new(Live::start(Venue::usd_futures().hmac_key("key", "secret")));
    let venue = live.clone();
    let fetch = move || {
        let request = everwire_testing::script::HttpRequest {
            method: "POST".into(),
            target: "/fapi/v1/listenKey".into(),
            headers: vec![("X-MBX-APIKEY".into(), "key".into())],
            body: Vec::new(),
        };
        let answer =
            venue.act(|script, now, _| everwire_testing::script::Script::http(script, &request, now));
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let key = Secret::new(answer["listenKey"].as_str().unwrap_or_default());
        Ok(Binance::usd_futures().user_data(&venue.url("/private"), &key)?)
    };
    let config = Binance::usd_futures().user_config().unwrap();
    let driver = Driver::new(config).unwrap().provider(move || {
        let endpoint: Result<_, ProviderError> = fetch();
        async move { endpoint }
    });
    let (client, mut events) = spawn(driver);
    assert!(!online(&mut events).await);
    let message = async |events: &mut Events| {
        until(events, |event| match event {
            OwnedEvent::Message { message, .. } => Some(message.to_text().unwrap().to_owned()),
            _ => None,
        })
        .await
    };
    live.act(|venue, _, out| venue.user_event(&json!({"e": "ORDER_TRADE_UPDATE", "n": 1}), out));
    assert!(message(&mut events).await.contains("ORDER_TRADE_UPDATE"));
    let key = live.with(|venue| venue.listen_keys().next().unwrap().to_owned());
    live.act(|venue, now, out| venue.expire(&key, now, out));
    let (error, _) = lost(&mut events).await;
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("listenKeyExpired") && !shown.contains(&key), "{shown}");
    assert!(online(&mut events).await);
    live.act(|venue, _, out| venue.user_event(&json!({"e": "ACCOUNT_UPDATE"}), out));
    assert!(message(&mut events).await.contains("ACCOUNT_UPDATE"));
    assert!(live.with(|venue| venue.listen_keys().all(|other| other != key)));
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn futures_books_are_chained() {
    let live = Live::start(Venue::usd_futures().every(Duration::from_millis(20)));
    let config = Binance::usd_futures().config(&live.url("/public/stream")).unwrap();
    let (client, mut events) = connect(config).unwrap();
    let topic = binance::depth("BTCUSDT", Speed::Ms500);
    client.subscribe(topic.clone());
    for _ in 0..5 {
        data(&mut events, topic.name()).await;
    }
    live.with(|venue| venue.skip(topic.name()));
    let cause = gap(&mut events).await;
    assert!(matches!(cause, GapCause::Sequence { expected, got } if got > expected), "{cause:?}");
    data(&mut events, topic.name()).await;
    unpunished(&live);
}

#[test]
fn the_same_without_async() {
    let live = spot();
    let config: Config = Binance::spot().microseconds().config(&live.url(STREAMS)).unwrap();
    let (client, mut events) = everwire_blocking::connect(config).unwrap();
    client.subscribe_with(Topic::new("btcusdt@trade"), SubscribeOptions::default());
    let (mut messages, mut cut) = (0, false);
    while messages < 10 {
        let event = events.next_blocking(Some(SOON)).unwrap().unwrap();
        messages += u32::from(matches!(event, OwnedEvent::Message { subscription: Some(_), .. }));
        if messages == 5 && !std::mem::replace(&mut cut, true) {
            live.cut_all();
        }
    }
    let latency = client.latency();
    assert!(latency.lag.is_some_and(|lag| lag.max < SOON), "microseconds are read as such: {latency:?}");
    assert!(client.shutdown_blocking(CloseOptions::new()).error.is_none());
    unpunished(&live);
}
