//! JSON-RPC as a test speaks it, on both sides.

use super::{Harness, config, text};
use everwire_core::{JsonRpc, OnDisconnect, Request, RequestId, RequestOptions};

/// A session that speaks it, online.
pub fn rpc() -> Harness {
    Harness::online(config().protocol(JsonRpc::new()))
}

/// What becomes of a request when its connection is lost, the rest by default.
pub fn options(on_disconnect: OnDisconnect) -> RequestOptions {
    RequestOptions { on_disconnect, ..RequestOptions::default() }
}

/// Makes a request without parameters.
pub fn request(h: &mut Harness, method: &str, options: RequestOptions) -> RequestId {
    let id = h.s.request(Request::new(method), options, h.now).unwrap();
    h.run();
    id
}

/// Ids and channels of the subscribe calls among JSON-RPC texts.
pub fn calls(texts: &[String], method: &str) -> Vec<(u64, Vec<String>)> {
    let calls = texts.iter().map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
    let calls = calls.filter(|call| call["method"] == method).map(|call| {
        let channels = call["params"]["channels"].as_array().expect("channels");
        let channels = channels.iter().map(|channel| channel.as_str().unwrap().to_owned()).collect();
        (call["id"].as_u64().unwrap(), channels)
    });
    calls.collect()
}

/// A JSON-RPC response.
pub fn result(id: u64, result: &str) -> Vec<u8> {
    text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

pub fn rpc_error(id: u64, message: &str) -> Vec<u8> {
    text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":7,"message":"{message}"}}}}"#))
}

/// A JSON-RPC notification.
pub fn notification(channel: &str, data: u32) -> Vec<u8> {
    text(&format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}"#
    ))
}

/// Confirms every subscribe call that the client made on a connection after the first `seen` texts; how many texts there are then.
pub fn confirm(h: &mut Harness, conn: usize, seen: usize) -> usize {
    let texts = h.texts(conn);
    for (id, channels) in calls(&texts[seen..], "subscribe") {
        let channels = serde_json::to_string(&channels).unwrap();
        h.feed(conn, &result(id, &channels));
    }
    texts.len()
}

/// What the client wrote on a connection, in short: methods of calls, with their channels; batches in brackets; other texts as they are.
pub fn wire(h: &Harness, conn: usize) -> Vec<String> {
    fn call(json: &serde_json::Value) -> Option<String> {
        if let Some(calls) = json.as_array() {
            return Some(format!("[{}]", calls.iter().filter_map(call).collect::<Vec<_>>().join(" ")));
        }
        let method = json["method"].as_str()?;
        let channels = json["params"]["channels"].as_array().into_iter().flatten();
        let channels: Vec<&str> = channels.filter_map(|channel| channel.as_str()).collect();
        Some(if channels.is_empty() { method.into() } else { format!("{method} {}", channels.join(",")) })
    }
    let texts = h.texts(conn).into_iter();
    texts.map(|text| serde_json::from_str(&text).ok().as_ref().and_then(call).unwrap_or(text)).collect()
}

/// The id of the last call of a method on a connection.
pub fn last_id(h: &Harness, conn: usize, method: &str) -> u64 {
    let texts = h.texts(conn).into_iter().rev();
    let mut calls = texts.filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    calls.find(|call| call["method"] == method).and_then(|call| call["id"].as_u64()).expect("such a call")
}
