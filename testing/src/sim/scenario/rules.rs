//! What a seed's venue asks of its clients, and what the session is told of that.

use super::super::dice::Dice;
use super::super::model::Terms;
use super::super::start;
use super::super::venue::{MAINTENANCE, Venue, wish};
use super::{millis, secs};
use everwire_core::protocol::{Fault, Traffic};
use everwire_core::{JsonRpc, Limit, Recovery, Sequence, SequenceRule, Step, Watch};
use std::time::Duration;

/// Rules hold for the whole run: to keep to them is the session's part.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// So many messages in such a span; with or without pings and pongs.
    window: Option<(u32, Duration, bool)>,
    /// So many credits, which come back in such a time.
    credits: Option<(u32, Duration)>,
    margin: Duration,
    authentication: Option<Authentication>,
    /// A heartbeat of the venue comes so often, and is to be answered within this time.
    heartbeats: Option<(Duration, Duration)>,
    /// The protocol says how messages are numbered.
    pub(super) tracked: bool,
    /// Notices of going down come about this often, and the protocol knows them.
    warns: Option<Duration>,
    heeds: bool,
    /// The watch over the whole connection, and that over some of the topics.
    pub(super) watch: Option<Watch>,
    pub(super) topic_watch: Option<Watch>,
}

#[derive(Debug, Clone, Copy)]
struct Authentication {
    /// Until then the token is wrong.
    wrong_until: Duration,
    /// What the protocol makes of a refusal: to try again, or nothing.
    insists: bool,
}

const TOKEN: &str = "secret";

impl Rules {
    pub(super) fn new(dice: &mut Dice, length: Duration, terms: &mut Terms) -> Self {
        let window = dice.chance(300).then(|| {
            let max = u32::try_from(dice.between(3, 20)).unwrap_or(3);
            (max, dice.time(secs(1), secs(5)), dice.chance(600))
        });
        let credits = dice.chance(150).then(|| {
            let capacity = u32::try_from(dice.between(5, 30)).unwrap_or(5);
            (capacity, dice.time(secs(1), secs(10)))
        });
        // Where nothing delays one message more than another, not the least margin is needed. Elsewhere it has to cover the jitter.
        let margin = match terms.reliable {
            Some(Duration::ZERO) => Duration::ZERO,
            _ => dice.time(millis(45), millis(300)),
        };
        let spans = [window.map(|(_, per, _)| per), credits.map(|(_, per)| per)];
        terms.limited = spans.into_iter().flatten().max().map(|per| per + margin);
        let authentication = dice.chance(300).then(|| Authentication {
            wrong_until: if dice.chance(200) {
                dice.time(Duration::ZERO, length / 2)
            } else {
                Duration::ZERO
            },
            insists: dice.chance(800),
        });
        terms.authenticates = authentication.map(|auth| auth.wrong_until);
        let heartbeats =
            dice.chance(250).then(|| (dice.time(secs(3), secs(20)), dice.time(secs(10), secs(15))));
        terms.heartbeats = heartbeats.map(|(_, within)| within);
        let tracked = dice.chance(300);
        terms.tracked = tracked;
        terms.watch =
            dice.chance(300).then(|| [Step::Probe, Step::Resubscribe, Step::Reconnect][dice.index(3)]);
        let mut watch = |chance| {
            let (watched, after) = (dice.chance(chance), dice.time(secs(2), secs(40)));
            terms.watch.filter(|_| watched).map(|step| Watch::after(after).up_to(step))
        };
        let (watch, topic_watch) = (watch(500), watch(700));
        let warns = dice.chance(200).then(|| dice.time(secs(5), secs(60)));
        let heeds = dice.chance(900);
        terms.heeds = heeds;
        Self {
            window,
            credits,
            margin,
            authentication,
            heartbeats,
            tracked,
            warns,
            heeds,
            watch,
            topic_watch,
        }
    }

    /// How often the venue may ping: pongs go before everything else, and must leave something of the window to the rest.
    pub(super) fn least_ping(&self) -> Duration {
        match self.window {
            Some((max, per, true)) => (per + self.margin) * 4 / max,
            _ => Duration::ZERO,
        }
    }

    /// Has the venue insist on them.
    pub(super) fn apply(&self, mut venue: Venue) -> Venue {
        if let Some((max, per, control)) = self.window {
            venue = venue.limit(max as usize, per, control);
        }
        if let Some((capacity, per)) = self.credits {
            venue = venue.credits(capacity, per);
        }
        if self.authentication.is_some() {
            venue = venue.auth("auth", TOKEN);
        }
        if let Some(every) = self.warns {
            venue = venue.warns(every);
        }
        if let Some((every, within)) = self.heartbeats {
            venue = venue.heartbeats(every, within);
        }
        venue
    }

    /// The protocol of a venue that has them.
    pub(super) fn protocol(&self) -> JsonRpc {
        let mut protocol = JsonRpc::new();
        if let Some((max, per, _)) = self.window {
            protocol = protocol.limit(Limit::window("messages", max, per).margin(self.margin));
        }
        if let Some((capacity, per)) = self.credits {
            let limit = Limit::credits("credits", capacity, capacity, per);
            protocol = protocol.limit(limit.margin(self.margin));
        }
        let control = u32::from(self.window.is_some_and(|(_, _, control)| control));
        protocol = protocol.cost(move |limit, traffic| match (limit, traffic) {
            ("messages", Traffic::Ping | Traffic::Pong) => control,
            // Credits are for calls.
            ("credits", Traffic::Ping | Traffic::Pong | Traffic::Message(_) | Traffic::Authenticate) => 0,
            (_, Traffic::Close) => 0,
            _ => 1,
        });
        if let Some(Authentication { wrong_until, insists }) = self.authentication {
            let right_from = start().system + wrong_until;
            protocol = protocol.authenticate("auth", move |context| {
                let token = if context.wall < right_from { "wrong" } else { TOKEN };
                format!(r#"{{"token":"{token}"}}"#)
            });
            if insists {
                protocol = protocol.recovery(|fault, _| {
                    let refused = matches!(fault, Fault::Authentication(_));
                    refused.then_some(Recovery::Reconnect)
                });
            }
        }
        if self.heeds {
            protocol = protocol.notice(MAINTENANCE, wish);
        }
        if self.heartbeats.is_some() {
            let asks = |params: &str| params.contains("test_request");
            protocol = protocol.heartbeat_reply("heartbeat", asks, "test");
        }
        if self.tracked {
            protocol = protocol
                .sequence(|_, params| {
                    let (_, rest) = params.split_once(r#""seq":"#)?;
                    let (number, _) = rest.split_once(',')?;
                    Some(Sequence::new(number.parse().ok()?))
                })
                .tracker(|_| Some(SequenceRule::PlusOne.tracker()));
        }
        protocol
    }
}
