//! `stream` and `burst`: audio in, frames out.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use bytes::{Buf as _, Bytes};
use futures_util::future::join_all;
use prost::encoding::decode_varint;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{
    super::{
        Answer, Args, Subject,
        product::Greenroom,
        report::{Latency, Run},
        schedule,
        service::Service,
        upload::Answer as Answered,
    },
    Begin, SETTLE, let_go, open,
};
use crate::{
    simulator::read_stamp,
    wire::{self, Data},
};

const PROTOBUF: &str = "application/x-protobuf";

pub(super) async fn stream(
    args: &Args,
    service: &Service,
    subject: &mut Subject,
    run: &mut Run,
) -> io::Result<()> {
    open(args, subject, run).await?;
    let frames_before = service.stats().await?.frames_sent;
    let begin = Begin::now(service, subject)?;
    match subject {
        Subject::Greenroom(greenroom) => speak_all(args, greenroom, run).await,
        Subject::Relay { client: rival, .. } | Subject::Rival(rival) => {
            let_go(rival, args.seconds, run).await?;
        }
    }
    let cpu = begin.end(service, subject, run)?;
    let audio_s = f64::from(args.sessions())
        * f64::from(schedule::requests_in(args.seconds))
        * schedule::request_length().as_secs_f64();
    run.set("cpu_ms_per_session_and_second", cpu * 1000.0 / audio_s);
    run.set("frames_sent_by_the_simulator", (service.stats().await?.frames_sent - frames_before) as f64);
    run.set("rss_mib_after_traffic", subject.usage()?.rss_kib as f64 / 1024.0);
    Ok(())
}

pub(super) async fn burst(
    args: &Args,
    service: &Service,
    subject: &mut Subject,
    run: &mut Run,
) -> io::Result<()> {
    open(args, subject, run).await?;
    let frames_before = service.stats().await?.frames_sent;
    let begin = Begin::now(service, subject)?;
    match subject {
        Subject::Greenroom(greenroom) => speak_fast(args, greenroom, run).await,
        Subject::Relay { client: rival, .. } | Subject::Rival(rival) => {
            let_go(rival, args.seconds, run).await?;
        }
    }
    let elapsed = begin.at.elapsed().as_secs_f64();
    let cpu = begin.end(service, subject, run)?;
    let frames = (service.stats().await?.frames_sent - frames_before) as f64;
    run.set("frames_per_second", frames / elapsed);
    run.set("cpu_us_per_frame", cpu * 1e6 / frames.max(1.0));
    Ok(())
}

/// What the answers told.
struct Seen {
    /// From the simulator's sending of a request's last frame until the answer is here.
    answer: Latency,
    /// From when that frame was due by the audio's schedule until the answer is here.
    schedule: Latency,
    lost: u64,
    trouble: Vec<String>,
}

impl Seen {
    fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            answer: Latency::new(),
            schedule: Latency::new(),
            lost: 0,
            trouble: Vec::new(),
        }))
    }

    fn note(&mut self, answer: io::Result<Told>, frames_due: u64, late: Option<Duration>) {
        match answer {
            Ok(told) => {
                if let Some(after) = told.last_frame_after {
                    self.answer.record(after);
                }
                if let Some(late) = late {
                    self.schedule.record(late);
                }
                self.lost += frames_due.saturating_sub(told.in_order);
            }
            Err(error) => {
                self.lost += frames_due;
                // One is as good as a thousand of the same.
                if self.trouble.len() < 3 {
                    self.trouble.push(error.to_string());
                }
            }
        }
    }

    fn tell(&mut self, run: &mut Run) {
        run.set_latency("answer_after_last_frame", &self.answer);
        run.set_latency("schedule", &self.schedule);
        run.frames_lost += self.lost;
        run.trouble.append(&mut self.trouble);
    }
}

/// What one answer told.
struct Told {
    /// Frames that came, each once and in order.
    in_order: u64,
    /// From the simulator's sending of the last frame until the answer was here; unknown without frames.
    last_frame_after: Option<Duration>,
}

/// Every session says its requests one right after the other. The next one does not wait for the answer of the
/// one before: the schedule stands.
async fn speak_all(args: &Args, greenroom: &Greenroom, run: &mut Run) {
    let seen = Seen::new();
    let chunk = schedule::chunk();
    let uploads = match greenroom.uploads() {
        Ok(uploads) => Rc::new(uploads),
        Err(error) => return run.trouble.push(error.to_string()),
    };
    let start = Instant::now() + SETTLE;
    let requests = schedule::requests_in(args.seconds);
    let requests = greenroom.sessions.iter().zip(0..).flat_map(|(id, number)| {
        let first = start + schedule::offset(number);
        let path = path(id, args.answer);
        (0..requests).map(move |request| (path.clone(), first + schedule::request_length() * request))
    });
    let tasks: Vec<_> = requests
        .map(|(path, begin)| {
            let (uploads, chunk, seen) = (Rc::clone(&uploads), chunk.clone(), Rc::clone(&seen));
            let answer = args.answer;
            actix_rt::spawn(async move {
                sleep_until(begin).await;
                let told = match uploads.speak(&path, accept(answer), begin, &chunk).await {
                    Ok(answered) => read(answered, answer),
                    Err(error) => Err(io::Error::other(format!("a request failed: {error}"))),
                };
                let due = begin + schedule::request_length();
                let late = Instant::now().saturating_duration_since(due);
                seen.borrow_mut().note(told, schedule::FRAMES, Some(late));
            })
        })
        .collect();
    for ended in join_all(tasks).await {
        if ended.is_err() {
            seen.borrow_mut().trouble.push("a task of the driver panicked".to_owned());
        }
    }
    seen.borrow_mut().tell(run);
}

fn path(id: &str, answer: Answer) -> String {
    let frames = answer == Answer::Frames;
    format!("/v1/sessions/{id}/requests?wait=true&frames={frames}")
}

const fn accept(answer: Answer) -> &'static str {
    match answer {
        Answer::Frames => PROTOBUF,
        Answer::Outcome => "application/json",
    }
}

/// One request after the other, each as one body.
async fn speak_fast(args: &Args, greenroom: &Greenroom, run: &mut Run) {
    let seen = Seen::new();
    let audio = schedule::burst();
    let end = Instant::now() + Duration::from_secs(u64::from(args.seconds));
    let Some(id) = greenroom.sessions.first() else { return };
    let path = path(id, args.answer);
    while Instant::now() < end {
        let told = match greenroom.post(&path, accept(args.answer), audio.clone()).await {
            Ok(answered) => read(answered, args.answer),
            Err(error) => Err(error),
        };
        seen.borrow_mut().note(told, schedule::BURST_FRAMES, None);
    }
    seen.borrow_mut().tell(run);
}

/// What is read of an answer without frames.
#[derive(Deserialize)]
struct Outcome {
    outcome: Option<String>,
    frame_count: u64,
}

/// Reads an answer; its time is that of its head.
fn read(answered: Answered, answer: Answer) -> io::Result<Told> {
    if !(200..300).contains(&answered.status) {
        let (status, what) = (answered.status, String::from_utf8_lossy(&answered.body).into_owned());
        return Err(io::Error::other(format!("a request was answered with {status}: {what}")));
    }
    match answer {
        Answer::Frames => frames(answered.body, answered.here),
        Answer::Outcome => {
            let outcome: Outcome = serde_json::from_slice(&answered.body)?;
            let is_complete = outcome.outcome.as_deref() == Some("completed");
            let in_order = if is_complete { outcome.frame_count } else { 0 };
            Ok(Told { in_order, last_frame_after: None })
        }
    }
}

/// Reads frames behind their lengths, and holds them to the indexes that the simulator gave them.
fn frames(mut body: Bytes, here: Duration) -> io::Result<Told> {
    let bad = || io::Error::other("an answer holds what is no frame");
    let (mut in_order, mut last_frame_after) = (0, None);
    while body.has_remaining() {
        let length =
            usize::try_from(decode_varint(&mut body).map_err(io::Error::other)?).map_err(io::Error::other)?;
        if length > body.len() {
            return Err(bad());
        }
        let message = wire::decode(body.split_to(length)).map_err(io::Error::other)?;
        let Some(Data::ServerResponseAnimation(frame)) = message else { return Err(bad()) };
        let (index, sent) = read_stamp(&frame.animation).ok_or_else(bad)?;
        in_order += u64::from(u64::from(index) == in_order);
        last_frame_after = frame.end.then(|| here.saturating_sub(sent));
    }
    Ok(Told { in_order, last_frame_after })
}

#[cfg(test)]
mod tests {
    use prost::encoding::encode_varint;

    use super::*;
    use crate::wire::proto::ServerResponseAnimation;

    fn answer(indexes: &[u32]) -> Bytes {
        let mut body = Vec::new();
        for (at, index) in indexes.iter().enumerate() {
            let mut animation = vec![0; 16];
            animation[..4].copy_from_slice(&index.to_le_bytes());
            let frame = Data::ServerResponseAnimation(ServerResponseAnimation {
                end: at + 1 == indexes.len(),
                animation: animation.into(),
                ..ServerResponseAnimation::default()
            });
            let message = wire::encode(frame);
            encode_varint(message.len() as u64, &mut body);
            body.extend_from_slice(&message);
        }
        body.into()
    }

    #[test]
    fn a_frame_that_is_missing_double_or_out_of_order_is_not_in_order() {
        let count = |indexes: &[u32]| frames(answer(indexes), Duration::from_secs(1)).unwrap().in_order;
        assert_eq!(count(&[0, 1, 2, 3]), 4);
        assert_eq!(count(&[0, 1, 3]), 2);
        assert_eq!(count(&[0, 0, 1]), 2);
        assert_eq!(count(&[1, 0]), 1);
        assert!(frames(Bytes::from_static(b"\x05\x00"), Duration::ZERO).is_err());
    }
}
