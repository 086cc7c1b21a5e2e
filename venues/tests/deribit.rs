//! Deribit against its scripted venue, over real sockets.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::script::Live;
use everwire_testing::script::deribit::{CLIENT_ID, CLIENT_SECRET, Deribit as Venue, PATH};
use everwire_testing::tungstenite;
use everwire_tokio::rpc::CallError;
use everwire_tokio::{Client, CloseOptions, Error, Events, GapCause, OwnedEvent, State, connect};
use everwire_venues::deribit::{
    self, CancelOnDisconnect, Deribit, Instrument, Interval, NewOrder, Order, OrderId, Tier, Trading,
};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const BTC: &str = "BTC-PERPETUAL";

fn venue() -> Live<Venue> {
    Live::start(Venue::new().tick_every(Duration::from_millis(20)))
}

fn trader() -> Deribit {
    Deribit::new().signature(CLIENT_ID, CLIENT_SECRET)
}

fn start(deribit: &Deribit, live: &Live<Venue>) -> (Client, Events) {
    connect(deribit.config(&live.url(PATH)).unwrap()).unwrap()
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

/// The data of the next notification on a channel.
async fn data(events: &mut Events, channel: &str) -> Value {
    until(events, |event| {
        let OwnedEvent::Message { message, .. } = event else { return None };
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        (message["params"]["channel"] == channel).then(|| message["params"]["data"].clone())
    })
    .await
}

/// The methods that were called on a connection.
fn called(live: &Live<Venue>, conn: u64) -> Vec<String> {
    live.with(|venue| {
        venue.called().iter().filter(|(on, _)| *on == conn).map(|(_, method)| method.clone()).collect()
    })
}

fn unpunished(live: &Live<Venue>) {
    assert_eq!(live.punishments(), [], "{}", live.transcript());
}

#[tokio::test]
async fn market_data_survive_a_cut() {
    let live = venue();
    let (client, mut events) = start(&Deribit::new(), &live);
    let topics = [
        deribit::book(BTC, Interval::Ms100),
        deribit::book_depth(BTC, "none", 10, Interval::Ms100),
        deribit::trades(BTC, Interval::Ms100),
        deribit::ticker(BTC, Interval::Agg2),
        deribit::quote(BTC),
        deribit::price_index("btc_usd"),
        deribit::platform_state(),
    ];
    topics.iter().for_each(|topic| _ = client.subscribe(topic.clone()));
    for topic in &topics[..6] {
        data(&mut events, topic.name()).await;
    }
    // One message asked for all of them, if it came before the first connection.
    let first = live.open()[0];
    assert_eq!(called(&live, first)[0], "public/set_heartbeat");
    live.cut_all();
    let gap =
        until(&mut events, |event| if let OwnedEvent::Gap(gap) = event { Some(gap.clone()) } else { None })
            .await;
    assert!(!gap.topics.is_empty());
    let snapshot = until(&mut events, |event| match event {
        OwnedEvent::Message { message, .. } if message.to_text().unwrap().contains("snapshot") => {
            Some(message.clone())
        }
        _ => None,
    })
    .await;
    assert!(snapshot.to_text().unwrap().contains(topics[0].name()));
    data(&mut events, topics[0].name()).await;
    assert!(client.latency().lag.is_some(), "notifications tell when they were sent");
    let end = client.shutdown(CloseOptions::new()).await;
    assert!(end.error.is_none(), "{end:?}");
    let second = called(&live, first + 1);
    assert_eq!(second, ["public/set_heartbeat", "public/subscribe"]);
    unpunished(&live);
}

#[tokio::test]
async fn orders_are_cancelled_by_a_cut_and_kept_by_logging_out() {
    let live = venue();
    let deribit = trader().cancel_on_disconnect(CancelOnDisconnect::Connection);
    let (client, mut events) = start(&deribit, &live);
    let channel = deribit::user_orders(BTC, Interval::Raw);
    client.subscribe(channel.clone());
    client.subscribe(deribit::book(BTC, Interval::Raw));
    data(&mut events, "book.BTC-PERPETUAL.raw").await;
    let trading = Trading::new(client.clone());

    // Placed, changed, cancelled.
    let order = NewOrder::limit(BTC, 10.0, 40_000.0).label("a").post_only();
    let placed = trading.buy(&order).await.unwrap();
    assert_eq!(
        (&*placed.order.order_state, placed.order.price, placed.trades.len()),
        ("open", Some(40_000.0), 0)
    );
    let id = placed.order.order_id;
    let told: Order = serde_json::from_value(data(&mut events, channel.name()).await).unwrap();
    assert_eq!((&told.order_id, &*told.label), (&id, "a"));
    let edit = deribit::EditOrder { order_id: &id, amount: 20.0, price: 41_000.0 };
    assert_eq!(trading.edit(&edit).await.unwrap().order.amount, Some(20.0));
    assert_eq!(trading.open_orders_of(&Instrument::new(BTC)).await.unwrap().len(), 1);
    assert_eq!(trading.cancel(&OrderId::new(&id)).await.unwrap().order_state, "cancelled");
    // What is refused says why.
    let Err(CallError::Refused { error, .. }) = trading.cancel(&OrderId::new(&id)).await else {
        panic!("refused")
    };
    assert_eq!((error.code, error.known.map(|known| known.is_retryable())), (11044, Some(false)));
    // One that takes.
    let taken = trading.sell(&NewOrder::market(BTC, 10.0)).await.unwrap();
    assert_eq!((&*taken.order.order_state, taken.trades.len()), ("filled", 1));

    // The cut cancels.
    let id = trading.buy(&order).await.unwrap().order.order_id;
    live.cut_all();
    until(&mut events, |event| matches!(event, OwnedEvent::Lost { .. }).then_some(())).await;
    assert!(online(&mut events).await);
    assert_eq!(live.with(|venue| venue.order_state(&id).to_owned()), "cancelled");
    assert_eq!(trading.open_orders().await.unwrap(), []);

    // Logging out does not.
    let id = trading.buy(&order).await.unwrap().order.order_id;
    let conn = live.open()[0];
    let end = client.shutdown(CloseOptions::new()).await;
    assert!(end.error.is_none(), "{end:?}");
    let called = called(&live, conn);
    assert_eq!(
        called[..4],
        ["public/auth", "public/set_heartbeat", "private/enable_cancel_on_disconnect", "private/subscribe"]
    );
    assert_eq!(called.last().map(String::as_str), Some("private/logout"));
    assert_eq!(live.with(|venue| venue.order_state(&id).to_owned()), "open");
    unpunished(&live);
}

/// A close frame would cancel.
#[tokio::test]
async fn a_planned_reconnect_logs_out_and_keeps_orders() {
    let live = venue();
    let deribit = trader().cancel_on_disconnect(CancelOnDisconnect::Connection);
    let (client, mut events) = start(&deribit, &live);
    online(&mut events).await;
    let trading = Trading::new(client.clone());
    let id = trading.buy(&NewOrder::limit(BTC, 10.0, 40_000.0)).await.unwrap().order.order_id;
    let conn = live.open()[0];
    client.reconnect();
    assert!(online(&mut events).await);
    // The server ended the old one, and the orders are there for the new one.
    let last = |venue: &Venue| {
        venue.called().iter().rev().find(|(on, _)| *on == conn).map(|(_, method)| method.clone())
    };
    live.wait_for(SOON, |venue| last(venue).as_deref() == Some("private/logout")).unwrap();
    assert_eq!(trading.open_orders().await.unwrap().len(), 1);
    assert_eq!(live.with(|venue| venue.order_state(&id).to_owned()), "open");
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_lost_change_is_told_and_mended() {
    let live = venue();
    let (client, mut events) = start(&Deribit::new(), &live);
    let topic = deribit::book(BTC, Interval::Ms100);
    client.subscribe(topic.clone());
    assert_eq!(data(&mut events, topic.name()).await["type"], "snapshot");
    assert_eq!(data(&mut events, topic.name()).await["type"], "change");
    live.with(|venue| venue.skip("book.BTC-PERPETUAL.100ms"));
    let gap =
        until(&mut events, |event| if let OwnedEvent::Gap(gap) = event { Some(gap.clone()) } else { None })
            .await;
    assert!(matches!(gap.cause, GapCause::Sequence { .. }), "{gap:?}");
    // The one that showed it, then a new beginning.
    assert_eq!(data(&mut events, topic.name()).await["type"], "change");
    let mut kind = Value::Null;
    for _ in 0..20 {
        kind = data(&mut events, topic.name()).await["type"].take();
        if kind == "snapshot" {
            break;
        }
    }
    assert_eq!(kind, "snapshot");
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

#[tokio::test]
async fn tokens_are_refreshed_while_orders_go_on() {
    for deribit in [trader(), Deribit::new().credentials(CLIENT_ID, CLIENT_SECRET).session("bot")] {
        let live = Live::start(Venue::new().expires_in(Duration::from_secs(2)));
        let (client, mut events) = start(&deribit, &live);
        let trading = Trading::new(client.clone());
        // With the first token, and after two more.
        for _ in 0..3 {
            until(&mut events, |event| matches!(event, OwnedEvent::Authenticated { .. }).then_some(())).await;
            if live.connections() == 1 && client.state() == State::Online {
                assert_eq!(trading.open_orders().await.unwrap(), []);
            }
        }
        let auths = called(&live, live.open()[0]).iter().filter(|method| *method == "public/auth").count();
        assert_eq!((auths, live.connections()), (3, 1));
        assert_eq!(trading.open_orders().await.unwrap(), []);
        client.shutdown(CloseOptions::new()).await;
        unpunished(&live);
    }
}

#[tokio::test]
async fn wrong_credentials_end_it_and_say_so() {
    for (deribit, code) in [
        (Deribit::new().credentials(CLIENT_ID, "wrong"), "13004"),
        (Deribit::new().signature(CLIENT_ID, "wrong"), "13009"),
        (Deribit::new().signature("somebody", CLIENT_SECRET), "13004"),
    ] {
        let live = venue();
        let (client, _events) = start(&deribit, &live);
        let end = tokio::time::timeout(SOON, client.closed()).await.unwrap();
        let Some(error @ Error::Authentication(_)) = end.error else { panic!("{end:?}") };
        assert!(error.to_string().contains(code), "{error}");
        assert!(!error.to_string().contains("wrong"));
        assert_eq!(live.punishments().len(), 1);
    }
}

#[tokio::test]
async fn channels_that_are_not_to_be_had_are_rejected_alone() {
    let live = venue();
    let (client, mut events) = start(&Deribit::new(), &live);
    client.subscribe(deribit::ticker(BTC, Interval::Ms100));
    client.subscribe(deribit::ticker("NO-SUCH", Interval::Ms100));
    client.subscribe(deribit::book(BTC, Interval::Raw));
    let mut rejected = Vec::new();
    while rejected.len() < 2 {
        let found = until(&mut events, |event| match event {
            OwnedEvent::Rejected { topic, reason, .. } => Some((topic.clone(), reason.clone())),
            _ => None,
        });
        rejected.push(found.await);
    }
    rejected.sort();
    assert!(rejected[0].0.starts_with("book") && rejected[0].1.contains("credentials"), "{rejected:?}");
    assert!(rejected[1].0.contains("NO-SUCH"), "{rejected:?}");
    data(&mut events, "ticker.BTC-PERPETUAL.100ms").await;
    client.shutdown(CloseOptions::new()).await;
    // The raw book was not even asked for.
    unpunished(&live);
}

/// Somebody else used up the credits: the session is terminated, and comes back when there are credits again.
#[tokio::test]
async fn used_up_credits_cost_the_connection_and_not_the_session() {
    let live = venue();
    let (client, mut events) = start(&trader(), &live);
    online(&mut events).await;
    live.act(|venue, now, _| venue.drain(now));
    let Err(CallError::Refused { error, .. }) = Trading::new(client.clone()).open_orders().await else {
        panic!("refused")
    };
    assert_eq!(error.code, 10028);
    assert!(error.to_string().contains("credits"), "{error}");
    // It is left alone for as long as that takes, at once and not after another refusal.
    let wait = until(&mut events, |event| match event {
        OwnedEvent::Lost { error: Error::Notice(_), retry_at: Some(at), .. } => {
            Some(at.saturating_duration_since(std::time::Instant::now()))
        }
        _ => None,
    })
    .await;
    assert!(wait > Duration::from_secs(4), "{wait:?}");
    assert!(online(&mut events).await);
    assert_eq!(Trading::new(client.clone()).open_orders().await.unwrap(), []);
    client.shutdown(CloseOptions::new()).await;
    let punished = live.punishments();
    assert_eq!(punished.len(), 1, "{punished:?}");
    assert!(punished[0].timing && punished[0].why.contains("too many requests"), "{punished:?}");
}

/// Far more than is allowed, and the venue sees no more than that.
#[tokio::test]
async fn what_is_sent_is_paced() {
    let live = venue();
    let deribit = trader().tier(Tier::Custom { rate: 5, burst: 20 });
    let (client, mut events) = start(&deribit, &live);
    online(&mut events).await;
    let trading = Trading::new(client.clone());
    let order = NewOrder::limit(BTC, 10.0, 40_000.0);
    let orders: Vec<_> = (0..24).map(|_| trading.buy(&order)).collect();
    let asked: Vec<_> = (0..110).map(|_| trading.open_orders()).collect();
    for order in orders {
        order.await.unwrap();
    }
    for asked in asked {
        asked.await.unwrap();
    }
    assert_eq!(live.with(|venue| venue.open_orders().len()), 24);
    client.shutdown(CloseOptions::new()).await;
    unpunished(&live);
}

#[test]
fn the_same_on_a_thread() {
    use everwire_blocking::connect;
    let live = venue();
    let config = trader().session("thread").config(&live.url(PATH)).unwrap();
    let (client, mut events) = connect(config).unwrap();
    let deadline = std::time::Instant::now() + SOON;
    while !matches!(events.next_blocking(Some(SOON)), Ok(Some(OwnedEvent::Online { .. }))) {
        assert!(std::time::Instant::now() < deadline, "not online in time");
    }
    let trading = Trading::new(client.clone()).blocking();
    let placed = trading.buy(&NewOrder::limit(BTC, 10.0, 40_000.0)).unwrap();
    assert_eq!(trading.open_orders().unwrap(), [placed.order]);
    assert_eq!(trading.cancel_all().unwrap(), 1);
    assert!(client.shutdown_blocking(CloseOptions::new()).error.is_none());
    unpunished(&live);
}

/// The check can fail: a client that does as it likes is punished.
#[test]
fn a_client_that_misbehaves_is_punished() {
    let live = venue();
    let mut clients: Vec<_> = (0..32).map(|_| tungstenite::connect(live.url(PATH)).unwrap().0).collect();
    match tungstenite::connect(live.url(PATH)) {
        Err(tungstenite::Error::Http(refused)) => assert_eq!(refused.status(), 429),
        other => panic!("{other:?}"),
    }
    let mut client = clients.remove(0);
    drop(clients);
    let mut ask = |text: &str| -> Option<Value> {
        client.send(text.into()).ok()?;
        serde_json::from_str(client.read().ok()?.to_text().ok()?).ok()
    };
    let code = |answer: Option<Value>| answer.unwrap()["error"]["code"].clone();
    let raw = r#"{"jsonrpc":"2.0","id":1,"method":"public/subscribe","params":{"channels":["book.BTC-PERPETUAL.raw"]}}"#;
    assert_eq!(code(ask(raw)), 13778);
    assert_eq!(code(ask(r#"{"jsonrpc":"2.0","id":2,"method":"private/buy","params":{}}"#)), 13009);
    assert_eq!(code(ask("[]")), -32600);
    assert_eq!(code(ask("nonsense")), -32700);
    for id in 3..=102 {
        let test = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"public/test","params":{{}}}}"#);
        if code(ask(&test)) == 10028 {
            break;
        }
    }
    // The last of a burst of a hundred, and some that came back meanwhile: asked on until it is refused.
    let mut refused = Value::Null;
    for id in 103..2000 {
        let Some(answer) =
            ask(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"public/test","params":{{}}}}"#))
        else {
            break;
        };
        refused = answer["error"]["code"].clone();
    }
    assert!(refused == 10028 || live.open().is_empty(), "{refused}");
    let why: Vec<String> = live.punishments().into_iter().map(|punished| punished.why).collect();
    for what in
        ["without authentication", "private/buy is refused", "batches", "no JSON", "too many requests"]
    {
        assert!(why.iter().any(|why| why.contains(what)), "{what}: {why:?}");
    }
}

/// Nothing that is told or kept shows a token, a secret or a signature: not of a login, not of its refresh, not of what is refused.
#[tokio::test]
async fn no_token_is_shown() {
    for deribit in [
        trader(),
        Deribit::new().credentials(CLIENT_ID, CLIENT_SECRET),
        trader().session("bot").cancel_on_disconnect(CancelOnDisconnect::Connection),
    ] {
        let venue = Venue::new().tick_every(Duration::from_millis(20)).expires_in(Duration::from_secs(2));
        let live = Live::start(venue);
        let (client, mut events) = start(&deribit, &live);
        client.subscribe(deribit::book(BTC, Interval::Raw));
        client.subscribe(deribit::user_orders("NO-SUCH", Interval::Raw));
        let trading = Trading::new(client.clone());
        let mut shown = format!("{deribit:?} {client:?}");
        let (mut logins, mut onlines) = (0, 0);
        let told = async {
            while logins < 4 {
                let event = events.next().await.unwrap();
                shown.push_str(&format!("{event:?}\n"));
                logins += u32::from(matches!(event, OwnedEvent::Authenticated { .. }));
                if let OwnedEvent::Online { .. } = event {
                    onlines += 1;
                    let refused = trading.cancel(&OrderId::new("none")).await.unwrap_err();
                    shown.push_str(&format!("{refused:?} {refused} {:?}\n", client.status()));
                    match onlines {
                        1 => live.cut_all(),
                        // The refresh is refused, which ends the connection.
                        2 => live.with(Venue::expire_tokens),
                        _ => {}
                    }
                }
            }
        };
        tokio::time::timeout(SOON * 2, told).await.unwrap();
        let end = client.shutdown(CloseOptions::new()).await;
        shown.push_str(&format!("{end:?}"));
        assert!(shown.contains("Rejected") && shown.contains("unauthorized"), "{shown}");
        for secret in [CLIENT_SECRET, ".access-", ".refresh-", "signature\":"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}

mod simulated {
    use super::*;
    use everwire_testing::script::Reply;
    use everwire_testing::script::trial::{Read, Trial, sweep};

    /// The numbers of a message: a change stands for all after the one that it names.
    fn read(text: &str) -> Option<Read> {
        let message: Value = serde_json::from_str(text).ok()?;
        let topic = message["params"]["channel"].as_str()?;
        let data = &message["params"]["data"];
        if let Some(number) = data[0]["trade_seq"].as_u64() {
            return Some(Read::new(topic, number));
        }
        let last = data["change_id"].as_u64()?;
        match data["prev_change_id"].as_u64() {
            Some(previous) => Some(Read::range(topic, previous + 1, last)),
            None => Some(Read::range(topic, last, last).snapshot()),
        }
    }

    fn trial(seed: u64) -> Trial<Venue> {
        let deribit = match seed % 3 {
            0 => trader(),
            1 => Deribit::new().credentials(CLIENT_ID, CLIENT_SECRET).session("bot"),
            _ => Deribit::new(),
        };
        let private = seed % 3 != 2;
        let deribit = deribit.cancel_on_disconnect(private.then_some(CancelOnDisconnect::Connection));
        let config = deribit.config("ws://deribit.test/ws/api/v2").unwrap();
        let venue = Venue::new().tick_every(Duration::from_secs(1)).expires_in(Duration::from_secs(60));
        let interval = if private { Interval::Raw } else { Interval::Ms100 };
        let books = ["BTC-PERPETUAL", "ETH-PERPETUAL"].map(|instrument| deribit::book(instrument, interval));
        Trial::new(config, venue, read)
            .length(Duration::from_secs(30)..Duration::from_secs(200), Duration::from_secs(120))
            .topics(books)
            .topics([deribit::book(BTC, Interval::Agg2), deribit::book("ETH-PERPETUAL", Interval::Agg2)])
            .requests(move |dice| {
                // Some wait for another connection, where only the tokens of a session are good.
                let private = seed % 3 == 1 && dice.chance(500);
                let method = if private { "private/get_open_orders" } else { "public/get_time" };
                (method.to_owned(), None)
            })
            .faults(Duration::from_secs(40), |venue, dice, now, out| {
                let conns: Vec<u64> = venue.listeners("book.BTC-PERPETUAL.agg2");
                match dice.below(3) {
                    0 => venue.skip("book.BTC-PERPETUAL.agg2"),
                    1 => conns.iter().for_each(|conn| venue.hang_up(*conn, now, out)),
                    _ => conns.iter().for_each(|conn| out.push(*conn, Reply::Ping(Vec::new()))),
                }
            })
            .farewell(move |venue| {
                let last = venue.called().last().map(|(_, method)| method.as_str());
                if private == (last == Some("private/logout")) {
                    return Ok(());
                }
                Err(format!("the last word was {last:?}"))
            })
    }

    #[test]
    fn hundreds_of_seeds() {
        let total = sweep(0..200, trial);
        assert!(total.reconnects > 200 && total.gaps > 200 && total.messages > 50_000, "{total}");
    }
}
