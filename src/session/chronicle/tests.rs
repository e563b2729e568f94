//! A chronicle over a disk that fails at command.

use super::*;
use crate::{
    events::{Attempt, ClientAction, EventId, Since},
    recovery::StateName,
    store::{
        Prefix, Range,
        disk::{Disk, Health},
    },
};

struct Desk {
    disk: Arc<Disk>,
    chronicle: Chronicle,
}

fn request(number: u64) -> What {
    What::Request(crate::events::RequestEnd {
        req_id: format!("r{number}"),
        outcome: "completed",
        code: None,
        breaks: 0,
        audio: None,
        frames: number,
        first_frame: None,
        duration: Duration::ZERO,
    })
}

fn attempt(number: u64) -> What {
    What::Attempt(Attempt {
        attempt: 1,
        generation: number,
        gate: Duration::ZERO,
        token: None,
        connect: None,
        handshake: None,
        outcome: None,
        connection_id: None,
    })
}

fn made() -> StateChange {
    StateChange {
        from: None,
        to: StateName::Starting,
        code: None,
        parked_by: None,
        next_attempt_at: None,
        recovered_after: None,
        budget_exhausted: false,
    }
}

impl Desk {
    fn new() -> Self {
        let (disk, records) = Disk::with_records();
        let chronicle = Chronicle::new(Bus::default(), records, Arc::new(Metrics::new(1)));
        tokio::spawn(chronicle.clone().run());
        Self { disk, chronicle }
    }

    fn tell(&self, session: &str, what: What) {
        self.chronicle.tell_of(Moment::ZERO, &TenantId::from("acme"), &SessionId::from(session), what);
    }

    async fn numbers(&self, session: &str) -> Vec<EventId> {
        let history = self.chronicle.history(&SessionId::from(session)).await.unwrap();
        history.iter().map(|entry| EventId(entry.number)).collect()
    }

    async fn written(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.chronicle.flush()).await.expect("all is written");
    }

    async fn stored(&self) -> usize {
        let records = &self.chronicle.0.records;
        records.store().list(&Range::first(Prefix::new("h/"))).await.unwrap().entries.len()
    }
}

#[tokio::test]
async fn what_is_told_is_read_at_once_and_reads_the_same_when_it_is_written() {
    let desk = Desk::new();
    let mut follower = desk.chronicle.bus().follow(Since::Now);
    for number in 0..3 {
        desk.tell("ses_1", attempt(number));
        desk.tell("ses_2", request(number));
    }
    let before = desk.numbers("ses_1").await;
    assert_eq!(before, [EventId(5), EventId(3), EventId(1)]);
    assert_eq!(desk.disk.commits(), 0, "it waits for others");
    assert_eq!(follower.ready().len(), 6);
    desk.written().await;
    assert_eq!(desk.disk.commits(), 1);
    assert_eq!(desk.numbers("ses_1").await, before);
    assert_eq!(desk.stored().await, 6);
}

#[tokio::test]
async fn what_comes_one_by_one_without_a_pause_is_written_many_at_once() {
    let desk = Desk::new();
    let started = std::time::Instant::now();
    for number in 0..100 {
        desk.tell("ses_1", request(number));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    desk.written().await;
    // One for each of the waits, of which a machine that is late has more, and one for what began them.
    let (most, commits) = (1 + started.elapsed().div_duration_f64(LINGER) as usize, desk.disk.commits());
    assert!((1..=most).contains(&commits), "{commits} of {most}");
}

#[tokio::test]
async fn a_storm_is_written_session_by_session_each_in_its_order_and_without_a_loss() {
    let (_, records) = Disk::with_records();
    let chronicle = Chronicle::new(Bus::default(), records, Arc::new(Metrics::new(1)));
    let tell = |session: usize, number| {
        let session = SessionId::from(format!("ses_{session:03}").as_str());
        chronicle.tell_of(Moment::ZERO, &TenantId::from("acme"), &session, attempt(number));
    };
    let sessions = IN_ORDER / 4;
    for number in 0..16 {
        (0..sessions).for_each(|session| tell(session, number));
    }
    let mut taken = Vec::new();
    while !chronicle.waiting().events.is_empty() {
        let before = taken.len();
        assert!(!chronicle.take_batch().is_empty());
        // What comes meanwhile waits its turn, whosever it is.
        if taken.is_empty() {
            tell(0, 16);
        }
        taken.extend(std::mem::take(&mut chronicle.waiting().writing));
        assert!(taken.len() - before <= GROUP);
    }
    assert_eq!(taken.len(), 16 * sessions + 1);
    for (at, turn) in taken.chunks(IN_ORDER).enumerate() {
        assert!(turn.is_sorted_by_key(|(session, event)| (session.clone(), event.id)), "turn {at}");
    }
    let of_first: Vec<_> = taken.iter().filter(|(session, _)| session.as_str() == "ses_000").collect();
    assert!(of_first.is_sorted_by_key(|(_, event)| event.id));
    assert_eq!(of_first.len(), 17);
}

#[tokio::test]
async fn each_class_keeps_its_latest_and_requests_push_no_change_out() {
    let desk = Desk::new();
    desk.tell("ses_1", What::Client { action: ClientAction::Attached });
    for number in 0..1000 {
        desk.tell("ses_1", request(number));
    }
    desk.written().await;
    let numbers = desk.numbers("ses_1").await;
    assert_eq!(numbers.last(), Some(&EventId(1)), "the one change is still there");
    let most = HISTORY_PER_CLASS + usize::from(TRIM_EVERY) + 1;
    assert!((HISTORY_PER_CLASS..=most).contains(&numbers.len()), "{}", numbers.len());
    assert_eq!(numbers[0], EventId(1001));
}

#[tokio::test]
async fn a_session_that_was_just_made_is_not_looked_through_for_what_is_too_much() {
    let desk = Desk::new();
    desk.tell("new", What::State(made()));
    desk.tell("new", attempt(1));
    desk.written().await;
    assert_eq!(desk.disk.lists(), 0);
    // What an earlier process has written of it is not known.
    desk.tell("old", attempt(1));
    desk.written().await;
    assert!(desk.disk.lists() > 0);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_loses_nothing_below_the_bound_and_counts_what_is_beyond() {
    let desk = Desk::new();
    desk.disk.becomes(Health::Full);
    for number in 0..MAX_WAITING as u64 + 7 {
        desk.tell("ses_1", attempt(number));
    }
    let metrics = desk.chronicle.0.metrics.render();
    assert!(metrics.contains("greenroom_history_lost_total 7"), "{metrics}");
    // It is tried, and what was taken for that is there all the while.
    while desk.disk.commits() < 3 {
        assert_eq!(desk.numbers("ses_1").await.len(), MAX_WAITING);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(desk.stored().await, 0, "the disk has taken something");
    desk.disk.becomes(Health::Well);
    desk.written().await;
    assert_eq!(desk.numbers("ses_1").await[0], EventId(MAX_WAITING as u64 + 7));
}

#[tokio::test]
async fn a_session_that_is_forgotten_leaves_nothing_behind_whenever_that_is_said() {
    let desk = Desk::new();
    let forgotten = SessionId::from("ses_1");
    for wait in 0..8 {
        for number in 0..100 {
            desk.tell("ses_1", attempt(number));
        }
        tokio::time::sleep(Duration::from_millis(wait * 40)).await;
        desk.chronicle.forget(&forgotten);
        // A word that comes too late.
        desk.tell("ses_1", attempt(100));
        desk.written().await;
        assert_eq!(desk.numbers("ses_1").await, [], "after {wait}");
        assert_eq!(desk.stored().await, 0, "after {wait}");
    }
}
