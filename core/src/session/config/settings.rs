//! Options as they are read, before they are a configuration.

use super::serde::{Given, OPTIONS, kind, shorten, shown};
use super::{Config, ConfigError, Profile};
use ::serde::de::value::SeqAccessDeserializer;
use ::serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use ::serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// What is given, by the name of the option: `backoff.max` and the like for parts of a group.
#[derive(Default)]
pub(super) struct Settings {
    profile: Option<Profile>,
    given: BTreeMap<&'static str, Value>,
}

impl Settings {
    pub(super) fn into_config(self) -> Result<Config, ConfigError> {
        let mut config = Config::provided();
        if let Some(profile) = self.profile {
            config = config.profile(profile);
        }
        // In the order of the table, so that a group is there before its parts are set.
        for option in OPTIONS {
            if let Some(value) = self.given.get(option.name) {
                (option.read)(&mut config, &Given { field: option.name, value })?;
            }
        }
        config.validate()?;
        Ok(config)
    }

    fn add(&mut self, name: &str, node: Node) -> Result<(), String> {
        if name == "profile" {
            let value = node.into_value();
            let known = r#"it may be "financial", "standard", "lightweight" or "chat""#;
            let profile =
                Option::deserialize(&value).map_err(|_| format!("profile is {}: {known}", shown(&value)))?;
            return match std::mem::replace(&mut self.profile, profile) {
                Some(_) => Err("profile is given twice".to_owned()),
                None => Ok(()),
            };
        }
        let parts = || OPTIONS.iter().filter_map(|o| o.name.strip_prefix(name)?.strip_prefix('.'));
        // Parts are named within their groups only.
        let option = OPTIONS.iter().find(|option| option.name == name && !name.contains('.'));
        match (node, option) {
            (Node::Group(members), _) if parts().next().is_some() => {
                for (part, value) in members {
                    let name = format!("{name}.{part}");
                    let option = OPTIONS.iter().find(|option| option.name == name);
                    self.put(option.ok_or_else(|| unknown(&name))?.name, value)?;
                }
                option.map_or(Ok(()), |option| self.put(option.name, Value::Object(Map::new())))
            }
            (node, Some(option)) => self.put(option.name, node.into_value()),
            (node, None) if parts().next().is_some() => {
                let parts = parts().collect::<Vec<_>>().join(", ");
                Err(format!("{name} is {}: it may be an object of {parts}", kind(&node.into_value())))
            }
            (_, None) => Err(unknown(name)),
        }
    }

    fn put(&mut self, name: &'static str, value: Value) -> Result<(), String> {
        match self.given.insert(name, value) {
            Some(_) => Err(format!("{name} is given twice")),
            None => Ok(()),
        }
    }
}

fn unknown(name: &str) -> String {
    let mut known: Vec<&str> = vec!["profile"];
    known.extend(OPTIONS.iter().map(|option| option.name));
    format!("there is no option {:?}; there are {}", shorten(name), known.join(", "))
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_map`: a format would tell of anything else in its own words, text included.
        deserializer.deserialize_any(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of options")
    }

    /// The error that serde would make has the text in it, which may be a URL with a token.
    fn visit_str<E: ::serde::de::Error>(self, _: &str) -> Result<Settings, E> {
        Err(E::custom("a configuration is a map of options, not a text"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
        let mut settings = Settings::default();
        while let Some((name, node)) = map.next_entry::<String, Node>()? {
            settings.add(&name, node).map_err(A::Error::custom)?;
        }
        Ok(settings)
    }
}

/// A value whose members, if it is an object, are kept as they came: `Value` would drop the first of two with one name.
enum Node {
    Group(Vec<(String, Value)>),
    Plain(Value),
}

impl Node {
    fn into_value(self) -> Value {
        match self {
            Self::Group(members) => Value::Object(members.into_iter().collect()),
            Self::Plain(value) => value,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

/// Hands everything but a map on to `Value`.
macro_rules! plain {
    ($($visit:ident: $kind:ty),*) => {
        $(fn $visit<E: ::serde::de::Error>(self, value: $kind) -> Result<Node, E> {
            Ok(Node::Plain(value.into()))
        })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an option")
    }

    plain!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E: ::serde::de::Error>(self) -> Result<Node, E> {
        Ok(Node::Plain(Value::Null))
    }

    fn visit_none<E: ::serde::de::Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Node, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(seq)).map(Node::Plain)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Group(members))
    }
}
