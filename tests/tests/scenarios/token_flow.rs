//! A venue in KuCoin's manner, over real sockets: a token is fetched over HTTP before each attempt, its answer says where to connect and how
//! often to ping, the server speaks first, each subscription is acknowledged.

use everwire_core::protocol::{Ack, Context, Inbound, Unsupported};
use everwire_core::{
    Client, Config, Endpoint, Error, OwnedEvent, Protocol, ProviderError, Refresh, Request, State, Timeout,
    Topic,
};
use everwire_testing::{ConnHandle, HandshakeFault, HttpResponse, Message, MockServer};
use everwire_tests::{Runtime, Scene, Tape, describe, next, scenarios};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

scenarios! {
    each_connection_has_a_token_of_its_own_and_pings_as_its_answer_says,
    an_expired_token_and_a_service_that_is_down_are_got_over,
    a_token_that_expires_is_replaced_ahead_of_that,
}

/// Every token begins with it, so that one that is shown is found.
const SECRET: &str = "hunter2";

/// What the client speaks.
#[derive(Debug)]
struct Kucoin;

impl Protocol for Kucoin {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        #[derive(serde::Deserialize)]
        struct Envelope<'m> {
            r#type: &'m str,
            id: Option<&'m str>,
            topic: Option<&'m str>,
        }
        let Ok(Envelope { r#type: kind, id, topic }) = serde_json::from_str(text) else {
            return Inbound::other();
        };
        match (kind, id.and_then(|id| id.parse().ok())) {
            ("welcome", _) => Inbound::Greeting,
            ("ack" | "pong", Some(id)) => Inbound::Response { id, result: Ok(text) },
            ("error", Some(id)) => Inbound::Response { id, result: Err(text) },
            _ => Inbound::data(topic),
        }
    }
    fn greets(&self) -> bool {
        true
    }
    fn heartbeat(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        *out = json!({ "id": id.to_string(), "type": "ping" }).to_string();
        Ack::Response
    }
    fn request(&self, _: u64, _: &Request<'_>, _: &Context<'_>, _: &mut String) -> Result<(), Unsupported> {
        Err(Unsupported { reason: "KuCoin has no requests over WebSocket".to_owned() })
    }
    fn topics_per_message(&self) -> usize {
        1
    }
    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        assert!(context.params.get("connectId").is_some());
        let topic = topics[0].name();
        *out = json!({ "id": id.to_string(), "type": "subscribe", "topic": topic, "response": true })
            .to_string();
        Ok(Ack::Response)
    }
    fn unsubscribe(&self, _: u64, _: &[&Topic], _: &Context<'_>, _: &mut String) -> Result<Ack, Unsupported> {
        Ok(Ack::None)
    }
    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }
}

/// The venue: its token service and its WebSocket server, on one port.
struct Venue {
    service: Arc<Mutex<Service>>,
    server: MockServer,
}

/// What the token service knows.
#[derive(Debug, Default)]
struct Service {
    issued: u32,
    good: BTreeSet<String>,
    /// What each answer says, in milliseconds.
    ping: (u64, u64),
    down: bool,
    /// The next tokens are over already when they are issued.
    stale: u32,
    /// The server answers no ping.
    deaf: bool,
}

impl Venue {
    fn start(ping: (u64, u64)) -> Self {
        let service = Arc::new(Mutex::new(Service { ping, ..Service::default() }));
        let judge = {
            let service = service.clone();
            move |request: &everwire_testing::Request| {
                let token = query(&request.uri().to_string(), "token");
                // A token opens one connection.
                (!service.lock().unwrap().good.remove(&token)).then(|| HandshakeFault::status(401))
            }
        };
        let handler = {
            let service = service.clone();
            move |conn: &ConnHandle, message: Message| respond(conn, &message, service.lock().unwrap().deaf)
        };
        let welcome = |conn: &ConnHandle, _: &everwire_testing::Request| {
            conn.send_text(json!({ "id": query(conn.path(), "connectId"), "type": "welcome" }).to_string());
        };
        let known = service.clone();
        let server = MockServer::builder()
            .http("POST", "/api/v1/bullet-public", move |request| {
                issue(&request.url_of("/endpoint"), &mut known.lock().unwrap())
            })
            .admit(judge)
            .on_connect(welcome)
            .handler(handler)
            .start();
        Self { service, server }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Service) -> T) -> T {
        change(&mut self.service.lock().unwrap())
    }

    /// A session whose provider asks the token service.
    fn connect(
        &self,
        scene: &Scene<impl Runtime>,
        adapt: impl Fn(Endpoint) -> Endpoint + Clone + Send + Sync + 'static,
    ) -> Log {
        let tokens = self.server.addr();
        let config = Config::provided().protocol(Kucoin).ping_interval(None).flap_budget(None);
        let config = config.backoff(Duration::from_millis(1), Duration::from_millis(20));
        // How often a service is asked that is down is up to chance.
        scene.log_as(|event| match event {
            OwnedEvent::RefreshFailed { .. } | OwnedEvent::AttemptFailed { .. } => None,
            event => describe(event),
        });
        let driver = scene.provided(config, move || {
            let adapt = adapt.clone();
            async move { Ok(adapt(fetch(tokens).await?)) }
        });
        // Before there is a connection that could be faster.
        driver.client().subscribe("/market/ticker:BTC-USDT");
        let (client, events) = scene.spawn(driver);
        Log { events, client, shown: String::new() }
    }

    /// The tokens of the connections that were accepted.
    fn used(&self) -> Vec<String> {
        let connections = (0..self.server.connections()).filter_map(|index| self.server.connection(index));
        connections.map(|conn| query(conn.path(), "token")).collect()
    }
}

fn query(path: &str, name: &str) -> String {
    let pairs = path.split_once('?').map_or("", |(_, query)| query).split('&');
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name);
    value.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// The server's side of the protocol.
fn respond(conn: &ConnHandle, message: &Message, deaf: bool) {
    let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    let id = &message["id"];
    match message["type"].as_str() {
        Some("ping") if deaf => {}
        Some("ping") => conn.send_text(json!({ "id": id, "type": "pong" }).to_string()),
        Some("subscribe") => {
            conn.send_text(json!({ "id": id, "type": "ack" }).to_string());
            let data = json!({ "type": "message", "topic": message["topic"], "data": conn.index() });
            conn.send_text(data.to_string());
        }
        other => panic!("{other:?}"),
    }
}

/// `POST /api/v1/bullet-public`.
fn issue(url: &str, service: &mut Service) -> HttpResponse {
    if service.down {
        return HttpResponse::new(503).body("try again");
    }
    service.issued += 1;
    let token = format!("{SECRET}-{}", service.issued);
    if service.stale > 0 {
        service.stale -= 1;
    } else {
        service.good.insert(token.clone());
    }
    let (interval, timeout) = service.ping;
    let instance = json!({
        "endpoint": url, "protocol": "websocket", "encrypt": false,
        "pingInterval": interval, "pingTimeout": timeout,
    });
    HttpResponse::json(
        &json!({ "code": "200000", "data": { "token": token, "instanceServers": [instance] } }),
    )
}

/// What a user writes with the HTTP client of his choice.
async fn fetch(service: SocketAddr) -> Result<Endpoint, ProviderError> {
    use smol::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = smol::net::TcpStream::connect(service).await?;
    stream
        .write_all(b"POST /api/v1/bullet-public HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| ProviderError::new("no HTTP"))?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(ProviderError::new(format!("the token service said {:?}", head.lines().next())));
    }
    let answer: Value = serde_json::from_str(body)?;
    let (data, instance) = (&answer["data"], &answer["data"]["instanceServers"][0]);
    let missing = |what: &str| ProviderError::new(format!("the token service named no {what}"));
    let text = |value: &Value, what| value.as_str().map(str::to_owned).ok_or_else(|| missing(what));
    let time = |what| instance[what].as_u64().map(Duration::from_millis).ok_or_else(|| missing(what));
    let (token, url) = (text(&data["token"], "token")?, text(&instance["endpoint"], "endpoint")?);
    let id = token.len();
    Ok(Endpoint::new(&format!("{url}?token={token}&connectId={id}"))?
        .param("connectId", id.to_string())
        .param("token", token)
        .heartbeat_interval(time("pingInterval")?)
        .heartbeat_timeout(time("pingTimeout")?))
}

/// Takes events until one fits, and looks at each for secrets.
struct Log {
    events: Tape,
    client: Client,
    shown: String,
}

impl Log {
    async fn until(&mut self, fits: impl Fn(&OwnedEvent) -> bool) -> OwnedEvent {
        loop {
            let event = next(&mut self.events).await;
            self.shown += &format!("{event:?} {:?} {:?}\n", self.client, self.client.status());
            if let OwnedEvent::Lost { error, .. }
            | OwnedEvent::AttemptFailed { error, .. }
            | OwnedEvent::RefreshFailed { error, .. } = &event
            {
                self.shown += &format!("{error} {}\n", error.explain());
            }
            if fits(&event) {
                return event;
            }
        }
    }

    async fn online(&mut self) {
        self.until(|event| matches!(event, OwnedEvent::Online { .. })).await;
    }

    async fn lost(&mut self) -> Error {
        match self.until(|event| matches!(event, OwnedEvent::Lost { .. })).await {
            OwnedEvent::Lost { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    async fn attempt_failed(&mut self) -> Error {
        match self.until(|event| matches!(event, OwnedEvent::AttemptFailed { .. })).await {
            OwnedEvent::AttemptFailed { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> String {
        match self.until(|event| matches!(event, OwnedEvent::Message { .. })).await {
            OwnedEvent::Message { message, subscription: Some(_), .. } => message.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(!self.shown.contains(SECRET), "a token is shown: {}", self.shown);
            assert!(self.shown.contains("Online"));
        }
    }
}

/// Waits for so many pings on the newest connection.
async fn pings(server: &MockServer, count: usize) {
    let conn = server.last().unwrap();
    let mut seen = 0;
    while seen < count {
        let conn = conn.clone();
        let soon = Duration::from_secs(20);
        let message = everwire_testing::unblock(move || conn.next_message(soon)).await.unwrap();
        seen += usize::from(message.to_text().unwrap().contains("\"ping\""));
    }
}

async fn each_connection_has_a_token_of_its_own_and_pings_as_its_answer_says(scene: &Scene<impl Runtime>) {
    let hour = 3_600_000;
    let venue = Venue::start((15, 10_000));
    let mut log = venue.connect(scene, |endpoint| endpoint);
    for (n, next) in [(hour, 10_000), (20, 10_000), (15, 100)].into_iter().enumerate() {
        log.online().await;
        assert!(log.message().await.contains(&format!("\"data\":{n}")));
        if n == 1 {
            // Once an hour is never.
            let texts: Vec<String> =
                venue.server.last().unwrap().received().iter().map(ToString::to_string).collect();
            assert!(texts.iter().all(|text| text.contains("subscribe")), "{texts:?}");
        } else {
            pings(&venue.server, 3).await;
        }
        venue.change(|service| service.ping = next);
        venue.server.kill_all();
        assert!(matches!(log.lost().await, Error::Disconnected(_)));
    }
    // A server that does not answer: after the time that the answer says.
    log.online().await;
    venue.change(|service| service.deaf = true);
    assert_eq!(log.lost().await, Error::Timeout(Timeout::Heartbeat));
    venue.change(|service| service.deaf = false);
    log.online().await;
    let used = venue.used();
    let fresh: Vec<String> = (1..=used.len()).map(|n| format!("{SECRET}-{n}")).collect();
    assert_eq!((used.len() >= 5, used), (true, fresh));
}

async fn an_expired_token_and_a_service_that_is_down_are_got_over(scene: &Scene<impl Runtime>) {
    let venue = Venue::start((20_000, 10_000));
    venue.change(|service| service.stale = 1);
    let mut log = venue.connect(scene, |endpoint| endpoint);
    // Not even a session that never was online is stopped by it.
    let error = log.attempt_failed().await;
    assert!(error.to_string().contains("401"), "{error}");
    log.online().await;
    venue.change(|service| service.stale = 2);
    venue.server.kill_all();
    log.lost().await;
    for _ in 0..2 {
        assert!(log.attempt_failed().await.to_string().contains("401"));
    }
    log.online().await;
    log.message().await;

    venue.change(|service| service.down = true);
    venue.server.kill_all();
    log.lost().await;
    for _ in 0..5 {
        let error = log.attempt_failed().await;
        assert!(matches!(&error, Error::Provider(error) if error.message.contains("503")), "{error}");
    }
    // The next one may be over as well.
    assert!(log.client.status().failures >= 5);
    venue.change(|service| service.down = false);
    log.online().await;
    log.message().await;
    assert_eq!(venue.used(), [2, 5, 6].map(|n| format!("{SECRET}-{n}")));
}

async fn a_token_that_expires_is_replaced_ahead_of_that(scene: &Scene<impl Runtime>) {
    let venue = Venue::start((20_000, 10_000));
    // The shortest that there is, asked for anew after 1 s; the later ones last.
    let first = Arc::new(AtomicBool::new(true));
    let adapt = move |endpoint: Endpoint| {
        if first.swap(false, Ordering::Relaxed) {
            endpoint.expires_in(Duration::from_secs(1))
        } else {
            endpoint
        }
    };
    let mut log = venue.connect(scene, adapt);
    log.online().await;
    log.message().await;
    let status = log.client.status();
    assert!(status.refresh_at.is_some() && status.refresh_at <= status.expires_at);
    // The service is down at first: the connection stays.
    venue.change(|service| service.down = true);
    log.until(|event| matches!(event, OwnedEvent::RefreshFailed { failures: 3, .. })).await;
    assert_eq!((venue.server.live(), log.client.state()), (1, State::Online));
    venue.change(|service| service.down = false);
    let refreshed =
        |event: &OwnedEvent| matches!(event, OwnedEvent::Refreshed { by: Refresh::Reconnect, .. });
    log.until(refreshed).await;
    assert_eq!(log.lost().await, Error::Renewed);
    let issued = venue.change(|service| service.issued);
    log.online().await;
    assert!(log.message().await.contains("\"data\":1"));
    // It was made with the token that was fetched, not with another one.
    assert_eq!((venue.used(), issued), (vec![format!("{SECRET}-1"), format!("{SECRET}-2")], 2));
}
