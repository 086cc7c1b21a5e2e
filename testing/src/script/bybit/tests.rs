//! What the venue takes, refuses and punishes.

use super::*;

/// Clients that say what a test wants, in no time.
struct Clients {
    venue: Bybit,
    now: Duration,
    punished: Vec<String>,
    inbox: Vec<(u64, Reply)>,
}

impl Clients {
    fn new() -> Self {
        let mut venue = Bybit::new().tick_every(secs(1));
        venue.start(SystemTime::UNIX_EPOCH + secs(1_700_000_000));
        Self { venue, now: Duration::ZERO, punished: Vec::new(), inbox: Vec::new() }
    }

    fn act(&mut self, act: impl FnOnce(&mut Bybit, Duration, &mut Replies)) {
        let mut out = Replies::new();
        act(&mut self.venue, self.now, &mut out);
        self.inbox.extend(out.take());
        self.punished.extend(out.take_punished().into_iter().map(|punished| punished.why));
    }

    /// The status if it is refused.
    fn connect(&mut self, conn: u64, target: &str) -> Option<u16> {
        let request = Upgrade { target: target.to_owned(), key: String::new(), headers: Vec::new() };
        if let Err(refused) = self.venue.upgrade(conn, &request, self.now) {
            return Some(refused.status);
        }
        self.act(|venue, now, out| venue.opened(conn, now, out));
        None
    }

    fn ask(&mut self, conn: u64, request: &Value) -> Value {
        self.told(conn);
        self.act(|venue, now, out| venue.text(conn, &request.to_string(), now, out));
        let told = self.told(conn);
        let (first, rest) = told.split_first().expect("it is answered");
        rest.iter().for_each(|told| self.inbox.push((conn, Reply::Text(told.to_string()))));
        first.clone()
    }

    fn log_in(&mut self, conn: u64) -> Value {
        let expires = self.venue.wall.millis(self.now) + 1;
        // Signed by another program: openssl sha256 -hmac, of GET/realtime1700000000001.
        let signature = "f978bbd68d991c1e81bdc24409173f7b25af411679d8ff5a844681ba75069b43";
        self.ask(conn, &json!({"op": "auth", "args": [KEY, expires, signature]}))
    }

    fn told(&mut self, conn: u64) -> Vec<Value> {
        let mut told = Vec::new();
        self.inbox.retain(|(to, reply)| {
            if let (true, Reply::Text(text)) = (*to == conn, reply) {
                told.push(kit::parse(text));
            }
            *to != conn || !matches!(reply, Reply::Text(_))
        });
        told
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.venue.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.act(|venue, now, out| venue.run(now, out));
        }
        self.now = end;
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn subscribe(topics: &[&str]) -> Value {
    json!({"req_id": "x", "op": "subscribe", "args": topics})
}

#[test]
fn topics_of_each_endpoint() {
    let mut clients = Clients::new();
    for (conn, path) in [(1, "spot"), (2, "linear"), (3, "option")] {
        assert_eq!(clients.connect(conn, &format!("/v5/public/{path}")), None);
    }
    let ack = clients.ask(1, &subscribe(&["orderbook.50.BTCUSDT", "publicTrade.ETHUSDT"]));
    assert_eq!(
        ack,
        json!({"success": true, "ret_msg": "subscribe", "conn_id": "conn-1", "req_id": "x", "op": "subscribe"})
    );
    let told = clients.told(1);
    assert_eq!((told.len(), &told[0]["type"]), (1, &json!("snapshot")));
    let mut update = told[0]["data"]["u"].as_u64().expect("it is numbered");
    clients.wait(secs(3));
    let told = clients.told(1);
    // Topics tick at different moments.
    assert_eq!(told.len(), 5);
    for told in told.iter().filter(|told| told["topic"] == "orderbook.50.BTCUSDT") {
        update += 1;
        assert_eq!((&told["type"], &told["data"]["u"]), (&json!("delta"), &json!(update)));
    }
    // One is lost.
    clients.venue.skip("orderbook.50.BTCUSDT");
    clients.wait(secs(2));
    let books: Vec<Value> =
        clients.told(1).into_iter().filter(|told| told["topic"] == "orderbook.50.BTCUSDT").collect();
    assert_eq!((books.len(), &books[0]["data"]["u"]), (1, &json!(update + 2)));
    clients.act(|venue, now, out| venue.restart(now, out));
    let told = clients.told(1);
    assert_eq!((&told[0]["type"], &told[0]["data"]["u"]), (&json!("snapshot"), &json!(1)));

    let refused = clients.ask(2, &subscribe(&["tickers.BTCUSDT", "tickers.NO"]));
    assert_eq!(
        (&refused["success"], &refused["ret_msg"]),
        (&json!(false), &json!("Invalid symbol :[tickers.NO]"))
    );
    assert_eq!(clients.venue.listeners("tickers.BTCUSDT"), [] as [u64; 0]);
    let listed = clients.ask(3, &subscribe(&["publicTrade.BTC", "tickers.NO"]));
    assert_eq!(listed["data"], json!({"failTopics": ["tickers.NO"], "successTopics": ["publicTrade.BTC"]}));
    assert_eq!(clients.punished, [] as [&str; 0]);

    let many: Vec<String> = (0..11).map(|n| format!("tickers.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(clients.ask(1, &subscribe(&many))["success"], false);
    let long = "x".repeat(21_001);
    assert_eq!(clients.ask(2, &subscribe(&[&long]))["success"], false);
    assert_eq!(clients.punished, ["subscribe: error:args size >10", "subscribe: error:args length >21000"]);
}

#[test]
fn the_account() {
    let mut clients = Clients::new();
    assert_eq!(clients.connect(1, "/v5/private?max_active_time=1m"), None);
    assert_eq!(clients.connect(2, "/v5/trade"), None);
    let create = |id: &str, price: &str| {
        json!({"reqId": id, "op": "order.create", "header": {"X-BAPI-TIMESTAMP": "1700000000000"}, "args": [{"category": "linear",
            "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "1", "price": price}]})
    };
    assert_eq!(clients.ask(1, &subscribe(&["order"]))["ret_msg"], "Request not authorized");
    assert_eq!(clients.ask(2, &create("0", "1"))["retCode"], 10007);
    assert_eq!(
        clients.ask(2, &json!({"op": "auth", "args": [KEY, 1_800_000_000_000_u64, "bad"]}))["retCode"],
        10004
    );
    assert_eq!(
        clients.ask(2, &json!({"op": "auth", "args": [KEY, 1_600_000_000_000_u64, "bad"]}))["retCode"],
        10001
    );
    assert_eq!(clients.punished.len(), 4);
    assert_eq!(clients.log_in(1), json!({"success": true, "ret_msg": "", "op": "auth", "conn_id": "conn-1"}));
    assert_eq!(clients.log_in(2)["retCode"], 0);
    assert_eq!(clients.ask(1, &subscribe(&["order", "execution.linear"]))["success"], false);
    assert_eq!(clients.punished.len(), 5);
    assert_eq!(clients.ask(1, &subscribe(&["order", "wallet"]))["success"], true);

    let taken = clients.ask(2, &create("1", "100"));
    let id = taken["data"]["orderId"].clone();
    assert_eq!(clients.told(1)[0]["data"][0]["orderStatus"], "New");
    let cancel = |req: &str| {
        json!({"reqId": req, "op": "order.cancel", "header": {"X-BAPI-TIMESTAMP": "1700000000000"},
            "args": [{"category": "linear", "symbol": "BTCUSDT", "orderId": id}]})
    };
    assert_eq!(clients.ask(2, &cancel("2"))["retCode"], 0);
    assert_eq!(clients.told(1)[0]["data"][0]["orderStatus"], "Cancelled");
    assert_eq!(clients.ask(2, &cancel("3"))["retCode"], 110_010);
    assert_eq!(clients.ask(2, &create("4", "17000"))["retCode"], 0);
    assert_eq!(clients.told(1)[0]["data"][0]["orderStatus"], "Filled");
    assert_eq!(clients.punished.len(), 5, "what is refused for its content is no fault");
    assert_eq!(clients.ask(2, &create("4", "1"))["retCode"], 20006);
    for n in 0..6 {
        clients.ask(2, &create(&format!("n{n}"), "1"));
    }
    assert_eq!(clients.ask(2, &create("x", "1"))["retCode"], 10429);
    clients.wait(secs(6));
    assert_eq!(clients.ask(2, &create("y", "1"))["retCode"], 10002, "too late");
    assert_eq!(clients.punished.len(), 8, "{:?}", clients.punished);
}

#[test]
fn who_says_nothing_is_cut_off() {
    let mut clients = Clients::new();
    assert_eq!(clients.connect(1, "/v5/private?max_active_time=45s"), None);
    assert_eq!(clients.connect(2, "/v5/private?max_active_time=45s"), None);
    assert_eq!(clients.connect(3, "/v5/public/spot"), None);
    for bad in ["29s", "11m", "x", "60"] {
        assert_eq!(clients.connect(9, &format!("/v5/private?max_active_time={bad}")), Some(400));
    }
    clients.wait(secs(40));
    let pong = clients.ask(2, &json!({"req_id": "test", "op": "ping"}));
    assert_eq!((&pong["op"], &pong["req_id"]), (&json!("pong"), &json!("test")));
    clients.wait(secs(19));
    assert!(clients.venue.conns.contains_key(&1));
    clients.wait(secs(1));
    assert!(!clients.venue.conns.contains_key(&1) && clients.venue.conns.contains_key(&2));
    assert_eq!(clients.punished.len(), 1);
    clients.wait(secs(600));
    assert!(clients.venue.conns.is_empty());
}

#[test]
fn too_many_connections() {
    let mut clients = Clients::new();
    for conn in 0..500 {
        assert_eq!(clients.connect(conn, "/v5/public/linear"), None);
    }
    assert_eq!(clients.connect(500, "/v5/public/linear"), Some(403));
    clients.wait(secs(300));
    assert_eq!(clients.connect(501, "/v5/public/nothing"), Some(404));
}

#[test]
fn what_is_no_request_is_punished() {
    let mut clients = Clients::new();
    assert_eq!(clients.connect(1, "/v5/public/linear"), None);
    for request in [json!([]), json!({"op": "nothing"}), json!({"op": "auth", "args": []}), json!(1)] {
        assert_eq!(clients.ask(1, &request)["success"], false);
    }
    assert_eq!(clients.punished.len(), 4);
}
