//! The driver's side of the session: what it reports.

use super::lease::Queued;
use super::output::{ConnId, Output};
use super::{Announced, Session};
use crate::error::Disconnect;
use crate::record::{Input, Left};
use std::time::Instant;

impl Session {
    /// A connection ended, or could not be opened: end of file, a failed read or write, a refused connect. What arrived before
    /// is still told; news about a connection that is not there any more are ignored.
    pub fn handle_disconnected(&mut self, conn: ConnId, cause: Disconnect, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Disconnected { conn, cause: &cause }, now);
        }
        self.calm = false;
        // An order to drop it would come too late.
        self.duties.retain(|duty| *duty != Output::Disconnect(conn));
        if self.connect_failed(conn, &cause, now) {
            return;
        }
        if let Some(index) = self.link_index(conn) {
            self.links[index].gone.get_or_insert(cause);
        }
    }

    /// Where the next read of this connection goes. Empty: do not read, there is no such connection or the user is behind.
    #[inline]
    pub fn recv_buffer(&mut self, conn: ConnId) -> &mut [u8] {
        if self.calm
            && matches!(self.announced, Announced::Nothing)
            && self.links.first().is_some_and(|link| link.id == conn)
        {
            return self.links[0].receiver.recv_buffer();
        }
        // What is announced lies in the buffer.
        if !matches!((self.announced, self.postponed), (Announced::Nothing, Announced::Nothing))
            || self.batch.is_some()
        {
            return &mut [];
        }
        match self.link_index(conn) {
            Some(index) if !self.links[index].is_paused() => self.links[index].recv_buffer(),
            _ => &mut [],
        }
    }

    /// `len` bytes were read to the front of [`recv_buffer`](Self::recv_buffer). It is only counted; `poll_output` does the work.
    #[inline]
    pub fn handle_received(&mut self, conn: ConnId, len: usize, now: Instant) {
        if self.calm
            && len > 0
            && let Some(link) = self.links.first_mut()
            && link.id == conn
        {
            self.stats.bytes_received += len as u64;
            link.last_received = now;
            return link.receiver.received(len);
        }
        if self.tap.is_some() {
            self.tap(Input::Received { conn, len }, now);
        }
        if let Some(index) = self.link_index(conn) {
            self.stats.bytes_received += len as u64;
            self.links[index].received(len, now);
        }
    }

    /// Time has passed. Early and needless calls do nothing; `poll_output` deals with all that is due once
    /// what has arrived is told, so that this is needed only while an event is not taken: the time of requests and of closing ends even then, and
    /// the rate limiter lets go what waits.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Timeout, now);
        }
        self.calm = false;
        self.expire_requests(now);
        self.pump(now);
        self.expire_messages(now);
        // Those behind what has expired may be able to go.
        self.pump(now);
        self.close_step(now);
        self.close_overdue(now);
        if self.announced != Announced::Nothing {
            self.drop_ended(now);
        }
    }

    /// Drops connections whose end is overdue, without waiting for an event to be taken: what arrived over them is told all the same.
    fn drop_ended(&mut self, now: Instant) {
        let more = self.config.close_timeout;
        for link in self.links.iter_mut().filter(|link| link.ends()) {
            if link.deadline.is_some_and(|deadline| deadline <= now) && link.run_out(more, now) {
                link.gone = Some(Disconnect::Eof);
                self.duties.push_back(Output::Disconnect(link.id));
            }
        }
    }

    /// What to write to this connection next. Empty: nothing.
    pub fn transmit(&self, conn: ConnId) -> &[u8] {
        self.link_index(conn).map_or(&[], |index| self.links[index].transmit())
    }

    /// The first `len` bytes of [`transmit`](Self::transmit) were written.
    pub fn handle_transmitted(&mut self, conn: ConnId, len: usize, now: Instant) {
        if self.tap.is_some() {
            // What came of calls before was there before this one.
            self.drain_notes();
        }
        if let Some(index) = self.link_index(conn) {
            self.links[index].transmitted(len, now);
            self.after_write(conn, len, now);
        }
    }

    /// In a replay, what [`handle_transmitted`](Self::handle_transmitted) is where a socket is.
    pub(super) fn replay_transmitted(&mut self, conn: ConnId, len: usize, left: Left, now: Instant) {
        if let Some(index) = self.link_index(conn) {
            self.links[index].replay_written(len, left, now);
            self.after_write(conn, len, now);
        }
    }

    fn after_write(&mut self, conn: ConnId, len: usize, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Transmitted { conn, len, left: self.left(conn) }, now);
        }
        if let Some(index) = self.link_index(conn) {
            self.stats.bytes_sent += len as u64;
            if self.current == Some(index) {
                if self.refused {
                    self.check_room();
                }
                if self.limited && self.links[index].is_flushed() {
                    self.outbox.limiter.flushed(now);
                }
                if self.closing {
                    // Requests that are written now are settled, whether events are taken or not.
                    self.calm = false;
                    self.close_step(now);
                }
            }
        }
    }

    /// Says that there is room again, once that is so to an extent that makes it worth it.
    pub(super) fn check_room(&mut self) {
        let half = !self.limited
            || (self.outbox.waiting() <= self.config.queue_messages / 2
                && self.outbox.waiting_bytes() <= self.config.queue_bytes / 2);
        if half && self.outbox.room_at.is_none() && self.queued() <= self.config.send_buffer / 2 {
            (self.refused, self.calm) = (false, false);
            // One that was not taken yet says it already.
            if !self.events.iter().any(|event| matches!(event, Queued::Writable)) {
                self.events.push_back(Queued::Writable);
            }
        }
    }

    /// Whether nothing was refused for want of room, or there has been room since.
    pub(crate) fn has_room(&self) -> bool {
        !self.refused
    }
}
