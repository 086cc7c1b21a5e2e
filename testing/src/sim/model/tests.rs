//! Histories by hand: one fact each second, the first at one second.

use super::{Fact, Model, Saw, Terms, Told};
use std::time::Duration;

/// When fact number `n` happens.
pub(super) fn at(n: u32) -> Duration {
    Duration::from_secs(u64::from(n) + 1)
}

pub(super) fn venue(conn: u64, saw: Saw) -> Fact {
    Fact::Venue(conn, saw)
}

pub(super) fn told(told: Told) -> Fact {
    Fact::Told(told)
}

/// A venue's message.
pub(super) fn data(topic: &str, number: u64, conn: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{topic}","data":{{"seq":{number},"t":0,"conn":{conn},"pad":""}}}}}}"#
    )
}

fn judged(terms: Terms, history: impl IntoIterator<Item = Fact>) -> Option<String> {
    let mut model = Model::new(terms);
    for (n, fact) in (0..).zip(history) {
        model.see(at(n), &fact);
    }
    model.violation().map(str::to_owned)
}

/// No promise is broken in this history.
#[track_caller]
pub(super) fn fine(history: impl IntoIterator<Item = Fact>) {
    fine_with(Terms::default(), history);
}

#[track_caller]
pub(super) fn fine_with(terms: Terms, history: impl IntoIterator<Item = Fact>) {
    assert_eq!(judged(terms, history), None);
}

/// The last fact of this history breaks a promise, and the report says so.
#[track_caller]
pub(super) fn broken(text: &str, history: impl IntoIterator<Item = Fact>) {
    broken_with(Terms::default(), text, history);
}

#[track_caller]
pub(super) fn broken_with(terms: Terms, text: &str, history: impl IntoIterator<Item = Fact>) {
    let violation = judged(terms, history).expect("a violation");
    assert!(violation.contains(text), "{violation}");
}

#[test]
fn reads_what_the_venue_writes() {
    let text = data("a.b", 17, 3);
    assert_eq!(super::Data::parse(&text), Some(super::Data { topic: "a.b", number: 17 }));
    assert_eq!(super::connection_in(&text), Some(3));
    assert_eq!(super::Data::parse("{}"), None);
    assert_eq!(super::connection_in("{}"), None);
}

#[test]
fn keeps_the_first_violation_and_the_last_facts() {
    let mut model = Model::new(Terms::default()).keep(2);
    for n in 0..4 {
        model.see(at(n), &venue(1, Saw::Fault { what: n.to_string() }));
    }
    assert!(model.violation().is_some_and(|text| text.starts_with("at 1s:") && text.ends_with(": 0")));
    assert_eq!((model.facts(), model.recent().count()), (4, 2));
}
