//! The forms in which the service may behave: each switch of the simulator, and all combinations of some.

use std::time::Duration;

use greenroom::simulator::{Arrival, Limits, Pace, Simulator, SimulatorConfig, Unknowns, spawn_thread};

/// How the service behaves where that is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// Of 4003 and of 4010.
    pub arrives: Arrival,
    pub error_before_close: bool,
    pub expiry_closes: bool,
    pub egress_frames: bool,
    pub double_end: bool,
    pub preempts: bool,
    pub playback_state: bool,
    pub playback_control: bool,
    pub status_text: bool,
}

/// What a simulator starts with.
pub const DEFAULT: Form = Form {
    arrives: Arrival::Http,
    error_before_close: false,
    expiry_closes: false,
    egress_frames: true,
    double_end: true,
    preempts: false,
    playback_state: true,
    playback_control: true,
    status_text: false,
};

/// What can be one way or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    Arrival,
    ErrorBeforeClose,
    ExpiryCloses,
    EgressFrames,
    DoubleEnd,
    Preempts,
    PlaybackState,
    PlaybackControl,
    StatusText,
}

pub const ALL_SWITCHES: [Switch; 9] = [
    Switch::Arrival,
    Switch::ErrorBeforeClose,
    Switch::ExpiryCloses,
    Switch::EgressFrames,
    Switch::DoubleEnd,
    Switch::Preempts,
    Switch::PlaybackState,
    Switch::PlaybackControl,
    Switch::StatusText,
];

impl Switch {
    /// A form with this switch in each of its positions.
    fn positions(self, form: Form) -> Vec<Form> {
        let both = [false, true];
        let of = |set: fn(&mut Form, bool)| {
            both.map(|on| {
                let mut form = form;
                set(&mut form, on);
                form
            })
            .to_vec()
        };
        match self {
            Self::Arrival => [Arrival::Http, Arrival::ServerError, Arrival::Close]
                .map(|arrives| Form { arrives, ..form })
                .to_vec(),
            Self::ErrorBeforeClose => of(|form, on| form.error_before_close = on),
            Self::ExpiryCloses => of(|form, on| form.expiry_closes = on),
            Self::EgressFrames => of(|form, on| form.egress_frames = on),
            Self::DoubleEnd => of(|form, on| form.double_end = on),
            Self::Preempts => of(|form, on| form.preempts = on),
            Self::PlaybackState => of(|form, on| form.playback_state = on),
            Self::PlaybackControl => of(|form, on| form.playback_control = on),
            Self::StatusText => of(|form, on| form.status_text = on),
        }
    }
}

/// All combinations of what the switches can be, the rest as by default.
pub fn forms(switches: &[Switch]) -> Vec<Form> {
    switches.iter().fold(vec![DEFAULT], |forms, switch| {
        forms.into_iter().flat_map(|form| switch.positions(form)).collect()
    })
}

impl Form {
    /// What it says of these switches, in words.
    pub fn describe(&self, switches: &[Switch]) -> String {
        let yes = |on: bool, yes: &'static str, no: &'static str| if on { yes } else { no };
        let word = |switch: &Switch| match switch {
            Switch::Arrival => match self.arrives {
                Arrival::Http => "as status",
                Arrival::ServerError => "as ServerError",
                Arrival::Close => "as close",
            },
            Switch::ErrorBeforeClose => yes(self.error_before_close, "error first", "close alone"),
            Switch::ExpiryCloses => yes(self.expiry_closes, "expiry ends", "expiry lets live"),
            Switch::EgressFrames => yes(self.egress_frames, "frames", "no frames"),
            Switch::DoubleEnd => yes(self.double_end, "two ends", "one end"),
            Switch::Preempts => yes(self.preempts, "preempts", "side by side"),
            Switch::PlaybackState => yes(self.playback_state, "states", "no states"),
            Switch::PlaybackControl => yes(self.playback_control, "control", "no control"),
            Switch::StatusText => yes(self.status_text, "status text", "status number"),
        };
        switches.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn unknowns(&self) -> Unknowns {
        Unknowns {
            concurrency_arrives: self.arrives,
            auth_arrives: self.arrives,
            error_before_close: self.error_before_close,
            egress_frames: self.egress_frames,
            egress_preempts: self.preempts,
            token_status_text: self.status_text,
        }
    }
}

/// What else of the simulator a feature is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    Plain,
    /// One connection of an API key at a time.
    OneSlot,
    /// An API key begins with a connected second.
    Credits,
    /// A session without audio for a second ends.
    Idle,
    /// A session ends after a second.
    Duration,
    /// A pause ends after 0.3 s.
    PauseTimeout,
    /// A fault takes the service away: not with others in it.
    Alone,
}

/// A simulator that behaves so.
pub fn simulator(form: &Form, setup: Setup) -> Simulator {
    // A busy machine may take some tenths of a second from the upgrade to the first word.
    let short = Duration::from_secs(1);
    let mut limits = Limits::default();
    let mut pause_timeout = Duration::from_secs(60);
    match setup {
        Setup::Plain | Setup::Alone => {}
        Setup::OneSlot => limits.concurrency = Some(1),
        Setup::Credits => limits.credits_s = Some(short.as_secs_f64()),
        Setup::Idle => limits.idle_timeout = Some(short),
        Setup::Duration => limits.max_duration = Some(short),
        Setup::PauseTimeout => pause_timeout = Duration::from_millis(300),
    }
    let mut capabilities = Vec::new();
    if form.playback_state {
        capabilities.push("playback_state".to_owned());
    }
    if form.playback_control {
        capabilities.push("playback_control".to_owned());
    }
    spawn_thread(SimulatorConfig {
        pace: Pace::Realtime,
        capabilities,
        egress_double_end: form.double_end,
        token_expiry_closes: form.expiry_closes,
        pause_timeout,
        limits,
        unknowns: form.unknowns(),
        ..SimulatorConfig::default()
    })
    .unwrap()
}
