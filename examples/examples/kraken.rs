//! Kraken's market data: books whose checksums are compared, trades, candles. Against a scripted Kraken of this process, which is told to cut the
//! connection and to get a checksum wrong.
//!
//! `cargo run --example kraken`

use everwire_core::{GapCause, OwnedEvent};
use everwire_testing::script::Live;
use everwire_testing::script::kraken::Kraken as Venue;
use everwire_tokio::{CloseCode, connect};
use everwire_venues::kraken::{self, Depth, Kraken};
use std::error::Error;
use std::time::Duration;

/// Runs it, and says what came.
///
/// # Errors
/// What did not come, or what went wrong.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::new().tick(Duration::from_millis(10)));

    // With the real Kraken: `kraken::URL`.
    let (client, mut events) = connect(Kraken::new().config(&venue.url("/v2"))?)?;
    let book = client.subscribe(kraken::book("BTC/USD", Depth::Ten));
    client.subscribe(kraken::book("ETH/USD", Depth::Ten));
    client.subscribe(kraken::trades("BTC/USD"));
    client.subscribe(kraken::ohlc("BTC/USD", 5));

    let (mut messages, mut reconnects, mut corrupt, mut books) = (0, 0, 0, 0);
    while let Some(event) = events.next().await {
        match event {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if resumed { " again" } else { "" });
                reconnects += u32::from(resumed);
            }
            // A snapshot of a book follows by itself.
            OwnedEvent::Subscribed { id, topic, .. } => {
                println!("subscribed to {topic}");
                books += u32::from(id == book);
            }
            OwnedEvent::Message { message, .. } => {
                messages += 1;
                if messages <= 4 || messages % 50 == 0 {
                    println!("{message}");
                }
                match messages {
                    50 => venue.cut_all(),
                    100 => venue.with(|venue| venue.wrong_checksum("BTC/USD")),
                    // Subscribed to at first, after the cut, after the checksum.
                    101.. if books == 3 => client.close(CloseCode::Normal, "done"),
                    _ => {}
                }
            }
            OwnedEvent::Gap(gap) => {
                let topics: Vec<&str> = gap.topics.iter().map(|(_, topic)| &**topic).collect();
                println!("a gap, because of {:?}: {topics:?}", gap.cause);
                corrupt += u32::from(matches!(gap.cause, GapCause::Corrupt { .. }));
            }
            OwnedEvent::Rejected { topic, reason, .. } => return Err(format!("{topic}: {reason}").into()),
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            OwnedEvent::Closed { error: Some(error), .. } => return Err(error.into()),
            _ => {}
        }
    }
    if let Some(punishment) = venue.punishments().first() {
        return Err(format!("punished: {}\n{}", punishment.why, venue.transcript()).into());
    }
    if (reconnects, corrupt) != (1, 1) {
        return Err(format!("{reconnects} reconnects and {corrupt} wrong checksums, not 1 and 1").into());
    }
    Ok(format!("{messages} messages, {reconnects} reconnect, {corrupt} wrong checksum"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let done = tokio::time::timeout(Duration::from_secs(20), run()).await?;
    println!("kraken: ok, {}", done?);
    Ok(())
}
