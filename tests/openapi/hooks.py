"""What schemathesis cannot know of Greenroom: ids that exist, cursors, audio. From the environment, as JSON."""

import base64
import json
import os
from datetime import datetime

import schemathesis
from hypothesis import strategies as st

KNOWN = json.loads(os.environ["GREENROOM_KNOWN"])


def cursors(prefix, texts):
    encode = lambda text: base64.urlsafe_b64encode(f"{prefix}{text}".encode()).decode().rstrip("=")
    return texts.map(encode)


def mostly(known):
    """Things that exist, and now and then one that does not."""
    return st.sampled_from([*known, *known, *known, "absent"])


schemathesis.openapi.format("session-id", mostly(KNOWN["sessions"]))
schemathesis.openapi.format("request-id", mostly(KNOWN["requests"]))
schemathesis.openapi.format("tenant-id", st.sampled_from(KNOWN["tenants"]))
schemathesis.openapi.format("key-name", st.sampled_from(["some", "first"]))
schemathesis.openapi.format("upstream-name", mostly(["primary"]))
schemathesis.openapi.format("webhook-id", mostly(KNOWN["webhooks"]))
# Each is used once: the same with another body is refused, as it should be.
schemathesis.openapi.format("idempotency-key", st.uuids().map(str))
ids = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26)
schemathesis.openapi.format("session-cursor", cursors("ses_", ids))
schemathesis.openapi.format("tenant-cursor", cursors("", st.sampled_from(["acme", "globex", "zebra"])))
schemathesis.openapi.format(
    "utc-time",
    st.datetimes(datetime(2027, 1, 1), datetime(2099, 1, 1)).map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ")),
)
schemathesis.openapi.format("audit-cursor", cursors("audit_", st.integers(1, 10**6).map(str)))
schemathesis.openapi.format("event-cursor", cursors("event_", st.integers(1, 2 * 10**15).map(str)))
schemathesis.openapi.media_type(
    "application/octet-stream",
    st.integers(1, 400).map(lambda samples: b"\x00\x01" * samples),
)

# What is left out of the run, by operation and check, each with its reason. What is in here is looked at for each
# failure: one that no entry explains fails the run.
EXPLAINED = [
    {
        "operation": "POST /v1/sessions/{id}/requests",
        "status": 422,
        "codes": {"wrongAudioFormat", "badOggOpus", "oddAudio", "emptyAudio", "badWav"},
        "reason": "what a body must be depends on the session's audio_format, which no schema of a body can say",
    },
    *(
        {
            "operation": f"POST {path}",
            "status": 400,
            "codes": {"INVALID_ARGUMENT"},
            "detail": "expire_at must be",
            "reason": "what lies ahead, and by how much, no schema can say",
        }
        for path in ("/v1/auth/session-token", "/v1/console/session-tokens", "/session-tokens")
    ),
    *(
        {
            "operation": f"POST {path}",
            "status": 422,
            "codes": {"idempotencyKeyReused"},
            "reason": "one key is tried with several bodies, and only the first of them is to be carried out",
        }
        for path in ("/v1/sessions", "/v1/sessions/{id}/requests", "/v1/tenants", "/v1/tenants/{id}/keys")
    ),
    *(
        {
            "operation": f"{method} /v1/sessions/{{id}}",
            "status": 412,
            "codes": {"preconditionFailed"},
            "reason": "a tag that the session has not is what If-Match is there to find",
        }
        for method in ("PATCH", "DELETE")
    ),
    *(
        {
            "operation": "PATCH /v1/sessions/{id}",
            "status": 422,
            "codes": {"invalidBody"},
            "detail": detail,
            "reason": "what a patch may say depends on what is there: on the egress's type, on the labels' number",
        }
        for detail in ("egress", "there are ")
    ),
    {
        "operation": "POST /v1/sessions/{id}/pause",
        "status": 409,
        "codes": {"pauseUnsupported"},
        "reason": "the sessions of this run have no egress, and whoever plays their frames pauses them",
    },
    {
        "operation": "POST /v1/sessions/{id}/resume",
        "status": 409,
        "codes": {"pauseUnsupported"},
        "reason": "as for pause",
    },
    {
        "operation": "POST /v1/sessions/{id}/requests",
        "status": 422,
        "codes": {"invalidQuery"},
        "detail": "frames=true needs wait=true",
        "reason": "OpenAPI has no words for a parameter that needs another one",
    },
]


def is_explained(operation, status, body):
    for entry in EXPLAINED:
        if entry["operation"] == operation and entry["status"] == status and body.get("code") in entry["codes"]:
            if body.get("detail", "").startswith(entry.get("detail", "")):
                return True
    return False


@schemathesis.check
def explained_positive_data_acceptance(ctx, response, case):
    """As positive_data_acceptance, without what EXPLAINED explains."""
    if is_explained(f"{case.operation.method.upper()} {case.operation.path}", response.status_code, body_of(response)):
        return True
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    return positive_data_acceptance(ctx, response, case)


def body_of(response):
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    # The drop-in paths answer in the service's form.
    return body["errors"][0] if isinstance(body.get("errors"), list) and "code" not in body else body
