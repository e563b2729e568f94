//! `greenroom demo`: the real manager against the simulator, with faults, on one machine and with no account.

pub(super) mod clip;
mod script;
mod speaker;
mod stage;

use std::{
    io::{self, IsTerminal as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::System;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    figures::{self, Figures},
    output,
    process::Process,
    signals,
};
use crate::{
    config::{self, Config},
    recovery::TenantId,
    session::{SessionEntry, SessionSpec},
    simulator::{self, Simulator, SimulatorConfig},
    telemetry,
};
use script::Cast;
use speaker::Tally;
use stage::{Event, Introduction, Keys, Screen, Stage, Window};

/// The tenants of the demo; the sessions are shared out between them.
const TENANTS: [&str; 2] = ["acme", "globex"];
/// The demo's keys: they open nothing but this process on this machine.
const ADMIN_KEY: &str = "demo-admin-key";
const TENANT_KEY: &str = "demo-key-of-acme";
/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;

/// The arguments.
///
/// Starts the avatar service's simulator and a manager with two tenants, lets every session speak a clip in
/// real time, and strikes with one fault of each family in turn. In a terminal it is a table, and keys strike
/// too. Ctrl-C ends it. Exit code 0 after an orderly end; 1 where an invariant was breached or connections were
/// left open.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions in all.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    sessions: u32,
    /// End after this many seconds; without it, Ctrl-C ends the demo.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Show the manager's logs at this level, as `RUST_LOG` has it.
    #[arg(long, value_name = "FILTER", default_value = "off")]
    log: String,
    /// Print lines in a terminal too, not the table.
    #[arg(long)]
    plain: bool,
}

impl Args {
    /// Whether the table is shown: to a person, and not over logs in the same terminal.
    fn wants_table(&self) -> bool {
        let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        !self.plain
            && !is_dumb
            && io::stdout().is_terminal()
            && (self.log == "off" || !io::stderr().is_terminal())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "every subcommand's `run` takes its arguments so")]
pub(super) fn run(args: Args) -> ExitCode {
    if let Err(error) = telemetry::init_logs(telemetry::LogFormat::Text, &args.log) {
        output::complain(&format!("greenroom: {error}"));
        return ExitCode::from(2);
    }
    tell_panics_shortly(args.wants_table());
    // A panic of the demo itself goes to the log, which is off unless it was asked for: it is told here.
    let demo = AssertUnwindSafe(|| System::new().block_on(demo(&args)));
    match panic::catch_unwind(demo) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            output::complain(&format!("greenroom: {error}"));
            ExitCode::FAILURE
        }
        Err(_panic) => {
            output::complain("greenroom: the demo panicked; run it with --plain --log error to see where");
            ExitCode::from(PANICKED)
        }
    }
}

/// One of the demo's faults is a panic: one line of it is enough where the logs do not show it, and none over
/// the table.
fn tell_panics_shortly(over_table: bool) {
    let logged = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(tracing::Level::ERROR) {
            logged(panic);
        } else if !over_table {
            output::complain(&format!("          {}", panic.to_string().replace('\n', " ")));
        }
    }));
}

async fn demo(args: &Args) -> io::Result<bool> {
    let simulator = Arc::new(simulator::spawn_thread(SimulatorConfig::default())?);
    let config = configuration(args, &simulator)?;
    let mut process = Process::start(&config).await.map_err(io::Error::other)?;
    let sessions = create_sessions(&process, args.sessions).await?;

    let tally = Arc::new(Tally::default());
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    for (position, entry) in sessions.iter().enumerate() {
        let start = Duration::from_millis(37 * position as u64 % 3000);
        let manager = process.manager().clone();
        tasks.push(actix_rt::spawn(speaker::speak(manager, Arc::clone(entry), Arc::clone(&tally), start)));
    }
    let shown = show(args, &mut process, &simulator, sessions, &tally).await;
    output::say("demo    ends: closing every connection");
    let metrics = Arc::clone(process.metrics());
    for task in tasks {
        task.abort();
    }
    let in_time = process.stop().await;
    let verdict = summary(&Figures::read(&metrics.render()), &simulator, &tally, in_time);
    if let Ok(simulator) = Arc::try_unwrap(simulator) {
        simulator.stop().await;
    }
    shown.map(|()| verdict)
}

/// Shows the demo until its end, and gives the terminal back. An error is one of the terminal.
async fn show(
    args: &Args,
    process: &mut Process,
    simulator: &Arc<Simulator>,
    sessions: Vec<Arc<SessionEntry>>,
    tally: &Arc<Tally>,
) -> io::Result<()> {
    // Held here and by no task, so that the terminal is given back when this returns or panics.
    let mut screen = if args.wants_table() { Some(Screen::open()?) } else { None };
    let stage = Rc::new(if screen.is_some() { Stage::table() } else { Stage::Plain });
    stage.tell(Event::Introduced(introduction(process, simulator, &sessions)));
    let cast = Rc::new(Cast {
        manager: process.manager().clone(),
        simulator: Arc::clone(simulator),
        sessions,
        stage: Rc::clone(&stage),
    });
    let metrics = Arc::clone(process.metrics());
    let on_stage = async {
        let script = script::play(Rc::clone(&cast));
        let figures = show_figures(&stage, screen.as_mut(), &metrics, tally);
        match &*stage {
            Stage::Plain => {
                // Where nobody reads the lines, the demo goes on.
                let _unread = tokio::join!(script, figures);
                Ok(())
            }
            Stage::Table(_) => tokio::select! {
                () = script => Ok(()),
                shown = figures => shown,
                obeyed = script::obey(Rc::clone(&cast), Keys::read()?) => obeyed,
            },
        }
    };
    let mut ended = Ok(());
    process
        .until_end(async {
            tokio::select! {
                () = end_of(args.seconds) => {}
                result = on_stage => ended = result,
            }
        })
        .await;
    ended
}

async fn end_of(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::select! {
            () = signals::terminate() => {}
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        },
        None => signals::terminate().await,
    }
}

/// The usual port where it is free, so that what the README says can be pasted; else any.
fn free_address(usual: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    if TcpListener::bind(address).is_ok() { address } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

/// The demo's configuration is an ordinary one, read by the ordinary reader.
fn configuration(args: &Args, simulator: &Simulator) -> io::Result<Config> {
    let mut text = format!(
        "[server]\nlisten = \"{}\"\nshutdown_s = 4\n[admin]\nlisten = \"{}\"\nkey = \"{ADMIN_KEY}\"\n\
         [store]\nurl = \"memory:\"\n[upstream]\nconsole_url = \"{}\"\ningress_url = \"{}\"\n\
         [recovery]\npark_probe_s = 0\n[recovery.budget]\nrestarts = 50\n",
        free_address(8080),
        free_address(8081),
        simulator.console_url(),
        simulator.ingress_url(),
    );
    for tenant in TENANTS {
        text.push_str(&format!(
            "[[tenants]]\nid = \"{tenant}\"\napp_id = \"app-{tenant}\"\nupstream_api_key = \"upstream-{tenant}\"\n\
             keys = [\"demo-key-of-{tenant}\"]\nmax_sessions = {}\n",
            args.sessions + 20
        ));
    }
    config::parse(&text, "demo", &config::environment())
        .map_err(|errors| io::Error::other(errors.to_string()))
}

async fn create_sessions(process: &Process, sessions: u32) -> io::Result<Vec<Arc<SessionEntry>>> {
    let mut entries = Vec::new();
    for number in 0..sessions {
        let tenant = TenantId::from(TENANTS[number as usize % TENANTS.len()]);
        let mut spec = SessionSpec::for_avatar(format!("avatar-{:02}", number + 1));
        spec.sample_rate = clip::SAMPLE_RATE;
        spec.labels.insert("demo".to_owned(), "true".to_owned());
        let created = process.manager().create(&tenant, spec).await.map_err(io::Error::other)?;
        entries.push(created.map_err(io::Error::other)?);
    }
    Ok(entries)
}

fn introduction(process: &Process, simulator: &Simulator, sessions: &[Arc<SessionEntry>]) -> Introduction {
    let (data, admin) = (process.data_address(), process.admin_address());
    let first = sessions.first().map(|entry| entry.id.to_string()).unwrap_or_default();
    Introduction {
        title: format!(
            "{} sessions of {} tenants speak; a fault strikes every 4 s",
            sessions.len(),
            TENANTS.len()
        ),
        places: vec![
            ("tenants' API", format!("http://{data}/v1/sessions")),
            ("operators", format!("http://{admin}/v1/sessions   http://{admin}/v1/codes")),
            ("metrics", format!("http://{admin}/metrics")),
            ("simulator", format!("{}/_sim/stats", simulator.console_url())),
        ],
        commands: vec![
            format!(
                "curl -s 'http://{data}/v1/sessions?state=running&limit=2' -H 'Authorization: Bearer {TENANT_KEY}'"
            ),
            format!(
                "curl -s -X POST http://{admin}/v1/sessions/{first}/restart -H 'Authorization: Bearer {ADMIN_KEY}'"
            ),
            format!("curl -s http://{admin}/metrics | grep '^greenroom_session_errors_total.* [1-9]'"),
        ],
    }
}

async fn show_figures(
    stage: &Stage,
    mut screen: Option<&mut Screen>,
    metrics: &telemetry::Metrics,
    tally: &Tally,
) -> io::Result<()> {
    let began = Instant::now();
    let mut window = Window::default();
    let mut ticks = tokio::time::interval(stage.figures_every());
    // Drawings that were missed need not be caught up with.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let figures = Figures::read(&metrics.render());
        let accepted = tally.accepted.load(Ordering::Relaxed);
        stage.show(Event::Figures(window.read(&figures, began.elapsed(), accepted)))?;
        if let Some(screen) = &mut screen {
            screen.draw(stage)?;
        }
    }
}

/// Says how it went; `false` where something was not as it must be.
fn summary(figures: &Figures, simulator: &Simulator, tally: &Tally, in_time: bool) -> bool {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let stats = simulator.stats();
    let mut breaches = Vec::new();
    let counted = figures.total("greenroom_invariant_breaches_total");
    if counted > 0.0 {
        breaches.push(format!("{counted:.0} invariant breaches were counted"));
    }
    if stats.max_session_peak > 1 {
        breaches.push(format!("a session had {} connections at one time", stats.max_session_peak));
    }
    if stats.violations.total > 0 {
        breaches.push(format!("the simulator saw violations of the protocol: {:?}", stats.violations.last));
    }
    if count(&tally.incomplete) > 0 {
        breaches.push(format!("{} completed requests lacked frames", count(&tally.incomplete)));
    }
    if !in_time || stats.connections.live > 0 {
        breaches.push(format!("{} connections were left open", stats.connections.live));
    }
    let outcomes = figures.by("greenroom_requests_total", "outcome");
    output::say(&format!(
        "requests  {} accepted; outcomes: {}",
        count(&tally.accepted),
        figures::list(&outcomes)
    ));
    output::say(&format!(
        "errors    {}",
        figures::list(&figures.by("greenroom_session_errors_total", "code"))
    ));
    output::say(&format!(
        "service   {} connections, at most {} attempts in one second, {} live now",
        stats.connections.total, stats.upgrades.max_per_second, stats.connections.live
    ));
    let accepted = count(&tally.accepted) as f64;
    let settled: f64 = outcomes.values().sum();
    if (accepted - settled).abs() > 0.5 {
        breaches.push(format!("{accepted:.0} requests were accepted and {settled:.0} have an outcome"));
    }
    for breach in &breaches {
        output::say(&format!("BREACH    {breach}"));
    }
    if breaches.is_empty() {
        output::say("verdict   every invariant held");
    }
    breaches.is_empty()
}
