//! The protocol, message by message. The frames are those of bybit-exchange.github.io/docs/v5.

use super::*;
use everwire_core::{Continuity, Params};
use std::time::SystemTime;

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_711_001_595_207)
}

fn written(write: impl FnOnce(&Context<'_>, &mut String)) -> Value {
    let params = Params::default();
    let mut out = String::new();
    write(&Context::new(wall(), &params), &mut out);
    if out.is_empty() { Value::Null } else { serde_json::from_str(&out).unwrap() }
}

fn linear() -> Bybit {
    Bybit::public(Category::Linear)
}

#[test]
fn data_of_topics() {
    let snapshot = r#"{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1672304484978,"data":{"s":"BTCUSDT","b":[["16493.50","0.006"]],"a":[],"u":18521288,"seq":7961638724},"cts":1672304484976}"#;
    let sent = Some(Duration::from_millis(1_672_304_484_978));
    let topic = Some("orderbook.50.BTCUSDT".into());
    let sequence = Some(Sequence::new(18_521_288).snapshot());
    assert_eq!(linear().classify(snapshot), Inbound::Message { topic, sequence, sent });
    let delta =
        r#"{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"u":177400507,"seq":66544703342}}"#;
    let Inbound::Message { sequence, .. } = linear().classify(delta) else { panic!("data") };
    assert_eq!(sequence, Some(Sequence::new(177_400_507)));
    let trade = r#"{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT","u":1,"seq":1783284617}]}"#;
    let Inbound::Message { topic, sequence, .. } = linear().classify(trade) else { panic!("data") };
    assert_eq!((topic, sequence), (Some("publicTrade.BTCUSDT".into()), None));
    let order = r#"{"id":"5923240c6880ab-c59f","topic":"order","creationTime":1672364262474,"data":[{"symbol":"ETH-30DEC22-1400-C"}]}"#;
    let Inbound::Message { topic, sent, .. } = Bybit::private("k", "s").classify(order) else {
        panic!("data")
    };
    assert_eq!((topic, sent), (Some("order".into()), Some(Duration::from_millis(1_672_364_262_474))));
}

#[test]
fn pongs_of_every_shape() {
    let private = Bybit::private("k", "s");
    let spot = r#"{"success":true,"ret_msg":"pong","conn_id":"0970e817","op":"ping"}"#;
    assert_eq!(Bybit::public(Category::Spot).classify(spot), Inbound::HeartbeatAnswer);
    let linear_pong = r#"{"success":true,"ret_msg":"pong","conn_id":"0970e817","req_id":"17","op":"ping"}"#;
    assert_eq!(linear().classify(linear_pong), Inbound::Response { id: 17, result: Ok(linear_pong) });
    let option = r#"{"args":["1672916271846"],"op":"pong"}"#;
    assert_eq!(Bybit::public(Category::Option).classify(option), Inbound::HeartbeatAnswer);
    let of_private =
        r#"{"req_id":"test","op":"pong","args":["1675418560633"],"conn_id":"cfcb4ocsvfriu23r3er0-1b"}"#;
    assert_eq!(private.classify(of_private), Inbound::HeartbeatAnswer);
    let trade = r#"{"retCode":0,"retMsg":"OK","op":"pong","data":["1711002002529"],"connId":"cnt5leec0hvan15eukcg-2v"}"#;
    assert_eq!(Bybit::trade("k", "s").classify(trade), Inbound::HeartbeatAnswer);
    assert_eq!(
        written(|context, out| assert_eq!(private.heartbeat(17, context, out), Ack::Response)),
        json!({"req_id": "17", "op": "ping"})
    );
}

#[test]
fn answers_belong_to_their_request() {
    let good =
        r#"{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","req_id":"10001","op":"subscribe"}"#;
    assert_eq!(linear().classify(good), Inbound::Response { id: 10_001, result: Ok(good) });
    assert!(linear().confirms(good, &orderbook(50, "X")));
    let bad = r#"{"success":false,"ret_msg":"Invalid symbol :[tickers.X]","conn_id":"1","req_id":"5","op":"subscribe"}"#;
    assert_eq!(linear().classify(bad), Inbound::Response { id: 5, result: Err(bad) });
    assert_eq!(linear().error(bad).message, "Invalid symbol :[tickers.X]");
    let twice = r#"{"success":false,"ret_msg":"error:already subscribed,topic:tickers.X","req_id":"5","op":"subscribe"}"#;
    assert_eq!(linear().classify(twice), Inbound::Response { id: 5, result: Ok(twice) });

    // One without an id is nobody's, unless it lists topics.
    let nobodys = r#"{"success":true,"ret_msg":"","op":"subscribe","conn_id":"cejreassvfrsfvb9v1a0-2m"}"#;
    assert_eq!(linear().classify(nobodys), Inbound::other());
    assert_eq!(linear().acks_without_id(true).classify(nobodys), Inbound::Confirmed(nobodys));
    let refused = r#"{"success":false,"ret_msg":"no","op":"subscribe","conn_id":"1"}"#;
    assert_eq!(linear().classify(refused), Inbound::Refused(refused));
    let listed = r#"{"success":true,"conn_id":"aa01","data":{"failTopics":["b"],"successTopics":["a"]},"type":"COMMAND_RESP"}"#;
    let option = Bybit::public(Category::Option);
    assert_eq!(option.classify(listed), Inbound::Confirmed(listed));
    assert!(option.confirms(listed, &Topic::new("a")) && !option.confirms(listed, &Topic::new("b")));
}

#[test]
fn authentication() {
    let private = Bybit::private("key", "top-secret");
    let auth = written(|context, out| assert_eq!(private.authenticate(7, context, out), Ok(Ack::Separate)));
    let signature = Secret::new("top-secret").hmac_hex("GET/realtime1711001605207");
    let args = json!(["key", 1_711_001_605_207_u64, signature]);
    assert_eq!(auth, json!({"req_id": "7", "op": "auth", "args": args}));
    let trade = Bybit::trade("key", "top-secret");
    assert_eq!(
        written(|context, out| _ = trade.authenticate(7, context, out).unwrap()),
        json!({"reqId": "7", "op": "auth", "args": args})
    );
    assert_eq!(
        written(|context, out| assert_eq!(linear().authenticate(7, context, out), Ok(Ack::None))),
        Value::Null
    );
    let signed = private.clone().signed_by(|text| Ok(text.to_uppercase()));
    let auth = written(|context, out| _ = signed.authenticate(7, context, out).unwrap());
    assert_eq!(auth["args"][2], "GET/REALTIME1711001605207");
    let fails = private.clone().signed_by(|_| Err("no such slot".to_owned()));
    let none = Params::default();
    let refused = fails.authenticate(7, &Context::new(wall(), &none), &mut String::new()).unwrap_err();
    assert!(refused.reason.contains("no such slot"), "{refused}");
    assert!(!format!("{private:?} {trade:?}").contains("top-secret"));

    let good = r#"{"success":true,"ret_msg":"","op":"auth","conn_id":"cejreaspqfh3sjdnldmg-p"}"#;
    assert_eq!(private.classify(good), Inbound::Authenticated(Ok(good)));
    let good = r#"{"retCode":0,"retMsg":"OK","op":"auth","connId":"cnt5leec0hvan15eukcg-2t","reqId":"7"}"#;
    assert_eq!(trade.classify(good), Inbound::Authenticated(Ok(good)));
    let bad = r#"{"retCode":10004,"retMsg":"Invalid sign","op":"auth","connId":"x"}"#;
    assert_eq!(trade.classify(bad), Inbound::Authenticated(Err(bad)));
    assert_eq!((trade.error(bad).code, &*trade.error(bad).message), (10_004, "Invalid sign"));
    assert_eq!(trade.recovery(Fault::Authentication(bad)), Some(Recovery::Reauthenticate));
    let bad = r#"{"success":false,"ret_msg":"error sign","op":"auth","conn_id":"x"}"#;
    assert_eq!(private.classify(bad), Inbound::Authenticated(Err(bad)));
    assert_eq!(private.recovery(Fault::Authentication(bad)), None);
}

#[test]
fn orders_are_asked_for_and_answered() {
    let trade = Bybit::trade("k", "s").recv_window(Duration::from_secs(8));
    let order = serde_json::to_string(
        &NewOrder::limit(Category::Linear, "ETHUSDT", "Buy", "0.2", "2800").post_only(),
    )
    .unwrap();
    let request = Request::new("order.create").params(&order);
    let asked = written(|context, out| trade.request(15, &request, context, out).unwrap());
    assert_eq!(
        asked,
        json!({"reqId": "17beb2e2b4709fc0-f", "header": {"X-BAPI-TIMESTAMP": "1711001595207", "X-BAPI-RECV-WINDOW": "8000"},
            "op": "order.create", "args": [{"symbol": "ETHUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.2",
            "price": "2800", "category": "linear", "timeInForce": "PostOnly"}]})
    );
    assert!(asked["reqId"].as_str().unwrap().len() <= 36);
    let amend =
        Amend { order: OrderRef::by_link_id(Category::Spot, "X", "mine"), qty: Some("2"), price: None };
    let amend = serde_json::to_value(amend).unwrap();
    assert_eq!(amend, json!({"category": "spot", "symbol": "X", "orderLinkId": "mine", "qty": "2"}));

    let good = r#"{"reqId":"17beb2e2b4709fc0-f","retCode":0,"retMsg":"OK","op":"order.create","data":{"orderId":"a4c1718e","orderLinkId":""},"retExtInfo":{},"header":{"X-Bapi-Limit":"10"},"connId":"c"}"#;
    let data = r#"{"orderId":"a4c1718e","orderLinkId":""}"#;
    assert_eq!(trade.classify(good), Inbound::Response { id: 15, result: Ok(data) });
    let batch = good.replace("order.create", "order.create-batch");
    assert_eq!(trade.classify(&batch), Inbound::Response { id: 15, result: Ok(&batch) });
    let bad = r#"{"reqId":"17beb2e2b4709fc0-f","retCode":10001,"retMsg":"bad","op":"order.create","data":{},"connId":"c"}"#;
    assert_eq!(trade.classify(bad), Inbound::Response { id: 15, result: Err(bad) });
    let error = BybitError::from(trade.error(bad).into_owned());
    assert!(error.to_string().starts_with("bad (code 10001): a parameter"), "{error}");

    let restarts = bad.replace("10001", "10019");
    assert_eq!(trade.recovery(Fault::Request(&restarts)), Some(Recovery::Reconnect));
    assert_eq!(trade.recovery(Fault::Request(bad)), None);

    let none = Params::default();
    let context = Context::new(wall(), &none);
    for (bybit, params, why) in
        [(&trade, "1", "object"), (&trade, "{", "object"), (&linear(), "{}", "Bybit::trade")]
    {
        let refused =
            bybit.request(1, &Request::new("m").params(params), &context, &mut String::new()).unwrap_err();
        assert!(refused.reason.contains(why), "{refused}");
    }
    let refused = trade.subscribe(1, &[&wallet()], &context, &mut String::new()).unwrap_err();
    assert!(refused.reason.contains("Bybit::private"), "{refused}");
    assert_eq!(trade.limits().len(), 1);
    assert_eq!(trade.cost("orders", Traffic::Request("order.create")), 1);
    assert_eq!(trade.cost("orders", Traffic::Heartbeat) + trade.cost("orders", Traffic::Authenticate), 0);
}

#[test]
fn topics_and_what_may_go_together() {
    let private = Bybit::private("k", "s");
    let all = [
        orderbook(50, "BTCUSDT"),
        trades("BTCUSDT"),
        tickers("BTCUSDT"),
        kline("5", "BTCUSDT"),
        liquidations("BTCUSDT"),
        orders(None),
        orders(Category::Spot),
        executions(None),
        positions(Category::Linear),
        wallet(),
    ];
    let names: Vec<&str> = all.iter().map(Topic::name).collect();
    assert_eq!(
        names,
        [
            "orderbook.50.BTCUSDT",
            "publicTrade.BTCUSDT",
            "tickers.BTCUSDT",
            "kline.5.BTCUSDT",
            "allLiquidation.BTCUSDT",
            "order",
            "order.spot",
            "execution",
            "position.linear",
            "wallet",
        ]
    );
    assert!(
        !private.shares(&all[5], &all[6])
            && private.shares(&all[5], &all[9])
            && private.shares(&all[6], &all[8])
    );
    assert!(linear().shares(&all[0], &all[1]));
    let asked = written(|context, out| {
        assert_eq!(linear().subscribe(3, &[&all[0], &all[1]], context, out), Ok(Ack::Response));
    });
    assert_eq!(asked, json!({"req_id": "3", "op": "subscribe", "args": [names[0], names[1]]}));
    let spot = Bybit::public(Category::Spot);
    assert_eq!((Protocol::topics_per_message(&spot), Protocol::topics_per_message(&linear())), (10, 100));
    assert_eq!(
        (Protocol::topics_per_connection(&spot), Protocol::topics_per_connection(&private)),
        (Some(500), None)
    );
    let least = linear().topics_per_message(0).topics_per_connection(0);
    assert_eq!((Protocol::topics_per_message(&least), Protocol::topics_per_connection(&least)), (1, Some(1)));
}

#[test]
fn books_are_watched_if_that_is_wanted() {
    assert!(linear().tracker(&orderbook(50, "X")).is_none());
    let watched = linear().watch_books(true);
    assert!(watched.tracker(&orderbook(1, "X")).is_none() && watched.tracker(&trades("X")).is_none());
    let mut tracker = watched.tracker(&orderbook(50, "X")).unwrap();
    assert_eq!(tracker.check(Some(Sequence::new(9).snapshot()), ""), Continuity::Continues);
    assert_eq!(tracker.check(Some(Sequence::new(10)), ""), Continuity::Continues);
    assert_eq!(tracker.check(Some(Sequence::new(12)), ""), Continuity::Gap { expected: 11, got: 12 });
    // The service was restarted.
    assert_eq!(tracker.check(Some(Sequence::new(1).snapshot()), ""), Continuity::Continues);
}

#[test]
fn configs() {
    let private = Bybit::private("k", "top-secret").max_active_time(Duration::from_secs(1));
    assert_eq!(private.path(), "/v5/private?max_active_time=30s");
    assert_eq!(Bybit::trade("k", "s").path(), "/v5/trade");
    assert_eq!(linear().max_active_time(Duration::from_secs(60)).path(), "/v5/public/linear");
    let config = private.config(TESTNET).unwrap();
    assert!(!format!("{config:?}").contains("top-secret"));
    assert!(private.config("nonsense").is_err() && private.config("wss://stream.bybit.com/").is_ok());
}

/// Whatever comes: no panic, and what is told is what `serde_json` reads.
#[test]
fn texts_that_are_broken_in_any_way() {
    let frames = [
        r#"{"topic":"orderbook.50.X","type":"snapshot","ts":5,"data":{"s":"X","b":[["1","2"]],"u":7,"seq":9},"cts":4}"#,
        r#"{"success":true,"ret_msg":"a\u0041","conn_id":"2","req_id":"12","op":"subscribe"}"#,
        r#"{"reqId":"18-12","retCode":0,"retMsg":"OK","op":"order.create","data":{"orderId":"a"},"header":{}}"#,
    ];
    let pool: Vec<char> = "{}[]\",:\\0123456789eE+-.nulltrfas idmechgpr\u{e9}\u{1f600}\n".chars().collect();
    let mut state = 1_u64;
    let mut dice = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let trade = Bybit::trade("k", "s");
    let (mut topics, mut responses) = (0, 0);
    for _ in 0..40_000 {
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
        let _ = (trade.error(&text), trade.confirms(&text, &wallet()), trade.classify(&text));
        match linear().classify(&text) {
            Inbound::Message { topic: Some(topic), sequence, sent } => {
                topics += 1;
                let read = read.unwrap();
                assert_eq!(read["topic"], topic.to_string(), "{text}");
                assert_eq!(
                    read["ts"].as_u64(),
                    sent.map(|sent| u64::try_from(sent.as_millis()).unwrap()),
                    "{text}"
                );
                if let Some(sequence) = sequence {
                    assert_eq!(read["data"]["u"].as_u64(), Some(sequence.last), "{text}");
                    assert_eq!(read["type"] == "snapshot", sequence.snapshot, "{text}");
                }
            }
            Inbound::Response { id, .. } => {
                responses += 1;
                let read = read.unwrap();
                let name = read.get("req_id").or_else(|| read.get("reqId")).and_then(Value::as_str).unwrap();
                assert_eq!(number(name), Some(id), "{text}");
            }
            _ => {}
        }
    }
    assert!(topics > 2000 && responses > 2000, "{topics} {responses}");
}
