//! A feature of the clients: its script, what each client must see of it, and how that is put into words.

use greenroom::simulator::{Effect, Point};
use serde_json::Value;

use crate::{
    form::{Form, Setup, Switch},
    player::Sdk,
};

/// What a client is told to do under a form.
type Script = Box<dyn Fn(Sdk, &Form) -> Vec<String> + Send>;
/// What it must see then.
type Sees = Box<dyn Fn(Sdk, &Form) -> String + Send>;

/// One feature. What it sees is worked out from the clients' code.
pub struct Feature {
    pub name: String,
    /// The forms that can matter to it: all their combinations are played.
    pub switches: &'static [Switch],
    pub setup: Setup,
    /// Strikes its sessions, and no others.
    pub fault: Option<(Point, Effect)>,
    pub script: Script,
    pub sees: Sees,
    pub look: Look,
    /// Why the two clients do not see the same, where they do not.
    pub why: Option<&'static str>,
}

/// What of a report is put into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The requests and the errors, with all that they tell.
    Whole,
    /// How many frames came before an interrupt depends on its way.
    UncountedFrames,
    Capabilities,
}

impl Feature {
    /// Under one form, in a simulator of no special kind; both clients see the same.
    pub fn new(name: impl Into<String>, script: &'static str, sees: &'static str) -> Self {
        Self {
            name: name.into(),
            switches: &[],
            setup: Setup::Plain,
            fault: None,
            script: Box::new(move |_, _| words(script)),
            sees: Box::new(move |_, _| sees.to_owned()),
            look: Look::Whole,
            why: None,
        }
    }

    /// Under all combinations of these switches.
    pub fn under(self, switches: &'static [Switch]) -> Self {
        Self { switches, ..self }
    }

    pub fn in_setup(self, setup: Setup) -> Self {
        Self { setup, ..self }
    }

    pub fn struck(self, at: Point, effect: Effect) -> Self {
        Self { fault: Some((at, effect)), ..self }
    }

    pub fn looked_at(self, look: Look) -> Self {
        Self { look, ..self }
    }

    /// The script depends on the form, or on what the client can wait for.
    pub fn script(self, script: impl Fn(Sdk, &Form) -> String + Send + 'static) -> Self {
        Self { script: Box::new(move |sdk, form| words(&script(sdk, form))), ..self }
    }

    pub fn sees(self, sees: impl Fn(Sdk, &Form) -> String + Send + 'static) -> Self {
        Self { sees: Box::new(sees), ..self }
    }

    /// The newer client sees one thing, the older one another, and why.
    pub fn differs(self, spatialreal: &'static str, avatarkit: &'static str, why: &'static str) -> Self {
        self.why(why).sees(move |sdk, _| pick(sdk, spatialreal, avatarkit))
    }

    pub fn why(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }
}

pub fn pick(sdk: Sdk, spatialreal: &str, avatarkit: &str) -> String {
    match sdk {
        Sdk::Spatialreal => spatialreal.to_owned(),
        Sdk::Avatarkit => avatarkit.to_owned(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What a client is told of one request.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub frames: usize,
    /// Frames without animation that are no end.
    pub controls: usize,
    pub ends: usize,
    pub states: Vec<String>,
}

impl Told {
    pub fn line(&self) -> String {
        let count = |count: usize, one: &str, more: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {more}")),
        };
        let parts = [
            count(self.frames, "frame", "frames"),
            count(self.controls, "control frame", "control frames"),
            count(self.ends, "end", "ends"),
            (!self.states.is_empty()).then(|| self.states.join(" ")),
        ];
        let line = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if line.is_empty() { "nothing".into() } else { line }
    }
}

/// A report in words.
pub fn saw(seen: &Value, look: Look) -> String {
    let stage = seen["stage"].as_str().unwrap_or("?");
    let mut parts = Vec::new();
    match stage {
        "absent" => return "has none".into(),
        "done" if look == Look::Capabilities => return seen["capabilities"].to_string(),
        "done" => {}
        stage => parts.push(format!("{stage}: {}", error_line(&seen["error"]))),
    }
    let requests = seen["requests"].as_array().into_iter().flatten();
    let requests: Vec<_> = requests.map(|request| request_line(request, look)).collect();
    if !requests.is_empty() {
        parts.push(requests.join(" + "));
    }
    if let Some(strangers @ 1..) = seen["strangers"].as_u64() {
        parts.push(format!("{strangers} request of nobody's"));
    }
    parts.extend(seen["errors"].as_array().into_iter().flatten().map(error_line));
    if parts.is_empty() { "connected".into() } else { parts.join("; ") }
}

fn request_line(request: &Value, look: Look) -> String {
    let number = |name: &str| usize::try_from(request[name].as_u64().unwrap()).unwrap();
    let states = request["states"].as_array().unwrap().iter();
    let told = Told {
        frames: if look == Look::UncountedFrames { 0 } else { number("frames") },
        controls: number("controls"),
        ends: number("ends"),
        states: states.map(|state| state.as_str().unwrap().to_owned()).collect(),
    };
    let order = if request["in_order"] == true { "" } else { ", out of order" };
    format!("{}{order}", told.line())
}

/// What an error tells: code, phase, and the numbers that came with it.
pub fn error_line(error: &Value) -> String {
    let mut line = error["code"].as_str().unwrap_or("?").to_owned();
    if let Some(phase) = error["phase"].as_str() {
        line.push_str(&format!(" ({phase})"));
    }
    for (name, field) in [("http", "http_status"), ("server", "server_code"), ("close", "close_code")] {
        match &error[field] {
            Value::Number(number) => line.push_str(&format!(" {name} {number}")),
            Value::String(text) => line.push_str(&format!(" {name} {text}")),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
    if let Some(reason) = error["close_reason"].as_str().filter(|reason| !reason.is_empty()) {
        line.push_str(&format!(" \"{reason}\""));
    }
    line
}
