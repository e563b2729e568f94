//! Audio in, frames and playback states out.

use crate::{
    feature::{Feature, Look, Told},
    form::{Form, Setup, Switch},
    player::Sdk,
};

const NO_STATES: &str = "avatarkit knows no ServerPlaybackState and passes over what it does not know";
const NO_PAUSE: &str = "avatarkit has neither pause nor resume";

/// What can matter where the animation goes to a room.
const EGRESS: &[Switch] =
    &[Switch::EgressFrames, Switch::DoubleEnd, Switch::PlaybackState, Switch::PlaybackControl];
const EGRESS_REQUESTS: &[Switch] = &[
    Switch::EgressFrames,
    Switch::DoubleEnd,
    Switch::PlaybackState,
    Switch::PlaybackControl,
    Switch::Preempts,
];

/// A JWT by form, good until 2099.
pub const ROOM_TOKEN: &str = "--livekit-token eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln";

pub fn features() -> Vec<Feature> {
    [direct(), formats(), egress(), vec![capabilities()]].into_iter().flatten().collect()
}

fn direct() -> Vec<Feature> {
    vec![
        Feature::new("token by the client's usual path, header authentication", "start", "connected"),
        Feature::new("query authentication", "clip --seconds 0.4 --query-auth", "10 frames, 1 end"),
        Feature::new(
            "console with the older path behind it",
            "start --console-path /v1/console",
            "connected",
        ),
        Feature::new("console with nothing behind it", "start --console-path /", "connected"),
        Feature::new("clip in chunks", "clip --seconds 0.4", "10 frames, 1 end"),
        Feature::new("clip in one message", "whole --seconds 0.4", "10 frames, 1 end"),
        Feature::new("long clip in one message (480 kB), interrupted", "interrupt --seconds 15", "1 end")
            .looked_at(Look::UncountedFrames),
        Feature::new("a frame begun is a frame", "clip --seconds 0.1", "3 frames, 1 end"),
        Feature::new(
            "two requests at a time, whatever egress does",
            "side_by_side --seconds 2",
            "50 frames, 1 end + 50 frames, 1 end",
        )
        .under(&[Switch::Preempts]),
        Feature::new("interrupt behind the clip's end", "interrupt --seconds 30", "1 end")
            .looked_at(Look::UncountedFrames),
        Feature::new("interrupt before the clip's end", "interrupt_open --seconds 30", "1 end")
            .looked_at(Look::UncountedFrames),
        Feature::new(
            "pause and resume without egress, whatever is declared",
            "pause --seconds 0.4",
            "10 frames, 1 end",
        )
        .under(&[Switch::PlaybackState, Switch::PlaybackControl])
        .sees(|sdk, _| match sdk {
            Sdk::Spatialreal => "10 frames, 1 end".into(),
            Sdk::Avatarkit => "has none".into(),
        })
        .why(NO_PAUSE),
    ]
}

/// A second of each, so that a frame of another length shows in their number.
fn formats() -> Vec<Feature> {
    let pcm = [8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000].map(|rate| {
        Feature::new(format!("PCM at {rate} Hz"), "", "25 frames, 1 end")
            .script(move |_, _| format!("clip --seconds 1 --sample-rate {rate}"))
    });
    let opus = [8000, 12_000, 16_000, 24_000, 48_000].map(|rate| {
        Feature::new(format!("Ogg Opus at {rate} Hz"), "", "25 frames, 1 end")
            .script(move |_, _| format!("opus --seconds 1 --sample-rate {rate}"))
    });
    // Rates of the other format, and of none.
    let wrong = ["--sample-rate 12000", "--sample-rate 11025", "--ogg --sample-rate 44100"].map(|flags| {
        Feature::new(format!("a rate that the format does not have: {flags}"), "", "")
            .script(move |_, _| format!("start {flags}"))
            .differs(
                "start: serverError (websocket_handshake) server 0",
                "start: unsupportedSampleRate (websocket_handshake) server 0",
                crate::errors::NO_TEXTS,
            )
    });
    let encoder = Feature::new("the client's own encoder of Ogg Opus", "", "25 frames, 1 end")
        // The newer client takes encoded audio only, which is what it gets everywhere else.
        .script(|sdk, _| match sdk {
            Sdk::Spatialreal => "opus --seconds 1".into(),
            Sdk::Avatarkit => "encoder --seconds 1".into(),
        });
    pcm.into_iter().chain(opus).chain(wrong).chain([encoder]).collect()
}

/// What a client is told of a request in egress mode: `ended` is by the clip's end, and not before it.
fn told(sdk: Sdk, form: &Form, ended: bool, states: &[&str]) -> Told {
    let ends = if ended && form.double_end { 2 } else { 1 };
    Told {
        frames: 0,
        controls: usize::from(form.egress_frames),
        ends: if form.egress_frames { ends } else { 0 },
        states: match sdk {
            Sdk::Spatialreal => states.iter().map(|state| (*state).to_owned()).collect(),
            Sdk::Avatarkit => Vec::new(),
        },
    }
}

/// A script that waits for what a client is told, as far as it is told anything.
fn script(scenario: &str, told: &Told) -> String {
    let last = told.states.last().map(|state| state.split('(').next().unwrap());
    // PAUSED is no end: where nothing else is to come, there is nothing to wait for.
    let last = last.filter(|state| ["ENDED", "INTERRUPTED"].contains(state));
    let last = last.map(|state| format!("--last-state {state}")).unwrap_or_default();
    format!("{scenario} --ends {} {last}", told.ends)
}

const fn if_told<'a>(form: &Form, states: &'a [&'a str]) -> &'a [&'a str] {
    if form.playback_state { states } else { &[] }
}

fn clip(sdk: Sdk, form: &Form) -> Told {
    told(sdk, form, true, if_told(form, &["PLAYING", "ENDED"]))
}

fn interrupted(sdk: Sdk, form: &Form) -> Told {
    told(sdk, form, false, if_told(form, &["PLAYING", "INTERRUPTED(explicit)"]))
}

fn preempted(sdk: Sdk, form: &Form) -> Told {
    if !form.preempts {
        return clip(sdk, form);
    }
    told(sdk, form, false, if_told(form, &["PLAYING", "INTERRUPTED(preempted)"]))
}

fn paused(sdk: Sdk, form: &Form) -> Told {
    let states: &[&str] = match (form.playback_state, form.playback_control) {
        (true, true) => &["PLAYING", "PAUSED(explicit)", "PLAYING(explicit)", "ENDED"],
        (false, true) => &["PAUSED(explicit)", "PLAYING(explicit)"],
        // The newer client documents that a server which leaves a pause alone tells the state all the same.
        (true, false) => &["PLAYING", "PLAYING", "PLAYING", "ENDED"],
        (false, false) => &[],
    };
    told(sdk, form, true, states)
}

fn held(sdk: Sdk, form: &Form) -> Told {
    match (form.playback_state, form.playback_control) {
        (true, true) => {
            told(sdk, form, false, &["PLAYING", "PAUSED(explicit)", "INTERRUPTED(pause_timeout)"])
        }
        (false, true) => told(sdk, form, false, &["PAUSED(explicit)"]),
        (true, false) => told(sdk, form, true, &["PLAYING", "PLAYING", "ENDED"]),
        (false, false) => told(sdk, form, true, &[]),
    }
}

/// What an older client without pauses makes of a feature about them.
fn unless_absent(sdk: Sdk, line: &Told) -> String {
    match sdk {
        Sdk::Spatialreal => line.line(),
        Sdk::Avatarkit => "has none".into(),
    }
}

/// A feature with a scenario, a room, and what is told under a form.
fn with_room(
    name: &str,
    scenario: &'static str,
    room: &'static str,
    told: fn(Sdk, &Form) -> Told,
) -> Feature {
    Feature::new(name, "", "")
        .under(EGRESS)
        .script(move |sdk, form| script(&format!("{scenario} {room}"), &told(sdk, form)))
        .sees(move |sdk, form| told(sdk, form).line())
        .why(NO_STATES)
}

fn egress() -> Vec<Feature> {
    const CLIP: &str = "clip --seconds 0.4";
    vec![
        with_room("clip to a LiveKit room", CLIP, ROOM_TOKEN, clip),
        with_room("clip to a LiveKit room with key and secret", CLIP, "--livekit-pair", clip),
        with_room("clip to an Agora channel", CLIP, "--agora", clip),
        with_room("Ogg Opus to an Agora channel", "opus --seconds 0.4", "--agora", clip),
        with_room(
            "interrupt behind the clip's end, egress",
            "interrupt --seconds 30",
            ROOM_TOKEN,
            interrupted,
        ),
        with_room(
            "interrupt before the clip's end, egress",
            "interrupt_open --seconds 30",
            "--agora",
            interrupted,
        ),
        with_room("a request while another plays, egress", "", "", clip)
            .under(EGRESS_REQUESTS)
            .script(|sdk, form| {
                let scenario =
                    if form.preempts { "preempt --seconds 30" } else { "side_by_side --seconds 2" };
                script(&format!("{scenario} --agora"), &clip(sdk, form))
            })
            .sees(|sdk, form| format!("{} + {}", preempted(sdk, form).line(), clip(sdk, form).line())),
        with_room("pause and resume", "pause --seconds 2", "--agora", paused)
            .sees(|sdk, form| unless_absent(sdk, &paused(sdk, form)))
            .why(NO_PAUSE),
        with_room("a pause held too long", "hold --seconds 2", ROOM_TOKEN, held)
            .in_setup(Setup::PauseTimeout)
            .sees(|sdk, form| unless_absent(sdk, &held(sdk, form)))
            .why(NO_PAUSE),
    ]
}

fn capabilities() -> Feature {
    Feature::new("what the service declares", "start", "")
        .under(&[Switch::PlaybackState, Switch::PlaybackControl])
        .looked_at(Look::Capabilities)
        .sees(|sdk, form| {
            let declared = [
                (form.playback_state, "\"playback_state\""),
                (form.playback_control, "\"playback_control\""),
            ];
            let declared: Vec<_> = declared.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
            match sdk {
                Sdk::Spatialreal => format!("[{}]", declared.join(",")),
                Sdk::Avatarkit => "[\"not told\"]".into(),
            }
        })
        .why("avatarkit hands on the connection's id alone")
}
