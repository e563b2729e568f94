//! What a simulator can be told before it starts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// How fast animation comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pace {
    /// 25 frames a second from the arrival of the audio, as the service plays it.
    #[default]
    Realtime,
    /// As fast as the client reads: for tests that count and do not measure.
    Fast,
}

/// In which form the service tells a failure of which that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Arrival {
    /// The upgrade is refused with an HTTP status.
    #[default]
    Http,
    /// The upgrade is granted; a ServerError with the code stands where the confirm would, then 1008.
    ServerError,
    /// The upgrade is granted; a close frame with the code stands where the confirm would.
    Close,
}

/// The service's own limits; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// What an API key begins with, in connected seconds. Its live connections use it up side by side, and
    /// end with 4001 "credits exhausted" when it is gone; upgrades are then refused with 402. More comes by
    /// `POST /_sim/credits`.
    pub credits_s: Option<f64>,
    /// Connections of one API key at a time; one more is refused with 4003.
    pub concurrency: Option<u32>,
    /// A session without audio for so long ends: "no audio input for Ns", with LiveKit egress "livekit
    /// silence timeout" (where the client's `idle_timeout`, if not 0, stands for this one).
    pub idle_timeout: Option<Duration>,
    /// A session ends with 4002 so long after its confirm.
    pub max_duration: Option<Duration>,
}

/// What is not known of the service, or told both ways: each form can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknowns {
    /// How "too many connections" (4003) arrives. As HTTP: 429.
    pub concurrency_arrives: Arrival,
    /// How a session token that is not taken (4010) arrives. As HTTP: 400, and 401 for an expired one.
    pub auth_arrives: Arrival,
    /// Whether a ServerError comes before the close frame that ends a session for a limit or a code.
    pub error_before_close: bool,
    /// Whether empty control frames come in egress mode. Without them only playback states tell of a request.
    pub egress_frames: bool,
    /// Whether in egress mode a new request ends those that play: INTERRUPTED, "preempted". The reason is known,
    /// but not when the service gives it. Otherwise requests play side by side.
    pub egress_preempts: bool,
    /// Whether `errors[].status` of a refused token call is a string rather than a number.
    pub token_status_text: bool,
}

impl Default for Unknowns {
    fn default() -> Self {
        Self {
            concurrency_arrives: Arrival::Http,
            auth_arrives: Arrival::Http,
            error_before_close: false,
            egress_frames: true,
            egress_preempts: false,
            token_status_text: false,
        }
    }
}

/// The simulator's settings. `Default` is what `greenroom simulate` runs without flags, on any free port.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The address to listen on; port 0 takes a free one, which then stays the simulator's for its life.
    pub listen: SocketAddr,
    /// How fast animation comes back.
    pub pace: Pace,
    /// Threads that serve connections.
    pub workers: usize,
    /// Size of one frame's opaque animation payload in bytes, at least [`super::FRAME_HEADER_BYTES`].
    pub frame_bytes: usize,
    /// Whether frames carry the time of their sending, for [`super::read_stamp`]. Such a frame is no longer
    /// what [`super::check_frame_payload`] expects.
    pub stamp_frames: bool,
    /// What the confirm message lists. `playback_state` and `playback_control` also switch the behaviour.
    pub capabilities: Vec<String>,
    /// In egress mode the service may say `end=true` more than once for a request: say it twice.
    pub egress_double_end: bool,
    /// A request paused for longer ends INTERRUPTED with the reason `pause_timeout`.
    pub pause_timeout: Duration,
    /// Whether a connection is closed with 4010 when its token expires. The public documentation says both.
    pub token_expiry_closes: bool,
    /// The greatest message that a client may send, in bytes, all its fragments together.
    pub max_message_bytes: usize,
    /// Above this many bytes that the client has not read, no frame is made and nothing more is read.
    pub outgoing_limit_bytes: usize,
    /// A connection whose client read nothing for so long, while bytes wait for it, is dropped.
    pub stall_timeout: Duration,
    /// The service's own limits, all off by default.
    pub limits: Limits,
    /// The form of what is not known of the service.
    pub unknowns: Unknowns,
    /// With a seed, a fault's `chance` falls the same in every run: the nth time it is due is the nth draw.
    pub seed: Option<u64>,
}

/// As for the default frame: about 30 KB/s a session, the size of a facial animation stream.
const DEFAULT_FRAME_BYTES: usize = 1200;

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            pace: Pace::default(),
            workers: 1,
            frame_bytes: DEFAULT_FRAME_BYTES,
            stamp_frames: false,
            capabilities: vec!["playback_state".into(), "playback_control".into()],
            egress_double_end: true,
            pause_timeout: Duration::from_secs(60),
            token_expiry_closes: false,
            max_message_bytes: 16 * 1024 * 1024,
            outgoing_limit_bytes: 256 * 1024,
            stall_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            unknowns: Unknowns::default(),
            seed: None,
        }
    }
}
