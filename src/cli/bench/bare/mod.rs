//! awc and nothing else, in a process of its own: the least that a client of the service can cost.
//!
//! It takes what it needs from awc alone and shares only the wire's messages with the product. Its settings are
//! awc's own, but for the bound of 100 connections. See [`super::rival`] for how it is talked to.

mod connection;
mod modes;

use std::{
    io::{self, BufRead as _},
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use actix::System;
use tokio::sync::{Semaphore, mpsc};

use super::{
    rival::{Mode, Tally},
    secured,
};
use crate::{cli::output, upstream::tls_config};
pub(super) use connection::Dialer;

/// Words that the driver may be ahead of this client.
const WORDS: usize = 8;
/// What one attempt may take.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(30);

/// The arguments.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    console: String,
    #[arg(long)]
    ingress: String,
    #[arg(long)]
    key: String,
    #[arg(long)]
    sessions: u32,
    #[arg(long)]
    in_flight: u32,
    #[arg(long)]
    seconds: u32,
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    ca: Option<PathBuf>,
}

#[expect(clippy::needless_pass_by_value, reason = "every subcommand's `run` takes its arguments so")]
pub(in crate::cli) fn run(args: Args) -> ExitCode {
    let _limit = rlimit::increase_nofile_limit(u64::MAX);
    crate::upstream::install_crypto();
    match System::new().block_on(serve(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("greenroom bench-bare: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &Args) -> io::Result<()> {
    let mut words = words();
    output::say("up");
    expect(&mut words, "open").await?;
    let tls = match &args.ca {
        None => tls_config(),
        Some(path) => secured::trusting(path)?,
    };
    let http = awc::Client::builder()
        .connector(awc::Connector::new().rustls_0_23(tls).limit(0).timeout(ATTEMPT_DEADLINE))
        .timeout(ATTEMPT_DEADLINE)
        .finish();
    let dialer = Rc::new(Dialer {
        http,
        console: args.console.clone(),
        ingress: args.ingress.clone(),
        key: args.key.clone(),
        gate: Semaphore::new(args.in_flight as usize),
    });
    let connections =
        if args.mode == Mode::Churn { Vec::new() } else { modes::open(&dialer, args.sessions).await? };
    output::say("opened");
    let tally: Tally = match args.mode {
        Mode::Hold => {
            expect(&mut words, "go").await?;
            modes::hold(&dialer, connections, expect(&mut words, "stop")).await?
        }
        Mode::Stream => {
            // While it waits, too, nobody reads: nothing comes that would have to be.
            expect(&mut words, "go").await?;
            modes::stream(connections, args.seconds).await
        }
        Mode::Burst => {
            expect(&mut words, "go").await?;
            modes::burst(connections, args.seconds).await?
        }
        Mode::Churn => {
            expect(&mut words, "go").await?;
            modes::churn(&dialer, args.rate, args.seconds).await
        }
    };
    output::say(&serde_json::to_string(&tally)?);
    // What it has used is read while it is still there.
    while words.recv().await.is_some() {}
    Ok(())
}

/// The driver's words, read on a thread, since standard input cannot be awaited without more.
fn words() -> mpsc::Receiver<String> {
    let (tell, words) = mpsc::channel(WORDS);
    std::thread::spawn(move || {
        for word in io::stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(word).is_err() {
                break;
            }
        }
    });
    words
}

async fn expect(words: &mut mpsc::Receiver<String>, word: &str) -> io::Result<()> {
    match words.recv().await {
        Some(heard) if heard == word => Ok(()),
        heard => Err(io::Error::other(format!("heard {heard:?} where {word} was due"))),
    }
}
