//! Coinbase: a book, which begins anew with a snapshot after a connection was cut and after a message was lost, and the account's orders, with a
//! token in each message. Against a scripted Coinbase of this process, which is told to cut the connection and to lose a message.
//!
//! `cargo run -p everwire-examples --example coinbase`

use everwire_testing::script::Live;
use everwire_testing::script::coinbase::{Coinbase as Venue, PATH};
use everwire_tokio::{CloseOptions, GapCause, OwnedEvent, connect};
use everwire_venues::coinbase::{self, Coinbase, JWT_LIFE};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

/// A message of `level2`.
#[derive(Deserialize)]
struct Message {
    events: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "type")]
    kind: String,
    updates: Vec<Level>,
}

#[derive(Deserialize)]
struct Level {
    side: String,
    price_level: String,
    new_quantity: String,
}

/// Runs it, and says what came.
///
/// # Errors
/// What did not come, or what went wrong.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::new().tick_every(Duration::from_millis(20)));

    // With the real Coinbase: a token signed with ES256 or Ed25519, for at most two minutes, and coinbase::MARKET_DATA as the URL.
    let key = venue.with(|venue| venue.key());
    let protocol = Coinbase::new().jwt(move |context| Ok(key.token(context.wall, JWT_LIFE)));
    let (client, mut events) = connect(protocol.config(&venue.url(PATH))?)?;
    let level2 = client.subscribe(coinbase::level2("BTC-USD"));
    client.subscribe(coinbase::market_trades("ETH-USD"));
    let user = client.subscribe(coinbase::user());

    let mut book = BTreeMap::new();
    let (mut messages, mut changes, mut orders, mut snapshots, mut reconnects, mut holes) =
        (0, 0, 0, 0, 0, 0);
    while changes < 60 || holes == 0 || snapshots < 3 || orders == 0 {
        match events.next().await.ok_or("the session is over")? {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if resumed { " again" } else { "" });
                reconnects += u32::from(resumed);
            }
            OwnedEvent::Message { message, subscription, .. } => {
                messages += 1;
                orders += u32::from(subscription == Some(user));
                if subscription != Some(level2) {
                    continue;
                }
                for change in serde_json::from_str::<Message>(message.to_text()?)?.events {
                    if change.kind == "snapshot" {
                        println!("a snapshot of {} levels", change.updates.len());
                        snapshots += 1;
                        book.clear();
                    }
                    // What is told is the new quantity; 0 is none.
                    for level in change.updates {
                        book.insert((level.side, level.price_level), level.new_quantity);
                    }
                    book.retain(|_, quantity| quantity != "0");
                }
                changes += 1;
                match changes {
                    20 => venue.cut_all(),
                    40 => venue.with(|venue| venue.lose("market_trades:ETH-USD")),
                    _ => {}
                }
            }
            // Numbers run over all of the connection: any of the topics may have missed something, and all are made anew.
            OwnedEvent::Gap(gap) => {
                println!("a gap in {} topics, because of {:?}", gap.topics.len(), gap.cause);
                holes += u32::from(matches!(gap.cause, GapCause::Sequence { .. }));
            }
            OwnedEvent::Rejected { topic, reason, .. } => return Err(format!("{topic}: {reason}").into()),
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            _ => {}
        }
    }
    println!("{} levels", book.len());
    if let Some(error) = client.shutdown(CloseOptions::new()).await.error {
        return Err(error.into());
    }
    if let Some(punishment) = venue.punishments().first() {
        return Err(format!("punished: {}\n{}", punishment.why, venue.transcript()).into());
    }
    if (reconnects, holes) != (1, 1) || book.is_empty() {
        return Err(format!("{reconnects} reconnects and {holes} holes, not 1 and 1").into());
    }
    Ok(format!("{messages} messages, {reconnects} reconnect, {holes} hole"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let done = tokio::time::timeout(Duration::from_secs(20), run()).await?;
    println!("coinbase: ok, {}", done?);
    Ok(())
}
