//! Subscriptions: asked for, confirmed, rejected, restored; and what was missed between.

mod common;

use common::*;
use everwire_core::{Gap, JsonRpc, OwnedEvent, SubscribeOptions, SubscriptionState, Topic};

fn rpc(batch: usize) -> Harness {
    Harness::online(config().protocol(JsonRpc::new().topics_per_message(batch)))
}

/// The events by their names and topics, in order.
fn brief(h: &mut Harness) -> Vec<String> {
    let brief = h.told().into_iter().map(|event| match event {
        OwnedEvent::Online { resumed, .. } => format!("online {resumed}"),
        OwnedEvent::Subscribed { topic, .. } => format!("+{topic}"),
        OwnedEvent::Rejected { topic, reason, .. } => format!("-{topic}: {reason}"),
        OwnedEvent::Gap(Gap { topics, before, after, .. }) => {
            let names: Vec<String> = topics.into_iter().map(|(_, name)| name).collect();
            format!("gap {} {}..{}", names.join(","), before.as_u64(), after.as_u64())
        }
        OwnedEvent::Message { subscription, .. } => {
            format!("message {:?}", subscription.map(|id| id.as_u64()))
        }
        OwnedEvent::Lost { epoch, .. } => format!("lost {}", epoch.as_u64()),
        other => panic!("{other:?}"),
    });
    brief.collect()
}

fn channels(h: &Harness, conn: usize, method: &str) -> Vec<String> {
    calls(&h.texts(conn), method).into_iter().map(|(_, channels)| channels.join(",")).collect()
}

fn subscribe(h: &mut Harness, topic: &str) -> everwire_core::SubscriptionId {
    let id = h.s.subscribe(topic, SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    id
}

/// A connection is lost and the next one open, nothing on it confirmed.
fn reopen(h: &mut Harness) -> usize {
    h.eof(h.conns.len() - 1);
    let conn = h.next_conn();
    h.open(conn);
    conn
}

#[test]
fn restored_in_order_and_in_batches_before_it_is_online() {
    let mut h = rpc(2);
    for topic in ["e", "a", "d", "b", "c"] {
        subscribe(&mut h, topic);
    }
    confirm(&mut h, 0, 0);
    assert_eq!(brief(&mut h), ["+e", "+a", "+d", "+b", "+c"]);
    let conn = reopen(&mut h);
    assert_eq!(channels(&h, conn, "subscribe"), ["e,a", "d,b", "c"]);
    assert_eq!(brief(&mut h), ["lost 1"], "not online before all is restored");
    confirm(&mut h, conn, 0);
    let want = ["gap e,a 1..2", "+e", "+a", "gap d,b 1..2", "+d", "+b", "gap c 1..2", "+c", "online true"];
    assert_eq!(brief(&mut h), want);
}

#[test]
fn a_rejected_batch_is_tried_topic_by_topic() {
    let mut h = Harness::new(config().protocol(JsonRpc::new()));
    for topic in ["a", "bad", "c"] {
        h.s.subscribe(topic, SubscribeOptions::default(), h.now);
    }
    h.run();
    h.open(0);
    let [(id, all)] = &calls(&h.texts(0), "subscribe")[..] else { panic!("one batch") };
    assert_eq!(all.len(), 3);
    h.feed(0, &rpc_error(*id, "no"));
    let alone = calls(&h.texts(0), "subscribe").split_off(1);
    assert_eq!(alone.iter().map(|(_, topics)| topics.join(",")).collect::<Vec<_>>(), ["a", "bad", "c"]);
    for (id, topics) in alone {
        let answer = if topics == ["bad"] { rpc_error(id, "unknown") } else { result(id, "\"ok\"") };
        h.feed(0, &answer);
    }
    assert_eq!(brief(&mut h), ["+a", "-bad: unknown (code 7)", "+c", "online false"]);
    let states: Vec<_> = h.s.subscriptions().map(|s| s.state).collect();
    use SubscriptionState::{Confirmed, Rejected};
    assert_eq!(states, [Confirmed, Rejected, Confirmed]);
    // The next connection tries it again.
    let conn = reopen(&mut h);
    assert_eq!(channels(&h, conn, "subscribe"), ["a,bad,c"]);
}

#[test]
fn a_result_confirms_what_it_names() {
    let mut h = Harness::new(config().protocol(JsonRpc::new()));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.s.subscribe("b", SubscribeOptions::default(), h.now);
    h.run();
    h.open(0);
    let id = calls(&h.texts(0), "subscribe")[0].0;
    h.feed(0, &result(id, r#"["b"]"#));
    assert_eq!(brief(&mut h), ["+b", "-a: the server's answer does not name it", "online false"]);
}

#[test]
fn no_answer_in_time_is_a_rejection_and_a_late_one_changes_nothing() {
    let mut h = Harness::new(config().protocol(JsonRpc::new()).request_timeout(secs(3)));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.open(0);
    h.advance(millis(2999));
    assert_eq!(brief(&mut h), [""; 0]);
    h.advance(millis(1));
    assert_eq!(brief(&mut h), ["-a: no answer in 3s", "online false"]);
    let id = calls(&h.texts(0), "subscribe")[0].0;
    h.feed(0, &result(id, r#"["a"]"#));
    assert_eq!(brief(&mut h), ["message None"], "an answer that nobody waits for");
    assert_eq!(h.s.subscriptions().next().unwrap().state, SubscriptionState::Rejected);
}

#[test]
fn references_are_counted() {
    let mut h = rpc(10);
    let id = subscribe(&mut h, "a");
    assert_eq!(subscribe(&mut h, "a"), id);
    confirm(&mut h, 0, 0);
    assert_eq!(channels(&h, 0, "subscribe"), ["a"], "asked for once");
    assert!(h.s.unsubscribe(id, h.now));
    h.flush(0);
    assert_eq!(channels(&h, 0, "unsubscribe"), [""; 0], "somebody still wants it");
    assert!(h.s.unsubscribe(id, h.now));
    h.flush(0);
    assert_eq!(channels(&h, 0, "unsubscribe"), ["a"]);
    assert!(!h.s.unsubscribe(id, h.now), "it is gone");
    assert_ne!(subscribe(&mut h, "a"), id, "ids are not used again");
}

#[test]
fn unsubscribed_before_the_answer() {
    let mut h = rpc(10);
    let old = subscribe(&mut h, "a");
    h.s.unsubscribe(old, h.now);
    let new = subscribe(&mut h, "a");
    let texts = h.texts(0);
    assert_eq!((channels(&h, 0, "subscribe").len(), channels(&h, 0, "unsubscribe").len()), (2, 1));
    let ids: Vec<u64> = calls(&texts, "subscribe").into_iter().map(|(id, _)| id).collect();
    h.feed(0, &result(ids[0], r#"["a"]"#));
    assert_eq!(brief(&mut h), [""; 0], "the answer to what is not wanted any more");
    assert_eq!(h.s.subscriptions().next().unwrap().state, SubscriptionState::Pending);
    h.feed(0, &result(ids[1], r#"["a"]"#));
    assert!(matches!(&h.told()[..], [OwnedEvent::Subscribed { id, .. }] if *id == new));
}

#[test]
fn answers_of_an_old_connection_do_not_count_on_the_next() {
    let mut h = rpc(10);
    subscribe(&mut h, "a");
    let old = calls(&h.texts(0), "subscribe")[0].0;
    let conn = reopen(&mut h);
    h.feed(conn, &result(old, r#"["a"]"#));
    assert_eq!(brief(&mut h), ["lost 1", "message None"]);
    confirm(&mut h, conn, 0);
    assert_eq!(brief(&mut h), ["+a", "online true"], "no gap: it had not been in force");
}

#[test]
fn the_gap_comes_before_data_that_overtakes_the_answer() {
    let mut h = rpc(10);
    let id = subscribe(&mut h, "a").as_u64();
    confirm(&mut h, 0, 0);
    let conn = reopen(&mut h);
    h.told();
    h.feed(conn, &[notification("other", 0), notification("a", 1), notification("a", 2)].concat());
    let message = format!("message Some({id})");
    assert_eq!(brief(&mut h), ["message None", "gap a 1..2", &message, &message]);
    confirm(&mut h, conn, 0);
    assert_eq!(brief(&mut h), ["+a", "online true"], "told once");
}

#[test]
fn data_that_came_before_an_answer_that_never_did_begins_a_new_gap() {
    let mut h = rpc(10);
    subscribe(&mut h, "a");
    confirm(&mut h, 0, 0);
    let conn = reopen(&mut h);
    h.told();
    h.feed(conn, &notification("a", 1));
    assert_eq!(brief(&mut h)[0], "gap a 1..2");
    // Lost before the answer: what the third connection continues has a hole since then.
    let conn = reopen(&mut h);
    h.told();
    confirm(&mut h, conn, 0);
    assert_eq!(brief(&mut h), ["gap a 2..3", "+a", "online true"]);
}

#[test]
fn what_is_left_of_a_refused_batch_is_tried_alone_even_if_it_is_one_topic() {
    let mut h = rpc(10);
    let a = subscribe(&mut h, "a");
    subscribe(&mut h, "b");
    confirm(&mut h, 0, 0);
    let conn = reopen(&mut h);
    let batch = calls(&h.texts(conn), "subscribe");
    assert_eq!(batch[0].1, ["a", "b"]);
    h.s.unsubscribe(a, h.now);
    h.feed(conn, &rpc_error(batch[0].0, "a is unknown"));
    h.run();
    h.flush(conn);
    let alone = calls(&h.texts(conn), "subscribe");
    assert_eq!(alone.last().unwrap().1, ["b"]);
    assert_eq!(alone.len(), 2);
}

#[test]
fn a_gap_lasts_over_all_connections_that_failed_to_end_it() {
    let mut h = rpc(1);
    subscribe(&mut h, "a");
    subscribe(&mut h, "b");
    confirm(&mut h, 0, 0);
    h.advance(secs(5));
    h.feed(0, &notification("a", 1));
    let since = h.now;
    h.advance(secs(5));
    // Lost before any answer; then only `b` comes back; then both.
    reopen(&mut h);
    let conn = reopen(&mut h);
    let ids = calls(&h.texts(conn), "subscribe");
    h.told();
    h.feed(conn, &result(ids[1].0, r#"["b"]"#));
    assert_eq!(brief(&mut h), ["gap b 1..3", "+b"]);
    let lost = h.now;
    let conn = reopen(&mut h);
    confirm(&mut h, conn, 0);
    let gaps: Vec<Gap> = h
        .told()
        .into_iter()
        .filter_map(|event| match event {
            OwnedEvent::Gap(gap) => Some(gap),
            _ => None,
        })
        .collect();
    let [a, b] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((a.topics[0].1.as_str(), a.before.as_u64(), a.after.as_u64(), a.since), ("a", 1, 4, since));
    assert_eq!((b.topics[0].1.as_str(), b.before.as_u64(), b.after.as_u64(), b.since), ("b", 3, 4, lost));
    assert!(a.until == h.now && b.until == h.now);
}

#[test]
fn a_session_without_topics_has_one_gap() {
    let mut h = Harness::online(config());
    let since = h.now;
    reopen(&mut h);
    let events = h.told();
    let [OwnedEvent::Lost { .. }, OwnedEvent::Gap(gap), OwnedEvent::Online { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((gap.topics.len(), gap.since, gap.until), (0, since, h.now));
}

#[test]
fn plain_topics_are_messages_sent_anew() {
    let mut h = Harness::online(config());
    let id = h.s.subscribe(
        Topic::new("ticks").subscribe_with("SUB ticks").unsubscribe_with("UNSUB ticks"),
        SubscribeOptions::default(),
        h.now,
    );
    h.s.subscribe("raw", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0), ["SUB ticks", "raw"]);
    assert_eq!(brief(&mut h), ["+ticks", "+raw"]);
    let conn = reopen(&mut h);
    assert_eq!(h.texts(conn), ["SUB ticks", "raw"]);
    assert_eq!(brief(&mut h), ["lost 1", "gap ticks 1..2", "+ticks", "gap raw 1..2", "+raw", "online true"]);
    h.s.unsubscribe(id, h.now);
    h.flush(conn);
    assert_eq!(h.texts(conn)[2..], ["UNSUB ticks"]);
    let conn = reopen(&mut h);
    assert_eq!(h.texts(conn), ["raw"]);
}
