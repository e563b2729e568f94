//! The fault plan as data. The doc comments here are the reference of `POST /_sim/faults`.
//!
//! ```json
//! {"match": {"avatar_id": "clip-*"}, "at": {"after_chunks": 3},
//!  "do": {"server_error": {"code": 14, "message": "animate: unavailable",
//!                          "then_close": {"code": 4503, "reason": "dependency", "after_ms": 200}}},
//!  "times": 2}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One scripted fault: whom it strikes, when, what happens, how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whom it strikes; everybody if left out.
    #[serde(default, rename = "match")]
    pub who: Filter,
    /// Where in a session's life it strikes.
    pub at: Point,
    /// What happens.
    #[serde(rename = "do")]
    pub effect: Effect,
    /// How many strikes it has in it; without end if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The chance of a strike where one is due, 0 to 1; certain if left out. It is drawn once per token call,
    /// per upgrade, per handshake, and, for what happens later, once per connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
}

/// Whom something concerns. A field that is left out matches all; a `*` at the end of a value matches any rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The avatar id. Not known yet at the token call, where a fault that names one never strikes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_id: Option<String>,
    /// The API key; for a connection the key that its token was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The app id. Not known yet at the token call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// The region: what stands before the service's own path, so that one simulator can be several regions.
    /// A client of the region `eu` has the console `http://ADDR/eu` and the ingress
    /// `ws://ADDR/eu/v2/driveningress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Who is at a point of the plan; what is not known there is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The avatar id of the upgrade.
    pub avatar_id: Option<String>,
    /// The API key of the token call, or the one that the upgrade's token was made with.
    pub api_key: Option<String>,
    /// The app id of the upgrade.
    pub app_id: Option<String>,
    /// What stands before the service's own path, without its slashes; `None` for nothing.
    pub region: Option<String>,
}

impl Who {
    /// The region in a path, of which `path` is the service's own part.
    pub(super) fn region_of(whole: &str, path: &str) -> Option<String> {
        let region = whole.strip_suffix(path)?.trim_matches('/');
        (!region.is_empty()).then(|| region.to_owned())
    }
}

impl Filter {
    /// A filter for one avatar id.
    pub fn avatar(id: impl Into<String>) -> Self {
        Self { avatar_id: Some(id.into()), ..Self::default() }
    }

    /// A filter for one API key.
    pub fn api_key(key: impl Into<String>) -> Self {
        Self { api_key: Some(key.into()), ..Self::default() }
    }

    /// A filter for one region.
    pub fn region(name: impl Into<String>) -> Self {
        Self { region: Some(name.into()), ..Self::default() }
    }

    /// Whether `who` is meant. What is not known about `who` matches no wanted value.
    pub fn matches(&self, who: &Who) -> bool {
        let fits = |wanted: &Option<String>, known: &Option<String>| match (wanted, known) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(known)) => match wanted.strip_suffix('*') {
                Some(prefix) => known.starts_with(prefix),
                None => wanted == known,
            },
        };
        fits(&self.avatar_id, &who.avatar_id)
            && fits(&self.api_key, &who.api_key)
            && fits(&self.app_id, &who.app_id)
            && fits(&self.region, &who.region)
    }
}

/// Where in a session's life a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The token call, before anything of it is looked at. Possible: `http`, `drop`, `silence`, `delay`,
    /// `refuse`, `nonsense`.
    Token,
    /// The WebSocket upgrade, before it is judged. A token that was presented is used up all the same.
    /// Possible: `http`, `drop`, `silence`, `delay`, `trickle`, `refuse`, `nonsense`.
    Upgrade,
    /// A valid ClientConfigureSession came and would be confirmed. Possible: all but `http`;
    /// after `delay`, `stall`, `trickle` and `refuse` it is confirmed.
    Handshake,
    /// The connection has taken so many ClientAudioInput messages. Once per connection.
    /// Possible, as for the next two: `server_error`, `close`, `drop`, `silence`,
    /// `stall`, `trickle`, `refuse`, `nonsense`.
    AfterChunks(u64),
    /// So many seconds have passed since the confirm. Once per connection.
    AfterSeconds(f64),
    /// The connection has made so many animation frames. Once per connection.
    AfterFrames(u64),
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// The token call or the upgrade is answered so.
    Http {
        /// The status, 200 to 599.
        status: u16,
        /// A string is sent as it is, anything else as JSON. Left out, the body is of the service's form.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<serde_json::Value>,
        /// Further headers, such as `Retry-After`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
    /// A ServerError message. Without `then_close` the connection stays as it is; at the handshake that
    /// leaves a session which is never confirmed.
    ServerError {
        /// A close code (4000 to 4999), a gRPC code, or any other number.
        code: i32,
        /// The text.
        message: String,
        /// Whether the error names the request that was begun last; that request then ends without a frame.
        #[serde(default)]
        req_id: bool,
        /// A close frame that follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then_close: Option<Close>,
    },
    /// A close frame, then the end of the connection.
    Close(Close),
    /// The TCP connection ends without a close frame.
    Drop {
        /// With a reset (RST) rather than an orderly end (FIN).
        #[serde(default)]
        reset: bool,
    },
    /// Nothing is read or written any more, and the socket stays open until the client leaves.
    Silence {},
    /// The answer comes so much later, and is then the ordinary one.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Nothing is read for so long; what is to be written is written.
    Stall {
        /// Milliseconds.
        ms: u64,
    },
    /// From here on the connection writes only so fast; a close frame goes out at once all the same. At the
    /// upgrade the answer to it trickles too.
    Trickle {
        /// Bytes per second, at least 1.
        bytes_per_s: u32,
    },
    /// New TCP connections are refused for so long, and those for HTTP calls end: the call or the upgrade
    /// that is struck is one. Live WebSockets stay. An outage that begins meanwhile ends with this one.
    Refuse {
        /// Milliseconds, at most a day.
        for_ms: u64,
    },
    /// Something that the protocol does not allow.
    Nonsense(Nonsense),
}

/// A close frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The code; 1006 cannot be sent, use `drop`.
    pub code: u16,
    /// The reason's text, at most 123 bytes.
    #[serde(default)]
    pub reason: String,
    /// Milliseconds to wait before it is sent. Other traffic stands still meanwhile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_ms: u64,
}

/// For serde: the default is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

/// Things that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonsense {
    /// Token: 200 with a JSON object that has no token.
    TokenWithoutToken,
    /// Token: 200 whose body holds `errors` with status 403.
    #[serde(rename = "errors_in_200")]
    ErrorsIn200,
    /// Token: 200 whose body is no JSON.
    NotJson,
    /// Token: 200 with a body of 8 MiB.
    HugeBody,
    /// Token and upgrade: an answer with 256 KiB of headers.
    HugeHeaders,
    /// Upgrade: 101 with a `Sec-WebSocket-Accept` that belongs to another key.
    WrongAccept,
    /// Connection: a text frame.
    TextFrame,
    /// Connection: a binary message that is no protobuf.
    BadProtobuf,
    /// Connection: a message of a type that no client knows. To be ignored.
    UnknownType,
    /// Connection: an animation frame for a request that nobody began.
    UnknownRequest,
    /// Handshake: a confirm whose `connection_id` is empty.
    EmptyConnectionId,
    /// Handshake: an animation frame instead of the confirm.
    WrongFirstMessage,
    /// Connection: bytes that are no WebSocket frame.
    BadFrame,
}

impl Effect {
    /// A close frame, at once.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(Close { code, reason: reason.into(), after_ms: 0 })
    }

    /// An HTTP answer with the service's form of body.
    pub const fn http(status: u16) -> Self {
        Self::Http { status, body: None, headers: BTreeMap::new() }
    }
}

impl Fault {
    /// A fault that strikes everybody, without end.
    pub fn new(at: Point, effect: Effect) -> Self {
        Self { who: Filter::default(), at, effect, times: None, chance: None }
    }

    /// Only these.
    #[must_use]
    pub fn only(self, who: Filter) -> Self {
        Self { who, ..self }
    }

    /// At most so many strikes.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<Fault, String> {
        let fault: Fault = serde_json::from_value(value).map_err(|error| error.to_string())?;
        fault.check().map_err(|error| error.to_string())?;
        Ok(fault)
    }

    #[test]
    fn the_documented_json_forms_are_read() {
        let fault = parse(json!({
            "match": {"avatar_id": "clip-*"}, "at": {"after_chunks": 3},
            "do": {"server_error": {"code": 14, "message": "m", "then_close": {"code": 4503}}}, "times": 2
        }))
        .unwrap();
        assert_eq!(fault.at, Point::AfterChunks(3));
        assert_eq!(fault.times, Some(2));
        for (at, effect) in [
            (json!("token"), json!({"http": {"status": 429, "headers": {"Retry-After": "7"}}})),
            (json!("upgrade"), json!({"http": {"status": 402, "body": "no"}})),
            (json!("handshake"), json!({"delay": {"ms": 5}})),
            (json!({"after_seconds": 0.5}), json!({"drop": {"reset": true}})),
            (json!({"after_frames": 1}), json!({"silence": {}})),
            (json!("handshake"), json!({"nonsense": "empty_connection_id"})),
        ] {
            let fault = parse(json!({"at": at, "do": effect})).unwrap();
            assert_eq!(
                serde_json::from_value::<Fault>(serde_json::to_value(&fault).unwrap()).unwrap(),
                fault
            );
        }
    }

    #[test]
    fn a_star_matches_any_rest_and_the_unknown_matches_nothing() {
        let who = Who { avatar_id: Some("clip-7".into()), app_id: Some("app".into()), ..Who::default() };
        assert!(Filter::default().matches(&who));
        assert!(Filter::avatar("clip-*").matches(&who));
        assert!(Filter::avatar("clip-7").matches(&who));
        assert!(!Filter::avatar("clip-").matches(&who));
        assert!(!Filter::api_key("*").matches(&who));
    }
}
