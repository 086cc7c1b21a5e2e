//! A seed's network and configuration.

use super::super::dice::Dice;
use super::super::model::Terms;
use super::super::{Faults, Net};
use super::rules::Rules;
use super::{millis, secs};
use everwire_core::Config;
use std::time::Duration;

pub(super) fn network(dice: &mut Dice, length: Duration, terms: &mut Terms) -> Net {
    let reliable = Net::perfect().latency(millis(1)..millis(200)).jitter(millis(40)).window(64 << 10);
    match dice.below(10) {
        0 => {
            terms.reliable = Some(Duration::ZERO);
            Net::perfect()
        }
        1..4 => {
            terms.reliable = Some(millis(500));
            reliable.rechunk(1..4097)
        }
        4 => reliable.rechunk(1..20).faults(Faults::some()),
        5 => Net::lossy().faults(Faults::some().until(length / 2)),
        _ => Net::lossy(),
    }
}

/// A configuration for whatever URL it is to have.
pub(super) fn configuration(
    dice: &mut Dice,
    terms: &mut Terms,
    rules: &Rules,
) -> impl Fn(Option<&str>) -> Config + use<> {
    let usual = dice.chance(300);
    if !usual {
        terms.backoff = (dice.time(millis(50), secs(1)), dice.time(secs(2), secs(40)));
        terms.stable_after = dice.time(secs(1), secs(20));
        terms.ping_interval = (!dice.chance(50)).then(|| dice.time(secs(2), secs(30)));
        terms.pong_timeout = dice.time(secs(1), secs(15));
        terms.request_timeout = dice.time(secs(2), secs(30));
        terms.close_timeout = dice.time(secs(1), secs(5));
    }
    terms.queue_timeout = dice.time(secs(1), secs(30));
    let (terms, protocol, watch) = (terms.clone(), rules.protocol(), rules.watch);
    let queue = [(1024, 1 << 20), (1024, 1 << 20), (5, 2000), (0, 0)][dice.index(4)];
    let batch = [1, 2, 3, 100][dice.index(4)];
    let send_buffer = if dice.chance(300) { 4096 } else { 4 << 20 };
    let (recv_buffer, fragment) = (dice.between(4096, 40_000), dice.between(1024, 20_000));
    let sizes = [recv_buffer, fragment].map(|size| usize::try_from(size).unwrap_or(4096));
    move |url| {
        let config = url.and_then(|url| Config::new(url).ok()).unwrap_or_else(Config::provided);
        config
            .protocol(protocol.clone().topics_per_message(batch))
            .backoff(terms.backoff.0, terms.backoff.1)
            .stable_after(terms.stable_after)
            .ping_interval(terms.ping_interval)
            .pong_timeout(terms.pong_timeout)
            .request_timeout(terms.request_timeout)
            .close_timeout(terms.close_timeout)
            .send_buffer(send_buffer)
            .data_watch(watch)
            .queue(queue.0, queue.1)
            .queue_timeout(terms.queue_timeout)
            .recv_buffer(sizes[0])
            .fragment_size(sizes[1])
    }
}
