//! What the tests over sockets share: bounded waits, and ways to get at events.

use everwire_testing::MockServer;
use everwire_tokio::transport::tls::TlsConfig;
use everwire_tokio::{Config, Driver, Epoch, Error, Events, OwnedEvent};
use std::future::Future;
use std::time::Duration;

/// Longer than anything takes that happens at all.
pub const SOON: Duration = Duration::from_secs(20);

/// Awaits `future`, but not for longer than [`SOON`].
///
/// # Panics
/// If it takes longer; `what` says what was waited for.
pub async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {SOON:?} in vain for {what}"),
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
pub async fn next(events: &mut Events) -> OwnedEvent {
    bounded("an event", events.next()).await.expect("the session is not over yet")
}

/// Takes events until `pick` finds what it wants; gives that, and all the events before it.
///
/// # Panics
/// If it does not come; says what came instead.
pub async fn until<T>(
    events: &mut Events,
    what: &str,
    mut pick: impl FnMut(&OwnedEvent) -> Option<T>,
) -> (T, Vec<OwnedEvent>) {
    let mut before = Vec::new();
    loop {
        let event = tokio::time::timeout(SOON, events.next()).await;
        let event = match event {
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
pub async fn online(events: &mut Events) -> Epoch {
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
pub async fn lost(events: &mut Events) -> Error {
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
pub async fn message(events: &mut Events) -> everwire_testing::Message {
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
pub async fn closed(events: &mut Events) -> Option<Error> {
    let closed = |event: &OwnedEvent| match event {
        OwnedEvent::Closed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let (error, _) = until(events, "Closed", closed).await;
    let after = bounded("the end of the events", events.next()).await;
    assert!(after.is_none(), "nothing follows Closed, but {after:?} did");
    error
}

/// Runs the driver while `future` runs; gives the events that came meanwhile.
///
/// # Panics
/// If the session ends, or the future takes too long.
pub async fn driving<F: Future>(driver: &mut Driver, what: &str, future: F) -> (F::Output, Vec<OwnedEvent>) {
    let mut came = Vec::new();
    let mut future = std::pin::pin!(bounded(what, future));
    loop {
        tokio::select! {
            biased;
            output = &mut future => return (output, came),
            event = driver.next() => came.push(event.expect("the session is not over yet").to_owned()),
        }
    }
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
