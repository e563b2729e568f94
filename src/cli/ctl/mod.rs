//! `greenroom ctl`: what an operator asks of a running Greenroom, over its admin address.

mod client;
mod confirm;
mod events;
mod failure;
mod fleet;
mod select;
mod sessions;
mod show;
mod sse;
mod tenants;
mod top;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Subcommand};
use secrecy::SecretString;
use url::{Host, Url};

use super::output;
use client::Client;
use failure::Failure;
use show::Reader;

/// The admin address of a Greenroom whose configuration does not say another one.
const DEFAULT_URL: &str = "http://127.0.0.1:8081";
/// The variable that holds the key.
const KEY_VARIABLE: &str = "GREENROOM_KEY";
/// Keys are short; a longer file is the wrong one.
const MAX_KEY_BYTES: usize = 4096;

const AFTER_HELP: &str = "\
The key is read from GREENROOM_KEY or from a file (--key-file, GREENROOM_KEY_FILE), never from an argument, which
every user of the machine could read. With a tenant's key and the tenants' address, `sessions` and `events` work on
that tenant's sessions.

In a terminal people get tables (NO_COLOR and COLUMNS are honoured); everybody else, and --json, gets one JSON object
a line.

Exit codes:
   0  done
   1  Greenroom refused; the problem's code and detail are on standard error
   2  the command makes no sense as it was typed
   3  a confirmation was needed and not given; nothing was done
  66  a file that was named cannot be read
  69  Greenroom does not answer
  75  Greenroom cannot do it now (overloaded, draining, its disk fails); try again
  76  what answers is no Greenroom
  77  the key is missing or refused
Where one command works on several sessions and some fail, all are tried, and the code is that of the first failure.";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where Greenroom is and how answers are shown.
#[derive(Debug, clap::Args)]
struct Place {
    /// Greenroom's admin address.
    #[arg(long, global = true, env = "GREENROOM_URL", default_value = DEFAULT_URL, value_parser = base_url)]
    url: Url,
    /// A file that holds the key, where GREENROOM_KEY does not.
    #[arg(long, global = true, env = "GREENROOM_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A PEM file with the authorities to trust for https, in place of the public ones.
    #[arg(long, global = true, env = "GREENROOM_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// One JSON object a line, also in a terminal.
    #[arg(long, global = true, conflicts_with = "table")]
    json: bool,
    /// Tables, also where the output is no terminal.
    #[arg(long, global = true)]
    table: bool,
    /// Do not ask before something that touches more than one session.
    #[arg(long, short, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sessions: list, look at, follow, restart, park, unpark, end.
    #[command(subcommand, visible_alias = "session")]
    Sessions(sessions::Command),
    /// Tenants: list, look at, park, unpark, restart, create, remove.
    #[command(subcommand, visible_alias = "tenant")]
    Tenants(tenants::Command),
    /// Every error code: how often, what it means, who must act.
    Codes(fleet::CodesArgs),
    /// Follow what happens, over broken connections.
    Events(events::Args),
    /// Watch the fleet as a live table (JSON: one object for each look).
    Top(top::Args),
    /// The breakers of the upstreams: show, open, close.
    Upstreams(fleet::UpstreamsArgs),
    /// End the process in order: no new session, every connection closed. The next process goes on with the sessions.
    Drain,
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What every command needs.
struct Context {
    client: Client,
    reader: Reader,
    yes: bool,
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; http://HOST:PORT is expected"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("http://HOST:PORT or https://HOST:PORT is expected".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a key does not belong into the address; use GREENROOM_KEY".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the address may have no query".to_owned());
    }
    Ok(url)
}

fn key(file: Option<&Path>) -> Result<Option<SecretString>, Failure> {
    let said = env::var_os(KEY_VARIABLE).filter(|value| !value.is_empty());
    let (from, text) = match (said, file) {
        (Some(value), _) => {
            let text = value.into_string();
            (
                KEY_VARIABLE.to_owned(),
                text.map_err(|_| Failure::Usage(format!("{KEY_VARIABLE} is no UTF-8")))?,
            )
        }
        (None, Some(path)) => {
            let from = format!("the key file {}", path.display());
            let text = fs::read_to_string(path).map_err(|error| Failure::File(format!("{from}: {error}")))?;
            (from, text)
        }
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!(
            "{from} holds no key: one line of visible ASCII is expected, of {MAX_KEY_BYTES} bytes at most"
        )));
    }
    Ok(Some(SecretString::from(text)))
}

/// Whether what is sent to `url` can be read on the way.
fn is_in_clear(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_here
}

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    if let Command::Completions { shell } = args.command {
        return completions(shell);
    }
    let system = actix_rt::System::new();
    match system.block_on(carry_out(args)) {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&format!("greenroom ctl: {failure}"));
            failure.exit()
        }
    }
}

async fn carry_out(args: Args) -> Result<(), Failure> {
    let Place { url, key_file, ca, json, table, yes } = args.place;
    let key = key(key_file.as_deref())?;
    if key.is_some() && is_in_clear(&url) {
        output::complain(&format!("greenroom ctl: the key goes to {url} unencrypted; use https"));
    }
    let client = Client::new(url, key, ca.as_deref())?;
    let context = Context { client, reader: Reader::find(json, table), yes };
    match args.command {
        Command::Sessions(command) => sessions::run(&context, command).await,
        Command::Tenants(command) => tenants::run(&context, command).await,
        Command::Codes(args) => fleet::codes(&context, &args).await,
        Command::Events(args) => events::run(&context, args).await,
        Command::Top(args) => top::run(&context, args).await,
        Command::Upstreams(args) => fleet::upstreams(&context, args).await,
        Command::Drain => fleet::drain(&context).await,
        Command::Completions { shell: _ } => Ok(()),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut command = super::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "greenroom", &mut script);
    output::say(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_address_is_refused() {
        assert!(base_url("http://:secret@127.0.0.1:8081").is_err_and(|why| why.contains("GREENROOM_KEY")));
        for bad in ["127.0.0.1:8081", "ftp://host", "http://host/?key=x", "http://"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
        assert!(base_url("https://greenroom.example/admin").is_ok());
    }

    #[test]
    fn only_what_leaves_the_machine_unencrypted_is_warned_of() {
        for (url, clear) in [
            ("http://127.0.0.1:8081", false),
            ("http://[::1]:8081", false),
            ("http://localhost:8081", false),
            ("https://greenroom.example", false),
            ("http://greenroom.example", true),
            ("http://10.0.0.1:8081", true),
        ] {
            assert_eq!(is_in_clear(&Url::parse(url).unwrap()), clear, "{url}");
        }
    }
}
