//! The work that is timed (`core`) and counted (`instructions`): the core's machines, by their public API.

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use greenroom::{
    errors::{Egress, Evidence, Observed, Phase, SessionError, classify},
    outbox::{Ledger, LedgerConfig},
    recovery::{
        Lifecycle, Moment, RecoveryConfig,
        lifecycle::{Effect, Input},
    },
    wire::{
        self, Data,
        proto::{ClientAudioInput, ServerResponseAnimation},
    },
};

const REQ_ID: &str = "20261122200000_abcdefghijkl";
/// 40 ms of 16 kHz, 16 bit audio.
const CHUNK_BYTES: usize = 1280;
/// The simulator's default, the size of a facial animation stream.
const FRAME_BYTES: usize = 1200;
/// Chunks, and frames, of the request that is carried from its first chunk to its outcome: 2 s.
const CHUNKS: usize = 50;
/// From one loss to the next: the session has been stable in between.
const BETWEEN_LOSSES: Duration = Duration::from_secs(100);

/// One kind of work; each call does it once.
pub struct Work {
    pub name: &'static str,
    pub once: Box<dyn FnMut()>,
}

fn work(name: &'static str, once: impl FnMut() + 'static) -> Work {
    Work { name, once: Box::new(once) }
}

/// All of it.
pub fn all() -> Vec<Work> {
    vec![
        lifecycle_recovery(),
        classification("classify_close_code", &closed(Some(4001), None)),
        classification("classify_text", &said("14: livekit silence timeout")),
        classification("classify_unknown", &said("nothing that anybody has seen before")),
        chunk_through_ledger(),
        frame_into_ledger(),
        request_through_ledger(),
        decode_frame(),
        encode_audio(),
    ]
}

fn closed(code: Option<u16>, detail: Option<&str>) -> Evidence {
    Evidence {
        close_code: code,
        server_detail: detail.map(str::to_owned),
        ..Evidence::new(Phase::WebsocketRuntime, Observed::Answer, Egress::Livekit)
    }
}

fn said(detail: &str) -> Evidence {
    Evidence { observed: Observed::ServerError, ..closed(None, Some(detail)) }
}

fn classification(name: &'static str, evidence: &Evidence) -> Work {
    let evidence = evidence.clone();
    work(name, move || {
        black_box(classify(black_box(&evidence)));
    })
}

/// A running session loses its connection, backs off, gets its turn, and runs again.
fn lifecycle_recovery() -> Work {
    let mut machine = Lifecycle::new(Arc::new(RecoveryConfig::default()));
    let mut now = Moment::at(Duration::from_secs(1000));
    let error = Arc::new(SessionError::classified(
        Evidence::new(Phase::WebsocketRuntime, Observed::SocketEnded, Egress::None),
        "the connection ended",
    ));
    let asked = |machine: &mut Lifecycle| {
        let mut generation = None;
        while let Some(effect) = machine.next_effect() {
            if let Effect::Ask { generation: asked, .. } = effect {
                generation = Some(asked);
            }
        }
        generation
    };
    machine.handle(Input::Start, now, 0.5);
    let mut turn = asked(&mut machine);
    work("lifecycle_recovery", move || {
        let generation = turn.take().expect("a session that is due asks for a turn");
        let connection_id = "conn_0123456789abcdef".to_owned();
        machine.handle(Input::Granted(generation), now, 0.5);
        machine.handle(Input::Connected { generation, connection_id, capabilities: Vec::new() }, now, 0.5);
        now = now + BETWEEN_LOSSES;
        machine.handle(Input::Broke { generation, error: Arc::clone(&error) }, now, 0.5);
        asked(&mut machine);
        now = now.max(machine.next_timeout().expect("a session that backs off has a time"));
        machine.handle(Input::Tick, now, 0.5);
        turn = asked(&mut machine);
    })
}

/// A ledger with one request under way.
fn ledger() -> (Ledger, Moment) {
    let mut ledger = Ledger::new(LedgerConfig::default());
    let now = Moment::at(Duration::from_secs(1));
    ledger
        .accept(REQ_ID, Bytes::from(vec![1; CHUNK_BYTES]), false, usize::MAX, now)
        .expect("an empty ledger accepts");
    ledger.next_to_send(|| unreachable!("nothing is sent again")).expect("what was accepted is to be sent");
    (ledger, now)
}

fn chunk_through_ledger() -> Work {
    let (mut ledger, now) = ledger();
    let audio = Bytes::from(vec![1; CHUNK_BYTES]);
    work("ledger_chunk", move || {
        ledger.accept(REQ_ID, audio.clone(), false, usize::MAX, now).expect("a ledger with room accepts");
        black_box(ledger.next_to_send(|| unreachable!("nothing is sent again")));
    })
}

fn frame_into_ledger() -> Work {
    let (mut ledger, now) = ledger();
    work("ledger_frame", move || {
        black_box(ledger.frame(black_box(REQ_ID), false, now));
        black_box(ledger.next_timeout());
    })
}

fn request_through_ledger() -> Work {
    let mut ledger = Ledger::new(LedgerConfig::default());
    let audio = Bytes::from(vec![1; CHUNK_BYTES]);
    let mut number = 0_u64;
    let now = Moment::at(Duration::from_secs(1));
    work("ledger_request", move || {
        let req_id = format!("{REQ_ID}{number:020}");
        number += 1;
        for chunk in 1..=CHUNKS {
            ledger
                .accept(&req_id, audio.clone(), chunk == CHUNKS, usize::MAX, now)
                .expect("a ledger with room accepts");
            black_box(ledger.next_to_send(|| unreachable!("nothing is sent again")));
        }
        for frame in 1..=CHUNKS {
            black_box(ledger.frame(&req_id, frame == CHUNKS, now));
        }
        assert!(ledger.next_settled().is_some());
    })
}

fn decode_frame() -> Work {
    let message = wire::encode(Data::ServerResponseAnimation(ServerResponseAnimation {
        connection_id: "conn_0123456789abcdef".into(),
        req_id: REQ_ID.into(),
        end: false,
        animation: Bytes::from(vec![7; FRAME_BYTES]),
        avatar_id: "avatar-0001".into(),
    }));
    work("envelope_decode_frame", move || {
        black_box(wire::decode(message.clone()).expect("what was encoded decodes"));
    })
}

fn encode_audio() -> Work {
    let audio = Bytes::from(vec![1; CHUNK_BYTES]);
    work("envelope_encode_audio", move || {
        let input = ClientAudioInput { req_id: REQ_ID.into(), end: false, audio: audio.clone() };
        black_box(wire::encode(Data::ClientAudioInput(input)));
    })
}
