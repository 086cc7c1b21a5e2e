//! In which order the addresses of a name are connected to (RFC 8305 section 4), and what is remembered of them.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Most addresses of a name that one attempt connects to. What a resolver gives is not ours to bound, but nobody has use for more.
pub(crate) const MAX_ADDRESSES: usize = 32;

/// Hosts that are remembered: more than a session has endpoints.
const MAX_HOSTS: usize = 300;

/// What became of the addresses of each host, across attempts.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// The one that was used last is at the end.
    hosts: Vec<(String, Host)>,
}

#[derive(Debug, Default)]
struct Host {
    /// Where the last WebSocket handshake succeeded.
    good: Option<SocketAddr>,
    /// Where a handshake failed since one last succeeded there, the latest at the end.
    bad: VecDeque<SocketAddr>,
}

impl Addresses {
    /// The addresses of a host in the order in which they are to be tried, each once, at most [`MAX_ADDRESSES`]: the one that worked last;
    /// the others as they came, families taking turns; then those whose handshakes failed, the latest last, so that a broken server
    /// behind one of them does not hold the session.
    pub(crate) fn order(
        &mut self,
        host: &str,
        found: impl IntoIterator<Item = SocketAddr>,
    ) -> VecDeque<SocketAddr> {
        let mut seen = BTreeSet::new();
        let found = found.into_iter().filter(|addr| seen.insert(*addr)).collect::<Vec<_>>();
        let Some((_, known)) = self.hosts.iter_mut().find(|(name, _)| name == host) else {
            return interleave(found).take(MAX_ADDRESSES).collect();
        };
        // What the name does not lead to any more need not be remembered.
        known.bad.retain(|addr| seen.contains(addr));
        let rest = found.into_iter().filter(|addr| !known.bad.contains(addr));
        let (mut first, rest): (Vec<_>, Vec<_>) = rest.partition(|addr| known.good == Some(*addr));
        first.extend(rest);
        interleave(first).chain(known.bad.iter().copied()).take(MAX_ADDRESSES).collect()
    }

    /// A WebSocket handshake with this address of a host succeeded.
    pub(crate) fn worked(&mut self, host: &str, addr: SocketAddr) {
        let known = self.host(host);
        known.good = Some(addr);
        known.bad.retain(|bad| *bad != addr);
    }

    /// TLS or the WebSocket handshake with this address of a host failed, or took too long.
    pub(crate) fn failed(&mut self, host: &str, addr: SocketAddr) {
        let known = self.host(host);
        known.good.take_if(|good| *good == addr);
        known.bad.retain(|bad| *bad != addr);
        if known.bad.len() == MAX_ADDRESSES {
            known.bad.pop_front();
        }
        known.bad.push_back(addr);
    }

    fn host(&mut self, name: &str) -> &mut Host {
        let index = self.hosts.iter().position(|(known, _)| known == name);
        let known = index.map(|index| self.hosts.remove(index));
        if self.hosts.len() == MAX_HOSTS {
            self.hosts.remove(0);
        }
        self.hosts.push(known.unwrap_or_else(|| (name.to_owned(), Host::default())));
        let last = self.hosts.len() - 1;
        &mut self.hosts[last].1
    }
}

/// Families taking turns, beginning with that of the first address, each in its own order; when one is used up the other goes on.
fn interleave(addrs: Vec<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let first_is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv4() == first_is_v4);
    std::iter::from_fn(move || {
        let next = one.pop_front().or_else(|| other.pop_front());
        if !other.is_empty() {
            std::mem::swap(&mut one, &mut other);
        }
        next
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `4` and `6` stand for families, the letter for the address: `4a`, `6b`.
    fn addr(name: &str) -> SocketAddr {
        let (family, letter) = name.split_at(1);
        let last = letter.bytes().fold(0_u16, |n, byte| n * 26 + u16::from(byte - b'a'));
        match family {
            "4" => ([192, 0, 2, last as u8], 443).into(),
            _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443).into(),
        }
    }

    fn addrs(names: &str) -> Vec<SocketAddr> {
        names.split_whitespace().map(addr).collect()
    }

    fn order(known: &mut Addresses, names: &str) -> Vec<SocketAddr> {
        known.order("h:443", addrs(names)).into()
    }

    #[test]
    fn families_take_turns_beginning_with_that_of_the_first() {
        let rows = [
            ("", ""),
            ("4a", "4a"),
            ("6a 6b 6c 4a 4b 4c", "6a 4a 6b 4b 6c 4c"),
            ("4a 4b 6a 6b", "4a 6a 4b 6b"),
            ("6a 4a 4b 4c", "6a 4a 4b 4c"),
            ("4a 6a 6b 6c", "4a 6a 6b 6c"),
            ("6a 6b 6c 4a", "6a 4a 6b 6c"),
            ("6b 6a", "6b 6a"),
            ("6a 4a 6a 4b 4a", "6a 4a 4b"),
        ];
        for (found, expected) in rows {
            assert_eq!(order(&mut Addresses::default(), found), addrs(expected), "{found}");
        }
    }

    #[test]
    fn no_more_than_32_and_no_family_is_cut_off() {
        let many = (0..100_u16).map(|n| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 443)));
        let ordered = Addresses::default().order("h:443", many.chain([addr("4a")]));
        assert_eq!(ordered.len(), 32);
        assert_eq!(ordered[1], addr("4a"));
    }

    #[test]
    fn what_worked_goes_first_and_what_did_not_goes_last() {
        let mut known = Addresses::default();
        let found = "6a 6b 4a 4b";
        known.worked("h:443", addr("4b"));
        assert_eq!(order(&mut known, found), addrs("4b 6a 4a 6b"));
        // Another host, even by the same name, is another matter.
        assert_eq!(Vec::from(known.order("h:80", addrs(found))), addrs("6a 4a 6b 4b"));
        known.failed("h:443", addr("4b"));
        assert_eq!(order(&mut known, found), addrs("6a 4a 6b 4b"));
        known.failed("h:443", addr("6a"));
        assert_eq!(order(&mut known, found), addrs("6b 4a 4b 6a"));
        known.failed("h:443", addr("4b"));
        assert_eq!(order(&mut known, found), addrs("6b 4a 6a 4b"), "the latest goes last");
        known.failed("h:443", addr("6b"));
        known.failed("h:443", addr("4a"));
        assert_eq!(order(&mut known, found), addrs("6a 4b 6b 4a"), "all failed: they take turns");
        known.worked("h:443", addr("6b"));
        assert_eq!(order(&mut known, found), addrs("6b 6a 4b 4a"));
    }

    #[test]
    fn what_the_name_does_not_lead_to_any_more_is_not_tried_and_forgotten() {
        let mut known = Addresses::default();
        known.worked("h:443", addr("4c"));
        known.failed("h:443", addr("4b"));
        assert_eq!(order(&mut known, "4a 6a"), addrs("4a 6a"));
        assert_eq!(order(&mut known, "4b 4a"), addrs("4b 4a"), "its failure is forgotten");
    }

    #[test]
    fn memory_is_bounded_and_what_was_used_longest_ago_goes_first() {
        let mut known = Addresses::default();
        known.worked("kept:1", addr("4b"));
        for n in 0..10 * MAX_HOSTS {
            known.failed(&format!("h{n}:1"), addr("4a"));
            known.worked("kept:1", addr("4b"));
            known.failed("kept:1", SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1)));
        }
        assert_eq!(known.hosts.len(), MAX_HOSTS);
        assert!(known.hosts.iter().all(|(_, host)| host.bad.len() <= MAX_ADDRESSES));
        assert_eq!(Vec::from(known.order("kept:1", addrs("4a 4b"))), addrs("4b 4a"));
        assert_eq!(Vec::from(known.order("h0:1", addrs("4a 4b"))), addrs("4a 4b"), "forgotten");
        let last = format!("h{}:1", 10 * MAX_HOSTS - 1);
        assert_eq!(Vec::from(known.order(&last, addrs("4a 4b"))), addrs("4b 4a"));
    }

    /// Whatever is found and remembered: a permutation of what was found.
    #[test]
    fn nothing_is_lost_or_doubled() {
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::from_seed([3; 32]);
        let mut known = Addresses::default();
        for _ in 0..2000 {
            let names: Vec<String> = (0..rng.next_u32() % 12)
                .map(|_| {
                    format!(
                        "{}{}",
                        [4, 6][rng.next_u32() as usize % 2],
                        ["a", "b", "c", "d"][rng.next_u32() as usize % 4]
                    )
                })
                .collect();
            let found = addrs(&names.join(" "));
            let ordered = known.order("h:443", found.iter().copied());
            let (one, other): (BTreeSet<_>, BTreeSet<_>) =
                (found.iter().copied().collect(), ordered.iter().copied().collect());
            assert_eq!(one, other);
            assert_eq!(ordered.len(), other.len(), "each once");
            for addr in ordered {
                match rng.next_u32() % 6 {
                    0 => known.worked("h:443", addr),
                    1 => known.failed("h:443", addr),
                    _ => {}
                }
            }
        }
    }
}
