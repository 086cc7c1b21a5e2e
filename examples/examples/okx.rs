//! OKX: market data and an order, at two addresses; a connection that is cut, and a book of which a change is
//! lost.
//!
//! ```text
//! cargo run -p everwire-examples --example okx
//! ```
//!
//! It brings its own venue, a scripted one. For the real one take `okx::DEMO_PUBLIC` and `okx::DEMO_PRIVATE`
//! as the URLs, and a key of demo trading.

use everwire_testing::script::Live;
use everwire_testing::script::okx::Venue;
use everwire_tokio::{CloseOptions, GapCause, OwnedEvent, connect};
use everwire_venues::okx::{self, CancelOrder, NewOrder, Okx, Side, Trading};
use std::error::Error;
use std::time::Duration;

/// What orders name an instrument by: `instIdCode` of the list of instruments.
const BTC_USDT: u64 = 5;

/// Runs it, and says what came.
///
/// # Errors
/// What did not come, or what went wrong.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::new().every(Duration::from_millis(20)).key("key", "secret", "passphrase"));

    // Market data.
    let (public, mut market) = connect(Okx::new().config(&venue.url("/ws/v5/public"))?)?;
    public.subscribe(okx::books("BTC-USDT"));
    public.subscribe(okx::trades("BTC-USDT"));
    public.subscribe(okx::tickers("ETH-USDT"));

    let (mut messages, mut snapshots, mut reconnects, mut holes) = (0, 0, 0, 0);
    while messages < 200 || holes == 0 {
        match market.next().await.ok_or("the session is over")? {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if resumed { " again" } else { "" });
                reconnects += u32::from(resumed);
            }
            OwnedEvent::Message { message, .. } => {
                messages += 1;
                if message.to_text()?.contains(r#""action":"snapshot""#) {
                    snapshots += 1;
                    println!("{message}");
                }
                match messages {
                    50 => venue.cut_all(),
                    120 => venue.with(|venue| venue.skip("books:BTC-USDT")),
                    _ => {}
                }
            }
            OwnedEvent::Gap(gap) => {
                let topics: Vec<&str> = gap.topics.iter().map(|(_, topic)| &**topic).collect();
                println!("a gap, because of {:?}: {topics:?}", gap.cause);
                holes += u32::from(matches!(gap.cause, GapCause::Sequence { .. }));
            }
            OwnedEvent::Rejected { topic, reason, .. } => return Err(format!("{topic}: {reason}").into()),
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            _ => {}
        }
    }

    // Each connection to the private address is logged in.
    let okx = Okx::new().credentials("key", "secret", "passphrase");
    let (private, mut account) = connect(okx.config(&venue.url("/ws/v5/private"))?)?;
    private.subscribe(okx::orders("ANY"));
    let subscribed = |event: &OwnedEvent| matches!(event, OwnedEvent::Subscribed { .. });
    while !subscribed(&account.next().await.ok_or("the session is over")?) {}
    let trading = Trading::new(private.clone());
    let order = NewOrder::post_only(BTC_USDT, Side::Buy, "0.1", "40000").client_order_id("bid1");
    let placed = trading.place(&order).await?;
    println!("order {} is placed", placed[0].ord_id);
    let cancelled = trading.cancel(&CancelOrder::by_client_order_id(BTC_USDT, "bid1")).await?;
    println!("order {} is cancelled", cancelled[0].ord_id);

    for client in [public, private] {
        if let Some(error) = client.shutdown(CloseOptions::new()).await.error {
            return Err(error.into());
        }
    }
    if let Some(punishment) = venue.punishments().first() {
        return Err(format!("punished: {}\n{}", punishment.why, venue.transcript()).into());
    }
    if (reconnects, holes) != (1, 1) || snapshots < 2 || venue.with(|venue| venue.open_orders()) != 0 {
        return Err(format!("{reconnects} reconnects, {holes} holes, {snapshots} snapshots").into());
    }
    Ok(format!("{messages} messages, {reconnects} reconnect, {holes} hole in a book, 1 order"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let done = tokio::time::timeout(Duration::from_secs(20), run()).await?;
    println!("okx: ok, {}", done?);
    Ok(())
}
