//! Calls of a client that `rpc!` made: what goes over the wire, and how each ends. No runtime: futures are polled by hand.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod desk;
mod venue;

use common::*;
use desk::*;
use everwire_core::protocol::OwnedRpcError;
use everwire_core::rpc::{Call, CallError};
use everwire_core::{
    Config, JsonRpc, OnDisconnect, OwnedEvent, Plain, Protocol, RequestId, RequestOptions, SendError, State,
    Unanswered,
};
use serde::{Deserialize, Serialize, Serializer};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use venue::{Venue, exact};

everwire_core::rpc! {
    client Bank {
        type Error = Refusal;
        call pay(Pay<'_>) -> Receipt = "private/pay";
        call time() -> u64 = "public/time";
        call forget(Vec<u64>) = "private/forget";
        call odd(Odd) -> u64 = "odd";
        call maybe(Option<[u8; 1]>) -> Option<u8> = "maybe";
        notify hello(Pay<'_>) = "public/hello";
        notify odd_alone(Odd) = "odd";
        notify bye() = "public/bye";
    }

    client Plainly {
        call time() -> u64 = "public/time";
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Pay<'a> {
    to: &'a str,
    amount: u64,
}

const PAY: Pay<'static> = Pay { to: "you", amount: 3 };

#[derive(Debug, PartialEq, Deserialize)]
struct Receipt {
    number: u64,
}

/// What parameters may turn out to be.
#[derive(Debug)]
enum Odd {
    Text,
    Number,
    Bool,
    Failing,
    Unit,
}

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text => to.serialize_str("s3cret"),
            Self::Number => to.serialize_i8(-1),
            Self::Bool => to.serialize_bool(true),
            Self::Failing => Err(serde::ser::Error::custom("not today")),
            Self::Unit => to.serialize_unit(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Refusal {
    Poor { missing: u64 },
    Other(i64),
}

impl From<OwnedRpcError> for Refusal {
    fn from(error: OwnedRpcError) -> Self {
        match (error.code, error.data_as()) {
            (1, Some(missing)) => Self::Poor { missing },
            (code, _) => Self::Other(code),
        }
    }
}

type Answer<T> = Result<T, CallError<Refusal>>;

fn speaking(protocol: impl Protocol + 'static) -> Desk {
    online(terms().protocol(protocol))
}

fn online(config: Config) -> Desk {
    let mut desk = Desk::new(config, virtual_now);
    desk.run();
    desk.upgrade();
    assert_eq!(desk.client().state(), State::Online);
    desk
}

fn bank() -> (Desk, Bank) {
    let desk = speaking(JsonRpc::new());
    let bank = Bank::new(desk.guest());
    (desk, bank)
}

fn poll<T, E>(call: &mut Call<T, E>) -> Poll<Result<T, CallError<E>>> {
    Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
}

/// The answer of a call that is settled.
fn settled<T, E>(mut call: Call<T, E>) -> Result<T, CallError<E>> {
    match poll(&mut call) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("{call:?} is not settled"),
    }
}

/// What the client said. The first id that a session uses is that of its authentication, whether there is one or not.
fn sent(desk: &mut Desk) -> Vec<String> {
    desk.run();
    desk.texts()
}

#[test]
fn calls_are_sent_at_once_and_read_by_their_types() {
    let (mut desk, bank) = bank();
    let mut pay = bank.pay(&PAY);
    let time = bank.time();
    let forget = bank.forget(&vec![1, 2]);
    let maybe = [bank.maybe(&None), bank.maybe(&Some([7]))];
    let want = [
        r#"{"jsonrpc":"2.0","id":2,"method":"private/pay","params":{"to":"you","amount":3}}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"public/time"}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"private/forget","params":[1,2]}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"maybe"}"#,
        r#"{"jsonrpc":"2.0","id":6,"method":"maybe","params":[7]}"#,
    ];
    assert_eq!(sent(&mut desk), want);
    assert!(poll(&mut pay).is_pending());
    assert_eq!(
        (pay.method(), &*format!("{pay:?}")),
        ("private/pay", r#"Call { method: "private/pay", .. }"#)
    );
    // Whatever it is, nobody looks at the result of that.
    desk.feed(&result(4, r#"{"what":["ever"]}"#));
    desk.feed(&result(3, "17"));
    desk.feed(&result(2, r#"{"number":5,"more":"than wanted"}"#));
    desk.feed(&result(5, "null"));
    desk.feed(&result(6, "8"));
    assert_eq!(poll(&mut pay), Poll::Ready(Ok(Receipt { number: 5 })));
    assert_eq!(poll(&mut pay), Poll::Ready(Ok(Receipt { number: 5 })), "for who asks again");
    assert_eq!((settled(time), settled(forget)), (Ok(17), Ok(())));
    assert_eq!(maybe.map(settled), [Ok(None), Ok(Some(8))]);
}

#[test]
fn errors_of_the_server_are_of_the_tables_type() {
    let (mut desk, bank) = bank();
    let (poor, other) = (bank.pay(&PAY), bank.time());
    let plain = Plainly::new(bank.client().clone()).time();
    desk.run();
    desk.feed(&text(r#"{"id":2,"error":{"code":1,"message":"no","data":40}}"#));
    desk.feed(&text(r#"{"id":3,"error":{"code":-32000,"message":"no"}}"#));
    desk.feed(&text(r#"{"id":4,"error":{"code":-32000,"message":"no","data":[1]}}"#));
    let refused = |method, error| CallError::Refused { method, error };
    assert_eq!(settled(poor), Err(refused("private/pay", Refusal::Poor { missing: 40 })));
    assert_eq!(settled(other), Err(refused("public/time", Refusal::Other(-32000))));
    let error = OwnedRpcError { code: -32000, message: "no".into(), data: Some("[1]".into()) };
    assert_eq!(settled(plain), Err(CallError::Refused { method: "public/time", error }));
}

#[test]
fn results_of_another_type_are_errors_that_say_where() {
    let (mut desk, bank) = bank();
    let pay = bank.pay(&PAY);
    desk.run();
    desk.feed(&result(2, r#"{"number":"s3cret"}"#));
    let error = settled(pay).unwrap_err();
    let CallError::Result { method: "private/pay", error } = &error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), "expected u64 in .number (line 1, column 18)");
    assert!(!format!("{error:?}").contains("s3cret") && error.text().contains("s3cret"));
}

#[test]
fn parameters_that_cannot_be_sent_are_told_and_not_sent() {
    let (mut desk, bank) = bank();
    for (odd, why) in [
        (Odd::Text, "a string"),
        (Odd::Number, "a number"),
        (Odd::Bool, "a bool"),
        (Odd::Failing, "not today"),
    ] {
        let mut call = bank.odd(&odd);
        let Poll::Ready(Err(error)) = poll(&mut call) else { panic!("{odd:?}") };
        let CallError::Params { method: "odd", reason } = &error else { panic!("{error:?}") };
        assert!(reason.contains(why) && !reason.contains("s3cret") && error.not_sent(), "{reason}");
        assert_eq!(poll(&mut call), Poll::Ready(Err(error.clone())), "for who asks again");
        assert_eq!(call.wait(), Err(error.clone()));
        assert_eq!(bank.blocking().odd(&odd), Err(error.clone()));
        assert_eq!(bank.odd_alone(&odd), Err(error));
    }
    assert_eq!(sent(&mut desk), [""; 0]);
    drop(bank.odd(&Odd::Unit));
    assert_eq!(sent(&mut desk), [r#"{"jsonrpc":"2.0","id":2,"method":"odd"}"#], "none are none");
}

#[test]
fn each_way_to_have_no_answer_is_told_apart() {
    let (mut desk, bank) = bank();
    let held = RequestOptions::default().on_disconnect(OnDisconnect::Hold);
    // Written, and the connection lost.
    let (lost, late) = (bank.time(), bank.with(RequestOptions::default().timeout(secs(1))).time());
    desk.run();
    desk.pass(secs(1));
    assert_eq!(
        settled(late),
        Err(CallError::SentUnknown { method: "public/time", why: Unanswered::Timeout })
    );
    desk.eof();
    let error = settled(lost).unwrap_err();
    assert_eq!(error, CallError::SentUnknown { method: "public/time", why: Unanswered::ConnectionLost });
    assert!(!error.not_sent());
    // Without a connection.
    let refused = CallError::NotTaken { method: "public/time", error: SendError::Offline };
    assert_eq!(settled(bank.time()), Err(refused.clone()));
    assert_eq!(bank.blocking().time(), Err(refused));
    assert_eq!(bank.bye(), Err(CallError::NotTaken { method: "public/bye", error: SendError::Offline }));
    let mut waits = bank.with(held.clone().timeout(secs(600))).time();
    assert!(poll(&mut waits).is_pending());
    assert!(poll(&mut bank.blocking().with(held).batch(|batch| batch.time())).is_pending());
    desk.end(End::DriverDropped);
    let error = settled(waits).unwrap_err();
    assert_eq!(error, CallError::NotSent { method: "public/time", why: Unanswered::Closed });
    assert!(error.not_sent());
}

#[test]
fn a_call_that_is_dropped_is_cancelled() {
    let (mut desk, bank) = bank();
    drop(bank.time());
    desk.run();
    desk.feed(&result(2, "17"));
    let events: Vec<OwnedEvent> = std::iter::from_fn(|| desk.events.as_mut()?.try_next()).collect();
    let late = events.iter().filter(|event| matches!(event, OwnedEvent::Message { .. })).count();
    assert_eq!(late, 1, "nobody waits for it: {events:?}");
}

#[test]
fn notifications_have_no_id_and_no_answer() {
    let (mut desk, bank) = bank();
    let first = bank.hello(&PAY).unwrap();
    let second = bank.blocking().bye().unwrap();
    assert!(first < second);
    let want = [
        r#"{"jsonrpc":"2.0","method":"public/hello","params":{"to":"you","amount":3}}"#,
        r#"{"jsonrpc":"2.0","method":"public/bye"}"#,
    ];
    assert_eq!(sent(&mut desk), want);
}

#[test]
fn notifications_cost_what_requests_cost_and_wait_as_messages_do() {
    let protocol = JsonRpc::new().limit(exact("calls", 10, secs(10))).cost(|_, traffic| match traffic {
        everwire_core::protocol::Traffic::Request("public/hello") => 7,
        everwire_core::protocol::Traffic::Request(_) => 3,
        _ => 0,
    });
    let mut desk = online(terms().protocol(protocol).queue_timeout(secs(5)));
    let bank = Bank::new(desk.guest());
    bank.hello(&PAY).unwrap();
    bank.bye().unwrap();
    assert_eq!(desk.client().budget(), [("calls".to_owned(), 0, 10)]);
    let patient = bank.with(RequestOptions::default().timeout(secs(20)));
    let (late, in_time) = (bank.bye().unwrap(), patient.bye().unwrap());
    let urgent = bank.with(RequestOptions::default().timeout(secs(20)).priority(true));
    urgent.hello(&PAY).unwrap();
    let methods = |desk: &mut Desk| -> Vec<String> {
        let method = |text: &String| text.split('"').nth(7).unwrap().to_owned();
        sent(desk).iter().map(method).collect()
    };
    assert_eq!(methods(&mut desk), ["public/hello", "public/bye"]);
    desk.pass(secs(10));
    assert_eq!(methods(&mut desk), ["public/hello", "public/bye", "public/hello", "public/bye"]);
    let events: Vec<OwnedEvent> = std::iter::from_fn(|| desk.events.as_mut()?.try_next()).collect();
    let expired: Vec<_> = events
        .iter()
        .filter_map(|event| if let OwnedEvent::Expired { id } = event { Some(*id) } else { None })
        .collect();
    assert_eq!(expired, [late], "and not {in_time:?}");
}

#[test]
fn a_batch_is_one_message_whose_calls_settle_each_by_itself() {
    let (mut desk, bank) = bank();
    let (mut pay, times) = bank.batch(|batch| {
        // Dropped: not wanted any more.
        drop(batch.forget(&vec![1]));
        (batch.pay(&PAY), [batch.time(), batch.time(), batch.time()])
    });
    let want = [concat!(
        r#"[{"jsonrpc":"2.0","id":2,"method":"private/pay","params":{"to":"you","amount":3}},"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"public/time"},{"jsonrpc":"2.0","id":4,"method":"public/time"},"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"public/time"}]"#
    )];
    assert_eq!(sent(&mut desk), want);
    assert!(poll(&mut pay).is_pending());
    desk.feed(&text(
        r#"[{"id":4,"result":"no number"},{"id":3,"result":9},{"id":2,"error":{"code":8,"message":"no"}}]"#,
    ));
    let [first, second, mut third] = times;
    assert_eq!(settled(first), Ok(9));
    assert!(matches!(settled(second), Err(CallError::Result { .. })));
    assert_eq!(settled(pay), Err(CallError::Refused { method: "private/pay", error: Refusal::Other(8) }));
    assert!(poll(&mut third).is_pending());
    desk.pass(secs(4));
    let error = settled(third).unwrap_err();
    assert_eq!(error, CallError::SentUnknown { method: "public/time", why: Unanswered::Timeout });
}

#[test]
fn nothing_is_a_batch_too() {
    let (mut desk, bank) = bank();
    bank.batch(|_| ());
    bank.batch(|batch| drop(batch.time()));
    assert_eq!(sent(&mut desk), [""; 0]);
}

#[test]
fn if_a_call_of_a_batch_cannot_be_written_none_is_sent() {
    let (mut desk, bank) = bank();
    let (time, odd, pay) = bank.batch(|batch| (batch.time(), batch.odd(&Odd::Text), batch.pay(&PAY)));
    assert!(matches!(settled(odd), Err(CallError::Params { method: "odd", .. })));
    for error in [settled(time).unwrap_err(), settled(pay).unwrap_err()] {
        assert!(matches!(&error, CallError::NotTaken { error: SendError::Unsupported(_), .. }), "{error:?}");
        assert!(error.not_sent() && format!("{error:?}").contains(r#"\"odd\", another call"#), "{error:?}");
    }
    assert_eq!(sent(&mut desk), [""; 0]);
}

#[test]
fn a_batch_that_is_refused_says_so_to_each_call() {
    for unsupported in [true, false] {
        let desk = if unsupported { speaking(Plain) } else { Desk::new(terms(), virtual_now) };
        let bank = Bank::new(desk.guest());
        for error in bank.batch(|batch| [batch.time(), batch.time()]).map(|call| settled(call).unwrap_err()) {
            let CallError::NotTaken { method: "public/time", error } = error else { panic!("{error:?}") };
            assert_eq!(matches!(error, SendError::Unsupported(_)), unsupported, "{error}");
            assert_eq!(error == SendError::Offline, !unsupported, "{error}");
        }
        assert!(bank.bye().is_err_and(|error| error.not_sent()));
    }
}

#[test]
fn calls_of_a_batch_are_told_when_it_is_sent_or_never_will_be() {
    let (mut desk, bank) = bank();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let poll = |call: &mut Call<u64, Refusal>| Pin::new(call).poll(&mut Context::from_waker(&waker));
    let mut call = bank.batch(|batch| {
        let mut call = batch.time();
        assert!(poll(&mut call).is_pending());
        assert_eq!((bell.rung(), call.id()), (0, None));
        call
    });
    assert_eq!(bell.rung(), 1);
    assert!(poll(&mut call).is_pending());
    assert_eq!(call.id().map(RequestId::as_u64), Some(2));
    desk.run();
    desk.feed(&result(2, "4"));
    assert_eq!((bell.rung(), poll(&mut call)), (1, Poll::Ready(Ok(4))));

    // Who waits in there would wait for ever.
    let not_sent: Answer<u64> = Err(CallError::NotSent { method: "public/time", why: Unanswered::Cancelled });
    bank.batch(|batch| assert_eq!(batch.time().wait(), not_sent));

    // It never comes to the end.
    let mut left = None;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bank.batch(|batch| {
            let mut call = batch.time();
            assert!(poll(&mut call).is_pending());
            left = Some(call);
            panic!("on purpose");
        });
    }));
    assert!(panicked.is_err() && bell.rung() == 1);
    assert_eq!(poll(&mut left.unwrap()), Poll::Ready(not_sent));
    assert_eq!(sent(&mut desk).len(), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "another thread is what is tested")]
fn a_call_may_be_awaited_elsewhere_before_its_batch_is_sent() {
    ends(|| {
        for round in 0..200_u64 {
            let (mut desk, bank) = bank();
            let (thread, dropped) = bank.batch(|batch| {
                let (call, other) = (batch.time(), batch.time());
                let dropped = std::thread::spawn(move || drop(other));
                (std::thread::spawn(move || block_on(call)), dropped)
            });
            desk.run();
            desk.feed(&result(2, &round.to_string()));
            assert_eq!(thread.join().unwrap(), Ok(round));
            dropped.join().unwrap();
        }
    });
}

#[test]
fn options_are_those_of_the_handle() {
    let (mut desk, bank) = bank();
    drop(bank.with(RequestOptions::default().id(70)).time());
    let one = bank.with(RequestOptions::default().id(71));
    let first = one.time();
    assert_eq!(
        settled(one.time()),
        Err(CallError::NotTaken { method: "public/time", error: SendError::DuplicateId(71) })
    );
    let other = bank.time();
    desk.run();
    desk.feed(&result(71, "1"));
    desk.feed(&result(72, "2"));
    assert_eq!((settled(first), settled(other)), (Ok(1), Ok(2)));
}

#[test]
fn any_protocol_that_has_requests_will_do() {
    let mut desk = speaking(Venue::new([]));
    let bank = Bank::new(desk.guest());
    let time = bank.time();
    let batch = bank.batch(|batch| [batch.time(), batch.time()]);
    assert_eq!(sent(&mut desk), ["req 2 public/time", "batch 3 4"]);
    for id in [4, 2, 3] {
        desk.feed(&text(&format!("ok {id}")));
    }
    assert_eq!(settled(time), Ok(2));
    assert_eq!(batch.map(settled), [Ok(3), Ok(4)]);
    let refused = bank.bye().unwrap_err();
    assert!(refused.not_sent() && format!("{refused:?}").contains("this protocol has no notifications"));
}

fn result(id: u64, result: &str) -> Vec<u8> {
    text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}
