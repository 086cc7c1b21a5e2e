//! Binance: an order book of a snapshot and a stream of changes, which is built anew after a connection was
//! cut and after a change was lost.
//!
//! ```text
//! cargo run -p everwire-examples --example binance
//! ```
//!
//! It brings its own venue, a scripted one. For the real one take `binance::SPOT` and `binance::SPOT_API` as
//! the URLs.

use everwire_testing::script::Live;
use everwire_testing::script::binance::Venue;
use everwire_tokio::{
    Client, CloseOptions, GapCause, OnDisconnect, OwnedEvent, Request, RequestOptions, connect,
};
use everwire_venues::binance::{self, Binance, BinanceApi, Depth, DepthSync, Joined, Speed, depth_numbers};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

const SYMBOL: &str = "BTCUSDT";

/// The book as the WebSocket API gives it, and `GET /api/v3/depth` too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    last_update_id: u64,
    bids: Vec<[String; 2]>,
}

/// A message of the stream: what changed.
#[derive(Deserialize)]
struct Message {
    data: Changes,
}

#[derive(Deserialize)]
struct Changes {
    #[serde(rename = "b")]
    bids: Vec<[String; 2]>,
}

/// Runs it, and says what came.
///
/// # Errors
/// What did not come, or what went wrong.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::spot().every(Duration::from_millis(20)));
    let (api, _) = connect(BinanceApi::spot().config(&venue.url("/ws-api/v3"))?)?;
    let (client, mut events) = connect(Binance::spot().config(&venue.url("/stream"))?)?;
    let depth = client.subscribe(binance::depth(SYMBOL, Speed::Ms100));
    client.subscribe(binance::trade(SYMBOL));

    let mut sync = DepthSync::spot();
    let mut bids = BTreeMap::new();
    let (mut messages, mut applied, mut reconnects, mut holes, mut snapshots) = (0, 0, 0, 0, 0);
    while applied < 60 || holes == 0 {
        match events.next().await.ok_or("the session is over")? {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if resumed { " again" } else { "" });
                reconnects += u32::from(resumed);
            }
            OwnedEvent::Message { message, subscription, .. } if subscription == Some(depth) => {
                messages += 1;
                let text = message.to_text()?;
                let numbers = depth_numbers(text).ok_or("no numbers")?;
                match sync.push(numbers, serde_json::from_str::<Message>(text)?.data) {
                    Depth::Apply(changes) => {
                        apply(&mut bids, changes.bids);
                        applied += 1;
                        match applied {
                            20 => venue.cut_all(),
                            40 => venue.with(|venue| venue.skip("btcusdt@depth@100ms")),
                            _ => {}
                        }
                    }
                    // There is no book, or none any more. In a program: in another task, so that the stream
                    // does not wait.
                    Depth::Kept | Depth::Gap { .. } => {
                        let snapshot = fetch(&api).await?;
                        if let Joined::Apply(changes) = sync.snapshot(snapshot.last_update_id) {
                            bids.clear();
                            apply(&mut bids, snapshot.bids);
                            changes.into_iter().for_each(|changes| apply(&mut bids, changes.bids));
                            snapshots += 1;
                            println!("a book as of {}", snapshot.last_update_id);
                        }
                    }
                    Depth::Old => {}
                }
            }
            OwnedEvent::Message { .. } => messages += 1,
            // What was missed is missed: the book begins anew.
            OwnedEvent::Gap(gap) => {
                println!("a gap, because of {:?}", gap.cause);
                holes += u32::from(matches!(gap.cause, GapCause::Sequence { .. }));
                sync.clear();
            }
            OwnedEvent::Rejected { topic, reason, .. } => return Err(format!("{topic}: {reason}").into()),
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            _ => {}
        }
    }
    println!("{} bids as of {:?}", bids.len(), sync.last());
    for client in [client, api] {
        if let Some(error) = client.shutdown(CloseOptions::new()).await.error {
            return Err(error.into());
        }
    }
    if let Some(punishment) = venue.punishments().first() {
        return Err(format!("punished: {}\n{}", punishment.why, venue.transcript()).into());
    }
    if (reconnects, holes) != (1, 1) || snapshots < 3 || bids.is_empty() {
        return Err(format!("{reconnects} reconnects, {holes} holes, {snapshots} snapshots").into());
    }
    Ok(format!("{messages} messages, {reconnects} reconnect, {holes} hole in a book"))
}

async fn fetch(api: &Client) -> Result<Snapshot, Box<dyn Error>> {
    let params = format!(r#"{{"symbol":"{SYMBOL}","limit":1000}}"#);
    // Asked again if the connection is lost meanwhile, as it does no harm twice.
    let options = RequestOptions::default().on_disconnect(OnDisconnect::Resend);
    let answer = api.request_with(Request::new("depth").params(&params), options).await?;
    Ok(serde_json::from_str(&answer)?)
}

/// Quantities are what there is now, and 0 is nothing.
fn apply(side: &mut BTreeMap<String, String>, levels: Vec<[String; 2]>) {
    for [price, quantity] in levels {
        if quantity.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            side.remove(&price);
        } else {
            side.insert(price, quantity);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let done = tokio::time::timeout(Duration::from_secs(20), run()).await?;
    println!("binance: ok, {}", done?);
    Ok(())
}
