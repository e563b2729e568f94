//! The scenarios, each for whoever is measured.

mod calls;
mod losses;
mod speech;

pub(super) use calls::LIFE;

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Args, Scenario, Subject,
    children::Usage,
    report::Run,
    rival::{Rival, Tally},
    service::Service,
};

/// From the word to begin to what begins.
const SETTLE: Duration = Duration::from_secs(1);

/// Carries out the scenario of `args`.
pub(super) async fn run(
    args: &Args,
    service: &Service,
    subject: &mut Subject,
    run: &mut Run,
) -> io::Result<()> {
    match args.scenario {
        Scenario::Idle => idle(args, subject, run).await,
        Scenario::Stream | Scenario::Relay => speech::stream(args, service, subject, run).await,
        Scenario::Burst => speech::burst(args, service, subject, run).await,
        Scenario::Drop => losses::drop(args, service, subject, run).await,
        Scenario::Outage => losses::outage(args, service, subject, run).await,
        Scenario::Churn => calls::churn(args, subject, run).await,
        Scenario::List => calls::list(args, subject, run).await,
    }
}

/// Opens all sessions, and notes how long it took and what it cost.
async fn open(args: &Args, subject: &mut Subject, run: &mut Run) -> io::Result<()> {
    let before = subject.usage()?;
    let began = Instant::now();
    subject.open(args.sessions()).await?;
    run.set("opened_s", began.elapsed().as_secs_f64());
    sleep(Duration::from_secs(u64::from(args.settle))).await;
    let after = subject.usage()?;
    let sessions = f64::from(args.sessions());
    run.set("opening_cpu_ms_per_session", after.cpu_since(&before) * 1000.0 / sessions);
    run.set("rss_mib_before", before.rss_kib as f64 / 1024.0);
    run.set("rss_mib", after.rss_kib as f64 / 1024.0);
    run.set("rss_kib_per_session", (after.rss_kib as f64 - before.rss_kib as f64) / sessions);
    Ok(())
}

async fn idle(args: &Args, subject: &mut Subject, run: &mut Run) -> io::Result<()> {
    open(args, subject, run).await?;
    let (before, began) = (subject.usage()?, Instant::now());
    sleep(Duration::from_secs(u64::from(args.seconds))).await;
    let cpu = subject.usage()?.cpu_since(&before);
    run.set("idle_cpu_percent_of_a_core", cpu * 100.0 / began.elapsed().as_secs_f64());
    Ok(())
}

/// What everybody has used when something began.
struct Begin {
    subject: Usage,
    service: Usage,
    driver: Usage,
    /// Of the client that speaks through Greenroom.
    client: Option<Usage>,
    at: Instant,
}

impl Begin {
    fn now(service: &Service, subject: &Subject) -> io::Result<Self> {
        Ok(Self {
            subject: subject.usage()?,
            service: service.usage()?,
            driver: Usage::own()?,
            client: subject.client()?,
            at: Instant::now(),
        })
    }

    /// Notes what the two around it have used since, in percent of a core, and gives the subject's CPU seconds.
    fn end(&self, service: &Service, subject: &Subject, run: &mut Run) -> io::Result<f64> {
        let elapsed = self.at.elapsed().as_secs_f64();
        let percent = |cpu: f64| cpu * 100.0 / elapsed;
        let cpu = subject.usage()?.cpu_since(&self.subject);
        run.set("cpu_percent_of_a_core", percent(cpu));
        run.set("simulator_cpu_percent_of_a_core", percent(service.usage()?.cpu_since(&self.service)));
        if let (Some(before), Some(after)) = (&self.client, subject.client()?) {
            run.set("client_cpu_percent_of_a_core", percent(after.cpu_since(before)));
        }
        run.set("driver_cpu_percent_of_a_core", percent(Usage::own()?.cpu_since(&self.driver)));
        Ok(cpu)
    }
}

/// Lets a client do what its mode is, and takes over what it saw.
async fn let_go(rival: &mut Rival, seconds: u32, run: &mut Run) -> io::Result<Tally> {
    rival.go()?;
    let tally = rival.tally(Duration::from_secs(u64::from(seconds))).await?;
    run.latencies_ms.extend(tally.latencies_ms.iter().map(|(name, latency)| (name.clone(), *latency)));
    run.frames_lost += tally.frames_due.saturating_sub(tally.frames_in_order);
    if tally.failed > 0 {
        run.trouble.push(format!("{} attempts failed", tally.failed));
    }
    Ok(tally)
}
