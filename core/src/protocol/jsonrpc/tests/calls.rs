use super::*;
use crate::Params;
use crate::session::Continuity;
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// Five seconds after the beginning of time.
fn context(params: &Params) -> Context<'_> {
    Context::new(SystemTime::UNIX_EPOCH + Duration::from_secs(5), params)
}

#[test]
fn subscribes_by_channel_name() {
    let rpc = JsonRpc::new().methods("public/\"sub", "public/unsubscribe");
    let mut out = String::new();
    assert_eq!(
        rpc.subscribe(3, &[&Topic::new("a\nb"), &Topic::new("c")], &context(&Params::default()), &mut out),
        Ok(Ack::Response)
    );
    assert_eq!(out, r#"{"jsonrpc":"2.0","id":3,"method":"public/\"sub","params":{"channels":["a\nb","c"]}}"#);
    out.clear();
    assert_eq!(
        rpc.unsubscribe(4, &[&Topic::new("c")], &context(&Params::default()), &mut out),
        Ok(Ack::Response)
    );
    assert_eq!(out, r#"{"jsonrpc":"2.0","id":4,"method":"public/unsubscribe","params":{"channels":["c"]}}"#);
    assert_eq!(Protocol::topics_per_message(&rpc.topics_per_message(0)), 1);
}

#[test]
fn results_confirm() {
    let rpc = JsonRpc::new();
    for (result, topic, confirmed) in [
        (r#"["a","b"]"#, "a", true),
        (r#"["a","b"]"#, "b", true),
        (r#"["a","b"]"#, "c", false),
        (r#"["a\/b","\u0063"]"#, "a/b", true),
        (r#"["a\/b","\u0063"]"#, "c", true),
        (" [ ] ", "c", false),
        // Not a list of names: all is well.
        ("\"ok\"", "c", true),
        ("null", "c", true),
        ("{\"a\":1}", "c", true),
        ("[1,2]", "c", true),
        (r#"["a",{}]"#, "c", true),
    ] {
        assert_eq!(rpc.confirms(result, &Topic::new(topic)), confirmed, "{result} {topic}");
    }
}

#[test]
fn batches_are_arrays_of_requests() {
    let rpc = JsonRpc::new();
    let mut out = "before".to_owned();
    let requests = [(1, Request::new("a").params("[1]")), (2, Request::new("b"))];
    rpc.batch(&requests, &context(&Params::default()), &mut out).unwrap();
    assert_eq!(
        out,
        r#"before[{"jsonrpc":"2.0","id":1,"method":"a","params":[1]},{"jsonrpc":"2.0","id":2,"method":"b"}]"#
    );
    let whole = out.clone();
    let bad = [requests[0], (2, Request::new("b").params("2"))];
    assert!(rpc.batch(&bad, &context(&Params::default()), &mut out).unwrap_err().reason.contains("\"b\""));
    assert!(
        rpc.batch(&[], &context(&Params::default()), &mut out).unwrap_err().reason.contains("no requests")
    );
    assert_eq!(out, whole);
}

#[test]
fn what_the_server_asks_can_be_answered() {
    let rpc = JsonRpc::new();
    for id in ["7", "\"a\\u0062\"", "-1.50e3", "true"] {
        let text = format!(r#"{{"id":{id},"method":"ask"}}"#);
        let Inbound::Request { id: echoed, .. } = rpc.classify(&text) else { panic!("{text}") };
        let mut out = String::new();
        rpc.respond(echoed, Ok("{}"), &mut out).unwrap();
        assert_eq!(out, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
}

#[test]
fn authentication_is_made_anew_and_kept_secret() {
    let params: Params = [("token", "t1")].into_iter().collect();
    let (count, secret) = (AtomicU32::new(0), "hunter2".to_owned());
    let rpc = JsonRpc::new().authenticate("public/auth", move |context| {
        let token = context.params.get("token").unwrap();
        let seconds = context.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let nonce = count.fetch_add(1, Ordering::Relaxed);
        format!(r#"{{"key":"{secret}","token":"{token}","at":{seconds},"nonce":{nonce}}}"#)
    });
    for nonce in 0..2 {
        let mut out = String::new();
        assert_eq!(Protocol::authenticate(&rpc.clone(), 8, &context(&params), &mut out), Ok(Ack::Response));
        let want = format!(
            r#""method":"public/auth","params":{{"key":"hunter2","token":"t1","at":5,"nonce":{nonce}}}}}"#
        );
        assert_eq!(out, format!(r#"{{"jsonrpc":"2.0","id":8,{want}"#));
    }
    let shown = format!("{rpc:?} {rpc:#?}");
    assert!(shown.contains("public/auth") && !shown.contains("hunter2"), "{shown}");

    for bad in ["", "token", "{", "1"] {
        let rpc = JsonRpc::new().authenticate("auth", move |_| bad.to_owned());
        let mut out = String::new();
        assert_eq!(Protocol::authenticate(&rpc, 8, &context(&params), &mut out), Ok(Ack::Response));
        assert_eq!(out, r#"{"jsonrpc":"2.0","id":8,"method":"auth"}"#, "{bad}");
    }
    let mut out = String::new();
    assert_eq!(Protocol::authenticate(&JsonRpc::new(), 8, &context(&params), &mut out), Ok(Ack::None));
    assert_eq!(out, "");
}

#[test]
fn heartbeats_of_ours() {
    let mut out = String::new();
    assert_eq!(Protocol::heartbeat(&JsonRpc::new(), 2, &context(&Params::default()), &mut out), Ack::None);
    assert_eq!(out, "");
    let rpc = JsonRpc::new().heartbeat("public/test", None).unwrap();
    assert_eq!(Protocol::heartbeat(&rpc, 2, &context(&Params::default()), &mut out), Ack::Response);
    assert_eq!(out, r#"{"jsonrpc":"2.0","id":2,"method":"public/test"}"#);
    out.clear();
    let rpc = JsonRpc::new().heartbeat("ping", Some(r#"{"token":"hunter2"}"#)).unwrap();
    assert_eq!(Protocol::heartbeat(&rpc, 3, &context(&Params::default()), &mut out), Ack::Response);
    assert_eq!(out, r#"{"jsonrpc":"2.0","id":3,"method":"ping","params":{"token":"hunter2"}}"#);
    assert!(!format!("{rpc:?}").contains("hunter2"));
    assert!(JsonRpc::new().heartbeat("ping", Some("1")).unwrap_err().reason.contains("\"ping\""));
}

#[test]
fn a_farewell() {
    let mut out = String::new();
    assert_eq!(
        (Protocol::farewell(&JsonRpc::new(), 2, &context(&Params::default()), &mut out), &*out),
        (Ack::None, "")
    );
    let rpc = JsonRpc::new().farewell("private/logout", Some(r#"{"token":"hunter2"}"#)).unwrap();
    assert_eq!(Protocol::farewell(&rpc, 3, &context(&Params::default()), &mut out), Ack::Response);
    assert_eq!(out, r#"{"jsonrpc":"2.0","id":3,"method":"private/logout","params":{"token":"hunter2"}}"#);
    assert!(!format!("{rpc:?}").contains("hunter2"));
    assert!(JsonRpc::new().farewell("bye", Some("1")).unwrap_err().reason.contains("\"bye\""));
}

#[test]
fn notices() {
    let rpc =
        JsonRpc::new().notice("status", |params| params.contains("down").then_some(Recovery::Reconnect));
    let notice = |text, recovery| Inbound::Notice { text, recovery };
    let going = r#"{"method":"status","params":{"is":"down"}}"#;
    assert_eq!(rpc.classify(going), notice(r#"{"is":"down"}"#, Some(Recovery::Reconnect)));
    assert_eq!(rpc.classify(r#"{"method":"status"}"#), notice("", None));
    assert_eq!(rpc.classify(r#"{"method":"other","params":{"is":"down"}}"#), Inbound::other());
    assert_eq!(JsonRpc::new().classify(going), Inbound::other());
}

#[test]
fn heartbeats_of_the_server() {
    let asked = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#;
    let idle = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}"#;
    let bare = r#"{"method":"heartbeat"}"#;
    let rpc = JsonRpc::new();
    check(&rpc, &[(asked, NOTHING), (idle, NOTHING), (bare, NOTHING)]);
    let reply = |rpc: &JsonRpc, text| {
        let mut out = String::new();
        Protocol::heartbeat_reply(rpc, text, 6, &mut out);
        out
    };
    assert_eq!(reply(&rpc, asked), "");

    let matches = |params: &str| {
        serde_json::from_str::<Value>(params).is_ok_and(|params| params["type"] == "test_request")
    };
    let rpc = rpc.heartbeat_reply("heartbeat", matches, "public/test");
    check(
        &rpc,
        &[
            (asked, Inbound::Heartbeat),
            (idle, Inbound::Heartbeat),
            (bare, Inbound::Heartbeat),
            (r#"{"method":"heartbeats"}"#, NOTHING),
            (r#"{"id":1,"method":"heartbeat"}"#, asks("1", "heartbeat", None)),
            (r#"{"id":1,"result":"heartbeat"}"#, ok(1, "\"heartbeat\"")),
        ],
    );
    assert_eq!(reply(&rpc, asked), r#"{"jsonrpc":"2.0","id":6,"method":"public/test"}"#);
    for text in [idle, bare, "", "{", "[]"] {
        assert_eq!(reply(&rpc, text), "", "{text}");
    }
    // Without parameters there is something to say to, too.
    let rpc = JsonRpc::new().heartbeat_reply("heartbeat", str::is_empty, "pong");
    assert_eq!(reply(&rpc, bare), r#"{"jsonrpc":"2.0","id":6,"method":"pong"}"#);
}

#[test]
fn outcomes_may_come_by_notification() {
    let rpc = JsonRpc::new().acks("subscribed", "unsubscribed", "refused");
    let mut out = String::new();
    assert_eq!(
        rpc.subscribe(1, &[&Topic::new("a")], &context(&Params::default()), &mut out),
        Ok(Ack::Separate)
    );
    assert_eq!(
        rpc.unsubscribe(1, &[&Topic::new("a")], &context(&Params::default()), &mut out),
        Ok(Ack::Separate)
    );
    let subscribed = |result| Inbound::Subscribed { topic: "a".into(), id: None, result };
    let error = r#"{"channel":"a","code":5,"message":"no"}"#;
    check(
        &rpc,
        &[
            (r#"{"method":"subscribed","params":{"channel":"a"}}"#, subscribed(Ok(()))),
            (
                r#"{"method":"unsubscribed","params":{"channel":"a"}}"#,
                Inbound::Unsubscribed { topic: "a".into() },
            ),
            (&format!(r#"{{"method":"refused","params":{error}}}"#), subscribed(Err(error))),
            (r#"{"method":"subscribed","params":{}}"#, NOTHING),
            (r#"{"method":"other","params":{"channel":"a"}}"#, Inbound::data(Some("a"))),
        ],
    );
    assert_eq!(RpcError::parse(error).code, 5);
}

#[test]
fn sequence_and_time_come_from_the_parameters() {
    let text = r#"{"method":"n","params": {"channel":"a","seq":5} }"#;
    let place = Sequence { first: 5, last: 5, previous: Some(4), snapshot: false };
    let rpc = JsonRpc::new().sequence(move |topic, params| {
        assert_eq!((topic, params), ("a", r#"{"channel":"a","seq":5}"#));
        Some(place)
    });
    let want = Inbound::Message { topic: Some("a".into()), sequence: Some(place), sent: None };
    assert_eq!(rpc.classify(text), want);
    let rpc = JsonRpc::new().sent(|_, params| Some(Duration::from_millis(params.len() as u64)));
    let want =
        Inbound::Message { topic: Some("a".into()), sequence: None, sent: Some(Duration::from_millis(23)) };
    assert_eq!(rpc.classify(text), want);
    check(&rpc, &[(r#"{"method":"n","params":{"seq":5}}"#, NOTHING), (r#"{"id":1,"result":1}"#, ok(1, "1"))]);
}

#[test]
fn limits_costs_and_trackers_are_handed_on() {
    #[derive(Debug)]
    struct Any;
    impl Tracker for Any {
        fn check(&mut self, _: Option<Sequence>, _: &str) -> Continuity {
            Continuity::Continues
        }
    }
    let rpc = JsonRpc::new();
    assert_eq!(Protocol::cost(&rpc, "x", Traffic::Subscribe(5)), 1);
    assert!(rpc.limits().is_empty() && Protocol::tracker(&rpc, &Topic::new("a")).is_none());

    let limit = Limit::credits("credits", 5, 1, Duration::from_secs(1));
    let rpc = rpc
        .limit(limit.clone())
        .cost(|limit, traffic| match traffic {
            Traffic::Subscribe(topics) if limit == "credits" => 30 * topics as u32,
            _ => 2,
        })
        .tracker(|topic| (topic.name() == "a").then(|| Box::new(Any) as Box<dyn Tracker>));
    assert_eq!(rpc.limits(), [limit]);
    assert_eq!(Protocol::cost(&rpc, "credits", Traffic::Subscribe(3)), 90);
    assert_eq!(Protocol::cost(&rpc, "credits", Traffic::Ping), 2);
    assert!(Protocol::tracker(&rpc, &Topic::new("a")).is_some());
    assert!(Protocol::tracker(&rpc, &Topic::new("b")).is_none());
}

#[test]
fn faults_are_judged_with_their_error() {
    let refused = r#"{"code":13009,"message":"unauthorized","data":{"reason":"expired"}}"#;
    assert_eq!(Protocol::recovery(&JsonRpc::new(), Fault::Authentication(refused)), None);
    let rpc = JsonRpc::new().recovery(|fault, error| match (fault, error) {
        (Fault::Closed(1008, "slow down"), None) => Some(Recovery::Backoff(Duration::from_secs(9))),
        (Fault::Authentication(_), Some(error)) if error.code == 13009 => {
            assert_eq!(error.data, Some(r#"{"reason":"expired"}"#));
            Some(Recovery::Reauthenticate)
        }
        (Fault::Subscription(_), Some(error)) if error.message == "\"gone\"" => Some(Recovery::Stop),
        _ => None,
    });
    let of = |fault| Protocol::recovery(&rpc, fault);
    assert_eq!(of(Fault::Closed(1008, "slow down")), Some(Recovery::Backoff(Duration::from_secs(9))));
    assert_eq!(of(Fault::Closed(1000, "")), None);
    assert_eq!(of(Fault::Authentication(refused)), Some(Recovery::Reauthenticate));
    assert_eq!(of(Fault::Subscription("\"gone\"")), Some(Recovery::Stop));
    assert_eq!(of(Fault::Subscription(refused)), None);
}

#[test]
fn how_long_an_authentication_holds_is_read_from_its_answer() {
    let life = |result: &str| Some(Duration::from_secs(result.parse().ok()?));
    let rpc = JsonRpc::new().authenticated(life).reauthenticates(true);
    assert_eq!(Protocol::authenticated(&rpc, "900"), Some(Duration::from_secs(900)));
    assert_eq!(Protocol::authenticated(&rpc, "never"), None);
    assert!(Protocol::reauthenticates(&rpc) && !Protocol::reauthenticates(&JsonRpc::new()));
    assert_eq!(Protocol::authenticated(&JsonRpc::new(), "900"), None);
}
