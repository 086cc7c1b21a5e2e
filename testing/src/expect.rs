//! Expectations: waits for messages of one connection, and of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::Message;

use crate::matchers::{Matcher, describe, describe_arrivals, that};
use crate::transcript::STORY;
use crate::{ConnHandle, ConnectionEnd, MockServer, WaitError};

/// Connections of a server that an error tells of.
const SHOWN_CONNECTIONS: usize = 5;

/// # Expecting messages
///
/// These waits take messages off the log: each goes on behind the message that the last successful one took, and one that
/// fails takes nothing. They block, see [`unblock`](ConnHandle::unblock) for async tests; in a handler they fail at once
/// with [`WaitError::OnServerThread`]. Their errors say what came instead, how it differs, and what was said on the
/// connection before.
impl ConnHandle {
    /// Takes the next message that `expected` matches, and all before it: a text, bytes, JSON, a pattern, a closure; all
    /// are listed in [`matchers`](crate::matchers).
    ///
    /// ```
    /// use everwire_testing::matchers::{closing, json_where, regex};
    /// use everwire_testing::{MockServer, tungstenite};
    /// use serde_json::json;
    /// # const SOON: std::time::Duration = std::time::Duration::from_secs(5);
    ///
    /// let server = MockServer::start();
    /// let (mut client, _) = tungstenite::connect(server.url())?;
    /// let conn = server.wait_connection(0, SOON)?;
    /// for message in ["hello", r#"{"id": 7, "method": "login"}"#, "order 66", r#"{"amount": 3}"#] {
    ///     client.send(message.into())?;
    /// }
    /// client.close(None)?;
    ///
    /// conn.expect("hello", SOON)?;
    /// let login = conn.expect(json!({"method": "login"}), SOON)?;
    /// assert_eq!(login["id"], 7);
    /// assert_eq!(conn.expect(regex(r"^order (\d+)$"), SOON)?[1], "66");
    /// conn.expect(json_where("a small order", |json| json["amount"].as_u64() < Some(10)), SOON)?;
    /// conn.expect(closing(1005), SOON)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// None came within `timeout`, or the connection ended.
    pub fn expect<M: Matcher>(&self, expected: M, timeout: Duration) -> Result<M::Found, WaitError> {
        self.take_first(expected, timeout, |_, _| Ok(()))
    }

    /// Takes the next message that `then` matches, and all before it, among which none may be that `unwanted` matches.
    ///
    /// For a client that answers elsewhere than where it reads, so that it may answer a [`fence`](Self::fence) before it
    /// has done what it will do: something that it does afterwards is the fence instead.
    ///
    /// # Errors
    /// [`WaitError::Unexpected`] as soon as an unwanted one comes; or what is to come did not within `timeout`, or the
    /// connection ended.
    pub fn expect_none_until<M: Matcher>(
        &self,
        mut unwanted: impl Matcher,
        then: M,
        timeout: Duration,
    ) -> Result<M::Found, WaitError> {
        self.take_first(then, timeout, |number, message| {
            self.check_unwanted(&mut unwanted, [(number, message)])
        })
    }

    fn take_first<M: Matcher>(
        &self,
        mut expected: M,
        timeout: Duration,
        mut veto: impl FnMut(u64, &Message) -> Result<(), WaitError>,
    ) -> Result<M::Found, WaitError> {
        self.check_thread(|| expected.describe())?;
        let deadline = Instant::now().checked_add(timeout);
        let from = self.state().cursor();
        let mut at = from;
        loop {
            let end = match self.state().wait_message(at, deadline) {
                Some(Ok((number, message))) => {
                    at = number + 1;
                    veto(number, &message)?;
                    if let Ok(found) = expected.check(&message)
                        && self.state().take(number)
                    {
                        return Ok(found);
                    }
                    continue;
                }
                Some(Err(end)) => Some(end),
                None => None,
            };
            let (waited_for, arrived) = (expected.describe(), self.arrivals(from, &mut expected));
            return Err(match end {
                Some(end) => WaitError::Ended { waited_for, end, arrived },
                None => WaitError::TimedOut { waited_for, timeout, arrived },
            });
        }
    }

    /// Takes the next text or binary message.
    ///
    /// # Errors
    /// None came within `timeout`, or the connection ended.
    pub fn next_message(&self, timeout: Duration) -> Result<Message, WaitError> {
        self.wait_for("a text or binary message", timeout, |m| m.is_text() || m.is_binary())
    }

    /// Takes the next message, of any kind, for which `matches` is true, and all before it: [`expect`](Self::expect) with
    /// [`that`].
    ///
    /// # Errors
    /// None came within `timeout`, or the connection ended.
    pub fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        matches: impl FnMut(&Message) -> bool,
    ) -> Result<Message, WaitError> {
        self.expect(that(what, matches), timeout)
    }

    /// Takes the next text message that equals `text`, and all before it.
    ///
    /// # Errors
    /// None came within `timeout`, or the connection ended.
    pub fn expect_text(&self, text: &str, timeout: Duration) -> Result<(), WaitError> {
        self.expect(text, timeout)
    }

    /// Takes the next text message that is JSON and contains everything in `expected`, as
    /// [`json_subset`](crate::matchers::json_subset) compares, and all before it; gives the whole message.
    ///
    /// # Errors
    /// None came within `timeout`, or the connection ended.
    pub fn expect_json_subset(&self, expected: &Value, timeout: Duration) -> Result<Value, WaitError> {
        self.expect(expected, timeout)
    }

    /// Makes sure that everything has come that the client sent so far: sends it a ping and waits for the pong.
    ///
    /// The ping goes behind everything sent before. Clients answer pings in order with what they read, so that answers
    /// to earlier messages are here too if they are made where the client reads, as in the loop around an inline driver.
    /// Answers that are made elsewhere, as in another task than the one of the connection, may come later. The pong is in
    /// no log of messages and no wait takes it, but it is in the [`transcript`](Self::transcript).
    ///
    /// # Errors
    /// The pong did not come within `timeout`: the client does not read, the connection is stalled, or the server has
    /// [`raw_frames`](crate::MockServerBuilder::raw_frames). Or the connection ended.
    pub fn fence(&self, timeout: Duration) -> Result<(), WaitError> {
        let waited_for = || "the client to answer a ping".to_owned();
        self.check_thread(waited_for)?;
        let result = self.state().fence(Instant::now().checked_add(timeout));
        self.settle(result, timeout, waited_for, || self.story())
    }

    /// Checks that the client has not sent what `unwanted` matches, up to a [`fence`](Self::fence): no time has to pass.
    ///
    /// Messages that a wait took do not count, and nothing is taken.
    ///
    /// ```
    /// use everwire_testing::{MockServer, tungstenite};
    /// use serde_json::json;
    /// # const SOON: std::time::Duration = std::time::Duration::from_secs(5);
    ///
    /// let server = MockServer::start();
    /// let (mut client, _) = tungstenite::connect(server.url())?;
    /// let conn = server.wait_connection(0, SOON)?;
    /// client.send("hello".into())?;
    /// // A client reads all the time; this one needs a thread to do so.
    /// let reading = std::thread::spawn(move || while client.read().is_ok() {});
    ///
    /// conn.expect_none(json!({"method": "private/buy"}), SOON)?;
    /// let error = conn.expect_none("hello", SOON).unwrap_err();
    /// assert!(error.to_string().starts_with("text \"hello\" was not to come, but it did, as #0"), "{error}");
    /// # conn.kill();
    /// # let _ = reading.join();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WaitError::Unexpected`]; or the client did not answer the fence within `timeout`. A connection that has ended is
    /// no error.
    pub fn expect_none(&self, unwanted: impl Matcher, timeout: Duration) -> Result<(), WaitError> {
        match self.fence(timeout) {
            Ok(()) | Err(WaitError::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        let (first, messages) = self.state().log_from(self.state().cursor());
        self.check_unwanted(unwanted, (first..).zip(&messages))
    }

    /// Checks that nothing comes that `unwanted` matches, for all of this time, or until the connection ends.
    ///
    /// It costs this time whenever it succeeds; [`expect_none`](Self::expect_none) does not. Messages that a wait took do
    /// not count, and nothing is taken.
    ///
    /// # Errors
    /// [`WaitError::Unexpected`] as soon as it comes.
    pub fn expect_none_for(&self, mut unwanted: impl Matcher, time: Duration) -> Result<(), WaitError> {
        self.check_thread(|| format!("the absence of {}", unwanted.describe()))?;
        let deadline = Instant::now().checked_add(time);
        let mut at = self.state().cursor();
        while let Some(Ok((number, message))) = self.state().wait_message(at, deadline) {
            at = number + 1;
            self.check_unwanted(&mut unwanted, [(number, &message)])?;
        }
        Ok(())
    }

    fn check_unwanted<'a>(
        &self,
        mut unwanted: impl Matcher,
        messages: impl IntoIterator<Item = (u64, &'a Message)>,
    ) -> Result<(), WaitError> {
        for (number, message) in messages {
            if unwanted.check(message).is_ok() {
                return Err(WaitError::Unexpected {
                    unwanted: unwanted.describe(),
                    arrived: format!("#{number}: {}{}", describe(message), self.story()),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn check_thread(&self, waited_for: impl FnOnce() -> String) -> Result<(), WaitError> {
        if self.state().on_server_thread() {
            return Err(WaitError::OnServerThread { waited_for: waited_for() });
        }
        Ok(())
    }

    pub(crate) fn settle<T>(
        &self,
        result: Option<Result<T, ConnectionEnd>>,
        timeout: Duration,
        waited_for: impl FnOnce() -> String,
        arrived: impl FnOnce() -> String,
    ) -> Result<T, WaitError> {
        match result {
            Some(Ok(value)) => Ok(value),
            Some(Err(end)) => Err(WaitError::Ended { waited_for: waited_for(), end, arrived: arrived() }),
            None => Err(WaitError::TimedOut { waited_for: waited_for(), timeout, arrived: arrived() }),
        }
    }

    /// What came from message number `from` on, how it differs from `expected`, and what was said before.
    pub(crate) fn arrivals(&self, from: u64, expected: &mut impl Matcher) -> String {
        format!("{}{}", self.arrived(from, expected), self.story())
    }

    fn arrived(&self, from: u64, expected: &mut impl Matcher) -> String {
        let (first, messages) = self.state().log_from(from);
        describe_arrivals(first, &messages, |message| expected.check(message).err().unwrap_or_default())
    }

    /// The end of the transcript, for the end of an error.
    pub(crate) fn story(&self) -> String {
        format!("\nthe connection's transcript:\n{}", self.transcript().last(STORY))
    }
}

/// # Expecting messages of several clients
///
/// As the waits of a [`ConnHandle`], on all connections at once. Each connection has its own place up to which messages
/// were taken.
impl MockServer {
    /// Takes the next message that `expected` matches from whichever connection has it, oldest connection first, and all
    /// before it on that connection. See [`ConnHandle::expect`].
    ///
    /// # Errors
    /// None came within `timeout`, or this is a handler.
    pub fn expect<M: Matcher>(
        &self,
        expected: M,
        timeout: Duration,
    ) -> Result<(ConnHandle, M::Found), WaitError> {
        let mut found = self.expect_each(1, expected, timeout)?;
        match found.pop() {
            Some(found) => Ok(found),
            None => unreachable!("one was asked for, and so one was found"),
        }
    }

    /// Takes, from `count` different connections, the next message that `expected` matches, and all before it on that
    /// connection: every one of five clients has subscribed, say. In the order of the connections.
    ///
    /// ```
    /// use everwire_testing::{MockServer, tungstenite};
    /// use serde_json::json;
    /// # const SOON: std::time::Duration = std::time::Duration::from_secs(5);
    ///
    /// let server = MockServer::start();
    /// let mut clients = ["a", "b"].map(|name| tungstenite::connect(server.url_of(name)).unwrap().0);
    /// for (id, client) in clients.iter_mut().enumerate() {
    ///     client.send(json!({"method": "hello", "id": id}).to_string().into())?;
    /// }
    /// let hellos = server.expect_each(2, json!({"method": "hello"}), SOON)?;
    /// for ((conn, hello), path) in hellos.iter().zip(["/a", "/b"]) {
    ///     assert_eq!((conn.path(), &hello["id"]), (path, &json!(conn.index())));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Fewer had it within `timeout`, and then nothing is taken; or this is a handler.
    pub fn expect_each<M: Matcher>(
        &self,
        count: usize,
        mut expected: M,
        timeout: Duration,
    ) -> Result<Vec<(ConnHandle, M::Found)>, WaitError> {
        let describe = |expected: &M| match count {
            1 => format!("{} on any connection", expected.describe()),
            _ => format!("{} on {count} connections", expected.describe()),
        };
        if self.shared().on_server_thread() {
            return Err(WaitError::OnServerThread { waited_for: describe(&expected) });
        }
        let deadline = Instant::now().checked_add(timeout);
        // By index: how far each connection has been looked through, and what was found there.
        let mut looked = BTreeMap::new();
        let mut found = BTreeMap::new();
        loop {
            let seen = self.shared().signal.count();
            let connections = self.remembered();
            for conn in &connections {
                if found.len() < count && !found.contains_key(&conn.index()) {
                    let from = looked.entry(conn.index()).or_insert_with(|| conn.state().cursor());
                    if let Some((number, it)) = conn.first_match(from, &mut expected) {
                        found.insert(conn.index(), (conn.clone(), number, false, it));
                    }
                }
            }
            if found.len() >= count {
                // Another wait may have been faster; that connection is looked at again.
                found.retain(|_, (conn, number, taken, _)| {
                    *taken = *taken || conn.state().take(*number);
                    *taken
                });
                if found.len() >= count {
                    return Ok(found.into_values().map(|(conn, _, _, it)| (conn, it)).collect());
                }
                continue;
            }
            if !self.shared().signal.wait(seen, deadline) {
                let had = found.keys().copied().collect::<Vec<_>>();
                let arrived = self.arrivals(&connections, &had, &mut expected);
                return Err(WaitError::TimedOut { waited_for: describe(&expected), timeout, arrived });
            }
        }
    }

    /// Checks that on no connection that is remembered, ended ones too, the client has sent what `unwanted` matches, see
    /// [`ConnHandle::expect_none`]. The timeout is for each connection.
    ///
    /// # Errors
    /// As there.
    pub fn expect_none(&self, mut unwanted: impl Matcher, timeout: Duration) -> Result<(), WaitError> {
        self.remembered().iter().try_for_each(|conn| conn.expect_none(&mut unwanted, timeout))
    }

    fn arrivals(&self, connections: &[ConnHandle], had: &[usize], expected: &mut impl Matcher) -> String {
        let mut text = match had {
            [] => format!("none of {} connections had it", connections.len()),
            _ => format!("of {} connections only those with index {had:?} had it", connections.len()),
        };
        let others: Vec<&ConnHandle> =
            connections.iter().filter(|conn| !had.contains(&conn.index())).collect();
        let skipped = others.len().saturating_sub(SHOWN_CONNECTIONS);
        if skipped > 0 {
            text.push_str(&format!("\n({skipped} older ones left out)"));
        }
        for conn in &others[skipped..] {
            let arrived = conn.arrived(conn.state().cursor(), expected);
            text.push_str(&format!("\n#{} {}: {arrived}", conn.index(), conn.story_path()));
        }
        format!("{text}\nthe server's transcript:\n{}", self.transcript().last(STORY))
    }
}

impl ConnHandle {
    /// The first match from `from` on that no wait has taken; moves `from` behind what was looked at.
    fn first_match<M: Matcher>(&self, from: &mut u64, expected: &mut M) -> Option<(u64, M::Found)> {
        let (first, messages) = self.state().log_from((*from).max(self.state().cursor()));
        for (number, message) in (first..).zip(&messages) {
            *from = number + 1;
            if let Ok(found) = expected.check(message) {
                return Some((number, found));
            }
        }
        None
    }
}
