//! What the venue takes, refuses and punishes.

use super::*;

/// A client that says what a test wants, in no time.
struct Client {
    venue: Deribit,
    now: Duration,
    next_id: u64,
    punished: Vec<String>,
    /// What was said to each connection and not looked at.
    inbox: Vec<(u64, Reply)>,
}

impl Client {
    fn new(conns: u64) -> Self {
        let mut venue = Deribit::new().tick_every(Duration::from_secs(1));
        venue.start(SystemTime::UNIX_EPOCH + Duration::from_millis(1_576_074_319_000));
        let mut client =
            Self { venue, now: Duration::ZERO, next_id: 0, punished: Vec::new(), inbox: Vec::new() };
        (1..=conns).for_each(|conn| client.act(|venue, now, out| venue.opened(conn, now, out)));
        client
    }

    fn act(&mut self, act: impl FnOnce(&mut Deribit, Duration, &mut Replies)) {
        let mut out = Replies::new();
        act(&mut self.venue, self.now, &mut out);
        self.inbox.extend(out.take());
        self.punished.extend(out.take_punished().into_iter().map(|punished| punished.why));
    }

    /// Time goes on, and what is due is done when it is.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.venue.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.act(|venue, now, out| venue.run(now, out));
        }
        self.now = end;
    }

    fn send(&mut self, conn: u64, text: &str) {
        self.act(|venue, now, out| venue.text(conn, text, now, out));
    }

    /// The whole answer; `Null` if there is none.
    fn whole(&mut self, conn: u64, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        self.send(conn, &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        let is = |(to, reply): &(u64, Reply)| {
            *to == conn && matches!(reply, Reply::Text(text) if kit::parse(text)["id"] == id)
        };
        let Some(at) = self.inbox.iter().position(is) else { return Value::Null };
        match self.inbox.remove(at).1 {
            Reply::Text(text) => kit::parse(&text),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, conn: u64, method: &str, params: Value) -> Value {
        let answer = self.whole(conn, method, params);
        assert_eq!(answer["error"], Value::Null, "{method}");
        answer["result"].clone()
    }

    fn refused(&mut self, conn: u64, method: &str, params: Value) -> i64 {
        self.whole(conn, method, params)["error"]["code"].as_i64().expect("it is refused")
    }

    /// Logs in with this scope, and gives the token.
    fn log_in(&mut self, conn: u64, scope: &str) -> Value {
        let params = json!({"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scope": scope});
        let tokens = self.ask(conn, "public/auth", params);
        assert_eq!(tokens["token_type"], "bearer");
        tokens
    }

    /// A connection with cancel-on-disconnect and an order, which it names.
    fn trader(&mut self, conn: u64) -> String {
        self.log_in(conn, &format!("session:{conn}"));
        self.ask(conn, "private/enable_cancel_on_disconnect", json!({"scope": "connection"}));
        self.order(conn)
    }

    fn order(&mut self, conn: u64) -> String {
        let params =
            json!({"instrument_name": "BTC-PERPETUAL", "amount": 10, "type": "limit", "price": 40_000});
        let placed = self.ask(conn, "private/buy", params);
        assert_eq!(placed["order"]["order_state"], "open");
        placed["order"]["order_id"].as_str().expect("it has one").to_owned()
    }

    /// What was said to a connection, apart from answers.
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

    fn is_ended(&self, conn: u64) -> bool {
        self.inbox.contains(&(conn, Reply::Fin))
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Time, nonce and signature of the example in the documentation.
#[test]
fn signatures_are_judged_as_documented() {
    let mut accounts = Accounts::new("AMANDA", "AMANDASECRECT");
    let params = |timestamp: u64, nonce: &str| {
        json!({"grant_type": "client_signature", "client_id": "AMANDA", "timestamp": timestamp, "nonce": nonce, "data": "",
            "signature": "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1"})
    };
    let at = 1_576_074_319_000;
    let mut log_in = |params: Value, at| accounts.log_in(1, &params, at, Duration::ZERO).map(|_| ());
    assert_eq!(log_in(params(at, "1iqt2wlt"), at), Err(UNAUTHORIZED));
    assert_eq!(log_in(params(at, "1iqt2wls"), at + 60_001), Err(UNAUTHORIZED), "too old");
    assert_eq!(log_in(params(at, "1iqt2wls"), at + 60_000), Ok(()));
    assert_eq!(log_in(params(at, "1iqt2wls"), at), Err(UNAUTHORIZED), "the nonce is used");
}

#[test]
fn tokens_are_of_a_connection_or_of_a_session() {
    let mut client = Client::new(3);
    let none = || json!({});
    assert_eq!(client.refused(1, "private/get_open_orders", none()), 13009);
    let token = client.log_in(1, "")["access_token"].clone();
    assert_eq!(client.refused(1, "private/get_open_orders", none()), 13009, "it is to be named");
    assert_eq!(client.ask(1, "private/get_open_orders", json!({"access_token": token})), json!([]));
    assert_eq!(
        client.refused(2, "private/get_open_orders", json!({"access_token": token})),
        13009,
        "another's"
    );

    let tokens = client.log_in(2, "session:bot trade:read");
    client.ask(2, "private/get_open_orders", none());
    client.ask(3, "private/get_open_orders", json!({"access_token": tokens["access_token"]}));
    let order = json!({"instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 1});
    assert_eq!(client.refused(2, "private/buy", order), 13021);

    // Not in silence, which would end the connection.
    client.wait(secs(450));
    client.ask(2, "private/get_open_orders", none());
    client.wait(secs(449));
    client.ask(2, "private/get_open_orders", none());
    client.wait(secs(1));
    assert_eq!(client.refused(2, "private/get_open_orders", none()), 13009, "expired");
    let refresh = json!({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]});
    assert_eq!(client.ask(2, "public/auth", refresh)["scope"], "session:bot trade:read mainaccount");
    client.ask(2, "private/get_open_orders", none());
    let wrong = json!({"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": "x"});
    assert_eq!(client.refused(2, "public/auth", wrong), 13004);
    // The other two said nothing for ten minutes.
    client.punished.retain(|why| !why.contains("ten minutes"));
    assert_eq!(client.punished.len(), 6, "{:?}", client.punished);
}

#[test]
fn how_a_connection_ends_decides_over_its_orders() {
    let mut client = Client::new(5);
    client.log_in(5, "session:watch");
    client.ask(5, "private/subscribe", json!({"channels": ["user.orders.any.any.raw"]}));
    // A close frame.
    let order = client.trader(1);
    client.act(|venue, now, out| venue.closed(1, Some(1000), now, out));
    assert_eq!(client.venue.order_state(&order), "cancelled");
    let told = client.told(5);
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["params"]["data"]["order_state"], "cancelled");
    // Logging out.
    let order = client.trader(2);
    assert_eq!(client.whole(2, "private/logout", json!({})), Value::Null);
    assert!(client.is_ended(2));
    assert_eq!(client.venue.order_state(&order), "open");
    // Without cancel-on-disconnect.
    client.log_in(3, "session:3");
    let order = client.order(3);
    client.act(|venue, now, out| venue.closed(3, None, now, out));
    assert_eq!(client.venue.order_state(&order), "open");
    // For the whole account: for connections that are opened from then on.
    client.ask(5, "private/enable_cancel_on_disconnect", json!({"scope": "account"}));
    client.act(|venue, now, out| venue.opened(6, now, out));
    client.log_in(6, "session:6");
    let order = client.order(6);
    client.act(|venue, now, out| venue.closed(6, None, now, out));
    assert_eq!(client.venue.order_state(&order), "cancelled");
    assert_eq!(client.punished, [] as [&str; 0]);
}

#[test]
fn who_does_not_answer_is_cut_off() {
    let mut client = Client::new(3);
    let order = client.trader(1);
    assert_eq!(client.refused(1, "public/set_heartbeat", json!({"interval": 9})), -32602);
    client.ask(1, "public/set_heartbeat", json!({"interval": 10}));
    client.ask(2, "public/set_heartbeat", json!({"interval": 10}));
    client.wait(secs(10));
    for conn in [1, 2] {
        let kinds: Vec<Value> =
            client.told(conn).into_iter().map(|told| told["params"]["type"].clone()).collect();
        assert_eq!(kinds, ["heartbeat", "test_request"]);
    }
    client.ask(2, "public/test", json!({}));
    client.wait(PATIENCE - Duration::from_millis(1));
    assert!(!client.is_ended(1));
    client.wait(Duration::from_millis(1));
    assert!(client.is_ended(1) && !client.is_ended(2));
    assert_eq!(client.venue.order_state(&order), "cancelled");
    assert_eq!(client.punished, ["a test request was not answered"]);
    // One without heartbeats is ended after ten minutes.
    client.venue.over(2, false, client.now, &mut Replies::new());
    client.wait(secs(600 - 15) - Duration::from_millis(1));
    assert!(!client.is_ended(3));
    client.wait(Duration::from_millis(1));
    assert!(client.is_ended(3));
}

#[test]
fn credits_run_out() {
    let mut client = Client::new(3);
    for _ in 0..100 {
        client.ask(1, "public/test", json!({}));
    }
    assert_eq!(client.refused(1, "public/test", json!({})), 10028);
    assert!(client.is_ended(1));
    // The address has no more, on whatever connection, until some come back.
    client.wait(Duration::from_millis(49));
    assert_eq!(client.refused(2, "public/test", json!({})), 10028);
    client.wait(Duration::from_millis(1));
    client.ask(3, "public/test", json!({}));
    // Subscribing is counted by itself.
    for _ in 0..10 {
        client.ask(3, "public/subscribe", json!({"channels": []}));
    }
    assert_eq!(client.refused(3, "public/subscribe", json!({"channels": []})), 10028);
    assert_eq!(client.punished.len(), 3);

    // Orders are too.
    let mut client = Client::new(1);
    client.log_in(1, "session:1");
    for _ in 0..20 {
        client.order(1);
    }
    assert_eq!(client.refused(1, "private/cancel_all", json!({})), 10028);
}

#[test]
fn channels() {
    let mut client = Client::new(2);
    let names =
        ["book.BTC-PERPETUAL.100ms", "ticker.NO-SUCH.100ms", "nonsense", "ticker.BTC-PERPETUAL.100ms"];
    let subscribed = client.ask(1, "public/subscribe", json!({"channels": names}));
    assert_eq!(subscribed, json!([names[0], names[3]]));
    let told = client.told(1);
    assert_eq!((told.len(), &told[0]["params"]["data"]["type"]), (1, &json!("snapshot")));
    let mut last = told[0]["params"]["data"]["change_id"].clone();
    client.wait(secs(3));
    let told = client.told(1);
    assert_eq!(told.len(), 6);
    for told in told.iter().filter(|told| told["params"]["channel"] == names[0]) {
        let data = &told["params"]["data"];
        assert_eq!((&data["type"], &data["prev_change_id"]), (&json!("change"), &last));
        last = data["change_id"].clone();
    }
    // A change is lost.
    client.venue.skip(names[0]);
    client.wait(secs(2));
    let told = client.told(1);
    let books: Vec<&Value> = told.iter().filter(|told| told["params"]["channel"] == names[0]).collect();
    assert_eq!(books.len(), 1);
    assert_ne!(books[0]["params"]["data"]["prev_change_id"], last);
    assert_eq!(client.ask(1, "public/unsubscribe", json!({"channels": names})), json!([names[0], names[3]]));
    client.wait(secs(1));
    assert_eq!(client.told(1), [] as [Value; 0]);

    // Who may have what.
    let raw = json!({"channels": ["book.BTC-PERPETUAL.raw"]});
    assert_eq!(client.refused(1, "public/subscribe", raw.clone()), 13778);
    assert_eq!(client.refused(1, "private/subscribe", raw.clone()), 13009);
    assert_eq!(
        client.ask(1, "public/subscribe", json!({"channels": ["user.orders.any.any.raw"]})),
        json!([])
    );
    client.log_in(2, "session:2");
    assert_eq!(client.ask(2, "private/subscribe", raw), json!(["book.BTC-PERPETUAL.raw"]));
    assert_eq!(client.punished.len(), 3, "{:?}", client.punished);
}

#[test]
fn orders() {
    let mut client = Client::new(1);
    client.log_in(1, "session:1");
    let order = |amount: f64, price: f64| json!({"instrument_name": "BTC-PERPETUAL", "amount": amount, "price": price});
    assert_eq!(client.refused(1, "private/buy", order(5.0, 1.0)), 10021);
    assert_eq!(client.refused(1, "private/buy", order(10.0, 1.25)), 10043);
    assert_eq!(
        client.refused(1, "private/buy", json!({"instrument_name": "X", "amount": 10, "price": 1})),
        10020
    );
    let taken = client.ask(1, "private/buy", order(10.0, ASK_PRICE));
    assert_eq!(
        (&taken["order"]["order_state"], &taken["trades"][0]["amount"]),
        (&json!("filled"), &json!(10.0))
    );
    let id = taken["order"]["order_id"].clone();
    assert_eq!(client.refused(1, "private/cancel", json!({"order_id": id})), 11008);
    assert_eq!(client.refused(1, "private/cancel", json!({"order_id": "none"})), 10004);
    let mut post = order(10.0, ASK_PRICE);
    post["post_only"] = true.into();
    assert_eq!(client.ask(1, "private/buy", post.clone())["order"]["price"], ASK_PRICE - 0.5);
    post["reject_post_only"] = true.into();
    assert_eq!(client.refused(1, "private/buy", post), 11054);
    assert_eq!(client.ask(1, "private/cancel_all", json!({})), 1);
    assert_eq!(client.refused(1, "private/nothing", json!({})), -32601);
    assert_eq!(client.punished, [] as [&str; 0]);
}

const ASK_PRICE: f64 = 50_000.5;

#[test]
fn what_is_no_request_is_punished() {
    let mut client = Client::new(1);
    for text in ["nonsense", "[]", r#"{"method":"public/test"}"#, &"x".repeat(MAX_REQUEST + 1)] {
        client.send(1, text);
        assert!(client.told(1)[0]["error"]["code"].is_i64());
    }
    for _ in 0..2 {
        client.send(1, r#"{"jsonrpc":"2.0","id":"a","method":"public/test"}"#);
    }
    let why = ["no JSON", "batches", "without an id", "32 kB", "twice"];
    assert_eq!(client.punished.len(), why.len());
    for what in why {
        assert!(client.punished.iter().any(|why| why.contains(what)), "{what}: {:?}", client.punished);
    }
}
