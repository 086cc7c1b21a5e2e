//! The guide and the documentation of the profiles say what is so.

use super::serde::OPTIONS;
use super::validate::{Range, Unit};
use super::{Config, Keepalive, SocketOptions};
use crate::ws::deflate::DeflateConfig;
use serde_json::Value;
use std::collections::BTreeMap;

const GUIDE: &str = include_str!("../../../../docs/guides/configuration.md");
const SOURCE: &str = include_str!("profiles.rs");

/// The rows of all tables whose first column is `first`, without head and rule, code marks removed. Panics if there is none.
fn rows(text: &str, first: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim().trim_start_matches("///").trim();
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        if cells[0] == first {
            inside = true;
        } else if inside && !cells[0].starts_with("--") {
            rows.push(cells);
        }
    }
    assert!(!rows.is_empty(), "no table of {first}");
    rows
}

/// The part of `text` from `start` on, to `end` or the end.
fn part<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).unwrap_or_else(|| panic!("no {start:?}"));
    let rest = &text[from + start.len()..];
    &rest[..rest.find(end).unwrap_or(rest.len())]
}

/// An option as the tables show it.
fn value(config: &Config, name: &str) -> String {
    let option = OPTIONS.iter().find(|option| option.name == name);
    match (option.unwrap_or_else(|| panic!("no option {name:?}")).write)(config) {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

fn profiles() -> [(&'static str, Config); 4] {
    let config = Config::provided();
    [
        ("financial", config.clone().financial()),
        ("standard", config.clone().standard()),
        ("lightweight", config.clone().lightweight()),
        ("chat", config.chat()),
    ]
}

#[test]
fn each_table_of_a_profile_says_what_it_sets_and_all_of_it() {
    let standard = Config::provided();
    for (name, config) in profiles() {
        // In the source, the documentation of a function ends above it.
        let above = &SOURCE[..SOURCE.find(&format!("pub fn {name}(")).unwrap()];
        let documentation = &above[above.rfind("\n\n").unwrap()..];
        let guide = part(GUIDE, &format!("\n### {name}\n"), "\n##");
        for text in [documentation, guide] {
            let mut told = BTreeMap::new();
            for row in rows(text, "option") {
                assert_eq!(row.len(), 3, "{name}: {row:?}");
                assert!(!row[2].is_empty(), "{name}: {row:?} says no reason");
                assert_eq!(row[1], value(&config, &row[0]), "{} of {name}", row[0]);
                assert_eq!(told.insert(row[0].clone(), row[1].clone()), None, "{} twice", row[0]);
            }
            for option in OPTIONS {
                let part_of_told = option.name.starts_with("deflate.");
                let differs = value(&config, option.name) != value(&standard, option.name);
                assert!(
                    !differs || part_of_told || told.contains_key(option.name),
                    "{} is not in a table of {name}",
                    option.name
                );
            }
        }
        let deflate = config.handshake.deflate;
        assert!(deflate.is_none() || deflate == Some(DeflateConfig::default()), "the tables say so");
    }
    // What any profile changes is in the table of the standard one, to compare with.
    let told: Vec<String> = rows(part(GUIDE, "\n### standard\n", "\n##"), "option")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    for row in profiles()
        .iter()
        .flat_map(|(name, _)| rows(part(GUIDE, &format!("\n### {name}\n"), "\n##"), "option"))
    {
        assert!(told.contains(&row[0]), "{} is not in the table of standard", row[0]);
    }
}

#[test]
fn the_guide_lists_every_option_with_its_unit_range_and_default() {
    let config = Config::provided()
        .deflate(DeflateConfig::default())
        .sockets(SocketOptions::default().keepalive(Keepalive::default()));
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in self::rows(part(GUIDE, "\n## Options\n", "\n## "), "option") {
        assert_eq!(row.len(), 6, "{row:?}");
        assert_eq!(rows.insert(row[0].clone(), row.clone()), None, "{} twice", row[0]);
    }
    for option in OPTIONS {
        let row = rows.remove(option.name).unwrap_or_else(|| panic!("the guide has no {}", option.name));
        let (unit, allowed) = match Range::of(option.name) {
            Some(range) => {
                let unit = match range.unit {
                    Unit::Nanoseconds => "time",
                    Unit::Bytes => "size",
                    Unit::One => "number",
                };
                (unit, range.allowed())
            }
            None => (row[1].as_str(), row[2].clone()),
        };
        let config =
            if matches!(option.name, "deflate" | "keepalive") { &Config::provided() } else { &config };
        let told: Vec<&str> = row[..4].iter().map(String::as_str).collect();
        let default = match option.name {
            // A page of its own, which is compared with it there.
            "policy" => "-".to_owned(),
            name => value(config, name),
        };
        assert_eq!(told, [option.name, unit, &allowed, &default]);
    }
    assert!(rows.keys().eq(["profile"]), "{rows:?} are no options");
}

#[test]
fn the_examples_of_the_guide_are_valid() {
    let mut count = 0;
    for block in GUIDE.split("```json\n").skip(1) {
        let json = &block[..block.find("```").unwrap()];
        let config: Config = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
        config.validate().unwrap();
        count += 1;
    }
    assert!(count >= 2, "{count} examples");
}

#[test]
fn a_wrong_table_would_be_seen() {
    let text =
        "| option | value | why |\n| --- | --- | --- |\n| `close_timeout` | `7s` | no |\n\n| other |\n| x |";
    let rows = rows(text, "option");
    assert_eq!(rows, [["close_timeout", "7s", "no"]]);
    assert_ne!(rows[0][1], value(&Config::provided(), "close_timeout"));
}
