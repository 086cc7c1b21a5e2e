//! How a venue behaves: every option that it has.

use super::Venue;
use std::time::Duration;

/// What a venue does, apart from answering as it should. Chances are per mille.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pub(super) period: Duration,
    pub(super) method_auth: String,
    pub(super) token: Option<String>,
    pub(super) limit: Option<(usize, Duration, bool)>,
    pub(super) credits: Option<(u32, Duration)>,
    pub(super) dataless_acks: u32,
    pub(super) partial: u32,
    pub(super) refuses_batches: u32,
    pub(super) rejects: Vec<(String, Option<Duration>)>,
    pub(super) late_acks: (u32, Duration),
    pub(super) lost_acks: u32,
    pub(super) slow_answers: (u32, Duration),
    pub(super) slow_auth: (u32, Duration),
    pub(super) skips: u32,
    pub(super) duplicates: u32,
    pub(super) notices: Option<Duration>,
    pub(super) warns: Option<Duration>,
    pub(super) heartbeats: Option<(Duration, Duration)>,
    pub(super) asks: Option<Duration>,
    pub(super) pings: Option<Duration>,
    pub(super) silences: u32,
    pub(super) quiet: bool,
    pub(super) closes: Option<(Duration, Vec<u16>)>,
    pub(super) drops: Option<Duration>,
    pub(super) freezes: Option<Duration>,
    pub(super) restarts: Option<(Duration, Duration)>,
    pub(super) refuses: Vec<(u16, Option<u64>)>,
    pub(super) refusing: u32,
    pub(super) misleads: u32,
    pub(super) greets: bool,
    pub(super) forgets: u32,
    pub(super) padding: usize,
    pub(super) calm_after: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            method_auth: "auth".to_owned(),
            token: None,
            limit: None,
            credits: None,
            dataless_acks: 0,
            partial: 0,
            refuses_batches: 0,
            rejects: Vec::new(),
            late_acks: (0, Duration::ZERO),
            lost_acks: 0,
            slow_answers: (0, Duration::ZERO),
            slow_auth: (0, Duration::ZERO),
            skips: 0,
            duplicates: 0,
            notices: None,
            warns: None,
            heartbeats: None,
            asks: None,
            pings: None,
            silences: 0,
            quiet: false,
            closes: None,
            drops: None,
            freezes: None,
            restarts: None,
            refuses: Vec::new(),
            refusing: 0,
            misleads: 0,
            greets: false,
            forgets: 0,
            padding: 0,
            calm_after: Duration::MAX,
        }
    }
}

/// How the venue behaves. Chances are per mille: 0, the default, is never and 1000 always.
impl Venue {
    /// How often a topic has a message. Default 1 s.
    pub fn period(mut self, period: Duration) -> Self {
        self.habits.period = period.max(Duration::from_millis(1));
        self
    }

    /// How often this topic has one.
    pub fn topic(mut self, topic: &str, period: Duration) -> Self {
        self.market.set(topic, period);
        self
    }

    /// Wants `method` with this text in its parameters before anything else on a connection. What comes before it, or a wrong one, is
    /// answered with an error and close code 4001.
    pub fn auth(mut self, method: &str, token: &str) -> Self {
        method.clone_into(&mut self.habits.method_auth);
        self.habits.token = Some(token.to_owned());
        self
    }

    /// Takes `max` messages in any span of `per`, measured where they arrive; the next one is answered by close code 1008. With `control` pings
    /// and pongs count too.
    pub fn limit(mut self, max: usize, per: Duration, control: bool) -> Self {
        self.habits.limit = Some((max, per, control));
        self
    }

    /// Has a pool of `capacity` credits, filled up again within `per`; each message takes one. Without one it is answered with an error, and
    /// close code 1008.
    pub fn credits(mut self, capacity: u32, per: Duration) -> Self {
        self.habits.credits = Some((capacity.max(1), per));
        self
    }

    /// Confirms a topic, and then sends nothing of it.
    pub fn dataless_acks(mut self, chance: u32) -> Self {
        self.habits.dataless_acks = chance;
        self
    }

    /// Leaves a topic out of the list that confirms: it is not subscribed to.
    pub fn partial(mut self, chance: u32) -> Self {
        self.habits.partial = chance;
        self
    }

    /// Answers a message that asks for several topics with an error.
    pub fn refuses_batches(mut self, chance: u32) -> Self {
        self.habits.refuses_batches = chance;
        self
    }

    /// Refuses this topic: until then, or for good.
    pub fn rejects(mut self, topic: &str, until: Option<Duration>) -> Self {
        self.habits.rejects.push((topic.to_owned(), until));
        self
    }

    /// Confirms only after up to this time, whatever the client does meanwhile.
    pub fn late_acks(mut self, chance: u32, delay: Duration) -> Self {
        self.habits.late_acks = (chance, delay);
        self
    }

    /// Subscribes, and never says so.
    pub fn lost_acks(mut self, chance: u32) -> Self {
        self.habits.lost_acks = chance;
        self
    }

    /// Answers requests only after up to this time, and thus out of order.
    pub fn slow_answers(mut self, chance: u32, delay: Duration) -> Self {
        self.habits.slow_answers = (chance, delay);
        self
    }

    /// Says that it took an authentication only after up to this time.
    pub fn slow_auth(mut self, chance: u32, delay: Duration) -> Self {
        self.habits.slow_auth = (chance, delay);
        self
    }

    /// Leaves out a message of a topic: its number is never sent.
    pub fn skips(mut self, chance: u32) -> Self {
        self.habits.skips = chance;
        self
    }

    /// Sends a message twice.
    pub fn duplicates(mut self, chance: u32) -> Self {
        self.habits.duplicates = chance;
        self
    }

    /// Says something about itself about this often.
    pub fn notices(mut self, every: Duration) -> Self {
        self.habits.notices = Some(every);
        self
    }

    /// Sends a heartbeat `every` so often that is to be answered (method `test`) `within` this time; otherwise closes with 4001.
    pub fn heartbeats(mut self, every: Duration, within: Duration) -> Self {
        self.habits.heartbeats = Some((every, within));
        self
    }

    /// Makes a request of its own about this often. It does not mind when there is no answer.
    pub fn asks(mut self, every: Duration) -> Self {
        self.habits.asks = Some(every);
        self
    }

    /// Pings about this often.
    pub fn pings(mut self, every: Duration) -> Self {
        self.habits.pings = Some(every);
        self
    }

    /// After a message of a topic, that topic is silent for ten minutes.
    pub fn silences(mut self, chance: u32) -> Self {
        self.habits.silences = chance;
        self
    }

    /// Nothing happens in any topic; pings are answered.
    pub fn quiet(mut self) -> Self {
        self.habits.quiet = true;
        self
    }

    /// Closes a connection with one of these codes after about this time.
    pub fn closes(mut self, mean: Duration, codes: &[u16]) -> Self {
        self.habits.closes = Some((mean, codes.to_vec()));
        self
    }

    /// Ends a connection without a close frame after about this time.
    pub fn drops(mut self, mean: Duration) -> Self {
        self.habits.drops = Some(mean);
        self
    }

    /// Reads and says nothing any more on a connection after about this time.
    pub fn freezes(mut self, mean: Duration) -> Self {
        self.habits.freezes = Some(mean);
        self
    }

    /// Goes down about this often: all connections are reset, and new ones refused for up to this time.
    pub fn restarts(mut self, mean: Duration, down: Duration) -> Self {
        self.habits.restarts = Some((mean, down));
        self
    }

    /// Refuses a handshake with one of these statuses, each with its `Retry-After` in seconds.
    pub fn refuses(mut self, chance: u32, with: &[(u16, Option<u64>)]) -> Self {
        self.habits.refusing = chance;
        self.habits.refuses = with.to_vec();
        self
    }

    /// Answers a handshake so that it must not be taken: with the accept of another key, with nothing at all, or with a reset.
    pub fn misleads(mut self, chance: u32) -> Self {
        self.habits.misleads = chance;
        self
    }

    /// Says something in the same segment in which it accepts the handshake.
    pub fn greets(mut self) -> Self {
        self.habits.greets = true;
        self
    }

    /// Ends a subscription by itself, without a word, after one of its messages.
    pub fn forgets(mut self, chance: u32) -> Self {
        self.habits.forgets = chance;
        self
    }

    /// Data are up to this much longer; those over 1000 bytes come in fragments.
    pub fn padding(mut self, bytes: usize) -> Self {
        self.habits.padding = bytes;
        self
    }

    /// From then on nothing is left to chance any more: what it does wrong, it no longer does. Rules, such as limits, stay.
    pub fn calm_after(mut self, time: Duration) -> Self {
        self.habits.calm_after = time;
        self
    }

    /// Whether something that comes by chance comes now.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.now < self.habits.calm_after && self.dice.chance(per_mille)
    }

    /// When something that comes about this often comes next.
    pub(super) fn after(&mut self, mean: Option<Duration>) -> Option<Duration> {
        let at = self.now + self.dice.about(mean?);
        (at < self.habits.calm_after).then_some(at)
    }
}

/// Close codes that venues use for no fault of the client.
pub const CLOSE_CODES: [u16; 5] = [1000, 1001, 1008, 1012, 4001];

/// Topics whose names begin so are never granted, whatever the options say.
pub const NO_SUCH: &str = "nosuch.";
