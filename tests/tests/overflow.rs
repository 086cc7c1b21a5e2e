//! A server that is faster than the user, for each policy on what to do then: what is lost is told where it is missing.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{Message, MockServer};
use everwire_tests::{SOON, bounded, config_for, next, until};
use everwire_tokio::{
    Client, Driver, Events, JsonRpc, Overflow, OwnedEvent, State, SubscribeOptions, SubscriptionId, spawn,
};
use serde_json::{Value, json};

const ROOM: usize = 16;
const COUNT: u64 = 5_000;

/// A venue, and a client subscribed to "fast" with a policy, and to "slow", of which nothing may be lost.
struct Scene {
    venue: JsonRpcVenue,
    client: Client,
    events: Events,
    fast: SubscriptionId,
    slow: SubscriptionId,
    _server: MockServer,
}

/// What was told of a topic, or other things about it.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Fast(u64),
    Slow(u64),
    Lost(u64),
    Ended(u64),
}

impl Scene {
    async fn start(overflow: Overflow) -> Self {
        let venue = JsonRpcVenue::builder().build();
        let server = MockServer::builder().venue(&venue).start();
        let protocol = JsonRpc::new().methods("public/subscribe", "public/unsubscribe");
        let config = config_for(&server).protocol(protocol).event_buffer(ROOM);
        let driver = Driver::new(config).unwrap();
        let fast = driver.client().subscribe_with("fast", SubscribeOptions::default().overflow(overflow));
        let slow = driver.client().subscribe("slow");
        let (client, mut events) = spawn(driver);
        everwire_tests::online(&mut events).await;
        venue.wait_subscribers("fast", 1, SOON).unwrap();
        Self { venue, client, events, fast, slow, _server: server }
    }

    fn publish(&self, topic: &str, n: u64) {
        assert_eq!(self.venue.publish(topic, json!({ "n": n })), 1);
    }

    /// Waits until the client has parsed so many messages, while nobody takes any.
    async fn received(&self, messages: u64) {
        bounded("all to be received", async {
            while self.client.stats().messages_received < messages {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn next(&mut self) -> Told {
        match next(&mut self.events).await {
            OwnedEvent::Message { message, subscription: Some(id), .. } if id == self.fast => {
                Told::Fast(number(&message))
            }
            OwnedEvent::Message { message, subscription: Some(id), .. } if id == self.slow => {
                Told::Slow(number(&message))
            }
            OwnedEvent::Overflowed { subscription, dropped, ended } => {
                assert_eq!(subscription, Some(self.fast));
                if ended { Told::Ended(dropped) } else { Told::Lost(dropped) }
            }
            event => panic!("{event:?}"),
        }
    }

    /// What is told until this message of "slow".
    async fn until_slow(&mut self, last: u64) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            match self.next().await {
                Told::Slow(n) if n == last => return told,
                other => told.push(other),
            }
        }
    }

    /// Sends everything, takes nothing until it has arrived, then everything.
    async fn flood(&mut self) -> Vec<Told> {
        let before = self.client.stats().messages_received;
        for n in 0..COUNT {
            self.publish("fast", n);
        }
        self.publish("slow", 0);
        self.received(before + COUNT + 1).await;
        self.until_slow(0).await
    }
}

fn number(message: &Message) -> u64 {
    let value: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    value["params"]["data"]["n"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_oldest() {
    let mut scene = Scene::start(Overflow::DropOldest).await;
    let room = ROOM as u64;
    let want: Vec<_> =
        std::iter::once(Told::Lost(COUNT - room)).chain((COUNT - room..COUNT).map(Told::Fast)).collect();
    assert_eq!(scene.flood().await, want);
    assert_eq!(scene.events.dropped(), COUNT - room);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_newest() {
    let mut scene = Scene::start(Overflow::DropNewest).await;
    let room = ROOM as u64;
    let want: Vec<_> = (0..room).map(Told::Fast).chain([Told::Lost(COUNT - room)]).collect();
    assert_eq!(scene.flood().await, want);
    scene.publish("fast", COUNT);
    assert_eq!(scene.next().await, Told::Fast(COUNT), "it goes on when there is room");
    assert_eq!(scene.events.dropped(), COUNT - room);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflate() {
    let mut scene = Scene::start(Overflow::Conflate).await;
    assert_eq!(scene.flood().await, [Told::Lost(COUNT - 1), Told::Fast(COUNT - 1)]);
    assert_eq!(scene.events.dropped(), COUNT - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close() {
    let mut scene = Scene::start(Overflow::Close).await;
    // What is on its way when the subscription ends is received, and concerns nobody.
    let want: Vec<_> = (0..ROOM as u64).map(Told::Fast).chain([Told::Ended(1)]).collect();
    let before = scene.client.stats().messages_received;
    let mut sent = 0;
    while sent < COUNT && scene.venue.publish("fast", json!({ "n": sent })) == 1 {
        sent += 1;
    }
    scene.publish("slow", 0);
    scene.received(before + sent + 1).await;
    assert_eq!(scene.until_slow(0).await, want);
    scene.venue.wait_subscribers("fast", 0, SOON).unwrap();
    assert!(!scene.client.unsubscribe(scene.fast), "it is gone");
    assert_eq!(scene.events.dropped(), 1);

    let again = scene.client.subscribe("fast");
    let subscribed =
        |event: &OwnedEvent| matches!(event, OwnedEvent::Subscribed { id, .. } if *id == again).then_some(());
    let (_, before) = until(&mut scene.events, "Subscribed", subscribed).await;
    assert!(before.is_empty(), "{before:?}");
    scene.fast = again;
    scene.publish("fast", 7);
    assert_eq!(scene.next().await, Told::Fast(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block() {
    let mut scene = Scene::start(Overflow::Block).await;
    let before = scene.client.stats().messages_received;
    for n in 0..COUNT {
        scene.publish("fast", n);
    }
    scene.publish("slow", 0);
    // The line, and the one that waits for room.
    scene.received(before + ROOM as u64 + 1).await;
    assert_eq!(scene.client.state(), State::Online);
    let want: Vec<_> = (0..COUNT).map(Told::Fast).collect();
    assert_eq!(scene.until_slow(0).await, want);
    assert_eq!(scene.events.dropped(), 0);
}

/// The user takes events all the time, but slowly; a quiet topic beside the fast one loses nothing.
async fn a_slow_user(overflow: Overflow) {
    let mut scene = Scene::start(overflow).await;
    let venue = scene.venue.clone();
    let server = std::thread::spawn(move || {
        for n in 0..COUNT {
            venue.publish("fast", json!({ "n": n }));
            if n % 100 == 99 {
                venue.publish("slow", json!({ "n": n / 100 }));
            }
        }
    });
    let (mut fast, mut slow, mut lost, mut ended, mut last) = (0, 0, 0, false, None);
    while slow < COUNT / 100 {
        match scene.next().await {
            Told::Slow(n) => {
                assert_eq!(n, slow);
                slow += 1;
            }
            Told::Fast(n) => {
                assert_eq!((n, ended), (fast, false), "what is missing was told before it");
                fast += 1;
                last = Some(n);
            }
            Told::Lost(count) => (fast, lost) = (fast + count, lost + count),
            Told::Ended(count) => (fast, lost, ended) = (fast + count, lost + count, true),
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    server.join().unwrap();
    assert_eq!(lost, scene.events.dropped());
    assert!(ended || fast == COUNT, "{fast} of {COUNT}");
    assert!(!ended || overflow == Overflow::Close);
    match overflow {
        Overflow::Block => assert_eq!(lost, 0),
        Overflow::DropOldest | Overflow::Conflate => assert_eq!(last, Some(COUNT - 1), "the newest is kept"),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_user_knows_what_he_missed() {
    for overflow in
        [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest, Overflow::Conflate, Overflow::Close]
    {
        a_slow_user(overflow).await;
    }
}

/// On one thread the driver gets a burst of one read through before the user has a turn: he is given one before anything is lost.
#[tokio::test]
async fn a_burst_is_no_slow_user() {
    let mut scene = Scene::start(Overflow::DropOldest).await;
    for n in 0..COUNT {
        scene.publish("fast", n);
    }
    for n in 0..COUNT {
        assert_eq!(scene.next().await, Told::Fast(n));
    }
    assert_eq!(scene.events.dropped(), 0);
}
