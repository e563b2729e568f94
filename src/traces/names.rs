//! The names of spans and attributes: a contract, since people search and alert by them.
//!
//! Where OpenTelemetry's semantic conventions have a name (`session.id`, `error.type`, `server.address`), it is that
//! one; the rest begins with `greenroom.`.

/// The name that traces come under: the resource's service, and the scope of the spans.
pub const SERVICE: &str = "greenroom";

/// An attempt to connect a session, from its ask at the gate.
pub const ATTEMPT: &str = "session.attempt";
/// Its wait at the storm gate, the breaker included.
pub const GATE: &str = "gate.wait";
/// Its call for a session token.
pub const TOKEN: &str = "token.request";
/// Its name lookup, TCP, TLS and WebSocket upgrade.
pub const CONNECT: &str = "websocket.connect";
/// From the upgrade to the service's confirmation.
pub const HANDSHAKE: &str = "session.handshake";
/// A request for audio, from its first audio to its outcome.
pub const REQUEST: &str = "audio.request";
/// The moment in a request's span at which its first frame came.
pub const FIRST_FRAME: &str = "first_frame";

/// The session that a span is of.
pub const SESSION: &str = "session.id";
/// The code of an error, or `_OTHER` where there is none.
pub const ERROR_TYPE: &str = "error.type";
/// The host of the avatar service that a step spoke to.
pub const SERVER_ADDRESS: &str = "server.address";
/// Its port.
pub const SERVER_PORT: &str = "server.port";

/// The tenant whose session it is.
pub const TENANT_ID: &str = "greenroom.tenant.id";
/// The event that the trace is made of, as in the session's history.
pub const EVENT_ID: &str = "greenroom.event.id";
/// The service's id of the connection.
pub const CONNECTION_ID: &str = "greenroom.connection.id";
/// The number of the ask at the gate; on a request, of the connection that it ran on last.
pub const GENERATION: &str = "greenroom.generation";
/// Which attempt in a row it is, from 1.
pub const ATTEMPT_NUMBER: &str = "greenroom.attempt";
/// `running`, `completed`, `interrupted`, `failed`, or the code of what ended an attempt.
pub const OUTCOME: &str = "greenroom.outcome";
/// The request's id, as its client knows it.
pub const REQUEST_ID: &str = "greenroom.request.id";
/// Connections that ended while it was answered on them.
pub const BREAKS: &str = "greenroom.request.breaks";
/// Frames that came for it.
pub const FRAMES: &str = "greenroom.request.frames";
/// How long its audio lasts, in milliseconds.
pub const AUDIO_MS: &str = "greenroom.request.audio_ms";
/// From its first audio to its first frame, in milliseconds.
pub const FIRST_FRAME_MS: &str = "greenroom.request.first_frame_ms";
