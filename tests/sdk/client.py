"""Plays scenarios with an official Python client, unmodified, and prints what it saw as JSON.

The first argument names the client: spatialreal, or avatarkit (older, without playback states and pauses).
With a scenario it plays that one; without, each line of its input is an object {"id", "args"}, many are played
side by side, and each line of its output is an object {"id", "seen"}.

It knows nothing of the server behind the URLs: the simulator, Greenroom, or the service itself.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import struct
import sys
from datetime import datetime, timedelta, timezone

from google.protobuf.unknown_fields import UnknownFieldSet

SDK_NAME = sys.argv[1]
SDK = importlib.import_module(SDK_NAME)
message_pb2 = importlib.import_module(f"{SDK_NAME}.proto.generated.message_pb2")
CONFIG = importlib.import_module(f"{SDK_NAME}.{'config' if SDK_NAME == 'spatialreal' else 'session_config'}")
HAS_PLAYBACK = SDK_NAME == "spatialreal"

# What a machine of two cores plays in real time without being late.
SIDE_BY_SIDE = 24


def describe(error):
    if not isinstance(error, SDK.AvatarSDKError):
        return {"code": type(error).__name__, "message": str(error)}
    fields = (
        "phase http_status server_code server_detail connection_id req_id close_code close_reason message"
    ).split()
    return {"code": error.code.value} | {name: getattr(error, name, None) for name in fields}


# The field of ServerResponseAnimation that the older client does not know, and hands through.
ANIMATION_FIELD = 4


def animation(frame):
    if hasattr(frame, "animation"):
        return frame.animation
    unknown = (field for field in UnknownFieldSet(frame) if field.field_number == ANIMATION_FIELD)
    return next((field.data for field in unknown), b"")


class Request:
    """What the callbacks were told of one request."""

    def __init__(self):
        self.frames = []
        # Frames without animation that are no end.
        self.controls = 0
        self.ends = 0
        self.states = []
        # The first and the last sign, in the order of all signs.
        self.first = None
        self.last = None

    def report(self):
        in_order = self.frames == list(range(len(self.frames)))
        return {
            "frames": len(self.frames),
            "in_order": in_order,
            "controls": self.controls,
            "ends": self.ends,
            "states": self.states,
        }


class Witness:
    """What the callbacks were told."""

    def __init__(self):
        self.requests = {}
        self.signs = 0
        # The same frames are told twice by the newer client: raw, and in its own form.
        self.raw = 0
        self.structured = 0
        self.errors = []
        self.closes = 0
        self.encoded = {}
        self.changed = asyncio.Event()

    def request(self, req_id):
        return self.requests.setdefault(req_id, Request())

    def sign(self, request):
        self.signs += 1
        request.first = request.first or self.signs
        request.last = self.signs
        self.changed.set()

    def on_frame(self, raw, last):
        message = message_pb2.Message()
        message.ParseFromString(raw)
        frame = message.server_response_animation
        self.raw += 1
        request = self.request(frame.req_id)
        payload = animation(frame)
        if payload:
            request.frames.append(struct.unpack_from("<I", payload)[0])
        elif not last:
            request.controls += 1
        request.ends += last
        self.sign(request)

    def on_playback(self, signal):
        self.structured += 1

    def on_state(self, event):
        request = self.request(event.req_id)
        request.states.append(f"{event.state.name}({event.reason})" if event.reason else event.state.name)
        self.sign(request)

    def on_error(self, error):
        self.errors.append(describe(error))
        self.changed.set()

    def on_close(self):
        self.closes += 1
        self.changed.set()

    def on_encoded_audio(self, req_id, stream):
        self.encoded[req_id] = len(stream)

    async def until(self, holds, deadline):
        async def wait():
            while not holds():
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), deadline)

    async def over(self, req_id, args):
        """Waits until a request is over, as far as the server is said to tell: its ends, its last state."""
        request = self.request(req_id)

        def holds():
            told = [state.partition("(")[0] for state in request.states]
            return request.ends >= args.ends and (not args.last_state or args.last_state in told)

        if args.ends or args.last_state:
            await self.until(holds, args.deadline)
        else:
            await asyncio.sleep(args.quiet)

    async def begun(self, req_id, args):
        """Waits until a request shows, where anything is to show."""
        if args.ends or args.last_state:
            await self.until(lambda: self.request(req_id).first, args.deadline)

    def report(self, req_ids):
        return {
            "requests": [self.request(req_id).report() for req_id in req_ids],
            "strangers": len(self.requests.keys() - set(req_ids)),
            "raw": self.raw,
            "structured": self.structured,
            "errors": self.errors,
            "closes": self.closes,
        }


def chunk(args):
    """A tenth of a second."""
    return b"\1\0" * (args.sample_rate // 10)


async def say(session, args, seconds=None, end=True):
    """Sends a clip in chunks of a tenth of a second."""
    chunks = max(1, round((seconds or args.seconds) * 10))
    for number in range(chunks):
        req_id = await session.send_audio(chunk(args), end=end and number == chunks - 1)
    return req_id


async def clip(session, witness, args):
    req_id = await say(session, args)
    await witness.over(req_id, args)
    return [req_id]


async def whole(session, witness, args):
    """A clip in one message."""
    req_id = await session.send_audio(chunk(args) * round(args.seconds * 10), end=True)
    await witness.over(req_id, args)
    return [req_id]


def ogg_opus(seconds):
    """An Ogg Opus stream (RFC 3533, RFC 7845) with a page for every tenth of a second."""
    pages = []

    def page(flags, position, packet):
        head = struct.pack("<4sBBqIIIBB", b"OggS", 0, flags, position, 7, len(pages), 0, 1, len(packet))
        pages.append(head + packet)

    page(2, 0, b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 16000, 0, 0))
    page(0, 0, b"OpusTags" + struct.pack("<II", 0, 0))
    count = round(seconds * 10)
    for number in range(1, count + 1):
        page(4 if number == count else 0, 312 + number * 4800, b"\xfc" * 120)
    return b"".join(pages)


async def opus(session, witness, args):
    """Encoded audio, cut where it happens to be."""
    stream = ogg_opus(args.seconds)
    pieces = [stream[at : at + 100] for at in range(0, len(stream), 100)]
    for number, piece in enumerate(pieces, 1):
        req_id = await session.send_audio(piece, end=number == len(pieces))
    await witness.over(req_id, args)
    return [req_id]


async def encoder(session, witness, args):
    """Samples, which the client encodes itself."""
    req_id = await say(session, args)
    await witness.over(req_id, args)
    assert witness.encoded[req_id] > 500, witness.encoded
    return [req_id]


async def side_by_side(session, witness, args):
    req_ids = [await say(session, args), await say(session, args)]
    for req_id in req_ids:
        await witness.over(req_id, args)
    first, second = (witness.request(req_id) for req_id in req_ids)
    assert not first.last or second.first < first.last, "one after the other"
    return req_ids


async def preempt(session, witness, args):
    """A request begins when another is seen to play."""
    first = await say(session, args)
    await witness.begun(first, args)
    second = await say(session, args, seconds=0.4)
    await witness.over(second, args)
    return [first, second]


async def interrupt(session, witness, args):
    """After the clip's end."""
    req_id = await say(session, args)
    await witness.begun(req_id, args)
    assert await session.interrupt() == req_id
    await witness.over(req_id, args)
    return [req_id]


async def interrupt_open(session, witness, args):
    """Before the clip's end; what is said next is another request."""
    req_id = await say(session, args, end=False)
    await witness.begun(req_id, args)
    assert await session.interrupt() == req_id
    await witness.over(req_id, args)
    # Less than a frame, so that nothing comes of it.
    assert await session.send_audio(chunk(args)[:64]) != req_id
    return [req_id]


async def pause(session, witness, args):
    req_id = await say(session, args)
    await witness.begun(req_id, args)
    assert await session.pause() == req_id
    assert await session.resume() == req_id
    await witness.over(req_id, args)
    return [req_id]


async def hold(session, witness, args):
    """Pauses until the other side ends the request."""
    req_id = await say(session, args)
    await witness.begun(req_id, args)
    await session.pause()
    await witness.over(req_id, args)
    return [req_id]


async def ended(session, witness, args):
    """Speaks (a clip of no length is silence), and waits for the session to be ended by the other side."""
    req_ids = [await say(session, args)] if args.seconds else []
    await witness.until(lambda: witness.closes > 0, args.deadline)
    return req_ids


async def told(session, witness, args):
    """Speaks, waits for an error and for the end of what was said, in a session that goes on."""
    req_id = await say(session, args)
    await witness.until(lambda: witness.errors, args.deadline)
    await witness.over(req_id, args)
    return [req_id]


async def last_words(session, witness, args):
    """Speaks on as soon as the connection has broken, before the client has put it away."""
    sent = asyncio.get_running_loop().create_future()

    def on_error(error):
        # One step is all that it takes: there is nothing to wait for on a connection that has ended.
        speaking = session.send_audio(chunk(args))
        try:
            speaking.send(None)
            speaking.close()
            sent.set_exception(AssertionError("the connection still takes audio"))
        except Exception as failure:
            sent.set_exception(failure)

    session.config.on_error = on_error
    await say(session, args)
    await asyncio.wait_for(sent, args.deadline)


async def outlive(session, witness, args):
    """Speaks when the token has expired."""
    await asyncio.sleep(args.token_ttl + 0.2)
    return await clip(session, witness, args)


async def crowd(session, witness, args):
    """Begins another session beside this one; then in its place, which must do."""
    other = new_session(args, Witness())
    try:
        await other.init()
        await other.start()
    finally:
        await other.close()
        await session.close()
        await other.init()
        await other.start()
        await other.close()
    return []


async def start(session, witness, args):
    return []


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        *(clip, whole, opus, encoder, side_by_side, preempt, interrupt, interrupt_open, pause, hold),
        *(ended, told, last_words, outlive, crowd, start),
    )
}


def egress_of(args):
    egress = {}
    if args.livekit_token is not None or args.livekit_pair:
        credentials = {"api_token": args.livekit_token or ""}
        if args.livekit_pair:
            credentials = {"api_key": "key", "api_secret": "secret"}
        egress["livekit_egress"] = SDK.LiveKitEgressConfig(
            url="wss://rooms", room_name="room", idle_timeout=args.livekit_idle, **credentials
        )
    if args.agora:
        egress["agora_egress"] = SDK.AgoraEgressConfig(channel_name="channel", token="token")
    return egress


def new_session(args, witness):
    own = {}
    if HAS_PLAYBACK:
        own = {
            "on_playback": witness.on_playback,
            "on_playback_state": witness.on_state,
            "token_request_timeout": args.token_timeout,
        }
    elif args.scenario == "encoder":
        own = {
            "ogg_opus_encoder": CONFIG.OggOpusEncoderConfig(),
            "on_encoded_audio": witness.on_encoded_audio,
        }
    return SDK.new_avatar_session(
        avatar_id=args.avatar_id,
        app_id=args.app_id,
        api_key=args.api_key,
        use_query_auth=args.query_auth,
        expire_at=datetime.now(timezone.utc) + timedelta(seconds=args.token_ttl),
        sample_rate=args.sample_rate,
        audio_format="ogg_opus" if args.ogg or args.scenario in ("opus", "encoder") else "pcm_s16le",
        console_endpoint_url=args.console + args.console_path,
        ingress_endpoint_url=args.ingress,
        transport_frames=witness.on_frame,
        on_error=witness.on_error,
        on_close=witness.on_close,
        **own,
        **egress_of(args),
    )


async def play(args):
    witness = Witness()
    session = new_session(args, witness)
    if args.scenario in ("pause", "hold") and not hasattr(session, "pause"):
        return {"stage": "absent"}
    report = {"stage": "init", "error": None}
    req_ids = []
    try:
        await asyncio.wait_for(session.init(), args.give_up)
        report["stage"] = "start"
        await asyncio.sleep(args.wait_before_start)
        report["connection_id"] = await asyncio.wait_for(session.start(), args.give_up)
        report["capabilities"] = list(getattr(session, "capabilities", ("not told",)))
        if args.token_twice:
            await session.close()
            report["stage"] = "again"
            await session.start()
        report["stage"] = "run"
        req_ids = await SCENARIOS[args.scenario](session, witness, args) or []
        report["stage"] = "done"
    except (SDK.AvatarSDKError, asyncio.TimeoutError, ValueError) as error:
        report["error"] = describe(error)
    finally:
        await session.close()
    return report | witness.report(req_ids)


def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--console", required=True)
    parser.add_argument(
        "--console-path", default="" if HAS_PLAYBACK else "/v1/console", help="what this client wants behind it"
    )
    parser.add_argument("--ingress", required=True)
    parser.add_argument("--avatar-id", default="avatar")
    parser.add_argument("--app-id", default="app")
    parser.add_argument("--api-key", default="key")
    parser.add_argument("--query-auth", action="store_true")
    parser.add_argument("--token-ttl", type=int, default=3600, help="seconds; negative lies in the past")
    parser.add_argument("--token-timeout", type=float, default=30.0, help="of the newer client's own, in seconds")
    parser.add_argument("--token-twice", action="store_true", help="connect again with the same token")
    parser.add_argument("--wait-before-start", type=float, default=0.0, help="seconds")
    parser.add_argument("--give-up", type=float, help="seconds for each of init and start; else the client's own")
    parser.add_argument("--sample-rate", type=int, default=16000)
    parser.add_argument("--ogg", action="store_true", help="ask for Ogg Opus")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a clip")
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds for each wait")
    parser.add_argument("--ends", type=int, default=1, help="how many ends a request has")
    parser.add_argument("--last-state", help="the playback state that ends a request")
    parser.add_argument("--quiet", type=float, default=1.0, help="seconds to wait where neither is to come")
    parser.add_argument("--livekit-token")
    parser.add_argument("--livekit-pair", action="store_true", help="API key and secret instead of a token")
    parser.add_argument("--livekit-idle", type=int, default=0, help="seconds")
    parser.add_argument("--agora", action="store_true")
    return parser


async def lines():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def serve():
    places = asyncio.Semaphore(SIDE_BY_SIDE)
    tasks = set()

    async def answer(asked):
        async with places:
            try:
                seen = await play(parser().parse_args(asked["args"]))
            except Exception as error:
                # A promise that was not kept, or a mistake of a scenario: whoever waits is told.
                seen = {"stage": "broken", "error": {"code": repr(error)}}
        print(json.dumps({"id": asked["id"], "seen": seen}), flush=True)

    async for asked in lines():
        task = asyncio.create_task(answer(asked))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def main():
    if len(sys.argv) > 2:
        print(json.dumps(asyncio.run(play(parser().parse_args(sys.argv[2:])))))
    else:
        with contextlib.suppress(BrokenPipeError):
            asyncio.run(serve())


if __name__ == "__main__":
    main()
