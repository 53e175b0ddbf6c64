"""Pictures a second of one training epoch: this repository's loop beside other trainers.

    python -m benchmarks.trainers --data path/to/fer2013      → benchmarks/trainers.json
    python -m benchmarks.trainers --data path/to/fer2013 --only lightning --out quick.json

Pictures, network, batch size, optimizer and float32 are the same in every row. Each row runs in
a process of its own, so that no trainer's imports and settings reach the next. Every trainer is
measured with two loaders: "plain" is what its documentation shows, a DataLoader that opens and
augments one picture at a time, and "Batches" is this repository's loader; so the trainer's share
and the loader's share of the time can be told apart.

One run trains 1 + `--epochs` epochs. An epoch lasts from the end of the one before to its own end,
so whatever a trainer does between epochs is included. The first epoch also holds imports, decoding
and the start of the workers; the speeds are those of the later epochs. Logging, checkpoints,
progress bars and validation are off. Each round measures every row once. Run it on an idle machine.
"""

import argparse
import json
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset, load_from_disk

from benchmarks import harness
from benchmarks import trainer_baselines as baselines
from benchmarks.subjects import load, origin, train_step
from benchmarks.trainer_baselines import OURS, ROWS, TRAINERS, Row, Settings, Task

__all__ = ["OURS", "ROWS", "Row", "Settings", "in_rounds", "measure", "speed_up", "table"]

PACKAGES = ("torchvision", "datasets", "pillow", "lightning", "transformers", "accelerate",
            "fastai")  # fmt: skip
HEADS = ("Trainer", "Loader", "First epoch (s), of it imports", "Later epochs (pictures/s)",
         "`train_loop` with Batches / this row")  # fmt: skip


def measure(row: Row, settings: Settings, folder: Path | str) -> dict[str, Any]:
    """One row's figures, or its "error": not installed, or the first line of what was raised.

    `folder` holds the pictures of an epoch as `Dataset.save_to_disk` wrote them.
    """
    told = {"name": row.name, **asdict(row)}
    try:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            redirect_stdout(sys.stderr),  # standard output is for the table alone
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            rows = load_from_disk(str(folder))
            warm_up(settings, rows)
            task = Task(settings, row, rows, Path(scratch))
            TRAINERS[row.trainer](task)
            return {**told, **figures(task)}
    except ModuleNotFoundError as error:
        return {**told, "error": f"{error.name} is not installed"}
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        return {**told, "error": f"{type(error).__name__}: {lines[0]}"}


def warm_up(settings: Settings, rows: Dataset) -> None:
    """One step of another such network: what torch prepares once is in no row's first epoch."""
    images = torch.randn(settings.batch_size, 3, settings.size, settings.size)
    labels = torch.zeros(settings.batch_size, dtype=torch.int64)
    model, device = baselines.make_model(settings, rows), torch.device(settings.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=baselines.LR)
    train_step(model, [(images, labels)], baselines.CountingLoss(), optimizer, device)


def figures(task: Task) -> dict[str, Any]:
    """Seconds and pictures/s from the clock; ValueError when the work was not that of all rows."""
    clock = [(task.start, 0), *task.ends]
    pictures = [after[1] - before[1] for before, after in pairwise(clock)]
    if pictures != [task.settings.pictures] * task.epochs:
        raise ValueError(f"trained on {pictures} pictures an epoch, not {task.settings.pictures}")
    steps = {int(state["step"]) for state in task.optimizer.state.values()}
    due = task.epochs * math.ceil(task.settings.pictures / task.settings.batch_size)
    if steps != {due}:
        raise ValueError(f"the optimizer took {sorted(steps)} steps, not {due}")
    seconds = [after[0] - before[0] for before, after in pairwise(clock)]
    return {
        "pictures": pictures,
        "first": {"seconds": seconds[0], "imports": task.imports},
        "rates": [task.settings.pictures / s for s in seconds[1:]],
    }


def in_own_process(row: Row, settings: Settings, folder: Path | str) -> dict[str, Any]:
    """`measure` in a new interpreter; a process that dies is an error of its row."""
    print(f"{row.name} …", file=sys.stderr)
    task = [asdict(row), asdict(settings), str(folder)]
    try:
        return next(harness.child_rows("trainers", task))
    except ChildProcessError as error:
        return {"name": row.name, **asdict(row), "error": str(error)}


def in_rounds(
    rows: Sequence[Row], rounds: int, call: Callable[[Row], dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """Measure row after row, `rounds` times; yields all rows so far, each with all its epochs.

    An error in any round is the row's.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in list(rows) * rounds:
        new, known = call(row), found.get(row.name)
        if known is None or "error" in new:
            found[row.name] = new
        elif "error" not in known:
            known["rates"] += new["rates"]
        yield list(found.values())


def speed_up(told: dict[str, Any], row: dict[str, Any]) -> float | None:
    """How many times faster our loop's later epochs are, by the medians."""
    ours = next((r for r in told["rows"] if r["name"] == OURS.name and "error" not in r), None)
    if ours is None or "error" in row:
        return None
    return median(ours["rates"]) / median(row["rates"])


def table(told: dict[str, Any]) -> str:
    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield f"`{row['trainer']}`" + (", channels_last" if row["channels_last"] else "")
        plain = row["loader"] == "plain"
        yield f"plain, {row['workers']} workers" if plain else row["loader"]
        if "error" in row:
            yield from (row["error"], "–", "–")
            return
        yield f"{row['first']['seconds']:.1f}, {row['first']['imports']:.1f}"
        yield harness.rates_cell(row["rates"])
        times = speed_up(told, row)
        yield "–" if times is None or row["name"] == OURS.name else f"{times:.2f} ×"

    return harness.markdown_table(HEADS, (list(cells(row)) for row in told["rows"]))


def make_parser() -> argparse.ArgumentParser:
    parser = harness.parser("trainers", __doc__, "FER2013 or another data set", 3)
    for name in ("pictures", "size", "batch_size"):
        option, usual = f"--{name.replace('_', '-')}", getattr(Settings, name)
        parser.add_argument(option, type=harness.positive, default=usual, metavar="N")
    parser.add_argument("--epochs", type=harness.positive, default=2, help="later ones, a round")
    parser.add_argument("--only", metavar="NAME", help="a trainer, or one row by its name")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "--child" in arguments:
        if "torchvision" in sys.modules:  # its import belongs to the plain loader's first epoch
            raise ImportError("torchvision was imported before the clock started")
        row, settings, folder = json.loads(arguments[arguments.index("--child") + 1])
        return harness.reply_to_parent([measure(Row(**row), Settings(**settings), folder)])
    args = harness.parse(parser, arguments)
    chosen = [row for row in ROWS if args.only in (None, row.name, row.trainer)]
    if not chosen:
        known = ", ".join([*TRAINERS, *(row.name for row in ROWS)])
        parser.error(f"--only is {args.only}; known are {known}")
    settings = Settings(args.pictures, args.size, args.batch_size, args.epochs, str(args.device))
    splits = load(args.data, say=lambda text: print(text, file=sys.stderr))
    about = harness.record(
        "trainers", arguments, args.device, PACKAGES, **asdict(settings), data=origin(splits),
        network=f"TinyVGG(3, {baselines.HIDDEN}), AdamW at {baselines.LR}", rounds=args.rounds,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        train = splits["train"]  # from the start again where it has fewer pictures
        train.select([i % len(train) for i in range(settings.pictures)]).save_to_disk(folder)
        call = partial(in_own_process, settings=settings, folder=folder)
        for rows in in_rounds(chosen, args.rounds, call):
            told = {**about, "rows": rows}
            harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
