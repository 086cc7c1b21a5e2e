//! A server that breaks the rules, and connections that break: the session says so, leaves and comes back.

use everwire_core::{Error, OwnedEvent, Policy};
use everwire_testing::matchers::closing;
use everwire_testing::{Disconnect, Message, MockServer, Throttle, Violation};
use everwire_tests::{Runtime, SOON, Scene, config_for, message, online, scenarios, until};
use std::time::Duration;

scenarios! {
    every_violation_is_answered_with_its_code,
    every_lost_connection_is_replaced,
    a_slow_server_is_waited_for,
}

async fn every_violation_is_answered_with_its_code(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (_client, mut events) = scene.connect(config_for(&server).flap_budget(None));
    for (index, violation) in Violation::ALL.into_iter().enumerate() {
        online(&mut events).await;
        let conn = server.unblock(move |server| server.wait_connection(index, SOON)).await.unwrap();
        conn.violate(violation);
        let lost = |event: &OwnedEvent| match event {
            OwnedEvent::Lost { error, .. } => Some(error.clone()),
            _ => None,
        };
        let (error, before) = until(&mut events, "Lost", lost).await;
        assert!(matches!(error, Error::Protocol(_)), "{violation}: {error:?}");
        assert!(before.is_empty(), "{violation}: {before:?}");
        let wait = conn.unblock(move |conn| conn.expect(closing(violation.close_code()), SOON));
        wait.await.unwrap_or_else(|error| panic!("{violation}: {error}"));
    }
}

async fn every_lost_connection_is_replaced(scene: &Scene<impl Runtime>) {
    for how in Disconnect::ALL {
        let server = MockServer::builder().handler(|conn, message| conn.send(message)).start();
        let mut config = config_for(&server).policy(Policy::new());
        if how == Disconnect::HalfOpen {
            config = config.ping_interval(Duration::from_millis(50)).pong_timeout(Duration::from_secs(1));
        }
        let (client, mut events) = scene.connect(config);
        for index in 0..2 {
            online(&mut events).await;
            client.send("hello").unwrap();
            assert_eq!(message(&mut events).await, Message::text("hello"), "{how}");
            if index == 0 {
                server.disconnect_all(how);
            }
        }
        assert_eq!(server.connections(), 2, "{how}\n{}", server.transcript());
    }
}

async fn a_slow_server_is_waited_for(scene: &Scene<impl Runtime>) {
    let slow = Throttle::NONE.writes(20_000).reads(20_000);
    let server = MockServer::builder().throttle(slow).handler(|conn, message| conn.send(message)).start();
    let (client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    let long = "x".repeat(2_000);
    client.send(&long).unwrap();
    assert_eq!(message(&mut events).await, Message::text(long));
    assert_eq!((server.connections(), server.failures()), (1, vec![]));
}
