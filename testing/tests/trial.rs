//! Trials: all is well with a venue and a client that do right, and each check finds what is planted for it.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_core::{
    Config, Continuity, Endpoint, JsonRpc, Limit, Recovery, Sequence, SequenceRule, Step, SubscribeOptions,
    Tracker, Watch, protocol::Fault,
};
use everwire_testing::script::kit::{Channels, Ticker, Wall, Window, at, list, parse, query};
use everwire_testing::script::trial::{Read, Report, Total, Trial, sweep};
use everwire_testing::script::{HttpRequest, HttpResponse, Replies, Reply, Script};
use everwire_testing::sim::Dice;
use everwire_testing::sim::ws::Upgrade;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// Messages in any second, and topics.
const LIMIT: u32 = 10;
const TOPICS: [&str; 5] = ["quotes.A", "quotes.B", "quotes.C", "trades.A", "trades.B"];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What the venue does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It is at its end in the calm.
    Skips,
    AcksWithoutData,
    Rejects,
    /// It stays. The client has to be told by its trial.
    SkipsForever,
    Repeats,
    GoesBack,
    IsMute,
    RejectsForever,
    RefusesForever,
    KeepsSending,
    NeverAnswers,
    Stops,
    Unfair,
}

/// A venue of quotes: JSON-RPC, a limit of messages, tickets, a logout.
#[derive(Debug)]
struct Quotes {
    wall: Wall,
    channels: Channels,
    market: Ticker,
    limits: Vec<(u64, Window)>,
    wrong: Option<Wrong>,
    tickets: BTreeSet<String>,
    made: usize,
    /// The connection that was made last, and those that logged out.
    newest: u64,
    logouts: BTreeSet<u64>,
}

impl Quotes {
    fn new() -> Self {
        let mut market = Ticker::new(Duration::from_millis(700));
        TOPICS.iter().for_each(|topic| market.open(topic, Duration::ZERO));
        Self {
            wall: Wall::default(),
            channels: Channels::new(),
            market,
            limits: Vec::new(),
            wrong: None,
            tickets: BTreeSet::new(),
            made: 0,
            newest: 0,
            logouts: BTreeSet::new(),
        }
    }

    fn does(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    fn end(&mut self, conn: u64, channels: &[String]) {
        for channel in channels {
            self.channels.unsubscribe(conn, channel);
        }
    }

    /// A ticket for one connection.
    fn endpoint(&mut self, now: Duration) -> Endpoint {
        let request = HttpRequest::new("POST", "/ticket", "");
        let ticket = parse(std::str::from_utf8(&self.http(&request, now).body).unwrap());
        Endpoint::new(&format!("ws://venue.test/?ticket={}", at(&ticket, "ticket"))).unwrap()
    }
}

impl Script for Quotes {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
    }

    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        if self.does(Wrong::RefusesForever) && now > secs(100) {
            return Err(HttpResponse::status(503));
        }
        let ticket = query(&request.target, "ticket");
        if !ticket.is_some_and(|ticket| self.tickets.remove(&ticket)) {
            return Err(HttpResponse::status(401));
        }
        self.newest = conn;
        self.limits.push((conn, Window::new(u64::from(LIMIT), secs(1))));
        Ok(())
    }

    fn http(&mut self, _: &HttpRequest, _: Duration) -> HttpResponse {
        self.made += 1;
        let ticket = format!("t{}", self.made);
        self.tickets.insert(ticket.clone());
        HttpResponse::json(&json!({"ticket": ticket}))
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        let window = self.limits.iter_mut().find(|(of, _)| *of == conn);
        if window.is_some_and(|(_, window)| window.exceeds(1, now)) {
            out.punish_timing(conn, "too many messages");
            return out.close(conn, 1008, "too many messages");
        }
        let call = parse(text);
        let result = match at(&call, "method") {
            "subscribe" => {
                let channels = list(&call["params"]["channels"]);
                if self.does(Wrong::Rejects) || self.does(Wrong::RejectsForever) {
                    return out
                        .json(conn, &json!({"id": call["id"], "error": {"code": 1, "message": "busy"}}));
                }
                for channel in &channels {
                    if !TOPICS.contains(&channel.as_str()) {
                        out.punish(conn, format!("no such topic: {channel}"));
                    }
                    if !self.channels.subscribe(conn, channel) && !self.does(Wrong::KeepsSending) {
                        out.punish(conn, format!("subscribed to {channel} twice"));
                    }
                }
                if self.does(Wrong::AcksWithoutData) {
                    // Once: a watch that has done all that it can rests until there are data.
                    self.wrong = None;
                    self.end(conn, &channels);
                }
                json!(channels)
            }
            "unsubscribe" => {
                let channels = list(&call["params"]["channels"]);
                if !self.does(Wrong::KeepsSending) {
                    self.end(conn, &channels);
                }
                json!(channels)
            }
            "time" if self.does(Wrong::NeverAnswers) => return,
            "time" if self.does(Wrong::Unfair) => return out.punish(conn, "asked for the time"),
            "time" => json!(self.wall.millis(now)),
            "logout" => {
                if !self.logouts.insert(conn) {
                    out.punish(conn, "logged out twice");
                }
                json!("ok")
            }
            other => return out.punish(conn, format!("no such method: {other}")),
        };
        out.json(conn, &json!({"jsonrpc": "2.0", "id": call["id"], "result": result}));
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.channels.leave(conn);
        self.limits.retain(|(of, _)| *of != conn);
    }

    fn deadline(&self) -> Option<Duration> {
        self.market.deadline()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        for tick in self.market.ticks(now) {
            let mut number = tick.number;
            for conn in self.channels.listeners(&tick.topic) {
                let topic = tick.topic.as_str();
                match self.wrong {
                    Some(Wrong::Skips | Wrong::SkipsForever) if number.is_multiple_of(50) => continue,
                    Some(Wrong::GoesBack) if number.is_multiple_of(50) => number -= 2,
                    Some(Wrong::IsMute) => continue,
                    _ => {}
                }
                let data = json!({"seq": number, "at": self.wall.rfc3339(tick.at, 6)});
                let params = json!({"channel": topic, "data": data});
                let message = json!({"jsonrpc": "2.0", "method": "subscription", "params": params});
                out.json(conn, &message);
                if self.does(Wrong::Repeats) && number.is_multiple_of(50) {
                    out.json(conn, &message);
                }
                if self.does(Wrong::Stops) && number > 50 {
                    out.close(conn, 4999, "never come back");
                }
            }
        }
    }
}

/// The client's side.
fn protocol() -> JsonRpc {
    silent().farewell("logout", None).unwrap()
}

/// It leaves without a word.
fn silent() -> JsonRpc {
    JsonRpc::new()
        .limit(Limit::window("messages", LIMIT, secs(1)))
        .cost(|_, traffic| {
            use everwire_core::protocol::Traffic;
            u32::from(!matches!(traffic, Traffic::Ping | Traffic::Pong | Traffic::Close))
        })
        .recovery(|fault, _| matches!(fault, Fault::Closed(4999, _)).then_some(Recovery::Stop))
}

/// The numbers are watched.
fn tracked() -> JsonRpc {
    numbered(protocol())
}

fn numbered(protocol: JsonRpc) -> JsonRpc {
    protocol
        .sequence(|_, params| {
            let (_, rest) = params.split_once(r#""seq":"#)?;
            Some(Sequence::new(rest.split(['}', ',']).next()?.parse().ok()?))
        })
        .tracker(|_| Some(SequenceRule::PlusOne.tracker()))
}

fn reads(text: &str) -> Option<Read> {
    let params = &parse(text)["params"];
    Some(Read::new(at(params, "channel"), params["data"]["seq"].as_u64()?))
}

fn time(_: &mut Dice) -> (String, Option<String>) {
    ("time".to_owned(), None)
}

fn trial(protocol: JsonRpc) -> Trial<Quotes> {
    let watch = || SubscribeOptions::default().watch(Watch::after(secs(10)).up_to(Step::Reconnect));
    let trial = Trial::new(Config::provided().protocol(protocol), Quotes::new(), reads)
        .requests(time)
        .provider(|script, now| Ok(script.endpoint(now)))
        .farewell(|script| match script.logouts.contains(&script.newest) {
            true => Ok(()),
            false => Err("no logout".to_owned()),
        });
    TOPICS.iter().fold(trial, |trial, topic| trial.topic(*topic, watch()))
}

fn faulty(protocol: JsonRpc) -> Trial<Quotes> {
    trial(protocol)
        .faults(secs(15), |script, dice, _, out| {
            let wrongs = [None, Some(Wrong::Skips), Some(Wrong::AcksWithoutData), Some(Wrong::Rejects)];
            script.wrong = wrongs[dice.index(wrongs.len())];
            if dice.chance(300) {
                (0..50).for_each(|conn| match dice.below(3) {
                    0 => out.close(conn, 1001, "going away"),
                    1 => out.push(conn, Reply::Fin),
                    _ => out.push(conn, Reply::Reset),
                });
            }
        })
        .calms(|script, _, _| script.wrong = None)
}

#[test]
fn all_is_well() {
    let total = sweep(0..200, |_| faulty(tracked()));
    assert!(total.reconnects > 500 && total.messages > 50_000 && total.gaps > 1000, "{total}");
    assert!(total.rejected > 500 && total.requests.1 > 1000, "{total}");
}

#[test]
fn the_same_seed_is_the_same_trial() {
    let run = |seed| faulty(tracked()).run(seed);
    let (one, two) = (run(7), run(7));
    assert_eq!((one.total, one.time), (two.total, two.time));
    assert_ne!(one.total, run(8).total);
    assert!(one.log.is_empty() && one.violation.is_none());
}

/// Plants this for the whole time.
fn planted(wrong: Wrong) -> Trial<Quotes> {
    with(trial(tracked()), wrong)
}

fn with(trial: Trial<Quotes>, wrong: Wrong) -> Trial<Quotes> {
    trial.faults(secs(1), move |script, _, _, _| script.wrong = Some(wrong))
}

/// Some seed finds it, and says so; all others find nothing else.
fn finds(what: &[&str], trial: impl Fn() -> Trial<Quotes>) {
    let reports: Vec<Report> = (0..8).map(|seed| trial().run(seed)).collect();
    let mut found = 0;
    for Report { seed, violation, log, .. } in reports {
        let Some(violation) = violation else { continue };
        assert!(what.iter().any(|what| violation.contains(what)), "seed {seed}: {violation}\n{log}");
        assert!(log.contains(&format!("seed {seed};")) && log.contains("<-"), "{log}");
        found += 1;
    }
    assert!(found > 0, "nobody found it: {what:?}");
}

#[test]
fn numbers_that_the_venue_skips_and_nobody_tracks() {
    // What is silent for long is subscribed to anew, which would be a gap.
    finds(&["a silent gap"], || with(trial(protocol()), Wrong::SkipsForever));
    finds(&["told twice, or out of order"], || with(trial(protocol()), Wrong::Repeats));
    finds(&["told twice, or out of order"], || with(trial(protocol()), Wrong::GoesBack));
    // A tracker tells of them.
    for wrong in [Wrong::SkipsForever, Wrong::Repeats] {
        let trial = planted(wrong).calms(|script, _, _| script.wrong = None);
        assert_eq!(trial.run(0).violation, None);
    }
}

/// Finds every tenth message to be missing something.
#[derive(Debug)]
struct Nervous(u64);

impl Tracker for Nervous {
    fn check(&mut self, sequence: Option<Sequence>, _: &str) -> Continuity {
        self.0 += 1;
        match sequence {
            Some(Sequence { first, .. }) if self.0.is_multiple_of(10) => {
                Continuity::Gap { expected: first, got: first + 1 }
            }
            _ => Continuity::Continues,
        }
    }
}

#[test]
fn gaps_that_are_none() {
    finds(&["a gap where nothing is missing"], || trial(tracked().tracker(|_| Some(Box::new(Nervous(0))))));
}

#[test]
fn what_does_not_come_right_in_the_calm() {
    finds(&["no data of a topic", "not in force"], || planted(Wrong::IsMute));
    finds(&["not in force"], || planted(Wrong::RejectsForever));
    finds(&["not online", "was not answered"], || planted(Wrong::RefusesForever));
    finds(&["was given up, and data of it came"], || planted(Wrong::KeepsSending));
    finds(&["was not answered", "has no answer"], || planted(Wrong::NeverAnswers));
}

#[test]
fn what_is_punished_and_what_ends_the_session() {
    finds(&["was punished: asked for the time"], || planted(Wrong::Unfair));
    finds(&["the session ended by itself"], || planted(Wrong::Stops));
    let unlimited = || JsonRpc::new().farewell("logout", None).unwrap().topics_per_message(1);
    finds(&["was punished: too many messages"], || {
        trial(unlimited()).pace(Duration::from_millis(100)).length(secs(100)..secs(100), secs(60))
    });
}

#[test]
fn how_it_is_closed() {
    finds(&["no logout"], || trial(numbered(silent())));
    let again = |script: &mut Quotes, _, _: &mut Replies| _ = script.logouts.insert(script.newest);
    finds(&["logged out twice"], || trial(tracked()).calms(again));
    finds(&["the close took longer than 1ms"], || trial(tracked()).close_within(Duration::from_millis(1)));
}

#[test]
fn a_sweep_that_did_nothing_is_noticed() {
    let caught = |sweep: Box<dyn FnOnce() -> Total>| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sweep));
        caught.unwrap_err().downcast_ref::<String>().unwrap().clone()
    };
    let deaf = || {
        Trial::new(Config::provided(), Quotes::new(), |_| None)
            .provider(|script, now| Ok(script.endpoint(now)))
    };
    assert!(caught(Box::new(move || sweep(0..2, |_| deaf()))).contains("hardly anything was told"));
    let failed = caught(Box::new(|| sweep(0..8, |_| planted(Wrong::RejectsForever))));
    assert!(
        failed.starts_with("seed ") && failed.contains("not in force") && failed.contains("busy"),
        "{failed}"
    );
    let config = Config::new("ws://venue.test/").unwrap().send_buffer(0);
    let broken = Trial::new(config, Quotes::new(), reads).run(0);
    assert!(broken.violation.unwrap().contains("cannot work"));
}
