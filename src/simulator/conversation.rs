//! A confirmed session: which message is answered by which. Pure; time is since the confirm.
//!
//! Requests are answered side by side, each at its own pace. In egress mode the WebSocket carries no
//! animation: an empty frame when a request begins to play, `end=true` when its playout has drained (twice,
//! if so configured), and playback states where the capability is declared.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    audio::Meter,
    config::SimulatorConfig,
    handshake::{Egress, INVALID_ARGUMENT, Session},
    pacing::Schedule,
    payload::frame_payload,
    stats::RequestState,
};
use crate::wire::{
    Data,
    proto::{
        ClientAudioInput, ServerError, ServerPlaybackState, ServerResponseAnimation,
        server_playback_state::State,
    },
};

/// Far more than a client has open at a time; beyond it the client leaks requests.
const MAX_OPEN_REQUESTS: usize = 64;
/// As many ended requests as can still be named by messages under way.
const MAX_ENDED_REQUESTS: usize = 256;

/// What follows from a message or from the time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    Send(Box<Data>),
    /// A chunk of audio was taken.
    Audio {
        req_id: String,
        first: bool,
        audio: Bytes,
    },
    Ended {
        req_id: String,
        state: RequestState,
    },
    Violation(String),
    /// The client's message ends the connection: a ServerError with this text, then a close frame.
    Fatal(String),
}

#[derive(Debug)]
struct Request {
    id: String,
    meter: Meter,
    schedule: Schedule,
    paused_since: Option<Duration>,
}

/// One confirmed session.
#[derive(Debug)]
pub(super) struct Conversation {
    connection_id: String,
    avatar_id: String,
    session: Session,
    frame_bytes: usize,
    playback_state: bool,
    playback_control: bool,
    settings: SimulatorConfig,
    /// In the order in which they were begun.
    open: Vec<Request>,
    ended: VecDeque<(String, RequestState)>,
    latest: Option<String>,
    /// Of all requests, those that egress mode does not show included.
    frames_made: u64,
}

impl Conversation {
    pub(super) fn new(
        connection_id: String,
        avatar_id: String,
        session: Session,
        settings: SimulatorConfig,
    ) -> Self {
        let has = |name: &str| settings.capabilities.iter().any(|capability| capability == name);
        let has_egress = session.egress != Egress::None;
        Self {
            connection_id,
            avatar_id,
            session,
            frame_bytes: settings.frame_bytes,
            playback_state: has_egress && has("playback_state"),
            playback_control: has_egress && has("playback_control"),
            settings,
            open: Vec::new(),
            ended: VecDeque::new(),
            latest: None,
            frames_made: 0,
        }
    }

    /// Where the animation goes.
    pub(super) const fn egress(&self) -> Egress {
        self.session.egress
    }

    /// Frames that were made so far.
    pub(super) const fn frames_made(&self) -> u64 {
        self.frames_made
    }

    /// Takes a client's message.
    pub(super) fn receive(&mut self, data: Data, now: Duration) -> Vec<Output> {
        match data {
            Data::ClientAudioInput(input) => self.audio(input, now),
            Data::ClientInterrupt(interrupt) => {
                self.finish(&interrupt.req_id, RequestState::Interrupted, "explicit")
            }
            Data::ClientPause(pause) => self.pause(&pause.req_id, now),
            Data::ClientResume(resume) => self.resume(&resume.req_id, now),
            Data::ClientConfigureSession(_) => unexpected("a second ClientConfigureSession"),
            Data::ServerConfirmSession(_)
            | Data::ServerError(_)
            | Data::ServerResponseAnimation(_)
            | Data::ServerPlaybackState(_) => unexpected("a message that only the server sends"),
        }
    }

    fn audio(&mut self, input: ClientAudioInput, now: Duration) -> Vec<Output> {
        let ClientAudioInput { req_id, end, audio } = input;
        if let Some((_, state)) = self.ended.iter().find(|(id, _)| *id == req_id) {
            return match state {
                // Audio that crossed the end on its way.
                RequestState::Interrupted | RequestState::Failed => Vec::new(),
                RequestState::Open | RequestState::Completed | RequestState::Lost => {
                    vec![Output::Violation(format!("audio for request {req_id} after its end"))]
                }
            };
        }
        let known = self.open.iter().position(|request| request.id == req_id);
        let first = known.is_none();
        if let Some(why) = self.refuses(&req_id, known) {
            let error = self.error(&req_id, INVALID_ARGUMENT, &why);
            return vec![Output::Violation(why), send(error)];
        }
        let mut outputs = Vec::new();
        if first {
            outputs.extend(self.preempt());
            self.latest = Some(req_id.clone());
            self.open.push(Request {
                id: req_id.clone(),
                meter: Meter::new(self.session.format, self.session.sample_rate),
                schedule: Schedule::new(self.settings.pace),
                paused_since: None,
            });
        }
        let at = known.unwrap_or(self.open.len() - 1);
        outputs.push(Output::Audio { req_id: req_id.clone(), first, audio: audio.clone() });
        let request = &mut self.open[at];
        if request.meter.feed(&audio).is_err() {
            outputs.push(Output::Violation(format!("the audio of request {req_id} is no Ogg stream")));
        }
        let (units, per_frame) = request.meter.units();
        request.schedule.audio(units, per_frame, end, now);
        outputs
    }

    /// Ends what plays, since a new request begins, where the service is to do so.
    fn preempt(&mut self) -> Vec<Output> {
        if self.session.egress == Egress::None || !self.settings.unknowns.egress_preempts {
            return Vec::new();
        }
        let playing: Vec<_> = self.open.iter().map(|request| request.id.clone()).collect();
        let end = |id: &String| self.finish(id, RequestState::Interrupted, "preempted");
        playing.iter().flat_map(end).collect()
    }

    /// Why a chunk is not taken.
    fn refuses(&self, req_id: &str, known: Option<usize>) -> Option<String> {
        match known {
            Some(at) if self.open[at].schedule.is_ended() => {
                Some(format!("audio for request {req_id} after its end"))
            }
            Some(_) => None,
            None if req_id.is_empty() => Some("audio without a req_id".into()),
            None if self.open.len() >= MAX_OPEN_REQUESTS => {
                Some(format!("more than {MAX_OPEN_REQUESTS} open requests"))
            }
            None => None,
        }
    }

    /// The next time at which [`Self::advance`] has something to do.
    pub(super) fn next_at(&self) -> Option<Duration> {
        let due = |request: &Request| match request.paused_since {
            Some(since) => Some(since + self.settings.pause_timeout),
            None => request.schedule.due(),
        };
        self.open.iter().filter_map(due).min()
    }

    /// Makes one frame that is due, or ends one pause that was held too long; `None` if there is neither.
    pub(super) fn advance(&mut self, now: Duration) -> Option<Vec<Output>> {
        let timeout = self.settings.pause_timeout;
        let held = |request: &&Request| request.paused_since.is_some_and(|since| since + timeout <= now);
        if let Some(id) = self.open.iter().find(held).map(|request| request.id.clone()) {
            return Some(self.finish(&id, RequestState::Interrupted, "pause_timeout"));
        }
        // The one that has waited longest, so that no request starves another.
        let due = |request: &Request| request.schedule.due().filter(|due| *due <= now);
        let at = (0..self.open.len())
            .filter(|at| due(&self.open[*at]).is_some())
            .min_by_key(|at| (due(&self.open[*at]), self.open[*at].schedule.sent()))?;
        let frame = self.open[at].schedule.take(now)?;
        self.frames_made += 1;
        let id = self.open[at].id.clone();
        if self.session.egress != Egress::None {
            return Some(self.egress_frame(at, frame.index == 0, frame.last));
        }
        let payload = frame_payload(&id, frame.index, self.frame_bytes);
        let mut outputs = vec![send(self.frame(&id, payload.into(), frame.last))];
        if frame.last {
            self.open.remove(at);
            outputs.push(self.record_end(id, RequestState::Completed));
        }
        Some(outputs)
    }

    /// A frame of the playout, of which the WebSocket shows the beginning and the end.
    fn egress_frame(&mut self, at: usize, first: bool, last: bool) -> Vec<Output> {
        let id = self.open[at].id.clone();
        let played = self.open[at].schedule.played();
        let mut outputs = Vec::new();
        if first {
            outputs.extend(self.control_frame(&id, false));
            outputs.extend(self.state(&id, State::Playing, Duration::ZERO, ""));
        }
        if last {
            self.open.remove(at);
            let times = if self.settings.egress_double_end { 2 } else { 1 };
            outputs.extend((0..times).filter_map(|_| self.control_frame(&id, true)));
            outputs.extend(self.state(&id, State::Ended, played, ""));
            outputs.push(self.record_end(id, RequestState::Completed));
        }
        outputs
    }

    /// Ends a request before its time with a final, empty frame. One that has ended, or was never begun,
    /// gets no answer.
    fn finish(&mut self, req_id: &str, state: RequestState, reason: &str) -> Vec<Output> {
        let Some(at) = self.open.iter().position(|request| request.id == req_id) else { return Vec::new() };
        let request = self.open.remove(at);
        let mut outputs = Vec::new();
        outputs.extend(self.state(req_id, State::Interrupted, request.schedule.played(), reason));
        outputs.extend(self.control_frame(req_id, true));
        outputs.push(self.record_end(request.id, state));
        outputs
    }

    fn pause(&mut self, req_id: &str, now: Duration) -> Vec<Output> {
        if !self.playback_control {
            return self.control_left_alone(req_id);
        }
        let Some(request) = self.open.iter_mut().find(|request| request.id == req_id) else {
            return self.control_answer_after_end(req_id);
        };
        request.schedule.pause();
        request.paused_since.get_or_insert(now);
        let played = request.schedule.played();
        vec![send(self.playback(req_id, State::Paused, played, "explicit"))]
    }

    fn resume(&mut self, req_id: &str, now: Duration) -> Vec<Output> {
        if !self.playback_control {
            return self.control_left_alone(req_id);
        }
        let Some(request) = self.open.iter_mut().find(|request| request.id == req_id) else {
            return self.control_answer_after_end(req_id);
        };
        if request.paused_since.take().is_some() {
            request.schedule.resume(now);
        }
        let played = request.schedule.played();
        vec![send(self.playback(req_id, State::Playing, played, "explicit"))]
    }

    /// A server without playback control changes nothing, and tells the state where it tells states (so the
    /// newer client documents it).
    fn control_left_alone(&self, req_id: &str) -> Vec<Output> {
        match self.open.iter().find(|request| request.id == req_id) {
            _ if !self.playback_state => Vec::new(),
            Some(request) => {
                vec![send(self.playback(req_id, State::Playing, request.schedule.played(), ""))]
            }
            None => self.control_answer_after_end(req_id),
        }
    }

    /// Each pause and resume has exactly one answer: for an ended request, how it ended.
    fn control_answer_after_end(&self, req_id: &str) -> Vec<Output> {
        let ended = self.ended.iter().find(|(id, _)| id == req_id);
        let state = match ended.map(|(_, state)| state) {
            Some(RequestState::Interrupted) => State::Interrupted,
            Some(
                RequestState::Open | RequestState::Completed | RequestState::Failed | RequestState::Lost,
            ) => State::Ended,
            None => State::Unspecified,
        };
        vec![send(self.playback(req_id, state, Duration::ZERO, ""))]
    }

    /// The request that was begun last, if any.
    pub(super) fn latest(&self) -> Option<&str> {
        self.latest.as_deref()
    }

    /// Ends a request without a frame: a ServerError has named it.
    pub(super) fn fail(&mut self, req_id: &str) -> Option<Output> {
        let at = self.open.iter().position(|request| request.id == req_id)?;
        let request = self.open.remove(at);
        Some(self.record_end(request.id, RequestState::Failed))
    }

    /// The connection has ended.
    pub(super) fn lose_all(&mut self) -> Vec<String> {
        self.open.drain(..).map(|request| request.id).collect()
    }

    fn record_end(&mut self, req_id: String, state: RequestState) -> Output {
        if self.ended.len() >= MAX_ENDED_REQUESTS {
            self.ended.pop_front();
        }
        self.ended.push_back((req_id.clone(), state));
        Output::Ended { req_id, state }
    }

    /// A frame without animation. In egress mode the service may send none.
    fn control_frame(&self, req_id: &str, end: bool) -> Option<Output> {
        let wanted = self.session.egress == Egress::None || self.settings.unknowns.egress_frames;
        wanted.then(|| send(self.frame(req_id, Bytes::new(), end)))
    }

    /// An animation frame of this connection.
    fn frame(&self, req_id: &str, animation: Bytes, end: bool) -> Data {
        Data::ServerResponseAnimation(ServerResponseAnimation {
            connection_id: self.connection_id.clone(),
            req_id: req_id.into(),
            end,
            animation,
            avatar_id: self.avatar_id.clone(),
        })
    }

    /// A ServerError of this connection.
    fn error(&self, req_id: &str, code: i32, message: &str) -> Data {
        Data::ServerError(ServerError {
            connection_id: self.connection_id.clone(),
            req_id: req_id.into(),
            code,
            message: message.into(),
        })
    }

    fn state(&self, req_id: &str, state: State, played: Duration, reason: &str) -> Option<Output> {
        self.playback_state.then(|| send(self.playback(req_id, state, played, reason)))
    }

    fn playback(&self, req_id: &str, state: State, played: Duration, reason: &str) -> Data {
        Data::ServerPlaybackState(ServerPlaybackState {
            connection_id: self.connection_id.clone(),
            req_id: req_id.into(),
            state: state as i32,
            played_ms: i64::try_from(played.as_millis()).unwrap_or(i64::MAX),
            reason: reason.into(),
        })
    }
}

fn send(data: Data) -> Output {
    Output::Send(Box::new(data))
}

fn unexpected(what: &str) -> Vec<Output> {
    vec![Output::Fatal(format!("unexpected message type: {what}"))]
}
