//! `greenroom doctor`: what stands between a configuration and sessions that run, step by step.

mod network;
mod party;
mod report;
mod session;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use tokio::sync::watch;

use super::{output, process, signals};
use crate::{
    config::{self, Config, ConfigErrors},
    errors::Phase,
    upstream::{Client, UpstreamConfig},
};
use network::{Place, reach};
use report::{Outcome, Report};
use session::{Patient, examine};

/// The exit code for a file that cannot be read, as of `check-config`.
const EXIT_UNREADABLE: u8 = 1;
/// The exit code for a file with mistakes, and for a command that makes no sense.
const EXIT_USAGE: u8 = 2;

const AFTER_HELP: &str = "\
For the upstream its two addresses are tried (name, TCP, TLS); then for each tenant a token, the upgrade, the handshake
and one second of speech. A connection is a real one: the service bills it, for about two seconds a tenant. Each is
closed with 1000. The avatar is --avatar's, or that of the tenant's first pool; without one the token is all that is
tried. A running Greenroom is not touched.

Exit codes, the worst of all that failed:
   0  everything works
   1  the configuration cannot be read
   2  the configuration has mistakes, or the command makes no sense
   3  nothing failed, but not every step could be tried
  10  the avatar service must act
  11  whoever pays for a tenant's account
  12  whoever configured a tenant
  13  whoever runs the network
  14  whoever runs this Greenroom";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, short)]
    config: PathBuf,
    /// The avatar to try, for every tenant that is tried.
    #[arg(long, value_name = "AVATAR_ID")]
    avatar: Option<String>,
    /// This tenant only; may be given more than once.
    #[arg(long, short, value_name = "ID")]
    tenant: Vec<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every subcommand's `run` takes its arguments so")]
pub(super) fn run(args: Args) -> ExitCode {
    let config = match config::load(&args.config, &config::environment()) {
        Ok(config) => config,
        Err(errors) => {
            output::complain(&errors.to_string());
            return ExitCode::from(match errors {
                ConfigErrors::Unreadable { .. } => EXIT_UNREADABLE,
                ConfigErrors::Mistakes(_) => EXIT_USAGE,
            });
        }
    };
    let known = |wanted: &&String| !config.tenants.iter().any(|tenant| tenant.id.as_str() == wanted.as_str());
    if let Some(unknown) = args.tenant.iter().find(known) {
        output::complain(&format!("greenroom doctor: the configuration has no tenant {unknown:?}"));
        return ExitCode::from(EXIT_USAGE);
    }
    let system = actix_rt::System::new();
    ExitCode::from(system.block_on(examine_all(&config, &args)))
}

async fn examine_all(config: &Config, args: &Args) -> u8 {
    let (tell, mut stop) = watch::channel(false);
    let ended = signals::terminate();
    actix_rt::spawn(async move {
        ended.await;
        // Whoever listened is gone where all is done.
        let _ = tell.send(true);
    });
    let upstream = Arc::new(process::upstream_config(config));
    let mut report = Report::new(args.json, config.recovery.policy.clone());
    let what = format!("{} and {}", upstream.console_url, upstream.ingress_url);
    report.begin("upstream", crate::manager::UPSTREAM, &what, config.recovery.policy.clone());
    let (console, ingress) = reach_both(&upstream, &mut report).await;
    let client = Client::new(Arc::clone(&upstream));
    let wanted = |id: &str| args.tenant.is_empty() || args.tenant.iter().any(|wanted| wanted == id);
    for tenant in config.tenants.iter().filter(|tenant| wanted(tenant.id.as_str())) {
        let avatar_id =
            args.avatar.as_deref().or_else(|| tenant.pool.first().map(|pool| pool.avatar_id.as_str()));
        let what = avatar_id.map_or_else(|| "no avatar".to_owned(), |avatar| format!("avatar {avatar}"));
        let shared = config.recovery.policy.clone();
        let policy = tenant.policy.iter().fold(shared, |policy, (code, action)| policy.with(*code, *action));
        report.begin("tenant", tenant.id.as_str(), &what, policy.clone());
        if *stop.borrow() || !console {
            let why = if *stop.borrow() { "it was interrupted" } else { "the console is not reached" };
            for step in ["token", "upgrade", "handshake", "clip"] {
                report.step(step, &Outcome::Skipped { why: why.to_owned() });
            }
            continue;
        }
        let patient = Patient {
            app_id: &tenant.app_id,
            api_key: &tenant.upstream_api_key,
            avatar_id: match avatar_id {
                Some(_) if !ingress => Err("the ingress is not reached"),
                Some(avatar_id) => Ok(avatar_id),
                None => Err("no avatar is known; give one with --avatar"),
            },
            policy: &policy,
        };
        examine(&client, &patient, &mut stop, &mut report).await;
    }
    report.finish()
}

/// Goes the way to both addresses of an upstream.
async fn reach_both(upstream: &UpstreamConfig, report: &mut Report) -> (bool, bool) {
    let console = Place { key: "console", url: &upstream.console_url, phase: Phase::SessionToken };
    let ingress = Place { key: "ingress", url: &upstream.ingress_url, phase: Phase::WebsocketConnect };
    let console = reach(&console, upstream.deadlines.token, &upstream.tls, report).await;
    let ingress = reach(&ingress, upstream.deadlines.connect, &upstream.tls, report).await;
    (console, ingress)
}
