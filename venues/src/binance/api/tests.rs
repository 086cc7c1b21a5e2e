use super::*;
use everwire_core::Params as NoParams;
use everwire_core::protocol::OwnedRpcError;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The key and secret that the documents show ("SIGNED request example (HMAC)").
const KEY: &str = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A";
const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
const AT: Duration = Duration::from_millis(1_645_423_376_532);

fn context<R>(f: impl FnOnce(&Context<'_>) -> R) -> R {
    f(&Context::new(SystemTime::UNIX_EPOCH + AT, &NoParams::default()))
}

fn request(api: &BinanceApi, method: &str, params: Option<&str>) -> Result<String, Unsupported> {
    let mut out = String::new();
    let request = Request { method, params };
    context(|context| api.request(1, &request, context, &mut out)).map(|()| out)
}

fn sent(api: &BinanceApi, method: &str, params: Option<&str>) -> Value {
    serde_json::from_str(&request(api, method, params).unwrap()).unwrap()
}

fn hmac() -> BinanceApi {
    BinanceApi::spot().hmac(KEY, SECRET)
}

#[test]
fn signs_as_the_documents_show() {
    let params = r#"{"symbol":"BTCUSDT","side":"SELL","type":"LIMIT","timeInForce":"GTC","quantity":"0.01000000","price":"52000.00","newOrderRespType":"ACK","recvWindow":100}"#;
    let sent = request(&hmac(), "order.place", Some(params)).unwrap();
    let expected = format!(
        r#"{{"id":1,"method":"order.place","params":{{"apiKey":"{KEY}","newOrderRespType":"ACK","price":"52000.00","quantity":"0.01000000","recvWindow":100,"side":"SELL","symbol":"BTCUSDT","timeInForce":"GTC","timestamp":1645423376532,"type":"LIMIT","signature":"cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a"}}}}"#
    );
    assert_eq!(sent, expected);
    // The typed one comes to the same, but for the window.
    let order = NewOrder::limit("btcusdt", Side::Sell, "0.01000000", "52000.00").ack();
    let typed = serde_json::to_string(&order).unwrap();
    let api = hmac().recv_window(Duration::from_millis(100));
    assert_eq!(request(&api, "order.place", Some(&typed)).unwrap(), expected);
}

#[test]
fn each_method_gets_what_it_wants() {
    let api = hmac();
    assert_eq!(sent(&api, "time", None), json!({"id": 1, "method": "time"}));
    assert_eq!(sent(&api, "depth", Some(r#"{"limit":5}"#))["params"], json!({"limit": 5}));
    let start = sent(&api, "userDataStream.start", None);
    assert_eq!(start["params"], json!({"apiKey": KEY}));
    for method in [
        "order.cancel",
        "v2/account.status",
        "allOrders",
        "openOrders.cancelAll",
        "sor.order.test",
        "myTrades",
    ] {
        let params = &sent(&api, method, None)["params"];
        assert_eq!(params["timestamp"], 1_645_423_376_532_u64, "{method}");
        assert_eq!((&params["apiKey"], params["signature"].as_str().unwrap().len()), (&json!(KEY), 64));
    }
    // What is there is left alone.
    let own = r#"{"apiKey":"k","timestamp":7,"signature":"s"}"#;
    assert_eq!(sent(&api, "order.place", Some(own))["params"], serde_json::from_str::<Value>(own).unwrap());
    let time = sent(&api, "order.status", Some(r#"{"timestamp":7}"#));
    assert_eq!(time["params"]["timestamp"], 7);
    // Escapes are signed as what they stand for.
    let escaped = sent(&api, "order.status", Some(r#"{"a":"\u0041&","b":true}"#));
    let plain = sent(&api, "order.status", Some(r#"{"b":true,"a":"A&"}"#));
    assert_eq!(escaped["params"]["signature"], plain["params"]["signature"]);
    for (method, params, reason) in [
        ("order.place", Some("[1]"), "not a JSON object"),
        ("order.place", Some("{"), "not a JSON object"),
        ("order.place", Some(r#"{"x":["a"]}"#), "cannot be signed"),
    ] {
        let error = request(&api, method, params).unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
    }
    let error = request(&BinanceApi::spot(), "order.place", None).unwrap_err();
    assert!(error.reason.contains("needs an API key"), "{error}");
}

#[test]
fn logs_on_by_callback() {
    let api = BinanceApi::spot().ed25519("key", |text| Ok::<_, String>(format!("<{text}>")));
    let mut out = String::new();
    let ack = context(|context| api.authenticate(3, context, &mut out)).unwrap();
    assert_eq!(ack, Ack::Response);
    let logon: Value = serde_json::from_str(&out).unwrap();
    let expected = json!({"id": 3, "method": "session.logon", "params": {
        "apiKey": "key", "timestamp": 1_645_423_376_532_u64, "signature": "<apiKey=key&timestamp=1645423376532>",
    }});
    assert_eq!(logon, expected);
    let order = sent(&api, "order.cancel", Some(r#"{"symbol":"X"}"#));
    assert_eq!(order["params"], json!({"symbol": "X", "timestamp": 1_645_423_376_532_u64}));
    out.clear();
    context(|context| api.subscribe(4, &[&user_data()], context, &mut out)).unwrap();
    assert_eq!(out, r#"{"id":4,"method":"userDataStream.subscribe"}"#);
    // One that cannot sign fails the attempt, with the reason.
    let broken = BinanceApi::spot().ed25519("key", |_| Err("the module is locked"));
    let error = context(|context| broken.authenticate(1, context, &mut out)).unwrap_err();
    assert_eq!(error.reason, "it cannot be signed: the module is locked");
    // Without logging on there is nothing to authenticate, and the stream is asked for by a signature.
    out.clear();
    assert_eq!(context(|context| hmac().authenticate(1, context, &mut out)), Ok(Ack::None));
    assert_eq!(out, "");
    context(|context| hmac().subscribe(4, &[&user_data()], context, &mut out)).unwrap();
    let subscribe: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(subscribe["method"], "userDataStream.subscribe.signature");
    assert_eq!(subscribe["params"].as_object().unwrap().len(), 3);
    for (api, topic) in [(hmac(), "btcusdt@trade"), (BinanceApi::usd_futures(), "userDataStream")] {
        assert!(context(|context| api.subscribe(1, &[&topic.into()], context, &mut out)).is_err());
    }
}

#[test]
fn each_answer_is_what_it_is() {
    let api = BinanceApi::spot();
    let good = r#"{"id":9,"status":200,"result":{"orderId":1},"rateLimits":[]}"#;
    let bad = r#"{"id":8,"status":400,"error":{"code":-2010,"msg":"Account has insufficient balance for requested action."}}"#;
    assert_eq!(api.classify(good), Inbound::Response { id: 9, result: Ok(r#"{"orderId":1}"#) });
    assert_eq!(api.clone().rate_limits(true).classify(good), Inbound::Response { id: 9, result: Ok(good) });
    assert_eq!(api.classify(bad), Inbound::Response { id: 8, result: Err(bad) });
    let read = api.error(bad);
    assert_eq!((read.code, read.data), (-2010, Some(bad)));
    let revoked = r#"{"id":null,"status":401,"error":{"code":-2015,"msg":"no"}}"#;
    let notice =
        Inbound::Notice { text: r#"{"code":-2015,"msg":"no"}"#, recovery: Some(Recovery::Reauthenticate) };
    assert_eq!(api.classify(revoked), notice);
    let nobody = r#"{"id":null,"status":400,"error":{"code":-1135,"msg":"Invalid JSON Request"}}"#;
    assert_eq!(api.classify(nobody), Inbound::Refused(nobody));
    let event = r#"{"subscriptionId":0,"event":{"e":"executionReport","E":1499405658658,"s":"ETHBTC"}}"#;
    let told = Inbound::Message {
        topic: Some("userDataStream".into()),
        sequence: None,
        sent: Some(Duration::from_millis(1_499_405_658_658)),
    };
    assert_eq!(api.classify(event), told);
    let ended = r#"{"subscriptionId":0,"event":{"e":"eventStreamTerminated","E":1728973001334}}"#;
    assert_eq!(api.classify(ended), Inbound::Unsubscribed { topic: "userDataStream".into() });
    let shutdown = r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#;
    let notice = Inbound::Notice { text: "serverShutdown", recovery: Some(Recovery::Reconnect) };
    assert_eq!(api.classify(shutdown), notice);
    for text in ["", "[]", r#"{"id":"x","status":200,"result":{}}"#, r#"{"status":200}"#] {
        assert_eq!(api.classify(text), Inbound::other(), "{text}");
    }
}

#[test]
fn answers_tell_the_limits() {
    let text = r#"{"id":1,"status":418,"error":{"code":-1003,"msg":"Way too much request weight used; IP banned until 1659146400000.","data":{"serverTime":1659142907531,"retryAfter":1659146400000}},"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":2411},5]}"#;
    let error = OwnedRpcError { data: Some(text.to_owned()), ..OwnedRpcError::new(-1003, "m") };
    let read = ApiError::of(&error).unwrap();
    assert_eq!((read.status, read.is_execution_unknown()), (418, false));
    assert_eq!(read.retry_after, Some(Duration::from_millis(1_659_146_400_000)));
    assert_eq!(read.server_time, Some(Duration::from_millis(1_659_142_907_531)));
    let [limit] = &read.rate_limits[..] else { panic!("{read:?}") };
    assert_eq!((limit.limit, limit.count, limit.per()), (6000, 2411, Some(Duration::from_secs(60))));
    assert_eq!(ApiError::of(&OwnedRpcError::new(1, "m")), None);

    let text = r#"{"id":1,"status":200,"result":{"serverTime":5},"rateLimits":[{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":50,"count":12}]}"#;
    let answer = Answer::parse(text).unwrap();
    assert_eq!((answer.status, answer.result()), (200, Some(r#"{"serverTime":5}"#)));
    assert_eq!(answer.result_as::<Value>(), Some(json!({"serverTime": 5})));
    assert_eq!(answer.rate_limits()[0].per(), Some(Duration::from_secs(10)));
    for text in ["", "[200]", r#"{"status":"x"}"#] {
        assert!(Answer::parse(text).is_none());
    }
}

#[test]
fn what_may_have_been_carried_out() {
    for (status, code, unknown) in
        [(500, -1007, true), (400, -1007, true), (503, -1008, true), (400, -2010, false), (429, -1015, false)]
    {
        let data = format!(r#"{{"id":1,"status":{status},"error":{{"code":{code},"msg":"m"}}}}"#);
        let refused = Refused::from(OwnedRpcError { data: Some(data), ..OwnedRpcError::new(code, "m") });
        assert_eq!(refused.is_execution_unknown(), unknown, "{status} {code}");
        assert_eq!(refused.to_string().contains("may have been carried out"), unknown);
    }
    // What cannot be read is not known.
    assert!(Refused::from(OwnedRpcError::new(0, "m")).is_execution_unknown());
}

#[test]
fn limits_count_requests_and_nothing_else() {
    let api = BinanceApi::spot().account("main").orders(10, Duration::from_secs(1)).weight(100);
    let limits = api.limits();
    assert!(limits.iter().all(|limit| limit.validate().is_ok()));
    assert_eq!(limits[1].account(), Some("binance main"));
    for (traffic, weight, orders) in [
        (Traffic::Ping, 0, 0),
        (Traffic::Close, 0, 0),
        (Traffic::Authenticate, 2, 0),
        (Traffic::Subscribe(1), 2, 0),
        (Traffic::Request("order.place"), 1, 1),
        (Traffic::Request("v3/order.place"), 1, 1),
        (Traffic::Request("orderList.place.otoco"), 1, 3),
        (Traffic::Request("order.cancel"), 1, 0),
        (Traffic::Request("exchangeInfo"), 20, 0),
    ] {
        assert_eq!(
            (api.cost("weight", traffic), api.cost("orders", traffic)),
            (weight, orders),
            "{traffic:?}"
        );
    }
}

#[test]
fn shows_no_secret() {
    let shown = format!("{:?}", hmac());
    assert!(!shown.contains(KEY) && !shown.contains(SECRET), "{shown}");
    let config = hmac().config(super::super::SPOT_API).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains(KEY) && !shown.contains(SECRET), "{shown}");
}
