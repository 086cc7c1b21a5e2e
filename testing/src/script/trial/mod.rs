//! A session against a scripted venue, in simulations by the hundred.
//!
//! A [`Trial`] is a configuration, a script, topics, and a function that reads the venue's data. [`Trial::run`] puts a session and the script at the ends
//! of a simulated network whose faults the seed decides. A user subscribes, unsubscribes and asks by dice, and the venue does wrong what
//! [`Trial::faults`] says. After that comes a calm, in which all must come right again, and then the session is closed. What is checked:
//!
//! - The venue punishes nothing, and the session keeps the promises that every [`Simulation`] watches.
//! - The numbers of a topic follow on each other, but for where a [`Gap`](everwire_core::Event::Gap) was told for that topic; and a gap is told for a
//!   reason.
//! - Messages name the subscription that they belong to, and none that was given up.
//! - The session never ends by itself. At the end of the calm it is online, each topic that is wanted is in force and has had data lately, and
//!   those that are not wanted any more have not.
//! - Each request is settled once, and one of the calm with an answer.
//! - The close ends in time, and [as the venue wants it](Trial::farewell).
//!
//! [`sweep`] runs many seeds, and fails with the seed and what was said last. A quarter of the seeds has a network without faults; in half of them it
//! stalls, delays and bunches up what is sent, so that what is [punished for its timing](super::Replies::punish_timing) does not count.
//!
//! ```
//! use everwire_core::{Config, JsonRpc};
//! use everwire_testing::script::kit::{Channels, Ticker, at, list, parse};
//! use everwire_testing::script::trial::{Read, Trial, sweep};
//! use everwire_testing::script::{Replies, Script};
//! use serde_json::json;
//! use std::time::Duration;
//!
//! #[derive(Debug)]
//! struct Quotes {
//!     channels: Channels,
//!     market: Ticker,
//! }
//!
//! impl Script for Quotes {
//!     fn text(&mut self, conn: u64, text: &str, _: Duration, out: &mut Replies) {
//!         let call = parse(text);
//!         for channel in list(&call["params"]["channels"]) {
//!             let subscribes = at(&call, "method") == "subscribe";
//!             if subscribes && !self.channels.subscribe(conn, &channel) {
//!                 out.punish(conn, format!("subscribed to {channel} twice"));
//!             } else if !subscribes {
//!                 self.channels.unsubscribe(conn, &channel);
//!             }
//!         }
//!         out.json(conn, &json!({"id": call["id"], "result": "ok"}));
//!     }
//!
//!     fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
//!         self.channels.leave(conn);
//!     }
//!
//!     fn deadline(&self) -> Option<Duration> {
//!         self.market.deadline()
//!     }
//!
//!     fn run(&mut self, now: Duration, out: &mut Replies) {
//!         for tick in self.market.ticks(now) {
//!             for conn in self.channels.listeners(&tick.topic) {
//!                 out.json(conn, &json!({"method": "subscription", "params": {"channel": tick.topic, "data": tick.number}}));
//!             }
//!         }
//!     }
//! }
//!
//! let total = sweep(0..8, |_| {
//!     let mut quotes = Quotes { channels: Channels::new(), market: Ticker::new(Duration::from_secs(1)) };
//!     ["a", "b", "c"].iter().for_each(|topic| quotes.market.open(topic, Duration::ZERO));
//!     let config = Config::new("ws://venue.test/").expect("the URL is right").protocol(JsonRpc::new());
//!     let read = |text: &str| {
//!         let params = &parse(text)["params"];
//!         Some(Read::new(at(params, "channel"), params["data"].as_u64()?))
//!     };
//!     Trial::new(config, quotes, read).topics(["a", "b", "c"])
//! });
//! assert!(total.messages > 500 && total.reconnects > 5, "{total}");
//! ```

mod check;
mod sweep;
mod trader;

pub use sweep::{Report, Total, sweep};

use super::{Host, Replies, Script};
use crate::sim::{Accept, Action, Dice, Ended, Faults, Net, Outcome, Server, Simulation, instant};
use check::Check;
use everwire_core::{CloseOptions, Config, Endpoint, ProviderError, SubscribeOptions, Topic};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;
use trader::Trader;

type Reads = Box<dyn Fn(&str) -> Option<Read>>;
type Asks = Box<dyn FnMut(&mut Dice) -> (String, Option<String>)>;
type Faulting<S> = Box<dyn FnMut(&mut S, &mut Dice, Duration, &mut Replies)>;
type Calming<S> = Box<dyn FnMut(&mut S, Duration, &mut Replies)>;
type Providing<S> = Box<dyn FnMut(&mut S, Duration) -> Result<Endpoint, ProviderError>>;
type Judging<S> = Box<dyn Fn(&S) -> Result<(), String>>;

/// A session that is to be tried against a script.
#[must_use = "nothing happens before `run`"]
pub struct Trial<S: Script> {
    config: Config,
    script: S,
    topics: Vec<(Topic, SubscribeOptions)>,
    most: usize,
    reads: Reads,
    asks: Option<Asks>,
    faults: Option<(Duration, Faulting<S>)>,
    calms: Option<Calming<S>>,
    provider: Option<Providing<S>>,
    judge: Option<Judging<S>>,
    net: Option<Net>,
    busy: Range<Duration>,
    calm: Duration,
    pace: Duration,
    close_within: Duration,
    reconnects: bool,
    own_numbers: bool,
}

/// What a message of the venue says of its place in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The topic's name, as it was subscribed to.
    pub topic: String,
    /// The first number that it stands for, and the last.
    pub numbers: (u64, u64),
    /// It holds the whole state, and may repeat a number that was told.
    pub snapshot: bool,
}

impl Read {
    /// A message with one number, which follows on that of the message before.
    pub fn new(topic: impl Into<String>, number: u64) -> Self {
        Self::range(topic, number, number)
    }

    /// A message that stands for several numbers. One that names the message before it stands for all from the number after that.
    pub fn range(topic: impl Into<String>, first: u64, last: u64) -> Self {
        Self { topic: topic.into(), numbers: (first, last), snapshot: false }
    }

    /// It holds the whole state.
    pub fn snapshot(self) -> Self {
        Self { snapshot: true, ..self }
    }
}

impl<S: Script + 'static> Trial<S> {
    /// A trial of this configuration, whose URL may be any with a name or an address, against this script. Data are what `reads` finds a topic and
    /// numbers in.
    pub fn new(config: Config, script: S, reads: impl Fn(&str) -> Option<Read> + 'static) -> Self {
        Self {
            config,
            script,
            topics: Vec::new(),
            most: usize::MAX,
            reads: Box::new(reads),
            asks: None,
            faults: None,
            calms: None,
            provider: None,
            judge: None,
            net: None,
            busy: Duration::from_secs(20)..Duration::from_secs(200),
            calm: Duration::from_secs(120),
            pace: Duration::from_secs(4),
            close_within: Duration::from_secs(10),
            reconnects: true,
            own_numbers: true,
        }
    }

    /// Topics that the user may want, with default options. About half of them are wanted at a time, and at least one.
    pub fn topics(self, topics: impl IntoIterator<Item = impl Into<Topic>>) -> Self {
        topics.into_iter().fold(self, |trial, topic| trial.topic(topic, SubscribeOptions::default()))
    }

    /// A topic that the user may want, with options.
    pub fn topic(mut self, topic: impl Into<Topic>, options: SubscribeOptions) -> Self {
        self.topics.push((topic.into(), options));
        self
    }

    /// The user wants no more than so many topics at a time. Default: as many as there are.
    pub fn most(self, topics: usize) -> Self {
        Self { most: topics, ..self }
    }

    /// The user asks this now and then: a method and its parameters as JSON. The venue must answer it. Default: nothing is asked.
    pub fn requests(self, asks: impl FnMut(&mut Dice) -> (String, Option<String>) + 'static) -> Self {
        Self { asks: Some(Box::new(asks)), ..self }
    }

    /// About every `every` of the busy time the venue does something wrong, or begins or ceases to. Default: it does all right. What only a
    /// [`Watch`](everwire_core::Watch) notices, such as a topic without data, must end before the watch has done all that it can: it rests then.
    pub fn faults(
        self,
        every: Duration,
        faults: impl FnMut(&mut S, &mut Dice, Duration, &mut Replies) + 'static,
    ) -> Self {
        Self { faults: Some((every, Box::new(faults))), ..self }
    }

    /// Ends what `faults` began: called when the calm begins.
    pub fn calms(self, calms: impl FnMut(&mut S, Duration, &mut Replies) + 'static) -> Self {
        Self { calms: Some(Box::new(calms)), ..self }
    }

    /// Answers a session that asks for its endpoint ([`Config::provided`]), such as by asking the script's [`http`](Script::http) for a token.
    pub fn provider(
        self,
        provider: impl FnMut(&mut S, Duration) -> Result<Endpoint, ProviderError> + 'static,
    ) -> Self {
        Self { provider: Some(Box::new(provider)), ..self }
    }

    /// What is wrong with the script after the close, if anything is, such as that there was no logout.
    pub fn farewell(self, judge: impl Fn(&S) -> Result<(), String> + 'static) -> Self {
        Self { judge: Some(Box::new(judge)), ..self }
    }

    /// The network, whatever the seed. Its faults should be over [before the calm](Faults::until).
    pub fn net(self, net: Net) -> Self {
        Self { net: Some(net), ..self }
    }

    /// How long the busy time is, and then the calm. Default 20 to 200 s, and 120 s.
    pub fn length(self, busy: Range<Duration>, calm: Duration) -> Self {
        Self { busy, calm, ..self }
    }

    /// About how often the user does something in the busy time. Default 4 s.
    pub fn pace(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// How long the close may take. Default 10 s.
    pub fn close_within(self, time: Duration) -> Self {
        Self { close_within: time, ..self }
    }

    /// Whether the user asks for new connections now and then. Default: yes.
    pub fn reconnects(self, reconnects: bool) -> Self {
        Self { reconnects, ..self }
    }

    /// The protocol watches other numbers than `reads` reads, such as those of all of a connection
    /// ([`Protocol::connection_tracker`](everwire_core::Protocol::connection_tracker)): a gap in them may miss nothing of the topic that it is told of.
    pub fn other_numbers(self) -> Self {
        Self { own_numbers: false, ..self }
    }

    /// Runs it.
    pub fn run(self, seed: u64) -> Report {
        let mut dice = Dice::new(seed, 10);
        let busy = dice.time(self.busy.start, self.busy.end.max(self.busy.start));
        let end = busy.saturating_add(self.calm);
        let (net, patient) = match self.net {
            Some(net) => (net, true),
            None => network(seed, busy),
        };
        let host = Host::new(self.script);
        let host = Rc::new(RefCell::new(if patient { host.patient() } else { host }));
        let check = Check::new(busy + self.calm / 2, self.own_numbers);
        let trader = Trader {
            dice: Dice::new(seed, 11),
            topics: self.topics,
            most: self.most,
            reads: self.reads,
            asks: self.asks,
            pace: self.pace,
            busy,
            last_request: Some(busy + self.calm / 4 * 3),
            next: Some(Duration::ZERO),
            pauses: patient,
            paused: None,
            reconnects: self.reconnects,
            held: Vec::new(),
            check,
            told: VecDeque::new(),
        };
        let made = Simulation::new(self.config, seed, net, Hosting(host.clone()), trader);
        let mut simulation = match made {
            Ok(simulation) => simulation,
            Err(error) => return Report::broken(seed, format!("the configuration cannot work: {error}")),
        };
        if let Some(mut provider) = self.provider {
            let host = host.clone();
            simulation = simulation.provider(move |now| provider(host.borrow_mut().script_mut(), now));
        }
        let mut wrong = None;
        let mut go = |simulation: &mut Simulation<_, _>, until| match simulation.run_until(until) {
            Outcome::Limit => true,
            Outcome::Closed => {
                wrong = Some("the session ended by itself".to_owned());
                false
            }
            Outcome::Violation(text) => {
                wrong = Some(text);
                false
            }
        };
        let mut runs = true;
        if let Some((every, mut faults)) = self.faults {
            let mut at = dice.about(every);
            while runs && at < busy {
                runs = go(&mut simulation, at);
                host.borrow_mut().act(at, |script, out| faults(script, &mut dice, at, out));
                at += dice.about(every).max(Duration::from_millis(1));
            }
        }
        runs = runs && go(&mut simulation, busy);
        if let Some(mut calms) = self.calms {
            host.borrow_mut().act(busy, |script, out| calms(script, busy, out));
        }
        if runs && go(&mut simulation, end) {
            wrong = simulation.user().look(simulation.session(), end).err();
            if wrong.is_none() {
                simulation.user_mut().check.closing = true;
                simulation.session_mut().close_with(CloseOptions::new(), instant(end));
                wrong = match simulation.run_until(end + self.close_within) {
                    Outcome::Closed => {
                        let judged = self.judge.map_or(Ok(()), |judge| judge(host.borrow().script()));
                        simulation.user().check.closed().and(judged).err()
                    }
                    Outcome::Limit => Some(format!("the close took longer than {:?}", self.close_within)),
                    Outcome::Violation(text) => Some(text),
                };
            }
        }
        let violation = simulation.user().check.wrong.clone().or(wrong);
        let user = simulation.user();
        let log = violation.as_ref().map(|_| {
            let told: String = user.told.iter().flat_map(|told| [told.as_str(), "\n"]).collect();
            format!(
                "{}\nWhat was told:\n{told}\nWhat was said:\n{}",
                simulation.log(),
                host.borrow().transcript()
            )
        });
        let total = user.check.total.with(simulation.stats());
        Report { seed, violation, time: simulation.now(), total, log: log.unwrap_or_default() }
    }
}

/// A seed's network, and whether it bunches up what is sent.
fn network(seed: u64, busy: Duration) -> (Net, bool) {
    let (ms, secs) = (Duration::from_millis, Duration::from_secs);
    // What is sent takes as long each time, so that what is spaced out stays so.
    let steady = Net::perfect().latency(ms(20)..ms(20)).rechunk(1..5000).addresses(2);
    match seed % 4 {
        0 => (steady, false),
        1 => {
            let faults = Faults::none()
                .cut(0.2, 1..20_000)
                .lifetime(0.9, ms(10)..secs(200))
                .refuse(0.1)
                .silent(0.05)
                .resolve_failure(0.05)
                .provider_failure(0.05);
            (steady.faults(faults.until(busy)), false)
        }
        _ => {
            let faults = Faults::some()
                .lifetime(0.9, ms(10)..secs(200))
                .half_open(0.1, ms(10)..secs(100))
                .half_open_wholly();
            (Net::lossy().faults(faults.until(busy)), true)
        }
    }
}

impl<S: Script> fmt::Debug for Trial<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("script", &self.script)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// A host that the trial has a hand on too.
#[derive(Debug)]
struct Hosting<S>(Rc<RefCell<Host<S>>>);

impl<S: Script> Server for Hosting<S> {
    fn accept(&mut self, conn: u64, to: SocketAddr, now: Duration) -> Accept {
        self.0.borrow_mut().accept(conn, to, now)
    }

    fn received(&mut self, conn: u64, bytes: &[u8], now: Duration) {
        self.0.borrow_mut().received(conn, bytes, now);
    }

    fn closed(&mut self, conn: u64, how: Ended, now: Duration) {
        self.0.borrow_mut().closed(conn, how, now);
    }

    fn deadline(&self) -> Option<Duration> {
        self.0.borrow().deadline()
    }

    fn run(&mut self, now: Duration) {
        self.0.borrow_mut().run(now);
    }

    fn output(&mut self) -> Option<(u64, Action)> {
        self.0.borrow_mut().output()
    }

    fn violation(&self) -> Option<String> {
        self.0.borrow().violation()
    }
}
