//! The numbers of a connection: `sequence_num` of every message, and `heartbeat_counter` of heartbeats.

use super::wire::{number, plain};
use everwire_core::{Continuity, Sequence, Sequences, Tracker};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Watches a connection.
#[derive(Debug)]
pub(super) struct Numbers {
    messages: Sequences,
    /// Whether the counter matters.
    counts: bool,
    /// The counter of the last heartbeat.
    beat: Option<u64>,
}

impl Numbers {
    pub(super) fn new(counts: bool) -> Self {
        Self { messages: Sequences::plus_one(), counts, beat: None }
    }
}

impl Tracker for Numbers {
    fn check(&mut self, _: Option<Sequence>, text: &str) -> Continuity {
        let read = Read::of(text);
        // An error has no number.
        let Some(number) = read.sequence else { return Continuity::Continues };
        let found = self.messages.check(Some(Sequence::new(number)), text);
        if found == Continuity::Duplicate || !self.counts {
            return found;
        }
        let Some(counter) = read.counter else { return found };
        let expected = self.beat.replace(counter).map(|beat| beat.saturating_add(1));
        match expected {
            // One that is smaller is of another server: it counts from its start.
            Some(expected) if counter > expected && found == Continuity::Continues => {
                Continuity::Gap { expected, got: counter }
            }
            _ => found,
        }
    }
}

/// What a message says of its place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    sequence: Option<u64>,
    counter: Option<u64>,
}

impl Read {
    fn of(text: &str) -> Self {
        let mut head = Head::default();
        // It ends, with an error, as soon as all is found: events stand behind the numbers, and may be long.
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(&mut head);
        let beat = head.events.filter(|_| head.channel == Some("heartbeats"));
        let counter = beat.and_then(|events| serde_json::from_str::<Vec<Beat<'_>>>(events.get()).ok());
        Self { sequence: head.sequence, counter: counter.and_then(|beats| beats.last()?.counter()) }
    }
}

#[derive(Deserialize)]
struct Beat<'m> {
    #[serde(borrow)]
    heartbeat_counter: Option<&'m RawValue>,
}

impl Beat<'_> {
    /// A number; the documents show it in quotes.
    fn counter(&self) -> Option<u64> {
        let value = self.heartbeat_counter?;
        plain(value).map_or_else(|| number(value), |digits| digits.parse().ok())
    }
}

#[derive(Debug, Default)]
struct Head<'m> {
    channel: Option<&'m str>,
    sequence: Option<u64>,
    events: Option<&'m RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Channel,
    SequenceNum,
    Events,
    #[serde(other)]
    Other,
}

impl<'m> Visitor<'m> for &mut Head<'m> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            match key {
                Key::Channel => self.channel = plain(map.next_value()?),
                Key::SequenceNum => self.sequence = number(map.next_value()?),
                Key::Events => self.events = Some(map.next_value()?),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
            let all = self.channel.is_some_and(|channel| channel != "heartbeats" || self.events.is_some());
            if all && self.sequence.is_some() {
                return Err(de::Error::custom("found"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Continuity::{Continues, Duplicate, Gap};

    fn message(number: u64) -> String {
        format!(r#"{{"channel":"ticker","timestamp":"x","sequence_num":{number},"events":[]}}"#)
    }

    fn beat(number: u64, counter: &str) -> String {
        format!(
            r#"{{"channel":"heartbeats","timestamp":"x","sequence_num":{number},"events":[{{"current_time":"t","heartbeat_counter":{counter}}}]}}"#
        )
    }

    #[test]
    fn numbers_run_over_all_of_a_connection() {
        let mut numbers = Numbers::new(true);
        let mut check = |text: &str| numbers.check(None, text);
        assert_eq!(check(&message(0)), Continues);
        assert_eq!(check(r#"{"type":"error","message":"sequence_num"}"#), Continues);
        assert_eq!(check(&beat(1, "139651")), Continues);
        assert_eq!(check(&message(1)), Duplicate);
        assert_eq!(check(&message(3)), Gap { expected: 2, got: 3 });
        assert_eq!(check(&beat(4, "\"139652\"")), Continues);
        assert_eq!(check("{"), Continues);
        assert_eq!(check(&message(5)), Continues);
    }

    #[test]
    fn heartbeats_are_counted_too() {
        let mut numbers = Numbers::new(true);
        let mut check = |text: &str| numbers.check(None, text);
        assert_eq!(check(&beat(0, "7")), Continues);
        assert_eq!(check(&beat(1, "9")), Gap { expected: 8, got: 9 });
        assert_eq!(check(&beat(2, "10")), Continues);
        // One gap is told once, whatever shows it.
        assert_eq!(check(&beat(4, "12")), Gap { expected: 3, got: 4 });
        assert_eq!(check(&beat(5, "13")), Continues);
        assert_eq!(check(&beat(6, "1")), Continues, "another server");
        assert_eq!(check(&beat(7, "{}")), Continues);
        let mut trusting = Numbers::new(false);
        assert_eq!(trusting.check(None, &beat(0, "7")), Continues);
        assert_eq!(trusting.check(None, &beat(1, "9")), Continues);
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        for text in [
            r#"{"sequence_num":5,"events":[{"heartbeat_counter":7}],"channel":"heartbeats"}"#,
            r#"{"events":[{"heartbeat_counter":"7"}],"channel":"heartbeats","sequence_num":5}"#,
            r#"{"channel":"heartbeats","sequence_num":5,"events":[{"heartbeat_counter":7}]}"#,
        ] {
            assert_eq!(Read::of(text), Read { sequence: Some(5), counter: Some(7) }, "{text}");
        }
        let none =
            [r#"{"sequence_num":-1}"#, r#"{"sequence_num":1.5}"#, "[1]", "5", r#"{"sequence_num":"5"}"#];
        for text in none {
            assert_eq!(Read::of(text), Read::default(), "{text}");
        }
    }
}
