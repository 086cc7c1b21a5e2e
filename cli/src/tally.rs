//! What happened in a demo, counted from events, and whether it is what must happen.

/// Counts of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) topics: Vec<Topic>,
    /// Times that the session went online for the first time: 1.
    pub(crate) first_online: u32,
    /// The server reset the connection.
    pub(crate) cut: bool,
    /// Connections that the session reported as lost.
    pub(crate) lost: u32,
    /// Times that it went online again.
    pub(crate) reconnects: u32,
    pub(crate) gaps: u32,
    /// Requests that were answered with a result.
    pub(crate) answers: u32,
    /// The session said that it is over, and gave no error as the reason.
    pub(crate) over: bool,
    /// The server saw a close handshake that the client began.
    pub(crate) handshake: bool,
}

/// Counts of one topic. Before and after are those of the loss of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) subscribed: bool,
    pub(crate) before: u32,
    pub(crate) restored: bool,
    pub(crate) in_gap: bool,
    pub(crate) after: u32,
}

impl Tally {
    pub(crate) fn new(topics: &[&'static str]) -> Self {
        let topic = |name: &&'static str| Topic {
            name,
            subscribed: false,
            before: 0,
            restored: false,
            in_gap: false,
            after: 0,
        };
        Self {
            topics: topics.iter().map(topic).collect(),
            first_online: 0,
            cut: false,
            lost: 0,
            reconnects: 0,
            gaps: 0,
            answers: 0,
            over: false,
            handshake: false,
        }
    }

    /// The last line of the demo, after `demo: `; an error is the first thing that did not happen.
    pub(crate) fn verdict(&self) -> Result<String, String> {
        if self.first_online != 1 {
            return Err("the session did not come online".to_owned());
        }
        self.every_topic("was not subscribed", |topic| topic.subscribed)?;
        self.every_topic("sent nothing before the connection was cut", |topic| topic.before > 0)?;
        if !self.cut {
            return Err("the server did not cut the connection".to_owned());
        }
        once(self.lost, "connection", "lost")?;
        once(self.reconnects, "reconnect", "made")?;
        self.every_topic("was not restored", |topic| topic.restored)?;
        if self.gaps == 0 {
            return Err("no gap was reported".to_owned());
        }
        self.every_topic("is missing from the gap that was reported", |topic| topic.in_gap)?;
        self.every_topic("sent nothing after the reconnect", |topic| topic.after > 0)?;
        once(self.answers, "request", "answered")?;
        if !self.over {
            return Err("the session did not end as it was told to".to_owned());
        }
        if !self.handshake {
            return Err("the server saw no close handshake".to_owned());
        }
        let restored = self.topics.iter().filter(|topic| topic.restored).count();
        let (reconnects, gaps, wanted) = (self.reconnects, self.gaps, self.topics.len());
        Ok(format!(
            "{reconnects} reconnect{}, {restored}/{wanted} subscriptions restored, {gaps} gap{} reported",
            plural(reconnects),
            plural(gaps),
        ))
    }

    fn every_topic(&self, what: &str, holds: impl Fn(&Topic) -> bool) -> Result<(), String> {
        match self.topics.iter().find(|topic| !holds(topic)) {
            Some(topic) => Err(format!("{} {what}", topic.name)),
            None => Ok(()),
        }
    }
}

fn once(count: u32, thing: &str, done: &str) -> Result<(), String> {
    match count {
        1 => Ok(()),
        0 => Err(format!("no {thing} was {done}")),
        more => Err(format!("{more} {thing}s were {done} instead of 1")),
    }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Tally {
        let mut tally = Tally::new(&["a", "b"]);
        for topic in &mut tally.topics {
            (topic.subscribed, topic.before, topic.restored) = (true, 3, true);
            (topic.in_gap, topic.after) = (true, 3);
        }
        (tally.first_online, tally.cut, tally.lost, tally.reconnects) = (1, true, 1, 1);
        (tally.gaps, tally.answers, tally.over, tally.handshake) = (1, 1, true, true);
        tally
    }

    #[test]
    fn success_tells_the_counted_numbers() {
        assert_eq!(
            good().verdict().as_deref(),
            Ok("1 reconnect, 2/2 subscriptions restored, 1 gap reported")
        );
        let mut two_gaps = good();
        two_gaps.gaps = 2;
        assert_eq!(
            two_gaps.verdict().as_deref(),
            Ok("1 reconnect, 2/2 subscriptions restored, 2 gaps reported")
        );
    }

    #[test]
    fn whatever_is_missing_is_a_failure_that_names_it() {
        type Spoil = fn(&mut Tally);
        let cases: [(Spoil, &str); 15] = [
            (|t| t.first_online = 0, "the session did not come online"),
            (|t| t.topics[1].subscribed = false, "b was not subscribed"),
            (|t| t.topics[0].before = 0, "a sent nothing before the connection was cut"),
            (|t| t.cut = false, "the server did not cut the connection"),
            (|t| t.lost = 0, "no connection was lost"),
            (|t| t.lost = 2, "2 connections were lost instead of 1"),
            (|t| t.reconnects = 0, "no reconnect was made"),
            (|t| t.reconnects = 3, "3 reconnects were made instead of 1"),
            (|t| t.topics[1].restored = false, "b was not restored"),
            (|t| t.gaps = 0, "no gap was reported"),
            (|t| t.topics[0].in_gap = false, "a is missing from the gap that was reported"),
            (|t| t.topics[1].after = 0, "b sent nothing after the reconnect"),
            (|t| t.answers = 0, "no request was answered"),
            (|t| t.over = false, "the session did not end as it was told to"),
            (|t| t.handshake = false, "the server saw no close handshake"),
        ];
        for (spoil, why) in cases {
            let mut tally = good();
            spoil(&mut tally);
            assert_eq!(tally.verdict(), Err(why.to_owned()));
        }
    }

    #[test]
    fn nothing_at_all_is_a_failure() {
        assert_eq!(Tally::new(&["a"]).verdict(), Err("the session did not come online".to_owned()));
    }
}
