//! A session that loses its connection in the middle of a frame, and comes back.
//!
//! The steps follow the session's events: messages on every topic, the cut, `Lost`, `Gap` and `Online`, messages on every
//! topic again, a request, the end.

use crate::screen::{Colour, Screen, printable};
use crate::tally::Tally;
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnectionEnd, MockServer, unblock};
use everwire_tokio::transport::tls::TlsConfig;
use everwire_tokio::{Client, CloseCode, Config, JsonRpc, OwnedEvent, Request, SubscriptionId};
use serde_json::Value;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const TOPICS: [&str; 2] = ["ticker.BTC-PERPETUAL", "trades.ETH-PERPETUAL"];
/// How often the server publishes on every topic.
const TICK: Duration = Duration::from_millis(50);
/// Messages of each topic that are waited for, before the cut and after it.
const ENOUGH: u32 = 3;
/// Bytes of the TCP stream that still pass: fewer than a notification has, so that the cut is inside a frame.
const CUT_AFTER: u64 = 40;
/// How long the server is given to have cut, and to have seen the end.
const SERVER_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Encrypt the connection (wss).
    #[arg(long)]
    tls: bool,
    /// Seconds after which the demo has failed.
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    limit: u64,
}

/// Plays it all, and says how it went in the last line and the exit code.
pub(crate) async fn run(options: &Options) -> ExitCode {
    let screen = Screen::new();
    let mut tally = Tally::new(&TOPICS);
    let limit = Duration::from_secs(options.limit);
    let played = tokio::time::timeout(limit, play(options.tls, &mut tally, &screen)).await;
    let verdict = match played {
        Ok(Ok(())) => tally.verdict(),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            let why = tally.verdict().err().unwrap_or_else(|| "it did not end".to_owned());
            Err(format!("{why} within {} s", options.limit))
        }
    };
    match verdict {
        Ok(numbers) => {
            screen.bare(Colour::Good, &format!("demo: ok, {numbers}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            screen.bare(Colour::Bad, &format!("demo: failed, {why}"));
            ExitCode::FAILURE
        }
    }
}

async fn play(tls: bool, tally: &mut Tally, screen: &Screen) -> Result<(), Box<dyn Error>> {
    let venue = JsonRpcVenue::builder().tick_every(TICK).build();
    let mut builder = MockServer::builder().venue(&venue);
    if tls {
        builder = builder.tls();
    }
    let server = builder.try_start()?;
    let what = format!("{}, a JSON-RPC venue that publishes every {TICK:?}", server.url());
    screen.line(Colour::Plain, "server", &what);

    let mut config = Config::new(&server.url())?
        .protocol(JsonRpc::new().methods("public/subscribe", "public/unsubscribe"))
        .backoff(Duration::from_millis(200), Duration::from_secs(2));
    if tls {
        config = config.tls(TlsConfig::with_ca_pem(server.ca_pem().as_bytes())?);
    }
    let (client, mut events) = everwire_tokio::connect(config)?;
    let ids = TOPICS.map(|topic| client.subscribe(topic));
    screen.line(Colour::Plain, "client", &format!("connects and subscribes to {}", TOPICS.join(", ")));

    let mut cut = false;
    let mut asked = false;
    while let Some(event) = events.next().await {
        count(&event, &ids, tally);
        show(&event, &ids, screen);
        if !cut && tally.topics.iter().all(|topic| topic.before >= ENOUGH) {
            cut = true;
            tally.cut = cut_connection(&server, screen).await?;
        }
        if !asked && tally.reconnects > 0 && tally.topics.iter().all(|topic| topic.after >= ENOUGH) {
            asked = true;
            ask_and_close(&client, tally, screen).await;
        }
    }
    if let Some(last) = server.last() {
        let end = unblock(move || last.wait_end(SERVER_TIME)).await?;
        screen.line(Colour::Plain, "server", &format!("connection {end}"));
        tally.handshake = matches!(end, ConnectionEnd::Closed { by_server: false, .. });
    }
    Ok(())
}

/// Has the server reset the connection inside of the next notification; true once it has.
async fn cut_connection(server: &MockServer, screen: &Screen) -> Result<bool, Box<dyn Error>> {
    let Some(conn) = server.connection(0) else { return Ok(false) };
    let what = format!("lets {CUT_AFTER} more bytes through, then resets the TCP connection inside a frame");
    screen.line(Colour::Bad, "server", &what);
    let end = unblock(move || {
        conn.kill_after(CUT_AFTER);
        conn.wait_end(SERVER_TIME)
    })
    .await?;
    Ok(end == ConnectionEnd::Killed)
}

async fn ask_and_close(client: &Client, tally: &mut Tally, screen: &Screen) {
    screen.line(Colour::Plain, "request", "public/test");
    match client.request(Request::new("public/test")).await {
        Ok(result) => {
            tally.answers += 1;
            screen.line(Colour::Good, "response", &printable(&result));
        }
        Err(error) => screen.line(Colour::Bad, "response", &format!("none: {error}")),
    }
    screen.line(Colour::Plain, "client", "closes");
    client.close(CloseCode::Normal, "demo over");
}

fn count(event: &OwnedEvent, ids: &[SubscriptionId], tally: &mut Tally) {
    let lost = tally.lost > 0;
    let index = |id: &SubscriptionId| ids.iter().position(|known| known == id);
    match event {
        OwnedEvent::Online { resumed: false, .. } => tally.first_online += 1,
        OwnedEvent::Online { resumed: true, .. } => tally.reconnects += 1,
        OwnedEvent::Lost { .. } => tally.lost += 1,
        OwnedEvent::Closed { error, .. } => tally.over = error.is_none(),
        OwnedEvent::Gap(gap) => {
            tally.gaps += 1;
            for at in gap.topics.iter().filter_map(|(id, _)| index(id)) {
                tally.topics[at].in_gap = true;
            }
        }
        OwnedEvent::Subscribed { id, .. } => {
            if let Some(topic) = index(id).and_then(|at| tally.topics.get_mut(at)) {
                if lost { topic.restored = true } else { topic.subscribed = true }
            }
        }
        OwnedEvent::Message { subscription: Some(id), .. } => {
            if let Some(topic) = index(id).and_then(|at| tally.topics.get_mut(at)) {
                if lost { topic.after += 1 } else { topic.before += 1 }
            }
        }
        _ => {}
    }
}

fn show(event: &OwnedEvent, ids: &[SubscriptionId], screen: &Screen) {
    match event {
        OwnedEvent::Online { epoch, resumed, .. } => {
            let how = if *resumed { "again, on a new connection" } else { "for the first time" };
            screen.line(Colour::Good, "online", &format!("{how} (epoch {})", epoch.as_u64()));
        }
        OwnedEvent::Subscribed { topic, epoch, .. } => {
            screen.line(Colour::Good, "subscribed", &format!("{topic} (epoch {})", epoch.as_u64()));
        }
        OwnedEvent::Rejected { topic, reason, .. } => {
            screen.line(Colour::Bad, "rejected", &format!("{topic}: {}", printable(reason)));
        }
        OwnedEvent::Message { message, subscription, .. } => {
            let topic = subscription.and_then(|id| ids.iter().position(|known| *known == id));
            let topic = topic.map_or("(no topic)", |at| TOPICS[at]);
            let text = message.to_text().unwrap_or("(binary)");
            screen.line(Colour::Dim, "message", &format!("{topic:<22}{}", printable(&data(text))));
        }
        OwnedEvent::Lost { epoch, error, retry_at, .. } => {
            let next = retry_at.map(|at| at.saturating_duration_since(Instant::now()).as_millis());
            let next =
                next.map_or_else(|| "no further attempt".to_owned(), |ms| format!("next attempt in {ms} ms"));
            screen.line(Colour::Bad, "lost", &format!("epoch {}: {error}; {next}", epoch.as_u64()));
        }
        OwnedEvent::AttemptFailed { failures, error, .. } => {
            screen.line(Colour::Bad, "failed", &format!("attempt, {failures} in a row: {error}"));
        }
        OwnedEvent::Gap(gap) => {
            let topics: Vec<&str> = gap.topics.iter().map(|(_, name)| name.as_str()).collect();
            let length = gap.until.saturating_duration_since(gap.since).as_millis();
            let what = format!("{length} ms in which messages may be missing: {}", topics.join(", "));
            screen.line(Colour::Bad, "gap", &what);
        }
        OwnedEvent::Closed { error: None, .. } => screen.line(Colour::Plain, "closed", "as asked"),
        OwnedEvent::Closed { error: Some(error), .. } => {
            screen.line(Colour::Bad, "closed", &error.to_string());
        }
        other => screen.line(Colour::Dim, "event", &format!("{other:?}")),
    }
}

/// What a notification carries, without its envelope; the whole text if it is something else.
fn data(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    value
        .and_then(|value| Some(value.get("params")?.get("data")?.to_string()))
        .unwrap_or_else(|| text.to_owned())
}
