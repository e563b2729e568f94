//! From the bus to the collector: a bounded queue, batches, and what becomes of each counted.

use std::{cell::Cell, sync::Arc, time::Duration};

use opentelemetry_sdk::{error::OTelSdkError, trace::SpanExporter};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel, error::TrySendError},
    time::{Instant, timeout, timeout_at},
};

use super::mapping::{Mapped, Mapper, Trace};
use crate::{
    events::{Follower, Heard},
    telemetry::{Metrics, TraceOutcome},
};

/// Spans of one export, after which it is not waited for more: as much as OpenTelemetry's own processor sends at once.
const BATCH_SPANS: usize = 512;

/// How much waits, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The most traces that wait for an export.
    pub(super) queue: usize,
    /// How long the first trace of an export waits for others.
    pub(super) linger: Duration,
    /// How long it may take to export what there is at the end.
    pub(super) flush_within: Duration,
}

/// Exports traces until the bus is closed.
pub(super) struct Exporting<E> {
    exporter: E,
    metrics: Arc<Metrics>,
    bounds: Bounds,
    /// Traces that are queued or under way.
    pending: Cell<u64>,
    standing: Cell<Standing>,
}

/// How it stands with the collector. Its changes are logged, and not what happens in between.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It takes what it gets, as far as is known.
    Taking,
    /// It did not take the last batch.
    Away {
        /// Traces lost since.
        dropped: u64,
    },
}

impl<E: SpanExporter> Exporting<E> {
    pub(super) const fn new(exporter: E, metrics: Arc<Metrics>, bounds: Bounds) -> Self {
        let (pending, standing) = (Cell::new(0), Cell::new(Standing::Taking));
        Self { exporter, metrics, bounds, pending, standing }
    }

    /// Runs until the bus is closed and what there is has been exported, or its time for that has passed.
    pub(super) async fn run(self, mut follower: Follower, mut mapper: Mapper) {
        let (waiting, queued) = channel(self.bounds.queue);
        let mut exporting = Box::pin(self.export_all(queued));
        tokio::select! {
            biased;
            () = self.follow(&mut follower, &mut mapper, &waiting) => {}
            () = &mut exporting => return,
        }
        drop(waiting);
        if timeout(self.bounds.flush_within, exporting).await.is_err() {
            let lost = self.pending.get();
            self.metrics.traces(TraceOutcome::Dropped, lost);
            tracing::warn!(lost, "traces were not exported before the end");
        }
    }

    async fn follow(&self, follower: &mut Follower, mapper: &mut Mapper, waiting: &Sender<Trace>) {
        while let Some(heard) = follower.next().await {
            for heard in heard {
                let event = match heard {
                    Heard::Event(event) => event,
                    Heard::Gap(gap) => {
                        // Which of them would have been traces is not known; it is at most each.
                        self.lose(gap.missed.unwrap_or(1));
                        tracing::warn!(missed = gap.missed, "events went by before traces were made of them");
                        continue;
                    }
                };
                match mapper.map(&event) {
                    Mapped::Nothing => {}
                    Mapped::SampledOut => self.metrics.traces(TraceOutcome::SampledOut, 1),
                    Mapped::Trace(trace) => match waiting.try_send(trace) {
                        Ok(()) => self.pending.set(self.pending.get() + 1),
                        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.lose(1),
                    },
                }
            }
            // A burst of events must not keep the exports of before from going on.
            tokio::task::yield_now().await;
        }
    }

    async fn export_all(&self, mut queued: Receiver<Trace>) {
        while let Some(first) = queued.recv().await {
            let (mut spans, mut traces) = (first, 1);
            let full_at = Instant::now() + self.bounds.linger;
            while spans.len() < BATCH_SPANS {
                // A closed queue ends the wait, too.
                let Ok(Some(trace)) = timeout_at(full_at, queued.recv()).await else { break };
                spans.extend(trace);
                traces += 1;
            }
            let result = self.exporter.export(spans).await;
            self.pending.set(self.pending.get() - traces);
            self.settle(traces, result);
        }
    }

    fn settle(&self, traces: u64, result: Result<(), OTelSdkError>) {
        match (result, self.standing.get()) {
            (Ok(()), standing) => {
                self.metrics.traces(TraceOutcome::Exported, traces);
                self.standing.set(Standing::Taking);
                if let Standing::Away { dropped } = standing {
                    tracing::info!(dropped, "the collector takes traces again");
                }
            }
            (Err(error), standing) => {
                if let Standing::Taking = standing {
                    self.standing.set(Standing::Away { dropped: 0 });
                    tracing::warn!(
                        %error,
                        "traces cannot be exported; they are dropped and counted until the collector takes them"
                    );
                }
                self.lose(traces);
            }
        }
    }

    fn lose(&self, traces: u64) {
        self.metrics.traces(TraceOutcome::Dropped, traces);
        if let Standing::Away { dropped } = self.standing.get() {
            self.standing.set(Standing::Away { dropped: dropped + traces });
        }
    }
}

#[cfg(test)]
mod tests;
