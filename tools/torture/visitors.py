"""Many visitors of the demo at once: photos, films, broken files, hang-ups, the mirror.

The demo runs as a process of its own, as `python demo.py` does, with a folder of its own for all
that it keeps. After the visitors have gone, its memory is read, and when it has been stopped, its
folders are looked at: nothing of what was shown may be left.
"""

import base64
import json
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from expression.app.examples import EXAMPLES
from tools.torture.bounds import SERVER_GROWTH_MB, SERVER_MB
from tools.torture.cases import memory_mb, not_one_sentence
from tools.torture.demo_server import Server, started
from tools.torture.mutate import broken_bytes
from tools.torture.pictures import whole_pictures
from tools.torture.record import Tally
from tools.torture.videos import write_film

__all__ = ["Visitor", "run"]

CLIENTS, SECONDS = 50, 120.0
PATIENCE = 60.0  # seconds for one answer with 50 clients on two cores; longer is a hang
LARGE = 20_000_000  # bytes of a large upload
FRAMES = 10  # of a look into the mirror
KINDS = {"photo": 6, "predict": 6, "mirror": 6, "broken": 6, "hang-up": 3, "large": 1, "video": 1,
         "several": 1, "page": 3}  # fmt: skip


@dataclass
class Visits:
    """What all visitors met, shared by their threads."""

    files: dict[str, bytes]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    first: dict[str, Any] = field(default_factory=dict)  # the answer for each whole picture
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, verdict: str, seconds: float, words: str = "") -> None:
        with self.lock:
            self.counts[verdict] += 1
            if verdict == "fault":
                self.faults.append(f"{kind}: {words}")
            if verdict in ("answered", "refused"):
                self.seconds.setdefault(kind, []).append(seconds)

    def same(self, name: str, answer: Any) -> bool:
        """Whether a whole picture is answered as it was the first time."""
        with self.lock:
            return self.first.setdefault(name, answer) == answer


class Refused(Exception):
    """The demo said why it gives no answer."""


class Visitor:
    """One client, with an address of the demo and what it may show."""

    def __init__(self, server: Server, visits: Visits, seed: str) -> None:
        self.server, self.visits, self.rng = server, visits, random.Random(seed)
        self.mirrors: int | None = None  # the number of the mirror's event in the page
        self.client = httpx.Client(base_url=server.address, timeout=PATIENCE)

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        answer = self.client.post("/gradio_api/upload", files={"files": (name, content)})
        if answer.status_code != 200:
            raise Refused(answer.text)
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def call(self, endpoint: str, *data: Any) -> Any:
        """An endpoint's answer. Raises `Refused` with the demo's words."""
        place = f"/gradio_api/call/{endpoint}"
        given = self.client.post(place, json={"data": list(data)})
        if given.status_code != 200:
            raise Refused(given.text)
        event = ""
        with self.client.stream("GET", f"{place}/{given.json()['event_id']}") as lines:
            for line in lines.iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event == "complete":
                    return json.loads(line.removeprefix("data: "))
                elif line.startswith("data: ") and event == "error":
                    told = json.loads(line.removeprefix("data: "))
                    raise Refused(told["error"] if isinstance(told, dict) else str(told))
        raise Refused("")

    def visit(self, until: float) -> None:
        """Visit after visit, each of a kind drawn from KINDS."""
        kinds, weights = list(KINDS), list(KINDS.values())
        while time.monotonic() < until:
            self.once(self.rng.choices(kinds, weights)[0])

    def once(self, kind: str) -> None:
        started, visits = time.monotonic(), self.visits
        try:
            verdict = getattr(self, kind.replace("-", "_"))() or "answered"
            words = ""
        except Refused as error:
            words = str(error)
            wrong = "no words" if words == "None" else not_one_sentence(words)
            verdict = "fault" if wrong else "refused"
            words = f"{wrong}: {words}"
        except (httpx.HTTPError, OSError, ValueError) as error:
            verdict, words = "fault", f"{type(error).__name__}: {error}"
        visits.add(kind, verdict, time.monotonic() - started, words)

    # --- kinds of visits: each returns None, or a verdict of its own ---

    def show(self, endpoint: str, further: tuple[Any, ...]) -> str | None:
        name = self.rng.choice([one for one in self.visits.files if one.endswith(".jpg")])
        answer = self.call(endpoint, self.upload(name, self.visits.files[name]), *further)
        told = answer[-1]
        if not self.visits.same(f"{endpoint} {name}", told):
            raise ValueError(f"{name} is answered otherwise than before")
        return None

    def photo(self) -> str | None:
        return self.show("photo", ("expression", False, False))

    def predict(self) -> str | None:
        return self.show("predict", ("expression",))

    def mirror(self) -> str | None:
        """Some frames one after the other, as the page sends those of a camera."""
        name = self.rng.choice([one for one in self.visits.files if one.endswith(".jpg")])
        content = base64.b64encode(self.visits.files[name]).decode()
        frame = {"url": f"data:image/jpeg;base64,{content}", "meta": {"_type": "gradio.FileData"}}
        visitor = f"{self.rng.randrange(10**9):09}"
        if self.mirrors is None:
            found = self.client.get("/config").json()["dependencies"]
            self.mirrors = next(
                one["id"] for one in found if any(event == "stream" for _, event in one["targets"])
            )
        asked = {"data": [frame, None, "expression"], "fn_index": self.mirrors,
                 "session_hash": visitor}  # fmt: skip
        given = self.client.post("/gradio_api/queue/join", json=asked)
        if given.status_code != 200:
            raise Refused(given.text)
        event, seen = f"/gradio_api/stream/{given.json()['event_id']}", 0
        place = f"/gradio_api/queue/data?session_hash={visitor}"
        with self.client.stream("GET", place) as lines:
            for line in lines.iter_lines():
                told = json.loads(line.removeprefix("data: ")) if line else {}
                if told.get("msg") in ("process_streaming", "process_completed"):
                    if not told["success"]:
                        raise Refused(str(told["output"].get("error")))
                    seen += 1
                    if seen >= FRAMES or told["msg"] == "process_completed":
                        break
                    self.client.post(event, json=asked)
        self.client.post(f"{event}/close")
        if seen < FRAMES:
            raise ValueError(f"the mirror answered {seen} of {FRAMES} frames")
        return None

    def broken(self) -> str | None:
        names = sorted(self.visits.files)
        name = self.rng.choice(names)
        content = broken_bytes(
            self.visits.files[name], self.visits.files[self.rng.choice(names)], self.rng
        )
        file = self.upload(name, content)
        if name.endswith(".mp4"):
            self.call("video", file, "expression")
        else:
            self.call("photo", file, "expression", False, False)
        return None

    def hang_up(self) -> str | None:
        """Half an upload, or a question whose answer nobody waits for."""
        if self.rng.random() < 0.5:
            host, port = self.server.address.removeprefix("http://").split(":")
            head = (
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\n"
                "Content-Length: 9000000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
                '--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
            )
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
                line.sendall(head.encode() + bytes(70_000))
            return "hung up"
        file = self.upload("portrait.jpg", self.visits.files["portrait.jpg"])
        data = {"data": [file, "expression", False, False]}
        self.client.post("/gradio_api/call/photo", json=data)
        return "hung up"

    def large(self) -> str | None:
        file = self.upload("large.jpg", self.visits.files["portrait.jpg"] + bytes(LARGE))
        self.call("photo", file, "expression", False, False)
        return None

    def video(self) -> str | None:
        file = self.upload("film.mp4", self.visits.files["film.mp4"])
        self.call("video", file, "expression")
        return None

    def several(self) -> str | None:
        names = self.rng.sample([n for n in self.visits.files if not n.endswith(".mp4")], 4)
        files = [self.upload(name, self.visits.files[name]) for name in names]
        self.call("several", files, "expression")
        return None

    def page(self) -> str | None:
        for place in ("/", "/config"):
            if self.client.get(place).status_code != 200:
                raise ValueError(f"{place} is not answered")
        return None


def shown_files(home: Path) -> dict[str, bytes]:
    files = whole_pictures()
    files["portrait.jpg"] = (EXAMPLES / "portrait.jpg").read_bytes()
    write_film(home / "film.mp4", ("libx264", "mpeg4"))
    files["film.mp4"] = (home / "film.mp4").read_bytes()
    return files


def run(tally: Tally, share: float, workers: int) -> None:
    """`share` of 50 clients' two minutes; at least ten clients for ten seconds."""
    clients = max(round(CLIENTS * min(share * 4, 1)), 10)
    seconds = max(SECONDS * share, 10.0)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        home = Path(temporary)
        visits = Visits(shown_files(home))
        with started(home) as server:
            process = server.process.pid
            Visitor(server, visits, "first").once("photo")
            before = memory_mb("VmRSS", process)
            crowd(server, visits, clients, seconds, tally.seed)
            peak, after = memory_mb("VmHWM", process), memory_mb("VmRSS", process)
            during, code = len(server.files()), server.process.poll()
        left, said = server.files(), server.log.read_text("utf-8", "replace")
    for words in visits.faults:
        tally.fault(tally.tried, words)
    tally.add_server(visits.counts, visits.seconds, (before, peak, after))
    for true, words in (
        (code is not None, f"the server ended with exit code {code}"),
        ("Traceback" in said, f"a traceback in its log: {said[-400:]}"),
        (bool(left), f"left on disk: {left[:3]}"),
        (peak > SERVER_MB, f"{peak:.0f} MB, more than {SERVER_MB} MB"),
        (after - before > SERVER_GROWTH_MB, f"grew by {after - before:.0f} MB"),
    ):
        if true:
            tally.fault(tally.tried, words)
    tally.more["files_during"], tally.more["files_left"] = during, len(left)
    tally.more["notes"] = (
        f"{clients} clients for {seconds:.0f} s; p50/p95/p99 of photos "
        f"{'/'.join(f'{v:.1f}' for v in tally.more['percentiles'].get('photo', []))} s; memory "
        f"before, at most, after: {before:.0f}, {peak:.0f}, {after:.0f} MB; files on disk when "
        f"they went {during}, after the server's end {len(left)}; hang-ups "
        f"{visits.counts['hung up']}."
    )


def crowd(server: Server, visits: Visits, clients: int, seconds: float, seed: int) -> None:
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(
            target=Visitor(server, visits, f"visitors {seed} {i}").visit, args=(until,), daemon=True
        )
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0) + 2 * PATIENCE)
