//! However a connection is cut up, or cut off, while it is authenticated, prepared and restored: the next one begins from nothing.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::State;
use everwire_core::protocol::Ack;
use needs::*;

/// Greeted, authenticated without an id, prepared in three steps, with topics of two channels that a list confirms.
fn words() -> Words {
    Words {
        authenticates: Some(Ack::Separate),
        greets: true,
        steps: vec![Ack::Response, Ack::None, Ack::Response],
        subscribes: Ack::Separate,
        ..Words::default()
    }
}

fn session() -> Harness {
    let mut h = Harness::new(config().protocol(words()));
    for topic in ["x:a", "y:b", "x:c"] {
        subscribe(&mut h, topic);
    }
    h.run();
    h
}

/// What the server says to all that it has read: byte for byte the same each time.
fn answers(conn: usize, written: &[u8]) -> Vec<u8> {
    let whole = written.ends_with(b"\r\n\r\n") || !after_head(written).is_empty();
    if !whole {
        return Vec::new();
    }
    let mut out = [accept(written, ""), text("hello")].concat();
    for (first, payload) in frames(after_head(written)).0 {
        let said = String::from_utf8(payload).unwrap();
        let words: Vec<&str> = said.split(' ').collect();
        match words[..] {
            // What was cut off is followed by a close frame of ours.
            _ if first != FIN | TEXT => {}
            ["auth", id] => {
                out.extend([text(&format!("ok {id}")), text(&format!("granted t{conn}"))].concat())
            }
            ["prep", _, "1", _] => {}
            ["prep", id, ..] => out.extend(text(&format!("ok {id}"))),
            ["sub", _, topics, _] => out.extend([text(&format!("list {topics}")), text("x:a news")].concat()),
            _ => panic!("{said}"),
        }
    }
    out
}

/// Lets them talk until nothing more is said, or so many bytes of either side were: how many those were.
fn talk(h: &mut Harness, conn: usize, most_out: usize, most_in: usize) -> (usize, usize) {
    h.s.handle_connected(h.conns[conn].id, h.now);
    h.run();
    let (mut sent, mut fed) = (0, 0);
    loop {
        let before = (sent, fed);
        sent += h.flush_up_to(conn, most_out - sent);
        let out = answers(conn, &h.conns[conn].written);
        let end = out.len().min(most_in);
        assert_eq!(h.feed_silently(conn, &out[fed..end]), end - fed);
        fed = end;
        if (sent, fed) == before {
            return (sent, fed);
        }
    }
}

/// What a whole connection comes to: what the client says, without ids, and what is told.
fn is_whole(h: &mut Harness, conn: usize, told: &[String]) {
    let said: Vec<String> = h.texts(conn).iter().map(|text| without_id(text)).collect();
    let granted = format!("<t{conn}>");
    let want = ["auth", "prep 0 G", "prep 1 G", "prep 2 G", "sub x:a,x:c G", "sub y:b G"];
    assert_eq!(said, want.map(|text| text.replace('G', &granted)));
    assert_eq!(h.s.state(), State::Online);
    let mut told: Vec<&str> =
        told.iter().map(|line| &**line).filter(|line| !line.starts_with("gap")).collect();
    told.retain(|line| !line.starts_with("message"));
    let resumed =
        ["authenticated", "+x:a", "+x:c", "+y:b", if conn == 0 { "online false" } else { "online" }];
    assert_eq!(told.len(), resumed.len(), "{told:?}");
    assert!(told.iter().zip(resumed).all(|(line, want)| line.starts_with(want)), "{told:?}");
}

fn without_id(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    words.remove(1);
    words.join(" ")
}

#[test]
fn it_is_the_same_however_the_bytes_are_cut() {
    let mut whole = session();
    talk(&mut whole, 0, usize::MAX, usize::MAX);
    let want = brief(&mut whole);
    is_whole(&mut whole, 0, &want);
    // One byte at a time, both ways.
    let mut h = session();
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    let mut fed = 0;
    loop {
        let sent = h.flush_up_to(0, 1);
        let out = answers(0, &h.conns[0].written);
        let next = out.get(fed..(fed + 1).min(out.len())).unwrap().to_vec();
        fed += h.feed_silently(0, &next);
        if sent == 0 && next.is_empty() {
            break;
        }
    }
    assert_eq!(h.texts(0), whole.texts(0));
    assert_eq!(brief(&mut h), want);
}

#[test]
fn killed_at_every_byte_the_next_connection_begins_from_nothing() {
    let mut h = session();
    let (sent, fed) = talk(&mut h, 0, usize::MAX, usize::MAX);
    assert!(sent > 200 && fed > 200);
    let cuts = (0..=sent).map(|out| (out, usize::MAX)).chain((0..=fed).map(|into| (usize::MAX, into)));
    for (most_out, most_in) in cuts {
        let mut h = session();
        talk(&mut h, 0, most_out, most_in);
        h.eof(0);
        let old = brief(&mut h);
        let lost = old.iter().filter(|line| line.starts_with("lost") || line.starts_with("AttemptFailed"));
        assert_eq!(lost.count(), 1, "{most_out} {most_in}: {old:?}");
        assert!(matches!(h.s.state(), State::Backoff));
        let next = h.next_conn();
        talk(&mut h, next, usize::MAX, usize::MAX);
        let new = brief(&mut h);
        is_whole(&mut h, 1, &new);
        // Gaps are of what had been in force, one for each.
        let confirmed = |line: &&String| line.starts_with('+');
        let mut was: Vec<&str> = old.iter().filter(confirmed).map(|line| &line[1..]).collect();
        // A message may come before its topic is confirmed: then it is in force as well.
        if old.iter().any(|line| line == "message x:a news") && !was.contains(&"x:a") {
            was.push("x:a");
        }
        let gaps = new.iter().filter_map(|line| line.strip_prefix("gap ")?.strip_suffix(" Reconnect"));
        let mut missed: Vec<&str> = gaps.flat_map(|names| names.split(',')).collect();
        (was.sort_unstable(), missed.sort_unstable());
        assert_eq!(missed, was, "{most_out} {most_in}: {old:?} {new:?}");
    }
}
