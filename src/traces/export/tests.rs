//! What becomes of traces whose collector is there, away, or slow. The exporter is the tests' own.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use opentelemetry_sdk::{error::OTelSdkResult, trace::SpanData};

use super::*;
use crate::{
    events::{Attempt, Bus, RequestEnd, Since, What},
    recovery::Moment,
    traces::{Peer, Peers, sampling::Sampler},
};

/// Beyond it something hangs.
const DEADLINE: Duration = Duration::from_secs(10);
const BOUNDS: Bounds =
    Bounds { queue: 2048, linger: Duration::from_millis(300), flush_within: Duration::from_millis(400) };

/// What the collector does with the next exports.
#[derive(Clone, Copy, Debug, Default)]
enum Collector {
    #[default]
    Takes,
    Refuses,
    Hangs,
}

#[derive(Debug, Default)]
struct Fake {
    does: Mutex<Collector>,
    batches: Mutex<Vec<Vec<SpanData>>>,
    tried: AtomicUsize,
}

#[derive(Debug)]
struct Shared(Arc<Fake>);

impl SpanExporter for Shared {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.tried.fetch_add(1, Ordering::Relaxed);
        let does = *self.0.does.lock().unwrap();
        match does {
            Collector::Takes => {
                self.0.batches.lock().unwrap().push(batch);
                Ok(())
            }
            Collector::Refuses => {
                tokio::task::yield_now().await;
                Err(OTelSdkError::InternalFailure("Unavailable".to_owned()))
            }
            Collector::Hangs => std::future::pending().await,
        }
    }
}

impl Fake {
    fn spans(&self) -> usize {
        self.batches.lock().unwrap().iter().map(Vec::len).sum()
    }
}

/// All on one thread, as in the process.
async fn here(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

struct Stage {
    bus: Bus,
    collector: Arc<Fake>,
    metrics: Arc<Metrics>,
    running: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn set(does: Collector, bounds: Bounds, bus: Bus) -> Self {
        let collector = Arc::new(Fake { does: Mutex::new(does), ..Fake::default() });
        let metrics = Arc::new(Metrics::new(1));
        let peer = || Peer { host: "service.example".to_owned(), port: 443 };
        let mapper = Mapper::new([1; 16], Sampler::new(1.0), Peers { console: peer(), ingress: peer() });
        let exporting = Exporting::new(Shared(Arc::clone(&collector)), Arc::clone(&metrics), bounds);
        let follower = bus.follow(Since::Now);
        let running = tokio::task::spawn_local(exporting.run(follower, mapper));
        Self { bus, collector, metrics, running }
    }

    fn does(&self, does: Collector) {
        *self.collector.does.lock().unwrap() = does;
    }

    /// Publishes this many requests, a span each.
    fn speak(&self, count: usize) {
        for _ in 0..count {
            let request = RequestEnd {
                req_id: "req".to_owned(),
                outcome: "completed",
                code: None,
                breaks: 0,
                audio: None,
                frames: 1,
                first_frame: None,
                duration: Duration::from_secs(1),
            };
            let now = Moment::at(Duration::from_secs(1_767_323_045));
            self.bus.publish(now, None, Some("ses_1".into()), What::Request(request));
        }
    }

    /// Exported and dropped.
    fn counted(&self) -> [u64; 2] {
        let text = self.metrics.render();
        ["exported", "dropped"].map(|outcome| {
            let line = format!("greenroom_traces_total{{outcome=\"{outcome}\"}} ");
            text.lines().find_map(|text| text.strip_prefix(&line)).unwrap().parse().unwrap()
        })
    }

    /// Waits until this many are counted.
    async fn until(&self, expected: [u64; 2]) {
        self.wait(|| self.counted() == expected).await;
        assert_eq!(self.counted(), expected);
    }

    async fn wait(&self, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(DEADLINE, waiting).await;
    }

    async fn end(&mut self) {
        self.bus.close();
        timeout(DEADLINE, &mut self.running).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn traces_are_exported_together_and_soon() {
    here(async {
        let stage = Stage::set(Collector::Takes, BOUNDS, Bus::default());
        stage.speak(3);
        stage.until([3, 0]).await;
        assert_eq!(stage.collector.tried.load(Ordering::Relaxed), 1);
        // A full batch waits for nothing.
        let stage = Stage::set(Collector::Takes, Bounds { linger: DEADLINE * 2, ..BOUNDS }, Bus::default());
        stage.speak(BATCH_SPANS);
        stage.until([BATCH_SPANS as u64, 0]).await;
    })
    .await;
}

#[tokio::test]
async fn an_attempt_counts_once_with_all_its_spans() {
    here(async {
        let stage = Stage::set(Collector::Takes, BOUNDS, Bus::default());
        let attempt = Attempt {
            attempt: 1,
            generation: 1,
            gate: Duration::ZERO,
            token: Some(Duration::ZERO),
            connect: Some(Duration::ZERO),
            handshake: Some(Duration::ZERO),
            outcome: None,
            connection_id: None,
        };
        stage.bus.publish(Moment::at(Duration::from_secs(9)), None, None, What::Attempt(attempt));
        stage.until([1, 0]).await;
        assert_eq!(stage.collector.spans(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_collector_that_is_away_and_back_is_told_of_once_each_and_what_was_lost_is_counted() {
    here(async {
        let (log, told) = log();
        let _logging = tracing::subscriber::set_default(log);
        let bounds = Bounds { linger: Duration::from_millis(1), ..BOUNDS };
        let stage = Stage::set(Collector::Refuses, bounds, Bus::default());
        for round in 1..=50 {
            stage.speak(10);
            stage.until([0, 10 * round]).await;
        }
        assert!(stage.collector.tried.load(Ordering::Relaxed) >= 50);
        stage.does(Collector::Takes);
        stage.speak(5);
        stage.until([5, 500]).await;
        assert_eq!(stage.collector.spans(), 5);
        stage.does(Collector::Refuses);
        stage.speak(1);
        stage.until([5, 501]).await;
        let told = told.lock().unwrap();
        let lines: Vec<_> = std::str::from_utf8(&told).unwrap().lines().collect();
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(
            lines[0].contains("traces cannot be exported") && lines[0].contains("Unavailable"),
            "{lines:#?}"
        );
        assert!(lines[1].contains("takes traces again") && lines[1].contains("dropped=500"), "{lines:#?}");
        assert!(lines[2].contains("traces cannot be exported"), "{lines:#?}");
    })
    .await;
}

#[tokio::test]
async fn what_a_full_queue_has_no_room_for_is_dropped_and_the_end_waits_for_no_collector_that_hangs() {
    here(async {
        let bounds = Bounds { queue: 16, linger: Duration::ZERO, ..BOUNDS };
        let mut stage = Stage::set(Collector::Takes, bounds, Bus::default());
        stage.speak(3);
        stage.until([3, 0]).await;
        stage.does(Collector::Hangs);
        let tried = || stage.collector.tried.load(Ordering::Relaxed);
        let before = tried();
        stage.speak(1);
        stage.wait(|| tried() > before).await;
        stage.speak(100);
        stage.until([3, 84]).await;
        let begun = Instant::now();
        stage.end().await;
        // The one that hangs, and the 16 behind it.
        assert_eq!(stage.counted(), [3, 101]);
        assert!(
            begun.elapsed() >= BOUNDS.flush_within && begun.elapsed() < DEADLINE / 2,
            "{:?}",
            begun.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn the_end_exports_what_is_queued_without_waiting_for_more() {
    here(async {
        let bounds = Bounds { linger: DEADLINE * 2, flush_within: DEADLINE * 2, ..BOUNDS };
        let mut stage = Stage::set(Collector::Takes, bounds, Bus::default());
        stage.speak(700);
        stage.end().await;
        assert_eq!((stage.collector.spans(), stage.counted()), (700, [700, 0]));
    })
    .await;
}

#[tokio::test]
async fn events_that_went_by_unseen_are_counted_as_lost() {
    here(async {
        let stage = Stage::set(Collector::Takes, BOUNDS, Bus::with_capacity(10));
        stage.speak(30);
        stage.until([10, 20]).await;
    })
    .await;
}

type Written = Arc<Mutex<Vec<u8>>>;

/// A log, and what is written to it.
fn log() -> (impl tracing::Subscriber, Written) {
    #[derive(Clone)]
    struct Writer(Written);
    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = Writer(Arc::clone(&written));
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    (log, written)
}
