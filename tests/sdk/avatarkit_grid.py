"""Prints a grid of failures, a JSON object a line, with the code that avatarkit 0.1.7 gives each.

Two parts: every combination of phase, HTTP status, server code and text goes through the SDK's classifier;
every combination of phase, close code and reason goes through the path that the SDK has for closes.
"""

import itertools
import json
import sys

from avatarkit.avatar_session import AvatarSession

PHASES = (
    "session_token",
    "websocket_connect",
    "websocket_handshake",
    "websocket_send",
    "websocket_runtime",
)

STATUSES = (None, 200, 304, 400, 401, 402, 403, 404, 408, 418, 429, 500, 502, 503, 504)

SERVER_CODES = (
    None,
    *("0", "3", "7", "13", "14", "16"),
    *("INVALID_ARGUMENT", "UNAVAILABLE", "UNAUTHENTICATED", "invalid_argument", "unauthorized"),
    *("4001", "4002", "4003", "4010", "4400", "4499", "4503", "4999"),
)

# Title and detail: each text that a rule of either side knows, then texts that satisfy two rules.
TEXTS = (
    (None, None),
    (None, "something odd"),
    (None, "credits exhausted"),
    (None, "session denied: credits exhausted"),
    (None, "session time limit reached"),
    ("Denied", "Maximum session duration reached"),
    (None, "session denied"),
    (None, "concurrency limit reached"),
    ("Limit", "too many concurrent sessions"),
    (None, "Invalid session token"),
    (None, "empty token"),
    (None, "token is expired"),
    (None, "session token expired"),
    (None, "app id mismatch"),
    (None, "appIDUnrecognized"),
    (None, "app id unrecognized"),
    (None, "Avatar not found: a-1"),
    (None, "unsupported sample rate: 11025"),
    (None, "livekit silence timeout"),
    (None, "no audio input for 300s"),
    (None, "livekit_egress.url is required"),
    (None, "agora_egress is required"),
    (None, "missing livekit credentials"),
    (None, "provide api_token or both api_key and api_secret"),
    (None, "egress client is not configured on server"),
    (None, "failed to create egress connection"),
    (None, "driven server returned non-200 status code: 500"),
    (None, "driven server request failed"),
    (None, "inference pool is empty"),
    (None, "expected ClientConfigureSession message"),
    (None, "ClientConfigureSession message is nil"),
    (None, "unexpected message type"),
    (None, "failed to unmarshal initial message"),
    (None, "unauthorized"),
    ("Unauthorized", "bad key"),
    (None, "livekit: unauthorized"),
    (None, "room: permission denied"),
    (None, "agora: token expired"),
    (None, "egress: invalid token"),
    (None, "14: livekit silence timeout"),
    (None, "failed to create egress connection: unauthorized"),
    (None, "livekit: token is expired"),
)

CLOSE_PHASES = ("websocket_handshake", "websocket_send", "websocket_runtime")

CLOSE_CODES = (1000, 1001, 1006, 1011, 1012, 3999, 4000, 4001, 4002, 4003, 4010, 4400, 4500, 4503, 4999)

REASONS = (None, "bye", "session token expired", "credits exhausted", "no audio input for 300s")


class Closed(Exception):
    """What the SDK reads of the websockets library's exception for a close."""

    def __init__(self, code, reason):
        super().__init__()
        self.rcvd = self
        self.code = code
        self.reason = reason


def line(code, **fields):
    given = {name: value for name, value in fields.items() if value is not None}
    sys.stdout.write(json.dumps({**given, "sdk": code.value}) + "\n")


def main():
    for phase, status, server_code, (title, detail) in itertools.product(
        PHASES, STATUSES, SERVER_CODES, TEXTS
    ):
        code = AvatarSession._classify_error_code(
            phase=phase, http_status=status, server_code=server_code, title=title, detail=detail
        )
        line(
            code,
            phase=phase,
            http_status=status,
            server_code=server_code,
            title=title,
            detail=detail,
        )
    for phase, close_code, reason in itertools.product(CLOSE_PHASES, CLOSE_CODES, REASONS):
        error = AvatarSession._build_connection_closed_error(Closed(close_code, reason), phase=phase)
        line(error.code, phase=phase, close_code=close_code, close_reason=reason)


main()
