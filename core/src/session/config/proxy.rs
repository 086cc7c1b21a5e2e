//! The option `proxy` as data.

use super::serde::{Given, SECRET};
use super::{Config, ConfigError};
use crate::transport::proxy::{Proxy, ProxyRules};
use crate::ws::headers::Headers;
use serde_json::{Map, Value, json};

const FORM: &str = r#"null, "http://host:3128", {"url": ..., "headers": [["X-Team", "a"]]}, or {"ws": ..., "wss": ..., "bypass": ["localhost"]} with these two"#;

pub(super) fn write(config: &Config) -> Value {
    let [ws, wss] = config.proxy.proxies().map(|proxy| proxy.map_or(Value::Null, written));
    let bypass = config.proxy.bypassed();
    match (ws.is_null() && wss.is_null(), ws == wss && bypass.is_empty()) {
        (true, _) => Value::Null,
        (_, true) => ws,
        _ => json!({ "ws": ws, "wss": wss, "bypass": bypass }),
    }
}

fn written(proxy: &Proxy) -> Value {
    let mut url = proxy.to_string();
    if let (true, Some(scheme)) = (proxy.has_credentials(), url.find("://")) {
        url.insert_str(scheme + 3, "***@");
    }
    if proxy.headers().is_empty() {
        return url.into();
    }
    let shown = |(name, value)| json!([name, if Headers::is_secret(name) { SECRET } else { value }]);
    json!({ "url": url, "headers": proxy.headers().iter().map(shown).collect::<Value>() })
}

pub(super) fn read(config: &mut Config, given: &Given<'_>) -> Result<(), ConfigError> {
    config.proxy = match given.value {
        Value::Object(parts) if !parts.contains_key("url") => rules(given, parts)?,
        _ => proxy(given)?.into(),
    };
    Ok(())
}

fn rules(whole: &Given<'_>, parts: &Map<String, Value>) -> Result<ProxyRules, ConfigError> {
    let mut rules = ProxyRules::new();
    for (name, value) in parts {
        let given = whole.item(value);
        rules = match name.as_str() {
            "ws" => rules.ws(proxy(&given)?),
            "wss" => rules.wss(proxy(&given)?),
            "bypass" => {
                // One entry each, so that an error says which.
                let texts = given.list()?.iter().map(|text| given.item(text).text());
                let texts = texts.collect::<Result<Vec<_>, _>>()?;
                rules.bypass(&texts.join(","))?
            }
            _ => return Err(whole.kind_is_wrong(FORM)),
        };
    }
    Ok(rules)
}

fn proxy(given: &Given<'_>) -> Result<Option<Proxy>, ConfigError> {
    let Value::Object(parts) = given.value else {
        let url = given.unless_off(|given| match given.value {
            Value::String(_) => given.text(),
            _ => Err(given.kind_is_wrong(FORM)),
        })?;
        return Ok(url.map(Proxy::new).transpose()?);
    };
    let url = parts.get("url").filter(|_| parts.keys().all(|key| key == "url" || key == "headers"));
    let mut proxy = Proxy::new(given.item(url.ok_or_else(|| given.kind_is_wrong(FORM))?).text()?)?;
    for (name, value) in given.item(parts.get("headers").unwrap_or(&json!([]))).pairs()? {
        proxy = proxy.header(name, value)?;
    }
    Ok(Some(proxy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(proxy: &Value) -> Result<Value, String> {
        let config: Config =
            serde_json::from_value(json!({ "proxy": proxy })).map_err(|error| error.to_string())?;
        Ok(write(&config))
    }

    #[test]
    fn every_form_is_read_and_written() {
        #[rustfmt::skip]
        let rows = [
            (json!(null), json!(null)),
            (json!("off"), json!(null)),
            (json!("http://h"), json!("http://h:80")),
            (json!("socks5h://u:p@[::1]:9"), json!("socks5h://***@[::1]:9")),
            (json!({ "url": "http://h:1" }), json!("http://h:1")),
            (
                json!({ "url": "http://h:1", "headers": [["X-Team", "a"], ["X-Token", "hunter2"]] }),
                json!({ "url": "http://h:1", "headers": [["X-Team", "a"], ["X-Token", "***"]] }),
            ),
            (json!({ "ws": "http://h:1", "wss": "http://h:1" }), json!("http://h:1")),
            (json!({ "bypass": ["a"] }), json!(null)),
            (json!({ "ws": "http://h:1" }), json!({ "ws": "http://h:1", "wss": null, "bypass": [] })),
            (
                json!({ "ws": null, "wss": { "url": "http://h:1", "headers": [["A", "b"]] }, "bypass": ["a:1", ".b"] }),
                json!({ "ws": null, "wss": { "url": "http://h:1", "headers": [["A", "b"]] }, "bypass": ["a:1", ".b"] }),
            ),
        ];
        for (given, expected) in rows {
            let written = read(&given).unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(written, expected, "{given}");
            if !written.to_string().contains("***") {
                assert_eq!(read(&written).unwrap(), written);
            }
        }
    }

    #[test]
    fn a_connector_excludes_a_proxy() {
        for transport in ["connector", "secured_connector"] {
            let both = json!({ "transport": transport, "proxy": "http://h" });
            let error = serde_json::from_value::<Config>(both).unwrap_err().to_string();
            assert!(error.starts_with("proxy is set: it may be set only with the transport tcp"), "{error}");
            serde_json::from_value::<Config>(json!({ "transport": transport, "proxy": null })).unwrap();
        }
        serde_json::from_value::<Config>(json!({ "transport": "tcp", "proxy": "http://h" })).unwrap();
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        let why = "it may be the real one: *** stands for a secret, which is not written when a Config is";
        #[rustfmt::skip]
        let rows = [
            (json!("http://***@h:80"), format!("proxy is ***: {why}")),
            (json!({ "ws": "http://***@h:80" }), format!("proxy is ***: {why}")),
            (json!({ "url": "http://h", "headers": [["X-Token", "***"]] }), format!("proxy is *** (X-Token): {why}")),
            (json!("hunter2"), "proxy: not a complete URL; use http://, https:// or socks5://".into()),
            (json!("ftp://hunter2@h"), "proxy: there are no ftp:// proxies here; use http://, https:// or socks5://".into()),
            (json!(["hunter2"]), format!("proxy is a list with something else in it: it may be {FORM}")),
            (json!(true), format!("proxy is true or false: it may be {FORM}")),
            (json!({ "url": 5 }), "proxy is a number: it may be a text".into()),
            (json!({ "headers": [] }), format!("proxy is an object: it may be {FORM}")),
            (json!({ "ws": { "headers": [] } }), format!("proxy is an object: it may be {FORM}")),
            (json!({ "url": "http://h", "bypass": [] }), format!("proxy is an object: it may be {FORM}")),
            (json!({ "all": "http://h" }), format!("proxy is an object: it may be {FORM}")),
            (json!({ "bypass": "a" }), "proxy is a text: it may be a list".into()),
            (json!({ "bypass": ["a", "b*"] }), format!("proxy: {}", crate::transport::proxy::ProxyConfigError::Bypass { index: 1 })),
            (json!({ "url": "socks5://h", "headers": [["A", "b"]] }), "proxy: a SOCKS5 proxy takes no headers".into()),
        ];
        for (given, expected) in rows {
            assert_eq!(read(&given).unwrap_err(), expected, "{given}");
        }
    }
}
