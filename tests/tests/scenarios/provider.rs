//! The endpoint provider: asked before each attempt, outside of any lock.

use everwire_core::{Client, Config, Endpoint, Error, OwnedEvent, ProviderError, State};
use everwire_testing::MockServer;
use everwire_tests::{Runtime, Scene, bounded, next_inline, scenarios};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

scenarios! {
    each_attempt_asks_anew_and_a_failure_is_a_failed_attempt,
    without_one_the_attempt_says_what_is_missing,
}

async fn each_attempt_asks_anew_and_a_failure_is_a_failed_attempt(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (url, asked, handle) = (server.url_of("/ws"), Arc::new(AtomicU32::new(0)), Arc::new(OnceLock::new()));
    let config = Config::provided().backoff(Duration::from_millis(1), Duration::from_millis(5));
    let provider = {
        let handle = handle.clone();
        move || {
            let (n, url, handle) = (asked.fetch_add(1, Ordering::Relaxed), url.clone(), handle.clone());
            async move {
                // A provider may look at the session that it provides for: that must not block.
                let client: &Client = handle.get().unwrap();
                assert_eq!(client.state(), State::Connecting);
                if n == 0 {
                    return Err(ProviderError::new("the token service is down"));
                }
                let endpoint = Endpoint::new(&format!("{url}?n={n}"))?;
                Ok(endpoint.header("Authorization", &format!("Bearer {n}")).unwrap())
            }
        }
    };
    let mut driver = scene.provided(config, provider);
    handle.set(driver.client()).unwrap();
    let OwnedEvent::AttemptFailed { error: Error::Provider(error), .. } = next_inline(&mut driver).await
    else {
        panic!("the first answer was an error")
    };
    assert_eq!(error.message, "the token service is down");
    for n in 1..=2 {
        while !matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }) {}
        let conn = server.last().unwrap();
        assert_eq!(conn.path(), format!("/ws?n={n}"));
        assert_eq!(conn.header("authorization"), Some(&*format!("Bearer {n}")));
        conn.kill();
    }
}

async fn without_one_the_attempt_says_what_is_missing(scene: &Scene<impl Runtime>) {
    let mut driver = scene.driver(Config::provided().max_attempts(1));
    let OwnedEvent::AttemptFailed { error, .. } = next_inline(&mut driver).await else {
        panic!("it cannot connect")
    };
    assert!(error.to_string().contains("Driver::provider"), "{error}");
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Closed { error: Some(_), .. }));
    assert!(bounded("the end", driver.next()).await.is_none());
}
