//! Which hosts are reached directly: what `NO_PROXY` says.

use std::net::IpAddr;
use url::Host;

/// Hosts that are reached without a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bypass {
    entries: Vec<Entry>,
    /// As they were written, for those who want to know.
    texts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// A name and all below it, without dots at its ends.
    Domain(String),
    /// The first so many bits of an address.
    Block(IpAddr, u32),
}

impl Bypass {
    /// Adds entries separated by commas or white space. What is no entry matches nothing; its position is given back.
    pub(super) fn add(&mut self, list: &str) -> Option<usize> {
        let parts = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
        let mut bad = None;
        for (index, text) in parts.enumerate() {
            match Entry::parse(text) {
                Some(entry) => {
                    self.entries.push(entry);
                    self.texts.push(text.to_owned());
                }
                None => bad = bad.or(Some(index)),
            }
        }
        bad
    }

    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// `host` as a `Target` has it.
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let name = host.strip_suffix('.').unwrap_or(host);
        self.entries.iter().any(|entry| {
            entry.port.is_none_or(|only| only == port)
                && match (&entry.hosts, address) {
                    (Hosts::All, _) => true,
                    (Hosts::Domain(domain), None) => is_within(name, domain),
                    (Hosts::Block(start, bits), Some(ip)) => {
                        first_bits(ip, *bits) == first_bits(*start, *bits)
                    }
                    (Hosts::Domain(_), Some(_)) | (Hosts::Block(..), None) => false,
                }
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        // An IPv6 address has colons of its own, so it has a port only behind brackets.
        if let Some(block) = block(text) {
            return Some(Self { hosts: block, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let hosts = match (host, bare) {
            ("*", _) => Hosts::All,
            (_, Some(bare)) => block(bare).filter(|_| bare.contains(':'))?,
            (host, None) if host.contains(':') => return None,
            (host, None) => match block(host) {
                Some(block) => block,
                None => domain(host)?,
            },
        };
        Some(Self { hosts, port })
    }
}

/// A name and all below it: `example.com`, `.example.com` and `*.example.com` are the same.
fn domain(text: &str) -> Option<Hosts> {
    let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    // International names get the form that targets have. A dot at the end may be what makes it a name.
    let Ok(Host::Domain(name)) = Host::parse(name) else { return None };
    let name = name.strip_suffix('.').unwrap_or(&name);
    (!name.is_empty() && !name.contains('*')).then(|| Hosts::Domain(name.to_owned()))
}

/// An address, or a block of them as in `10.0.0.0/8`.
fn block(text: &str) -> Option<Hosts> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().ok()?;
    let all = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(all);
    if bits > all {
        return None;
    }
    // An IPv4 address that is written as one of IPv6 has its 32 bits behind 96 others.
    match (ip.to_canonical(), ip) {
        (v4 @ IpAddr::V4(_), IpAddr::V6(_)) if bits >= 96 => Some(Hosts::Block(v4, bits - 96)),
        _ => Some(Hosts::Block(ip, bits)),
    }
}

fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The first so many bits, and which kind of address it is.
fn first_bits(ip: IpAddr, bits: u32) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (true, u128::from(ip.to_bits().checked_shr(32 - bits.min(32)).unwrap_or(0))),
        IpAddr::V6(ip) => (false, ip.to_bits().checked_shr(128 - bits.min(128)).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(list: &str, host: &str, port: u16) -> bool {
        let mut bypass = Bypass::default();
        bypass.add(list);
        bypass.matches(host, port)
    }

    #[test]
    fn names_match_themselves_and_what_is_below() {
        for entry in
            ["example.com", ".example.com", "*.example.com", "Example.COM", "example.com.", "a,example.com"]
        {
            for host in ["example.com", "a.example.com", "a.b.example.com", "example.com."] {
                assert!(matches(entry, host, 80), "{entry} {host}");
            }
            for host in ["notexample.com", "example.com.evil", "com", "example.co", "xn--e.com", "1.2.3.4"] {
                assert!(!matches(entry, host, 80), "{entry} {host}");
            }
        }
        assert!(matches("b\u{fc}cher.example", "www.xn--bcher-kva.example", 1));
        assert!(matches("localhost", "localhost", 1));
        assert!(matches("10.132..", "10.132..", 1), "a name, however odd: with one dot it is 10.0.0.132");
        assert!(!matches("..", "localhost", 1) && !matches("..", "localhost.", 1));
        assert!(!matches("local", "localhost", 1));
    }

    #[test]
    fn ports() {
        for entry in ["example.com:8080", ".example.com:8080", "*:8080", "10.0.0.1:8080,example.com:8080"] {
            assert!(matches(entry, "a.example.com", 8080), "{entry}");
            assert!(!matches(entry, "a.example.com", 80), "{entry}");
        }
        assert!(matches("10.0.0.1:8080", "10.0.0.1", 8080) && !matches("10.0.0.1:8080", "10.0.0.1", 80));
        assert!(matches("[::1]:8080", "::1", 8080) && !matches("[::1]:8080", "::1", 80));
    }

    #[test]
    fn addresses_and_blocks() {
        #[rustfmt::skip]
        let rows = [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.30", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.9.9.9/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/9", "10.128.0.0", false),
            ("10.0.0.0/32", "10.0.0.0", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "1.2.3.4", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("[::1]", "::1", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "example.com", false),
            ("*", "1.2.3.4", true),
            ("*", "::1", true),
            ("a b\tc,*", "anything", true),
        ];
        for (list, host, expected) in rows {
            assert_eq!(matches(list, host, 443), expected, "{list} {host}");
        }
    }

    #[test]
    fn what_is_no_entry_matches_nothing_and_is_told() {
        let bad = [
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "a:b",
            "a:65536",
            "a:",
            "[10.0.0.1]",
            "[::1",
            "::1]",
            "[::1]x",
            "a*b",
            "192.168.*",
            "<local>",
            ":80",
            "a:1:2",
            "10.0.0/8",
            "/8",
            "http://a",
        ];
        for entry in bad {
            let mut bypass = Bypass::default();
            assert_eq!(bypass.add(&format!("ok, {entry}")), Some(1), "{entry}");
            assert_eq!(bypass.texts(), ["ok"]);
            for host in ["10.0.0.1", "::1", "a", "x", "192.168.1.1", "local"] {
                assert!(!bypass.matches(host, 80), "{entry} {host}");
            }
        }
        let mut bypass = Bypass::default();
        assert_eq!(bypass.add(" ,, ,"), None);
        assert!(bypass.texts().is_empty() && !bypass.matches("a", 1));
    }
}
