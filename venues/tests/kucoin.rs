//! KuCoin over real sockets: the client against the scripted venue, and the scripted venue against a client that misbehaves.

// In tests, a panic is the report.
#![allow(clippy::unwrap_used)]

use everwire_core::{
    Client, Endpoint, Error, GapCause, OwnedEvent, ProviderError, Recovery, SequenceRule, SubscribeOptions,
    Timeout, Topic, Watch,
};
use everwire_testing::script::Live;
use everwire_testing::script::kucoin::{Kucoin as Venue, Market, Tokens};
use everwire_testing::tungstenite::{self, Message};
use everwire_tokio::{CloseCode, Driver, Events, spawn};
use everwire_venues::kucoin::{self, BULLET_PRIVATE, BULLET_PUBLIC, Bullet, Kucoin};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A venue in a hurry.
fn venue() -> Venue {
    Venue::new().tick(ms(5))
}

/// What a user writes with the HTTP client of his choice.
fn fetch(url: &str) -> Result<Endpoint, ProviderError> {
    let mut request = ureq::post(url).config().http_status_as_error(false).build();
    if url.ends_with(BULLET_PRIVATE) {
        for header in ["KC-API-KEY", "KC-API-SIGN", "KC-API-TIMESTAMP", "KC-API-PASSPHRASE"] {
            request = request.header(header, "mine");
        }
    }
    let answer = request.send_empty()?.body_mut().read_to_string()?;
    Ok(Bullet::parse(&answer)?.endpoint())
}

/// A client of the venue, and what it is told.
struct Trader {
    client: Client,
    events: Events,
    shown: String,
}

impl Trader {
    fn connect(live: &Live<Venue>) -> Self {
        Self::with(live, BULLET_PUBLIC, Kucoin::new(), |endpoint| endpoint)
    }

    fn with(
        live: &Live<Venue>,
        path: &str,
        kucoin: Kucoin,
        adapt: impl Fn(Endpoint) -> Endpoint + Clone + Send + Sync + 'static,
    ) -> Self {
        let url = live.http_url(path);
        let config =
            kucoin.config().backoff(ms(1), ms(20)).flap_budget(None).resubscribe_backoff(ms(20), ms(50));
        let driver = Driver::new(config).unwrap().provider(move || {
            let (url, adapt) = (url.clone(), adapt.clone());
            async move {
                let fetched = tokio::task::spawn_blocking(move || fetch(&url)).await?;
                fetched.map(adapt)
            }
        });
        let (client, events) = spawn(driver);
        Self { client, events, shown: String::new() }
    }

    async fn until<T>(&mut self, mut fits: impl FnMut(&OwnedEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.next().await.expect("the session goes on");
                let told = format!("{event:?} {:?}\n", self.client);
                if !matches!(event, OwnedEvent::Message { .. }) {
                    self.shown += &told;
                } else {
                    assert!(!told.contains(Tokens::MARK), "a token is shown: {told}");
                }
                if let OwnedEvent::Lost { error, .. } | OwnedEvent::AttemptFailed { error, .. } = &event {
                    self.shown += &format!("{error} {}\n", error.explain());
                }
                if let Some(found) = fits(&event) {
                    return found;
                }
            }
        };
        match tokio::time::timeout(SOON, wait).await {
            Ok(found) => found,
            Err(_) => panic!("nothing like that came:\n{}", self.shown),
        }
    }

    async fn online(&mut self) {
        self.until(|event| matches!(event, OwnedEvent::Online { .. }).then_some(())).await;
    }

    async fn lost(&mut self) -> Error {
        self.until(|event| match event {
            OwnedEvent::Lost { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// A message of each of these topics, each told as one of its subscription.
    async fn hear(&mut self, names: &[&str]) {
        let mut missing: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.until(|event| {
            if let OwnedEvent::Message { message, subscription: Some(_), .. } = event {
                let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                missing.remove(message["topic"].as_str().unwrap());
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
}

impl Drop for Trader {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(!self.shown.contains(Tokens::MARK), "a token is shown: {}", self.shown);
        }
    }
}

fn unpunished(live: &Live<Venue>) {
    assert!(live.punishments().is_empty(), "{:?}\n{}", live.punishments(), live.transcript());
}

#[tokio::test]
async fn topics_are_asked_for_together_and_again_after_a_cut() {
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    for topic in [
        kucoin::ticker("BTC-USDT"),
        kucoin::ticker("ETH-USDT"),
        kucoin::all_tickers(),
        kucoin::level2("BTC-USDT"),
        kucoin::candles("BTC-USDT", "1min"),
        kucoin::candles("BTC-USDT", "1hour"),
    ] {
        trader.client.subscribe(topic);
    }
    let names = [
        "/market/ticker:BTC-USDT",
        "/market/ticker:ETH-USDT",
        "/market/ticker:all",
        "/market/level2:BTC-USDT",
        "/market/candles:BTC-USDT_1min",
        "/market/candles:BTC-USDT_1hour",
    ];
    trader.online().await;
    trader.hear(&names).await;
    // One message for each channel, and one for all tickers.
    let conn = live.open()[0];
    let counts = live.with(|venue| venue.counts());
    assert_eq!(
        (counts.subscribes, live.with(|venue| venue.subscribed(conn).len())),
        (4, 6),
        "{}",
        live.transcript()
    );
    live.cut_all();
    assert!(matches!(trader.lost().await, Error::Disconnected(_)));
    let topics = trader
        .until(|event| match event {
            OwnedEvent::Gap(gap) if gap.cause == GapCause::Reconnect => Some(gap.topics.len()),
            _ => None,
        })
        .await;
    assert!((1..=6).contains(&topics));
    trader.hear(&names).await;
    assert_eq!(live.with(|venue| (venue.tokens().issued(), venue.counts().subscribes)), (2, 8));
    // Given up, it is not heard of any more.
    let gone = trader.client.subscribe(kucoin::ticker("BTC-USDT"));
    trader.client.unsubscribe(gone);
    trader.client.unsubscribe(gone);
    live.until(SOON, |venue| venue.counts().unsubscribes == 1).await.unwrap();
    trader.client.close(CloseCode::Normal, "done");
    trader.until(|event| matches!(event, OwnedEvent::Closed { .. }).then_some(())).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_hundred_topics_share_a_message_and_the_rest_waits_for_room() {
    let live = Live::start(venue().topics(220).tick(ms(50)));
    let kucoin = Kucoin::new().topics_per_connection(220);
    let mut trader = Trader::with(&live, BULLET_PUBLIC, kucoin, |endpoint| endpoint);
    let ids: Vec<_> =
        (0..250).map(|n| trader.client.subscribe(kucoin::ticker(&format!("T{n}-USDT")))).collect();
    trader.online().await;
    let conn = live.open()[0];
    live.until(SOON, move |venue| venue.subscribed(conn).len() == 220).await.unwrap();
    assert!(live.with(|venue| venue.counts().subscribes) <= 4, "{}", live.transcript());
    trader.client.unsubscribe(ids[0]);
    trader.hear(&["/market/ticker:T220-USDT"]).await;
    unpunished(&live);
}

#[tokio::test]
async fn what_is_the_accounts_own_needs_a_private_token() {
    let live = Live::start(venue());
    let mut trader = Trader::with(&live, BULLET_PRIVATE, Kucoin::new(), |endpoint| endpoint);
    for topic in [kucoin::orders(), kucoin::balances(), kucoin::ticker("BTC-USDT")] {
        trader.client.subscribe(topic);
    }
    trader.hear(&["/spotMarket/tradeOrdersV2", "/account/balance", "/market/ticker:BTC-USDT"]).await;
    unpunished(&live);
    // With a public one they are refused, told why, and not tried again on this connection.
    let live = Live::start(venue());
    let mut stranger = Trader::connect(&live);
    stranger.client.subscribe(kucoin::balances());
    stranger.client.subscribe(kucoin::ticker("BTC-USDT"));
    let (reason, retry) = stranger
        .until(|event| match event {
            OwnedEvent::Rejected { reason, retry_at, .. } => Some((reason.clone(), *retry_at)),
            _ => None,
        })
        .await;
    assert_eq!((reason.as_str(), retry), ("login is required (code 403)", None));
    stranger.hear(&["/market/ticker:BTC-USDT"]).await;
    let why: Vec<String> = live.punishments().into_iter().map(|punishment| punishment.why).collect();
    assert!(why.len() == 1 && why[0].starts_with("403"), "{why:?}");
}

#[tokio::test]
async fn futures_have_topics_of_their_own() {
    let live = Live::start(venue().market(Market::Futures));
    let mut trader = Trader::with(&live, BULLET_PRIVATE, Kucoin::new(), |endpoint| endpoint);
    for topic in [
        kucoin::futures::ticker("XBTUSDTM"),
        kucoin::futures::level2("XBTUSDTM"),
        kucoin::futures::position("XBTUSDTM"),
        kucoin::futures::orders(),
    ] {
        trader.client.subscribe(topic);
    }
    trader
        .hear(&[
            "/contractMarket/tickerV2:XBTUSDTM",
            "/contractMarket/level2:XBTUSDTM",
            "/contract/position:XBTUSDTM",
            "/contractMarket/tradeOrders",
        ])
        .await;
    unpunished(&live);
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_replaced() {
    for in_band in [false, true] {
        let live = Live::start(venue());
        live.with(|venue| {
            venue.refuse_in_band(in_band);
            venue.tokens().stale(2);
        });
        let mut trader = Trader::connect(&live);
        trader.client.subscribe(kucoin::ticker("BTC-USDT"));
        trader.hear(&["/market/ticker:BTC-USDT"]).await;
        assert_eq!(live.with(|venue| venue.tokens().issued()), 3, "{in_band} {}", trader.shown);
        let said = if in_band { "token is invalid" } else { "401" };
        assert!(trader.shown.contains(said), "{in_band} {}", trader.shown);
        unpunished(&live);
    }
}

#[tokio::test]
async fn a_token_service_that_is_down_or_refuses_is_told() {
    let live = Live::start(venue().key("somebody else's"));
    live.with(|venue| venue.tokens().down(true));
    let mut trader = Trader::with(&live, BULLET_PRIVATE, Kucoin::new(), |endpoint| endpoint);
    let error = |event: &OwnedEvent| match event {
        OwnedEvent::AttemptFailed { error: Error::Provider(error), .. } => Some(error.clone()),
        OwnedEvent::Closed { error: Some(Error::Provider(error)), .. } => Some(error.clone()),
        _ => None,
    };
    // A key that is not known is checked first, and ends it: no token will ever come.
    let refused = trader.until(error).await;
    assert_eq!(refused.message, "the token service refused: KC-API-KEY not exists (code 400003)");
    assert_eq!(refused.recovery, Some(Recovery::Stop));
    let mut stranger = Trader::connect(&live);
    let down = stranger.until(error).await;
    assert!(down.message.contains("Server is busy") && down.recovery.is_none(), "{down:?}");
    live.with(|venue| venue.tokens().down(false));
    stranger.online().await;
}

#[tokio::test]
async fn pings_go_out_as_the_token_says_and_must_be_answered() {
    let live = Live::start(venue().pings(ms(60), ms(200)));
    let mut trader = Trader::connect(&live);
    trader.client.subscribe(kucoin::ticker("BTC-USDT"));
    trader.online().await;
    trader.until(|_| (live.with(|venue| venue.counts().pings) >= 5).then_some(())).await;
    // As long as data comes it is alive.
    live.with(|venue| venue.deaf(true));
    let pings = live.with(|venue| venue.counts().pings);
    trader.until(|_| (live.with(|venue| venue.counts().pings) >= pings + 5).then_some(())).await;
    assert_eq!(live.connections(), 1);
    live.with(|venue| venue.silence("/market/ticker:BTC-USDT", true));
    assert_eq!(trader.lost().await, Error::Timeout(Timeout::Heartbeat));
    live.with(|venue| {
        venue.deaf(false);
        venue.silence("/market/ticker:BTC-USDT", false);
    });
    trader.hear(&["/market/ticker:BTC-USDT"]).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_book_with_a_hole_is_made_anew_alone() {
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    let book = trader.client.subscribe(kucoin::level2("BTC-USDT"));
    trader.client.subscribe(kucoin::level2("ETH-USDT"));
    trader.hear(&["/market/level2:BTC-USDT", "/market/level2:ETH-USDT"]).await;
    live.with(|venue| venue.skip("/market/level2:BTC-USDT", 5));
    let (expected, got, topics) = trader
        .until(|event| match event {
            OwnedEvent::Gap(gap) => match gap.cause {
                GapCause::Sequence { expected, got } => Some((expected, got, gap.topics.clone())),
                _ => panic!("{gap:?}"),
            },
            _ => None,
        })
        .await;
    assert_eq!((got - expected, topics), (5, vec![(book, "/market/level2:BTC-USDT".to_owned())]));
    let again = trader
        .until(|event| match event {
            OwnedEvent::Subscribed { topic, .. } => Some(topic.clone()),
            _ => None,
        })
        .await;
    assert_eq!(again, "/market/level2:BTC-USDT");
    trader.hear(&["/market/level2:BTC-USDT", "/market/level2:ETH-USDT"]).await;
    assert_eq!((live.connections(), live.with(|venue| venue.counts().unsubscribes)), (1, 1));
    unpunished(&live);
}

#[tokio::test]
async fn of_a_message_that_is_refused_the_good_topics_are_kept() {
    let live = Live::start(venue());
    live.with(|venue| venue.refuse("/market/ticker:BAD-USDT", 404));
    let mut trader = Trader::connect(&live);
    for symbol in ["BTC-USDT", "BAD-USDT", "ETH-USDT"] {
        trader.client.subscribe(kucoin::ticker(symbol));
    }
    let retry = trader
        .until(|event| match event {
            OwnedEvent::Rejected { topic, retry_at, .. } => Some((topic.clone(), *retry_at)),
            _ => None,
        })
        .await;
    assert_eq!(retry, ("/market/ticker:BAD-USDT".to_owned(), None));
    trader.hear(&["/market/ticker:BTC-USDT", "/market/ticker:ETH-USDT"]).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_topic_that_is_confirmed_and_silent_is_noticed_by_its_watch() {
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    let watch = SubscribeOptions::default().watch(Watch::after(ms(100)));
    trader.client.subscribe_with(kucoin::ticker("NOPE-USDT"), watch);
    trader.until(|event| matches!(event, OwnedEvent::Subscribed { .. }).then_some(())).await;
    trader
        .until(|event| matches!(event, OwnedEvent::Stale { subscription: Some(_), .. }).then_some(()))
        .await;
    unpunished(&live);
}

#[tokio::test]
async fn a_connection_is_changed_before_its_time_is_over() {
    let live = Live::start(venue().life(Duration::from_secs(3)).token_life(Duration::from_secs(3)));
    let soon = |endpoint: Endpoint| endpoint.expires_in(Duration::from_secs(3));
    let mut trader = Trader::with(&live, BULLET_PUBLIC, Kucoin::new(), soon);
    trader.client.subscribe(kucoin::ticker("BTC-USDT"));
    trader.until(|event| matches!(event, OwnedEvent::Refreshed { .. }).then_some(())).await;
    trader.until(|event| matches!(event, OwnedEvent::Online { resumed: true, .. }).then_some(())).await;
    trader.hear(&["/market/ticker:BTC-USDT"]).await;
    assert_eq!(live.with(|venue| venue.counts().aged), 0);
    unpunished(&live);
}

#[tokio::test]
async fn a_welcome_for_another_connection_is_none() {
    let live = Live::start(venue());
    live.with(|venue| venue.wrong_welcome(true));
    let url = live.http_url(BULLET_PUBLIC);
    let driver = Driver::new(Kucoin::new().config().backoff(ms(1), ms(20))).unwrap().provider(move || {
        let url = url.clone();
        async move { tokio::task::spawn_blocking(move || fetch(&url)).await? }
    });
    let (client, events) = spawn(driver);
    let mut trader = Trader { client, events, shown: String::new() };
    let error = trader
        .until(|event| match event {
            OwnedEvent::AttemptFailed { error, .. } | OwnedEvent::Lost { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(error.to_string().contains("another connectId"), "{error}");
    live.with(|venue| venue.wrong_welcome(false));
    trader.online().await;
    unpunished(&live);
}

#[tokio::test]
async fn a_venue_that_is_busy_or_says_nothing_at_first_is_tried_again() {
    let live = Live::start(venue());
    live.with(|venue| venue.no_welcome(true));
    let url = live.http_url(BULLET_PUBLIC);
    let config = Kucoin::new().config().backoff(ms(1), ms(20)).handshake_timeout(ms(150));
    let driver = Driver::new(config).unwrap().provider(move || {
        let url = url.clone();
        async move { tokio::task::spawn_blocking(move || fetch(&url)).await? }
    });
    let (client, events) = spawn(driver);
    let mut trader = Trader { client, events, shown: String::new() };
    trader
        .until(|event| match event {
            OwnedEvent::AttemptFailed { error, .. } | OwnedEvent::Lost { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    live.with(|venue| venue.no_welcome(false));
    trader.online().await;
    // It asks for a pause, which is kept to.
    live.with(|venue| venue.busy(1));
    live.cut_all();
    let busy = trader
        .until(|event| match event {
            OwnedEvent::Lost { error: error @ Error::Notice(_), .. }
            | OwnedEvent::AttemptFailed { error: error @ Error::Notice(_), .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(busy.to_string().contains("service busy"), "{busy}");
    let wait =
        trader.client.status().retry_at.map(|at| at.saturating_duration_since(std::time::Instant::now()));
    assert!(wait.is_some_and(|wait| wait > Duration::from_secs(8)), "{wait:?}");
    unpunished(&live);
}

#[tokio::test]
async fn numbers_of_any_channel_may_be_watched() {
    let live = Live::start(venue().market(Market::Futures));
    let kucoin = Kucoin::new().consecutive("/contractMarket/execution").watch_books(false);
    let mut trader = Trader::with(&live, BULLET_PUBLIC, kucoin, |endpoint| endpoint);
    trader.client.subscribe(kucoin::futures::matches("XBTUSDTM"));
    trader.client.subscribe(kucoin::futures::level2("XBTUSDTM"));
    let names = ["/contractMarket/execution:XBTUSDTM", "/contractMarket/level2:XBTUSDTM"];
    trader.hear(&names).await;
    live.with(|venue| names.iter().for_each(|name| venue.skip(name, 1)));
    let gap = |event: &OwnedEvent| match event {
        OwnedEvent::Gap(gap) => Some(gap.topics[0].1.clone()),
        _ => None,
    };
    assert_eq!(trader.until(gap).await, names[0]);
    // What the user says of one subscription goes before the protocol.
    let options = SubscribeOptions::default().sequence(SequenceRule::PlusOne);
    let topic = Topic::new("/contractMarket/level2:ETHUSDTM");
    trader.client.subscribe_with(topic, options);
    trader.hear(&["/contractMarket/level2:ETHUSDTM"]).await;
    live.with(|venue| venue.skip("/contractMarket/level2:ETHUSDTM", 1));
    let name = "/contractMarket/level2:ETHUSDTM";
    trader.until(|event| gap(event).filter(|found| found == name)).await;
    unpunished(&live);
}

#[test]
fn blocking_clients_have_the_same() {
    let live = Live::start(venue());
    let url = live.http_url(BULLET_PUBLIC);
    let config = Kucoin::new().config().backoff(ms(1), ms(20));
    let mut driver = everwire_blocking::Driver::new(config).unwrap().provider(move || fetch(&url));
    driver.client().subscribe(kucoin::level2("BTC-USDT"));
    let mut epochs = BTreeSet::new();
    while epochs.len() < 2 {
        match driver.next(SOON).unwrap() {
            Some(everwire_core::Event::Message { epoch, subscription: Some(_), .. })
                if epochs.insert(epoch.as_u64()) && epochs.len() == 1 =>
            {
                live.cut_all();
            }
            None => panic!("closed"),
            _ => {}
        }
    }
    unpunished(&live);
}

// ---- The venue punishes.

type Raw = tungstenite::WebSocket<tungstenite::stream::MaybeTlsStream<std::net::TcpStream>>;

struct Rogue {
    live: Live<Venue>,
    socket: Raw,
}

impl Rogue {
    fn start(venue: Venue, path: &str) -> Self {
        let tokens = venue.tokens();
        let live = Live::start(venue);
        let host = live.addr().to_string();
        let answer: Value = serde_json::from_str(&tokens.issue(path, &host, Duration::ZERO)).unwrap();
        let data = &answer["data"];
        let token = data["token"].as_str().unwrap().replace('+', "%2B").replace('&', "%26");
        let server = data["instanceServers"][0]["endpoint"].as_str().unwrap();
        let (mut socket, _) = tungstenite::connect(format!("{server}?token={token}&connectId=me")).unwrap();
        if let tungstenite::stream::MaybeTlsStream::Plain(tcp) = socket.get_mut() {
            tcp.set_read_timeout(Some(SOON)).unwrap();
        }
        Self { live, socket }
    }

    fn greeted(venue: Venue) -> Self {
        let mut rogue = Self::start(venue, BULLET_PUBLIC);
        assert_eq!(rogue.hear(), json!({"id": "me", "type": "welcome"}));
        rogue
    }

    fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    fn subscribe(&mut self, id: &str, topic: &str) {
        self.say(&json!({"id": id, "type": "subscribe", "topic": topic, "privateChannel": false, "response": true}));
    }

    fn hear(&mut self) -> Value {
        match self.socket.read().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            Message::Close(frame) => json!({"close": frame.map(|frame| frame.reason.to_string())}),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn punished(&self, why: &str) {
        let punished = self.live.punishments();
        let all: Vec<&str> = punished.iter().map(|punishment| &*punishment.why).collect();
        assert!(all.len() == 1 && all[0].contains(why), "{why}: {all:?}");
    }
}

#[test]
fn a_client_that_speaks_first_is_punished() {
    let mut rogue = Rogue::start(venue(), BULLET_PUBLIC);
    rogue.say(&json!({"id": "1", "type": "ping"}));
    assert_eq!(rogue.hear(), json!({"close": "Bye"}));
    rogue.punished("before the welcome");
}

#[test]
fn a_client_that_says_too_much_is_punished() {
    let mut rogue = Rogue::greeted(venue());
    for n in 0..=100 {
        rogue.say(&json!({"id": n.to_string(), "type": "ping"}));
    }
    for _ in 0..100 {
        assert_eq!(rogue.hear()["type"], "pong");
    }
    assert_eq!(rogue.hear()["data"], "exceed max permits per second");
    assert_eq!(rogue.hear(), json!({"close": "Bye"}));
    rogue.punished("more than 100 messages in 10s");
}

#[test]
fn a_client_that_is_silent_is_punished() {
    let mut rogue = Rogue::greeted(venue().pings(ms(20), ms(20)));
    assert_eq!(rogue.hear(), json!({"type": "error", "code": 400, "data": "ping timeout"}));
    assert_eq!(rogue.hear(), json!({"close": "Bye"}));
    rogue.punished("silent for too long");
}

#[test]
fn wrong_topics_are_punished() {
    let list = |count: usize| {
        let symbols: Vec<String> = (0..count).map(|n| format!("T{n}-B")).collect();
        format!("/market/ticker:{}", symbols.join(","))
    };
    for (topic, code) in [
        ("", 406),
        ("/market/ticker:all,BTC-USDT", 400),
        ("/market/ticker:all:all", 400),
        ("/market/ticker:", 400),
        (&list(101), 509),
        ("/account/balance", 403),
    ] {
        let mut rogue = Rogue::greeted(venue());
        rogue.subscribe("x", topic);
        let answer = rogue.hear();
        assert_eq!((&answer["id"], &answer["code"]), (&json!("x"), &json!(code)), "{topic}");
        rogue.punished(&code.to_string());
    }
    let mut rogue = Rogue::greeted(venue().topics(3));
    rogue.subscribe("1", &list(3));
    assert_eq!(rogue.hear(), json!({"id": "1", "type": "ack"}));
    rogue.subscribe("2", "/market/match:A-B");
    let answer = std::iter::repeat_with(|| rogue.hear()).find(|answer| answer["id"] == "2").unwrap();
    assert_eq!(answer["data"], "exceed max subscription count limitation of 3 per session");
    rogue.punished("3 per session");
    // As it was once: what is too much is confirmed and ignored.
    let mut rogue = Rogue::greeted(venue().topics(3));
    rogue.live.with(|venue| venue.ignore_excess(true));
    rogue.subscribe("1", &list(5));
    assert_eq!(rogue.hear(), json!({"id": "1", "type": "ack"}));
    let conn = rogue.live.open()[0];
    assert_eq!(rogue.live.with(|venue| venue.subscribed(conn).len()), 3);
}

#[test]
fn wrong_messages_are_punished() {
    let mut rogue = Rogue::greeted(venue());
    rogue.socket.send(Message::text("not JSON")).unwrap();
    assert_eq!(rogue.hear()["code"], 400);
    rogue.punished("no JSON");
    for (message, why) in
        [(json!({"type": "ping"}), "without id"), (json!({"id": "1", "type": "login"}), "type \"login\"")]
    {
        let mut rogue = Rogue::greeted(venue());
        rogue.say(&message);
        rogue.say(&json!({"id": "9", "type": "ping"}));
        while rogue.hear()["id"] != "9" {}
        rogue.punished(why);
    }
    let mut rogue = Rogue::greeted(venue());
    for _ in 0..2 {
        rogue.say(&json!({"id": "1", "type": "ping"}));
        assert_eq!(rogue.hear()["type"], "pong");
    }
    rogue.punished("used before");
}

#[test]
fn tokens_that_are_missing_unknown_or_over_are_punished() {
    let venue = venue().token_life(ms(1));
    let tokens = venue.tokens();
    let live = Live::start(venue);
    let answer: Value =
        serde_json::from_str(&tokens.issue(BULLET_PUBLIC, "localhost", Duration::ZERO)).unwrap();
    let over = answer["data"]["token"].as_str().unwrap().replace('+', "%2B").replace('&', "%26");
    std::thread::sleep(ms(5));
    for path in ["/endpoint", "/endpoint?token=other", &format!("/endpoint?token={over}")] {
        let error = tungstenite::connect(live.url(path)).unwrap_err();
        assert!(matches!(&error, tungstenite::Error::Http(answer) if answer.status() == 401), "{error}");
    }
    live.wait_for(SOON, |venue| venue.counts().bad_tokens == 3).unwrap();
    let why: Vec<String> = live.punishments().into_iter().map(|punishment| punishment.why).collect();
    let unknown = "no token, or one that is not known";
    assert_eq!(why, [unknown, unknown, "a token that is over"]);
}

// ---- In virtual time, over bad networks.

mod simulated {
    use super::*;
    use everwire_testing::script::trial::{Read, Trial, sweep};

    /// The numbers of a message: books stand for several, tickers count one by one here.
    fn read(text: &str) -> Option<Read> {
        let message: Value = serde_json::from_str(text).ok()?;
        let (topic, data) = (message["topic"].as_str()?, &message["data"]);
        if let Some(number) = data["sequence"].as_str() {
            return Some(Read::new(topic, number.parse().ok()?));
        }
        Some(Read::range(topic, data["sequenceStart"].as_u64()?, data["sequenceEnd"].as_u64()?))
    }

    fn trial(seed: u64, kucoin: &Kucoin) -> Trial<Venue> {
        let life = Duration::from_secs(100);
        let venue = Venue::new().tick(Duration::from_secs(2)).token_life(life).messages(20);
        let symbols = ["BTC-USDT", "ETH-USDT", "KCS-USDT"];
        Trial::new(kucoin.config(), venue, read)
            .length(Duration::from_secs(30)..Duration::from_secs(150), Duration::from_secs(120))
            .topics(symbols.map(kucoin::level2))
            .topics(symbols.map(kucoin::ticker))
            .topics([kucoin::all_tickers()])
            .provider(move |venue, now| {
                let answer = venue.tokens().issue(BULLET_PUBLIC, "192.0.2.1", now);
                let endpoint = Bullet::parse(&answer)?.endpoint_at(usize::try_from(seed)?);
                // Connections are changed over at first, and not just when it is looked whether all is well.
                Ok(if now < life { endpoint.expires_in(life) } else { endpoint })
            })
            .faults(Duration::from_secs(30), |venue, dice, _, _| match dice.below(5) {
                0 => venue.skip("/market/level2:BTC-USDT", 2),
                1 => venue.delay_acks(Duration::from_millis(dice.below(2000))),
                2 => venue.tokens().stale(1),
                3 => venue.refuse_in_band(dice.chance(500)),
                _ => venue.busy(1),
            })
            .calms(|venue, _, _| venue.delay_acks(Duration::ZERO))
    }

    fn careful() -> Kucoin {
        Kucoin::new().messages(20, Duration::from_secs(10))
    }

    #[test]
    fn hundreds_of_seeds() {
        let total = sweep(0..200, |seed| trial(seed, &careful()));
        assert!(total.reconnects > 200 && total.gaps > 200 && total.messages > 40_000, "{total}");
    }

    /// The check can fail: a client that does not keep to the limit is found out, and so is one that does not look at numbers.
    #[test]
    fn a_client_that_is_not_as_it_should_be_is_found_out() {
        let hasty = Kucoin::new().messages(100_000, ms(1)).topics_per_message(1);
        for (client, why) in
            [(hasty, "more than 20 messages"), (careful().watch_books(false), "a silent gap")]
        {
            let found = (0..40).find_map(|seed| {
                trial(4 * seed, &client).pace(Duration::from_millis(300)).run(4 * seed).violation
            });
            assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
    }
}
