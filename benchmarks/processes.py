"""What training on several processes costs, and what it gains, on one machine.

    python -m benchmarks.processes --threads 1        → benchmarks/scale.json, "processes"

An epoch of drawn pictures is trained in four ways that take turns: the plain loop of `train_loop`;
the same with what `lab.processes` adds, in one process; in two processes with a slice of each batch
each; and in one process with two threads, which is the other use of two cores. Then two processes
exchange tensors as large as the gradients of networks, without training: the model in
`benchmarks/scale_model.py` takes its times from there. Run it on an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks import harness, subjects
from benchmarks.loop import CASES, Case, make_network

__all__ = ["CHOSEN", "WAYS", "epoch_rates", "exchange_table", "table"]

CHOSEN = ("TinyVGG, 64 px", "ResNet9, 48 px")
WAYS = ("plain", "one", "two", "threads")  # see the text above
TITLES = {"plain": "the plain loop", "one": "one process", "two": "two processes, a thread each",
          "threads": "one process, two threads"}  # fmt: skip
SIZES = (16, 1_000_000, 7_500_000, 45_000_000)  # bytes: a loss; gradients of 0.25, 1.9 and 11 M
HEADS = ("Network", "Parameters", "Way", "Pictures/s (range)", "/ the plain loop")
EXCHANGE_HEADS = ("Exchanged between two processes", "Median (range), ms")


def drawn(case: Case, pictures: int) -> subjects.Decoded:
    """Random pictures as a split that is decoded already."""
    numbers = torch.Generator().manual_seed(0)
    shape = (pictures, 1, case.size, case.size)
    pixels = torch.randint(0, 256, shape, generator=numbers, dtype=torch.uint8)
    names = tuple(str(k) for k in range(7))
    labels = torch.randint(0, len(names), (pictures,), generator=numbers)
    return subjects.Decoded(pixels, labels, names, case.preprocess())


def epoch_rates(
    case: Case, way: str, processes: Any, pictures: int
) -> Generator[dict[str, Any], None, None]:
    """Pictures a second of one epoch after another; the first warms up and is not told.

    `processes` is a `lab.processes.Processes`; all of them call this together.
    """
    device = torch.device("cpu")
    model, optimizer = make_network(case, device)
    part = processes.part()
    loader = subjects.Batches(drawn(case, pictures), case.batch_size, shuffle=True,
                              augment=subjects.Augment(), part=part)  # fmt: skip
    loss_fn, network, more = nn.CrossEntropyLoss(), model, {}
    if way != "plain":
        network, loss_fn = processes.wrap(model), processes.loss(loss_fn)
        more = {"tally": processes.tally(model, part)}

    def epoch() -> None:
        subjects.train_step(network, loader, loss_fn, optimizer, device, **more)

    epoch()
    try:
        while processes.from_main(lambda: True):
            processes.wait()
            yield {"rate": pictures / harness.seconds_of(epoch, device)}
    finally:
        if processes.main:  # the others wait for the next epoch
            processes.from_main(lambda: False)


def exchange_times(processes: Any, rounds: int) -> Generator[dict[str, Any], None, None]:
    """Milliseconds to add up a tensor of each size over the processes."""
    for size in SIZES:
        tensor = torch.ones(max(1, size // 4))
        calls = 200 if size < 1000 else 10
        add = partial(processes.add_up, tensor)
        add()
        times = []
        for _ in range(rounds):
            processes.wait()
            times.append(1000 * harness.seconds_of(add, tensor.device, calls))
        yield {"bytes": size, "ms": times}


# --- processes ---


@contextmanager
def several(task: dict[str, Any]) -> Iterator[Any]:
    """This process and `task["processes"] - 1` others that do the same task, joined."""
    from lab.processes import ALONE, joined

    count = task["processes"]
    if count == 1:
        yield ALONE
        return
    with ExitStack() as stack:
        if "rank" not in task:
            task = {**task, "rank": 0, "port": harness.free_port()}
            for rank in range(1, count):
                stack.enter_context(started({**task, "rank": rank}))
        os.environ.update(RANK=str(task["rank"]), LOCAL_RANK=str(task["rank"]),
                          WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1",
                          MASTER_PORT=str(task["port"]))  # fmt: skip
        yield stack.enter_context(joined(torch.device("cpu")))


@contextmanager
def started(task: dict[str, Any]) -> Iterator[None]:
    """Another process at the task, which ends when this one does."""
    command = [sys.executable, "-m", "benchmarks.processes", "--child", json.dumps(task)]
    with subprocess.Popen(command, cwd=harness.ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) as process:  # fmt: skip
        try:
            yield
            process.wait(30)
        finally:
            process.kill()


def child(task: dict[str, Any]) -> int:
    """One process of one way: the rows of the main one are replied to the parent."""
    torch.set_num_threads(task["threads"])
    with several(task) as processes:
        if task["way"] == "exchange":
            rows = exchange_times(processes, task["rounds"])
        else:
            case = next(case for case in CASES if case.name == task["case"])
            rows = epoch_rates(case, task["way"], processes, task["pictures"])
        with closing(rows):
            if processes.main:
                return harness.reply_to_parent(rows)
            for _ in rows:
                pass
    return 0


# --- the comparison ---


def compare(case: Case, rounds: int, pictures: int) -> Iterator[dict[str, Any]]:
    """A row for each way: pictures a second in each round."""
    tasks = {way: {"way": way, "case": case.name, "pictures": pictures,
                   "processes": 2 if way == "two" else 1,
                   "threads": 2 if way == "threads" else 1} for way in WAYS}  # fmt: skip
    rows = {way: harness.child_rows("processes", task) for way, task in tasks.items()}
    try:
        found = harness.paired_rounds(
            {way: partial(lambda row: next(row)["rate"], row) for way, row in rows.items()}, rounds
        )
    finally:
        for row in rows.values():
            row.close()
    model, _ = make_network(case, torch.device("cpu"))
    parameters = sum(p.numel() for p in model.parameters())
    for way, rates in found.items():
        yield {"network": case.name, "parameters": parameters, "batch_size": case.batch_size,
               "way": way, "rates": rates}  # fmt: skip


def exchanges(rounds: int) -> list[dict[str, Any]]:
    task = {"way": "exchange", "processes": 2, "threads": 1, "rounds": rounds}
    return list(harness.child_rows("processes", task))


def table(told: dict[str, Any]) -> str:
    plain = {row["network"]: row["rates"] for row in told["rows"] if row["way"] == "plain"}

    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield from (row["network"], f"{row['parameters']:,}", TITLES[row["way"]])
        yield harness.rates_cell(row["rates"])
        shares = harness.ratios(row["rates"], plain[row["network"]])
        yield "–" if row["way"] == "plain" else harness.rates_cell(shares, 2)

    return harness.markdown_table(HEADS, (list(cells(row)) for row in told["rows"]))


def exchange_table(told: dict[str, Any]) -> str:
    rows = ((f"{row['bytes']:,} bytes", harness.rates_cell(row["ms"], 2))
            for row in told["exchange"])  # fmt: skip
    return harness.markdown_table(EXCHANGE_HEADS, rows)


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("scale", __doc__, rounds=7)
    parser.add_argument("--pictures", type=harness.positive, default=2048, metavar="N",
                        help="of an epoch (default: 2048)")  # fmt: skip
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = harness.parse(parser, arguments)
    if args.child:
        return child(args.child)
    told = harness.record("processes", arguments, torch.device("cpu"), pictures=args.pictures,
                          rounds=args.rounds)  # fmt: skip
    told["rows"] = [row for case in CASES if case.name in CHOSEN
                    for row in compare(case, args.rounds, args.pictures)]  # fmt: skip
    told["exchange"] = exchanges(args.rounds)
    harness.write_key(args.out, "processes", told)
    print(table(told), exchange_table(told), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
