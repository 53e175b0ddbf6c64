"""Pictures a second of one training epoch: this repository's loop beside what people use.

    python benchmarks/trainers.py --data fer2013              → benchmarks/trainers.json
    python benchmarks/trainers.py --only lightning --runs 5   one trainer; other rows are kept

Same machine, pictures, network, batch, precision and optimizer in every row; each row runs in a
process of its own, so that no trainer's imports and settings reach the next. Every trainer is fed
twice: "plain" is what its documentation shows, a DataLoader that opens and changes each picture
by itself, and "Batches" is this repository's loader, so that loader and trainer are told apart.

One call trains 1 + `--runs` epochs. An epoch lasts from the end of the one before to its own end:
whatever a trainer does between epochs is in it. The first starts before the trainer is imported
and holds imports, decoding and the start of the workers; the later ones are the runs. Logging,
checkpoints, progress bars and validation are off. All of it is done `--rounds` times, row by row
each time, because a machine speeds up and slows down. Run it on an idle machine.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import torch
from datasets import Dataset, load_from_disk

from benchmarks.machine import processor, surroundings
from benchmarks.rivals import (
    HIDDEN,
    LR,
    NEEDS,
    OURS,
    PRECISIONS,
    ROWS,
    TRAINERS,
    Counted,
    Row,
    Settings,
    Task,
    make_model,
)
from train_loop import train_step

__all__ = ["ROWS", "Row", "Settings", "measure", "repeated", "speed_up", "table"]

OUT = Path(__file__).resolve().parent / "trainers.json"
PACKAGES = (
    "torchvision",
    "datasets",
    "pillow",
    "lightning",
    "transformers",
    "accelerate",
    "fastai",
)
HEAD = (
    "| Trainer | Loader | First epoch (s), of it imports | Later epochs (pictures/s) | "
    "This loop is … faster |\n|---|---|---|---|---|"
)


# --- measuring ---


def measure(row: Row, settings: Settings, folder: Path | str) -> dict[str, Any]:
    """One row's figures, or its "error": not installed, or the first line of what was raised.

    `folder` holds the pictures of an epoch as `Dataset.save_to_disk` wrote them.
    """
    told: dict[str, Any] = {"name": row.name, **asdict(row)}
    needs = NEEDS.get(row.trainer, (row.trainer,))
    if row.trainer != OURS.trainer and not all(find_spec(package) for package in needs):
        return {**told, "error": "not installed"}
    try:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            redirect_stdout(sys.stderr),  # the table alone is printed there
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            rows = load_from_disk(str(folder))
            warm_up(settings, rows)
            task = Task(settings, row, rows, Path(scratch))
            TRAINERS[row.trainer](task)
            return {**told, **figures(task)}
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        return {**told, "error": f"{type(error).__name__}: {lines[0]}"}


def warm_up(settings: Settings, rows: Dataset) -> None:
    """One step of another such network: what torch prepares once is in no row's first epoch."""
    side, count = settings.size, settings.batch_size
    images = torch.randn(count, 3, side, side, device=settings.device)
    labels = torch.zeros(count, dtype=torch.int64, device=settings.device)
    model = make_model(settings, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    train_step(model, [(images, labels)], Counted(), optimizer, settings.device)


def figures(task: Task) -> dict[str, Any]:
    """Seconds and pictures/s from the clock; ValueError when the work was not that of all rows."""
    clock = [(task.start, 0), *task.ends]
    pictures = [after[1] - before[1] for before, after in pairwise(clock)]
    if pictures != [task.settings.pictures] * task.epochs:
        raise ValueError(f"trained on {pictures} pictures an epoch, not {task.settings.pictures}")
    steps = {int(state["step"]) for state in task.optimizer.state.values()}
    wanted = task.epochs * math.ceil(task.settings.pictures / task.settings.batch_size)
    if steps != {wanted}:
        raise ValueError(f"the optimizer took {sorted(steps)} steps, not {wanted}")
    seconds = [after[0] - before[0] for before, after in pairwise(clock)]
    rates = [task.settings.pictures / s for s in seconds[1:]]
    return {
        "pictures": pictures,
        "first": {"seconds": seconds[0], "imports": task.imports},
        "rates": rates,
        "median": median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
    }


def in_own_process(row: Row, settings: Settings, folder: Path | str) -> dict[str, Any]:
    """`measure` in a new interpreter; one that dies is an error of its row.

    Not by multiprocessing: a spawned process spawns its workers too, where the ordinary one forks.
    """
    task = json.dumps([asdict(row), asdict(settings), str(folder)])
    done = subprocess.run([sys.executable, __file__, "--measure", task], stdout=subprocess.PIPE)
    if done.returncode:
        error = f"its process ended with code {done.returncode}"
        return {"name": row.name, **asdict(row), "error": error}
    return json.loads(done.stdout.splitlines()[-1])


def repeated(rows: Dataset, count: int) -> Dataset:
    """The first `count` rows; from the start again where there are fewer."""
    return rows.select([i % len(rows) for i in range(count)])


# --- telling ---


def speed_up(told: dict[str, Any], row: dict[str, Any]) -> float | None:
    """How many times faster this loop's later epochs are, by the medians."""
    ours = next((r for r in told["rows"] if r["name"] == OURS.name), {})
    if "median" not in ours or "median" not in row:
        return None
    return ours["median"] / row["median"]


def line(told: dict[str, Any], row: dict[str, Any]) -> str:
    workers = f", {row['workers']} workers" if row["loader"] == "plain" else ""
    form = ", channels_last" * row.get("channels_last", False)
    cells = [f"`{row['trainer']}`{form}", f"{row['loader']}{workers}"]
    if "error" in row:
        cells += [row["error"].replace("|", "\\|"), "–", "–"]
    else:
        times = speed_up(told, row)
        cells += [
            f"{row['first']['seconds']:.1f}, {row['first']['imports']:.1f}",
            f"{row['median']:,.0f} ({row['slowest']:,.0f}–{row['fastest']:,.0f})",
            "–" if times is None or row["name"] == OURS.name else f"{times:.2f} ×",
        ]
    return f"| {' | '.join(cells)} |"


def table(told: dict[str, Any]) -> str:
    """The rows of the JSON as Markdown."""
    return "\n".join([HEAD, *(line(told, row) for row in told["rows"])])


def conditions(settings: Settings, data: str) -> dict[str, Any]:
    """What the figures depend on beside the trainers; versions of what is installed."""
    told = surroundings(torch.device(settings.device), *PACKAGES)
    found = {name: text for name, text in told["versions"].items() if text != "not installed"}
    network = f"TinyVGG(3, {HIDDEN}), AdamW at {LR}"
    told |= {"processor": processor(), "versions": found, "data": data, "network": network}
    return {**told, "settings": asdict(settings)}


def measure_all(
    chosen: list[Row], settings: Settings, folder: Path | str, told: dict[str, Any], out: Path,
    call: Callable[..., dict[str, Any]] = in_own_process, rounds: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Measure row by row, `rounds` times, and write `out` after each: a cut loses one.

    Rows of other names in `out` are kept when they were measured in the same conditions.
    """
    known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    same = all(known.get(key) == told[key] for key in told.keys() - {"date"})
    rows = {row["name"]: row for row in known.get("rows", ())} if same else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(list(chosen) * rounds):
        print(f"{row.name} …", file=sys.stderr)
        new = call(row, settings, folder)
        rows[row.name] = new if number < len(chosen) else joined(rows[row.name], new)
        told = {**told, "rows": [rows[r.name] for r in ROWS if r.name in rows]}
        out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return told


def joined(row: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A row with the epochs of another round as well; an error in either is the row's."""
    if "error" in row or "error" in new:
        return row if "error" in row else new
    rates = row["rates"] + new["rates"]
    return {**row, "rates": rates, "median": median(rates), "slowest": min(rates),
            "fastest": max(rates)}  # fmt: skip


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time this repository's loop beside others.")
    names = ", ".join(row.name for row in ROWS)
    numbers = ("pictures", "size", "batch_size", "runs")
    parser.add_argument("--data", help="what datasets.load understands (default: what it finds)")
    for name in numbers:
        option, usual = f"--{name.replace('_', '-')}", getattr(Settings, name)
        parser.add_argument(option, type=int, default=usual, metavar="N", help=f"default: {usual}")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--only", metavar="NAME", help=f"a trainer, or one row: {names}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="JSON to write")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # for `in_own_process`
    args = parser.parse_args(arguments)
    for name in numbers:
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}; 1 or more")
    args.chosen = [row for row in ROWS if args.only in (None, row.name, row.trainer)]
    if not args.chosen:
        parser.error(f"--only is {args.only}; known are {names}, and the trainers alone")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 when there are no data to train on."""
    args = arguments_of(arguments)
    if args.measure:
        row, shared, folder = json.loads(args.measure)
        print(json.dumps(measure(Row(**row), Settings(**shared), folder)))
        return 0
    from lab import datasets  # a measured process needs none of it

    settings = Settings(
        args.pictures, args.size, args.batch_size, args.runs, args.device, args.precision
    )
    try:
        splits = datasets.load(args.data, say=lambda text: print(text, file=sys.stderr))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    told = conditions(settings, datasets.origin(splits))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        repeated(splits["train"], settings.pictures).save_to_disk(folder)
        told = measure_all(args.chosen, settings, folder, told, args.out, rounds=args.rounds)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
