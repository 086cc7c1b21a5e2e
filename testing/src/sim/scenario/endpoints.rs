//! Where a seed's session may connect, and what it finds there.

use super::super::dice::Dice;
use super::super::model::Terms;
use super::super::venue::{Front, Snub, Venue};
use everwire_core::{Config, TlsConfig};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};

/// The port of the first.
const PORT: u16 = 9;

/// Endpoints in the order in which they are configured.
#[derive(Debug)]
pub(super) struct Endpoints {
    fronts: Vec<(String, Front)>,
}

/// Statuses, each with its `Retry-After` in seconds.
type Statuses = &'static [(u16, Option<u64>)];

/// Rates and restarts; the last are about what the client has to say.
const STATUSES: [Statuses; 5] = [
    &[(429, Some(3)), (429, Some(40))],
    &[(429, None), (503, Some(15))],
    &[(503, None), (502, None)],
    &[(503, Some(60)), (500, None)],
    &[(401, None), (404, None)],
];

/// What a TLS client may get over, and what it may not.
const PASSING: [Snub; 6] =
    [Snub::Damage, Snub::Alert(40), Snub::Alert(80), Snub::Fin, Snub::Reset, Snub::Silence];
const FINAL: [Snub; 6] =
    [Snub::Http, Snub::Garbage, Snub::Certificate, Snub::Alert(42), Snub::Alert(48), Snub::Alert(116)];

impl Endpoints {
    /// Mostly one, which serves as the venue does.
    pub(super) fn new(dice: &mut Dice) -> Self {
        let fronts = match dice.below(100) {
            0..70 => vec![Self::plain(0, Front::new())],
            // Nothing but TLS, which is not simulated: it never comes online.
            70..73 => vec![Self::secure(dice, 0)],
            _ => (0..u16::try_from(dice.between(2, 4)).unwrap_or(2)).map(|n| Self::any(dice, n)).collect(),
        };
        Self { fronts }
    }

    fn any(dice: &mut Dice, n: u16) -> (String, Front) {
        let front = match dice.below(10) {
            0..3 => Front::new(),
            3..5 => Front::new().refuses(u32::try_from(dice.between(100, 900)).unwrap_or(500)),
            5 => Front::new().refuses(1000).lasting(),
            6 | 7 => {
                let with = STATUSES[dice.index(STATUSES.len())];
                let front = Front::new().statuses(u32::try_from(dice.between(100, 900)).unwrap_or(500), with);
                if dice.chance(300) { front.lasting() } else { front }
            }
            _ => return Self::secure(dice, n),
        };
        Self::plain(n, front)
    }

    fn plain(n: u16, front: Front) -> (String, Front) {
        (format!("ws://venue{n}.test:{}/feed?v=2", PORT + n), front)
    }

    fn secure(dice: &mut Dice, n: u16) -> (String, Front) {
        let mut snubs = Vec::new();
        for (chance, of) in [(700, PASSING), (500, FINAL)] {
            if dice.chance(chance) {
                snubs.extend(dice.one(&of));
            }
        }
        if snubs.is_empty() {
            snubs.push(Snub::Certificate);
        }
        (format!("wss://venue{n}.test:{}/feed?v=2", PORT + n), Front::new().tls(&snubs))
    }

    /// The first, and what makes of its configuration one for all.
    pub(super) fn configure(&self, config: impl Fn(Option<&str>) -> Config, terms: &mut Terms) -> Config {
        let mut urls = self.fronts.iter().map(|(url, _)| url.as_str());
        terms.endpoints = (PORT..).take(self.fronts.len()).collect();
        let config = config(urls.next()).tls(nobody());
        config.endpoints(urls).unwrap_or_else(|_| Config::provided())
    }

    pub(super) fn apply(self, venue: Venue) -> Venue {
        (PORT..).zip(self.fronts).fold(venue, |venue, (port, (_, front))| venue.front(port, front))
    }
}

/// A TLS client that trusts nobody.
fn nobody() -> TlsConfig {
    static NOBODY: OnceLock<Option<TlsConfig>> = OnceLock::new();
    let nobody = NOBODY.get_or_init(|| {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Some(TlsConfig::custom(Arc::new(config)))
    });
    nobody.clone().unwrap_or_default()
}
