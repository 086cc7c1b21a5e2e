//! What kind of session it is: drawn from the first bytes of an input.

use super::manner::Manner;
use super::venue::Venue;
use crate::Input;
use everwire_core::protocol::{Fault, Traffic};
use everwire_core::ws::Limits;
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{Config, JsonRpc, Limit, Policy, Recovery, Sequence, Step, Transport, Watch};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What must never be shown.
pub(super) const SECRET: &str = "hush-hush";

/// What a run needs to know of its configuration.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) seed: u8,
    pub(super) deflate: bool,
    pub(super) by_abort: bool,
    pub(super) digests: bool,
    pub(super) json: bool,
    pub(super) authenticates: bool,
    pub(super) per_topic: bool,
    /// The outcomes of subscriptions are not told.
    pub(super) silent: bool,
    /// Messages of topics have numbers that the protocol reads.
    pub(super) numbered: bool,
    pub(super) restore: bool,
    pub(super) limited: bool,
    /// Windows: most messages, and in what time, as a server sees it. Each connection has its own.
    pub(super) windows: Vec<(usize, Duration)>,
    pub(super) queue_messages: usize,
    pub(super) queue_bytes: usize,
    pub(super) request_timeout: Duration,
    pub(super) queue_timeout: Duration,
    /// A refused topic may be left alone for the rest of the connection.
    pub(super) stops_topics: bool,
    pub(super) manner: Manner,
}

const SECOND: Duration = Duration::from_secs(1);

impl Setup {
    pub(super) fn new(input: &mut Input<'_>) -> (Self, Config) {
        let (flags, more) = (input.u8(), input.u8());
        let has = |bit: u8| flags & bit != 0;
        let mut extended = [0; 5];
        if more & 64 != 0 {
            extended = std::array::from_fn(|_| input.u8());
        }
        let [limits, speech, watches, pace, ends] = extended;
        let manner = Manner::new(ends & 8 != 0, input);
        let mut setup = Self {
            seed: more,
            deflate: has(16),
            by_abort: more & 128 != 0,
            digests: has(128),
            json: has(32),
            authenticates: has(32) && speech & 1 != 0,
            per_topic: has(32) && speech & 16 != 0,
            silent: has(32) && ends & 1 != 0 && speech & 16 == 0,
            numbered: has(32) && speech & 32 == 0,
            restore: watches & 4 == 0,
            limited: limits & 7 != 0,
            windows: Vec::new(),
            queue_messages: 1024,
            queue_bytes: 1 << 20,
            request_timeout: [30 * SECOND, 2 * SECOND][usize::from(pace >> 6 & 1)],
            queue_timeout: [30, 1, 5, 300][usize::from(pace >> 4 & 3)] * SECOND,
            stops_topics: has(32) && speech & 128 != 0,
            manner,
        };
        (setup.queue_messages, setup.queue_bytes) =
            [(1024, 1 << 20), (0, 1 << 20), (1024, 0), (1, 1 << 20), (3, 200), (0, 0), (8, 4000), (16, 1)]
                [usize::from(limits >> 5)];
        let config = match (has(1), has(2)) {
            (true, _) => Config::provided(),
            (_, true) => Config::new(&format!("ws://user:{SECRET}@example.test/feed")).expect("a fixed URL"),
            _ => Config::new("ws://127.0.0.1:9/feed").expect("a fixed URL"),
        };
        let chunk = has(4).then_some(1024);
        // How a connector reaches a server is its own affair.
        let config = if ends >> 1 & 3 == 3 { config } else { manner.configure(config) };
        let mut config = config
            .handshake_limits(1024, 20)
            .recv_buffer(8192)
            .send_buffer(4096)
            .fragment_size(1024)
            .limits(Limits { max_frame: 4000, max_message: 10_000, max_fragments: 10, chunk })
            .close_timeout(CLOSE_TIMEOUT)
            .ping_interval((!has(8)).then_some(20 * SECOND))
            .max_requests(16)
            .max_redirects(2)
            .deflate(has(16).then(DeflateConfig::default))
            .queue(setup.queue_messages, setup.queue_bytes)
            .queue_timeout(setup.queue_timeout)
            .request_timeout(setup.request_timeout)
            .restore(setup.restore);
        if has(64) {
            config = config.max_attempts(3);
        }
        if !has(1) && watches & 16 != 0 {
            config = config.endpoints(["ws://127.0.0.1:10/b", "ws://example.org/c"]).expect("fixed URLs");
        }
        if watches & 8 != 0 {
            config = config.no_reconnect();
        }
        let step = [None, Some(Step::Probe), Some(Step::Resubscribe), Some(Step::Reconnect)];
        config = config
            .data_watch(step[usize::from(watches & 3)].map(|step| Watch::after(7 * SECOND).up_to(step)))
            .write_timeout(
                [Some(30 * SECOND), None, Some(SECOND), Some(5 * SECOND)][usize::from(watches >> 6)],
            )
            .policy(if watches & 32 != 0 { policy() } else { Policy::default() });
        config = match pace & 3 {
            0 => config,
            1 => config.flap_budget(None),
            2 => config.flap_budget((2, 10 * SECOND)),
            _ => config.flap_budget((1, SECOND)),
        };
        config = match pace >> 2 & 3 {
            0 => config,
            1 => config.resubscribe_backoff(SECOND / 1000, SECOND / 1000),
            2 => config.resubscribe_backoff(10 * SECOND, 10 * SECOND),
            _ => config.resubscribe_backoff(SECOND, 5 * SECOND),
        };
        config = match ends >> 1 & 3 {
            1 => config.race_delay(None),
            2 => config.race_delay(2 * SECOND),
            3 if ends & 16 != 0 => config.transport(Transport::SecuredConnector),
            3 => config.transport(Transport::Connector),
            _ => config,
        };
        if pace & 128 != 0 {
            config = config.latency_buffer(1).stable_after(Duration::ZERO);
        }
        let sent = setup.limits(limits);
        if !has(32) {
            return (setup, sent.into_iter().fold(config, Config::send_limit));
        }
        // Some of them are the protocol's and some the user's.
        let (first, second) = sent.split_at(usize::from(limits >> 3 & 1).min(sent.len()));
        config = first.iter().cloned().fold(config, Config::send_limit);
        let rpc = JsonRpc::new().topics_per_message(usize::from(more & 3) + 1);
        let rpc = manner.speak(rpc);
        let rpc = setup.speech(speech, second.iter().cloned().fold(rpc, JsonRpc::limit));
        if speech & 4 != 0 {
            config = config.heartbeat_interval(15 * SECOND);
        }
        let venue = Venue { rpc: Box::new(rpc), silent: setup.silent, manner, signed: AtomicU32::new(0) };
        (setup, config.protocol(venue))
    }

    fn limits(&mut self, kind: u8) -> Vec<Limit> {
        let mut window = |max: u32, per: Duration, margin: Duration| {
            self.windows.push((max as usize, per + margin));
            Limit::window(format!("w{max}"), max, per).margin(margin)
        };
        let credits = Limit::credits("pool", 3, 1, 2 * SECOND);
        match kind & 7 {
            0 => Vec::new(),
            1 => vec![window(5, SECOND, SECOND / 10)],
            2 => vec![window(2, 10 * SECOND, SECOND)],
            3 => vec![credits],
            4 => vec![window(5, SECOND, SECOND / 2), credits],
            5 => vec![window(5, SECOND, SECOND / 10).shared("account")],
            6 => vec![window(1, SECOND / 10, Duration::ZERO), window(3, 3 * SECOND, SECOND)],
            _ => vec![window(100, SECOND, SECOND / 4)],
        }
    }

    fn speech(&mut self, speech: u8, mut rpc: JsonRpc) -> JsonRpc {
        let has = |bit: u8| speech & bit != 0;
        if has(1) {
            rpc = rpc.authenticate("public/auth", |_| format!("{{\"key\":\"{SECRET}\"}}"));
        }
        if has(2) {
            rpc = rpc.heartbeat("public/ping", None).expect("no parameters are good ones");
        }
        if has(8) {
            rpc = rpc.heartbeat_reply("heartbeat", |params| params.contains("test_request"), "public/test");
        }
        if has(16) {
            rpc = rpc.acks("subscribed", "unsubscribed", "refused");
        }
        if !has(32) {
            rpc = rpc.sequence(|_, params| sequence(params));
        }
        if has(64) {
            // Not what the peer counts.
            self.windows.clear();
            rpc = rpc.cost(|limit, traffic| match traffic {
                Traffic::Ping | Traffic::Pong => 0,
                Traffic::Subscribe(topics) => topics as u32 * u32::from(limit.starts_with('w')),
                Traffic::Request(method) => method.len() as u32,
                Traffic::Message(len) => len as u32 / 100,
                Traffic::Authenticate => 1000,
                _ => 1,
            });
        }
        if has(128) {
            rpc = rpc.recovery(|fault, error| match (fault, error.map(|error| error.code)) {
                (Fault::Closed(4000, _), _) => Some(Recovery::Backoff(10 * SECOND)),
                (Fault::Closed(1000, _), _) => Some(Recovery::Stop),
                (Fault::Authentication(_), Some(1)) => Some(Recovery::Stop),
                (_, Some(2)) => Some(Recovery::Backoff(3 * SECOND)),
                (Fault::Subscription(_), Some(3)) => Some(Recovery::Stop),
                _ => None,
            });
        }
        rpc
    }
}

/// As `Peer::numbered` writes it.
pub(super) fn sequence(params: &str) -> Option<Sequence> {
    let number = |key: &str| params.split_once(key)?.1.split([',', '}']).next()?.parse().ok();
    let number_of = number("\"s\":")?;
    let sequence = Sequence { previous: number("\"p\":"), ..Sequence::new(number_of) };
    Some(if params.contains("\"snap\"") { sequence.snapshot() } else { sequence })
}

fn policy() -> Policy {
    let policies = Policy::default()
        .on_close(1008..=1008, Recovery::Stop)
        .and_then(|policy| policy.on_close(4000.., Recovery::Backoff(5 * SECOND)))
        .and_then(|policy| policy.on_status(401..=401, Recovery::Reconnect))
        .and_then(|policy| policy.on_status(404..=404, Recovery::Backoff(40 * SECOND)))
        .and_then(|policy| policy.on_authentication(Recovery::Backoff(2 * SECOND)));
    policies.expect("all in range")
}
