//! Kraken over real sockets: the client against the scripted venue, and the scripted venue against a client that misbehaves.

// In tests, a panic is the report.
#![allow(clippy::unwrap_used)]

use everwire_core::{
    Client, Config, Endpoint, Error, GapCause, OwnedEvent, ProviderError, Recovery, Request, RequestError,
    Session, SubscribeOptions, SubscriptionId, Timeout, Topic, Watch,
};
use everwire_testing::script::kraken::{Kraken as Venue, Tokens};
use everwire_testing::script::{Host, Live};
use everwire_testing::sim::{Faults, Net, Outcome, Simulation, User, instant};
use everwire_testing::tungstenite::{self, Message};
use everwire_tokio::{CloseCode, Driver, Events, spawn};
use everwire_venues::kraken::{self, Depth, Kraken, Token};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn venue() -> Venue {
    Venue::new().tick(ms(5))
}

fn hasten(config: Config) -> Config {
    config.backoff(ms(1), ms(20)).flap_budget(None).resubscribe_backoff(ms(20), ms(50))
}

/// What a user writes with the HTTP client of his choice.
fn fetch(url: &str, venue: &str) -> Result<Endpoint, ProviderError> {
    let answer = ureq::post(url)
        .header("API-Key", "mine")
        .header("API-Sign", "signed")
        .send_empty()?
        .body_mut()
        .read_to_string()?;
    Ok(Token::parse(&answer)?.endpoint_at(venue)?)
}

/// A client of the venue, and what it is told.
struct Trader {
    client: Client,
    events: Events,
    shown: String,
}

impl Trader {
    fn connect(live: &Live<Venue>) -> Self {
        let config = hasten(Kraken::new().config(&live.url("/v2")).unwrap());
        Self::new(Driver::new(config).unwrap())
    }

    fn private(live: &Live<Venue>) -> Self {
        let (url, venue) = (live.http_url("/0/private/GetWebSocketsToken"), live.url("/v2"));
        let config = hasten(Kraken::new().private_config());
        Self::new(Driver::new(config).unwrap().provider(move || {
            let (url, venue) = (url.clone(), venue.clone());
            async move { tokio::task::spawn_blocking(move || fetch(&url, &venue)).await? }
        }))
    }

    fn new(driver: Driver) -> Self {
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

    async fn lost(&mut self) -> Error {
        self.until(|event| match event {
            OwnedEvent::Lost { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    async fn rejected(&mut self) -> (String, String, bool) {
        self.until(|event| match event {
            OwnedEvent::Rejected { topic, reason, retry_at, .. } => {
                Some((topic.clone(), reason.clone(), retry_at.is_some()))
            }
            _ => None,
        })
        .await
    }

    /// A message of each of these subscriptions.
    async fn hear(&mut self, ids: &[SubscriptionId]) {
        let mut missing: BTreeSet<SubscriptionId> = ids.iter().copied().collect();
        self.until(|event| {
            if let OwnedEvent::Message { subscription: Some(id), .. } = event {
                missing.remove(id);
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
async fn symbols_are_asked_for_together_confirmed_alone_and_asked_for_again_after_a_cut() {
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    let topics = [
        kraken::book("BTC/USD", Depth::Ten),
        kraken::book("ETH/USD", Depth::Ten),
        kraken::book("SOL/USD", Depth::TwentyFive),
        kraken::ticker("BTC/USD"),
        kraken::trades("BTC/USD"),
        kraken::trades("ETH/USD"),
        kraken::ohlc("BTC/USD", 1),
        kraken::ohlc("BTC/USD", 5),
        kraken::instruments(),
    ];
    let ids = topics.map(|topic| trader.client.subscribe(topic));
    trader.hear(&ids).await;
    // Books of each depth, tickers, trades, candles of each interval, instruments.
    assert_eq!(live.with(|venue| (venue.counts().subscribes, venue.subscribed(1).len())), (7, 9));
    live.cut_all();
    assert!(matches!(trader.lost().await, Error::Disconnected(_)));
    trader.hear(&ids).await;
    assert_eq!(live.with(|venue| venue.counts().subscribes), 14);
    trader.client.unsubscribe(ids[0]);
    live.until(SOON, |venue| venue.counts().unsubscribes == 1).await.unwrap();
    trader.client.close(CloseCode::Normal, "done");
    trader.until(|event| matches!(event, OwnedEvent::Closed { .. }).then_some(())).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_book_whose_checksum_does_not_fit_is_made_anew_alone() {
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    let bitcoin = trader.client.subscribe(kraken::book("BTC/USD", Depth::Hundred));
    let ether = trader.client.subscribe(kraken::book("ETH/USD", Depth::Hundred));
    trader.hear(&[bitcoin, ether]).await;
    for lost in [false, true] {
        live.with(|venue| match lost {
            false => venue.wrong_checksum("BTC/USD"),
            true => venue.lose_change("BTC/USD"),
        });
        let topics = trader
            .until(|event| match event {
                OwnedEvent::Gap(gap) => match &gap.cause {
                    GapCause::Corrupt { reason } => {
                        assert!(reason.starts_with("the checksum of BTC/USD is"), "{reason}");
                        Some(gap.topics.clone())
                    }
                    other => panic!("{other:?}"),
                },
                _ => None,
            })
            .await;
        assert_eq!(topics, [(bitcoin, "book:BTC/USD".to_owned())]);
        let again = trader.until(|event| match event {
            OwnedEvent::Subscribed { topic, .. } => Some(topic.clone()),
            _ => None,
        });
        assert_eq!(again.await, "book:BTC/USD");
        trader.hear(&[bitcoin, ether]).await;
    }
    assert_eq!((live.connections(), live.with(|venue| venue.counts().unsubscribes)), (1, 2));
    unpunished(&live);
}

#[tokio::test]
async fn of_several_symbols_the_bad_one_is_refused_and_the_others_are_not() {
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    let ids = ["BTC/USD", "NOPE/USD", "ETH/USD", "SOL/USD"]
        .map(|symbol| trader.client.subscribe(kraken::trades(symbol)));
    let told = trader.rejected().await;
    let reason = "Currency pair not supported NOPE/USD (code 0)".to_owned();
    assert_eq!(told, ("trade:NOPE/USD".to_owned(), reason, false));
    trader.hear(&[ids[0], ids[2], ids[3]]).await;
    // Only the bad one was asked for again, if at all.
    assert_eq!(live.with(|venue| venue.counts().subscribes), 1);
    assert!(
        trader
            .client
            .subscriptions()
            .iter()
            .all(|topic| topic.topic == "trade:NOPE/USD" || topic.reason.is_none())
    );
    unpunished(&live);
}

#[tokio::test]
async fn a_venue_that_is_too_busy_for_so_many_messages_gets_them_later() {
    let live = Live::start(venue().messages(3, Duration::from_secs(1)));
    // A client that does not know how many are allowed.
    let kraken = Kraken::new().topics_per_message(1).messages(100, Duration::from_secs(1));
    let config = hasten(kraken.config(&live.url("/v2")).unwrap());
    let mut trader = Trader::new(Driver::new(config).unwrap());
    let ids: Vec<_> = (0..6).map(|n| trader.client.subscribe(kraken::trades(&format!("T{n}/USD")))).collect();
    let (_, reason, again) = trader.rejected().await;
    assert!(reason.contains("Exceeded msg rate") && again, "{reason}");
    trader.hear(&ids).await;
    let all: Vec<String> = live.punishments().into_iter().map(|punishment| punishment.why).collect();
    assert!(!all.is_empty() && all.iter().all(|why| why == "too many messages"), "{all:?}");
    assert_eq!(live.connections(), 1);
}

#[tokio::test]
async fn the_accounts_own_and_orders_need_a_token_which_goes_in_by_itself() {
    let live = Live::start(Venue::private().tick(ms(5)));
    let mut trader = Trader::private(&live);
    let executions = trader.client.subscribe(kraken::executions());
    let balances = trader.client.subscribe(kraken::balances());
    trader.hear(&[executions, balances]).await;
    let client = trader.client.clone();
    let orders = tokio::spawn(async move {
        let order =
            r#"{"order_type":"limit","side":"buy","symbol":"BTC/USD","limit_price":1.5,"order_qty":1}"#;
        let answer = client.request(Request::new("add_order").params(order)).await.unwrap();
        let id = serde_json::from_str::<Value>(&answer).unwrap()["order_id"].clone();
        let market = r#"{"order_type":"market","side":"buy","symbol":"BTC/USD","order_qty":1}"#;
        client.request(Request::new("add_order").params(market)).await.unwrap();
        let cancel = json!({"order_id": [id]}).to_string();
        client.request(Request::new("cancel_order").params(&cancel)).await.unwrap();
        client.request(Request::new("cancel_order").params(&cancel)).await.unwrap_err()
    });
    let mut told = Vec::new();
    trader
        .until(|event| {
            if let OwnedEvent::Message { message, subscription: Some(_), .. } = event {
                let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                told.push(message["data"][0]["exec_type"].as_str().unwrap_or("balance").to_owned());
                // Others trade as well.
                told.pop_if(|told| told == "trade");
            }
            (told.len() == 4).then_some(())
        })
        .await;
    assert_eq!(told, ["new", "filled", "balance", "canceled"]);
    match orders.await.unwrap() {
        RequestError::Rpc(error) => assert_eq!(error.message, "EOrder:Unknown order"),
        other => panic!("{other:?}"),
    }
    // A number is left out: told, and the topic made anew.
    live.with(|venue| venue.skip_executions(2));
    let order = r#"{"order_type":"limit","side":"buy","symbol":"BTC/USD","order_qty":1}"#;
    let client = trader.client.clone();
    tokio::spawn(async move { client.request(Request::new("add_order").params(order)).await });
    let gap = trader
        .until(|event| match event {
            OwnedEvent::Gap(gap) => Some((gap.cause.clone(), gap.topics[0].0)),
            _ => None,
        })
        .await;
    assert!(matches!(gap, (GapCause::Sequence { .. }, id) if id == executions), "{gap:?}");
    trader.hear(&[executions]).await;
    unpunished(&live);
}

#[tokio::test]
async fn a_token_that_is_not_taken_brings_a_fresh_one() {
    let live = Live::start(Venue::private().tick(ms(5)));
    live.with(|venue| venue.tokens().stale(1));
    let mut trader = Trader::private(&live);
    let executions = trader.client.subscribe(kraken::executions());
    trader.hear(&[executions]).await;
    assert!(trader.shown.contains("ESession:Invalid session"), "{}", trader.shown);
    assert_eq!((live.connections(), live.with(|venue| venue.tokens().issued())), (2, 2));
    unpunished(&live);
}

#[tokio::test]
async fn fresh_tokens_take_the_place_of_old_ones_and_the_connection_stays() {
    let live = Live::start(Venue::private().tick(ms(5)).token_life(2));
    let mut trader = Trader::private(&live);
    let executions = trader.client.subscribe(kraken::executions());
    trader.hear(&[executions]).await;
    for _ in 0..2 {
        trader.until(|event| matches!(event, OwnedEvent::Refreshed { .. }).then_some(())).await;
    }
    // Well after the first token's time.
    let balances = trader.client.subscribe(kraken::balances());
    trader.hear(&[balances]).await;
    assert_eq!(live.connections(), 1);
    unpunished(&live);
}

#[tokio::test]
async fn a_token_service_that_refuses_is_told_and_a_wrong_endpoint_too() {
    let live = Live::start(Venue::private().key("somebody else's"));
    let mut trader = Trader::private(&live);
    let refused = trader
        .until(|event| match event {
            OwnedEvent::AttemptFailed { error: Error::Provider(error), .. }
            | OwnedEvent::Closed { error: Some(Error::Provider(error)), .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert_eq!(refused.message, "the token service refused: EAPI:Invalid key");
    assert_eq!(refused.recovery, Some(Recovery::Stop));
    // Without a token nothing is sent, and the reason says what to do.
    let live = Live::start(venue());
    let mut trader = Trader::connect(&live);
    trader.client.subscribe(kraken::executions());
    let (_, reason, _) = trader.rejected().await;
    assert!(reason.contains("needs a token"), "{reason}");
    unpunished(&live);
    // A public topic at the private interface.
    let live = Live::start(Venue::private());
    let mut trader = Trader::private(&live);
    trader.client.subscribe(kraken::trades("BTC/USD"));
    let (_, reason, again) = trader.rejected().await;
    assert!(reason.contains("Try ws.kraken.com") && !again, "{reason}");
}

#[tokio::test]
async fn a_venue_that_says_nothing_any_more_is_left() {
    let live = Live::start(venue());
    let config = hasten(Kraken::new().config(&live.url("/v2")).unwrap());
    let config = config.heartbeat_interval(ms(60)).heartbeat_timeout(ms(60));
    let mut trader = Trader::new(Driver::new(config).unwrap());
    let trades = trader.client.subscribe(kraken::trades("BTC/USD"));
    trader.hear(&[trades]).await;
    live.with(|venue| venue.deaf(true));
    assert_eq!(trader.lost().await, Error::Timeout(Timeout::Heartbeat));
    live.with(|venue| venue.deaf(false));
    trader.hear(&[trades]).await;
    // Data or not, it pings, and heartbeats of the venue are no data.
    live.with(|venue| venue.silence("trade:BTC/USD", true));
    let before = live.with(|venue| venue.counts().pings);
    live.until(SOON, move |venue| venue.counts().pings >= before + 3).await.unwrap();
    unpunished(&live);
}

#[tokio::test]
async fn a_topic_that_is_confirmed_and_silent_is_noticed_by_its_watch_and_one_confirmed_late_is_not_refused()
{
    let live = Live::start(venue());
    live.with(|venue| {
        venue.silence("trade:BTC/USD", true);
        venue.delay_acks(ms(100));
    });
    let mut trader = Trader::connect(&live);
    let watch = SubscribeOptions::default().watch(Watch::after(ms(300)));
    trader.client.subscribe_with(kraken::trades("BTC/USD"), watch);
    let book = trader.client.subscribe(kraken::book("BTC/USD", Depth::Ten));
    trader
        .until(|event| matches!(event, OwnedEvent::Stale { subscription: Some(_), .. }).then_some(()))
        .await;
    trader.hear(&[book]).await;
    assert!(!trader.shown.contains("Rejected") && !trader.shown.contains("Corrupt"), "{}", trader.shown);
    unpunished(&live);
}

#[test]
fn blocking_clients_have_the_same() {
    let live = Live::start(venue());
    let config = hasten(Kraken::new().config(&live.url("/v2")).unwrap());
    let mut driver = everwire_blocking::Driver::new(config).unwrap();
    driver.client().subscribe(kraken::book("BTC/USD", Depth::Ten));
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

struct Rogue {
    live: Live<Venue>,
    socket: tungstenite::WebSocket<tungstenite::stream::MaybeTlsStream<std::net::TcpStream>>,
}

impl Rogue {
    fn start(venue: Venue) -> Self {
        let live = Live::start(venue);
        let (mut socket, _) = tungstenite::connect(live.url("/v2")).unwrap();
        if let tungstenite::stream::MaybeTlsStream::Plain(tcp) = socket.get_mut() {
            tcp.set_read_timeout(Some(SOON)).unwrap();
        }
        let mut rogue = Self { live, socket };
        assert_eq!(rogue.hear()["data"][0]["system"], "online");
        rogue
    }

    fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    fn subscribe(&mut self, params: Value) -> Value {
        self.say(&json!({"method": "subscribe", "params": params, "req_id": 5}));
        loop {
            let answer = self.hear();
            if answer["method"] == "subscribe" || answer["close"].is_string() {
                return answer;
            }
        }
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
fn a_client_that_says_too_much_is_punished() {
    let mut rogue = Rogue::start(venue());
    for n in 0..21 {
        rogue.say(&json!({"method": "ping", "req_id": n}));
    }
    for n in 0..20 {
        assert_eq!(rogue.hear()["req_id"], n);
    }
    assert_eq!(rogue.hear(), json!({"Error": "Exceeded msg rate"}));
    rogue.punished("too many messages");
}

#[test]
fn a_client_without_subscription_is_punished() {
    let mut rogue = Rogue::start(venue().lonely(ms(50)));
    assert_eq!(rogue.hear()["close"], "");
    rogue.punished("no subscription");
}

#[test]
fn wrong_subscriptions_and_orders_are_punished() {
    for (venue, params, error) in [
        (venue(), json!({"channel": "executions", "token": "x"}), "Try ws-auth.kraken.com"),
        (Venue::private(), json!({"channel": "trade", "symbol": ["BTC/USD"]}), "Try ws.kraken.com"),
        (venue(), json!({"channel": "book", "symbol": ["BTC/USD"], "depth": 11}), "depth"),
        (venue(), json!({"channel": "book"}), "Invalid arguments"),
        (venue(), json!({"channel": "books", "symbol": ["BTC/USD"]}), "Invalid arguments"),
        (Venue::private(), json!({"channel": "executions"}), "ESession:Invalid session"),
        (Venue::private(), json!({"channel": "executions", "token": "x"}), "ESession:Invalid session"),
    ] {
        let mut rogue = Rogue::start(venue);
        let answer = rogue.subscribe(params.clone());
        assert_eq!((&answer["req_id"], &answer["success"]), (&json!(5), &json!(false)), "{params}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{params} {answer}");
        assert_eq!(rogue.live.punishments().len(), 1, "{params}");
    }
    let mut rogue = Rogue::start(Venue::private());
    rogue.say(&json!({"method": "add_order", "params": {"token": "x"}, "req_id": 1}));
    assert_eq!(rogue.hear()["error"], "ESession:Invalid session");
    rogue.punished("a token that is over, or not known");
    let mut rogue = Rogue::start(venue());
    rogue.say(&json!({"event": "subscribe"}));
    assert_eq!(rogue.hear(), json!({"error": "Unsupported event"}));
    rogue.punished("does not know");
}

#[test]
fn a_token_must_be_used_in_its_time_and_lives_as_long_as_the_connection_then() {
    let venue = Venue::private().tick(ms(5)).token_life(1);
    let tokens = venue.tokens();
    let mut rogue = Rogue::start(venue);
    let token = |tokens: &Tokens| {
        let answer: Value = serde_json::from_str(&tokens.issue(Duration::ZERO)).unwrap();
        answer["result"]["token"].as_str().unwrap().to_owned()
    };
    let (used, unused) = (token(&tokens), token(&tokens));
    assert_eq!(rogue.subscribe(json!({"channel": "balances", "token": used}))["success"], true);
    std::thread::sleep(ms(1050));
    assert_eq!(
        rogue.subscribe(json!({"channel": "executions", "token": unused}))["error"],
        "ESession:Invalid session"
    );
    rogue.punished("a token that is over");
    assert_eq!(rogue.subscribe(json!({"channel": "executions", "token": used}))["success"], true);
}

#[test]
fn what_is_subscribed_to_twice_is_refused() {
    let mut rogue = Rogue::start(venue().tick(SOON));
    let params = json!({"channel": "trade", "symbol": ["BTC/USD"]});
    assert_eq!(rogue.subscribe(params.clone())["success"], true);
    assert_eq!(rogue.subscribe(params)["error"], "Already subscribed");
}

// ---- In virtual time, over bad networks.

/// Subscribes to books and other topics, gives one up now and then, and counts the checksums that did not fit.
#[derive(Debug, Default)]
struct Reader {
    ids: BTreeMap<SubscriptionId, String>,
    turns: u64,
    messages: u64,
    corrupt: u64,
    fault: Option<String>,
}

const TURN: Duration = Duration::from_secs(5);

impl User for Reader {
    fn event(&mut self, event: &OwnedEvent, _: &mut Session, _: Duration) {
        match event {
            OwnedEvent::Message { message, subscription: Some(id), .. } => {
                self.messages += 1;
                let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                let channel = message["channel"].as_str().unwrap();
                let symbol = message["data"][0]["symbol"].as_str().unwrap();
                if self.ids.get(id).is_none_or(|name| !name.starts_with(&format!("{channel}:{symbol}"))) {
                    self.fault = Some(format!("{channel} {symbol} is not {id:?}"));
                }
            }
            OwnedEvent::Gap(gap) => self.corrupt += u64::from(matches!(gap.cause, GapCause::Corrupt { .. })),
            OwnedEvent::Rejected { topic, reason, .. } if !reason.contains("no answer") => {
                self.fault = Some(format!("{topic}: {reason}"));
            }
            OwnedEvent::Notice { text, .. } => self.fault = Some(format!("a notice: {text}")),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        Some(TURN * u32::try_from(self.turns).unwrap())
    }

    fn act(&mut self, session: &mut Session, now: Duration) {
        self.turns += 1;
        let n = self.turns;
        if n.is_multiple_of(3)
            && let Some((id, _)) = self.ids.pop_first()
        {
            session.unsubscribe(id, instant(now));
        }
        let symbol = format!("S{n}/USD");
        let topic: Topic = match n % 4 {
            0 => kraken::trades(&symbol),
            1 => kraken::book(&symbol, Depth::Ten),
            2 => kraken::book(&symbol, Depth::TwentyFive),
            _ => kraken::ohlc(&symbol, 5),
        };
        let name = topic.name().to_owned();
        self.ids.insert(session.subscribe(topic, SubscribeOptions::default(), instant(now)), name);
    }

    fn violation(&self) -> Option<String> {
        self.fault.clone()
    }
}

/// Some minutes of virtual time. With `strict`, what is a matter of timing is punished as well, over a network that delays nothing. With `lose`
/// the venue does not tell some of the changes of its books.
fn simulate(seed: u64, strict: bool, lose: bool) -> (Outcome, Reader, u64, String) {
    let venue = Venue::new().seed(seed).tick(Duration::from_secs(4)).messages(10, Duration::from_secs(1));
    let (host, net) = if strict {
        let cuts = Faults::none().lifetime(0.7, Duration::from_secs(5)..Duration::from_secs(60));
        (Host::new(venue), Net::perfect().faults(cuts))
    } else {
        (Host::new(venue).patient(), Net::lossy())
    };
    let config = Kraken::new().config("ws://192.0.2.1/v2").unwrap();
    let mut simulation = Simulation::new(config, seed, net, host, Reader::default()).unwrap();
    let mut outcome = Outcome::Limit;
    for n in 1..=6 {
        outcome = simulation.run_until(Duration::from_secs(20) * n);
        if outcome != Outcome::Limit {
            break;
        }
        let symbols: Vec<String> = simulation
            .user()
            .ids
            .values()
            .filter_map(|name| Some(name.strip_prefix("book:")?.to_owned()))
            .collect();
        if lose {
            symbols.iter().for_each(|symbol| simulation.server_mut().script_mut().lose_change(symbol));
        }
    }
    let log = format!("seed {seed}\n{}\n{}", simulation.server().transcript(), simulation.log());
    let connections = simulation.stats().connections;
    (outcome, std::mem::take(simulation.user_mut()), connections, log)
}

/// The books of the venue and the checksums of the client know nothing of each other.
#[test]
fn over_bad_networks_nothing_is_punished_and_no_checksum_is_wrong() {
    let (mut messages, mut connections) = (0, 0);
    for seed in 0..60 {
        let (outcome, reader, made, log) = simulate(seed, seed % 3 == 0, false);
        assert_eq!((outcome, reader.corrupt), (Outcome::Limit, 0), "{log}");
        messages += reader.messages;
        connections += made;
    }
    assert!(messages > 10_000 && connections > 100, "{messages} {connections}");
}

#[test]
fn a_change_that_is_not_told_is_found_by_its_checksum() {
    let mut found = 0;
    for seed in 0..20 {
        let (outcome, reader, _, log) = simulate(seed, true, true);
        assert_eq!(outcome, Outcome::Limit, "{log}");
        found += reader.corrupt;
    }
    assert!(found > 100, "{found}");
}

mod trials {
    use super::*;
    use everwire_testing::script::trial::{Read, Trial, sweep};

    /// Trades are numbered here, and so are orders. (The numbers of the protocol begin anew on each connection.)
    fn read(text: &str) -> Option<Read> {
        let message: Value = serde_json::from_str(text).ok()?;
        let (channel, item) = (message["channel"].as_str()?, &message["data"][0]);
        if let Some(order) = item["order_id"].as_str() {
            return Some(Read::new(channel, order.rsplit('-').next()?.parse().ok()?));
        }
        Some(Read::new(format!("{channel}:{}", item["symbol"].as_str()?), item["trade_id"].as_u64()?))
    }

    fn public(kraken: &Kraken) -> Trial<Venue> {
        let venue = Venue::new().tick(Duration::from_secs(2)).messages(10, Duration::from_secs(1));
        let topics = (0..16).map(|n| kraken::trades(&format!("T{n}/USD")));
        Trial::new(kraken.config("ws://192.0.2.1/v2").unwrap(), venue, read)
            .length(Duration::from_secs(30)..Duration::from_secs(150), Duration::from_secs(120))
            .topics(topics)
            .faults(Duration::from_secs(30), |venue, dice, _, _| match dice.below(3) {
                0 => venue.delay_acks(Duration::from_millis(dice.below(2000))),
                1 => venue.deaf(dice.chance(300)),
                _ => venue.refuse("T1/USD", dice.chance(500).then_some("EService:Busy")),
            })
            .calms(|venue, _, _| {
                venue.delay_acks(Duration::ZERO);
                venue.deaf(false);
                venue.refuse("T1/USD", None);
            })
    }

    fn private() -> Trial<Venue> {
        let venue = Venue::private().tick(Duration::from_secs(3));
        let venue = venue.messages(10, Duration::from_secs(1));
        Trial::new(Kraken::new().private_config(), venue, read)
            .length(Duration::from_secs(30)..Duration::from_secs(150), Duration::from_secs(120))
            .other_numbers()
            .topics([kraken::executions()])
            .provider(|venue, now| {
                Ok(Token::parse(&venue.tokens().issue(now))?.endpoint_at("ws://192.0.2.1/v2")?)
            })
            .requests(|dice| {
                let kind = if dice.chance(500) { "limit" } else { "market" };
                let order = json!({"order_type": kind, "side": "buy", "symbol": "BTC/USD", "order_qty": 1});
                ("add_order".to_owned(), Some(order.to_string()))
            })
            .faults(Duration::from_secs(30), |venue, dice, _, _| match dice.below(3) {
                0 => venue.skip_executions(dice.between(1, 3)),
                1 => venue.tokens().stale(1),
                _ => venue.deaf(dice.chance(300)),
            })
            .calms(|venue, _, _| venue.deaf(false))
    }

    #[test]
    fn hundreds_of_seeds() {
        let total = sweep(0..100, |_| public(&Kraken::new()));
        assert!(total.reconnects > 100 && total.messages > 30_000, "{total}");
        let total = sweep(0..100, |_| private());
        assert!(total.reconnects > 100 && total.gaps > 100 && total.requests.1 > 300, "{total}");
    }

    /// The check can fail.
    #[test]
    fn a_client_that_is_too_fast_is_found_out() {
        let hasty = Kraken::new().messages(100_000, ms(1)).topics_per_message(1);
        let found = (0..40).find_map(|seed| public(&hasty).pace(ms(300)).run(4 * seed).violation);
        assert!(found.as_ref().is_some_and(|found| found.contains("too many messages")), "{found:?}");
    }
}
