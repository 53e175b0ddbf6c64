"""The server for programs under many clients, compared with the predictor without a server.

    python -m benchmarks.server                               → benchmarks/server.json
    python -m benchmarks.server --clients 20 --seconds 3 --rounds 1 --out quick.json

The bare predictor answers the same files by `find_batch`, as many at once as the server takes
together: in one thread, and in as many threads as the machine has cores. The clients are on the
same machine and take their share of its cores; each sends one picture, waits for its answer, and
sends the next. Bare predictor and server take turns, round by round, and are compared by the ratio
within each round. What a picture takes of the processor is counted, too (of the server without
the clients): it stays the same beside other programs. Every picture has its face in another place,
so an answer that went to the wrong client is seen: *mixed up* are answers that are not those of the
bare predictor to the same file, *lost* are requests without an answer, refusals by a full queue
included.

Figures only mean something on a machine that is idle otherwise.
"""

import io
import os
import re
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from skimage.data import astronaut

from benchmarks import harness
from benchmarks.server_clients import Reply, load, running_server
from expression.face_prediction import FacePrediction
from expression.predictor import ExpressionPredictor
from expression.request_batches import Batching

__all__ = ["drawn_pictures", "is_answer", "judged", "measure", "table"]

PICTURES = 48
PACKAGES = ("onnxruntime", "numpy", "pillow", "fastapi", "uvicorn", "h11")
WANTED = 0.9  # of the bare predictor's rate on all cores, set before it was measured
HEADS = ("", "Pictures/s", "Of the bare predictor on all cores", "Of it in one thread",
         "Processor, ms a picture", "The clients', too", "p50, ms", "p95, ms", "p99, ms", "Answers",
         "Lost", "Mixed up")  # fmt: skip
PROCESSOR = re.compile(r"^process_cpu_seconds_total (\S+)$", re.MULTILINE)


def drawn_pictures(count: int = PICTURES) -> list[bytes]:
    """JPEG files of 480 × 360 with one face, each in another place."""
    face = Image.fromarray(astronaut()).crop((130, 0, 330, 220))
    files = []
    for k in range(count):
        picture = Image.new("RGB", (480, 360), (60 + 2 * (k % 40), 90, 110))
        picture.paste(face, (5 * k % 270, 3 * (k // 6) + 7 * (k % 6)))
        files.append(io.BytesIO())
        picture.save(files[-1], "JPEG", quality=90)
    return [file.getvalue() for file in files]


def is_answer(answer: Any, faces: Sequence[FacePrediction]) -> bool:
    """Whether the server's JSON is the predictor's answer: boxes, and probabilities to 1e-5."""
    if len(answer["faces"]) != len(faces):
        return False
    return all(
        told["box"] == list(face.box)
        and told["probabilities"].keys() == face.probs.keys()
        and all(abs(told["probabilities"][name] - p) < 1e-5 for name, p in face.probs.items())
        for told, face in zip(answer["faces"], faces, strict=True)
    )


def judged(replies: Sequence[Reply], right: Sequence[Sequence[FacePrediction]]) -> dict[str, int]:
    """How many were answered, lost, and mixed up; `right` are the faces of each picture."""
    answered = [reply for reply in replies if reply.status == 200]
    mixed_up = sum(not is_answer(reply.answer, right[reply.picture]) for reply in answered)
    lost = len(replies) - len(answered)
    return {"answers": len(answered), "lost": lost, "mixed_up": mixed_up}


def bare(
    predictor: ExpressionPredictor, pictures: Sequence[bytes], threads: int, seconds: float
) -> int:
    """How many pictures `find_batch` answers in so many threads, in at least `seconds`."""
    size = Batching().pictures
    groups = [pictures[i : i + size] for i in range(0, len(pictures), size)]
    stop = time.perf_counter() + seconds

    def work(number: int) -> int:
        done, turn = 0, number
        while time.perf_counter() < stop:
            done += len(predictor.find_batch(groups[turn % len(groups)]))
            turn += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def processor_seconds(port: int) -> float:
    """What a server has taken of the processor since it started, as its metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        found = PROCESSOR.search(answer.read().decode())
    return float(found[1]) if found else float("nan")  # not known outside Linux


@dataclass
class Way:
    """One way to have pictures answered: `answer()` says how many were, `processor()` is a clock of
    the processor's seconds; each turn adds to the milliseconds a picture took."""

    answer: Callable[[], int]
    processor: Callable[[], float]
    milliseconds: list[float] = field(default_factory=list)

    def turn(self) -> float:
        """Pictures a second."""
        used, start = self.processor(), time.perf_counter()
        done = self.answer()
        spent = time.perf_counter() - start
        self.milliseconds.append(1000 * (self.processor() - used) / max(done, 1))
        return done / spent


def measure(
    pictures: Sequence[bytes], clients: Sequence[int], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """A row for the bare predictor in one thread and on all cores, and for each number of clients.

    Raises ValueError when two pictures have the same answer: a mix-up of them would not be seen.
    """
    predictor, cores = ExpressionPredictor(), os.cpu_count() or 1
    right = predictor.find_batch(pictures)
    if len({tuple(face.box for face in faces) for faces in right}) < len(pictures):
        raise ValueError("two pictures have their faces in the same place; draw others")
    replies: dict[int, list[Reply]] = {count: [] for count in clients}
    taken: dict[int, list[float]] = {count: [] for count in clients}  # by the clients, of a core

    def bare_way(threads: int) -> Way:
        return Way(lambda: bare(predictor, pictures, threads, seconds), time.process_time)

    def served(port: int, count: int) -> int:
        before = time.process_time()
        got = load(port, pictures, count, seconds)
        taken[count].append(1000 * (time.process_time() - before) / max(len(got), 1))
        replies[count] += got
        return sum(reply.status == 200 for reply in got)

    room = max(*clients, Batching().queue)
    with running_server("--queue", str(room)) as (port, _):
        clock = partial(processor_seconds, port)
        ways = {f"find_batch, {n} thread{'s' * (n > 1)}": bare_way(n) for n in sorted({1, cores})}
        one, all_cores = list(ways)[0], list(ways)[-1]
        ways |= {f"server, {n}": Way(partial(served, port, n), clock) for n in clients}
        rates = harness.paired_rounds({name: way.turn for name, way in ways.items()}, rounds)
    rows: list[dict[str, Any]] = [
        {"way": name, "rates": rates[name], "processor": way.milliseconds[1:]}  # one warmed up
        for name, way in ways.items()
    ]
    for row, count in zip(rows[-len(clients) :], clients, strict=True):
        spent = 1000 * np.array([reply.seconds for reply in replies[count] if reply.status == 200])
        shares = np.percentile(spent, (50, 95, 99)) if len(spent) else (float("nan"),) * 3
        times = dict(zip(("p50", "p95", "p99"), map(float, shares), strict=True))
        row |= {"clients": count, "ratios": harness.ratios(row["rates"], rates[all_cores])}
        row |= {"of_one": harness.ratios(row["rates"], rates[one]), "taken": taken[count][1:]}
        row |= {"milliseconds": times, **judged(replies[count], right)}
    return rows


def table(told: dict[str, Any]) -> str:
    """Markdown: a row a way; rates and ratios with the lowest and the highest round."""

    def cells(row: dict[str, Any]) -> list[str]:
        rate, used = (harness.rates_cell(row[name], 1) for name in ("rates", "processor"))
        if "clients" not in row:
            return [row["way"], rate, "", "", used, *[""] * 7]
        clients = f"{row['way']} client{'' if row['clients'] == 1 else 's'}"
        times = [f"{row['milliseconds'][name]:,.0f}" for name in ("p50", "p95", "p99")]
        counts = [f"{row[name]:,}" for name in ("answers", "lost", "mixed_up")]
        shares = [harness.rates_cell(row[name], 2) for name in ("ratios", "of_one")]
        return [clients, rate, *shares, used, harness.rates_cell(row["taken"], 1), *times, *counts]

    return harness.markdown_table(HEADS, map(cells, told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    made = harness.parser("server", __doc__, rounds=5, seconds=10.0)
    made.add_argument(
        "--clients", type=harness.positive, nargs="+", default=[1, 20, 200], metavar="N",
        help="at once (default: 1 20 200)",
    )  # fmt: skip
    args = harness.parse(made, arguments)
    about = harness.record(
        "server", arguments, args.device, PACKAGES,
        rounds=args.rounds, seconds=args.seconds, pictures=PICTURES, batch=Batching().pictures,
        wanted=WANTED,
    )  # fmt: skip
    rows = measure(drawn_pictures(), args.clients, args.rounds, args.seconds)
    harness.write_json(args.out, {**about, "rows": rows})
    print(table({"rows": rows}))
    served = [row for row in rows if "clients" in row]
    spoilt = sum(row["lost"] + row["mixed_up"] for row in served)
    slow = [row["clients"] for row in served[-1:] if median(row["ratios"]) < WANTED]
    return 1 if spoilt or slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
