//! KuCoin's market data: a token over HTTP before each connection, topics that share messages, a book whose numbers are watched. Against a
//! scripted KuCoin of this process, which is told to cut the connection and to leave out a number.
//!
//! `cargo run --example kucoin`

use everwire_core::{Endpoint, GapCause, OwnedEvent, ProviderError};
use everwire_testing::script::Live;
use everwire_testing::script::kucoin::Kucoin as Venue;
use everwire_tokio::{CloseCode, Driver, spawn};
use everwire_venues::kucoin::{self, BULLET_PUBLIC, Bullet, Kucoin};
use std::error::Error;
use std::time::Duration;

/// Asks for a token, with any HTTP client there is. With the real KuCoin `url` begins with `kucoin::SPOT` or `kucoin::FUTURES`.
fn fetch_token(url: &str) -> Result<Endpoint, ProviderError> {
    let answer = ureq::post(url).send_empty()?.body_mut().read_to_string()?;
    Ok(Bullet::parse(&answer)?.endpoint())
}

/// Runs it, and says what came.
///
/// # Errors
/// What did not come, or what went wrong.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let venue = Live::start(Venue::new().tick(Duration::from_millis(10)));
    let url = venue.http_url(BULLET_PUBLIC);

    // Asked before each attempt, and when the token's life comes to its end.
    let driver = Driver::new(Kucoin::new().config())?.provider(move || {
        let url = url.clone();
        async move { tokio::task::spawn_blocking(move || fetch_token(&url)).await? }
    });
    let (client, mut events) = spawn(driver);
    for symbol in ["BTC-USDT", "ETH-USDT", "KCS-USDT"] {
        client.subscribe(kucoin::ticker(symbol));
    }
    let book = client.subscribe(kucoin::level2("BTC-USDT"));

    let (mut messages, mut reconnects, mut holes) = (0, 0, 0);
    while let Some(event) = events.next().await {
        match event {
            OwnedEvent::Online { resumed, .. } => {
                println!("online{}", if resumed { " again" } else { "" });
                reconnects += u32::from(resumed);
            }
            // Here the book's snapshot is fetched over REST, now and after each gap.
            OwnedEvent::Subscribed { id, topic, .. } => println!("subscribed to {topic} ({id:?})"),
            OwnedEvent::Message { message, subscription, .. } => {
                messages += 1;
                if messages <= 4 || messages % 50 == 0 {
                    println!("{message}");
                }
                match messages {
                    50 => venue.cut_all(),
                    100 => venue.with(|venue| venue.skip("/market/level2:BTC-USDT", 3)),
                    _ => {}
                }
                if holes == 1 && subscription == Some(book) && messages > 200 {
                    client.close(CloseCode::Normal, "done");
                }
            }
            OwnedEvent::Gap(gap) => {
                let topics: Vec<&str> = gap.topics.iter().map(|(_, topic)| &**topic).collect();
                println!("a gap, because of {:?}: {topics:?}", gap.cause);
                holes += u32::from(matches!(gap.cause, GapCause::Sequence { .. }));
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
    if (reconnects, holes) != (1, 1) {
        return Err(format!("{reconnects} reconnects and {holes} holes in the book, not 1 and 1").into());
    }
    Ok(format!("{messages} messages, {reconnects} reconnect, {holes} hole in a book"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let done = tokio::time::timeout(Duration::from_secs(20), run()).await?;
    println!("kucoin: ok, {}", done?);
    Ok(())
}
