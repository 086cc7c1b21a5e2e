//! The client that the Autobahn suite tests: everwire-tokio's inline driver, echoing what it is sent.
//!
//! `autobahn ws://127.0.0.1:9001` runs every case of the fuzzing server that listens there and has it write its report, as agent
//! `everwire`. The report is the verdict: here only what kept a case from being run is an error. `tests/autobahn/run` does the rest.

use everwire_tokio::ws::Limits;
use everwire_tokio::ws::deflate::DeflateConfig;
use everwire_tokio::{Client, CloseCode, Config, Driver, Event, Message, SendError};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Cases that run at once: many of them do nothing but let a second pass. More would not be faster, and those that must be over in
/// a minute would have to share the server with too many of the long ones.
const AT_ONCE: usize = 2;
/// Time for one case, and for the report. The server itself ends the longest cases after 8 minutes.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Far more than is ever under way: the server awaits each echo before it sends more than a few messages.
const SEND_BUFFER: usize = 64 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

// The server is one thread that is always busy. One thread for all clients leaves it the rest of a small machine.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(server) = std::env::args().nth(1) else {
        eprintln!("usage: autobahn ws://HOST:PORT");
        return ExitCode::from(2);
    };
    match run_all(server.trim_end_matches('/').into()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("{failures} cases could not be run");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{server}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all cases and has the report written; gives the number of cases that could not be run.
async fn run_all(server: Arc<str>) -> Result<u32, Error> {
    let cases = case_count(&server).await?;
    let next = Arc::new(AtomicU32::new(1));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (server, next) = (server.clone(), next.clone());
        workers.spawn(async move {
            let mut failures = 0;
            loop {
                let case = next.fetch_add(1, Ordering::Relaxed);
                if case > cases {
                    return failures;
                }
                let url = format!("{server}/runCase?case={case}&agent=everwire");
                if let Err(error) = connection(&url, echo).await {
                    eprintln!("case number {case}: {error}");
                    failures += 1;
                }
            }
        });
    }
    let mut failures = 0;
    while let Some(worker) = workers.join_next().await {
        failures += worker?;
    }
    connection(&format!("{server}/updateReports?agent=everwire"), echo).await?;
    Ok(failures)
}

async fn case_count(server: &str) -> Result<u32, Error> {
    let mut answer = String::new();
    connection(&format!("{server}/getCaseCount"), |_, message| {
        answer.push_str(message.as_text().unwrap_or_default());
        Ok(())
    })
    .await?;
    answer.parse().map_err(|_| format!("{answer:?} is no number of cases").into())
}

fn echo(client: &Client, message: Message<'_>) -> Result<(), SendError> {
    client.send(message).map(drop)
}

/// Runs one connection until its last byte, both ways: dropping the driver any earlier would cut off the close handshake.
async fn connection<F>(url: &str, receive: F) -> Result<(), Error>
where
    F: FnMut(&Client, Message<'_>) -> Result<(), SendError>,
{
    let config = Config::new(url)?
        .deflate(DeflateConfig::default())
        .send_buffer(SEND_BUFFER)
        // Cases 9.3.1 and 9.4.1 send 4 MiB in 65,537 frames, one more than is allowed by default.
        .limits(Limits { max_fragments: 1 << 20, ..Limits::default() })
        // Pings of ours would be frames that no case expects.
        .ping_interval(None)
        // The server answers late while it is busy with other cases, or with the report.
        .connect_timeout(TIMEOUT)
        .handshake_timeout(TIMEOUT);
    let ended = drive(Driver::new(config)?, receive);
    tokio::time::timeout(TIMEOUT, ended).await.map_err(|_| format!("not over after {TIMEOUT:?}"))?
}

async fn drive<F>(mut driver: Driver, mut receive: F) -> Result<(), Error>
where
    F: FnMut(&Client, Message<'_>) -> Result<(), SendError>,
{
    let client = driver.client();
    let mut result = Ok(());
    while let Some(event) = driver.next().await {
        match event {
            Event::Message { message, .. } => receive(&client, message)?,
            // A case is one connection: closing now is what keeps the session from making another.
            Event::Lost { .. } => client.close(CloseCode::Normal, ""),
            Event::AttemptFailed { error, .. } => {
                result = Err(error.clone().into());
                client.close(CloseCode::Normal, "");
            }
            _ => {}
        }
    }
    result
}
