//! Which proxy for which target.

use super::bypass::Bypass;
use super::{Proxy, ProxyConfigError};
use crate::ws::Target;

/// Which targets are reached by way of which proxy, and which directly.
///
/// The decision is made for each target anew: for each of several endpoints, for what a provider gives, for where a redirect leads.
/// A [`Proxy`] alone is the rule to use it for everything.
///
/// ```
/// use everwire_core::{Config, Proxy, ProxyRules};
///
/// let rules = ProxyRules::from(Proxy::new("socks5://127.0.0.1:1080")?).bypass("localhost, .internal, 10.0.0.0/8")?;
/// let config = Config::new("wss://example.com/ws")?.proxy(rules);
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ProxyRules {
    ws: Option<Proxy>,
    wss: Option<Proxy>,
    bypass: Bypass,
}

impl ProxyRules {
    /// Everything goes directly.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this proxy for `ws://` targets, or none.
    #[must_use]
    pub fn ws(self, proxy: impl Into<Option<Proxy>>) -> Self {
        Self { ws: proxy.into(), ..self }
    }

    /// With this proxy for `wss://` targets, or none.
    #[must_use]
    pub fn wss(self, proxy: impl Into<Option<Proxy>>) -> Self {
        Self { wss: proxy.into(), ..self }
    }

    /// With these hosts reached directly, besides those named before. Entries are separated by commas or white space:
    ///
    /// - `example.com`, `.example.com`, `*.example.com`: that name and all below it.
    /// - `192.0.2.1`, `2001:db8::1`: that address, if the URL has one. Names are not resolved for this.
    /// - `10.0.0.0/8`, `2001:db8::/32`: a block of addresses.
    /// - `*`: everything.
    ///
    /// Each may have a port (`example.com:8443`, `[::1]:80`), and then stands for that port only. No host is reached directly that is not named,
    /// `localhost` neither.
    ///
    /// # Errors
    /// [`ProxyConfigError::Bypass`] says which entry is none of these.
    pub fn bypass(mut self, hosts: &str) -> Result<Self, ProxyConfigError> {
        match self.bypass.add(hosts) {
            None => Ok(self),
            Some(index) => Err(ProxyConfigError::Bypass { index }),
        }
    }

    /// What the variables of an environment say: `var` gives their values. The core reads no environment by itself:
    ///
    /// ```
    /// # use everwire_core::ProxyRules;
    /// let rules = ProxyRules::from_vars(|name| std::env::var(name).ok())?;
    /// # Ok::<(), everwire_core::transport::proxy::ProxyConfigError>(())
    /// ```
    ///
    /// The first that is there and not empty counts, as with curl:
    ///
    /// | for | variables |
    /// | --- | --- |
    /// | `ws://` | `ws_proxy`, `WS_PROXY`, `http_proxy`, `HTTP_PROXY`, `all_proxy`, `ALL_PROXY` |
    /// | `wss://` | `wss_proxy`, `WSS_PROXY`, `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY` |
    /// | direct | `no_proxy`, `NO_PROXY`: a list as that of [`bypass`](Self::bypass) |
    ///
    /// `HTTP_PROXY` in capitals does not count if there is a `REQUEST_METHOD`: then this is a CGI program, and `HTTP_PROXY` is the `Proxy` header
    /// of whoever called it (<https://httpoxy.org>). A proxy without a scheme is an `http://` one. Entries of `no_proxy` that
    /// mean nothing here are left out, as everywhere.
    ///
    /// # Errors
    /// [`ProxyConfigError::Variable`] names the variable whose proxy cannot be used.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyConfigError> {
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let cgi = set("REQUEST_METHOD").is_some();
        let proxy = |names: &[&'static str]| {
            let names = names.iter().filter(|name| !(cgi && **name == "HTTP_PROXY"));
            let Some((name, value)) = names.filter_map(|name| Some((*name, set(name)?))).next() else {
                return Ok(None);
            };
            let value = value.trim();
            let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
            let wrong = |error| ProxyConfigError::Variable { name, error: Box::new(error) };
            Proxy::new(&url).map(Some).map_err(wrong)
        };
        let ws = proxy(&["ws_proxy", "WS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?;
        let wss = proxy(&["wss_proxy", "WSS_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?;
        let mut bypass = Bypass::default();
        if let Some(list) = set("no_proxy").or_else(|| set("NO_PROXY")) {
            let _ = bypass.add(&list);
        }
        Ok(Self { ws, wss, bypass })
    }

    /// The proxy by way of which `target` is reached; `None` for directly.
    pub fn proxy_for(&self, target: &Target) -> Option<&Proxy> {
        let proxy = if target.secure() { &self.wss } else { &self.ws };
        proxy.as_ref().filter(|_| !self.bypass.matches(target.host(), target.port()))
    }

    /// For both kinds of targets.
    pub(crate) fn proxies(&self) -> [Option<&Proxy>; 2] {
        [self.ws.as_ref(), self.wss.as_ref()]
    }

    /// The entries of [`bypass`](Self::bypass), as they were written.
    pub(crate) fn bypassed(&self) -> &[String] {
        self.bypass.texts()
    }
}

/// For everything.
impl From<Proxy> for ProxyRules {
    fn from(proxy: Proxy) -> Self {
        Self { ws: Some(proxy.clone()), wss: Some(proxy), bypass: Bypass::default() }
    }
}

/// For everything, or nothing.
impl From<Option<Proxy>> for ProxyRules {
    fn from(proxy: Option<Proxy>) -> Self {
        proxy.map_or_else(Self::default, Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host of the proxy for a target, by these variables.
    fn by(vars: &[(&str, &str)], target: &str) -> Option<String> {
        let var =
            |name: &str| vars.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        let rules = ProxyRules::from_vars(var).unwrap();
        rules.proxy_for(&Target::parse(target).unwrap()).map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn variables_go_before_each_other_in_this_order() {
        let names = ["ws_proxy", "WS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
        let secure = ["wss_proxy", "WSS_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        for (names, target) in [(names, "ws://t"), (secure, "wss://t")] {
            for first in 0..names.len() {
                // Hosts are named by their place. What is empty is as good as not there.
                let hosts: Vec<String> = (0..names.len()).map(|n| format!("http://p{n}")).collect();
                let vars: Vec<(&str, &str)> =
                    (0..names.len()).map(|n| (names[n], if n < first { " " } else { &*hosts[n] })).collect();
                assert_eq!(by(&vars, target), Some(format!("p{first}")), "{vars:?}");
            }
            assert_eq!(by(&[], target), None);
        }
        assert_eq!(by(&[("https_proxy", "http://p")], "ws://t"), None);
        assert_eq!(by(&[("http_proxy", "http://p")], "wss://t"), None);
    }

    #[test]
    fn a_header_of_a_cgi_request_is_no_proxy() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil")];
        assert_eq!(by(&cgi, "ws://t"), None);
        assert_eq!(by(&[cgi[0], cgi[1], ("ALL_PROXY", "http://p")], "ws://t").as_deref(), Some("p"));
        assert_eq!(by(&[cgi[0], ("http_proxy", "http://p")], "ws://t").as_deref(), Some("p"));
        assert_eq!(by(&[cgi[0], ("HTTPS_PROXY", "http://p")], "wss://t").as_deref(), Some("p"));
    }

    #[test]
    fn no_proxy_and_values_as_people_write_them() {
        let vars =
            [("ALL_PROXY", "socks://p/"), ("NO_PROXY", "upper"), ("no_proxy", "lower,192.168.*,10.0.0.0/8")];
        assert_eq!(by(&vars, "ws://t").as_deref(), Some("p"));
        assert_eq!(by(&vars, "wss://upper").as_deref(), Some("p"));
        assert_eq!(by(&vars, "ws://a.lower:90"), None);
        assert_eq!(by(&vars, "ws://10.2.3.4"), None);
        assert_eq!(by(&[("http_proxy", "p.example:3128 ")], "ws://t").as_deref(), Some("p.example"));
        assert_eq!(by(&[("http_proxy", "u:p@p.example:3128")], "ws://t").as_deref(), Some("p.example"));
        let error = ProxyRules::from_vars(|name| (name == "HTTPS_PROXY").then(|| "ftp://hunter2@p".into()));
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("HTTPS_PROXY: there are no ftp:// proxies here") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn each_target_is_judged_by_itself() {
        let proxy = |host: &str| Proxy::new(&format!("http://{host}")).unwrap();
        let rules =
            ProxyRules::new().ws(proxy("plain")).wss(proxy("secure")).bypass("direct.example:81").unwrap();
        let host = |target: &str| rules.proxy_for(&Target::parse(target).unwrap()).map(Proxy::host);
        assert_eq!(host("ws://a"), Some("plain"));
        assert_eq!(host("wss://a"), Some("secure"));
        assert_eq!(host("ws://direct.example:81"), None);
        assert_eq!(host("ws://direct.example"), Some("plain"));
        assert!(ProxyRules::from(None).proxies().iter().all(Option::is_none));
        assert_eq!(ProxyRules::new().bypass("a, b c*").unwrap_err(), ProxyConfigError::Bypass { index: 2 });
    }
}
