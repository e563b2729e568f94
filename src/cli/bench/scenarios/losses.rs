//! `drop` and `outage`: how the sessions come back.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    super::{
        Args, Subject,
        report::{Latency, Run},
        service::{Return, Service},
    },
    Begin, open,
};

/// What coming back may take beyond what the gate makes it take; the longest backoff is in it.
const RETURN_MARGIN: Duration = Duration::from_secs(90);
/// From the end of what is counted as the outage's attempts to the end of the outage.
const COUNT_EARLY: Duration = Duration::from_millis(100);

pub(super) async fn drop(
    args: &Args,
    service: &Service,
    subject: &mut Subject,
    run: &mut Run,
) -> io::Result<()> {
    open(args, subject, run).await?;
    hold(subject)?;
    let (since, begin) = (service.now_ms().await?, Begin::now(service, subject)?);
    service.drop_all().await?;
    let seen = service.watch(since, args.sessions() as usize, longest(args)).await?;
    note_return(args, &seen, run);
    let cpu = begin.end(service, subject, run)?;
    run.set("recovery_cpu_ms_per_session", cpu * 1000.0 / f64::from(args.sessions()));
    let peak = service.stats().await?.max_session_peak;
    run.set("connections_of_a_session_at_most", peak as f64);
    if let Subject::Rival(rival) = subject {
        rival.stop()?;
        rival.tally(Duration::ZERO).await?;
    }
    run.set("bound_last_back_s", 1.2 * f64::from(args.sessions()) / f64::from(args.gate_per_second()) + 1.0);
    Ok(())
}

pub(super) async fn outage(
    args: &Args,
    service: &Service,
    subject: &mut Subject,
    run: &mut Run,
) -> io::Result<()> {
    open(args, subject, run).await?;
    hold(subject)?;
    let length = Duration::from_secs(u64::from(args.seconds));
    let (since, begin, began) = (service.now_ms().await?, Begin::now(service, subject)?, Instant::now());
    let failed_before = failed(subject).await?;
    service.outage(length).await?;
    sleep((length.saturating_sub(COUNT_EARLY)).saturating_sub(began.elapsed())).await;
    let failed_during = failed(subject).await? - failed_before;
    sleep(length.saturating_sub(began.elapsed())).await;
    let seen = service.watch(since, args.sessions() as usize, longest(args)).await?;
    note_return(args, &seen, run);
    begin.end(service, subject, run)?;
    run.set("first_back_after_the_outage_s", seen.first_back_s() - length.as_secs_f64());
    run.set("first_to_last_back_s", seen.first_to_last_s());
    run.set(
        "bound_first_to_last_back_s",
        1.2 * f64::from(args.sessions()) / f64::from(args.gate_per_second()) + 2.0,
    );
    // A client that only tells at its end has few failures after the outage: the sum is told for it.
    let attempts = match subject {
        Subject::Greenroom(_) | Subject::Relay { .. } => failed_during,
        Subject::Rival(rival) => {
            rival.stop()?;
            rival.tally(Duration::ZERO).await?.failed as f64
        }
    };
    run.set("attempts_during_the_outage", attempts);
    Ok(())
}

/// Lets a client keep its sessions from here on.
fn hold(subject: &mut Subject) -> io::Result<()> {
    match subject {
        Subject::Greenroom(_) | Subject::Relay { .. } => Ok(()),
        Subject::Rival(rival) => rival.go(),
    }
}

/// Attempts that failed so far, where they can be known now.
async fn failed(subject: &Subject) -> io::Result<f64> {
    match subject {
        Subject::Greenroom(greenroom) | Subject::Relay { greenroom, .. } => greenroom.failed_attempts().await,
        Subject::Rival(_) => Ok(0.0),
    }
}

fn longest(args: &Args) -> Duration {
    Duration::from_secs_f64(2.0 * f64::from(args.sessions()) / f64::from(args.gate_per_second()))
        + RETURN_MARGIN
}

fn note_return(args: &Args, seen: &Return, run: &mut Run) {
    let mut recovery = Latency::new();
    let mut last = Duration::ZERO;
    for took in seen.recoveries() {
        recovery.record(took);
        last = last.max(took);
    }
    run.set_latency("recovery", &recovery);
    run.set("last_back_s", last.as_secs_f64());
    run.set("attempts", seen.attempts() as f64);
    run.set("attempts_in_the_worst_second", seen.worst_second() as f64);
    let missing = args.sessions() as usize - seen.back().min(args.sessions() as usize);
    if missing > 0 {
        run.trouble.push(format!("{missing} sessions did not come back in time"));
    }
}
