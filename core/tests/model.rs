//! A server that does all in order, and a user who wants and gives up topics all the time: they agree in the end, without any timeout.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Ack;
use everwire_core::{Limit, State, Step, SubscribeOptions, SubscriptionId, SubscriptionState, Watch};
use needs::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;

/// How outcomes of subscriptions are told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tells {
    /// By responses that name what is in force.
    Responses,
    /// For each topic.
    Topics,
    /// For each topic, with the id.
    Numbered,
    /// By lists.
    Lists,
}

struct Server {
    tells: Tells,
    unsubscribes: Ack,
    /// How much of what the client said was dealt with.
    seen: usize,
    on: BTreeSet<String>,
    bad: bool,
    trace: Vec<String>,
}

impl Server {
    fn step(&mut self, h: &mut Harness, conn: usize) -> bool {
        let Some(said) = h.texts(conn).get(self.seen).cloned() else { return false };
        self.seen += 1;
        let said = said.split(" <").next().unwrap().to_owned();
        let words: Vec<&str> = said.split(' ').collect();
        let (verb, id) = (words[0], words[1]);
        let mut answers = vec![];
        match verb {
            "auth" => answers.push("granted token".to_owned()),
            "prep" => answers.push(format!("ok {id} done")),
            "ask" => answers.push(format!("ok {id} result")),
            "sub" => {
                let names: Vec<String> = words[2].split(',').map(str::to_owned).collect();
                // One that is bad spoils a message.
                let bad = self.bad && names.iter().any(|name| name.contains("bad"));
                if !bad {
                    self.on.extend(names.iter().cloned());
                }
                let list = || self.on.iter().cloned().collect::<Vec<_>>().join(",");
                match (self.tells, bad) {
                    (Tells::Responses, false) => answers.push(format!("ok {id} {}", words[2])),
                    (Tells::Responses, true) => answers.push(format!("no {id} 7:bad")),
                    (Tells::Topics, false) => answers.extend(names.iter().map(|name| format!("on {name}"))),
                    (Tells::Numbered, false) => {
                        answers.extend(names.iter().map(|name| format!("on {name} {id}")));
                    }
                    (Tells::Lists, false) => answers.push(format!("list {}", list())),
                    (Tells::Topics | Tells::Lists, true) => answers.push("refused 7:bad".into()),
                    (Tells::Numbered, true) => answers.push(format!("no {id} 7:bad")),
                }
            }
            "unsub" => {
                let names: Vec<&str> = words[2].split(',').collect();
                names.iter().for_each(|name| _ = self.on.remove(*name));
                match self.unsubscribes {
                    Ack::Response => answers.push(format!("ok {id} bye")),
                    Ack::Separate => answers.extend(names.iter().map(|name| format!("off {name}"))),
                    Ack::None if self.tells == Tells::Lists => {
                        let list = self.on.iter().cloned().collect::<Vec<_>>().join(",");
                        answers.push(format!("list {list}"));
                    }
                    Ack::None => {}
                }
            }
            "beat" | "bye" => {}
            other => panic!("{other}"),
        }
        self.trace.push(format!("C: {said}"));
        for answer in answers {
            self.trace.push(format!("S: {answer}"));
            h.feed(conn, &text(&answer));
        }
        true
    }
}

fn run(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |n: u32| rng.next_u32() % n;
    let tells = [Tells::Responses, Tells::Topics, Tells::Numbered, Tells::Lists][pick(4) as usize];
    let unsubscribes = if tells == Tells::Lists {
        Ack::None
    } else {
        [Ack::Response, Ack::Separate, Ack::None][pick(3) as usize]
    };
    let limits = match pick(3) {
        0 => vec![Limit::window("topics", 2, secs(1)).margin(secs(0))],
        1 => vec![Limit::window("asking", 1, secs(1)).margin(secs(0))],
        _ => vec![],
    };
    let words = Words {
        authenticates: (pick(2) == 0).then_some(Ack::Separate),
        steps: vec![Ack::Response; pick(3) as usize],
        subscribes: if tells == Tells::Responses { Ack::Response } else { Ack::Separate },
        unsubscribes,
        per_message: 1 + pick(4) as usize,
        per_connection: (pick(3) == 0).then_some(3),
        limits,
        ..Words::default()
    };
    let per_connection = words.per_connection;
    let mut server = Server {
        tells,
        unsubscribes,
        seen: 0,
        on: BTreeSet::new(),
        // A list may be from before: what it names was refused since.
        bad: pick(2) == 0 && tells != Tells::Lists,
        trace: vec![format!("{tells:?} {unsubscribes:?} {per_connection:?} {:?}", words.limits)],
    };
    let mut h = opened(words);
    let watched = pick(2) == 0;
    let options = SubscribeOptions::default();
    let options =
        if watched { options.watch(Watch::after(millis(2500)).up_to(Step::Resubscribe)) } else { options };
    let mut mine: Vec<SubscriptionId> = vec![];
    let mut epoch = 1;
    let names = ["a", "b", "bad", "x:a", "x:b", "x:bad", "y"];
    for _ in 0..60 {
        match pick(14) {
            12 if watched && tells != Tells::Lists && !server.on.is_empty() => {
                let name = server.on.iter().nth(pick(server.on.len() as u32) as usize).unwrap().clone();
                server.on.remove(&name);
                server.trace.push(format!("S: off {name} (by itself)"));
                let conn = h.conns.len() - 1;
                h.feed(conn, &text(&format!("off {name}")));
            }
            13 if !server.on.is_empty() => {
                let name = server.on.iter().nth(pick(server.on.len() as u32) as usize).unwrap().clone();
                let conn = h.conns.len() - 1;
                h.feed(conn, &text(&format!("{name} 1")));
            }
            0..=3 => {
                let name = names[pick(7) as usize];
                let priority = pick(2) as u8;
                let id = h.s.subscribe(name, options.clone().priority(priority), h.now);
                server.trace.push(format!("U: want {name}"));
                mine.push(id);
            }
            4..=6 if !mine.is_empty() => {
                let id = mine.swap_remove(pick(mine.len() as u32) as usize);
                server.trace.push(format!("U: give up {id:?}"));
                h.s.unsubscribe(id, h.now);
            }
            7 => {
                h.advance(millis(u64::from(pick(1500))));
            }
            8 if pick(20) == 0 => {
                h.s.reconnect(h.now);
                h.run();
                let conn = h.next_conn();
                h.open(conn);
                server.trace.push("U: reconnect".into());
                (server.seen, epoch) = (0, epoch + 1);
                server.on.clear();
            }
            _ => {
                let conn = h.conns.len() - 1;
                h.flush(conn);
                server.step(&mut h, conn);
            }
        }
        h.run();
        let conn = h.conns.len() - 1;
        h.flush(conn);
    }
    // It comes to rest in less than the time of a request, from the last of them on.
    server.bad = false;
    for _ in 0..25 {
        let conn = h.conns.len() - 1;
        while server.step(&mut h, conn) {}
        for name in &server.on {
            h.feed(conn, &text(&format!("{name} 1")));
        }
        h.advance(secs(1));
        h.flush(conn);
    }
    let conn = h.conns.len() - 1;
    while server.step(&mut h, conn) {}
    let events: Vec<String> = h.told().iter().map(in_short).filter(|e| !e.starts_with("message")).collect();
    let wanted: BTreeSet<String> = h.s.subscriptions().map(|s| s.topic).collect();
    let context = || {
        format!(
            "seed {seed} {wanted:?} {:?}\n{}\n{events:#?}\n{:#?}",
            server.on,
            server.trace.join("\n"),
            h.s.subscriptions().collect::<Vec<_>>()
        )
    };
    assert_eq!(h.s.state(), State::Online, "{}", context());
    assert!(
        !events.iter().any(|event| event.contains("no answer") || event.starts_with("lost: the s")),
        "{}",
        context()
    );
    assert!(h.s.subscriptions().all(|s| s.references > 0), "leaving for ever: {}", context());
    match per_connection {
        None => {
            assert_eq!(server.on, wanted, "{}", context());
            assert!(h.s.subscriptions().all(|s| s.state == SubscriptionState::Confirmed), "{}", context());
        }
        Some(most) => {
            let confirmed: BTreeSet<String> =
                h.s.subscriptions()
                    .filter(|s| s.state == SubscriptionState::Confirmed)
                    .map(|s| s.topic)
                    .collect();
            assert_eq!(server.on, confirmed, "{}", context());
            assert_eq!(confirmed.len(), wanted.len().min(most), "{}", context());
        }
    }
}

#[test]
fn they_agree_in_the_end() {
    for seed in 0..1_500 {
        run(seed);
    }
}
