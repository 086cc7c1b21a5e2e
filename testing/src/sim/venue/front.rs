//! What a client finds at one of a venue's ports, and what a port that should speak TLS answers in its place.

use super::super::model::Saw;
use super::super::{Accept, Action};
use super::{Conn, Venue, ws};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::sync::{Arc, OnceLock};

/// One of a venue's ports. Without options it serves as the venue does. Chances are per mille, of each connection.
#[derive(Debug, Clone, Default)]
pub struct Front {
    refuses: u32,
    statuses: (u32, Vec<(u16, Option<u64>)>),
    tls: Vec<Snub>,
    lasting: bool,
}

/// How the attempt of a TLS client is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snub {
    /// An HTTP answer in plain text.
    Http,
    /// Bytes that are no TLS.
    Garbage,
    /// A record that is TLS, and what is in it is not.
    Damage,
    /// A fatal alert of this number (RFC 8446 section 6).
    Alert(u8),
    /// A whole TLS handshake, with a certificate that nobody the client trusts has signed.
    Certificate,
    /// The end of the connection.
    Fin,
    /// The end of the connection, by reset.
    Reset,
    /// Nothing, ever.
    Silence,
}

impl Front {
    /// A port that serves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nobody listens.
    pub fn refuses(self, chance: u32) -> Self {
        Self { refuses: chance, ..self }
    }

    /// Refuses a handshake with one of these statuses, each with its `Retry-After` in seconds.
    pub fn statuses(self, chance: u32, with: &[(u16, Option<u64>)]) -> Self {
        Self { statuses: (chance, with.to_vec()), ..self }
    }

    /// Fails each TLS client in one of these ways.
    pub fn tls(self, with: &[Snub]) -> Self {
        Self { tls: with.to_vec(), ..self }
    }

    /// It stays like that when the venue becomes [calm](Venue::calm_after). What is about TLS always does.
    pub fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }
}

/// How far a connection that is to fail is.
#[derive(Debug)]
pub(super) enum Snubbing {
    /// The client has said nothing yet.
    Waits(Snub),
    /// It is shaking hands with somebody whom it will not trust.
    Stranger(Box<ServerConnection>),
    Done,
}

impl Venue {
    /// What is at this port. Default: the venue, whatever the port is.
    pub fn front(mut self, port: u16, front: Front) -> Self {
        self.fronts.insert(port, front);
        self
    }

    /// Somebody connects to this port.
    pub(super) fn enter(&mut self, conn: u64, port: u16) -> Accept {
        let front = self.fronts.get(&port).cloned().unwrap_or_default();
        if self.now < self.down_until || self.front_chance(&front, front.refuses) {
            return Accept::Refuse;
        }
        let snub = self.dice.one(&front.tls).copied().map(Snubbing::Waits);
        self.conns.insert(conn, Conn { port, snub, ..Conn::default() });
        Accept::Open
    }

    fn front_chance(&mut self, front: &Front, per_mille: u32) -> bool {
        per_mille > 0 && (front.lasting || self.now < self.habits.calm_after) && self.dice.chance(per_mille)
    }

    /// The status with which the port refuses a handshake, if it does.
    pub(super) fn turned_away(&mut self, conn: u64) -> Option<(u16, Option<u64>)> {
        let front = self.fronts.get(&self.conns.get(&conn)?.port)?.clone();
        let refused = self.front_chance(&front, front.statuses.0);
        self.dice.one(&front.statuses.1).copied().filter(|_| refused)
    }

    /// A TLS client said something.
    pub(super) fn snub(&mut self, conn: u64, bytes: &[u8]) {
        let Some(snubbing) = self.conns.get_mut(&conn).and_then(|open| open.snub.as_mut()) else { return };
        match snubbing {
            Snubbing::Done => {}
            Snubbing::Waits(snub) => {
                let how = *snub;
                *snubbing = if how == Snub::Certificate {
                    stranger().map_or(Snubbing::Done, |tls| Snubbing::Stranger(Box::new(tls)))
                } else {
                    Snubbing::Done
                };
                self.saw(conn, Saw::Snubbed { how });
                let answer = match how {
                    Snub::Http => ws::refusal(400, &[]),
                    Snub::Garbage => b"\x00\x01hello there, who are you?".to_vec(),
                    // A handshake record with a message of no known kind.
                    Snub::Damage => vec![22, 3, 3, 0, 5, 99, 0, 0, 1, 0],
                    Snub::Alert(number) => vec![21, 3, 3, 0, 2, 2, number],
                    Snub::Certificate => return self.snub(conn, bytes),
                    Snub::Fin => return self.leave(conn, Action::Fin),
                    Snub::Reset => return self.leave(conn, Action::Reset),
                    Snub::Silence => return,
                };
                self.send(conn, answer);
                self.leave(conn, Action::Fin);
            }
            Snubbing::Stranger(tls) => {
                let mut input = bytes;
                // What is wrong with what the client says is no matter here: it must not get far.
                let over = tls.read_tls(&mut input).is_err() || tls.process_new_packets().is_err();
                let mut answer = Vec::new();
                while tls.write_tls(&mut answer).is_ok_and(|len| len > 0) {}
                self.send(conn, answer);
                if over {
                    self.leave(conn, Action::Fin);
                }
            }
        }
    }
}

/// A TLS server with a certificate of its own making. All that it says has the same length in each run: Ed25519 signatures have one.
fn stranger() -> Option<ServerConnection> {
    static CONFIG: OnceLock<Option<Arc<ServerConfig>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).ok()?;
        let mut params = rcgen::CertificateParams::new(vec!["venue.test".to_owned()]).ok()?;
        params.serial_number = Some(rcgen::SerialNumber::from(7_u64));
        let certificate: CertificateDer<'static> = params.self_signed(&key).ok()?.into();
        let key = PrivateKeyDer::try_from(key.serialize_der()).ok()?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().ok()?.with_no_client_auth();
        builder.with_single_cert(vec![certificate], key).ok().map(Arc::new)
    });
    ServerConnection::new(config.clone()?).ok()
}
