//! From an event to the spans of its trace. Pure: the same events give the same spans.
//!
//! An event has its end and how long its steps took; spans are laid back to back from the end. What an event does not
//! have (a step that was not begun) has no span.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Event as SpanEvent, Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use ring::digest::{SHA256, digest};

use super::{names, sampling::Sampler};
use crate::{
    errors::ErrorCode,
    events::{Attempt, Event, EventId, RequestEnd, What},
    recovery::{Moment, SessionId, StateName},
};

/// Sessions whose connection is remembered, for their requests: more than a process usually has. A session beyond
/// them has no link in its requests' traces.
const REMEMBERED: usize = 32_768;

/// What an error without a code is called, by the conventions.
const OTHER: &str = "_OTHER";

/// A trace: its root first, then what is below it, in order.
pub(super) type Trace = Vec<SpanData>;

/// What an event comes to.
#[derive(Debug)]
pub(super) enum Mapped {
    /// These spans.
    Trace(Trace),
    /// A trace that is left out.
    SampledOut,
    /// No trace is made of such an event.
    Nothing,
}

/// A host that spans name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Where the steps of an attempt go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Gives out session tokens.
    pub console: Peer,
    /// Has the WebSocket.
    pub ingress: Peer,
}

/// The connection that a session had last.
#[derive(Debug)]
struct Connected {
    id: Option<String>,
    generation: u64,
    /// The attempt that made it, where that is in a trace.
    span: Option<SpanContext>,
}

/// Makes traces of events.
#[derive(Debug)]
pub(super) struct Mapper {
    /// What this process's ids are derived from, with the numbers of its events.
    seed: [u8; 16],
    sampler: Sampler,
    peers: Peers,
    scope: InstrumentationScope,
    connected: BTreeMap<SessionId, Connected>,
}

/// A step of an attempt.
struct Step {
    name: &'static str,
    kind: SpanKind,
    took: Duration,
    attributes: Vec<KeyValue>,
}

impl Mapper {
    pub(super) fn new(seed: [u8; 16], sampler: Sampler, peers: Peers) -> Self {
        let scope =
            InstrumentationScope::builder(names::SERVICE).with_version(env!("CARGO_PKG_VERSION")).build();
        Self { seed, sampler, peers, scope, connected: BTreeMap::new() }
    }

    /// What `event` comes to, told of all events in their order.
    pub(super) fn map(&mut self, event: &Event) -> Mapped {
        match &event.what {
            What::Attempt(attempt) => {
                let trace =
                    self.keeps(event, attempt.outcome.is_some()).then(|| self.attempt(event, attempt));
                self.remember(event, attempt, trace.as_deref());
                trace.map_or(Mapped::SampledOut, Mapped::Trace)
            }
            What::Request(request) => {
                if self.keeps(event, is_failed(request)) {
                    Mapped::Trace(vec![self.request(event, request)])
                } else {
                    Mapped::SampledOut
                }
            }
            What::State(change) => {
                if let (StateName::Stopped, Some(session)) = (change.to, &event.session) {
                    self.connected.remove(session);
                }
                Mapped::Nothing
            }
            What::Error { .. }
            | What::Operator(_)
            | What::Client { .. }
            | What::Tenant { .. }
            | What::Upstream { .. } => Mapped::Nothing,
        }
    }

    fn keeps(&self, event: &Event, failed: bool) -> bool {
        let key = event.session.as_ref().map(|session| session.as_str());
        failed || key.map_or_else(|| self.sampler.keeps(&event.id.to_string()), |key| self.sampler.keeps(key))
    }

    fn remember(&mut self, event: &Event, attempt: &Attempt, trace: Option<&[SpanData]>) {
        let (None, Some(session)) = (attempt.outcome, &event.session) else { return };
        if self.connected.len() >= REMEMBERED && !self.connected.contains_key(session) {
            return;
        }
        let connected = Connected {
            id: attempt.connection_id.clone(),
            generation: attempt.generation,
            span: trace.and_then(<[SpanData]>::first).map(|root| root.span_context.clone()),
        };
        self.connected.insert(session.clone(), connected);
    }

    fn attempt(&self, event: &Event, attempt: &Attempt) -> Trace {
        let steps = self.steps(attempt);
        let took = steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.took));
        let begun = event.at.minus(took);
        let error = attempt.outcome.map(Some);
        let outcome = attempt.outcome.map_or(StateName::Running.as_str(), ErrorCode::as_str);
        let mut root = self.span(event, 0, names::ATTEMPT, SpanKind::Internal, (begun, event.at));
        root.attributes.extend([
            KeyValue::new(names::ATTEMPT_NUMBER, i64::from(attempt.attempt)),
            KeyValue::new(names::GENERATION, integer(attempt.generation)),
            KeyValue::new(names::OUTCOME, outcome),
        ]);
        root.attributes
            .extend(attempt.connection_id.clone().map(|id| KeyValue::new(names::CONNECTION_ID, id)));
        mark(&mut root, error);
        // The step that was under way when the attempt failed is the last that was begun; no step fails the gate.
        let last = steps.len() - 1;
        let mut at = begun;
        let mut trace = vec![root];
        for (index, step) in steps.into_iter().enumerate() {
            let end = if index == last { event.at } else { (at + step.took).min(event.at) };
            let mut span = self.span(event, index + 1, step.name, step.kind, (at, end));
            span.parent_span_id = trace[0].span_context.span_id();
            span.attributes.extend(step.attributes);
            if index == last && index > 0 {
                mark(&mut span, error);
            }
            at = end;
            trace.push(span);
        }
        trace
    }

    /// The gate, and each step that was begun.
    fn steps(&self, attempt: &Attempt) -> Vec<Step> {
        let gate =
            Step { name: names::GATE, kind: SpanKind::Internal, took: attempt.gate, attributes: vec![] };
        let remote = [
            (names::TOKEN, attempt.token, &self.peers.console),
            (names::CONNECT, attempt.connect, &self.peers.ingress),
            (names::HANDSHAKE, attempt.handshake, &self.peers.ingress),
        ];
        let remote = remote.into_iter().filter_map(|(name, took, peer)| {
            let attributes = vec![
                KeyValue::new(names::SERVER_ADDRESS, peer.host.clone()),
                KeyValue::new(names::SERVER_PORT, i64::from(peer.port)),
            ];
            Some(Step { name, kind: SpanKind::Client, took: took?, attributes })
        });
        std::iter::once(gate).chain(remote).collect()
    }

    fn request(&self, event: &Event, request: &RequestEnd) -> SpanData {
        let begun = event.at.minus(request.duration);
        let mut span = self.span(event, 0, names::REQUEST, SpanKind::Server, (begun, event.at));
        let optional = [(names::AUDIO_MS, request.audio), (names::FIRST_FRAME_MS, request.first_frame)];
        span.attributes.extend([
            KeyValue::new(names::REQUEST_ID, request.req_id.clone()),
            KeyValue::new(names::OUTCOME, request.outcome),
            KeyValue::new(names::BREAKS, i64::from(request.breaks)),
            KeyValue::new(names::FRAMES, integer(request.frames)),
        ]);
        span.attributes
            .extend(optional.into_iter().filter_map(|(name, took)| Some(KeyValue::new(name, millis(took?)))));
        if let Some(first_frame) = request.first_frame {
            let at = (begun + first_frame).min(event.at);
            let mut events = SpanEvents::default();
            events.events.push(SpanEvent::new(names::FIRST_FRAME, calendar(at), vec![], 0));
            span.events = events;
        }
        if let Some(connected) = event.session.as_ref().and_then(|session| self.connected.get(session)) {
            span.attributes.push(KeyValue::new(names::GENERATION, integer(connected.generation)));
            span.attributes.extend(connected.id.clone().map(|id| KeyValue::new(names::CONNECTION_ID, id)));
            let mut links = SpanLinks::default();
            links.links.extend(connected.span.clone().map(Link::with_context));
            span.links = links;
        }
        mark(&mut span, is_failed(request).then_some(request.code));
        span
    }

    /// A span with what all have.
    fn span(
        &self,
        event: &Event,
        index: usize,
        name: &'static str,
        kind: SpanKind,
        (begun, ended): (Moment, Moment),
    ) -> SpanData {
        let (trace_id, span_id) = self.ids(event.id, index);
        let mut attributes = vec![KeyValue::new(names::EVENT_ID, integer(event.id.0))];
        let owners = [
            (names::SESSION, event.session.as_ref().map(ToString::to_string)),
            (names::TENANT_ID, event.tenant.as_ref().map(ToString::to_string)),
        ];
        attributes.extend(owners.into_iter().filter_map(|(name, id)| Some(KeyValue::new(name, id?))));
        SpanData {
            span_context: SpanContext::new(
                trace_id,
                span_id,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: kind,
            name: name.into(),
            start_time: calendar(begun),
            end_time: calendar(ended),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// The ids of the event's trace and of its span with this number: as good as random, and different from those of
    /// all other events and processes.
    fn ids(&self, event: EventId, index: usize) -> (TraceId, SpanId) {
        let hash = |index: u64| {
            digest(&SHA256, &[&self.seed[..], &event.0.to_be_bytes(), &index.to_be_bytes()].concat())
        };
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&hash(0).as_ref()[..16]);
        span.copy_from_slice(&hash(index as u64).as_ref()[16..24]);
        (TraceId::from_bytes(trace), SpanId::from_bytes(span))
    }
}

fn is_failed(request: &RequestEnd) -> bool {
    request.outcome == "failed" || request.code.is_some()
}

/// Gives a span the status of its error, where it has one.
fn mark(span: &mut SpanData, error: Option<Option<ErrorCode>>) {
    let Some(code) = error else { return };
    span.attributes.push(KeyValue::new(names::ERROR_TYPE, code.map_or(OTHER, ErrorCode::as_str)));
    span.status = Status::error(code.map_or("failed without a code", ErrorCode::meaning));
}

fn calendar(at: Moment) -> SystemTime {
    UNIX_EPOCH.checked_add(at.since_start()).unwrap_or(UNIX_EPOCH)
}

fn integer(number: u64) -> Value {
    Value::I64(i64::try_from(number).unwrap_or(i64::MAX))
}

fn millis(span: Duration) -> Value {
    Value::I64(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
