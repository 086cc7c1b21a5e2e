use super::*;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// A client that does as it likes.
struct Client {
    venue: Venue,
    now: Duration,
    out: Replies,
}

impl Client {
    fn new(venue: Venue, targets: &[&str]) -> Self {
        let mut client = Self { venue, now: Duration::ZERO, out: Replies::new() };
        for (conn, target) in (1..).zip(targets) {
            assert_eq!(client.connect(conn, target), Ok(()));
        }
        client
    }

    fn connect(&mut self, conn: u64, target: &str) -> Result<(), u16> {
        let upgrade = Upgrade { target: target.to_owned(), key: String::new(), headers: Vec::new() };
        self.venue.upgrade(conn, &upgrade, self.now).map_err(|refused| refused.status)
    }

    /// What came by then.
    fn until(&mut self, now: Duration) -> Vec<(u64, Reply)> {
        while let Some(next) = self.venue.deadline().filter(|next| *next <= now) {
            self.now = self.now.max(next);
            self.venue.run(self.now, &mut self.out);
        }
        self.now = now;
        self.out.take()
    }

    fn say(&mut self, conn: u64, text: &str) -> Vec<Value> {
        self.venue.text(conn, text, self.now, &mut self.out);
        self.heard()
    }

    fn heard(&mut self) -> Vec<Value> {
        let texts = self.out.take().into_iter().filter_map(|(_, reply)| match reply {
            Reply::Text(text) => Some(serde_json::from_str(&text).unwrap()),
            _ => None,
        });
        texts.collect()
    }

    fn punished(&mut self) -> Vec<String> {
        self.out.take_punished().into_iter().map(|punishment| punishment.why).collect()
    }
}

fn subscribe(stream: &str, id: u64) -> String {
    format!(r#"{{"method":"SUBSCRIBE","params":["{stream}"],"id":{id}}}"#)
}

#[test]
fn the_sixth_message_in_a_second_is_one_too_many() {
    let mut client = Client::new(Venue::spot(), &["/stream", "/stream"]);
    let say = |client: &mut Client, conn: u64| {
        // Pongs and pings count.
        client.venue.pong(conn, b"", client.now, &mut client.out);
        client.venue.ping(conn, b"", client.now, &mut client.out);
        for id in 1..=3 {
            client.venue.text(conn, &subscribe("a@trade", id), client.now, &mut client.out);
        }
        assert!(client.punished().is_empty());
        client.now += SECOND - Duration::from_millis(1);
        client.out.take();
        client.venue.text(conn, &subscribe("b@trade", 4), client.now, &mut client.out);
        assert_eq!(client.punished(), ["more than 5 messages in a second"]);
        assert_eq!(client.out.take(), [(conn, Reply::Close(1008, "Too many requests".to_owned()))]);
    };
    say(&mut client, 1);
    assert_eq!(client.connect(3, "/stream"), Ok(()), "once is not enough for a ban");
    say(&mut client, 2);
    assert_eq!(client.connect(4, "/stream"), Err(418));
    client.now += BAN - SECOND;
    assert_eq!(client.connect(5, "/stream"), Err(418), "and it begins anew");
    client.now += BAN;
    assert_eq!(client.connect(6, "/stream"), Ok(()));
    // Five in any second are fine.
    for id in 0..50 {
        client.say(6, &subscribe("a@trade", id));
        client.now += SECOND / 5;
    }
    assert!(client.punished().is_empty());
}

#[test]
fn too_many_attempts() {
    let mut client = Client::new(Venue::spot(), &[]);
    assert!((0..300).all(|conn| client.connect(conn, "/stream").is_ok()));
    assert_eq!(client.connect(300, "/stream"), Err(429));
    assert_eq!(client.connect(301, "/nowhere"), Err(429));
    client.now += 2 * FIVE_MINUTES;
    assert_eq!(client.connect(302, "/nowhere"), Err(404));
}

#[test]
fn a_ping_wants_its_pong() {
    let mut client = Client::new(Venue::spot(), &["/stream", "/stream"]);
    let mut answered = 0;
    for second in 1..=90 {
        for (conn, reply) in client.until(second * SECOND) {
            match reply {
                Reply::Ping(payload) if conn == 1 => {
                    answered += 1;
                    client.venue.pong(1, &payload, client.now, &mut client.out);
                }
                // Not what was in the ping.
                Reply::Ping(_) => client.venue.pong(2, b"", client.now, &mut client.out),
                other => assert_eq!((second, conn, other), (80, 2, Reply::Fin)),
            }
        }
    }
    assert_eq!((answered, client.punished()), (4, vec!["a ping has no pong".to_owned()]));
    assert_eq!(client.venue.conns.len(), 1);
}

#[test]
fn what_is_no_wish_is_an_error() {
    let mut client = Client::new(Venue::spot(), &["/stream"]);
    for (text, code) in [
        ("{", 3),
        (r#"{"method":"SUBSCRIBE","params":["BTCUSDT@trade"],"id":1}"#, 2),
        (r#"{"method":"SUBSCRIBE","params":["a@trade"],"id":1.5}"#, 2),
        (r#"{"method":"SUBSCRIBE","params":["a@trade"],"id":"x-y"}"#, 2),
        (r#"{"method":"SUBSCRIBE","params":[1],"id":1}"#, 2),
        (r#"{"method":"SUBSCRIBE","id":1}"#, 2),
        (r#"{"method":"subscribe","params":["a@trade"],"id":1}"#, 2),
        (r#"{"id":1}"#, 2),
        (r#"{"method":"SET_PROPERTY","params":["x",true],"id":1}"#, 0),
        (r#"{"method":"SET_PROPERTY","params":["combined",1],"id":1}"#, 1),
    ] {
        client.now += SECOND;
        assert_eq!(client.say(1, text)[0]["code"], code, "{text}");
        assert_eq!(client.punished().len(), 1, "{text}");
    }
    let too_many: Vec<String> = (0..1025).map(|n| format!("s{n}@trade")).collect();
    let text = json!({"method": "SUBSCRIBE", "params": too_many, "id": 1}).to_string();
    client.now += SECOND;
    assert_eq!(client.say(1, &text)[0]["msg"], "Invalid request: more than 1024 streams");
    let futures = &mut Client::new(Venue::usd_futures(), &["/market/stream"]);
    let text = r#"{"method":"SUBSCRIBE","params":["a@trade"],"id":null}"#;
    assert_eq!(futures.say(1, text)[0]["error"]["code"], 2, "futures want a number");
}

#[test]
fn streams_come_where_they_are_served() {
    let targets = ["/public/stream", "/market/stream", "/stream", "/public/ws/a@depth"];
    let mut client = Client::new(Venue::usd_futures(), &targets);
    for conn in 1..=3 {
        for (id, stream) in [(1, "a@depth"), (2, "a@aggTrade")] {
            assert_eq!(client.say(conn, &subscribe(stream, id)), [json!({"result": null, "id": id})]);
        }
    }
    let mut came: Vec<(u64, String)> = Vec::new();
    for (conn, reply) in client.until(SECOND) {
        let Reply::Text(text) = reply else { continue };
        let said: Value = serde_json::from_str(&text).unwrap();
        came.push((conn, said["stream"].as_str().unwrap_or("raw").to_owned()));
    }
    came.sort();
    came.dedup();
    assert_eq!(came, [(1, "a@depth".into()), (2, "a@aggTrade".into()), (4, "raw".into())]);
    assert!(client.punished().is_empty());
}

#[test]
fn keys_and_signatures_are_judged() {
    let venue =
        Venue::spot().hmac_key("key", "secret").ed25519_key("ed", |text, sign| sign == format!("<{text}>"));
    let mut client = Client::new(venue, &["/ws-api/v3", "/ws-api/v3?returnRateLimits=false"]);
    let at = client.venue.wall.millis(Duration::ZERO);
    let mut ask = |conn, method: &str, params: Value| {
        let answer = client.say(conn, &json!({"id": 1, "method": method, "params": params}).to_string());
        let code = answer[answer.len() - 1]["error"]["code"].as_i64().unwrap_or(0);
        (code, client.punished().len())
    };
    assert_eq!(ask(1, "order.cancel", json!({"symbol": "X", "timestamp": at})), (-1102, 1));
    let wrong = json!({"apiKey": "key", "timestamp": at, "signature": "00"});
    assert_eq!(ask(1, "order.cancel", wrong), (-1022, 1));
    assert_eq!(ask(1, "order.cancel", json!({"apiKey": "nobody", "timestamp": at})), (-2015, 0));
    assert_eq!(ask(1, "order.cancel", json!({"apiKey": "key", "timestamp": at + 1000})), (-1021, 0));
    assert_eq!(ask(1, "userDataStream.subscribe", json!({})), (-2015, 1));
    assert_eq!(ask(1, "nonsense", json!({})), (-1020, 1));
    let hmac = json!({"apiKey": "key", "timestamp": at, "signature": "x"});
    assert_eq!(ask(1, "session.logon", hmac), (-2015, 1));
    let text = format!("<apiKey=ed&timestamp={at}>");
    let logon = json!({"timestamp": at, "apiKey": "ed", "signature": text});
    assert_eq!(ask(2, "session.logon", logon), (0, 0));
    assert_eq!(ask(2, "userDataStream.subscribe", json!({})), (0, 0));
    let order = json!({"symbol": "X", "side": "BUY", "type": "MARKET", "quantity": "1", "timestamp": at});
    assert_eq!(ask(2, "order.place", order), (0, 0));
    assert_eq!(client.venue.open_orders(), 1);
    assert_eq!(client.say(1, r#"{"method":5}"#)[0]["error"]["code"], -1135);
    // The documents' own example.
    let payload = "apiKey=vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A&newOrderRespType=ACK&price=52000.00&quantity=0.01000000&recvWindow=100&side=SELL&symbol=BTCUSDT&timeInForce=GTC&timestamp=1645423376532&type=LIMIT";
    let how = api::How::Hmac("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j".into());
    assert!(how.verifies(payload, "cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a"));
}

#[test]
fn too_much_weight() {
    let mut client = Client::new(Venue::spot().weight(10), &["/ws-api/v3"]);
    let depth = r#"{"id":1,"method":"depth","params":{"symbol":"BTCUSDT"}}"#;
    let status = |client: &mut Client| client.say(1, depth)[0]["status"].clone();
    assert_eq!((status(&mut client), status(&mut client)), (json!(200), json!(200)));
    assert_eq!(status(&mut client), 429);
    client.now += 60 * SECOND;
    assert_eq!(status(&mut client), 200, "another minute");
    assert_eq!((status(&mut client), status(&mut client)), (json!(200), json!(429)));
    client.venue.text(1, depth, client.now, &mut client.out);
    assert_eq!(client.connect(2, "/ws-api/v3"), Err(418));
    assert_eq!(client.punished().len(), 3);
}

#[test]
fn listen_keys_live_for_an_hour() {
    let mut client = Client::new(Venue::usd_futures().hmac_key("key", "secret"), &[]);
    let ask = |client: &mut Client, method: &str, key: &str| {
        let request = HttpRequest {
            method: method.to_owned(),
            target: "/fapi/v1/listenKey".to_owned(),
            headers: vec![("X-MBX-APIKEY".to_owned(), key.to_owned())],
            body: Vec::new(),
        };
        let answer = client.venue.http(&request, client.now);
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap_or_default())
    };
    assert_eq!(ask(&mut client, "POST", "nobody").0, 401);
    let (status, key) = ask(&mut client, "POST", "key");
    let key = key["listenKey"].as_str().unwrap().to_owned();
    assert_eq!(status, 200);
    client.connect(1, &format!("/private/ws?listenKey={key}")).unwrap();
    client.connect(2, "/private/ws?listenKey=wrong").unwrap();
    client.venue.user_event(&json!({"e": "ORDER_TRADE_UPDATE"}), &mut client.out);
    assert_eq!(client.heard(), [json!({"e": "ORDER_TRADE_UPDATE"})]);
    let answer = |client: &mut Client, until| {
        let mut texts = Vec::new();
        for (conn, reply) in client.until(until) {
            match reply {
                Reply::Ping(payload) => client.venue.pong(conn, &payload, client.now, &mut client.out),
                Reply::Text(text) => texts.push(text),
                _ => {}
            }
        }
        texts
    };
    for minute in 1..=50 {
        assert!(answer(&mut client, minute * 60 * SECOND).is_empty());
    }
    assert_eq!(ask(&mut client, "PUT", "key").0, 200);
    for minute in 51..110 {
        assert!(answer(&mut client, minute * 60 * SECOND).is_empty(), "{minute}");
    }
    let said = answer(&mut client, 110 * 60 * SECOND);
    assert!(said.len() == 1 && said[0].contains("listenKeyExpired"), "{said:?}");
    assert_eq!(ask(&mut client, "PUT", "key").0, 400);
    assert!(client.punished().is_empty());
}
