//! The operations that an input is made of, those of the user foremost.

use super::setup::SECRET;
use super::world::{Made, Numbers, Takes, Topic, World};
use crate::Input;
use everwire_core::protocol::OwnedRpcError;
use everwire_core::{
    CloseOptions, Drain, Message, OnDisconnect, Pressure, Request, RequestId, RequestOptions, SendError,
    SendId, SendOptions, SequenceRule, State, Step, SubscribeOptions, SubscriptionId, Watch,
};
use std::time::Duration;

/// Longest time that a session waits for anything.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

impl World {
    /// One operation.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        let (op, arg) = (input.u8() % 64, input.u8());
        let now = self.now;
        match op {
            32 => self.batch(arg),
            33 => self.request(arg, Some(u64::from(arg >> 5))),
            34 => self.send_pressing(arg),
            35 => self.subscribe_specially(arg),
            36 => self.respond(arg),
            37 if self.jumps < 8 => {
                let days = [1, 24, 30 * 24, 400 * 24][usize::from(arg & 3)];
                self.jumps += 1;
                self.set_now(now + Duration::from_secs(3600 * days));
            }
            38 => {
                let back = Duration::from_millis([1, 100, 1000][usize::from(arg % 3)] * u64::from(arg >> 2));
                let earliest = self.start - Duration::from_secs(1);
                if let Some(then) = now.checked_sub(back).filter(|then| *then >= earliest) {
                    self.jumps += 1;
                    self.now = then;
                }
            }
            39..=43 => self.with_newest(|world, index| world.sockets[index].peer.say_more(arg)),
            44 => self.with_socket(arg, |world, index| world.sockets[index].peer.say_more(arg)),
            45 => _ = self.behave(),
            46 => self.queries(),
            op => self.old_step(op % 32, arg, input),
        }
    }

    fn old_step(&mut self, op: u8, arg: u8, input: &mut Input<'_>) {
        let now = self.now;
        match op {
            0 => self.all_goes_well(),
            1 => self.with_socket(arg, |world, index| world.connected(index)),
            2 => self.with_socket(arg, |world, index| world.disconnected(index, arg)),
            3 => self.resolved(arg),
            4 => self.provided(arg),
            5 => self.with_newest(|world, index| _ = world.transmit(index, usize::from(arg))),
            6 => self.with_socket(arg, |world, index| _ = world.transmit(index, usize::MAX)),
            7 => self.with_newest(|world, index| world.sockets[index].peer.answer_http(arg)),
            8..=10 => self.with_newest(|world, index| world.sockets[index].peer.say(arg, input)),
            11 => self.with_socket(arg, |world, index| world.sockets[index].peer.say(arg, input)),
            12 => self.with_newest(|world, index| _ = world.deliver(index, usize::from(arg))),
            13 => self.with_newest(|world, index| _ = world.deliver(index, usize::MAX)),
            14 => self.with_socket(arg, |world, index| _ = world.deliver(index, usize::MAX)),
            15 => {
                let step = [1, 30, 700, 10_000][usize::from(arg & 3)];
                self.set_now(now + Duration::from_millis(step * u64::from(arg >> 2)));
            }
            16 => self.set_now(self.until.map_or(now, |until| until.max(now))),
            17 => self.session.handle_timeout(now),
            18 => self.takes = [Takes::All, Takes::Nothing, Takes::Leases][usize::from(arg % 3)],
            19 => self.give_back(),
            20 => self.send(arg, SendOptions::default()),
            21 | 22 => self.request(arg, None),
            23 => {
                if let Some((&id, made)) = self.requests.iter().nth(usize::from(arg)) {
                    let cancelled = self.session.cancel(id, now);
                    assert!(!(made.is_empty() && cancelled), "{id:?} was settled before");
                }
            }
            24 => self.subscribe(arg, SubscribeOptions::default()),
            25 => {
                if let Some(&id) = self.topics.keys().nth(usize::from(arg)) {
                    self.unsubscribed += usize::from(self.session.unsubscribe(id, now));
                }
            }
            26 => self.session.reconnect(now),
            // Ends are rare, so that something comes before them.
            27 if arg >= 0xe0 => {
                let drain = [Drain::Accepted, Drain::Answers, Drain::Nothing][usize::from(arg % 3)];
                let unit = if arg & 0x10 != 0 { 5 } else { 500 };
                let within = Duration::from_millis(u64::from(arg & 0x1c) * unit);
                let options = CloseOptions::new().reason("bye ".repeat(usize::from(arg)));
                self.session.close_with(options.drain(drain).within(within), now);
            }
            28 if arg >= 0xf0 => self.session.abort(now),
            29 => self.misuse(arg),
            30 => self.queries(),
            _ => {
                self.give_back();
                self.take_one();
            }
        }
    }

    /// Everything that is asked for happens, in the best way: the short way to a session that is online.
    fn all_goes_well(&mut self) {
        for _ in 0..4 {
            self.provided_well(true);
            self.resolved(1);
            self.settle();
            self.with_newest(|world, index| {
                world.connected(index);
                world.settle();
                world.transmit(index, usize::MAX);
                // A SOCKS proxy asks up to three times.
                for _ in 0..3 {
                    if world.sockets[index].peer.at_gate() {
                        world.sockets[index].peer.answer_http(0);
                        world.deliver(index, usize::MAX);
                        world.settle();
                        world.transmit(index, usize::MAX);
                    }
                }
                world.sockets[index].peer.answer_http(0);
                world.deliver(index, usize::MAX);
                world.settle();
                world.transmit(index, usize::MAX);
                if world.sockets[index].peer.upgraded {
                    world.sockets[index].peer.greet();
                }
                world.sockets[index].peer.say(15, &mut Input::new(&[]));
                world.deliver(index, usize::MAX);
                world.settle();
            });
        }
    }

    fn queries(&mut self) {
        let status = self.session.status(self.now);
        assert_eq!(status.state, self.session.state());
        assert!(status.transitions.len() <= 32);
        // It may be due already: while an event is not taken, no attempt begins.
        assert_eq!(status.retry_at.is_some(), status.state == State::Backoff, "{status:?}");
        for id in &self.resolves {
            let _ = self.session.host(*id);
        }
        for (name, left, of) in self.session.budget(self.now) {
            assert!(left <= of && of > 0, "{name}: {left} of {of}");
        }
        let waits = self.session.pressure() != Pressure::None;
        assert!(!waits || self.setup.limited, "nothing holds it back");
        let shown = format!("{:?} {:?} {status:?}", self.session, self.session.latency());
        assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
        let _ = (self.session.timeout(), self.session.stats());
    }

    pub(super) fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            let _ = lease.event();
            self.session.give_back(lease);
        }
    }

    fn send_pressing(&mut self, arg: u8) {
        let options = SendOptions::default().priority(arg & 2 != 0).compress(arg & 4 == 0);
        let options = match arg >> 3 & 3 {
            0 => options,
            1 => options.timeout(Duration::ZERO),
            2 => options.timeout(Duration::from_millis(300)),
            _ => options.timeout(Duration::MAX),
        };
        self.send(arg & 0xe1, options);
    }

    pub(super) fn send(&mut self, arg: u8, options: SendOptions) {
        let id = self.last_send + 1;
        let mut text = format!("S{id} ");
        text.extend(std::iter::repeat_n('x', usize::from(arg) * 24));
        let message = if arg & 1 == 0 { Message::Text(&text) } else { Message::Binary(text.as_bytes()) };
        let result = self.session.send(message, options, self.now);
        assert!(!matches!(result, Err(SendError::Unsupported(_))), "every message can be sent");
        self.was_sent(result);
    }

    fn was_sent(&mut self, result: Result<SendId, SendError>) {
        match result {
            Ok(given) => {
                assert_eq!(given.as_u64(), self.last_send + 1);
                self.last_send += 1;
                let epoch = self.session.status(self.now).epoch;
                self.sent.entry(epoch).or_default().push(self.last_send);
            }
            Err(SendError::Full) => self.refused += 1,
            Err(_) => {}
        }
    }

    fn request_options(&self, arg: u8) -> RequestOptions {
        RequestOptions {
            timeout: [None, Some(Duration::ZERO), Some(Duration::from_millis(50)), Some(Duration::MAX)]
                [usize::from(arg & 3)],
            on_disconnect: [OnDisconnect::Fail, OnDisconnect::Hold, OnDisconnect::Resend]
                [usize::from(arg >> 2) % 3],
            priority: arg & 16 != 0,
            id: None,
        }
    }

    pub(super) fn request(&mut self, arg: u8, id: Option<u64>) {
        let options = RequestOptions { id, ..self.request_options(arg) };
        let params = self.params(1, arg).remove(0);
        let request = Request::new("ask").params(&params);
        let result = self.session.request(request, options.clone(), self.now);
        if let Ok(given) = result {
            assert!(id.is_none_or(|id| given.as_u64() == id));
            return self.was_made(&[given], &options);
        }
        self.refused += u32::from(result == Err(SendError::Full));
        if let Err(SendError::DuplicateId(taken)) = result {
            assert_eq!(id, Some(taken));
        }
    }

    fn batch(&mut self, arg: u8) {
        let options = self.request_options(arg);
        let params = self.params(usize::from(arg >> 5), arg);
        let requests: Vec<_> = params.iter().map(|params| Request::new("ask").params(params)).collect();
        let result = self.session.request_batch(&requests, options.clone(), self.now);
        match result {
            Ok(ids) => {
                assert_eq!(ids.len(), requests.len());
                self.was_made(&ids, &options);
            }
            Err(error) => self.refused += u32::from(error == SendError::Full),
        }
    }

    /// Parameters of the next requests: each bears its number.
    fn params(&self, count: usize, arg: u8) -> Vec<String> {
        let filler = "y".repeat(usize::from(arg >> 4) * 100);
        let serials = self.last_request + 1..=self.last_request + count as u64;
        serials.map(|serial| format!("[\"r{serial} {filler}\"]")).collect()
    }

    fn was_made(&mut self, ids: &[RequestId], options: &RequestOptions) {
        let timeout = options.timeout.unwrap_or(self.setup.request_timeout).min(MAX_TIME);
        for id in ids {
            self.last_request += 1;
            let made = Made { serial: self.last_request, deadline: self.now + timeout };
            if options.on_disconnect == OnDisconnect::Resend {
                self.resend.insert(made.serial);
            }
            self.requests.entry(*id).or_default().push_back(made);
        }
    }

    fn respond(&mut self, arg: u8) {
        let Some((epoch, id)) = self.asked.iter().rev().nth(usize::from(arg >> 5)).cloned() else { return };
        let text = format!("\"S{} \"", self.last_send + 1);
        let error = OwnedRpcError { code: -1, message: "no".to_owned(), data: Some("{".to_owned()) };
        let result = match arg & 7 {
            0 => Ok("no JSON"),
            1 => Err(&error),
            _ => Ok(&*text),
        };
        let old = epoch < self.session.status(self.now).epoch;
        let sent = self.session.respond(epoch, &id, result, self.now);
        assert!(!old || sent == Err(SendError::Gone), "answered on another connection");
        assert!(arg & 7 > 1 || sent.is_err(), "that is no answer");
        self.was_sent(sent);
    }

    fn subscribe_specially(&mut self, arg: u8) {
        let options = SubscribeOptions::default().priority(arg >> 3 & 1);
        let options = match arg >> 4 & 3 {
            0 => options.sequence(SequenceRule::PlusOne),
            1 => options.sequence(SequenceRule::PreviousId),
            2 => options.sequence(SequenceRule::Range),
            _ => options,
        };
        let watch = Watch::after(Duration::from_secs(4));
        let options = match arg >> 6 {
            0 => options,
            1 => options.watch(watch.up_to(Step::Probe)),
            2 => options.watch(watch),
            _ => options.watch(watch.up_to(Step::Reconnect)),
        };
        self.subscribe(arg & 7, options);
    }

    fn subscribe(&mut self, arg: u8, options: SubscribeOptions) {
        let topic = everwire_core::Topic::new(format!("t{}", arg % 8));
        let topic =
            if arg & 8 != 0 { topic.subscribe_with("please").unsubscribe_with("enough") } else { topic };
        let rule = options.sequence.clone();
        let id: SubscriptionId = self.session.subscribe(topic, options, self.now);
        let new = || Topic { rule, live: None, gap: None, numbers: Numbers::Unwatched };
        self.topics.entry(id).or_insert_with(new);
    }
}
