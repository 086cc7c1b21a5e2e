//! The protocol, message by message. The frames are those of docs.deribit.com.

use super::*;
use everwire_core::{Continuity, Params};
use std::time::{SystemTime, UNIX_EPOCH};

const WALL: Duration = Duration::from_millis(1_576_074_319_123);
const TOKENS: &str = r#"{"access_token":"acc","expires_in":900,"refresh_token":"ref","scope":"connection mainaccount","token_type":"bearer"}"#;

fn wall() -> SystemTime {
    UNIX_EPOCH + WALL
}

fn written(write: impl FnOnce(&Context<'_>, &mut String), authenticated: Option<&str>) -> Value {
    let params = Params::default();
    let context = Context::new(wall(), &params).authenticated(authenticated);
    let mut out = String::new();
    write(&context, &mut out);
    if out.is_empty() { Value::Null } else { serde_json::from_str(&out).unwrap() }
}

fn auth(deribit: &Deribit, authenticated: Option<&str>) -> Value {
    written(
        |context, out| assert_eq!(deribit.authenticate(7, context, out), Ok(Ack::Response)),
        authenticated,
    )
}

fn prepared(deribit: &Deribit, step: u32) -> Value {
    let write = |context: &Context<'_>, out: &mut String| _ = deribit.prepare(step, 7, context, out).unwrap();
    written(write, deribit.credentials.is_some().then_some(TOKENS))
}

fn requested(deribit: &Deribit, method: &str, params: Option<&str>) -> Value {
    let request = Request { method, params };
    written(|context, out| deribit.request(7, &request, context, out).unwrap(), Some(TOKENS))
}

fn message<'m>(topic: &'m str, sequence: Option<Sequence>, sent: Option<u64>) -> Inbound<'m> {
    Inbound::Message { topic: Some(topic.into()), sequence, sent: sent.map(Duration::from_millis) }
}

#[test]
fn notifications_are_told_apart() {
    let deribit = Deribit::new();
    let snapshot = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"type":"snapshot","timestamp":1554373962454,"instrument_name":"BTC-PERPETUAL","change_id":297217,"bids":[["new",5042.34,30]],"asks":[["new",5042.64,40]]}}}"#;
    assert_eq!(
        deribit.classify(snapshot),
        message("book.BTC-PERPETUAL.100ms", Some(Sequence::new(297_217).snapshot()), Some(1_554_373_962_454))
    );
    let change = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"type":"change","timestamp":1554373911330,"prev_change_id":297217,"instrument_name":"BTC-PERPETUAL","change_id":297218,"bids":[["delete",5041.94,0]],"asks":[]}}}"#;
    assert_eq!(
        deribit.classify(change),
        message(
            "book.BTC-PERPETUAL.100ms",
            Some(Sequence::new(297_218).previous(297_217)),
            Some(1_554_373_911_330)
        )
    );
    let trades = r#"{"params":{"data":[{"trade_seq":1,"timestamp":1000,"price":1.5},{"trade_seq":2,"timestamp":2000}],"channel":"trades.BTC-PERPETUAL.raw"},"method":"subscription","jsonrpc":"2.0"}"#;
    assert_eq!(deribit.classify(trades), message("trades.BTC-PERPETUAL.raw", None, Some(2000)));
    let index = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"deribit_price_index.btc_usd","data":{"timestamp":1535098298227,"price":6521.17,"index_name":"btc_usd"}}}"#;
    assert_eq!(
        deribit.classify(index),
        message("deribit_price_index.btc_usd", None, Some(1_535_098_298_227))
    );
    let order = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"user.orders.BTC-PERPETUAL.raw","data":{"order_id":"5","order_state":"open","price":10502.52}}}"#;
    assert_eq!(deribit.classify(order), message("user.orders.BTC-PERPETUAL.raw", None, None));
}

#[test]
fn answers_errors_and_heartbeats() {
    let deribit = Deribit::new();
    let answer = r#"{"jsonrpc":"2.0","id":5647,"result":["a"],"usIn":1,"usOut":2,"usDiff":1,"testnet":true}"#;
    assert_eq!(deribit.classify(answer), Inbound::Response { id: 5647, result: Ok("[\"a\"]") });
    let refused = r#"{"jsonrpc":"2.0","id":8163,"error":{"message":"too_many_requests","code":10028},"testnet":false,"usIn":1535037392434763}"#;
    let error = r#"{"message":"too_many_requests","code":10028}"#;
    assert_eq!(deribit.classify(refused), Inbound::Response { id: 8163, result: Err(error) });
    // Of no request.
    for id in ["", r#""id":null,"#] {
        let terminated = format!(r#"{{"jsonrpc":"2.0",{id}"error":{error}}}"#);
        let recovery = Some(Recovery::Backoff(Duration::from_secs(5)));
        assert_eq!(deribit.classify(&terminated), Inbound::Notice { text: error, recovery });
    }
    let unread = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse_error"}}"#;
    assert!(matches!(deribit.classify(unread), Inbound::Notice { recovery: None, .. }));

    let test = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#;
    let beat = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}"#;
    assert_eq!(deribit.classify(test), Inbound::Heartbeat);
    assert_eq!(deribit.classify(beat), Inbound::Heartbeat);
    let mut out = String::new();
    deribit.heartbeat_reply(beat, 9, &mut out);
    assert_eq!(out, "");
    deribit.heartbeat_reply(test, 9, &mut out);
    assert_eq!(out, r#"{"jsonrpc":"2.0","id":9,"method":"public/test","params":{}}"#);

    for other in [
        "",
        "nonsense",
        "[]",
        "{}",
        "null",
        r#"{"id":"x","result":1}"#,
        r#"{"id":1}"#,
        r#"{"method":"subscription"}"#,
        r#"{"method":"subscription","params":{"channel":"a\"b","data":1}}"#,
        r#"{"method":"other","params":{"channel":"a"}}"#,
        r#"{"id":1,"method":"server/asks"}"#,
    ] {
        assert_eq!(deribit.classify(other), Inbound::other(), "{other}");
    }
}

/// Whatever comes: no panic, and a message that `serde_json` takes for an object is read as it reads it.
#[test]
fn texts_that_are_broken_in_any_way() {
    let deribit = Deribit::new();
    let frames = [
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.X.raw","data":{"type":"change","timestamp":5,"prev_change_id":1,"change_id":2,"bids":[["new",1.5,2]]}}}"#,
        r#"{"jsonrpc":"2.0","id":12,"error":{"code":10028,"message":"m\u0041"},"usIn":1}"#,
        r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{"access_token":"a","expires_in":1}}"#,
    ];
    let pool: Vec<char> = "{}[]\",:\\0123456789eE+-.nulltrfas idmechgpr\u{e9}\u{1f600}\n\t".chars().collect();
    let mut state = 1_u64;
    let mut dice = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut topics, mut responses) = (0, 0);
    for _ in 0..60_000 {
        let mut text: Vec<char> = frames[dice(frames.len())].chars().collect();
        for _ in 0..dice(4) {
            let at = dice(text.len());
            match dice(3) {
                0 => drop(text.remove(at)),
                1 => text[at] = pool[dice(pool.len())],
                _ => text.insert(at, pool[dice(pool.len())]),
            }
        }
        let text: String = text.into_iter().collect();
        let read: Option<Value> = serde_json::from_str(&text).ok();
        let mut out = String::new();
        deribit.heartbeat_reply(&text, 1, &mut out);
        let _ = (deribit.authenticated(&text), deribit.confirms(&text, &Topic::new("a")));
        match deribit.classify(&text) {
            Inbound::Message { topic: Some(topic), sequence, sent } => {
                topics += 1;
                let read = read.unwrap();
                let data = &read["params"]["data"];
                assert_eq!(read["params"]["channel"], topic.to_string(), "{text}");
                assert_eq!(data["change_id"].as_u64(), sequence.map(|s| s.last), "{text}");
                assert_eq!(
                    data["timestamp"].as_u64(),
                    sent.map(|sent| u64::try_from(sent.as_millis()).unwrap()),
                    "{text}"
                );
            }
            Inbound::Response { id, result } => {
                responses += 1;
                let read = read.unwrap();
                assert_eq!(read["id"], id, "{text}");
                let (key, part) = match result {
                    Ok(part) => ("result", part),
                    Err(part) => ("error", part),
                };
                assert_eq!(read[key], serde_json::from_str::<Value>(part).unwrap(), "{text}");
            }
            _ => {}
        }
    }
    assert!(topics > 2000 && responses > 2000, "{topics} {responses}");
}

#[test]
fn credentials_are_sent_and_then_refreshed() {
    let deribit = Deribit::new().credentials("id", "top\"most").scope("trade:read");
    assert_eq!(
        auth(&deribit, None),
        json!({"jsonrpc": "2.0", "id": 7, "method": "public/auth", "params": {
            "grant_type": "client_credentials", "client_id": "id", "client_secret": "top\"most", "scope": "trade:read"}})
    );
    assert_eq!(
        auth(&deribit, Some(TOKENS))["params"],
        json!({"grant_type": "refresh_token", "refresh_token": "ref"})
    );
    // A server that gave none is asked with the credentials.
    let again = auth(&deribit, Some(r#"{"access_token":"a"}"#));
    assert_eq!(again["params"]["grant_type"], "client_credentials");
    assert_eq!(deribit.authenticated(TOKENS), Some(Duration::from_secs(900)));
    assert_eq!(deribit.authenticated("\"ok\""), None);
    assert!(deribit.reauthenticates() && !Deribit::new().reauthenticates());
    let nobody = |context: &Context<'_>, out: &mut String| {
        assert_eq!(Deribit::new().authenticate(7, context, out), Ok(Ack::None));
    };
    assert_eq!(written(nobody, None), Value::Null);
    assert!(!format!("{deribit:?}").contains("most"));
}

/// The formula and its result are those of the documentation ("Deribit signature credentials"): HMAC-SHA256 over time, nonce and data, each with a
/// line's end between, in hexadecimal.
#[test]
fn signatures_are_over_time_nonce_and_data() {
    let deribit =
        Deribit::new().signature("id", "secret").signed_data("data").session("bot").scope("trade:read");
    let params = auth(&deribit, None)["params"].clone();
    let nonce = params["nonce"].as_str().unwrap();
    let signature = Secret::new("secret").hmac_hex(&format!("1576074319123\n{nonce}\ndata"));
    assert_eq!(
        params,
        json!({"grant_type": "client_signature", "client_id": "id", "timestamp": 1_576_074_319_123_u64, "nonce": nonce,
            "data": "data", "signature": signature, "scope": "session:bot trade:read"})
    );
    // The example of the documentation, whose secret is AMANDASECRECT.
    assert_eq!(
        Secret::new("AMANDASECRECT").hmac_hex("1576074319000\n1iqt2wls\n"),
        "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1"
    );
    // Another time, or another request, is another nonce.
    let params = Params::default();
    let context = Context::new(wall(), &params);
    let mut out = String::new();
    deribit.authenticate(8, &context, &mut out).unwrap();
    assert!(!out.contains(&format!("{nonce}\"")), "{out}");
    assert!(!format!("{deribit:?}").contains("\"secret"));
}

#[test]
fn somebody_else_may_sign() {
    let signs = Deribit::new().signed_by("id", |text| Ok(format!("signed {} lines", text.lines().count())));
    // Data is empty, and an empty last line is none to `lines`.
    assert_eq!(auth(&signs, None)["params"]["signature"], "signed 2 lines");
    let fails = Deribit::new().signed_by("id", |_| Err("no such slot".to_owned()));
    let params = Params::default();
    let mut out = String::new();
    let refused = fails.authenticate(1, &Context::new(wall(), &params), &mut out).unwrap_err();
    assert!(refused.reason.contains("no such slot") && out.is_empty(), "{refused}");
    assert!(format!("{fails:?}").contains("Callback(..)"));
}

#[test]
fn connections_are_prepared() {
    let method = |message: &Value| (message["method"].clone(), message["params"].clone());
    let market = Deribit::new();
    assert_eq!(method(&prepared(&market, 0)), ("public/set_heartbeat".into(), json!({"interval": 30})));
    assert_eq!(prepared(&market, 1), Value::Null);
    assert_eq!(prepared(&market.clone().heartbeat(None), 0), Value::Null);
    assert_eq!(prepared(&market.heartbeat(Duration::from_secs(1)), 0)["params"]["interval"], 10);

    let trader =
        Deribit::new().credentials("id", "secret").cancel_on_disconnect(CancelOnDisconnect::Connection);
    assert_eq!(method(&prepared(&trader, 0)).0, "public/set_heartbeat");
    let cod =
        ("private/enable_cancel_on_disconnect".into(), json!({"scope": "connection", "access_token": "acc"}));
    assert_eq!(method(&prepared(&trader, 1)), cod);
    assert_eq!(prepared(&trader, 2), Value::Null);
    let trader = trader.heartbeat(None).session("s").cancel_on_disconnect(CancelOnDisconnect::Account);
    assert_eq!(prepared(&trader, 0)["params"], json!({"scope": "account"}));
    assert_eq!(prepared(&trader, 1), Value::Null);

    let nobody = Deribit::new().cancel_on_disconnect(CancelOnDisconnect::Connection);
    let params = Params::default();
    let refused = nobody.prepare(0, 1, &Context::new(wall(), &params), &mut String::new()).unwrap_err();
    assert!(refused.reason.contains("credentials"), "{refused}");
}

#[test]
fn channels_are_asked_for_as_who_we_are() {
    let (book, raw, orders) =
        (Topic::new("book.X.100ms"), Topic::new("book.X.raw"), Topic::new("user.orders.X.raw"));
    let market = Deribit::new();
    let asked = |deribit: &Deribit, topics: &[&Topic], tokens| {
        let write = |context: &Context<'_>, out: &mut String| {
            assert_eq!(deribit.subscribe(7, topics, context, out), Ok(Ack::Response));
        };
        written(write, tokens)
    };
    assert_eq!(
        asked(&market, &[&book, &book], None),
        json!({"jsonrpc": "2.0", "id": 7, "method": "public/subscribe", "params": {"channels": ["book.X.100ms", "book.X.100ms"]}})
    );
    let params = Params::default();
    let context = Context::new(wall(), &params);
    for topic in [&raw, &orders] {
        let refused = market.subscribe(7, &[topic], &context, &mut String::new()).unwrap_err();
        assert!(refused.reason.contains(topic.name()) && refused.reason.contains("credentials"), "{refused}");
    }
    assert!(!market.shares(&book, &raw) && market.shares(&raw, &orders) && market.shares(&book, &book));

    let trader = Deribit::new().credentials("id", "secret");
    assert!(trader.shares(&book, &orders));
    let private = asked(&trader, &[&book, &orders], Some(TOKENS));
    assert_eq!(private["method"], "private/subscribe");
    assert_eq!(
        private["params"],
        json!({"channels": ["book.X.100ms", "user.orders.X.raw"], "access_token": "acc"})
    );
    let session = trader.session("s");
    assert_eq!(
        asked(&session, &[&orders], Some(TOKENS))["params"],
        json!({"channels": ["user.orders.X.raw"]})
    );
    let left =
        |context: &Context<'_>, out: &mut String| _ = session.unsubscribe(7, &[&book], context, out).unwrap();
    assert_eq!(written(left, Some(TOKENS))["method"], "private/unsubscribe");

    assert!(market.confirms(r#"["book.X.100ms"]"#, &book) && !market.confirms("[]", &book));
    assert!(!market.confirms("\"ok\"", &book));
}

#[test]
fn requests_name_the_token_where_they_must() {
    let market = Deribit::new();
    assert_eq!(
        requested(&market, "public/get_time", None),
        json!({"jsonrpc": "2.0", "id": 7, "method": "public/get_time", "params": {}})
    );
    let trader = Deribit::new().credentials("id", "secret");
    let params = |deribit: &Deribit, method, params| requested(deribit, method, params)["params"].clone();
    assert_eq!(
        params(&trader, "private/buy", Some(r#" {"amount":1} "#)),
        json!({"amount": 1, "access_token": "acc"})
    );
    assert_eq!(params(&trader, "private/x", Some("{ }")), json!({"access_token": "acc"}));
    assert_eq!(params(&trader, "private/x", None), json!({"access_token": "acc"}));
    assert_eq!(params(&trader, "public/x", None), json!({}));
    // His own goes before ours.
    let own = r#"{"access_token":"other"}"#;
    assert_eq!(params(&trader, "private/x", Some(own)), json!({"access_token": "other"}));
    assert_eq!(params(&trader.clone().access_tokens(false), "private/x", None), json!({}));
    assert_eq!(params(&trader.clone().session("s"), "private/x", None), json!({}));
    assert_eq!(
        params(&trader.clone().session("s").access_tokens(true), "private/x", None),
        json!({"access_token": "acc"})
    );

    let none = Params::default();
    let context = Context::new(wall(), &none);
    let refused = trader.request(1, &Request::new("private/x"), &context, &mut String::new()).unwrap_err();
    assert!(refused.reason.contains("online"), "{refused}");
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_REQUEST));
    for (bad, why) in
        [("[1]", "object"), ("", "object"), ("{", "object"), ("{},\"id\":1", "object"), (&long, "32 kB")]
    {
        let mut out = "before".to_owned();
        let refused = trader.request(1, &Request::new("m").params(bad), &context, &mut out).unwrap_err();
        assert!(refused.reason.contains("\"m\"") && refused.reason.contains(why), "{refused}");
        assert_eq!(out, "before");
    }
}

#[test]
fn the_farewell_keeps_orders() {
    let farewell =
        |deribit: &Deribit, tokens| written(|context, out| _ = deribit.farewell(7, context, out), tokens);
    let trader = Deribit::new().credentials("id", "secret");
    assert_eq!(
        farewell(&trader, Some(TOKENS)),
        json!({"jsonrpc": "2.0", "id": 7, "method": "private/logout", "params": {"invalidate_token": true, "access_token": "acc"}})
    );
    let session = trader.clone().session("s").invalidate_tokens(false);
    assert_eq!(farewell(&session, Some(TOKENS))["params"], json!({"invalidate_token": false}));
    assert_eq!(farewell(&trader, None), Value::Null);
    assert_eq!(farewell(&Deribit::new(), None), Value::Null);
}

#[test]
fn what_errors_lead_to() {
    let deribit = Deribit::new();
    let error = |code: i64| format!(r#"{{"code":{code},"message":"m"}}"#);
    let recovery = |code| deribit.recovery(Fault::Authentication(&error(code)));
    assert_eq!(recovery(13004), Some(Recovery::Reauthenticate));
    assert_eq!(recovery(13009), Some(Recovery::Reauthenticate));
    assert_eq!(recovery(10028), Some(Recovery::Backoff(Duration::from_secs(5))));
    assert_eq!(recovery(11051), Some(Recovery::Backoff(Duration::from_secs(30))));
    assert_eq!(recovery(1), None);
    assert_eq!(deribit.recovery(Fault::Subscription(&error(13778))), Some(Recovery::Stop));
    assert_eq!(
        deribit.recovery(Fault::Preparation(&error(10049))),
        Some(Recovery::Backoff(Duration::from_secs(1)))
    );
    // Of the errors of a request only the one that ends the session is the session's business.
    let request = |code| deribit.recovery(Fault::Request(&error(code)));
    assert_eq!(request(10028), Some(Recovery::Backoff(Duration::from_secs(5))));
    assert_eq!([13009, 13004, 11051, 10066, 1].map(request), [None; 5]);
    assert_eq!(deribit.recovery(Fault::Closed(1000, "")), None);
    let terminated = Fault::Closed(1008, "too_many_requests");
    assert_eq!(deribit.recovery(terminated), Some(Recovery::Backoff(Duration::from_secs(5))));
}

#[test]
fn books_are_chains() {
    let topic = book("X", Interval::Raw);
    assert!(Deribit::new().tracker(&trades("X", Interval::Raw)).is_none());
    assert!(Deribit::new().tracker(&book_depth("X", "none", 10, Interval::Ms100)).is_none());
    let change = |previous, number| Some(Sequence::new(number).previous(previous));
    let snapshot = |number| Some(Sequence::new(number).snapshot());
    let corrupt = |found: &Continuity| matches!(found, Continuity::Corrupt { .. });

    let mut lenient = Deribit::new().tracker(&topic).unwrap();
    assert_eq!(lenient.check(change(4, 5), ""), Continuity::Continues);
    assert_eq!(lenient.check(change(5, 9), ""), Continuity::Continues);
    assert_eq!(lenient.check(change(10, 11), ""), Continuity::Gap { expected: 9, got: 10 });
    assert_eq!(lenient.check(snapshot(3), ""), Continuity::Continues);
    assert_eq!(lenient.check(change(3, 4), ""), Continuity::Continues);
    assert!(corrupt(&lenient.check(None, "")));

    let mut strict = Deribit::new().snapshot_first(true).tracker(&topic).unwrap();
    assert!(corrupt(&strict.check(change(4, 5), "")));
    assert_eq!(strict.check(change(5, 6), ""), Continuity::Continues, "told once");
    let mut strict = Deribit::new().snapshot_first(true).tracker(&topic).unwrap();
    assert_eq!(strict.check(snapshot(5), ""), Continuity::Continues);
    assert_eq!(strict.check(change(5, 6), ""), Continuity::Continues);
}

#[test]
fn a_config_is_ready() {
    let config = Deribit::new().credentials("id", "top-secret").config(TESTNET).unwrap();
    assert!(!format!("{config:?}").contains("top-secret"));
    assert!(Deribit::new().config("http://x").is_err());
    assert!(Deribit::new().config(PRODUCTION).is_ok());
    assert_eq!(Deribit::new().topics_per_message(0).batch, 1);
}

/// What a protocol is given to write with holds tokens, and whoever logs it must not show them.
#[test]
fn a_context_shows_no_token() {
    let params = Params::default();
    let context = Context::new(wall(), &params).authenticated(Some(TOKENS));
    let shown = format!("{context:?}");
    assert!(
        !shown.contains("acc") && !shown.contains("ref") && shown.contains("authenticated: true"),
        "{shown}"
    );
}
