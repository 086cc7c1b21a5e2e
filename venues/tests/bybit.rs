//! Bybit against its scripted venue, over real sockets and in simulations.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::script::Live;
use everwire_testing::script::bybit::{Bybit as Venue, KEY, SECRET};
use everwire_testing::script::trial::{Read, Trial, sweep};
use everwire_testing::tungstenite;
use everwire_tokio::rpc::CallError;
use everwire_tokio::{Client, CloseOptions, Error, Events, GapCause, OwnedEvent, SharedLimits, connect};
use everwire_venues::bybit::{self, Amend, Bybit, Category, NewOrder, OrderRef, Trading};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const BTC: &str = "BTCUSDT";

fn venue() -> Live<Venue> {
    Live::start(Venue::new().tick_every(Duration::from_millis(20)))
}

fn start(bybit: &Bybit, live: &Live<Venue>) -> (Client, Events) {
    connect(bybit.config(&live.url("")).unwrap()).unwrap()
}

/// Takes events until one is this.
async fn until<T>(events: &mut Events, mut is: impl FnMut(&OwnedEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the session goes on");
            if let Some(found) = is(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, found).await.expect("it comes in time")
}

async fn online(events: &mut Events) -> bool {
    until(events, |event| if let OwnedEvent::Online { resumed, .. } = event { Some(*resumed) } else { None })
        .await
}

async fn gap(events: &mut Events) -> GapCause {
    until(events, |event| if let OwnedEvent::Gap(gap) = event { Some(gap.cause.clone()) } else { None }).await
}

/// The next message of a topic.
async fn message(events: &mut Events, topic: &str) -> Value {
    until(events, |event| {
        let OwnedEvent::Message { message, .. } = event else { return None };
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        (message["topic"] == topic).then_some(message)
    })
    .await
}

fn unpunished(live: &Live<Venue>) {
    assert_eq!(live.punishments(), [], "{}", live.transcript());
}

#[tokio::test]
async fn market_data_of_each_category_survive_a_cut() {
    let option = "BTC-30DEC22-18000-C";
    for (category, topics) in [
        (Category::Spot, [bybit::orderbook(50, BTC), bybit::trades(BTC), bybit::tickers("ETHUSDT")]),
        (Category::Linear, [bybit::orderbook(1, BTC), bybit::trades(BTC), bybit::tickers("ETHUSDT")]),
        (Category::Inverse, [bybit::orderbook(200, BTC), bybit::trades(BTC), bybit::tickers("ETHUSDT")]),
        (Category::Option, [bybit::orderbook(25, option), bybit::trades("BTC"), bybit::tickers(option)]),
    ] {
        let live = venue();
        let (client, mut events) = start(&Bybit::public(category).watch_books(true), &live);
        topics.iter().for_each(|topic| _ = client.subscribe(topic.clone()));
        for topic in &topics {
            message(&mut events, topic.name()).await;
        }
        live.cut_all();
        assert_eq!(gap(&mut events).await, GapCause::Reconnect);
        for topic in &topics {
            message(&mut events, topic.name()).await;
        }
        assert!(client.latency().lag.is_some(), "messages tell when they were sent");
        assert!(client.shutdown(CloseOptions::new()).await.error.is_none());
        unpunished(&live);
    }
}

#[tokio::test]
async fn orders_go_one_way_and_come_back_another() {
    let live = venue();
    let (account, mut told) = start(&Bybit::private(KEY, SECRET), &live);
    account.subscribe(bybit::orders(None));
    account.subscribe(bybit::orders(Category::Linear));
    account.subscribe(bybit::executions(None));
    assert!(!online(&mut told).await);
    // Two sessions of one account share what it may order.
    let shared = SharedLimits::new();
    let trade = || {
        connect(Bybit::trade(KEY, SECRET).config(&live.url("")).unwrap().shared_limits(shared.clone()))
            .unwrap()
    };
    let (client, mut events) = trade();
    let (other, mut others) = trade();
    online(&mut events).await;
    online(&mut others).await;
    let trading = Trading::new(client.clone());

    let order = NewOrder::limit(Category::Linear, BTC, "Buy", "0.1", "15000").link_id("mine");
    let taken = trading.create(&order).await.unwrap();
    assert_eq!(taken.order_link_id, "mine");
    for topic in ["order", "order.linear"] {
        let data = message(&mut told, topic).await["data"][0].take();
        assert_eq!((&data["orderId"], &data["orderStatus"]), (&json!(taken.order_id), &json!("New")));
    }
    let which = OrderRef::by_link_id(Category::Linear, BTC, "mine");
    trading.amend(&Amend { order: which, qty: Some("0.2"), price: None }).await.unwrap();
    assert_eq!(message(&mut told, "order").await["data"][0]["qty"], "0.2");
    trading.cancel(&which).await.unwrap();
    assert_eq!(message(&mut told, "order").await["data"][0]["orderStatus"], "Cancelled");
    let Err(CallError::Refused { error, .. }) = trading.cancel(&which).await else { panic!("refused") };
    assert_eq!((error.code, error.known.map(|known| known.code)), (110_010, Some(110_010)));
    // A name is taken once.
    let Err(CallError::Refused { error, .. }) = trading.create(&order).await else { panic!("refused") };
    assert_eq!(error.code, 110_072);
    let market = NewOrder::market(Category::Linear, BTC, "Buy", "0.1");
    trading.create(&market).await.unwrap();
    assert_eq!(message(&mut told, "execution").await["data"][0]["orderStatus"], "Filled");

    // More than the venue allows, at once, and from both, whose ids both count from 1.
    let second = Trading::new(other.clone());
    let more: Vec<_> = (0..24).map(|n| [&trading, &second][n % 2].create(&market)).collect();
    for more in more {
        more.await.unwrap();
    }
    // All of one category, and those of all, were asked for apart.
    let asked = live.with(|venue| venue.called().iter().filter(|(_, op)| op == "subscribe").count());
    assert_eq!(asked, 2);
    for client in [account, client, other] {
        assert!(client.shutdown(CloseOptions::new()).await.error.is_none());
    }
    unpunished(&live);
}

/// What the documentation advises: the connection takes no new orders, another one does.
#[tokio::test]
async fn a_restart_of_the_service_behind_brings_another_connection() {
    let live = venue();
    let (client, mut events) = start(&Bybit::trade(KEY, SECRET), &live);
    online(&mut events).await;
    live.with(Venue::restart_orders);
    let trading = Trading::new(client.clone());
    let market = NewOrder::market(Category::Linear, BTC, "Buy", "0.1");
    let Err(CallError::Refused { error, .. }) = trading.create(&market).await else { panic!("refused") };
    assert_eq!(error.code, 10019);
    assert!(online(&mut events).await);
    trading.create(&market).await.unwrap();
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

#[tokio::test]
async fn wrong_secrets_end_it_and_say_so() {
    for (bybit, what) in [
        (Bybit::trade(KEY, "wrong"), "10004"),
        (Bybit::trade("nobody", SECRET), "10003"),
        (Bybit::private(KEY, "wrong"), "error sign"),
        (Bybit::private(KEY, SECRET).signed_by(|_| Ok("nonsense".to_owned())), "error sign"),
    ] {
        let live = venue();
        let (client, _events) = start(&bybit, &live);
        let end = tokio::time::timeout(SOON, client.closed()).await.unwrap();
        let Some(error @ Error::Authentication(_)) = end.error else { panic!("{end:?}") };
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(live.punishments().len(), 1);
    }
}

#[tokio::test]
async fn a_bad_topic_takes_no_other_with_it() {
    let live = venue();
    let (client, mut events) = start(&Bybit::public(Category::Linear), &live);
    for topic in [bybit::tickers(BTC), bybit::tickers("NOSUCH"), bybit::trades(BTC)] {
        client.subscribe(topic);
    }
    let rejected = until(&mut events, |event| match event {
        OwnedEvent::Rejected { topic, reason, .. } => Some((topic.clone(), reason.clone())),
        _ => None,
    });
    let (topic, reason) = rejected.await;
    assert!(topic == "tickers.NOSUCH" && reason.contains("Invalid symbol"), "{topic}: {reason}");
    message(&mut events, "tickers.BTCUSDT").await;
    message(&mut events, "publicTrade.BTCUSDT").await;
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_lost_update_is_told_and_a_restart_is_none() {
    let live = venue();
    let (client, mut events) = start(&Bybit::public(Category::Linear).watch_books(true), &live);
    client.subscribe(bybit::orderbook(50, BTC));
    let name = "orderbook.50.BTCUSDT";
    assert_eq!(message(&mut events, name).await["type"], "snapshot");
    live.act(|venue, now, out| venue.restart(now, out));
    while message(&mut events, name).await["data"]["u"] != 1 {}
    assert_eq!(message(&mut events, name).await["type"], "delta");
    live.with(|venue| venue.skip(name));
    assert!(matches!(gap(&mut events).await, GapCause::Sequence { .. }));
    while message(&mut events, name).await["type"] != "snapshot" {}
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

/// Not as documented, and what is done about it is off until it is asked for.
#[tokio::test]
async fn acks_without_an_id() {
    let live = Live::start(Venue::new().tick_every(Duration::from_millis(20)).without_ids());
    let bybit = Bybit::public(Category::Linear).acks_without_id(true);
    let (client, mut events) = start(&bybit, &live);
    client.subscribe(bybit::tickers(BTC));
    until(&mut events, |event| matches!(event, OwnedEvent::Subscribed { .. }).then_some(())).await;
    message(&mut events, "tickers.BTCUSDT").await;
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

#[test]
fn the_same_on_a_thread() {
    use everwire_blocking::connect;
    let live = venue();
    let (client, mut events) = connect(Bybit::trade(KEY, SECRET).config(&live.url("")).unwrap()).unwrap();
    while !matches!(events.next_blocking(Some(SOON)).unwrap(), Some(OwnedEvent::Online { .. })) {}
    let trading = Trading::new(client.clone()).blocking();
    let taken = trading.create(&NewOrder::limit(Category::Spot, BTC, "Sell", "0.1", "20000")).unwrap();
    trading.cancel(&OrderRef::by_id(Category::Spot, BTC, &taken.order_id)).unwrap();
    assert_eq!(live.with(|venue| venue.order_state(&taken.order_id).to_owned()), "Cancelled");
    assert!(client.shutdown_blocking(CloseOptions::new()).error.is_none());
    unpunished(&live);
}

/// The check can fail: a client that does as it likes is punished.
#[test]
fn a_client_that_misbehaves_is_punished() {
    let live = venue();
    let ask = |path: &str, request: Value| -> Value {
        let (mut client, _) = tungstenite::connect(live.url(path)).unwrap();
        client.send(request.to_string().into()).unwrap();
        serde_json::from_str(client.read().unwrap().to_text().unwrap()).unwrap()
    };
    assert_eq!(ask("/v5/private", json!({"op": "subscribe", "args": ["order"]}))["success"], false);
    assert_eq!(ask("/v5/trade", json!({"op": "order.create", "args": [{}]}))["retCode"], 10007);
    let topics: Vec<String> = (0..11).map(|n| format!("tickers.{n}")).collect();
    assert_eq!(ask("/v5/public/spot", json!({"op": "subscribe", "args": topics}))["success"], false);
    let why: Vec<String> = live.punishments().into_iter().map(|punished| punished.why).collect();
    for what in ["not authorized", "User authentication failed", "args size"] {
        assert!(why.iter().any(|why| why.contains(what)), "{what}: {why:?}");
    }
}

/// The number of an update of a book.
fn read(text: &str) -> Option<Read> {
    let message: Value = serde_json::from_str(text).ok()?;
    let topic = message["topic"].as_str()?;
    if let Some(trade) = message["data"][0]["seq"].as_u64() {
        return Some(Read::new(topic, trade));
    }
    let read = Read::new(topic, message["data"]["u"].as_u64()?);
    Some(if message["type"] == "snapshot" { read.snapshot() } else { read })
}

fn trial(seed: u64) -> Trial<Venue> {
    let category = if seed.is_multiple_of(2) { Category::Spot } else { Category::Linear };
    let config = Bybit::public(category).watch_books(true).config("ws://bybit.test").unwrap();
    let venue = Venue::new().tick_every(Duration::from_secs(1));
    let books = [BTC, "ETHUSDT"].map(|symbol| bybit::orderbook(50, symbol));
    Trial::new(config, venue, read)
        .length(Duration::from_secs(30)..Duration::from_secs(200), Duration::from_secs(120))
        .topics(books)
        .topics([bybit::orderbook(200, BTC), bybit::orderbook(200, "ETHUSDT")])
        .faults(Duration::from_secs(30), |venue, dice, _, out| {
            let conns: Vec<u64> = venue.listeners("orderbook.200.BTCUSDT");
            match dice.below(2) {
                0 => venue.skip("orderbook.200.BTCUSDT"),
                _ => conns.iter().for_each(|conn| venue.hang_up(*conn, out)),
            }
        })
}

#[test]
fn hundreds_of_simulations() {
    let total = sweep(0..200, trial);
    assert!(total.reconnects > 200 && total.gaps > 200 && total.messages > 50_000, "{total}");
}

/// The endpoint of orders, whose requests are judged by their time and their ids.
#[test]
fn hundreds_of_simulations_of_orders() {
    let order =
        r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"1","price":"1"}"#;
    let mut answered = 0;
    for seed in 0..100 {
        let bybit = Bybit::trade(KEY, SECRET).max_active_time(Duration::from_secs(60));
        let venue = Venue::new().tick_every(Duration::from_secs(10));
        let report = Trial::new(bybit.config("ws://bybit.test").unwrap(), venue, |_| None)
            .length(Duration::from_secs(30)..Duration::from_secs(200), Duration::from_secs(120))
            .requests(move |_| ("order.create".to_owned(), Some(order.to_owned())))
            .run(seed);
        assert_eq!(report.violation, None, "seed {seed}\n{}", report.log);
        answered += report.total.requests.1;
    }
    assert!(answered > 300, "{answered}");
}
