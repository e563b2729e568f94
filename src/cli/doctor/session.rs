//! One session of a tenant: token, upgrade, handshake, a short clip, and an orderly end.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use secrecy::SecretString;
use tokio::{sync::watch, time::timeout};

use super::{
    super::demo::clip,
    report::{Outcome, Report},
};
use crate::{
    errors::{Egress, Evidence, Observed, Phase, SessionError},
    recovery::Policy,
    upstream::{Client, Opened, Socket, SocketEvent, Target, Timings},
    wire::{self, Data, proto},
};

/// Of the clip one second is sent: it costs little, and gives 25 frames.
const CLIP: Duration = Duration::from_secs(1);
/// Bytes of a chunk: 40 ms of 16 bit samples, as SDKs send them.
const CHUNK_BYTES: usize = clip::SAMPLE_RATE as usize / 25 * 2;
/// From the last chunk to the last frame: the service answers in real time, and may be slow to begin.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Whose session, with what.
pub(super) struct Patient<'a> {
    pub(super) app_id: &'a str,
    pub(super) api_key: &'a SecretString,
    /// The avatar to try, or why nothing is to be connected.
    pub(super) avatar_id: Result<&'a str, &'static str>,
    pub(super) policy: &'a Policy,
}

/// Why the steps after a failed one are not tried.
const AFTER_FAILURE: &str = "the step before failed";

fn skip(report: &mut Report, steps: &[&str], why: &str) {
    for step in steps {
        report.step(step, &Outcome::Skipped { why: why.to_owned() });
    }
}

/// Tries it, and notes each step.
pub(super) async fn examine(
    client: &Client,
    patient: &Patient<'_>,
    stop: &mut watch::Receiver<bool>,
    report: &mut Report,
) {
    let configure =
        proto::ClientConfigureSession { sample_rate: clip::SAMPLE_RATE.cast_signed(), ..Default::default() };
    let mut target = Target {
        app_id: patient.app_id.to_owned(),
        api_key: patient.api_key.clone(),
        avatar_id: String::new(),
        configure: Some(wire::encode(Data::ClientConfigureSession(configure))),
        egress: Egress::None,
    };
    let mut timings = Timings::default();
    let avatar_id = match patient.avatar_id {
        Ok(avatar_id) => avatar_id,
        Err(why) => {
            let got = client.token(&target, &mut timings).await;
            report.step("token", &outcome(got, timings.token, "a token was given"));
            return skip(report, &["upgrade", "handshake", "clip"], why);
        }
    };
    avatar_id.clone_into(&mut target.avatar_id);
    let opened = client.open(&target, &mut timings).await;
    let (steps, found) = match &opened {
        Ok(opened) => (3, format!("connection {}", opened.connection_id)),
        Err(error) => (steps_before(error), String::new()),
    };
    let names = ["token", "upgrade", "handshake"];
    let took = [timings.token, timings.connect, timings.handshake];
    let finds = ["a token was given", "the service took the connection", found.as_str()];
    for position in 0..steps {
        report.step(names[position], &outcome(Ok(()), took[position], finds[position]));
    }
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            report.step(names[steps], &outcome(Err(error), took[steps], ""));
            skip(report, &names[steps + 1..], AFTER_FAILURE);
            skip(report, &["clip"], AFTER_FAILURE);
            return;
        }
    };
    let Opened { mut socket, .. } = opened;
    let started = Instant::now();
    let spoken = tokio::select! {
        spoken = speak(&mut socket, patient.policy) => spoken,
        _ = stop.wait_for(|stop| *stop) => {
            skip(report, &["clip"], "it was interrupted");
            socket.close().await;
            return;
        }
    };
    // Also after a failure: what stays open is billed.
    socket.close().await;
    report.step(
        "clip",
        &match spoken {
            Ok(found) => Outcome::Passed { took: started.elapsed(), found },
            Err(error) => Outcome::Failed { took: started.elapsed(), error: Box::new(error) },
        },
    );
}

fn outcome(result: Result<(), SessionError>, took: Option<Duration>, found: &str) -> Outcome {
    let took = took.unwrap_or_default();
    match result {
        Ok(()) => Outcome::Passed { took, found: found.to_owned() },
        Err(error) => Outcome::Failed { took, error: Box::new(error) },
    }
}

/// Steps of an attempt that came before the one that failed.
const fn steps_before(error: &SessionError) -> usize {
    match error.phase {
        Phase::SessionToken => 0,
        Phase::WebsocketConnect => 1,
        Phase::WebsocketHandshake | Phase::WebsocketSend | Phase::WebsocketRuntime => 2,
    }
}

fn failure(observed: Observed, why: String) -> SessionError {
    SessionError::classified(Evidence::new(Phase::WebsocketRuntime, observed, Egress::None), why)
}

/// Sends the clip and waits for its last frame; says what came.
async fn speak(socket: &mut Socket, policy: &Policy) -> Result<String, SessionError> {
    let req_id = wire::request_id(SystemTime::now(), rand::random());
    let bytes = CLIP.as_millis() as usize * clip::SAMPLE_RATE as usize / 1000 * 2;
    let samples = clip::samples();
    let samples = samples.slice(..bytes.min(samples.len()));
    let started = Instant::now();
    let mut sent = 0;
    while sent < samples.len() {
        if !socket.has_room() {
            match timeout(ANSWER_WITHIN, socket.next(policy)).await {
                Ok(SocketEvent::Ended(error) | SocketEvent::RequestFailed { error, .. }) => {
                    return Err(*error);
                }
                Ok(SocketEvent::Room | SocketEvent::Animation { .. } | SocketEvent::Frame { .. }) => continue,
                Err(_) => return Err(failure(Observed::SocketEnded, "the clip is not taken".to_owned())),
            }
        }
        let end = (sent + CHUNK_BYTES).min(samples.len());
        let input = proto::ClientAudioInput {
            req_id: req_id.clone(),
            end: end == samples.len(),
            audio: Bytes::copy_from_slice(&samples[sent..end]),
        };
        if let Err(refused) = socket.send(wire::encode(Data::ClientAudioInput(input))) {
            return Err(failure(Observed::Internal, refused.to_string()));
        }
        sent = end;
    }
    let (mut frames, mut first) = (0_u32, None);
    let answer = timeout(ANSWER_WITHIN, async {
        loop {
            let end = match socket.next(policy).await {
                SocketEvent::Ended(error) | SocketEvent::RequestFailed { error, .. } => return Err(*error),
                SocketEvent::Animation { animation, bytes } => {
                    (animation.req_id(&bytes) == req_id).then_some(animation.end)
                }
                SocketEvent::Frame { data, .. } => {
                    if let Data::ServerResponseAnimation(frame) = *data
                        && frame.req_id == req_id
                    {
                        Some(frame.end)
                    } else {
                        None
                    }
                }
                SocketEvent::Room => None,
            };
            if let Some(end) = end {
                frames += 1;
                first.get_or_insert(started.elapsed());
                if end {
                    return Ok(());
                }
            }
        }
    });
    match answer.await {
        Ok(Ok(())) => {
            let first = first.unwrap_or_default().as_millis();
            Ok(format!("{} ms of audio, {frames} frames, the first after {first} ms", CLIP.as_millis()))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(failure(
            Observed::SocketEnded,
            format!("the last frame did not come within {} s; {frames} came", ANSWER_WITHIN.as_secs()),
        )),
    }
}
