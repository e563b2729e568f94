//! `churn` and `list`: what calls of the API cost.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{
        Args, Subject,
        product::Greenroom,
        report::{Latency, Run},
    },
    SETTLE, let_go,
};

/// How long a session of `churn` lives.
pub(in crate::cli::bench) const LIFE: Duration = Duration::from_secs(1);
/// Calls of each kind whose latency `list` measures.
const CALLS: usize = 200;
/// Sessions on a page.
const PAGE: usize = 50;

pub(super) async fn churn(args: &Args, subject: &mut Subject, run: &mut Run) -> io::Result<()> {
    if let Subject::Rival(rival) = subject {
        rival.open().await?;
    }
    let (before, began) = (subject.usage()?, Instant::now());
    let created = args.rate * args.seconds;
    match subject {
        Subject::Greenroom(greenroom) => create_and_end(args, greenroom, run).await,
        Subject::Relay { client: rival, .. } | Subject::Rival(rival) => {
            let_go(rival, args.seconds, run).await?;
        }
    }
    let after = subject.usage()?;
    let cpu = after.cpu_since(&before);
    run.set("cpu_percent_of_a_core", cpu * 100.0 / began.elapsed().as_secs_f64());
    run.set("cpu_ms_per_session", cpu * 1000.0 / f64::from(created));
    // Ended sessions are listed for an hour: this is what each of them keeps.
    let grown = after.rss_kib as f64 - before.rss_kib as f64;
    run.set("rss_kib_per_ended_session", grown / f64::from(created));
    Ok(())
}

#[derive(Default)]
struct Churned {
    not_running: u64,
    trouble: Vec<String>,
}

async fn create_and_end(args: &Args, greenroom: &Greenroom, run: &mut Run) {
    let latencies = || Rc::new(RefCell::new(Latency::new()));
    let (create, delete) = (latencies(), latencies());
    let churned = RefCell::new(Churned::default());
    let start = Instant::now() + Duration::from_millis(100);
    let lives = (0..args.rate * args.seconds).map(|number| {
        let due = start + Duration::from_secs(1) * number / args.rate;
        let (create, delete, churned) = (Rc::clone(&create), Rc::clone(&delete), &churned);
        async move {
            sleep_until(due).await;
            let life = async {
                let id = greenroom.create(number as usize).await?;
                // From when it was due: a call that a slow one before it delays is slow too.
                create.borrow_mut().record(due.elapsed());
                let end = due + LIFE;
                sleep_until(end).await;
                let session = greenroom.get(&format!("/v1/sessions/{id}")).await?;
                let session: State = serde_json::from_slice(&session)?;
                if session.state != "running" {
                    churned.borrow_mut().not_running += 1;
                }
                let asked = Instant::now();
                greenroom.delete(&id).await?;
                delete.borrow_mut().record(asked.elapsed());
                Ok::<(), io::Error>(())
            };
            if let Err(error) = life.await {
                let mut churned = churned.borrow_mut();
                // One is as good as a thousand of the same.
                if churned.trouble.len() < 3 {
                    churned.trouble.push(error.to_string());
                }
            }
        }
    });
    join_all(lives).await;
    run.set_latency("create", &create.borrow());
    run.set_latency("delete", &delete.borrow());
    let churned = churned.into_inner();
    run.set("not_running_after_1_s", churned.not_running as f64);
    run.trouble.extend(churned.trouble);
}

#[derive(Deserialize)]
struct State {
    state: String,
}

pub(super) async fn list(args: &Args, subject: &mut Subject, run: &mut Run) -> io::Result<()> {
    let Subject::Greenroom(greenroom) = subject else {
        return Err(io::Error::other("there is nothing that `list` could be compared with"));
    };
    let few = (args.sessions() / 10).max(1);
    for (name, more) in [("few", few), ("all", args.sessions() - few)] {
        greenroom.open(more).await?;
        sleep(SETTLE).await;
        measure_calls(greenroom, name, run).await?;
    }
    for call in ["page", "last_page", "session", "metrics"] {
        let p50 = |name: &str| run.latencies_ms.get(&format!("{call}_of_{name}")).map(|latency| latency.p50);
        if let (Some(few), Some(all)) = (p50("few"), p50("all")) {
            run.set(&format!("{call}_growth_ratio"), all / few);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Page {
    sessions: Vec<State>,
    next_cursor: Option<String>,
}

async fn measure_calls(greenroom: &Greenroom, name: &str, run: &mut Run) -> io::Result<()> {
    let (mut listed, mut path) = (0, format!("/v1/sessions?limit={PAGE}"));
    let mut pages = Latency::new();
    loop {
        let asked = Instant::now();
        let page: Page = serde_json::from_slice(&greenroom.get(&path).await?)?;
        pages.record(asked.elapsed());
        listed += page.sessions.len();
        match page.next_cursor {
            Some(next) => path = format!("/v1/sessions?limit={PAGE}&cursor={next}"),
            None => break,
        }
    }
    run.set_latency(&format!("page_of_{name}"), &pages);
    if listed != greenroom.sessions.len() {
        run.trouble.push(format!("{listed} of {} sessions were listed", greenroom.sessions.len()));
    }
    let (mut ends, mut sessions, mut metrics) = (Latency::new(), Latency::new(), Latency::new());
    for number in 0..CALLS {
        let asked = Instant::now();
        greenroom.get(&path).await?;
        ends.record(asked.elapsed());
        if let Some(id) = greenroom.sessions.get(number * greenroom.sessions.len() / CALLS) {
            let asked = Instant::now();
            greenroom.get(&format!("/v1/sessions/{id}")).await?;
            sessions.record(asked.elapsed());
        }
        let asked = Instant::now();
        greenroom.metrics_text().await?;
        metrics.record(asked.elapsed());
    }
    run.set_latency(&format!("last_page_of_{name}"), &ends);
    run.set_latency(&format!("session_of_{name}"), &sessions);
    run.set_latency(&format!("metrics_of_{name}"), &metrics);
    Ok(())
}
