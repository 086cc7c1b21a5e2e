//! Against a parser that reads everything.

use super::*;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a message is, read the slow way.
fn reference(value: &Value) -> (&'static str, Option<u64>, Option<&str>) {
    let data = ("data", None, None);
    let value = match value {
        Value::Array(items) => {
            let batch = items.first().is_some_and(Value::is_object) && !items.iter().any(Value::is_array);
            return if batch { ("batch", None, None) } else { data };
        }
        value => value,
    };
    let there = |key: &str| value.get(key).filter(|value| !value.is_null());
    let answer = value.get("result").or_else(|| value.get("error"));
    match (there("id"), answer, there("method")) {
        (Some(id), Some(_), _) => id
            .as_u64()
            .map_or(data, |id| (if there("error").is_some() { "error" } else { "result" }, Some(id), None)),
        (Some(id), None, Some(Value::String(method))) if !id.is_object() && !id.is_array() => {
            ("request", None, Some(method))
        }
        (None, _, Some(_)) => {
            ("data", None, value.get("params").and_then(|params| params.get("channel")?.as_str()))
        }
        _ => data,
    }
}

#[test]
fn agrees_with_a_full_parser_on_whatever_is_made_of_messages() {
    const SEEDS: [&str; 6] = [
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.raw","data":{"bids":[[1.5,2]],"id":3}}}"#,
        r#"{"jsonrpc":"2.0","id":4711,"result":{"channels":["a","b"]},"usIn":1700000000000}"#,
        r#"{"id":5,"error":{"code":-32600,"message":"bad","data":null},"result":null}"#,
        r#"[{"id":1,"result":1},{"id":2,"error":{}},{"method":"n","params":{"channel":"c"}},{"id":"s","method":"ask"}]"#,
        r#" { "id" : "x" , "method" : "ask" , "params" : [ 1 , 2 ] } "#,
        r#"{"id":null,"method":"heartbeat","params":{"type":"test_request","channel":"a"}}"#,
    ];
    const BITS: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"id\":",
        "\"id\":7,",
        "\"method\":\"m\",",
        "\"error\":null,",
        "\"result\":",
        "\"params\":",
        "\"channel\":\"z\",",
        "null",
        "1e999",
        "-",
        "\u{e9}",
        " ",
        "\n",
        "[{},",
        "{}",
        "true",
    ];
    // Numerical Recipes' generator: any will do, as long as it is always the same.
    let mut state = 3u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below.max(1)
    };
    let plain = JsonRpc::new();
    let hooked = JsonRpc::new().sequence(|_, _| None).acks("s", "u", "r");
    let (mut valid, mut invalid) = (0, 0);
    for round in 0..40_000 {
        let mut text = SEEDS[round % SEEDS.len()].to_owned();
        for _ in 0..random(4) {
            let at = |text: &str, random: &mut dyn FnMut(usize) -> usize| {
                let at = random(text.len() + 1);
                (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap()
            };
            let (from, to) = (at(&text, &mut random), at(&text, &mut random));
            match random(4) {
                0 => text.insert_str(from, BITS[random(BITS.len())]),
                1 if from < to => text.replace_range(from..to, ""),
                2 => text.truncate(from),
                _ if from < to => {
                    let piece = text[from..to].to_owned();
                    text.insert_str(to, &piece);
                }
                _ => text = format!("[{text},{}]", SEEDS[random(SEEDS.len())]),
            }
        }
        let inbound = plain.classify(&text);
        // What hooks read cannot change what a message is.
        if !text.contains("1e999") {
            assert_eq!(hooked.classify(&text), inbound, "{text}");
        }
        let items = walk(&plain, &text);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if !text.contains('\\') => {
                let got = match inbound {
                    Inbound::Message { topic, .. } => ("data", None, topic),
                    Inbound::Response { id, result } => {
                        (if result.is_ok() { "result" } else { "error" }, Some(id), None)
                    }
                    Inbound::Request { method, .. } => ("request", None, Some(method.into())),
                    Inbound::Batch => ("batch", None, None),
                    other => panic!("{other:?} of {text}"),
                };
                let (kind, id, name) = reference(&value);
                assert_eq!(got, (kind, id, name.map(Into::into)), "{text}");
                if value.is_array() {
                    let raw: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
                    assert_eq!(items, raw.iter().map(|raw| raw.get()).collect::<Vec<_>>(), "{text}");
                }
                valid += 1;
            }
            Ok(_) => {}
            Err(_) => invalid += 1,
        }
        if inbound == Inbound::Batch {
            assert!(items.iter().all(|item| plain.classify(item) != Inbound::Batch), "{text}");
        }
        // From wherever it starts, the walk ends.
        let mut cursor = random(text.len() + 2);
        while cursor < text.len() {
            let before = cursor;
            let item = plain.item(&text, &mut cursor);
            assert!(item.is_none() || cursor > before, "{text}");
            if item.is_none() {
                break;
            }
        }
    }
    assert!(valid > 10_000 && invalid > 10_000, "{valid} {invalid}");
}

/// All items, each of which must be a part of the text behind the one before.
fn walk<'m>(rpc: &JsonRpc, text: &'m str) -> Vec<&'m str> {
    let (mut cursor, mut end, mut items) = (0, 0, Vec::new());
    while let Some(item) = rpc.item(text, &mut cursor) {
        let start =
            (item.as_ptr() as usize).checked_sub(text.as_ptr() as usize).expect("not before the text");
        assert!(start > end || items.is_empty(), "{text}");
        end = start + item.len();
        assert!(end <= text.len() && cursor == end && !item.is_empty(), "{text}");
        items.push(item);
    }
    items
}
