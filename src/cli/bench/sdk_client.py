"""The official Python SDK, unmodified, as one of the clients that `greenroom bench` measures.

Takes the arguments and speaks the protocol of the bare client: see src/cli/bench/rival.rs.
"""

import argparse
import asyncio
import json
import struct
import sys
import threading
import time
from datetime import datetime, timedelta, timezone

import spatialreal
from spatialreal.proto.generated import message_pb2

SAMPLE_RATE = 16000
CHUNK_S = 0.04
CHUNKS = 50
CHUNK = b"\1" * int(SAMPLE_RATE * 2 * CHUNK_S)
REQUEST_S = CHUNK_S * CHUNKS
BURST_FRAMES = 20 * 25
BURST = b"\1" * (SAMPLE_RATE * 2 * 20)
BURST_PIECE = 32 * 1024
RETRY_PAUSE_S = 1.0
LIFE_S = 1.0
PATIENCE_S = 30.0


def percentiles(latencies):
    if not latencies:
        return None
    ordered = sorted(latencies)

    def at(quantile):
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] * 1000

    return {
        "count": len(ordered),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": ordered[-1] * 1000,
    }


class Tally:
    def __init__(self):
        self.failed = self.opened = self.frames_due = self.frames_in_order = 0
        self.latencies = {"frame": [], "answer_after_last_frame": [], "schedule": [], "open": []}

    def report(self):
        told = {name: percentiles(values) for name, values in self.latencies.items() if values}
        return {
            "failed": self.failed,
            "opened": self.opened,
            "frames_due": self.frames_due,
            "frames_in_order": self.frames_in_order,
            "latencies_ms": told,
        }


class Session:
    """One session of the SDK, with what its callbacks were told."""

    def __init__(self, args, tally, gate, number):
        self.args, self.tally, self.gate, self.number = args, tally, gate, number
        self.expected = {}
        self.due = {}
        self.answers = asyncio.Queue()
        self.closed = asyncio.Event()
        self.session = None

    async def open(self):
        self.closed.clear()
        async with self.gate:
            self.session = spatialreal.new_avatar_session(
                avatar_id=f"bench-{self.number:06}",
                app_id="bench",
                api_key=self.args.key,
                expire_at=datetime.now(timezone.utc) + timedelta(hours=1),
                sample_rate=SAMPLE_RATE,
                console_endpoint_url=self.args.console,
                ingress_endpoint_url=self.args.ingress,
                transport_frames=self.on_frame,
                on_close=self.closed.set,
            )
            await self.session.init()
            await self.session.start()

    def on_frame(self, raw, last):
        message = message_pb2.Message()
        message.ParseFromString(raw)
        frame = message.server_response_animation
        index, sent = struct.unpack_from("<I4xQ", frame.animation)
        after = time.monotonic_ns() - sent
        self.tally.latencies["frame"].append(after / 1e9)
        expected = self.expected.get(frame.req_id, 0)
        if index == expected:
            self.expected[frame.req_id] = expected + 1
            self.tally.frames_in_order += 1
        if last:
            self.tally.latencies["answer_after_last_frame"].append(after / 1e9)
            self.expected.pop(frame.req_id, None)
            due = self.due.pop(frame.req_id, None)
            if due is not None:
                self.tally.latencies["schedule"].append(max(0.0, time.monotonic() - due))
            self.answers.put_nowait(frame.req_id)

    async def hold(self):
        while True:
            await self.closed.wait()
            while True:
                try:
                    await self.open()
                    break
                except Exception:  # a hand-written loop retries whatever went wrong
                    self.tally.failed += 1
                await asyncio.sleep(RETRY_PAUSE_S)
            self.tally.opened += 1

    async def stream(self, begin, requests):
        for number in range(requests * CHUNKS):
            await asyncio.sleep(max(0.0, begin + number * CHUNK_S - time.monotonic()))
            last = number % CHUNKS + 1 == CHUNKS
            req_id = await self.session.send_audio(CHUNK, end=last)
            if last:
                self.due[req_id] = begin + (number + 1) * CHUNK_S
        for _ in range(requests):
            await asyncio.wait_for(self.answers.get(), PATIENCE_S)

    async def burst(self):
        for at in range(0, len(BURST), BURST_PIECE):
            await self.session.send_audio(BURST[at : at + BURST_PIECE], end=at + BURST_PIECE >= len(BURST))
        await asyncio.wait_for(self.answers.get(), PATIENCE_S)


async def open_all(args, tally, gate):
    sessions = [Session(args, tally, gate, number) for number in range(args.sessions)]
    await asyncio.gather(*(session.open() for session in sessions))
    return sessions


async def hold(args, tally, gate, sessions, words):
    tasks = [asyncio.create_task(session.hold()) for session in sessions]
    await expect(words, "stop")
    for task in tasks:
        task.cancel()


def offset_s(number):
    """When a session begins: drawn by its number, as `offset` in schedule.rs draws it."""
    mask = (1 << 64) - 1
    drawn = (number + 1) * 0x9E3779B97F4A7C15 & mask
    drawn = (drawn ^ drawn >> 30) * 0xBF58476D1CE4E5B9 & mask
    drawn = (drawn ^ drawn >> 27) * 0x94D049BB133111EB & mask
    drawn ^= drawn >> 31
    return drawn % round(REQUEST_S * 1_000_000) / 1_000_000


async def stream(args, tally, gate, sessions, words):
    requests = max(1, args.seconds // 2)
    tally.frames_due = requests * CHUNKS * len(sessions)
    start = time.monotonic() + 1.0
    await asyncio.gather(
        *(
            session.stream(start + offset_s(session.number), requests)
            for session in sessions
        ),
        return_exceptions=True,
    )


async def burst(args, tally, gate, sessions, words):
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        tally.frames_due += BURST_FRAMES
        await sessions[0].burst()


async def churn(args, tally, gate, sessions, words):
    start = time.monotonic() + 0.1

    async def live(number):
        due = start + number / args.rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        session = Session(args, tally, gate, number)
        try:
            await session.open()
            tally.latencies["open"].append(time.monotonic() - due)
            tally.opened += 1
            await asyncio.sleep(max(0.0, due + LIFE_S - time.monotonic()))
            await session.session.close()
        except Exception:  # counted, whatever it was
            tally.failed += 1

    await asyncio.gather(*(live(number) for number in range(args.rate * args.seconds)))


MODES = {"hold": hold, "stream": stream, "burst": burst, "churn": churn}


async def expect(words, word):
    heard = await words.get()
    if heard != word:
        raise RuntimeError(f"heard {heard!r} where {word} was due")


def say(line):
    print(line, flush=True)


async def serve(args):
    loop, words, ended = asyncio.get_running_loop(), asyncio.Queue(), asyncio.Event()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(words.put_nowait, line.strip())
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    tally, gate = Tally(), asyncio.Semaphore(args.in_flight)
    say("up")
    await expect(words, "open")
    sessions = [] if args.mode == "churn" else await open_all(args, tally, gate)
    say("opened")
    await expect(words, "go")
    await MODES[args.mode](args, tally, gate, sessions, words)
    say(json.dumps(tally.report()))
    # What it has used is read while it is still there.
    await ended.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=sorted(MODES), required=True)
    parser.add_argument("--console", required=True)
    parser.add_argument("--ingress", required=True)
    parser.add_argument("--key", required=True)
    for name in ("sessions", "in-flight", "seconds", "rate"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
