//! Two subscriptions on a venue, over a connection that is reset after the first messages.
//!
//! ```text
//! cargo run -p everwire-tokio --example subscribe
//! ```

use everwire_testing::MockServer;
use everwire_testing::venue::JsonRpcVenue;
use everwire_tokio::{Config, Driver, Event, JsonRpc};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In your program: the URL of a server that exists.
    let venue = JsonRpcVenue::builder().tick_every(Duration::from_millis(20)).build();
    let server = MockServer::builder().venue(&venue).start();

    let config = Config::new(&server.url())?
        .protocol(JsonRpc::new().methods("public/subscribe", "public/unsubscribe"))
        .backoff(Duration::from_millis(50), Duration::from_secs(5));
    let mut driver = Driver::new(config)?;
    let client = driver.client();
    let ticker = client.subscribe("ticker.BTC-PERPETUAL");
    client.subscribe("trades.ETH-PERPETUAL");

    let mut messages = 0;
    while let Some(event) = driver.next().await {
        match event {
            Event::Message { message, subscription, epoch } => {
                let of = if subscription == Some(ticker) { "ticker" } else { "trades" };
                println!("{of}, connection {}: {:?}", epoch.as_u64(), message.as_text());
                messages += 1;
                match messages {
                    4 => server.kill_all(),
                    8 => client.close(everwire_tokio::CloseCode::Normal, "seen enough"),
                    _ => {}
                }
            }
            Event::Gap(gap) => {
                println!("missed perhaps {:?} of {} topics", gap.until - gap.since, gap.topics.len());
            }
            Event::Lost { error, .. } => println!("lost: {error}"),
            Event::Closed { error: None, .. } => println!("closed"),
            Event::Closed { error: Some(error), .. } => return Err(error.explain().to_string().into()),
            _ => {}
        }
    }
    Ok(())
}
