//! Deribit: a book and an order, a connection that is cut, and an end that keeps what is open.
//!
//! ```text
//! cargo run -p everwire-examples --example deribit
//! ```
//!
//! It brings its own venue, a scripted one. For the real one take `deribit::TESTNET` as the URL, and a key of that.

use everwire_testing::script::Live;
use everwire_testing::script::deribit::{CLIENT_ID, CLIENT_SECRET, Deribit as Venue, PATH};
use everwire_tokio::{CloseOptions, Driver, Events, OwnedEvent, spawn};
use everwire_venues::deribit::{self, CancelOnDisconnect, Deribit, Interval, NewOrder, OrderId, Trading};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const BTC: &str = "BTC-PERPETUAL";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match tokio::time::timeout(Duration::from_secs(20), run()).await {
        Ok(Ok(summary)) => println!("deribit: ok, {summary}"),
        Ok(Err(error)) => {
            eprintln!("deribit: {error}");
            return ExitCode::FAILURE;
        }
        Err(_) => {
            eprintln!("deribit: it took longer than 20 s");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::new().tick_every(Duration::from_millis(50)));

    // Each connection is authenticated, gets heartbeats, and has its orders cancelled if it is lost.
    let deribit = Deribit::new()
        .signature(CLIENT_ID, CLIENT_SECRET)
        .scope("trade:read_write")
        .cancel_on_disconnect(CancelOnDisconnect::Connection);
    let driver = Driver::new(deribit.config(&venue.url(PATH))?)?;

    // What is wanted stays wanted, on each connection anew.
    let client = driver.client();
    client.subscribe(deribit::book(BTC, Interval::Raw));
    client.subscribe(deribit::user_orders(BTC, Interval::Raw));
    let (client, mut events) = spawn(driver);
    let trading = Trading::new(client.clone());
    let mut seen = Seen::default();

    seen.until_online(&mut events).await?;
    seen.some(&mut events, 5).await?;
    let order = NewOrder::limit(BTC, 10.0, 40_000.0).label("bid").post_only();
    let placed = trading.buy(&order).await?.order;
    println!("order {} is {}", placed.order_id, placed.order_state);

    // The connection is lost. The session makes another, and says what may have been missed.
    venue.cut_all();
    seen.until_online(&mut events).await?;
    let lost = trading.order(&OrderId::new(&placed.order_id)).await?;
    println!(
        "order {} is {}: the venue did that when the connection was lost",
        lost.order_id, lost.order_state
    );
    seen.some(&mut events, 5).await?;

    // Placed and cancelled by hand.
    let placed = trading.buy(&order).await?.order;
    let cancelled = trading.cancel(&OrderId::new(&placed.order_id)).await?;
    println!("order {} is {}", cancelled.order_id, cancelled.order_state);

    // Closing logs out, which keeps what is open.
    let kept = trading.buy(&order).await?.order;
    let end = client.shutdown(CloseOptions::new()).await;
    if let Some(error) = end.error {
        return Err(error.into());
    }
    let state = venue.with(|venue| venue.order_state(&kept.order_id).to_owned());
    println!("order {} is {state}: logging out keeps it", kept.order_id);

    let expected = ("cancelled", "cancelled", "open");
    if (&*lost.order_state, &*cancelled.order_state, &*state) != expected {
        return Err("an order is not what it should be".into());
    }
    if !venue.punishments().is_empty() || seen.gaps == 0 || seen.reconnects != 1 {
        return Err(format!("{seen:?}, punished: {:?}", venue.punishments()).into());
    }
    let Seen { messages, reconnects, .. } = seen;
    Ok(format!(
        "{messages} messages, {reconnects} reconnect, 1 order cancelled by the venue, 1 by hand, 1 kept"
    ))
}

/// What was told.
#[derive(Debug, Default)]
struct Seen {
    messages: usize,
    gaps: usize,
    reconnects: usize,
}

impl Seen {
    async fn until_online(&mut self, events: &mut Events) -> Result<(), Box<dyn Error>> {
        while let Some(event) = events.next().await {
            if self.take(&event) {
                return Ok(());
            }
        }
        Err("the session is over".into())
    }

    async fn some(&mut self, events: &mut Events, messages: usize) -> Result<(), Box<dyn Error>> {
        let enough = self.messages + messages;
        while self.messages < enough {
            self.take(&events.next().await.ok_or("the session is over")?);
        }
        Ok(())
    }

    /// Whether the session is online by that.
    fn take(&mut self, event: &OwnedEvent) -> bool {
        match event {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if *resumed { " again" } else { "" });
                self.reconnects += usize::from(*resumed);
                return true;
            }
            OwnedEvent::Message { message, .. } => {
                self.messages += 1;
                println!("{message}");
            }
            OwnedEvent::Gap(gap) => {
                println!("gap: {:?} in {:?}", gap.cause, gap.topics);
                self.gaps += 1;
            }
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            _ => {}
        }
        false
    }
}
