//! Connections that end in every way that they can: what is told, and that nothing is missed in silence.

use everwire_core::{
    Client, Config, Disconnect, Error, JsonRpc, OwnedEvent, Request, RequestError, SubscriptionId, Timeout,
    Unanswered,
};
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnHandle, Message, MockServer};
use everwire_tests::{
    Runtime, SOON, Scene, Tape, bounded, config_for, lost, names, next, no_messages, online, scenarios,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

scenarios! {
    a_reset,
    a_fin,
    a_reset_in_the_middle_of_a_frame,
    silence,
    a_close_frame,
    a_request_in_flight_is_settled,
    a_server_that_is_away_for_a_while,
    without_subscriptions_the_gap_is_the_whole_sessions,
}

const TOPICS: [&str; 2] = ["book.A", "trades.B"];

/// A venue whose channels tick, and a client that is subscribed to two of them.
struct Market {
    venue: JsonRpcVenue,
    server: MockServer,
    client: Client,
    events: Tape,
    feed: Feed,
}

/// What came of the two channels, held against what was said about it.
#[derive(Default)]
struct Feed {
    /// Last sequence number of each, and the epoch it came in.
    last: BTreeMap<SubscriptionId, (u64, u64)>,
    /// Gaps that were reported since the last message: epoch before and after.
    gaps: BTreeMap<SubscriptionId, (u64, u64)>,
    /// Messages per epoch and channel.
    counts: BTreeMap<(u64, SubscriptionId), u64>,
    /// Sequence numbers that were missed.
    missed: u64,
    log: Vec<OwnedEvent>,
}

impl Feed {
    fn take(&mut self, event: OwnedEvent) {
        match &event {
            OwnedEvent::Gap(gap) => {
                assert!(gap.since <= gap.until, "{gap:?}");
                for (id, _) in &gap.topics {
                    let twice = self.gaps.insert(*id, (gap.before.as_u64(), gap.after.as_u64()));
                    assert_eq!(twice, None, "one gap, one report");
                }
            }
            OwnedEvent::Message { message, epoch, subscription } => {
                let id = subscription.expect("all that this venue sends belongs to a subscription");
                self.sequence(id, sequence(message), epoch.as_u64());
            }
            _ => {}
        }
        self.log.push(event);
    }

    fn sequence(&mut self, id: SubscriptionId, seq: u64, epoch: u64) {
        *self.counts.entry((epoch, id)).or_default() += 1;
        let gap = self.gaps.remove(&id);
        if let Some((last, in_epoch)) = self.last.insert(id, (seq, epoch)) {
            assert!(seq > last, "{id:?}: {seq} after {last}");
            if epoch == in_epoch {
                assert_eq!(
                    (seq, gap),
                    (last + 1, None),
                    "{id:?}: within a connection all comes, and no gap is reported"
                );
            } else {
                assert_eq!(
                    gap,
                    Some((in_epoch, epoch)),
                    "{id:?}: {last} to {seq} without the report of a gap"
                );
                self.missed += seq - last - 1;
            }
        }
    }

    fn has(&self, epoch: u64, ids: &[SubscriptionId], count: u64) -> bool {
        ids.iter().all(|id| self.counts.get(&(epoch, *id)).is_some_and(|have| *have >= count))
    }

    /// Where the first event is for which `is` holds.
    fn position(&self, what: &str, is: impl Fn(&OwnedEvent) -> bool) -> usize {
        self.log.iter().position(is).unwrap_or_else(|| panic!("no {what} in {:?}", names(&self.log)))
    }
}

fn sequence(message: &Message) -> u64 {
    let value: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    value["params"]["data"]["seq"].as_u64().unwrap()
}

impl Market {
    async fn start(
        scene: &Scene<impl Runtime>,
        configure: impl FnOnce(Config) -> Config,
    ) -> (Self, [SubscriptionId; 2]) {
        scene.log_as(but_ticks);
        let venue = JsonRpcVenue::builder().tick_every(Duration::from_millis(2)).build();
        let answers = venue.clone();
        // "hang" is a method that is never answered.
        let server = MockServer::builder()
            .handler(move |conn, message| {
                if !message.to_text().is_ok_and(|text| text.contains("\"hang\"")) {
                    answers.handle(conn, &message);
                }
            })
            .start();
        let protocol = JsonRpc::new().methods("public/subscribe", "public/unsubscribe");
        let driver = scene.driver(configure(config_for(&server).protocol(protocol)));
        let ids = TOPICS.map(|topic| driver.client().subscribe(topic));
        let (client, events) = scene.spawn(driver);
        let mut market = Self { venue, server, client, events, feed: Feed::default() };
        market.flows(1, &ids).await;
        (market, ids)
    }

    /// Takes events until some messages of both channels have come over the connection of this epoch.
    async fn flows(&mut self, epoch: u64, ids: &[SubscriptionId]) {
        while !self.feed.has(epoch, ids, 20) {
            let event = next(&mut self.events).await;
            self.feed.take(event);
        }
    }

    fn conn(&self) -> ConnHandle {
        self.server.last().unwrap()
    }

    /// After a connection was ended: waits for the next one and checks what was said about it. The error of the old one.
    async fn recovers(&mut self, ids: &[SubscriptionId; 2], epoch: u64) -> Error {
        self.flows(epoch, ids).await;
        let before = epoch - 1;
        let feed = &self.feed;
        let lost = feed
            .position("Lost", |e| matches!(e, OwnedEvent::Lost { epoch, .. } if epoch.as_u64() == before));
        let online = feed.position(
            "Online",
            |e| matches!(e, OwnedEvent::Online { epoch: of, resumed: true, .. } if of.as_u64() == epoch),
        );
        assert!(lost < online, "{:?}", names(&feed.log));
        for id in ids {
            let gap = feed.position("Gap", |event| match event {
                OwnedEvent::Gap(gap) => {
                    gap.after.as_u64() == epoch && gap.topics.iter().any(|(of, _)| of == id)
                }
                _ => false,
            });
            let first = feed.position("message", |event| match event {
                OwnedEvent::Message { epoch: of, subscription, .. } => {
                    of.as_u64() == epoch && *subscription == Some(*id)
                }
                _ => false,
            });
            assert!(lost < gap && gap < first, "{:?}", names(&feed.log));
        }
        let late = feed.log[lost..]
            .iter()
            .any(|e| matches!(e, OwnedEvent::Message { epoch, .. } if epoch.as_u64() == before));
        assert!(!late, "a message of the old connection came after Lost");
        assert_eq!(self.venue.subscriptions(&self.conn()), TOPICS);
        match &feed.log[lost] {
            OwnedEvent::Lost { error, .. } => error.clone(),
            _ => unreachable!("found above"),
        }
    }
}

/// How often the market ticks in the meantime is up to chance, and how often a server is looked for that is not there.
fn but_ticks(event: &OwnedEvent) -> Option<String> {
    if matches!(event, OwnedEvent::AttemptFailed { .. }) { None } else { no_messages(event) }
}

fn is_reset(error: &Error) -> bool {
    matches!(
        error,
        Error::Disconnected(Disconnect::Io { kind: ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, .. })
    )
}

async fn a_reset(scene: &Scene<impl Runtime>) {
    let (mut market, ids) = Market::start(scene, |config| config).await;
    for epoch in 2..6 {
        market.conn().kill();
        let error = market.recovers(&ids, epoch).await;
        assert!(is_reset(&error), "{error:?}");
    }
    assert_eq!(market.server.connections(), 5);
}

async fn a_fin(scene: &Scene<impl Runtime>) {
    let (mut market, ids) = Market::start(scene, |config| config).await;
    market.conn().hang_up();
    assert_eq!(market.recovers(&ids, 2).await, Error::Disconnected(Disconnect::Eof));
}

async fn a_reset_in_the_middle_of_a_frame(scene: &Scene<impl Runtime>) {
    let (mut market, ids) = Market::start(scene, |config| config).await;
    // A notification is longer than 100 bytes, its header two to four: these cut headers and payloads.
    for (epoch, bytes) in (2..).zip([1, 2, 3, 50, 1000]) {
        market.conn().kill_after(bytes);
        let error = market.recovers(&ids, epoch).await;
        assert!(is_reset(&error), "{error:?}");
    }
}

async fn silence(scene: &Scene<impl Runtime>) {
    let pings = |config: Config| {
        config.ping_interval(Duration::from_millis(100)).pong_timeout(Duration::from_millis(300))
    };
    let (mut market, ids) = Market::start(scene, pings).await;
    market.conn().stall(true);
    assert_eq!(market.recovers(&ids, 2).await, Error::Timeout(Timeout::Pong));
    assert!(market.feed.missed > 0, "ticks went on for at least 300 ms");
    let pongs = market.feed.log.iter().filter(|event| matches!(event, OwnedEvent::Pong { .. })).count();
    assert!(pongs == 0 || market.client.stats().rtt.is_some());
}

async fn a_close_frame(scene: &Scene<impl Runtime>) {
    let (mut market, ids) = Market::start(scene, |config| config).await;
    market.conn().close(1012, "restarting");
    let Error::Closed(closed) = market.recovers(&ids, 2).await else { panic!() };
    assert_eq!((u16::from(closed.code), &*closed.reason), (1012, "restarting"));
}

async fn a_request_in_flight_is_settled(scene: &Scene<impl Runtime>) {
    let (mut market, ids) = Market::start(scene, |config| config).await;
    let conn = market.conn();
    let answer = market.client.request(Request::new("hang"));
    conn.wait_for("the request", SOON, |m| m.to_text().is_ok_and(|text| text.contains("\"hang\""))).unwrap();
    conn.kill();
    let outcome = bounded("the outcome", answer).await;
    assert_eq!(outcome, Err(RequestError::SentUnknown(Unanswered::ConnectionLost)));
    market.recovers(&ids, 2).await;
    let answer = bounded("an answer", market.client.request(Request::new("public/test"))).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["version"], "1.2.26");
}

async fn a_server_that_is_away_for_a_while(scene: &Scene<impl Runtime>) {
    let (mut market, ids) = Market::start(scene, |config| config).await;
    market.server.refuse_connections(true).unwrap();
    market.conn().kill();
    let mut failed = 0;
    while failed < 5 {
        let event = next(&mut market.events).await;
        if let OwnedEvent::AttemptFailed { failures, error, retry_at } = &event {
            failed += 1;
            // The connection that was lost does not count: it had been online.
            assert_eq!(*failures, failed);
            assert!(retry_at.is_some());
            let Error::Connect { addr, cause: Disconnect::Io { kind, .. } } = error else {
                panic!("{error:?}")
            };
            assert_eq!((*addr, *kind), (market.server.addr(), ErrorKind::ConnectionRefused));
        }
        market.feed.take(event);
    }
    market.server.refuse_connections(false).unwrap();
    market.recovers(&ids, 2).await;
    assert_eq!(market.server.connections(), 2);
}

async fn without_subscriptions_the_gap_is_the_whole_sessions(scene: &Scene<impl Runtime>) {
    let server = MockServer::builder().on_connect(|conn, _| conn.send_text("hello")).start();
    let (_client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    assert!(matches!(next(&mut events).await, OwnedEvent::Message { .. }));
    server.last().unwrap().kill();
    lost(&mut events).await;
    let mut gap = None;
    loop {
        match next(&mut events).await {
            OwnedEvent::Gap(reported) => gap = Some(reported),
            OwnedEvent::Message { epoch, .. } => {
                let gap = gap.expect("the gap is reported before the first message");
                assert_eq!((gap.topics.len(), gap.after), (0, epoch));
                assert_eq!(gap.before.as_u64(), 1);
                break;
            }
            _ => {}
        }
    }
}
