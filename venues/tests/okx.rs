//! OKX against its scripted venue, over real sockets and in simulations.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::script::Live;
use everwire_testing::script::okx::Venue;
use everwire_testing::script::trial::{Read, Trial, sweep};
use everwire_testing::tungstenite::{self, Message};
use everwire_tokio::rpc::CallError;
use everwire_tokio::{
    Client, CloseOptions, Error, Events, GapCause, OwnedEvent, Recovery, Step, SubscribeOptions, Watch,
    connect,
};
use everwire_venues::okx::{self, CancelOrder, Channel, NewOrder, Okx, Side, Trading};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const PUBLIC: &str = "/ws/v5/public";
const PRIVATE: &str = "/ws/v5/private";

fn venue() -> Live<Venue> {
    Live::start(Venue::new().every(Duration::from_millis(20)).key("key", "secret", "pass"))
}

fn trader() -> Okx {
    Okx::new().credentials("key", "secret", "pass")
}

fn start(okx: &Okx, live: &Live<Venue>, path: &str) -> (Client, Events) {
    connect(okx.config(&live.url(path)).unwrap()).unwrap()
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

/// The next data of a channel, with the subscription that they belong to.
async fn data(events: &mut Events, channel: &str) -> Value {
    until(events, |event| {
        let OwnedEvent::Message { message, subscription: Some(_), .. } = event else { return None };
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        (message["arg"]["channel"] == channel).then_some(message)
    })
    .await
}

async fn lost(events: &mut Events) -> Error {
    until(events, |event| if let OwnedEvent::Lost { error, .. } = event { Some(error.clone()) } else { None })
        .await
}

async fn gap(events: &mut Events) -> GapCause {
    until(events, |event| if let OwnedEvent::Gap(gap) = event { Some(gap.cause.clone()) } else { None }).await
}

async fn rejected(events: &mut Events, name: &str) -> (String, bool) {
    until(events, |event| match event {
        OwnedEvent::Rejected { topic, reason, retry_at, .. } if topic == name => {
            Some((reason.clone(), retry_at.is_some()))
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
    let live = venue();
    let (client, mut events) = start(&Okx::new(), &live, PUBLIC);
    let topics = [
        okx::books("BTC-USDT"),
        okx::trades("BTC-USDT"),
        okx::tickers("ETH-USDT"),
        okx::books5("ETH-USDT"),
        okx::bbo("ETH-USDT"),
        Channel::new("instruments").inst_type("SPOT").topic(),
    ];
    topics.iter().for_each(|topic| _ = client.subscribe(topic.clone()));
    let channels: Vec<&str> = topics.iter().map(|topic| topic.name().split(':').next().unwrap()).collect();
    assert_eq!(data(&mut events, "books").await["action"], "snapshot");
    for channel in &channels {
        data(&mut events, channel).await;
    }
    live.cut_all();
    assert_eq!(gap(&mut events).await, GapCause::Reconnect);
    assert_eq!(data(&mut events, "books").await["action"], "snapshot");
    for channel in &channels {
        data(&mut events, channel).await;
    }
    assert!(client.latency().lag.is_some(), "messages tell when they were sent");
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_hole_in_a_book_is_told_and_a_reset_is_none() {
    let live = venue();
    let (client, mut events) = start(&Okx::new(), &live, PUBLIC);
    client.subscribe(okx::books("BTC-USDT"));
    data(&mut events, "books").await;
    live.with(|venue| venue.reset("books:BTC-USDT"));
    for _ in 0..20 {
        let event = events.next().await.unwrap();
        assert!(!matches!(event, OwnedEvent::Gap(_)), "{event:?}");
    }
    live.with(|venue| venue.skip("books:BTC-USDT"));
    let cause = gap(&mut events).await;
    assert!(matches!(cause, GapCause::Sequence { .. }), "{cause:?}");
    until(&mut events, |event| {
        let OwnedEvent::Message { message, .. } = event else { return None };
        message.to_text().unwrap().contains("snapshot").then_some(())
    })
    .await;
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn what_does_not_exist_is_refused_alone() {
    let live = venue();
    let (client, mut events) = start(&Okx::new(), &live, PUBLIC);
    client.subscribe("nonsense:BTC-USDT");
    client.subscribe(okx::trades("BTC-USDT"));
    client.subscribe(okx::candles("BTC-USDT", "1m"));
    let (reason, again) = rejected(&mut events, "nonsense:BTC-USDT").await;
    assert!(reason.contains("doesn't exist"), "{reason}");
    // One that was in a message with others is tried alone first.
    if again {
        assert!(!rejected(&mut events, "nonsense:BTC-USDT").await.1);
    }
    data(&mut events, "trades").await;
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn private_channels_and_orders_want_a_login() {
    let live = venue();
    let (client, mut events) = start(&trader(), &live, PRIVATE);
    let orders = okx::orders("ANY");
    client.subscribe(orders.clone());
    client.subscribe(okx::account());
    until(&mut events, |event| matches!(event, OwnedEvent::Authenticated { .. }).then_some(())).await;
    let count = until(&mut events, |event| match event {
        OwnedEvent::Notice { text, recovery, .. } => Some((text.clone(), *recovery)),
        _ => None,
    })
    .await;
    assert!(count.0.contains("channel-conn-count") && count.1.is_none(), "{count:?}");
    data(&mut events, "account").await;
    let trading = Trading::new(client.clone());
    let order = NewOrder::post_only(5, Side::Buy, "0.1", "40000").client_order_id("mine").inst_id("BTC-USDT");
    let placed = trading.place(&order).await.unwrap().remove(0);
    assert_eq!((&*placed.cl_ord_id, &*placed.s_code), ("mine", "0"));
    let report = until(&mut events, |event| match event {
        OwnedEvent::Message { message, subscription: Some(_), .. } => {
            let text = message.to_text().unwrap();
            text.contains("\"state\"").then(|| text.to_owned())
        }
        _ => None,
    })
    .await;
    assert!(report.contains("live"), "{report}");
    assert_eq!(live.with(|venue| venue.open_orders()), 1);
    trading.cancel(&CancelOrder::by_client_order_id(5, "mine")).await.unwrap();
    assert_eq!(live.with(|venue| venue.open_orders()), 0);
    for (result, code) in [
        (trading.cancel(&CancelOrder::by_id(5, "99")).await, 51400),
        (trading.place(&NewOrder::market(5, Side::Sell, "0")).await, 51008),
    ] {
        let Err(CallError::Refused { error, .. }) = result else { panic!("{result:?}") };
        assert_eq!(error.code, code);
    }
    live.cut_all();
    assert!(online(&mut events).await, "logged in again");
    data(&mut events, "account").await;
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn logins_that_fail() {
    let live = venue();
    let (_client, mut events) = start(&Okx::new().credentials("key", "secret", "wrong"), &live, PRIVATE);
    let error = until(&mut events, |event| match event {
        OwnedEvent::AttemptFailed { error, .. } => Some(error.to_string()),
        OwnedEvent::Closed { error: Some(error), .. } => Some(error.to_string()),
        _ => None,
    })
    .await;
    assert!(error.contains("Wrong passphrase") && error.contains("60024"), "{error}");
    unpunished(&live);
    // Without a login a private channel is not there.
    let (client, mut events) = start(&Okx::new(), &live, PRIVATE);
    client.subscribe(okx::account());
    let (reason, again) = rejected(&mut events, "account").await;
    assert!(reason.contains("Please log in") && !again, "{reason}");
    assert_eq!(live.punishments().len(), 1);
}

#[tokio::test]
async fn an_upgrade_is_left_at_once() {
    let live = venue();
    let (client, mut events) = start(&Okx::new(), &live, PUBLIC);
    client.subscribe(okx::trades("BTC-USDT"));
    data(&mut events, "trades").await;
    live.act(|venue, now, out| venue.upgrade_in(60 * SECOND, now, out));
    let (text, recovery) = until(&mut events, |event| match event {
        OwnedEvent::Notice { text, recovery, .. } => Some((text.clone(), *recovery)),
        _ => None,
    })
    .await;
    assert!(text.contains("upgrade") && recovery == Some(Recovery::Reconnect), "{text}");
    assert!(online(&mut events).await);
    data(&mut events, "trades").await;
    closes(client).await;
    unpunished(&live);
}

#[tokio::test]
async fn too_many_connections_with_a_channel() {
    let live = venue();
    live.with(Venue::too_many_connections);
    let (client, mut events) = start(&trader(), &live, PRIVATE);
    client.subscribe(okx::account());
    let error = lost(&mut events).await;
    assert!(
        matches!(&error, Error::Notice(notice) if notice.recovery() == Recovery::Backoff(60 * SECOND)),
        "{error:?}"
    );
    unpunished(&live);
}

/// The check can fail.
#[test]
fn a_client_that_talks_nonsense_is_punished() {
    let live = venue();
    let (mut client, _) = tungstenite::connect(live.url(PUBLIC)).unwrap();
    client.send(Message::text("ping")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("pong"));
    client.send(Message::text("nonsense")).unwrap();
    assert!(client.read().unwrap().to_text().unwrap().contains("60012"));
    assert_eq!(live.punishments().len(), 1, "{:?}", live.punishments());
}

/// The check can fail: a session that does not ping is thrown out, and the simulation says so.
#[test]
fn a_session_that_does_not_ping_is_punished() {
    // Something happens each 40 s, which is not often enough.
    let venue = Venue::new().every(40 * SECOND);
    let config = Okx::new().config("ws://venue.test/ws/v5/public").unwrap().heartbeat_interval(None);
    // A seed whose network has no faults, so that the punishment counts: see `Trial`.
    let report = Trial::new(config, venue, read).topics([okx::trades("BTC-USDT")]).run(0);
    let violation = report.violation.unwrap();
    assert!(violation.contains("no ping in 30 s"), "{violation}");
}

#[test]
fn the_same_without_async() {
    let live = venue();
    let config = Okx::new().config(&live.url(PUBLIC)).unwrap();
    let (client, mut events) = everwire_blocking::connect(config).unwrap();
    client.subscribe(okx::trades("BTC-USDT"));
    let (mut messages, mut cut, start) = (0, false, Instant::now());
    while messages < 10 {
        let event = events.next_blocking(Some(SOON)).unwrap().unwrap();
        messages += u32::from(matches!(event, OwnedEvent::Message { subscription: Some(_), .. }));
        if messages == 5 && !std::mem::replace(&mut cut, true) {
            live.cut_all();
        }
    }
    assert!(client.shutdown_blocking(CloseOptions::new()).error.is_none());
    assert!(start.elapsed() < SOON && live.connections() == 2);
    unpunished(&live);
}

/// The numbers of a channel's messages, read by other means than the client's.
fn read(text: &str) -> Option<Read> {
    let message: Value = serde_json::from_str(text).ok()?;
    let (arg, data) = (&message["arg"], &message["data"][0]);
    let part = |key: &str| arg[key].as_str().map(str::to_owned);
    let parts = [part("channel")?, part("instType").unwrap_or_default(), part("instId").unwrap_or_default()];
    let topic = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":");
    if let (Some(seq), Some(prev)) = (data["seqId"].as_u64(), data["prevSeqId"].as_i64()) {
        return match u64::try_from(prev) {
            Err(_) => Some(Read::new(topic, seq).snapshot()),
            // Nothing changed.
            Ok(prev) if prev == seq => None,
            Ok(prev) => Some(Read::range(topic, prev + 1, seq)),
        };
    }
    let number = data["n"].as_u64().or_else(|| data["tradeId"].as_str()?.parse().ok())?;
    Some(Read::new(topic, number))
}

fn trial(okx: &Okx, path: &str, topics: Vec<everwire_core::Topic>) -> Trial<Venue> {
    let config = okx.clone().topics_per_message(2).config(&format!("ws://venue.test{path}")).unwrap();
    let venue = Venue::new().every(2 * SECOND).key("key", "secret", "pass");
    let watch = SubscribeOptions::default().watch(Watch::after(10 * SECOND).up_to(Step::Reconnect));
    topics
        .into_iter()
        .fold(Trial::new(config, venue, read), |trial, topic| trial.topic(topic, watch.clone()))
        .faults(20 * SECOND, |venue, dice, now, out| match dice.below(6) {
            0 => venue.skip("books:BTC-USDT"),
            1 => venue.silent(true),
            2 => venue.silent(false),
            3 => venue.upgrade_in(10 * SECOND, now, out),
            4 => venue.late(dice.below(5) as u32 * SECOND),
            _ => venue.refuse_next(64007, "Operation subscribe failed due to WebSocket internal error."),
        })
        .calms(|venue, _, _| {
            venue.silent(false);
            venue.late(Duration::ZERO);
        })
}

#[test]
fn market_data_keep_their_promises() {
    sweep(0..120, |_| {
        let topics = ["BTC-USDT", "ETH-USDT", "SOL-USDT"]
            .into_iter()
            .flat_map(|id| [okx::books(id), okx::trades(id), okx::tickers(id)]);
        trial(&Okx::new(), PUBLIC, topics.collect())
    });
}

#[test]
fn private_channels_keep_their_promises() {
    sweep(1000..1100, |_| {
        let topics = vec![okx::account(), okx::positions("SWAP"), okx::orders("ANY"), okx::orders("SPOT")];
        trial(&trader(), PRIVATE, topics).requests(|dice| {
            let order =
                json!({"instIdCode": 5, "tdMode": "cash", "side": "buy", "ordType": "market", "sz": "1"});
            let params = if dice.below(2) == 0 { order.to_string() } else { json!([order]).to_string() };
            ("order".to_owned(), Some(params))
        })
    });
}
