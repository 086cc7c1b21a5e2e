//! A server that is faster than the user, for each policy on what to do then: what is lost is told where it is missing.

use everwire_core::{Client, JsonRpc, Overflow, OwnedEvent, State, SubscribeOptions, SubscriptionId};
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{Message, MockServer};
use everwire_tests::{Runtime, SOON, Scene, Tape, config_for, holds, next, online, scenarios, until};
use serde_json::{Value, json};
use smol::future::yield_now;

scenarios! {
    drop_oldest,
    drop_newest,
    conflate,
    close,
    block,
    a_slow_user_knows_what_he_missed,
}

const ROOM: usize = 16;
const COUNT: u64 = 5_000;

/// A venue, and a client subscribed to "fast" with a policy, and to "slow", of which nothing may be lost.
struct Market {
    venue: JsonRpcVenue,
    client: Client,
    events: Tape,
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

impl Market {
    async fn start(scene: &Scene<impl Runtime>, overflow: Overflow) -> Self {
        let venue = JsonRpcVenue::builder().build();
        let server = MockServer::builder().venue(&venue).start();
        let protocol = JsonRpc::new().methods("public/subscribe", "public/unsubscribe");
        let config = config_for(&server).protocol(protocol).event_buffer(ROOM);
        let driver = scene.driver(config);
        let fast = driver.client().subscribe_with("fast", SubscribeOptions::default().overflow(overflow));
        let slow = driver.client().subscribe("slow");
        let (client, mut events) = scene.spawn(driver);
        online(&mut events).await;
        venue.wait_subscribers("fast", 1, SOON).unwrap();
        Self { venue, client, events, fast, slow, _server: server }
    }

    fn publish(&self, topic: &str, n: u64) {
        assert_eq!(self.venue.publish(topic, json!({ "n": n })), 1);
    }

    /// Waits until the client has parsed so many messages, while nobody takes any.
    async fn received(&self, messages: u64) {
        holds("all to be received", || self.client.stats().messages_received >= messages).await;
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

async fn drop_oldest(scene: &Scene<impl Runtime>) {
    let mut market = Market::start(scene, Overflow::DropOldest).await;
    let room = ROOM as u64;
    let want: Vec<_> =
        std::iter::once(Told::Lost(COUNT - room)).chain((COUNT - room..COUNT).map(Told::Fast)).collect();
    assert_eq!(market.flood().await, want);
    assert_eq!(market.events.dropped(), COUNT - room);
}

async fn drop_newest(scene: &Scene<impl Runtime>) {
    let mut market = Market::start(scene, Overflow::DropNewest).await;
    let room = ROOM as u64;
    let want: Vec<_> = (0..room).map(Told::Fast).chain([Told::Lost(COUNT - room)]).collect();
    assert_eq!(market.flood().await, want);
    market.publish("fast", COUNT);
    assert_eq!(market.next().await, Told::Fast(COUNT), "it goes on when there is room");
    assert_eq!(market.events.dropped(), COUNT - room);
}

async fn conflate(scene: &Scene<impl Runtime>) {
    let mut market = Market::start(scene, Overflow::Conflate).await;
    assert_eq!(market.flood().await, [Told::Lost(COUNT - 1), Told::Fast(COUNT - 1)]);
    assert_eq!(market.events.dropped(), COUNT - 1);
}

async fn close(scene: &Scene<impl Runtime>) {
    let mut market = Market::start(scene, Overflow::Close).await;
    // What is on its way when the subscription ends is received, and concerns nobody.
    let want: Vec<_> = (0..ROOM as u64).map(Told::Fast).chain([Told::Ended(1)]).collect();
    let before = market.client.stats().messages_received;
    let mut sent = 0;
    while sent < COUNT && market.venue.publish("fast", json!({ "n": sent })) == 1 {
        sent += 1;
    }
    market.publish("slow", 0);
    market.received(before + sent + 1).await;
    assert_eq!(market.until_slow(0).await, want);
    market.venue.wait_subscribers("fast", 0, SOON).unwrap();
    assert!(!market.client.unsubscribe(market.fast), "it is gone");
    assert_eq!(market.events.dropped(), 1);

    let again = market.client.subscribe("fast");
    let subscribed =
        |event: &OwnedEvent| matches!(event, OwnedEvent::Subscribed { id, .. } if *id == again).then_some(());
    let (_, before) = until(&mut market.events, "Subscribed", subscribed).await;
    assert!(before.is_empty(), "{before:?}");
    market.fast = again;
    market.publish("fast", 7);
    assert_eq!(market.next().await, Told::Fast(7));
}

async fn block(scene: &Scene<impl Runtime>) {
    let mut market = Market::start(scene, Overflow::Block).await;
    let before = market.client.stats().messages_received;
    for n in 0..COUNT {
        market.publish("fast", n);
    }
    market.publish("slow", 0);
    // The line, and the one that waits for room.
    market.received(before + ROOM as u64 + 1).await;
    assert_eq!(market.client.state(), State::Online);
    let want: Vec<_> = (0..COUNT).map(Told::Fast).collect();
    assert_eq!(market.until_slow(0).await, want);
    assert_eq!(market.events.dropped(), 0);
}

/// The user takes events all the time, but slowly; a quiet topic beside the fast one loses nothing.
async fn a_slow_user(scene: &Scene<impl Runtime>, overflow: Overflow) {
    let mut market = Market::start(scene, overflow).await;
    let venue = market.venue.clone();
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
        match market.next().await {
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
            yield_now().await;
        }
    }
    server.join().unwrap();
    assert_eq!(lost, market.events.dropped());
    assert!(ended || fast == COUNT, "{fast} of {COUNT}");
    assert!(!ended || overflow == Overflow::Close);
    match overflow {
        Overflow::Block => assert_eq!(lost, 0),
        Overflow::DropOldest | Overflow::Conflate => assert_eq!(last, Some(COUNT - 1), "the newest is kept"),
        _ => {}
    }
}

async fn a_slow_user_knows_what_he_missed(scene: &Scene<impl Runtime>) {
    // What he misses is up to chance.
    scene.log_nothing();
    for overflow in
        [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest, Overflow::Conflate, Overflow::Close]
    {
        a_slow_user(scene, overflow).await;
    }
}

/// On one thread the driver gets a burst of one read through before the user has a turn: he is given one before anything is lost. Where
/// the session has a thread of its own, this is up to the operating system.
async fn a_burst_is_no_slow_user(scene: &Scene<impl Runtime>) {
    let mut market = Market::start(scene, Overflow::DropOldest).await;
    for n in 0..COUNT {
        market.publish("fast", n);
    }
    for n in 0..COUNT {
        assert_eq!(market.next().await, Told::Fast(n));
    }
    assert_eq!(market.events.dropped(), 0);
}

mod a_burst_is_no_slow_user {
    use super::a_burst_is_no_slow_user as scenario;

    #[test]
    fn on_tokios_thread() {
        everwire_tests::run::<everwire_tests::TokioThread>(scenario);
    }

    #[test]
    fn on_smols_thread() {
        everwire_tests::run::<everwire_tests::SmolThread>(scenario);
    }
}
