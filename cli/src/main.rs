//! The Everwire command line.

mod connect;
mod demo;
mod record;
mod screen;
mod tally;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A WebSocket client that stays connected.
#[derive(Debug, Parser)]
#[command(name = "everwire", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Loses a connection on purpose and shows how the session comes back.
    ///
    /// Runs a server and a client on the loopback interface. The last line says whether all went as it must; the exit
    /// code is 1 if not.
    Demo(demo::Options),
    /// Connects, prints what arrives, sends the lines of the standard input, and closes at its end.
    ///
    /// Messages go to the standard output; everything else that happens goes to the standard error. Lines wait until there
    /// is a connection; it is tried for until the process is interrupted.
    Connect(connect::Options),
    /// Prints the messages of a record, at the speed at which they came.
    ///
    /// What arrived goes to the standard output, a line each; what was sent, and what happened besides, to the standard error.
    Replay(record::ReplayOptions),
    /// Says in numbers what is in a record.
    Metadata(record::MetadataOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(options) => demo::run(&options).await,
        Command::Connect(options) => connect::run(&options).await,
        Command::Replay(options) => record::replay(&options),
        Command::Metadata(options) => record::metadata(&options),
    }
}
