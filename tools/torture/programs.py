"""200 programs that ask the server for programs at once: whole and broken pictures, hang-ups.

The server runs as a process of its own, with a queue shorter than the crowd, so that it has to turn
some away. Every request must come to an end that its sender can read; whole pictures must get the
predictor's own answer, each its own; the server's metrics must count every request that was sent
whole exactly once; and nothing may be left in its temporary folder.
"""

import asyncio
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.server import drawn_pictures, is_answer
from benchmarks.server_clients import apart, running_server
from expression.face_prediction import FacePrediction
from expression.predictor import ExpressionPredictor
from tools.torture.bounds import SERVER_GROWTH_MB, SERVER_MB
from tools.torture.cases import memory_mb, not_one_sentence
from tools.torture.mutate import broken_bytes
from tools.torture.pictures import whole_pictures
from tools.torture.record import Tally

__all__ = ["Crowd", "run"]

CLIENTS, SECONDS, QUEUE = 200, 60.0, 64
PATIENCE = 60.0  # seconds for one answer; longer is a hang
KINDS = {"picture": 10, "broken": 4, "form": 2, "large": 1, "hang_up": 2, "half": 2, "nonsense": 1}
EXPECTED = {"large": (413, 429), "nonsense": (404, 405, 422)}  # statuses; others see `judge`
COUNTED = re.compile(r'^expression_requests_total\{outcome="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass
class Crowd:
    """All clients of one server, and what they met."""

    port: int
    drawn: Sequence[bytes]
    right: Sequence[Sequence[FacePrediction]]  # the predictor's own answers to `drawn`
    others: dict[str, bytes]  # pictures to break
    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of whole pictures that were answered
    faults: list[str] = field(default_factory=list)

    async def work(self, clients: int, seconds: float, seed: int) -> None:
        until = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        place = f"http://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(base_url=place, timeout=PATIENCE, limits=limits) as web:
            await asyncio.gather(
                *(self.client(web, until, random.Random(f"programs {seed} {k}"))
                  for k in range(clients))
            )  # fmt: skip

    async def client(self, web: httpx.AsyncClient, until: float, rng: random.Random) -> None:
        kinds, weights = list(KINDS), list(KINDS.values())
        while time.monotonic() < until:
            kind = rng.choices(kinds, weights)[0]
            try:
                await getattr(self, kind)(web, rng)
            except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
                self.fault(kind, f"{type(error).__name__}: {error}")

    def fault(self, kind: str, words: str) -> None:
        self.faults.append(f"{kind}: {words}")

    def judge(self, kind: str, answer: httpx.Response) -> None:
        """Count a reply; one that says nothing, or something else than it may, is a fault."""
        self.counts["sent whole"] += 1
        if answer.status_code == 200:
            self.counts["answered"] += 1
            return
        wrong = not_one_sentence(answer.json()["error"])
        if answer.status_code == 429:
            self.counts["turned away"] += 1
            wrong = wrong or ("" if int(answer.headers["retry-after"]) > 0 else "no time to wait")
        elif answer.status_code not in EXPECTED.get(kind, (422,)):
            wrong = wrong or f"status {answer.status_code}"
        self.counts["refused"] += 1
        if wrong:
            self.fault(kind, f"{wrong}: {answer.text[:200]}")

    # --- what a client does ---

    async def picture(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        index, start = rng.randrange(len(self.drawn)), time.monotonic()
        answer = await web.post("/predict", content=self.drawn[index])
        self.own_answer("picture", index, answer, start)

    async def form(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        index, start = rng.randrange(len(self.drawn)), time.monotonic()
        answer = await web.post("/predict", files={"file": ("a.jpg", self.drawn[index])})
        self.own_answer("form", index, answer, start)

    def own_answer(self, kind: str, index: int, answer: httpx.Response, start: float) -> None:
        if answer.status_code == 422:
            raise ValueError(f"a whole picture is refused: {answer.text[:200]}")
        self.judge(kind, answer)
        if answer.status_code == 200:
            self.seconds.append(time.monotonic() - start)
            if not is_answer(answer.json(), self.right[index]):
                self.fault(kind, f"picture {index} has another answer than the predictor's")

    async def broken(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        one, other = (self.others[rng.choice(sorted(self.others))] for _ in range(2))
        self.judge("broken", await web.post("/predict", content=broken_bytes(one, other, rng)))

    async def large(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        """More than is taken, told beforehand; the server need not read it."""
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**9}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(head.encode())
            line = await asyncio.wait_for(reader.readline(), PATIENCE)
            status = int(line.split()[1])
        finally:
            writer.close()
        self.counts["sent whole"] += 1
        self.counts["refused"] += 1
        if status not in EXPECTED["large"]:
            self.fault("large", f"status {status}")

    async def hang_up(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        await self.left(rng.choice(self.drawn), 1.0, rng.random() / 20)

    async def half(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        await self.left(rng.choice(self.drawn), rng.random() * 0.9, 0.0)

    async def left(self, content: bytes, share: float, seconds: float) -> None:
        """A client that goes after it has sent `share` of a picture, and waited."""
        head = (
            f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode() + content[: int(share * len(content))])
        await writer.drain()
        await asyncio.sleep(seconds)
        writer.close()
        self.counts["hung up"] += 1

    async def nonsense(self, web: httpx.AsyncClient, rng: random.Random) -> None:
        place = rng.choice(["/predict", "/nothing", "/predict/../../etc/passwd", "/metrics?x=%00"])
        answer = await web.request(rng.choice(["PUT", "DELETE", "PATCH"]), place, content=b"x")
        self.judge("nonsense", answer)


def run(tally: Tally, share: float, workers: int) -> None:
    """`share` of 200 clients' minute; at least 40 clients for five seconds."""
    clients, seconds = max(round(CLIENTS * min(share * 4, 1)), 40), max(SECONDS * share, 5.0)
    drawn = drawn_pictures()
    right, others = ExpressionPredictor().find_batch(drawn), whole_pictures()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        temporary = Path(folder)
        with running_server("--queue", str(QUEUE), temporary=temporary) as (port, process):
            crowd = Crowd(port, drawn, right, others)
            httpx.post(f"http://127.0.0.1:{port}/predict", content=drawn[0]).raise_for_status()
            before = memory_mb("VmRSS", process.pid)
            apart(crowd.work(clients, seconds, tally.seed))
            peak, after = (memory_mb(name, process.pid) for name in ("VmHWM", "VmRSS"))
            counted, code = settled(port), process.poll()
        left = [path.name for path in temporary.rglob("*") if path.is_file()]
    for words in crowd.faults:
        tally.fault(tally.tried, words)
    sent = crowd.counts["sent whole"] + 1  # the first picture
    whole = sum(counted.values()) - counted["hung_up"]
    for true, words in (
        (code is not None, f"the server ended with exit code {code}"),
        (not sent <= whole <= sent + crowd.counts["hung up"],
         f"{whole} requests are counted, {sent} were answered: {counted}"),
        (counted["failed"] > 0, f"{counted['failed']} failed"),
        (bool(left), f"left on disk: {left[:3]}"),
        (peak > SERVER_MB, f"{peak:.0f} MB, more than {SERVER_MB} MB"),
        (after - before > SERVER_GROWTH_MB, f"grew by {after - before:.0f} MB"),
    ):  # fmt: skip
        if true:
            tally.fault(tally.tried, words)
    tell(tally, crowd, clients, seconds, (before, peak, after))


def settled(port: int) -> Counter[str]:
    """How many requests ended in which way, by the server's metrics, once nothing waits."""
    until, counted = time.monotonic() + PATIENCE, Counter[str]()
    while time.monotonic() < until:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).text
        again = Counter({name: int(float(k)) for name, k in COUNTED.findall(text)})
        if again == counted and "expression_queue_length 0.0" in text:
            break
        counted = again
        time.sleep(0.5)
    return counted


def tell(
    tally: Tally, crowd: Crowd, clients: int, seconds: float, memory: tuple[float, float, float]
) -> None:
    """Counts, times and memory into the tally, and a sentence about them."""
    tally.add_server(crowd.counts, {"picture": crowd.seconds}, memory)
    parts = tally.more["percentiles"]["picture"]
    tally.more["notes"] = (
        f"{clients} clients for {seconds:.0f} s, a queue of {QUEUE}; p50/p95/p99 of whole pictures "
        f"{'/'.join(f'{part:.1f}' for part in parts)} s; turned away with a time to come again "
        f"{crowd.counts['turned away']}, hang-ups {crowd.counts['hung up']}; memory before, at "
        f"most, after: {memory[0]:.0f}, {memory[1]:.0f}, {memory[2]:.0f} MB."
    )
