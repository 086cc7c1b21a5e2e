//! Bybit: a book on one connection, orders on another, and what becomes of them on a third.
//!
//! ```text
//! cargo run -p everwire-examples --example bybit
//! ```
//!
//! It brings its own venue, a scripted one. For the real one take `bybit::TESTNET` as the host, and a key of that.

use everwire_testing::script::Live;
use everwire_testing::script::bybit::{Bybit as Venue, KEY, SECRET};
use everwire_tokio::{CloseOptions, Config, Driver, Events, OwnedEvent, connect, spawn};
use everwire_venues::bybit::{self, Bybit, Category, NewOrder, OrderRef, Trading};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const BTC: &str = "BTCUSDT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match tokio::time::timeout(Duration::from_secs(20), run()).await {
        Ok(Ok(summary)) => println!("bybit: ok, {summary}"),
        Ok(Err(error)) => {
            eprintln!("bybit: {error}");
            return ExitCode::FAILURE;
        }
        Err(_) => {
            eprintln!("bybit: it took longer than 20 s");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::new().tick_every(Duration::from_millis(50)));
    let host = venue.url("");

    // Market data, whose book is watched for updates that are missing.
    let market = Bybit::public(Category::Linear).watch_books(true);
    let (market, mut book) = subscribed(market.config(&host)?, bybit::orderbook(50, BTC))?;
    let mut messages = some(&mut book, 5).await?;

    // What becomes of our orders, and where they are placed.
    let (account, mut told) = subscribed(Bybit::private(KEY, SECRET).config(&host)?, bybit::orders(None))?;
    online(&mut told).await?;
    let (client, mut events) = connect(Bybit::trade(KEY, SECRET).config(&host)?)?;
    online(&mut events).await?;
    let trading = Trading::new(client.clone());
    let order = NewOrder::limit(Category::Linear, BTC, "Buy", "0.1", "15000").link_id("bid-1").post_only();
    let taken = trading.create(&order).await?;
    println!("order {} is taken", taken.order_id);
    messages += some(&mut told, 1).await?;

    // All three connections are lost. The sessions make others, and say what may have been missed.
    venue.cut_all();
    for events in [&mut book, &mut told, &mut events] {
        online(events).await?;
    }
    messages += some(&mut book, 5).await?;

    // The order is still there, and is found by the name that it was given.
    trading.cancel(&OrderRef::by_link_id(Category::Linear, BTC, "bid-1")).await?;
    messages += some(&mut told, 1).await?;
    let state = venue.with(|venue| venue.order_state(&taken.order_id).to_owned());
    println!("order {} is {state}", taken.order_id);

    for client in [market, account, client] {
        if let Some(error) = client.shutdown(CloseOptions::new()).await.error {
            return Err(error.into());
        }
    }
    if state != "Cancelled" || venue.connections() != 6 || !venue.punishments().is_empty() {
        let (connections, punished) = (venue.connections(), venue.punishments());
        return Err(format!("order {state}, {connections} connections, punished: {punished:?}").into());
    }
    Ok(format!("{messages} messages, 1 reconnect of each of 3 connections, 1 order placed and cancelled"))
}

/// A session that wants this topic, on each connection anew.
fn subscribed(
    config: Config,
    topic: everwire_tokio::Topic,
) -> Result<(everwire_tokio::Client, Events), Box<dyn Error>> {
    let driver = Driver::new(config)?;
    driver.client().subscribe(topic);
    Ok(spawn(driver))
}

/// Takes events until the session is online.
async fn online(events: &mut Events) -> Result<(), Box<dyn Error>> {
    while let Some(event) = events.next().await {
        match event {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if resumed { " again" } else { "" });
                return Ok(());
            }
            OwnedEvent::Gap(gap) => println!("gap: {:?} in {:?}", gap.cause, gap.topics),
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            _ => {}
        }
    }
    Err("the session is over".into())
}

/// Takes events until there were so many messages.
async fn some(events: &mut Events, messages: usize) -> Result<usize, Box<dyn Error>> {
    let mut seen = 0;
    while seen < messages {
        if let OwnedEvent::Message { message, .. } = events.next().await.ok_or("the session is over")? {
            println!("{message}");
            seen += 1;
        }
    }
    Ok(seen)
}
