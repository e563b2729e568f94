//! One speaker for each session: says the clip again and again, in real time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};

use super::clip;
use crate::{
    manager::{ManagerHandle, Unreachable},
    outbox::Outcome,
    session::{Accepted, AudioRefused, SendAudio, SessionEntry, Watch, Which},
    wire,
};

/// The length of one piece of audio: what a microphone's driver typically gives.
const PIECE: Duration = Duration::from_millis(40);
/// The silence between two times of saying the clip.
const BREATH: Duration = Duration::from_millis(700);
/// How long a speaker waits when its session takes no audio.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// Frames of animation for a second of audio, as the service's documentation has it.
const FRAMES_PER_SECOND: usize = 25;

/// What the speakers saw, for the summary.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) accepted: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) interrupted: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Completed requests that did not have every frame.
    pub(super) incomplete: AtomicU64,
}

/// Says the clip in `entry`'s session until the process ends.
pub(super) async fn speak(
    manager: ManagerHandle,
    entry: Arc<SessionEntry>,
    tally: Arc<Tally>,
    start: Duration,
) {
    let samples = clip::samples();
    // The speakers do not all begin in one instant: people do not.
    sleep(start).await;
    loop {
        match say(&manager, &entry, &tally, &samples).await {
            Ok(()) => sleep(BREATH).await,
            Err(Trouble::Refused) => sleep(REFUSED_PAUSE).await,
            Err(Trouble::Over) => return,
        }
    }
}

enum Trouble {
    /// The session takes no audio now.
    Refused,
    /// The session is no more.
    Over,
}

impl From<Unreachable> for Trouble {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            Unreachable::Ended => Self::Over,
            Unreachable::Late => Self::Refused,
        }
    }
}

impl From<AudioRefused> for Trouble {
    fn from(_refused: AudioRefused) -> Self {
        Self::Refused
    }
}

async fn say(
    manager: &ManagerHandle,
    entry: &SessionEntry,
    tally: &Tally,
    samples: &Bytes,
) -> Result<(), Trouble> {
    let piece_bytes = clip::SAMPLE_RATE as usize * 2 * PIECE.as_millis() as usize / 1000;
    let expected_frames = (samples.len() * FRAMES_PER_SECOND).div_ceil(clip::SAMPLE_RATE as usize * 2);
    let (mut req_id, mut finished, mut at) = (None, None, 0);
    let mut due = Instant::now();
    while at < samples.len() {
        let next = (at + piece_bytes).min(samples.len());
        let watch = req_id.is_none().then_some(Watch::Outcome);
        let message = || SendAudio {
            request: match &req_id {
                Some(req_id) => Which::Open(String::clone(req_id)),
                None => Which::New(wire::request_id(SystemTime::now(), rand::random())),
            },
            audio: samples.slice(at..next),
            end: next == samples.len(),
            watch,
        };
        match manager.ask(entry, message).await? {
            Ok(accepted) => {
                let Accepted { req_id: id, finished: told } = accepted;
                if req_id.is_none() {
                    tally.accepted.fetch_add(1, Ordering::Relaxed);
                }
                req_id = Some(id);
                finished = finished.or(told);
            }
            // Its outcome is waited for all the same: nothing that was accepted goes without one.
            Err(_refused) if finished.is_some() => break,
            Err(refused) => return Err(refused.into()),
        }
        at = next;
        due += PIECE;
        sleep_until(due).await;
    }
    let Some(finished) = finished else { return Err(Trouble::Refused) };
    let Ok(finished) = finished.await else { return Err(Trouble::Over) };
    let counter = match finished.record.outcome {
        Some(Outcome::Completed) => {
            if finished.record.frames != expected_frames as u64 {
                tally.incomplete.fetch_add(1, Ordering::Relaxed);
            }
            &tally.completed
        }
        Some(Outcome::Interrupted) => &tally.interrupted,
        Some(Outcome::Failed(_)) | None => &tally.failed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
