"""Plays one scenario with an official Python client, unmodified, and prints what it saw as JSON.

The first argument names the client: spatialreal, or avatarkit (older, without playback states and pauses).

It knows nothing of the server behind the URLs: the simulator, Greenroom, or the service itself.
"""

import argparse
import asyncio
import importlib
import json
import struct
import sys
from datetime import datetime, timedelta, timezone

from google.protobuf.unknown_fields import UnknownFieldSet

SDK_NAME = sys.argv[1]
SDK = importlib.import_module(SDK_NAME)
message_pb2 = importlib.import_module(f"{SDK_NAME}.proto.generated.message_pb2")
HAS_PLAYBACK = SDK_NAME == "spatialreal"

SAMPLE_RATE = 16000
CHUNK = SAMPLE_RATE * 2 // 10


def describe(error):
    if not isinstance(error, SDK.AvatarSDKError):
        return {"code": type(error).__name__, "message": str(error)}
    fields = (
        "phase http_status server_code server_detail connection_id req_id close_code close_reason "
        "retryable message"
    ).split()
    return {"code": error.code.value} | {name: getattr(error, name, None) for name in fields}


# The field of ServerResponseAnimation that the older client does not know, and hands through.
ANIMATION_FIELD = 4


def animation(frame):
    if hasattr(frame, "animation"):
        return frame.animation
    unknown = (field for field in UnknownFieldSet(frame) if field.field_number == ANIMATION_FIELD)
    return next((field.data for field in unknown), b"")


class Witness:
    """What the callbacks were told."""

    def __init__(self):
        self.frames = {}
        self.ends = {}
        self.signals = 0
        self.states = []
        self.errors = []
        self.closes = 0
        # Everything, in the order in which it was told.
        self.log = []
        self.changed = asyncio.Event()

    def on_frame(self, raw, last):
        message = message_pb2.Message()
        message.ParseFromString(raw)
        frame = message.server_response_animation
        payload = animation(frame)
        index = None
        if payload:
            index = struct.unpack_from("<I", payload)[0]
            self.frames.setdefault(frame.req_id, []).append(index)
        self.log.append(["frame", frame.connection_id, frame.req_id, index, len(payload), last])
        if not HAS_PLAYBACK:
            self.signals += 1
        if last:
            self.ends[frame.req_id] = self.ends.get(frame.req_id, 0) + 1
        self.changed.set()

    def on_playback(self, signal):
        self.signals += 1
        self.changed.set()

    def on_state(self, event):
        self.states.append([event.state.name, event.reason])
        self.log.append(["state", event.connection_id, event.req_id, event.state.name, event.reason])
        self.changed.set()

    def on_error(self, error):
        self.errors.append(describe(error))
        self.log.append(["error", self.errors[-1]])
        self.changed.set()

    def on_close(self):
        self.closes += 1
        self.log.append(["close"])
        self.changed.set()

    async def until(self, holds, deadline):
        async def wait():
            while not holds():
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), deadline)

    def report(self):
        frames = {
            req_id: {"count": len(seen), "in_order": seen == list(range(len(seen)))}
            for req_id, seen in self.frames.items()
        }
        return {
            "frames": frames,
            "ends": self.ends,
            "signals": self.signals,
            "states": self.states,
            "errors": self.errors,
            "closes": self.closes,
            "log": self.log,
        }


async def say(session, seconds):
    """Sends a clip in chunks of a tenth of a second."""
    chunks = max(1, round(seconds * 10))
    for number in range(chunks):
        req_id = await session.send_audio(b"\1" * CHUNK, end=number == chunks - 1)
    return req_id


async def clip(session, witness, args):
    req_id = await say(session, args.seconds)
    await witness.until(lambda: witness.ends.get(req_id), args.deadline)
    return {"req_id": req_id}


async def two_clips(session, witness, args):
    req_ids = [await say(session, args.seconds), await say(session, args.seconds)]
    await witness.until(lambda: all(witness.ends.get(req_id) for req_id in req_ids), args.deadline)
    return {"req_ids": req_ids}


async def interrupt(session, witness, args):
    req_id = await say(session, args.seconds)
    await witness.until(lambda: witness.signals > 0, args.deadline)
    assert await session.interrupt() == req_id
    await witness.until(lambda: witness.ends.get(req_id), args.deadline)
    return {"req_id": req_id}


async def pause(session, witness, args):
    req_id = await say(session, args.seconds)
    await witness.until(lambda: witness.states, args.deadline)
    await session.pause()
    await witness.until(lambda: witness.states[-1][0] == "PAUSED", args.deadline)
    await session.resume()
    await witness.until(lambda: witness.states[-1][0] == "ENDED", args.deadline)
    return {"req_id": req_id}


async def ended(session, witness, args):
    """Speaks, and waits for the session to be ended by the other side."""
    req_id = await say(session, args.seconds)
    await witness.until(lambda: witness.closes > 0, args.deadline)
    return {"req_id": req_id}


async def start(session, witness, args):
    return {}


SCENARIOS = {
    scenario.__name__: scenario for scenario in (clip, two_clips, interrupt, pause, ended, start)
}


def new_session(args, witness):
    egress = {}
    if args.livekit_token is not None:
        config = SDK.LiveKitEgressConfig(url="wss://rooms", api_token=args.livekit_token, room_name="room")
        egress["livekit_egress"] = config
    if args.agora:
        egress["agora_egress"] = SDK.AgoraEgressConfig(channel_name="channel", token="token")
    playback = {}
    if HAS_PLAYBACK:
        playback = {"on_playback": witness.on_playback, "on_playback_state": witness.on_state}
    return SDK.new_avatar_session(
        avatar_id=args.avatar_id,
        app_id=args.app_id,
        api_key=args.api_key,
        use_query_auth=args.query_auth,
        expire_at=datetime.now(timezone.utc) + timedelta(seconds=args.token_ttl),
        sample_rate=args.sample_rate,
        console_endpoint_url=args.console,
        ingress_endpoint_url=args.ingress,
        transport_frames=witness.on_frame,
        on_error=witness.on_error,
        on_close=witness.on_close,
        **playback,
        **egress,
    )


async def play(args):
    witness = Witness()
    session = new_session(args, witness)
    report = {"stage": "init", "error": None}
    try:
        await session.init()
        report["stage"] = "start"
        report["connection_id"] = await session.start()
        report["capabilities"] = list(getattr(session, "capabilities", ()))
        if args.token_twice:
            await session.close()
            report["stage"] = "again"
            await session.start()
        report["stage"] = "run"
        report |= await SCENARIOS[args.scenario](session, witness, args)
        report["stage"] = "done"
    except (SDK.AvatarSDKError, asyncio.TimeoutError) as error:
        report["error"] = describe(error)
    finally:
        await session.close()
    return report | witness.report()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sdk", choices=("avatarkit", "spatialreal"))
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--console", required=True)
    parser.add_argument("--ingress", required=True)
    parser.add_argument("--avatar-id", default="avatar")
    parser.add_argument("--app-id", default="app")
    parser.add_argument("--api-key", default="key")
    parser.add_argument("--query-auth", action="store_true")
    parser.add_argument("--token-ttl", type=int, default=3600, help="seconds; negative lies in the past")
    parser.add_argument("--sample-rate", type=int, default=SAMPLE_RATE)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a clip")
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds for each wait")
    parser.add_argument("--livekit-token")
    parser.add_argument("--token-twice", action="store_true", help="connect again with the same token")
    parser.add_argument("--agora", action="store_true")
    print(json.dumps(asyncio.run(play(parser.parse_args()))))


if __name__ == "__main__":
    main()
