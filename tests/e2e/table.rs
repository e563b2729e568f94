//! For each stable code, how the service brings it about and what must come of it.

use serde_json::{Value, json};

/// The avatar of the session under test, where its row does not need another.
pub(crate) const SUBJECT: &str = "subject";

/// One way to a code.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) code: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) settings: &'static str,
    pub(crate) avatar: &'static str,
    /// What the session is made from, beside its avatar.
    pub(crate) spec: Value,
    /// The simulator's faults, before the session is made.
    pub(crate) faults: Value,
    /// What strikes its connection once it runs.
    pub(crate) strike: Option<Value>,
    /// The fields of `last_error` that the service's words give; the others must be null.
    pub(crate) told: Value,
    pub(crate) action: &'static str,
    pub(crate) ends: Ends,
    /// How many errors there are until it has ended so.
    pub(crate) errors: u32,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Running,
    Parked,
    /// Parked, and its tenant with it.
    Suspended,
    Dormant,
    Failed,
}

impl Ends {
    pub(crate) const fn state(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Parked | Self::Suspended => "parked",
            Self::Dormant => "dormant",
            Self::Failed => "failed",
        }
    }
}

impl Row {
    fn new(name: &'static str, code: &'static str, phase: &'static str) -> Self {
        Self {
            name,
            code,
            phase,
            settings: "",
            avatar: SUBJECT,
            spec: json!({}),
            faults: json!([]),
            strike: None,
            told: json!({}),
            action: "restart",
            ends: Ends::Running,
            errors: 1,
        }
    }

    /// The upgrade is answered so, once.
    fn upgrade(self, status: u16, message: &str) -> Self {
        let body = json!({"message": message});
        let faults = json!([{"match": {"avatar_id": SUBJECT}, "at": "upgrade", "times": 1,
            "do": {"http": {"status": status, "body": body}}}]);
        let told = json!({"http_status": status, "server_detail": message});
        Self { faults, told, ..self }
    }

    /// This happens at the token call, once.
    fn token(self, effect: &Value, told: Value) -> Self {
        let faults =
            json!([{"match": {"api_key": "upstream-acme"}, "at": "token", "do": effect, "times": 1}]);
        Self { faults, told, ..self }
    }

    /// This happens at the handshake, once.
    fn handshake(self, effect: &Value, told: Value) -> Self {
        let faults = json!([{"match": {"avatar_id": SUBJECT}, "at": "handshake", "do": effect, "times": 1}]);
        Self { faults, told, ..self }
    }

    /// This strikes the running session.
    fn strikes(self, effect: Value, told: Value) -> Self {
        Self { strike: Some(effect), told, ..self }
    }

    /// The service closes the running session.
    fn closes(self, code: u16, reason: &str) -> Self {
        let effect = json!({"close": {"code": code, "reason": reason}});
        self.strikes(effect, json!({"close_code": code, "close_reason": reason}))
    }

    /// The faults strike without end, and this many errors come of it.
    fn for_ever(mut self, errors: u32) -> Self {
        for fault in self.faults.as_array_mut().into_iter().flatten() {
            fault.as_object_mut().map(|fault| fault.remove("times"));
        }
        Self { errors, ..self }
    }

    fn ends(self, ends: Ends, action: &'static str) -> Self {
        Self { ends, action, ..self }
    }
}

pub(crate) fn restarted() -> Vec<Row> {
    let silent = "livekit silence timeout: no audio input for 60 s";
    vec![
        Row::new("dropped", "connectionClosed", "websocket_runtime")
            .strikes(json!({"drop": {"reset": false}}), json!({"close_code": 1006})),
        Row::new("reset", "connectionClosed", "websocket_runtime")
            .strikes(json!({"drop": {"reset": true}}), json!({"close_code": 1006})),
        Row::new("closed normally", "connectionClosed", "websocket_runtime").closes(1000, "bye"),
        Row::new("closed with 4503", "upstreamError", "websocket_runtime").closes(4503, "dependency"),
        Row::new("upgrade 503", "upstreamError", "websocket_connect").upgrade(503, "try later"),
        Row {
            settings: "upstream.deadlines.token_ms = 100\n",
            ..Row::new("silence at the token call", "connectionFailed", "session_token")
                .token(&json!({"silence": {}}), json!({}))
        },
        Row::new("token call dropped", "connectionFailed", "session_token")
            .token(&json!({"drop": {"reset": true}}), json!({})),
        Row {
            settings: "upstream.deadlines.handshake_ms = 100\n",
            ..Row::new("silence at the handshake", "connectionFailed", "websocket_handshake")
                .handshake(&json!({"silence": {}}), json!({}))
        },
        Row::new("egress refused", "egressUnavailable", "websocket_handshake").handshake(
            &json!({"server_error": {"code": 14, "message": "failed to create egress connection",
                "then_close": {"code": 1011, "reason": "egress"}}}),
            json!({"server_code": "14", "server_detail": "failed to create egress connection",
                "close_code": 1011, "close_reason": "egress"}),
        ),
        Row::new("token 500", "serverError", "session_token").token(
            &json!({"http": {"status": 500}}),
            json!({"http_status": 500, "server_code": "unavailable", "server_detail": "unavailable",
                "server_title": "Internal Server Error"}),
        ),
        Row::new("bad protobuf", "protocolError", "websocket_runtime")
            .strikes(json!({"nonsense": "bad_protobuf"}), json!({})),
        Row::new("token 304", "unknown", "session_token")
            .token(&json!({"http": {"status": 304}}), json!({"http_status": 304})),
        Row::new("expired token", "sessionTokenExpired", "websocket_connect")
            .upgrade(401, "Session token expired")
            .ends(Ends::Running, "renew"),
        Row::new("invalid token, once", "sessionTokenInvalid", "websocket_connect")
            .upgrade(400, "Invalid session token")
            .ends(Ends::Running, "renew"),
        Row::new("4010, expired", "sessionTokenExpired", "websocket_runtime")
            .closes(4010, "token expired")
            .ends(Ends::Running, "renew"),
        Row {
            settings: "recovery.policy.sessionDurationExceeded = \"restart\"\n",
            ..Row::new("4002 where the policy says restart", "sessionDurationExceeded", "websocket_runtime")
                .closes(4002, "maximum session duration")
        },
        Row {
            settings: "recovery.policy.idleTimeout = \"restart\"\n",
            ..Row::new("idle where the policy says restart", "idleTimeout", "websocket_runtime")
                .closes(1000, silent)
        },
    ]
}

/// What the protocol does not allow, once each.
pub(crate) fn nonsense() -> Vec<Row> {
    let token =
        |what| Row::new(what, "protocolError", "session_token").token(&json!({"nonsense": what}), json!({}));
    let handshake = |what| {
        Row::new(what, "protocolError", "websocket_handshake")
            .handshake(&json!({"nonsense": what}), json!({}))
    };
    let runtime = |what| {
        Row::new(what, "protocolError", "websocket_runtime").strikes(json!({"nonsense": what}), json!({}))
    };
    let no_answer = |what, phase| Row::new(what, "connectionFailed", phase);
    let upgrade = |what| {
        let faults =
            json!([{"match": {"avatar_id": SUBJECT}, "at": "upgrade", "do": {"nonsense": what}, "times": 1}]);
        Row { faults, ..no_answer(what, "websocket_connect") }
    };
    vec![
        token("token_without_token"),
        token("not_json"),
        token("huge_body"),
        no_answer("huge_headers", "session_token").token(&json!({"nonsense": "huge_headers"}), json!({})),
        upgrade("huge_headers"),
        upgrade("wrong_accept"),
        handshake("empty_connection_id"),
        handshake("wrong_first_message"),
        handshake("text_frame"),
        handshake("bad_frame"),
        runtime("text_frame"),
        runtime("bad_frame"),
    ]
}

pub(crate) fn parked() -> Vec<Row> {
    vec![
        Row::new("upgrade 402", "billingRequired", "websocket_connect")
            .upgrade(402, "payment required")
            .ends(Ends::Suspended, "park"),
        Row::new("upgrade 402 that names the credits", "creditsExhausted", "websocket_connect")
            .upgrade(402, "session denied: credits exhausted")
            .ends(Ends::Suspended, "park"),
        Row::new("closed with 4001", "creditsExhausted", "websocket_runtime")
            .closes(4001, "no credits left")
            .ends(Ends::Suspended, "park"),
        Row::new("closed with 4002", "sessionDurationExceeded", "websocket_runtime")
            .closes(4002, "maximum session duration")
            .ends(Ends::Parked, "park"),
        Row::new("4003 at the handshake", "concurrencyLimit", "websocket_handshake")
            .handshake(
                &json!({"close": {"code": 4003, "reason": "too many"}}),
                json!({"close_code": 4003, "close_reason": "too many"}),
            )
            .ends(Ends::Parked, "park"),
        Row::new("4003 while running", "concurrencyLimit", "websocket_runtime")
            .closes(4003, "too many")
            .ends(Ends::Parked, "park"),
        Row::new("token 401", "sessionTokenInvalid", "session_token")
            .token(
                &json!({"http": {"status": 401}}),
                json!({"http_status": 401, "server_code": "unauthorized", "server_detail": "unauthorized",
                    "server_title": "Unauthorized"}),
            )
            .ends(Ends::Suspended, "park"),
        Row::new("idle", "idleTimeout", "websocket_runtime")
            .strikes(
                json!({"server_error": {"code": 14, "message": "livekit silence timeout",
                    "then_close": {"code": 1000, "reason": "idle"}}}),
                json!({"server_code": "14", "server_detail": "livekit silence timeout",
                    "close_code": 1000, "close_reason": "idle"}),
            )
            .ends(Ends::Dormant, "sleep"),
    ]
}

pub(crate) fn failed() -> Vec<Row> {
    let row = |name, code, phase| Row::new(name, code, phase).ends(Ends::Failed, "fail");
    vec![
        row("app not found", "appIDUnrecognized", "websocket_connect").upgrade(404, "app not found"),
        row("app id mismatch", "appIDMismatch", "websocket_connect").upgrade(400, "app id mismatch"),
        row("4010, app id mismatch", "appIDMismatch", "websocket_runtime").closes(4010, "app id mismatch"),
        Row {
            avatar: "missing-x",
            told: json!({"http_status": 404, "server_detail": "Avatar not found: missing-x"}),
            ..row("avatar not found", "avatarNotFound", "websocket_connect")
        },
        Row {
            spec: json!({"sample_rate": 12345}),
            told: json!({"server_code": "0", "server_detail": "unsupported sample rate: 12345",
                "close_code": 1008, "close_reason": "unsupported sample rate: 12345"}),
            ..row("a rate that PCM does not have", "unsupportedSampleRate", "websocket_handshake")
        },
        Row {
            spec: json!({"egress": {"type": "livekit", "url": "wss://rtc.example", "room_name": "r"}}),
            told: json!({"server_code": "3", "close_code": 1008,
                "server_detail": "missing livekit credentials: provide api_token or both api_key and api_secret",
                "close_reason":
                    "missing livekit credentials: provide api_token or both api_key and api_secret"}),
            ..row("LiveKit without credentials", "invalidEgressConfig", "websocket_handshake")
        },
        row("upgrade 418", "invalidRequest", "websocket_connect").upgrade(418, "a teapot"),
        row("error 3 while running", "invalidRequest", "websocket_runtime").strikes(
            json!({"server_error": {"code": 3, "message": "bad chunk",
                "then_close": {"code": 1008, "reason": ""}}}),
            json!({"server_code": "3", "server_detail": "bad chunk", "close_code": 1008}),
        ),
        Row::new("invalid token, again and again", "sessionTokenInvalid", "websocket_connect")
            .upgrade(400, "Invalid session token")
            .for_ever(2)
            .ends(Ends::Failed, "renew"),
        Row::new("token 304, again and again", "unknown", "session_token")
            .token(&json!({"http": {"status": 304}}), json!({"http_status": 304}))
            .for_ever(4)
            .ends(Ends::Failed, "restart"),
        Row::new("bad protobuf, again and again", "protocolError", "websocket_handshake")
            .handshake(&json!({"nonsense": "bad_protobuf"}), json!({}))
            .for_ever(4)
            .ends(Ends::Failed, "restart"),
    ]
}
