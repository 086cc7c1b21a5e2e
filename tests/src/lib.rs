//! What the tests over sockets share: the runtimes that they run under, bounded waits, and ways to get at events.

mod log;
mod runtime;
mod scene;

pub use log::{describe, no_messages};
pub use runtime::{AsyncStd, Blocking, Inline, Runtime, Smol, SmolThread, Tokio, TokioThread};
pub use scene::{Driver, Runs, Scene, Source, Tape, assert_same, run};

use everwire_core::transport::tls::TlsConfig;
use everwire_core::{Config, Epoch, Error, OwnedEvent};
use everwire_testing::MockServer;
use smol::Timer;
use smol::future::{or, poll_once, yield_now};
use std::fmt;
use std::future::{Future, poll_fn};
use std::time::{Duration, Instant};

/// Longer than anything takes that happens at all.
pub const SOON: Duration = Duration::from_secs(20);

/// Awaits `future`, but not for longer than [`SOON`].
///
/// # Panics
/// If it takes longer; `what` says what was waited for.
pub async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {SOON:?} in vain for {what}"),
    }
}

/// A `timeout` did.
#[derive(Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for Elapsed {}

/// Awaits `future` for so long, under any runtime: the timer's thread is its own.
///
/// # Errors
/// It took longer, and was dropped.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    or(async { Ok(future.await) }, async {
        Timer::after(time).await;
        Err(Elapsed)
    })
    .await
}

/// Sleeps, under any runtime.
pub async fn sleep(time: Duration) {
    Timer::after(time).await;
}

/// Waits until `is` holds, for what nobody tells.
///
/// # Panics
/// If it does not come to hold.
pub async fn holds(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < SOON, "waited {SOON:?} in vain for {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// A configuration for this URL that does not wait long between attempts.
///
/// # Panics
/// If the URL is none.
pub fn config(url: &str) -> Config {
    let config = Config::new(url).expect("the mock server's URL is valid");
    config.backoff(Duration::from_millis(1), Duration::from_millis(50))
}

/// Trusts the server's own authority.
///
/// # Panics
/// If the server has no TLS.
pub fn trusting(server: &MockServer) -> TlsConfig {
    TlsConfig::with_ca_pem(server.ca_pem().as_bytes())
        .expect("the server has TLS and made this certificate itself")
}

/// A [`config`] for this server that trusts it, if it has TLS.
pub fn config_for(server: &MockServer) -> Config {
    let config = config(&server.url());
    if server.ca_pem().is_empty() { config } else { config.tls(trusting(server)) }
}

/// The next event.
///
/// # Panics
/// If none comes, or the session is over.
pub async fn next(events: &mut impl Source) -> OwnedEvent {
    bounded("an event", poll_fn(|cx| events.poll_event(cx))).await.expect("the session is not over yet")
}

/// Takes events until `pick` finds what it wants; gives that, and all the events before it.
///
/// # Panics
/// If it does not come; says what came instead.
pub async fn until<T>(
    events: &mut impl Source,
    what: &str,
    mut pick: impl FnMut(&OwnedEvent) -> Option<T>,
) -> (T, Vec<OwnedEvent>) {
    let mut before = Vec::new();
    loop {
        let event = match timeout(SOON, poll_fn(|cx| events.poll_event(cx))).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the session ended before {what}; before that: {:?}", names(&before)),
            Err(_) => panic!("waited {SOON:?} in vain for {what}; instead: {:?}", names(&before)),
        };
        if let Some(found) = pick(&event) {
            return (found, before);
        }
        before.push(event);
    }
}

/// Takes events until the session is online.
///
/// # Panics
/// If it does not come online.
pub async fn online(events: &mut impl Source) -> Epoch {
    let online = |event: &OwnedEvent| match event {
        OwnedEvent::Online { epoch, .. } => Some(*epoch),
        _ => None,
    };
    until(events, "Online", online).await.0
}

/// Takes events until a connection is lost, and says why.
///
/// # Panics
/// If none is.
pub async fn lost(events: &mut impl Source) -> Error {
    let lost = |event: &OwnedEvent| match event {
        OwnedEvent::Lost { error, .. } => Some(error.clone()),
        _ => None,
    };
    until(events, "Lost", lost).await.0
}

/// Takes the next message, and all events before it.
///
/// # Panics
/// If none comes.
pub async fn message(events: &mut impl Source) -> everwire_testing::Message {
    let message = |event: &OwnedEvent| match event {
        OwnedEvent::Message { message, .. } => Some(message.clone()),
        _ => None,
    };
    until(events, "a message", message).await.0
}

/// Takes what is left until the session is over, and says why it is.
///
/// # Panics
/// If it does not end, or does not say so exactly once, at the end.
pub async fn closed(events: &mut impl Source) -> Option<Error> {
    let closed = |event: &OwnedEvent| match event {
        OwnedEvent::Closed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let (error, _) = until(events, "Closed", closed).await;
    let after = bounded("the end of the events", poll_fn(|cx| events.poll_event(cx))).await;
    assert!(after.is_none(), "nothing follows Closed, but {after:?} did");
    error
}

/// The next event of an inline driver, for a test that does nothing else meanwhile.
///
/// # Panics
/// If none comes, or the session is over.
pub async fn next_inline(driver: &mut impl Inline) -> OwnedEvent {
    let event = bounded("an event", driver.wait(|event| event.to_owned())).await;
    event.expect("the session is not over yet")
}

/// Runs the driver while `future` runs; gives the events that came meanwhile.
///
/// # Panics
/// If the session ends, or the future takes too long.
pub async fn driving<F: Future>(
    driver: &mut impl Inline,
    what: &str,
    future: F,
) -> (F::Output, Vec<OwnedEvent>) {
    let mut came = Vec::new();
    let run = async {
        loop {
            let event = driver.next(|event| event.to_owned()).await;
            came.push(event.expect("the session is not over yet"));
        }
    };
    let output = or(bounded(what, future), run).await;
    (output, came)
}

/// Runs the driver until `is` holds, and looks each time that the driver waits; gives the events that came meanwhile.
///
/// # Panics
/// If it does not come to hold.
pub async fn drive_until(
    driver: &mut impl Inline,
    what: &str,
    mut is: impl FnMut() -> bool,
) -> Vec<OwnedEvent> {
    let mut came = Vec::new();
    let run = async {
        while !is() {
            match poll_once(driver.next(|event| event.to_owned())).await {
                Some(event) => came.push(event.expect("the session is not over yet")),
                None => yield_now().await,
            }
        }
    };
    bounded(what, run).await;
    came
}

/// The kinds of these events, runs of messages as one.
pub fn names(events: &[OwnedEvent]) -> Vec<String> {
    let mut names: Vec<String> = events.iter().map(name).collect();
    names.dedup();
    names
}

fn name(event: &OwnedEvent) -> String {
    match event {
        OwnedEvent::Message { .. } => "Message".to_owned(),
        OwnedEvent::Online { epoch, .. } => format!("Online {}", epoch.as_u64()),
        event => format!("{event:?}"),
    }
}

/// Bytes that look random and are the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Xorshift: never zero, and good enough to tell bytes apart.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
