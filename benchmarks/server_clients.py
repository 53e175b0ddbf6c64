"""Many clients of the server for programs at once, on this machine, and a server to ask.

Why: a client of httpx takes milliseconds a request of the very cores that are measured. These
write the bytes of a request and read those of its answer, nothing more.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Reply", "apart", "load", "running_server"]

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Reply:
    """What came back for a picture (its index): the status (0: nothing), the JSON, the seconds."""

    picture: int
    status: int
    answer: Any
    seconds: float


@contextmanager
def running_server(
    *options: str, temporary: Path | None = None
) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """(port, process) of a server of its own process, which is stopped at the end of the block.

    `temporary` is its folder for temporary files; None: the usual one.

    Raises OSError, with what it printed, when it does not start.
    """
    command = [sys.executable, "-m", "expression.server", "--port", "0", *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            told = process.stdout.readline()
            if not told.startswith("serving "):
                raise OSError(f"the server did not start: {told.strip()}")
            yield int(told.split(" (")[0].rsplit(":", 1)[1]), process
        finally:
            process.terminate()
            process.wait(60)


async def ask(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], content: bytes
) -> tuple[int, Any]:
    """(status, JSON) of the answer to one picture."""
    reader, writer = streams
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), json.loads(body)


async def client(
    number: int, port: int, pictures: Sequence[bytes], stop: float, replies: list[Reply]
) -> None:
    """Sends a picture, waits for its answer, sends the next, on one connection, until `stop`."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    turn = number
    try:
        while time.perf_counter() < stop:
            index, start = turn % len(pictures), time.perf_counter()
            try:
                status, answer = await ask(streams, pictures[index])
            except (OSError, EOFError, ValueError, KeyError):
                replies.append(Reply(index, 0, None, time.perf_counter() - start))
                return
            replies.append(Reply(index, status, answer, time.perf_counter() - start))
            turn += 7  # clients that start together do not send the same pictures for ever
    finally:
        streams[1].close()


def load(port: int, pictures: Sequence[bytes], clients: int, seconds: float) -> list[Reply]:
    """Every reply to so many clients at once.

    Each sends for `seconds`, and waits for the answer to what it sent last.
    """

    async def run() -> list[Reply]:
        replies: list[Reply] = []
        stop = time.perf_counter() + seconds
        await asyncio.gather(*(client(k, port, pictures, stop, replies) for k in range(clients)))
        return replies

    return apart(run())


def apart(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, in a thread: the caller's may have an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
