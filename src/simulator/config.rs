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
            capabilities: vec!["playback_state".into(), "playback_control".into()],
            egress_double_end: true,
            pause_timeout: Duration::from_secs(60),
            token_expiry_closes: false,
            max_message_bytes: 16 * 1024 * 1024,
            outgoing_limit_bytes: 256 * 1024,
            stall_timeout: Duration::from_secs(30),
        }
    }
}
