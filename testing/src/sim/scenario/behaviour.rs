//! What a seed's venue does wrong.

use super::super::dice::Dice;
use super::super::venue::{CLOSE_CODES, Venue};
use super::rules::Rules;
use super::{millis, secs};
use std::time::Duration;

/// A venue with some of all faults; mostly few at a time.
pub(super) fn behaviour(dice: &mut Dice, mut venue: Venue, rules: &Rules, length: Duration) -> Venue {
    let wild = if dice.chance(200) { 4 } else { 1 };
    venue = venue.period(dice.time(millis(50), secs(5))).calm_after(length - length / 4);
    for topic in 0..3 {
        venue = venue.topic(&format!("t{topic}"), dice.time(millis(20), secs(20)));
    }
    if dice.chance(50 * wild) {
        venue = venue.quiet();
    }
    if dice.chance(150 * wild) {
        let mean = if dice.chance(200) { millis(800) } else { dice.time(secs(3), secs(100)) };
        venue = venue.closes(mean, &CLOSE_CODES);
    }
    if dice.chance(100 * wild) {
        // Some servers accept, and are gone again at once.
        let mean = if dice.chance(300) { millis(200) } else { dice.time(secs(1), secs(60)) };
        venue = venue.drops(mean);
    }
    if dice.chance(60 * wild) {
        venue = venue.freezes(dice.time(secs(5), secs(100)));
    }
    if dice.chance(100 * wild) {
        venue = venue.restarts(dice.time(secs(20), secs(200)), secs(40));
    }
    if dice.chance(150 * wild) {
        let answers = [
            (429, Some(3)),
            (429, None),
            (503, Some(20)),
            (503, None),
            (401, None),
            (500, None),
            (502, Some(1)),
        ];
        // A 401 ends a session that never was online.
        let few = &answers[dice.index(answers.len())..];
        venue = venue.refuses(u32::try_from(dice.between(50, 700)).unwrap_or(50), few);
    }
    if dice.chance(60 * wild) {
        venue = venue.misleads(200);
    }
    if dice.chance(200) {
        venue = venue.greets();
    }
    if dice.chance(100 * wild) {
        venue = venue.dataless_acks(200);
    }
    if dice.chance(120 * wild) {
        venue = venue.partial(200);
    }
    if dice.chance(120 * wild) {
        venue = venue.refuses_batches(400);
    }
    for topic in ["t0", "t1"] {
        if dice.chance(60 * wild) {
            let until = dice.time(Duration::ZERO, length);
            venue = venue.rejects(topic, dice.chance(700).then_some(until));
        }
    }
    if dice.chance(150 * wild) {
        venue = venue.late_acks(400, dice.time(millis(10), secs(40)));
    }
    if dice.chance(80 * wild) {
        venue = venue.lost_acks(200);
    }
    if dice.chance(300) {
        venue = venue.slow_answers(500, dice.time(millis(1), secs(10)));
    }
    if dice.chance(150 * wild) {
        venue = venue.slow_auth(300, dice.time(millis(1), secs(40)));
    }
    let numbers = if rules.tracked { 400 } else { 100 * wild };
    if dice.chance(numbers) {
        venue = venue.skips(u32::try_from(dice.between(5, 100)).unwrap_or(50));
    }
    if dice.chance(numbers) {
        venue = venue.duplicates(50);
    }
    if dice.chance(80 * wild) {
        venue = venue.silences(20);
    }
    if dice.chance(60 * wild) {
        venue = venue.forgets(10);
    }
    if dice.chance(200) {
        venue = venue.notices(dice.time(secs(1), secs(30)));
    }
    if dice.chance(100) {
        venue = venue.asks(dice.time(secs(1), secs(30)));
    }
    if dice.chance(300) {
        venue = venue.pings(dice.time(rules.least_ping().max(millis(200)), secs(20)));
    }
    if dice.chance(200) {
        venue = venue.padding(3000);
    }
    rules.apply(venue)
}
