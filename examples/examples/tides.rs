//! A protocol from nothing: what `docs/guides/building-a-protocol.md` builds. A tide gauge network with its own way to say things.
//!
//! `cargo run --example tides`

use everwire_core::protocol::{Ack, Context, Fault, Inbound, Traffic, Unsupported};
use everwire_core::{
    CloseCode, Config, Endpoint, Limit, OnDisconnect, OwnedEvent, Protocol, ProviderError, Recovery, Request,
    RequestOptions, Sequence, Sequences, Topic, Tracker,
};
use everwire_testing::script::trial::{Read, Trial, sweep};
use everwire_testing::script::{Live, Replies, Reply, Script};
use everwire_tokio::{Driver, spawn};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ops::Range;
use std::time::Duration;

/// What the tide gauges speak.
#[derive(Debug)]
struct Tides {
    member: String,
}

/// What of a message decides what it is. All of it borrows.
#[derive(Deserialize)]
struct Envelope<'m> {
    /// The number of what this answers.
    re: Option<u64>,
    #[serde(borrow)]
    ok: Option<&'m RawValue>,
    #[serde(borrow)]
    no: Option<&'m RawValue>,
    /// The gauge that was read, the number of the reading, and when, in milliseconds since 1970.
    gauge: Option<&'m str>,
    n: Option<u64>,
    at: Option<u64>,
    /// `there?` or `leaving`.
    say: Option<&'m str>,
}

impl Protocol for Tides {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let Ok(message) = serde_json::from_str::<Envelope<'_>>(text) else { return Inbound::other() };
        match message {
            Envelope { re: Some(id), ok: Some(ok), .. } => Inbound::Response { id, result: Ok(ok.get()) },
            Envelope { re: Some(id), no: Some(no), .. } => Inbound::Response { id, result: Err(no.get()) },
            Envelope { say: Some("there?"), .. } => Inbound::Heartbeat,
            Envelope { say: Some("leaving"), .. } => {
                Inbound::Notice { text, recovery: Some(Recovery::Reconnect) }
            }
            Envelope { gauge: Some(gauge), n, at, .. } => Inbound::Message {
                topic: Some(gauge.into()),
                sequence: n.map(Sequence::new),
                sent: at.map(Duration::from_millis),
            },
            _ => Inbound::other(),
        }
    }

    fn topics_per_message(&self) -> usize {
        10
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let gauges: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        out.push_str(&json!({"do": "watch", "id": id, "gauges": gauges}).to_string());
        Ok(Ack::Response)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let gauges: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        out.push_str(&json!({"do": "forget", "id": id, "gauges": gauges}).to_string());
        Ok(Ack::Response)
    }

    /// The answer to `watch` lists the gauges that there are.
    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        serde_json::from_str::<Vec<&str>>(result).is_ok_and(|gauges| gauges.contains(&topic.name()))
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        // Their parameters are JSON text already, made by the user: what is none must not break the message around it.
        let params: &RawValue = serde_json::from_str(request.params.unwrap_or("null"))
            .map_err(|error| Unsupported { reason: format!("the parameters are no JSON: {error}") })?;
        out.push_str(&json!({"do": request.method, "id": id, "with": params}).to_string());
        Ok(())
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        // The token is the endpoint's, so that each connection has a fresh one.
        let token = context.params.get("token").unwrap_or_default();
        out.push_str(&json!({"do": "enter", "id": id, "member": self.member, "token": token}).to_string());
        Ok(Ack::Response)
    }

    fn heartbeat_reply(&self, _: &str, _: u64, out: &mut String) {
        out.push_str(r#"{"do":"here"}"#);
    }

    fn limits(&self) -> Vec<Limit> {
        vec![Limit::window("messages", 20, Duration::from_secs(1))]
    }

    fn cost(&self, _: &str, traffic: Traffic<'_>) -> u32 {
        // Pings and pongs are not counted by this server, a close frame is too late to matter.
        u32::from(!matches!(traffic, Traffic::Ping | Traffic::Pong | Traffic::Close))
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        match fault {
            // "Come back later", by this server's own code.
            Fault::Closed(4003, _) => Some(Recovery::Backoff(Duration::from_secs(30))),
            // A member that is not known will not be known in a second either.
            Fault::Authentication(_) => Some(Recovery::Stop),
            _ => None,
        }
    }

    fn tracker(&self, _: &Topic) -> Option<Box<dyn Tracker>> {
        Some(Box::new(Sequences::plus_one()))
    }

    fn farewell(&self, _: u64, _: &Context<'_>, out: &mut String) -> Ack {
        out.push_str(r#"{"do":"leave"}"#);
        Ack::None
    }
}

/// The network, as its documents have it: what it says, and what it does to whom breaks its rules.
#[derive(Debug, Default)]
struct Network {
    members: BTreeMap<u64, Member>,
    /// How often each gauge was read, whether anybody watches or not.
    readings: u64,
}

#[derive(Debug, Default)]
struct Member {
    entered: bool,
    gauges: BTreeSet<String>,
    /// When its messages of the last second came.
    recent: Vec<Duration>,
    /// By when it must have said that it is here.
    here_by: Option<Duration>,
}

const GAUGES: [&str; 2] = ["dover", "brest"];
const PERIOD: Duration = Duration::from_millis(50);
/// Every so many readings it asks who is there.
const ROLL_CALL: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(5);

impl Script for Network {
    fn opened(&mut self, conn: u64, _: Duration, _: &mut Replies) {
        self.members.insert(conn, Member::default());
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.members.remove(&conn);
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        let Some(member) = self.members.get_mut(&conn) else { return };
        member.recent.retain(|at| now - *at < Duration::from_secs(1));
        member.recent.push(now);
        if member.recent.len() > 20 {
            return self.throw_out(conn, "more than 20 messages in a second", out);
        }
        let said: Value = serde_json::from_str(text).unwrap_or_default();
        let mut answer = match said["do"].as_str() {
            Some("enter") if said["member"] == "ann" && said["token"] == "t1" => {
                member.entered = true;
                json!({"ok": true})
            }
            Some("here") => {
                member.here_by = None;
                return;
            }
            Some("leave") => {
                self.members.remove(&conn);
                return out.push(conn, Reply::Fin);
            }
            Some("watch") if member.entered => {
                let asked = said["gauges"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let known: Vec<&str> = asked.filter(|gauge| GAUGES.contains(gauge)).collect();
                member.gauges.extend(known.iter().map(|gauge| (*gauge).to_owned()));
                json!({"ok": known})
            }
            Some("forget") => {
                let asked = said["gauges"].as_array().into_iter().flatten().filter_map(Value::as_str);
                asked.for_each(|gauge| _ = member.gauges.remove(gauge));
                json!({"ok": true})
            }
            Some("highest") if GAUGES.contains(&said["with"].as_str().unwrap_or_default()) => {
                json!({"ok": 6.8})
            }
            Some("highest") => json!({"no": {"code": 2, "message": "no such gauge"}}),
            _ => json!({"no": {"code": 1, "message": "who are you, and what do you want?"}}),
        };
        answer["re"] = said["id"].clone();
        out.json(conn, &answer);
    }

    fn deadline(&self) -> Option<Duration> {
        Some(PERIOD * u32::try_from(self.readings + 1).ok()?)
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        while self.deadline().is_some_and(|due| due <= now) {
            self.readings += 1;
            for (conn, member) in &mut self.members {
                for gauge in &member.gauges {
                    out.json(*conn, &json!({"gauge": gauge, "n": self.readings, "level": 3.2}));
                }
                if self.readings.is_multiple_of(ROLL_CALL) {
                    out.json(*conn, &json!({"say": "there?"}));
                    member.here_by.get_or_insert(now + PATIENCE);
                }
            }
        }
        let late = |(conn, member): (&u64, &Member)| member.here_by.filter(|by| *by <= now).map(|_| *conn);
        let late: Vec<u64> = self.members.iter().filter_map(late).collect();
        late.into_iter().for_each(|conn| self.throw_out(conn, "it did not say that it is here", out));
    }
}

impl Network {
    fn throw_out(&mut self, conn: u64, why: &str, out: &mut Replies) {
        self.members.remove(&conn);
        out.punish_timing(conn, why);
        out.close(conn, 4003, why);
    }
}

/// Every connection has an endpoint of its own, with a fresh token.
fn endpoint(url: &str) -> Result<Endpoint, ProviderError> {
    Ok(Endpoint::new(url)?.param("token", "t1"))
}

fn config() -> Config {
    Config::provided().protocol(Tides { member: "ann".to_owned() })
}

/// Over real sockets: two gauges, one that is not there, a question, a cut.
async fn live() -> Result<String, Box<dyn Error>> {
    let network = Live::start(Network::default());
    let url = network.url("/gauges");
    let driver = Driver::new(config())?.provider(move || std::future::ready(endpoint(&url)));
    let (client, mut events) = spawn(driver);
    for gauge in ["dover", "brest", "atlantis"] {
        client.subscribe(gauge);
    }
    let highest = client.request_with(Request::new("highest").params(r#""dover""#), hold());
    let (mut readings, mut gaps, mut rejected) = (0, 0, 0);
    while let Some(event) = events.next().await {
        match event {
            OwnedEvent::Message { message, .. } => {
                readings += 1;
                match readings {
                    1 => println!("{message}"),
                    20 => network.cut_all(),
                    40 => client.close(CloseCode::Normal, "done"),
                    _ => {}
                }
            }
            OwnedEvent::Lost { error, .. } => println!("lost: {error}"),
            OwnedEvent::Gap(gap) => gaps += gap.topics.len(),
            OwnedEvent::Rejected { topic, reason, .. } => {
                println!("no {topic}: {reason}");
                rejected += 1;
            }
            _ => {}
        }
    }
    let highest = highest.await?;
    // Both gauges have one gap, and the third is refused on each connection.
    let (well, punished) = ((gaps, rejected, &*highest) == (2, 2, "6.8"), network.punishments());
    if !well || !punished.is_empty() {
        return Err(format!("{gaps} gaps, {rejected} rejected, {highest} the highest, {punished:?}").into());
    }
    Ok(format!("{readings} readings, 1 reconnect, {gaps} gaps"))
}

/// A question that may be asked before there is a connection.
fn hold() -> RequestOptions {
    RequestOptions { on_disconnect: OnDisconnect::Hold, ..RequestOptions::default() }
}

/// In virtual time, over networks that lose, delay and cut up, each by its seed.
fn simulated(seeds: Range<u64>) -> u64 {
    let total = sweep(seeds, |_| {
        Trial::new(config(), Network::default(), |text| {
            let reading: Value = serde_json::from_str(text).ok()?;
            Some(Read::new(reading["gauge"].as_str()?, reading["n"].as_u64()?))
        })
        .topics(GAUGES)
        .provider(|_, _| endpoint("ws://gauges.test/"))
        .requests(|_| ("highest".to_owned(), Some(r#""brest""#.to_owned())))
        // Now and then a reading is lost on its way to the server.
        .faults(Duration::from_secs(10), |network, _, _, _| network.readings += 1)
    });
    total.reconnects
}

/// Runs it, and says what came.
///
/// # Errors
/// What did not come, or what went wrong.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let lived = live().await?;
    let reconnects = simulated(0..50);
    Ok(format!("{lived}; in 50 simulations {reconnects} more reconnects"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    match run().await {
        Ok(summary) => println!("tides: ok, {summary}"),
        Err(error) => {
            eprintln!("tides: failed: {error}");
            std::process::exit(1);
        }
    }
}
