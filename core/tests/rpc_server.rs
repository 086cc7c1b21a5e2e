//! What the server says and asks, read by a table that `rpc!` made, and what it is answered.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod desk;
mod venue;

use common::*;
use desk::*;
use everwire_core::protocol::OwnedRpcError;
use everwire_core::rpc::{ReplyError, ServerError, Told};
use everwire_core::{Event, JsonRpc, Message, OwnedEvent, SendError, State};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

everwire_core::rpc! {
    #[derive(Debug)]
    server Heard {
        notification Book(Book) = "book";
        notification Bye() = "bye";
        request Sum(Vec<u64>) -> u64 = "sum";
        request Name() -> str = "name";
        request Set(Settings) -> () = "set";
        request Break() -> Unwritable = "break";
        request Optional(Option<Vec<u64>>) -> bool = "optional";
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Book {
    bids: BTreeMap<String, f64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Settings {
    #[serde(default)]
    depth: u64,
}

struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

struct Bad;

impl From<Bad> for OwnedRpcError {
    fn from(_: Bad) -> Self {
        Self { code: 7, message: "bad".into(), data: Some("[1]".into()) }
    }
}

fn desk() -> Desk {
    let mut desk = Desk::new(terms().protocol(JsonRpc::new()), virtual_now);
    desk.run();
    desk.upgrade();
    assert_eq!(desk.client().state(), State::Online);
    told(&mut desk);
    desk
}

fn told(desk: &mut Desk) -> Vec<OwnedEvent> {
    let events = desk.events.as_mut().unwrap();
    std::iter::from_fn(|| events.try_next()).collect()
}

/// What the table makes of this text of the server.
fn hear(desk: &mut Desk, text: &str) -> Option<Result<Heard, ServerError>> {
    desk.feed(&common::text(text));
    let [event] = &told(desk)[..] else { panic!("one event comes of {text}") };
    Heard::parse(&desk.guest(), event)
}

/// What was answered since the last time.
fn answers(desk: &mut Desk) -> Vec<String> {
    desk.run();
    let texts = desk.texts();
    let conn = desk.conn().unwrap();
    let head = conn.written.len() - after_head(&conn.written).len();
    conn.written.truncate(head);
    texts
}

#[test]
fn notifications_are_read_by_their_methods() {
    let mut desk = desk();
    let book = hear(&mut desk, r#"{"jsonrpc":"2.0","method":"book","params":{"bids":{"1.5":2}}}"#);
    let Some(Ok(Heard::Book(book))) = book else { panic!("{book:?}") };
    assert_eq!(book, Book { bids: [("1.5".to_owned(), 2.0)].into() });
    for params in ["", r#","params":null"#, r#","params":{"why":1}"#] {
        let bye = hear(&mut desk, &format!(r#"{{"method":"bye"{params}}}"#));
        assert!(matches!(bye, Some(Ok(Heard::Bye()))), "{bye:?}");
    }
    // A notification is never answered, whatever it is.
    for (text, why) in [
        (
            r#"{"method":"book","params":{"bids":{"1.5":"s3cret"}}}"#,
            "expected f64 in .bids.1.5 (line 1, column 23)",
        ),
        (r#"{"method":"book"}"#, "expected struct Book (line 1, column 4)"),
    ] {
        let Some(Err(error)) = hear(&mut desk, text) else { panic!("{text}") };
        let ServerError::Params { method: "book", answered: None, .. } = &error else { panic!("{error:?}") };
        assert_eq!(
            error.to_string(),
            format!("book: the server's parameters are not as the table says: {why}")
        );
        assert!(!format!("{error:?}").contains("s3cret"));
    }
    assert_eq!(answers(&mut desk), [""; 0]);
}

#[test]
fn all_else_is_not_for_the_table() {
    let mut desk = desk();
    for text in [
        r#"{"method":"other","params":[]}"#,
        // Of requests and answers of nobody, of data.
        r#"{"id":99,"result":{"method":"bye"}}"#,
        r#"{"result":1,"method":"bye"}"#,
        r#"{"method":["bye"]}"#,
        r#"{"params":{"method":"bye"}}"#,
        "bye",
        "[]",
        "{",
        "",
    ] {
        assert!(hear(&mut desk, text).is_none(), "{text}");
    }
    let client = desk.guest();
    assert!(Heard::parse(&client, &OwnedEvent::Writable).is_none());
    assert!(Heard::parse(&client, &Event::Writable).is_none());
    let binary = tungstenite::Message::binary(r#"{"method":"bye"}"#.as_bytes().to_vec());
    let epoch = client.status().epoch;
    assert!(
        Heard::parse(&client, &OwnedEvent::Message { message: binary, epoch, subscription: None }).is_none()
    );
    assert_eq!(answers(&mut desk), [""; 0]);
}

#[test]
fn borrowed_events_are_read_as_well() {
    let mut desk = desk();
    let client = desk.guest();
    let epoch = client.status().epoch;
    let message = Message::Text(r#"{"method":"bye"}"#);
    let event = Event::Message { message, epoch, subscription: None };
    assert!(matches!(Heard::parse(&client, &event), Some(Ok(Heard::Bye()))));
    let event = Event::Request { id: "\"x\"", method: "sum", params: Some("[1,2]"), epoch };
    assert!(!format!("{:?}", Told::from(&event)).contains("[1,2]"));
    let Some(Ok(Heard::Sum(numbers, reply))) = Heard::parse(&client, &event) else { panic!() };
    reply.ok(&numbers.iter().sum()).unwrap();
    assert_eq!(answers(&mut desk), [r#"{"jsonrpc":"2.0","id":"x","result":3}"#]);
}

#[test]
fn requests_are_answered_with_their_type_or_an_error() {
    let mut desk = desk();
    let Some(Ok(Heard::Sum(numbers, reply))) = hear(&mut desk, r#"{"id":1,"method":"sum","params":[1,2]}"#)
    else {
        panic!()
    };
    assert_eq!((&numbers[..], reply.method()), (&[1, 2][..], "sum"));
    reply.ok(&3).unwrap();
    let Some(Ok(Heard::Name(reply))) = hear(&mut desk, r#"{"id":"a\"","method":"name","params":{}}"#) else {
        panic!()
    };
    reply.send::<Bad>(Ok("everwire")).unwrap();
    let Some(Ok(Heard::Name(reply))) = hear(&mut desk, r#"{"id":3,"method":"name"}"#) else { panic!() };
    reply.send(Err(Bad)).unwrap();
    let Some(Ok(Heard::Name(reply))) = hear(&mut desk, r#"{"id":4,"method":"name"}"#) else { panic!() };
    reply.error(OwnedRpcError::new(8, "no")).unwrap();
    let want = [
        r#"{"jsonrpc":"2.0","id":1,"result":3}"#,
        r#"{"jsonrpc":"2.0","id":"a\"","result":"everwire"}"#,
        r#"{"jsonrpc":"2.0","id":3,"error":{"code":7,"message":"bad","data":[1]}}"#,
        r#"{"jsonrpc":"2.0","id":4,"error":{"code":8,"message":"no"}}"#,
    ];
    assert_eq!(answers(&mut desk), want);
    // What may be missing.
    for (params, depth) in
        [("", 0), (r#","params":{}"#, 0), (r#","params":{"depth":2}"#, 2), (r#","params":null"#, 0)]
    {
        let set = hear(&mut desk, &format!(r#"{{"id":5,"method":"set"{params}}}"#));
        let Some(Ok(Heard::Set(settings, reply))) = set else { panic!("{set:?}") };
        assert_eq!(settings, Settings { depth });
        reply.ok(&()).unwrap();
        assert_eq!(answers(&mut desk), [r#"{"jsonrpc":"2.0","id":5,"result":null}"#]);
    }
    for (params, want) in [("", None), (r#","params":[1]"#, Some(vec![1]))] {
        let optional = hear(&mut desk, &format!(r#"{{"id":6,"method":"optional"{params}}}"#));
        let Some(Ok(Heard::Optional(got, reply))) = optional else { panic!("{optional:?}") };
        assert_eq!(got, want);
        reply.ignore();
    }
    assert_eq!(answers(&mut desk), [""; 0], "who ignores it says nothing");
}

#[test]
fn what_the_table_cannot_read_is_refused_by_the_book() {
    let mut desk = desk();
    let unknown =
        hear(&mut desk, r#"{"id":1,"method":"unknown","params":{"token":"s3cret"}}"#).unwrap().unwrap_err();
    let ServerError::UnknownMethod { method, answered: Ok(_) } = &unknown else { panic!("{unknown:?}") };
    assert_eq!(method, "unknown");
    assert_eq!(
        unknown.to_string(),
        "the server asks for unknown, which the table does not have; it was told so"
    );
    // A notification of that name is none of its requests.
    let other = hear(&mut desk, r#"{"id":2,"method":"bye"}"#).unwrap().unwrap_err();
    assert!(matches!(other, ServerError::UnknownMethod { .. }));
    let odd = hear(&mut desk, r#"{"id":3,"method":"sum","params":[1,"s3cret"]}"#).unwrap().unwrap_err();
    let ServerError::Params { method: "sum", answered: Some(Ok(_)), .. } = &odd else { panic!("{odd:?}") };
    assert!(odd.to_string().ends_with("expected u64 in [1] (line 1, column 11); it was told so"), "{odd}");
    let want = [
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}"#,
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"Method not found"}}"#,
        r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"Invalid params: expected u64 in [1] (line 1, column 11)"}}"#,
    ];
    assert_eq!(answers(&mut desk), want);
    let long = "m".repeat(1000);
    let long = hear(&mut desk, &format!(r#"{{"id":4,"method":"{long}"}}"#)).unwrap().unwrap_err();
    assert!(long.to_string().len() < 200);
}

#[test]
fn a_request_that_is_forgotten_is_answered_once() {
    let mut desk = desk();
    drop(hear(&mut desk, r#"{"id":1,"method":"sum","params":[]}"#));
    let Some(Ok(Heard::Break(reply))) = hear(&mut desk, r#"{"id":2,"method":"break"}"#) else { panic!() };
    assert_eq!(reply.ok(&Unwritable), Err(ReplyError::Result("not today".into())));
    let internal = |id: u64| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"Internal error"}}}}"#)
    };
    assert_eq!(answers(&mut desk), [internal(1), internal(2)]);
}

#[test]
fn an_answer_belongs_to_its_connection() {
    let mut desk = desk();
    let Some(Ok(Heard::Sum(_, kept))) = hear(&mut desk, r#"{"id":1,"method":"sum","params":[]}"#) else {
        panic!()
    };
    let Some(Ok(Heard::Sum(_, dropped))) = hear(&mut desk, r#"{"id":2,"method":"sum","params":[]}"#) else {
        panic!()
    };
    let event = OwnedEvent::Request {
        id: "3".into(),
        method: "unknown".into(),
        params: None,
        epoch: desk.client().status().epoch,
    };
    desk.eof();
    desk.pass(secs(1));
    desk.upgrade();
    assert_eq!(desk.client().state(), State::Online);
    assert_eq!(kept.ok(&1), Err(ReplyError::NotTaken(SendError::Gone)));
    drop(dropped);
    let refused = Heard::parse(&desk.guest(), &event).unwrap().unwrap_err();
    let ServerError::UnknownMethod { answered: Err(SendError::Gone), .. } = &refused else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains("to tell it so was not taken"), "{refused}");
    assert_eq!(answers(&mut desk), [""; 0]);
}

#[test]
fn a_reply_holds_the_session_as_any_handle_does() {
    let mut desk = desk();
    desk.feed(&text(r#"{"id":1,"method":"sum","params":[]}"#));
    let event = told(&mut desk).remove(0);
    let client = desk.client.take().unwrap();
    let Some(Ok(Heard::Sum(_, reply))) = Heard::parse(&client, &event) else { panic!() };
    drop(client);
    desk.events = None;
    desk.run();
    assert_eq!(desk.guest().state(), State::Online);
    reply.ok(&0).unwrap();
    assert_eq!(answers(&mut desk), [r#"{"jsonrpc":"2.0","id":1,"result":0}"#, "CLOSE"]);
}
