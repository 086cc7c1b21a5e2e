use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Client {
    venue: Venue,
    now: Duration,
    out: Replies,
}

impl Client {
    fn new(targets: &[&str]) -> Self {
        let venue = Venue::new().key("key", "secret", "pass");
        let mut client = Self { venue, now: Duration::ZERO, out: Replies::new() };
        for (conn, target) in (1..).zip(targets) {
            assert_eq!(client.connect(conn, target), Ok(()));
        }
        client
    }

    fn connect(&mut self, conn: u64, target: &str) -> Result<(), u16> {
        let upgrade = Upgrade { target: format!("/ws/v5/{target}"), key: String::new(), headers: Vec::new() };
        self.venue.upgrade(conn, &upgrade, self.now).map_err(|refused| refused.status)
    }

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
        texts(self.out.take())
    }

    fn punished(&mut self) -> Vec<String> {
        self.out.take_punished().into_iter().map(|punishment| punishment.why).collect()
    }

    fn log_in(&mut self, conn: u64, time: u64, key: &str, passphrase: &str, secret: &str) -> Value {
        let signer = Key { secret: secret.to_owned(), passphrase: String::new() };
        let sign = signer.sign(&format!("{time}GET/users/self/verify"));
        let arg =
            json!({"apiKey": key, "passphrase": passphrase, "timestamp": time.to_string(), "sign": sign});
        self.say(conn, &json!({"op": "login", "args": [arg]}).to_string())[0]["code"].clone()
    }
}

fn texts(replies: Vec<(u64, Reply)>) -> Vec<Value> {
    let texts = replies.into_iter().filter_map(|(_, reply)| match reply {
        Reply::Text(text) => Some(serde_json::from_str(&text).unwrap_or_else(|_| json!(text))),
        _ => None,
    });
    texts.collect()
}

fn subscribe(channel: &str, instrument: &str) -> String {
    json!({"id": "1", "op": "subscribe", "args": [{"channel": channel, "instId": instrument}]}).to_string()
}

#[test]
fn silence_ends_a_connection_and_a_ping_does_not() {
    let mut client = Client::new(&["public", "public", "public"]);
    client.say(3, &subscribe("tickers", "A"));
    for second in 1..=29 {
        client.until(second * SECOND);
    }
    assert_eq!(client.say(1, "ping"), ["pong"]);
    let ended = client.until(31 * SECOND).into_iter().filter(|(_, reply)| !matches!(reply, Reply::Text(_)));
    let close = Reply::Close(4004, "No data received in 30s".to_owned());
    assert_eq!(ended.collect::<Vec<_>>(), [(2, close)]);
    assert_eq!(client.punished(), ["no ping in 30 s in which nothing came"]);
}

#[test]
fn logins_are_judged() {
    let mut client = Client::new(&["private", "private"]);
    let now = client.venue.wall.secs(Duration::ZERO);
    assert_eq!(client.log_in(1, now - 31, "key", "pass", "secret"), "60006");
    assert_eq!(client.log_in(1, now, "nobody", "pass", "secret"), "60032");
    assert_eq!(client.log_in(1, now, "key", "other", "secret"), "60024");
    assert!(client.punished().is_empty());
    assert_eq!(client.log_in(1, now, "key", "pass", "wrong"), "60007");
    let orders = r#"{"id":"1","op":"subscribe","args":[{"channel":"orders","instType":"ANY"}]}"#;
    assert_eq!(client.say(1, orders)[0]["code"], "60011");
    assert_eq!(client.punished(), ["Invalid sign", "Please log in"]);
    assert_eq!(client.log_in(1, now, "key", "pass", "secret"), "0");
    let answers = client.say(1, orders);
    assert_eq!(
        (&answers[0]["event"], &answers[1]["event"]),
        (&json!("subscribe"), &json!("channel-conn-count"))
    );
    assert_eq!(client.log_in(1, now, "key", "pass", "secret"), "60031");
    assert_eq!(client.say(2, r#"{"id":"9","op":"order","args":[{}]}"#)[0]["code"], "60011");
    assert_eq!(client.punished().len(), 2);
    // The documents' secret, and what openssl makes of it.
    let key = Key { secret: "22582BD0CFF14C41EDBF1AB98506286D".into(), passphrase: String::new() };
    assert_eq!(key.sign("1704876947GET/users/self/verify").len(), 44);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut client = Client::new(&["public", "business"]);
    for (conn, text, code, punished) in [
        (1, "{".to_owned(), "60012", 1),
        (1, "[]".to_owned(), "60012", 1),
        (1, r#"{"op":"subscribe"}"#.to_owned(), "60012", 1),
        (1, r#"{"id":5,"op":"subscribe","args":[]}"#.to_owned(), "60012", 1),
        (1, r#"{"id":"a-b","op":"subscribe","args":[]}"#.to_owned(), "60012", 1),
        (1, r#"{"id":"1","op":"nonsense","args":[]}"#.to_owned(), "60019", 1),
        (1, subscribe("candle1m", "A"), "60018", 0),
        (2, subscribe("books", "A"), "60018", 0),
        (1, subscribe("nonsense", "A"), "60018", 0),
        (1, subscribe("books", ""), "60018", 0),
    ] {
        let answer = client.say(conn, &text);
        assert_eq!((&answer[0]["event"], &answer[0]["code"]), (&json!("error"), &json!(code)), "{text}");
        assert_eq!(client.punished().len(), punished, "{text}");
    }
    for n in 0..475 {
        let answer = client.say(1, &subscribe("tickers", &n.to_string()));
        assert_eq!(answer[0]["event"], "subscribe", "{n}");
    }
    // The messages that were refused above count as well.
    let refused: Vec<Value> =
        (0..10).flat_map(|n| client.say(1, &subscribe("trades", &n.to_string()))).collect();
    assert!(refused.iter().any(|answer| answer["code"] == "60014"), "{refused:?}");
    assert!(!client.punished().is_empty());
    let long = subscribe("books", &"x".repeat(65 << 10));
    client.venue.text(2, &long, client.now, &mut client.out);
    assert!(matches!(&client.out.take()[..], [(2, Reply::Close(1009, _))]));
}

#[test]
fn connections_are_counted() {
    let mut client = Client::new(&["public", "public", "public"]);
    assert_eq!(client.connect(4, "public"), Err(429));
    client.now += SECOND;
    assert_eq!(client.connect(5, "nowhere"), Err(404));
}

#[test]
fn books_are_chains_with_snapshots_resets_and_repetitions() {
    let mut client = Client::new(&["public"]);
    client.say(1, &subscribe("books", "A"));
    let books = |client: &mut Client, until: u32| -> Vec<(i64, i64)> {
        let told = texts(client.until(until * SECOND));
        let number = |data: &Value, key: &str| data["data"][0][key].as_i64().unwrap();
        told.iter().map(|data| (number(data, "prevSeqId"), number(data, "seqId"))).collect()
    };
    let first = books(&mut client, 2);
    assert_eq!(first[0].0, -1);
    assert!(first.windows(2).all(|pair| pair[0].1 == pair[1].0), "{first:?}");
    assert!(first[1..].iter().any(|(prev, seq)| prev == seq), "nothing changes now and then: {first:?}");
    let last = first.last().unwrap().1;
    client.venue.skip("books:A");
    let next = books(&mut client, 3);
    assert!(next[0].0 > last, "{next:?}");
    let last = next.last().unwrap().1;
    client.venue.reset("books:A");
    let next = books(&mut client, 4);
    assert!(next.iter().any(|(prev, seq)| prev > seq), "{next:?}");
    assert!(next[0].0 == last && next.windows(2).all(|pair| pair[0].1 == pair[1].0), "{next:?}");
    assert!(client.punished().is_empty());
}
