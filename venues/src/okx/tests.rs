use super::*;
use crate::binance::testing::{Dice, spoil};
use everwire_core::{Continuity, Params, Sequence};

const SNAPSHOT: &str = r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["67500.2","1.20","0","3"]],"bids":[],"ts":"1785096000123","checksum":0,"prevSeqId":-1,"seqId":450001}]}"#;
const UPDATE: &str = r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],"bids":[["1","2","0","1"]],"ts":"1785096000223","checksum":5,"prevSeqId":450001,"seqId":450007}]}"#;
const TICKER: &str = r#"{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT","last":"67500.1","ts":"1785096000123"}]}"#;
const ORDERS: &str = r#"{"arg":{"channel":"orders","instType":"ANY","uid":"614"},"data":[{"ordId":"1"}]}"#;
const SUBSCRIBED: &str =
    r#"{"id":"12","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}"#;
const UNSUBSCRIBED: &str =
    r#"{"event":"unsubscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"a4d3ae55"}"#;
const REFUSED: &str = r#"{"id":"12","event":"error","code":"60018","msg":"Wrong URL or channel:x,instId:y doesn't exist.","connId":"a4d3ae55"}"#;
const LOGIN: &str = r#"{"event":"login","code":"0","msg":"","connId":"a4d3ae55"}"#;
const LOGIN_FAILED: &str = r#"{"event":"error","code":"60009","msg":"Login failed.","connId":"a4d3ae55"}"#;
const NOTICE: &str = r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"a4d3ae55"}"#;
const COUNT: &str =
    r#"{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"a4d3ae55"}"#;
const TOO_MANY: &str =
    r#"{"event":"channel-conn-count-error","channel":"orders","connCount":"30","connId":"a4d3ae55"}"#;
const PLACED: &str = r#"{"id":"15","op":"order","data":[{"clOrdId":"","ordId":"12345689","tag":"","sCode":"0","sMsg":""}],"code":"0","msg":"","inTime":"1","outTime":"2"}"#;
const NOT_PLACED: &str = r#"{"id":"15","op":"order","data":[{"clOrdId":"","ordId":"","sCode":"51008","sMsg":"Order failed. Insufficient balance."}],"code":"1","msg":"","inTime":"1","outTime":"2"}"#;
const BAD_ARGS: &str = r#"{"id":"15","op":"order","data":[],"code":"60013","msg":"Invalid args"}"#;
const ALL: [&str; 15] = [
    SNAPSHOT,
    UPDATE,
    TICKER,
    ORDERS,
    SUBSCRIBED,
    UNSUBSCRIBED,
    REFUSED,
    LOGIN,
    LOGIN_FAILED,
    NOTICE,
    COUNT,
    TOO_MANY,
    PLACED,
    NOT_PLACED,
    BAD_ARGS,
];

fn read(text: &str) -> Inbound<'_> {
    // It has nothing to do with what is read.
    Okx { credentials: None, per_message: 1, orders: (1, HOUR) }.classify(text)
}

fn written(write: impl FnOnce(&Context<'_>, &mut String)) -> String {
    let (params, mut out) = (Params::default(), String::new());
    write(
        &Context::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1_704_876_947_900), &params),
        &mut out,
    );
    out
}

#[test]
fn each_shape_is_what_it_is() {
    let topic = |name: &'static str| Some(name.into());
    let ms = |ms| Some(Duration::from_millis(ms));
    let snapshot = Sequence::new(450_001).snapshot();
    let update = Sequence::new(450_007).previous(450_001);
    let data = |topic, sequence, sent| Inbound::Message { topic, sequence, sent };
    assert_eq!(read(SNAPSHOT), data(topic("books:BTC-USDT"), Some(snapshot), ms(1_785_096_000_123)));
    assert_eq!(read(UPDATE), data(topic("books:BTC-USDT"), Some(update), ms(1_785_096_000_223)));
    assert_eq!(read(TICKER), data(topic("tickers:BTC-USDT"), None, ms(1_785_096_000_123)));
    assert_eq!(read(ORDERS), data(topic("orders:ANY"), None, None));
    let subscribed = |id, result| Inbound::Subscribed { topic: "books:BTC-USDT".into(), id, result };
    assert_eq!(read(SUBSCRIBED), subscribed(Some(12), Ok(())));
    assert_eq!(read(&SUBSCRIBED.replace(r#""id":"12","#, "")), subscribed(None, Ok(())));
    assert_eq!(read(UNSUBSCRIBED), Inbound::Unsubscribed { topic: "tickers:BTC-USDT".into() });
    assert_eq!(read(REFUSED), Inbound::Response { id: 12, result: Err(REFUSED) });
    let anonymous = REFUSED.replace(r#""id":"12","#, "");
    assert_eq!(read(&anonymous), Inbound::Refused(&anonymous));
    assert_eq!(read(LOGIN), Inbound::Authenticated(Ok(LOGIN)));
    assert_eq!(read(LOGIN_FAILED), Inbound::Authenticated(Err(LOGIN_FAILED)));
    let said = "The connection will soon be closed for a service upgrade. Please reconnect.";
    assert_eq!(read(NOTICE), Inbound::Notice { text: said, recovery: Some(Recovery::Reconnect) });
    assert_eq!(read(COUNT), Inbound::Notice { text: COUNT, recovery: None });
    let wait = Recovery::Backoff(Duration::from_secs(60));
    assert_eq!(read(TOO_MANY), Inbound::Notice { text: TOO_MANY, recovery: Some(wait) });
    let placed = r#"[{"clOrdId":"","ordId":"12345689","tag":"","sCode":"0","sMsg":""}]"#;
    assert_eq!(read(PLACED), Inbound::Response { id: 15, result: Ok(placed) });
    assert_eq!(read(NOT_PLACED), Inbound::Response { id: 15, result: Err(NOT_PLACED) });
    assert_eq!(read("pong"), Inbound::HeartbeatAnswer);
    for odd in
        ["", "ping", "[]", "{}", r#"{"event":"x"}"#, r#"{"id":"+5","op":"order"}"#, r#"{"arg":5,"data":[]}"#]
    {
        assert_eq!(read(odd), Inbound::other(), "{odd}");
    }
    let escaped = TICKER.replacen("BTC", r"\u0042TC", 1);
    assert_eq!(read(&escaped), data(topic("tickers"), None, ms(1_785_096_000_123)), "it is not lost");
}

#[test]
fn errors_say_what_they_say() {
    let okx = Okx::new();
    let of = |text| {
        let error = okx.error(text);
        (error.code, error.message.into_owned())
    };
    assert_eq!(of(REFUSED), (60018, "Wrong URL or channel:x,instId:y doesn't exist.".to_owned()));
    assert_eq!(of(NOT_PLACED), (51008, "Order failed. Insufficient balance.".to_owned()));
    assert_eq!(of(BAD_ARGS), (60013, "Invalid args".to_owned()));
    assert_eq!(of("x"), (0, "x".to_owned()));
    let recovery = |fault| okx.recovery(fault);
    assert_eq!(recovery(Fault::Subscription(REFUSED)), Some(Recovery::Stop));
    assert_eq!(recovery(Fault::Authentication(LOGIN_FAILED)), Some(Recovery::Reauthenticate));
    assert_eq!(recovery(Fault::Closed(4004, "No data received in 30s")), Some(Recovery::Reconnect));
    assert_eq!(recovery(Fault::Closed(4001, "Login Failed")), Some(Recovery::Reauthenticate));
    assert_eq!(recovery(Fault::Closed(4008, "")), Some(Recovery::Backoff(Duration::from_secs(60))));
    assert_eq!(recovery(Fault::Closed(1000, "")), None);
    assert!(explain(60018).is_some() && explain(1).is_none());
    // What a login is refused with is told apart from the rest.
    for code in ["60004", "60005", "60007", "60009", "60024", "60032"] {
        assert!(errors::is_of_login(code) && explain(code.parse().unwrap()).is_some());
    }
    assert!(!errors::is_of_login("60018"));
}

/// Whatever is read into, nothing panics, and parts are of the text.
#[test]
fn never_panics() {
    let mut dice = Dice::new(11);
    let (mut data, mut other) = (0, 0);
    for n in 0..30_000 {
        let text = spoil(ALL[n % ALL.len()], &mut dice);
        let within = |part: &str| text.as_bytes().as_ptr_range().contains(&part.as_ptr()) || part.is_empty();
        match read(&text) {
            Inbound::Message { topic: Some(topic), .. } => {
                data += 1;
                assert!(topic.to_string().split(':').all(|part| text.contains(part)), "{text}");
            }
            Inbound::Response { result: Ok(part) | Err(part), .. }
            | Inbound::Refused(part)
            | Inbound::Authenticated(Ok(part) | Err(part))
            | Inbound::Notice { text: part, .. } => {
                let _ = read_error(part);
                assert!(within(part), "{text}");
            }
            _ => other += 1,
        }
        // What is an object at all is read as one.
        let tree: Option<Value> = serde_json::from_str(&text).ok().filter(Value::is_object);
        if let Some(tree) = tree {
            let read = Envelope::read(&text).expect("it is an object");
            if let Some(event) = read.event {
                assert_eq!(tree["event"], event, "{text}");
            }
            let sequence = read.data.sequence().map(|sequence| sequence.last);
            if tree["data"][0]["prevSeqId"].is_i64() {
                let expected = tree["data"][0]["seqId"].as_u64().filter(|id| i64::try_from(*id).is_ok());
                assert_eq!(sequence, expected, "{text}");
            }
        }
    }
    assert!(data > 3000 && other > 3000, "{data} {other}");
}

#[test]
fn says_what_the_documents_say() {
    let okx = Okx::new().credentials("key", "22582BD0CFF14C41EDBF1AB98506286D", "pass \"word\"");
    let login = written(|context, out| assert_eq!(okx.authenticate(1, context, out), Ok(Ack::Separate)));
    let login: Value = serde_json::from_str(&login).unwrap();
    let sign = Secret::new("22582BD0CFF14C41EDBF1AB98506286D").hmac_base64("1704876947GET/users/self/verify");
    let arg =
        json!({"apiKey": "key", "passphrase": "pass \"word\"", "timestamp": "1704876947", "sign": sign});
    assert_eq!(login, json!({"op": "login", "args": [arg]}));
    let orders =
        Channel::new("orders").inst_type("SWAP").inst_family("BTC-USD").with("extraParams", "{}").topic();
    let topics = [&books("BTC-USDT"), &orders, &"tickers:ETH-USDT".into(), &"status".into()];
    let subscribe = written(|context, out| {
        assert_eq!(okx.subscribe(7, &topics, context, out), Ok(Ack::Separate));
    });
    let expected = json!({"id": "7", "op": "subscribe", "args": [
        {"channel": "books", "instId": "BTC-USDT"},
        {"channel": "orders", "instType": "SWAP", "instFamily": "BTC-USD", "extraParams": "{}"},
        {"channel": "tickers", "instId": "ETH-USDT"},
        {"channel": "status"},
    ]});
    assert_eq!(serde_json::from_str::<Value>(&subscribe).unwrap(), expected);
    assert_eq!(orders.name(), "orders:SWAP:BTC-USD");
    let long = Topic::new("x".repeat(70_000));
    let (params, mut out) = (Params::default(), String::new());
    let context = &Context::new(SystemTime::UNIX_EPOCH, &params);
    assert!(okx.subscribe(1, &[&long], context, &mut out).is_err() && out.is_empty());
    let order =
        serde_json::to_string(&NewOrder::limit(5, Side::Buy, "0.1", "40000").client_order_id("a1")).unwrap();
    let sent =
        written(|context, out| okx.request(9, &Request::new("order").params(&order), context, out).unwrap());
    let expected = json!({"id": "9", "op": "order", "args": [
        {"instIdCode": 5, "tdMode": "cash", "side": "buy", "ordType": "limit", "sz": "0.1", "px": "40000", "clOrdId": "a1"},
    ]});
    assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), expected);
    assert!(okx.request(9, &Request::new("order").params("5"), context, &mut out).is_err());
    assert_eq!(written(|context, out| assert_eq!(okx.heartbeat(1, context, out), Ack::Response)), "ping");
    assert!(!format!("{okx:?}").contains("22582BD0"));
    let broken = Okx::new().signer("k", "p", |_| Err("locked"));
    assert_eq!(broken.authenticate(1, context, &mut out).unwrap_err().reason, "it cannot be signed: locked");
    assert_eq!(Okx::new().authenticate(1, context, &mut out), Ok(Ack::None));
}

#[test]
fn books_are_chains() {
    let okx = Okx::new();
    assert!(okx.tracker(&trades("A")).is_none() && okx.tracker(&books5("A")).is_none());
    let mut tracker = okx.tracker(&books("BTC-USDT")).unwrap();
    let mut check = |previous: i64, number: u64| {
        let text = UPDATE.replace("450001", &previous.to_string()).replace("450007", &number.to_string());
        let Inbound::Message { sequence, .. } = read(&text) else { panic!("{text}") };
        tracker.check(sequence, &text)
    };
    assert_eq!(check(-1, 10), Continuity::Continues);
    assert_eq!(check(10, 15), Continuity::Continues);
    assert_eq!(check(15, 15), Continuity::Continues, "nothing changed for a minute");
    assert_eq!(check(15, 3), Continuity::Continues, "after maintenance");
    assert_eq!(check(3, 5), Continuity::Continues);
    assert_eq!(check(6, 9), Continuity::Gap { expected: 5, got: 6 });
    assert_eq!(check(-1, 2), Continuity::Continues);
}

#[test]
fn limits_count_what_the_venue_counts() {
    let okx = Okx::new();
    assert!(okx.limits().iter().all(|limit| limit.validate().is_ok()));
    for (traffic, requests, orders) in [
        (Traffic::Authenticate, 1, 0),
        (Traffic::Subscribe(9), 1, 0),
        (Traffic::Unsubscribe(1), 1, 0),
        (Traffic::Heartbeat, 0, 0),
        (Traffic::Request("order"), 0, 1),
        (Traffic::Pong, 0, 0),
    ] {
        assert_eq!(
            (okx.cost("requests", traffic), okx.cost("orders", traffic)),
            (requests, orders),
            "{traffic:?}"
        );
    }
    assert!(okx.config(PUBLIC).is_ok() && okx.config("https://x").is_err());
}
