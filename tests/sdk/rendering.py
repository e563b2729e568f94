"""What an SDK's own classifier makes of errors as Greenroom renders them: JSON lines in, JSON lines out.

The first argument names the client. Each line has status, body (a refused upgrade), code and text (a ServerError; null
where there is none), and close; each answer the codes that the client gives.
"""

import importlib
import json
import sys
from types import SimpleNamespace

SDK_NAME = sys.argv[1]
SDK = importlib.import_module(SDK_NAME)


class Refused(Exception):
    """What the SDK reads of the websockets library's exception for a refused upgrade."""

    def __init__(self, status, body):
        super().__init__(f"HTTP {status}")
        self.response = SimpleNamespace(status_code=status, body=body.encode())


class Closed(Exception):
    """What the SDK reads of the websockets library's exception for a close."""

    def __init__(self, code, reason):
        super().__init__()
        self.rcvd = SimpleNamespace(code=code, reason=reason)
        self.code = code
        self.reason = reason


def spatialreal(row):
    session = importlib.import_module("spatialreal.session")
    upgrade = session._ws_connect_error(Refused(row["status"], row["body"]))
    error = None
    if row["code"] is not None:
        message = SimpleNamespace(connection_id="c", req_id="", code=row["code"], message=row["text"])
        error = session._server_error(message, phase="websocket_runtime")
    close = SDK.AvatarSDKError(
        code=session.error_code_for_close_code(row["close"]), message="", close_code=row["close"]
    )
    return {
        "upgrade": upgrade.code.value,
        "error": error and error.code.value,
        "close": close.code.value,
        "retryable": close.retryable,
    }


def avatarkit(row):
    session = importlib.import_module("avatarkit.avatar_session").AvatarSession
    upgrade = session._build_websocket_connect_error(Refused(row["status"], row["body"]))
    error = None
    if row["code"] is not None:
        error = session._classify_error_code(
            phase="websocket_runtime", server_code=str(row["code"]), detail=row["text"]
        ).value
    close = session._build_connection_closed_error(Closed(row["close"], ""), phase="websocket_runtime")
    return {"upgrade": upgrade.code.value, "error": error, "close": close.code.value, "retryable": None}


for line in sys.stdin:
    print(json.dumps({"spatialreal": spatialreal, "avatarkit": avatarkit}[SDK_NAME](json.loads(line))))
