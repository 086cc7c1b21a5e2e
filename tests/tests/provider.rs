//! The endpoint provider: asked before each attempt, outside of any lock.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::MockServer;
use everwire_tests::bounded;
use everwire_tokio::{Config, Driver, Endpoint, Error, Event, ProviderError};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

#[tokio::test]
async fn each_attempt_asks_anew_and_a_failure_is_a_failed_attempt() {
    bounded("the provider's test", async {
        let server = MockServer::start();
        let (url, asked, handle) =
            (server.url_of("/ws"), Arc::new(AtomicU32::new(0)), Arc::new(OnceLock::new()));
        let config = Config::provided().backoff(Duration::from_millis(1), Duration::from_millis(5));
        let provider = {
            let handle = handle.clone();
            move || {
                let (n, url, handle) = (asked.fetch_add(1, Ordering::Relaxed), url.clone(), handle.clone());
                async move {
                    // A provider may look at the session that it provides for: that must not block.
                    let client: &everwire_tokio::Client = handle.get().unwrap();
                    assert_eq!(client.state(), everwire_tokio::State::Connecting);
                    if n == 0 {
                        return Err(ProviderError { message: "the token service is down".into() });
                    }
                    let endpoint = Endpoint::new(&format!("{url}?n={n}"))?;
                    Ok(endpoint.header("Authorization", &format!("Bearer {n}")).unwrap())
                }
            }
        };
        let mut driver = Driver::new(config).unwrap().provider(provider);
        handle.set(driver.client()).unwrap();
        let Some(Event::AttemptFailed { error: Error::Provider(error), .. }) = driver.next().await else {
            panic!("the first answer was an error")
        };
        assert_eq!(error.message, "the token service is down");
        for n in 1..=2 {
            while !matches!(driver.next().await, Some(Event::Online { .. })) {}
            let conn = server.last().unwrap();
            assert_eq!(conn.path(), format!("/ws?n={n}"));
            assert_eq!(conn.header("authorization"), Some(&*format!("Bearer {n}")));
            conn.kill();
        }
    })
    .await;
}

#[tokio::test]
async fn without_one_the_attempt_says_what_is_missing() {
    bounded("the provider's test", async {
        let mut driver = Driver::new(Config::provided().max_attempts(1)).unwrap();
        let Some(Event::AttemptFailed { error, .. }) = driver.next().await else {
            panic!("it cannot connect")
        };
        assert!(error.to_string().contains("Driver::provider"), "{error}");
        assert!(matches!(driver.next().await, Some(Event::Closed { error: Some(_), .. })));
        assert!(driver.next().await.is_none());
    })
    .await;
}
