//! What the bare client does with its sessions.

use std::{cell::RefCell, collections::BTreeMap, future::Future, io, rc::Rc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    super::{report::Latency, rival::Tally, scenarios::LIFE, schedule},
    connection::{Connection, Dialer},
};
use crate::{
    simulator::{monotonic_now, read_stamp},
    wire::{Data, proto::ServerResponseAnimation},
};

/// What a hand-written loop waits after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// From the word to speak to the first chunk.
const SETTLE: Duration = Duration::from_secs(1);
/// Bytes of one message of a burst, as Greenroom cuts it.
const BURST_PIECE: usize = 32 << 10;

fn avatar(number: u32) -> String {
    format!("bench-{number:06}")
}

/// Opens all sessions.
pub(super) async fn open(dialer: &Rc<Dialer>, sessions: u32) -> io::Result<Vec<Connection>> {
    let tasks: Vec<_> = (0..sessions)
        .map(|number| {
            let dialer = Rc::clone(dialer);
            actix_rt::spawn(async move { dialer.open(&avatar(number)).await })
        })
        .collect();
    let mut connections = Vec::new();
    for opened in join_all(tasks).await {
        connections.push(opened.map_err(io::Error::other)??);
    }
    Ok(connections)
}

/// Keeps the sessions until `stop`, and reconnects those that are lost: at once, then a second after each failure.
pub(super) async fn hold(
    dialer: &Rc<Dialer>,
    connections: Vec<Connection>,
    stop: impl Future<Output = io::Result<()>>,
) -> io::Result<Tally> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    for (mut connection, number) in connections.into_iter().zip(0..) {
        let (dialer, tally) = (Rc::clone(dialer), Rc::clone(&tally));
        actix_rt::spawn(async move {
            loop {
                while let Ok(Some(_)) = connection.next().await {}
                connection = loop {
                    match dialer.open(&avatar(number)).await {
                        Ok(opened) => break opened,
                        Err(_) => tally.borrow_mut().failed += 1,
                    }
                    sleep(RETRY_PAUSE).await;
                };
                tally.borrow_mut().opened += 1;
            }
        });
    }
    stop.await?;
    Ok(tally.take())
}

/// What came of the frames.
struct Seen {
    frame: Latency,
    answer: Latency,
    schedule: Latency,
    tally: Tally,
}

impl Seen {
    fn new() -> Self {
        Self {
            frame: Latency::new(),
            answer: Latency::new(),
            schedule: Latency::new(),
            tally: Tally::default(),
        }
    }

    /// Notes a frame; `expected` is the index that it must have.
    fn frame(&mut self, frame: &ServerResponseAnimation, expected: &mut u64, due: Option<Instant>) {
        let Some((index, sent)) = read_stamp(&frame.animation) else { return };
        let after = monotonic_now().saturating_sub(sent);
        self.frame.record(after);
        if u64::from(index) == *expected {
            *expected += 1;
            self.tally.frames_in_order += 1;
        }
        if frame.end {
            self.answer.record(after);
            if let Some(due) = due {
                self.schedule.record(Instant::now().saturating_duration_since(due));
            }
        }
    }

    fn into_tally(self) -> Tally {
        let mut tally = self.tally;
        for (name, latency) in
            [("frame", &self.frame), ("answer_after_last_frame", &self.answer), ("schedule", &self.schedule)]
        {
            if let Some(percentiles) = latency.percentiles() {
                tally.latencies_ms.insert(name.to_owned(), percentiles);
            }
        }
        tally
    }
}

/// Every session says its requests one right after the other, in real time.
pub(super) async fn stream(connections: Vec<Connection>, seconds: u32) -> Tally {
    let seen = Rc::new(RefCell::new(Seen::new()));
    let start = Instant::now() + SETTLE;
    let tasks: Vec<_> = connections
        .into_iter()
        .zip(0..)
        .map(|(connection, number)| {
            let begin = start + schedule::offset(number);
            actix_rt::spawn(speak(
                connection,
                number,
                begin,
                schedule::requests_in(seconds),
                Rc::clone(&seen),
            ))
        })
        .collect();
    join_all(tasks).await;
    seen.replace(Seen::new()).into_tally()
}

/// One session: its chunks by the clock, its frames as they come.
async fn speak(
    mut connection: Connection,
    number: u32,
    begin: Instant,
    requests: u32,
    seen: Rc<RefCell<Seen>>,
) {
    let audio = schedule::chunk();
    let chunks = requests * schedule::CHUNKS;
    seen.borrow_mut().tally.frames_due += u64::from(requests) * schedule::FRAMES;
    // By request, since those of two requests may come side by side.
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let (mut sent, mut answered) = (0, 0);
    let give_up = begin + schedule::CHUNK * chunks + schedule::ANSWER_PATIENCE;
    while answered < requests {
        let next = if sent < chunks { begin + schedule::CHUNK * sent } else { give_up };
        tokio::select! {
            () = sleep_until(next) => {
                if sent == chunks {
                    return;
                }
                let (request, is_last) = (sent / schedule::CHUNKS, sent % schedule::CHUNKS + 1 == schedule::CHUNKS);
                let req_id = format!("bare-{number}-{request}");
                if connection.audio(&req_id, audio.clone(), is_last).await.is_err() {
                    return;
                }
                if is_last {
                    due.insert(req_id, begin + schedule::request_length() * (request + 1));
                }
                sent += 1;
            }
            message = connection.next() => match message {
                Ok(Some(Data::ServerResponseAnimation(frame))) => {
                    let due = if frame.end { due.remove(&frame.req_id) } else { None };
                    let mut index = expected.remove(&frame.req_id).unwrap_or_default();
                    seen.borrow_mut().frame(&frame, &mut index, due);
                    if frame.end {
                        answered += 1;
                    } else {
                        expected.insert(frame.req_id, index);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// One session, one request after the other, each as fast as the socket takes it.
pub(super) async fn burst(connections: Vec<Connection>, seconds: u32) -> io::Result<Tally> {
    let Some(mut connection) = connections.into_iter().next() else { return Ok(Tally::default()) };
    let mut seen = Seen::new();
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut request = 0;
    while Instant::now() < end {
        let id = format!("bare-{request}");
        request += 1;
        seen.tally.frames_due += schedule::BURST_FRAMES;
        let mut audio = schedule::burst();
        while !audio.is_empty() {
            let piece = audio.split_to(BURST_PIECE.min(audio.len()));
            connection.audio(&id, piece, audio.is_empty()).await?;
        }
        let mut expected = 0;
        let answer = async {
            loop {
                match connection.next().await? {
                    Some(Data::ServerResponseAnimation(frame)) => {
                        seen.frame(&frame, &mut expected, None);
                        if frame.end {
                            return Ok::<(), io::Error>(());
                        }
                    }
                    Some(_) => {}
                    None => return Err(io::Error::other("the connection ended")),
                }
            }
        };
        timeout(schedule::ANSWER_PATIENCE, answer).await??;
    }
    Ok(seen.into_tally())
}

/// Opens sessions at a rate and closes each after its life.
pub(super) async fn churn(dialer: &Rc<Dialer>, rate: u32, seconds: u32) -> Tally {
    let seen = Rc::new(RefCell::new((Latency::new(), Tally::default())));
    let start = Instant::now() + Duration::from_millis(100);
    let tasks: Vec<_> = (0..rate * seconds)
        .map(|number| {
            let (dialer, seen) = (Rc::clone(dialer), Rc::clone(&seen));
            let due = start + Duration::from_secs(1) * number / rate;
            actix_rt::spawn(async move {
                sleep_until(due).await;
                let opened = dialer.open(&avatar(number)).await;
                let Ok(connection) = opened else {
                    seen.borrow_mut().1.failed += 1;
                    return;
                };
                {
                    let mut noted = seen.borrow_mut();
                    noted.0.record(due.elapsed());
                    noted.1.opened += 1;
                }
                sleep_until(due + LIFE).await;
                if connection.close().await.is_err() {
                    seen.borrow_mut().1.failed += 1;
                }
            })
        })
        .collect();
    join_all(tasks).await;
    let (latency, mut tally) = seen.replace((Latency::new(), Tally::default()));
    if let Some(percentiles) = latency.percentiles() {
        tally.latencies_ms.insert("open".to_owned(), percentiles);
    }
    tally
}
