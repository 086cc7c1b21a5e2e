//! Histories of subscriptions, right and wrong.

use super::super::Terms;
use super::super::tests::{at, broken, broken_with, fine, told, venue};
use super::*;
use everwire_core::OnDisconnect;

fn subscribe(id: u64, topic: &str) -> Fact {
    Fact::Did(Did::Subscribe { id, topic: topic.to_owned() })
}

fn unsubscribe(id: u64, found: bool) -> Fact {
    Fact::Did(Did::Unsubscribe { id, found })
}

fn asked(conn: u64, topic: &str) -> Fact {
    venue(conn, Saw::Asked { topics: vec![topic.to_owned()] })
}

fn granted(conn: u64, topic: &str) -> Fact {
    venue(conn, Saw::Granted { topic: topic.to_owned(), after: 0 })
}

fn denied(conn: u64, topic: &str) -> Fact {
    venue(conn, Saw::Denied { topic: topic.to_owned() })
}

fn dropped(conn: u64, topic: &str) -> Fact {
    venue(conn, Saw::Dropped { topic: topic.to_owned(), by: Some(1) })
}

/// Confirmed, by what had arrived as fact number `asked`.
fn acked(conn: u64, topic: &str, asked: u32) -> Fact {
    venue(conn, Saw::Acked { topic: topic.to_owned(), asked: at(asked) })
}

fn subscribed(id: u64, topic: &str, epoch: u64) -> Fact {
    told(Told::Subscribed { id, topic: topic.to_owned(), epoch })
}

fn online(epoch: u64) -> Fact {
    told(Told::Online { epoch, resumed: epoch > 1, conn: Some(epoch) })
}

fn request(id: u64) -> Fact {
    Fact::Did(Did::Request {
        id,
        method: "echo".to_owned(),
        params: "[]".to_owned(),
        on_disconnect: OnDisconnect::Fail,
        deadline: Duration::from_secs(1000),
        epoch: Some(1),
        urgent: false,
    })
}

/// The request arrives, and its answer.
fn exchange(id: u64) -> [Fact; 3] {
    let (method, params, text) = ("echo".to_owned(), "[]".to_owned(), "[]".to_owned());
    [
        venue(1, Saw::Request { id, method, params }),
        venue(1, Saw::Answered { id, text: text.clone() }),
        told(Told::Response { id, answer: Answer::Result(text) }),
    ]
}

/// A subscription that is in force on connection 1, which is online.
fn in_force() -> Vec<Fact> {
    vec![
        subscribe(1, "a"),
        venue(1, Saw::Upgraded),
        asked(1, "a"),
        granted(1, "a"),
        acked(1, "a", 2),
        subscribed(1, "a", 1),
        online(1),
    ]
}

#[test]
fn every_subscription_is_settled_before_online() {
    fine(in_force());
    let mut history = in_force();
    history.remove(5);
    broken("neither confirmed nor rejected", history.clone());
    history.insert(5, told(Told::Rejected { id: 1, topic: "a".to_owned(), epoch: 1 }));
    fine(history);
    broken("did not accept", [told(Told::Online { epoch: 1, resumed: false, conn: None })]);
    broken("without a handshake", [online(1)]);
}

#[test]
fn confirmations_come_from_the_venue() {
    let mut history = in_force();
    history.remove(4);
    broken("is not answered", history);
    // The answer to what was asked for a subscription that is over.
    let mut history = in_force();
    history.extend([unsubscribe(1, true), dropped(1, "a"), subscribe(2, "a"), asked(1, "a")]);
    history.extend([granted(1, "a"), subscribed(2, "a", 1)]);
    broken("is not answered", history.clone());
    // He was not told at once: then at least it must not be older than the subscription.
    let late = Fact::Did(Did::Slept { since: Duration::ZERO });
    let mut unheard = history.clone();
    unheard.insert(12, late);
    broken("by an answer to what arrived", unheard);
    history.insert(12, acked(1, "a", 10));
    fine(history);
}

#[test]
fn asked_once() {
    let again = || in_force().into_iter().chain([asked(1, "a")]);
    broken("asked for twice", again());
    fine(in_force().into_iter().chain([denied(1, "a"), asked(1, "a")]));
    fine(in_force().into_iter().chain([asked(2, "a")]));
    broken("asked for twice", [subscribe(1, "a"), asked(1, "a"), asked(1, "a")]);
}

#[test]
fn ids_are_shared_and_never_used_again() {
    fine([subscribe(1, "a"), subscribe(1, "a"), unsubscribe(1, true), unsubscribe(1, true)]);
    broken("found it", [subscribe(1, "a"), unsubscribe(1, true), unsubscribe(1, true)]);
    broken("found it", [subscribe(1, "a"), unsubscribe(1, false)]);
    broken("and now 2 too", [subscribe(1, "a"), subscribe(2, "a")]);
    broken("used before", [subscribe(1, "a"), unsubscribe(1, true), subscribe(1, "a")]);
    broken("is of a and of b", [subscribe(1, "a"), subscribe(1, "b")]);
}

#[test]
fn restored_before_the_users_traffic() {
    let message = || venue(1, Saw::Request { id: 9, method: "echo".to_owned(), params: "[]".to_owned() });
    let made = Fact::Did(Did::Request {
        id: 9,
        method: "echo".to_owned(),
        params: "[]".to_owned(),
        on_disconnect: OnDisconnect::Hold,
        deadline: Duration::from_secs(1000),
        epoch: None,
        urgent: false,
    });
    let history = [made, subscribe(1, "a"), venue(1, Saw::Upgraded)];
    broken("before a was restored", history.clone().into_iter().chain([message()]));
    fine(history.into_iter().chain([asked(1, "a"), message()]));
}

#[test]
fn authentication_comes_first_and_once() {
    let terms = || Terms { authenticates: Some(Duration::ZERO), ..Terms::default() };
    let auth = |rightly| venue(1, Saw::Authenticated { rightly });
    broken_with(terms(), "before it authenticated", [subscribe(1, "a"), asked(1, "a")]);
    broken_with(terms(), "before it authenticated", [request(9), exchange(9)[0].clone()]);
    broken_with(terms(), "twice or wrongly", [auth(true), auth(true)]);
    broken_with(terms(), "twice or wrongly", [auth(false)]);
    broken("after it had subscribed", [subscribe(1, "a"), asked(1, "a"), auth(true)]);
}

#[test]
fn both_ends_agree_on_what_is_in_force() {
    let exchanged = |more: &[Fact]| {
        let mut history = in_force();
        history.extend_from_slice(more);
        history.push(request(9));
        history.extend(exchange(9));
        history
    };
    fine(exchanged(&[]));
    fine(exchanged(&[unsubscribe(1, true), dropped(1, "a")]));
    broken("nobody holds it", exchanged(&[unsubscribe(1, true)]));
    // Whoever slept may not have been told yet why it is made anew.
    let slept = Fact::Did(Did::Slept { since: Duration::ZERO });
    broken("at the venue it is Some(Ended)", exchanged(&[slept, dropped(1, "a")]));
}
