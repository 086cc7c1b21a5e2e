//! `everwire connect --record`, `everwire replay` and `everwire metadata`.

use everwire_testing::MockServer;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn everwire(args: &[&str], input: &str) -> Output {
    let child = Command::new(env!("CARGO_BIN_EXE_everwire"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the binary was built for this test");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("less than a pipe holds");
    child.wait_with_output().expect("it ends by itself")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// A path for a file that does not exist.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("everwire-cli-{}-{name}", std::process::id()));
    let _none = fs::remove_file(&path).ok();
    path
}

const ZEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../record/tests/records/zen.jsonl");

#[test]
fn what_is_recorded_is_told_again() {
    for name in ["feed.jsonl", "feed.jsonl.zst"] {
        let server = MockServer::builder()
            .on_connect(|conn, _| conn.send_text(r#"{"channel":"trades","token":"s3cret"}"#))
            .start();
        let path = path(name);
        let file = path.to_str().expect("it is text");
        let url = server.url_of("/feed?key=s3cret");
        let output = everwire(&["connect", &url, "--record", file], "hello\n");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("recorded "), "{said}");
        let bytes = fs::read(&path).expect("it was made");
        assert_eq!(name.ends_with(".zst"), !bytes.starts_with(b"{"));

        let output = everwire(&["replay", file, "--speed", "max"], "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "{\"channel\":\"trades\",\"token\":\"***\"}\n");
        let said = text(&output.stderr);
        assert!(said.contains("> text hello") && said.contains("Restoring -> Online"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");

        let output = everwire(&["metadata", file], "");
        let said = text(&output.stdout);
        assert!(said.contains("messages     2\n"), "{said}");
        assert!(said.contains("connections  1, 0 lost, 0 gaps\n"), "{said}");
        assert!(said.contains("it was finished"), "{said}");
        assert!(said.ends_with("topic               1  trades\n"), "{said}");

        // It is not written over.
        let output = everwire(&["connect", &url, "--record", file], "");
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        fs::remove_file(&path).expect("it was made");
    }
}

#[test]
fn records_of_zen_websocket_are_read() {
    let output = everwire(&["metadata", ZEN, "--json"], "");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&value["count"], &value["topics"]["ticker.BTC"]), (&3.into(), &1.into()));
    let start = Instant::now();
    let output = everwire(&["replay", ZEN, "--speed", "10"], "");
    assert!(start.elapsed() >= Duration::from_millis(250), "2.5 s, ten times as fast");
    assert_eq!(text(&output.stdout).lines().count(), 1);
    assert!(text(&output.stderr).contains("< close {\"code\":1000,\"reason\":\"bye\"}"));
}

#[test]
fn what_is_no_record_is_told() {
    for args in [
        &["replay", "no such file"][..],
        &["metadata", "no such file"],
        &["metadata", env!("CARGO_BIN_EXE_everwire")],
    ] {
        let output = everwire(args, "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("error: "), "{args:?}");
    }
    for speed in ["0", "-1", "fast", "NaN", "inf"] {
        let output = everwire(&["replay", ZEN, &format!("--speed={speed}")], "");
        assert_eq!(output.status.code(), Some(2), "{speed}");
    }
}
