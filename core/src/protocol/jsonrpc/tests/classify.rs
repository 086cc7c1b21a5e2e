use super::*;

#[test]
fn answers() {
    check(
        &JsonRpc::new(),
        &[
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#, ok(7, r#"{"a":1}"#)),
            (" {\t\"result\" : [ 1 ] ,\r\n\"id\" : 7 } \n", ok(7, "[ 1 ]")),
            (r#"{"id":7,"result":null}"#, ok(7, "null")),
            (r#"{"id":0,"result":1e999}"#, ok(0, "1e999")),
            (r#"{"id":18446744073709551615,"result":1}"#, ok(u64::MAX, "1")),
            (r#"{"id":7,"error":{"code":1,"message":"x"}}"#, err(7, r#"{"code":1,"message":"x"}"#)),
            (r#"{"id":7,"error":false}"#, err(7, "false")),
            // Both: a null error is none, another one counts.
            (r#"{"id":7,"result":1,"error":null}"#, ok(7, "1")),
            (r#"{"id":7,"error": null ,"result":null}"#, ok(7, "null")),
            (r#"{"id":7,"result":1,"error":{}}"#, err(7, "{}")),
            (r#"{"id":7,"result":null,"error":"no"}"#, err(7, "\"no\"")),
            (r#"{"id":7,"error":null}"#, ok(7, "null")),
            // With what belongs elsewhere.
            (r#"{"id":7,"result":1,"method":null,"params":null}"#, ok(7, "1")),
            (r#"{"id":7,"result":1,"method":"subscribe"}"#, ok(7, "1")),
            (r#"{"id":7,"result":{"id":8,"error":1},"more":{"id":9}}"#, ok(7, r#"{"id":8,"error":1}"#)),
            // Keys twice: the last counts.
            (r#"{"id":1,"id":2,"result":1,"result":2}"#, ok(2, "2")),
            (r#"{"id":1,"id":null,"result":1}"#, NOTHING),
            (r#"{"id":1,"error":{},"error":null,"result":3}"#, ok(1, "3")),
            (r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"x":1,"x":2,"result":4}"#, ok(1, "4")),
            // Keys with escapes are the same keys.
            (r#"{"\u0069d":7,"res\u0075lt":1}"#, ok(7, "1")),
            // Ids that are not ours.
            (r#"{"id":"7","result":1}"#, NOTHING),
            (r#"{"id":"seven","result":1}"#, NOTHING),
            (r#"{"id":7.0,"result":1}"#, NOTHING),
            (r#"{"id":7e0,"result":1}"#, NOTHING),
            (r#"{"id":-7,"result":1}"#, NOTHING),
            (r#"{"id":-0,"result":1}"#, NOTHING),
            (r#"{"id":18446744073709551616,"result":1}"#, NOTHING),
            (r#"{"id":[7],"result":1}"#, NOTHING),
            (r#"{"id":true,"result":1}"#, NOTHING),
            (r#"{"id":null,"error":{"code":-32700,"message":"Parse error"}}"#, NOTHING),
            (r#"{"result":1}"#, NOTHING),
            (r#"{"id":7}"#, NOTHING),
        ],
    );
}

#[test]
fn notifications() {
    let topic = |name| Inbound::data(Some(name));
    check(
        &JsonRpc::new(),
        &[
            (
                r#"{"method":"subscription","params":{"channel":"a.b","data":[1,{"channel":"no"}]}}"#,
                topic("a.b"),
            ),
            (r#"{"params":{"data":{},"channel":"late"},"method":"subscription"}"#, topic("late")),
            (r#"{"id":null,"method":"n","params":{"channel":"a"}}"#, topic("a")),
            (r#"{"method":5,"params":{"channel":"a"}}"#, topic("a")),
            (r#"{"method":"a\/b","params":{"channel":"a"}}"#, topic("a")),
            (r#"{"method":"n","params":{"channel":""}}"#, topic("")),
            ("{\"method\":\"n\",\"params\":{\"channel\":\"\u{e9}\u{1f600}\"}}", topic("\u{e9}\u{1f600}")),
            (r#"{"method":"n","params":{"channel":"a","channel":"b"}}"#, topic("b")),
            (r#"{"method":"n","params":{"channel":"a"},"params":{"channel":"b"}}"#, topic("b")),
            (r#"{"method":"n","params":{"channel":"a"},"params":[]}"#, NOTHING),
            (r#"{"method":"n","params":{"ch\u0061nnel":"a"}}"#, topic("a")),
            (r#"{"method":"n","params":{"channel":"a","price":1e999,"text":"\ud800"}}"#, topic("a")),
            (r#"{"method":"n","error":{"code":1},"params":{"channel":"a"}}"#, topic("a")),
            (r#"{"method":"n","params":["a"]}"#, NOTHING),
            (r#"{"method":"n","params":null}"#, NOTHING),
            (r#"{"method":"n","params":3}"#, NOTHING),
            (r#"{"method":"n","params":-3}"#, NOTHING),
            (r#"{"method":"n","params":1e999}"#, NOTHING),
            (r#"{"method":"n","params":true}"#, NOTHING),
            (r#"{"method":"n","params":"channel"}"#, NOTHING),
            (r#"{"method":"n","params":{"channel":5}}"#, NOTHING),
            (r#"{"method":"n","params":{"channel":null}}"#, NOTHING),
            (r#"{"method":"n","params":{"channel":"a\u0062"}}"#, NOTHING),
            (r#"{"method":"n"}"#, NOTHING),
            (r#"{"method":null,"params":{"channel":"a"}}"#, NOTHING),
            (r#"{"params":{"channel":"a"}}"#, NOTHING),
            ("{}", NOTHING),
        ],
    );
}

#[test]
fn requests_of_the_server() {
    check(
        &JsonRpc::new(),
        &[
            (r#"{"id":9,"method":"ask","params":{ "a":1 }}"#, asks("9", "ask", Some(r#"{ "a":1 }"#))),
            (r#"{"id":9,"method":"ask"}"#, asks("9", "ask", None)),
            (r#"{"id":9,"method":"ask","params":null}"#, asks("9", "ask", None)),
            (r#"{"id":"x\u0062","method":"ask","params":[1]}"#, asks(r#""x\u0062""#, "ask", Some("[1]"))),
            (r#"{"id": -1.50e3 ,"method":"ask"}"#, asks("-1.50e3", "ask", None)),
            (r#"{"id":true,"method":"ask"}"#, asks("true", "ask", None)),
            (
                r#"{"id":1,"method":"ask","params":{"channel":"a"}}"#,
                asks("1", "ask", Some(r#"{"channel":"a"}"#)),
            ),
            (r#"{"id":1,"id":2,"method":"a","method":"b"}"#, asks("2", "b", None)),
            (r#"{"id":{},"method":"ask"}"#, NOTHING),
            (r#"{"id":[1],"method":"ask"}"#, NOTHING),
            (r#"{"id":1,"method":5}"#, NOTHING),
            (r#"{"id":1,"method":"a\u0062"}"#, NOTHING),
        ],
    );
}

#[test]
fn what_is_not_json_rpc_is_data() {
    for text in [
        "",
        " ",
        "not json",
        "null",
        "7",
        "\"{}\"",
        "{",
        "}",
        "{\"id\":7,\"result\":1",
        "{\"id\":7,\"result\":",
        "{\"id\":7,\"result\":1}}",
        "{\"id\":7,\"result\":1} x",
        "{\"id\":7,\"result\":1}{}",
        "{\"id\":7 \"result\":1}",
        "{\"id\":07,\"result\":1}",
        "{\"id\":+7,\"result\":1}",
        "{\"id\":7,\"result\":1,}",
        "{'id':7,'result':1}",
        "{id:7,result:1}",
        "{\"id\":7,\"result\":NaN}",
        "{\"id\":7,\"result\":\"\n\"}",
        "\u{feff}{\"id\":7,\"result\":1}",
        "\u{a0}{\"id\":7,\"result\":1}",
        "{\"method\":\"n\",\"params\":{\"channel\":\"a\"",
        "{\"\\ud800\":1,\"id\":7,\"result\":1}",
    ] {
        assert_eq!(JsonRpc::new().classify(text), NOTHING, "{text}");
    }
}

#[test]
fn batches() {
    for (text, parts) in [
        (r#"[{"id":1,"result":1}]"#, &[r#"{"id":1,"result":1}"#][..]),
        (" [\n{\"a\":[1,\"],[\"]} ,\t{} ] ", &[r#"{"a":[1,"],["]}"#, "{}"]),
        // What is none of ours in it is still delivered.
        (r#"[{},null,-1.5e3,"a,]\"b",true]"#, &["{}", "null", "-1.5e3", r#""a,]\"b""#, "true"]),
    ] {
        let rpc = JsonRpc::new();
        assert_eq!(rpc.classify(text), Inbound::Batch, "{text}");
        let mut cursor = 0;
        for part in parts {
            assert_eq!(rpc.item(text, &mut cursor), Some(*part), "{text}");
        }
        for _ in 0..3 {
            assert_eq!(rpc.item(text, &mut cursor), None, "{text}");
        }
    }
}

#[test]
fn arrays_that_are_no_batches_are_data() {
    for text in [
        "[]",
        " [ ] ",
        "[1,{}]",
        "[\"book\",{\"id\":1}]",
        "[[{}]]",
        "[{},[{}]]",
        "[{},[]]",
        "[",
        "]",
        "[{}",
        "[{},]",
        "[,{}]",
        "[{}{}]",
        "[{}] x",
        "[{}]]",
        "[{},{]",
    ] {
        assert_eq!(JsonRpc::new().classify(text), NOTHING, "{text}");
    }
}

#[test]
fn garbage_ends_the_items() {
    let walk = |text| {
        let mut cursor = 0;
        std::iter::from_fn(|| JsonRpc::new().item(text, &mut cursor)).collect::<Vec<_>>()
    };
    assert_eq!(walk("[1,2 3,4]"), ["1", "2"]);
    assert_eq!(walk("[1,,4]"), ["1"]);
    assert_eq!(walk("[1,{\"a\":}]"), ["1"]);
    assert_eq!(walk("[1,]"), ["1"]);
    assert_eq!(walk("[1] [2]"), ["1"]);
    assert_eq!(walk("[1,\"\u{1f600}\",tru]"), ["1", "\"\u{1f600}\""]);
    for none in ["", "[", "[]", "{}", "1", ",1", "{\"a\":[1]}"] {
        assert_eq!(walk(none), [""; 0], "{none}");
    }
    // A cursor that is not ours.
    for mut cursor in [1, 2, 3, 4, 5, 100, usize::MAX] {
        assert_eq!(JsonRpc::new().item("[\u{1f600}]", &mut cursor), None);
    }
}

#[test]
fn depth_and_length_do_not_matter() {
    let params = crate::Params::default();
    let context = Context::new(std::time::SystemTime::UNIX_EPOCH, &params);
    let rpc = JsonRpc::new();
    for depth in [127, 128, 129, 100_000] {
        for (open, close) in [("[", "]"), ("{\"channel\":", "}")] {
            let deep = open.repeat(depth) + "1" + &close.repeat(depth);
            let text = format!(r#"{{"method":"n","params":{{"data":{deep},"channel":"a"}}}}"#);
            assert_eq!(rpc.classify(&text), Inbound::data(Some("a")));
            assert_eq!(rpc.classify(&format!(r#"{{"method":"n","params":{deep}}}"#)), NOTHING);
            assert_eq!(rpc.classify(&format!(r#"{{"id":{deep},"method":"n"}}"#)), NOTHING);
            assert_eq!(rpc.classify(&format!(r#"{{"id":1,"error":{deep}}}"#)), err(1, &deep));
            assert_eq!(rpc.classify(&deep), NOTHING);
            assert_eq!(rpc.classify(&deep[..deep.len() - 1]), NOTHING);
            assert!(rpc.confirms(&deep, &Topic::new("a")));
            assert_eq!(RpcError::parse(&deep).code, 0);
            rpc.request(1, &Request::new("m").params(&deep), &context, &mut String::new()).unwrap();
            let batch = format!("[{{}},{{\"a\":{deep}}}]");
            assert_eq!(rpc.classify(&batch), Inbound::Batch);
            assert_eq!(rpc.item(&batch, &mut 3).map(str::len), Some(deep.len() + 6));
        }
    }
    let digits = "9".repeat(10_000);
    assert_eq!(rpc.classify(&format!(r#"{{"id":{digits},"result":1}}"#)), NOTHING);
    assert_eq!(rpc.classify(&format!(r#"{{"id":1,"result":{digits}}}"#)), ok(1, &digits));
    assert_eq!(rpc.classify(&format!(r#"{{"id":{digits},"method":"m"}}"#)), asks(&digits, "m", None));
    // The walk would take hours if each step began anew.
    let many = format!("[{{}}{}]", ",{}".repeat(300_000));
    let (mut cursor, mut count) = (0, 0);
    while rpc.item(&many, &mut cursor).is_some() {
        count += 1;
    }
    assert_eq!((rpc.classify(&many), count), (Inbound::Batch, 300_001));
}
