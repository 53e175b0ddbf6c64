"""Shared by every benchmark: fair timing, a record of the conditions, and the command line.

Why: a machine speeds up and slows down within minutes, so two ways of doing a thing are timed in
turns, round by round, and compared by the ratios within each round. A time alone says little, so
every JSON file also holds the command, the revision, the versions and the hardware.
"""

import argparse
import functools
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from typing import Any, Protocol

import torch

from benchmarks.subjects import atomic_write
from expression.files import shown_lines
from expression.terminal import escape_unprintable

__all__ = [
    "Timing", "child_rows", "described", "exit_code", "markdown_table", "measure_rows",
    "output", "paired_rounds", "parse", "parser", "positive", "rates_cell", "ratios", "read_json",
    "record", "reply_to_parent", "seconds_of", "synchronize", "time_calls", "write_json",
    "write_key",
]  # fmt: skip


class Main(Protocol):
    """A program's main function: arguments, by default the process's, → exit code."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int: ...


HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


# --- timing ---


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the median of the rounds, the fastest and the slowest round."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        return cls(median(seconds), min(seconds), max(seconds))

    def milliseconds(self) -> str:
        """'2.07 (2.06–2.1)': median and range in ms."""
        low, mid, high = (f"{1000 * t:.3g}" for t in (self.min, self.median, self.max))
        return f"{mid} ({low}–{high})"

    def per_second(self, count: int) -> str:
        """'611 (611–618)': how many of `count` things done in one call are done in a second."""
        low, mid, high = (f"{count / t:,.0f}" for t in (self.max, self.median, self.min))
        return f"{mid} ({low}–{high})"


def synchronize(device: torch.device) -> None:
    """Wait for the GPU before the clock is read: its calls return early."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """Seconds for one call, averaged over `calls` calls in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def calls_in(call: Callable[[], Any], seconds: float, device: torch.device) -> int:
    """How many calls fill `seconds`, at least one; the first call warms up and does not count."""
    call()
    return max(1, round(seconds / max(seconds_of(call, device), 1e-9)))


def paired_rounds(
    ways: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """What each way returned in each round: {name: [first round, second round, …]}.

    Every round calls every way once. Every other round goes in reverse order (A B, B A, A B, …),
    so that no way always comes first. The first `warm_up` rounds do not count.
    """
    names = list(ways)
    results: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm_up + rounds):
        for name in names if number % 2 == 0 else reversed(names):
            value = ways[name]()
            if number >= warm_up:
                results[name].append(value)
    return results


def time_calls(
    ways: Mapping[str, Callable[[], Any]], device: torch.device, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds for one call of each way in each round; a way's turn lasts about `seconds`."""
    counts = {name: calls_in(call, seconds, device) for name, call in ways.items()}

    def turn(name: str) -> float:
        ways[name]()  # the caches are the other way's until now
        return seconds_of(ways[name], device, counts[name])

    return paired_rounds({name: functools.partial(turn, name) for name in ways}, rounds, 0)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """ours / theirs of each round; ValueError when the rounds do not pair."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


# --- the record ---


def processor() -> str:
    """The processor's name as the operating system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(packages: Iterable[str]) -> dict[str, str]:
    """{package: version} of those packages that are installed, and Python's own version."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def record(
    program: str, arguments: Sequence[str] | None, device: torch.device,
    packages: Iterable[str] = (), /, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """What a run's figures depend on: command, revision, date, hardware, versions, settings."""
    from benchmarks.subjects import revision

    cuda, given = device.type == "cuda", sys.argv[1:] if arguments is None else arguments
    # Without the folders of this machine: of an absolute path the last part is kept.
    words = [Path(word).name if Path(word).is_absolute() else word for word in given]
    return {
        "command": " ".join([f"python -m benchmarks.{program}", *words]),
        "revision": revision(),
        "date": date.today().isoformat(),
        "machine": {
            "device": torch.cuda.get_device_name(device) if cuda else processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": installed(packages),
        "settings": settings,
    }


def described(told: Mapping[str, Any]) -> str:
    """A record's conditions in a few words, for a page."""
    machine = told["machine"]
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    torch_version = f"torch {told['versions']['torch']}"
    return f"{machine['device']}, {threads}, {torch_version}, {told['date']}"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that readers see either the old one or the whole new one."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def write_key(path: Path, key: str, content: Any) -> None:
    """Replace one key of a JSON file that several programs write, each its own."""
    write_json(path, {**(read_json(path) or {}), key: content})


def read_json(path: Path) -> dict[str, Any] | None:
    """A file that `write_json` wrote; None where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_record(program: str) -> dict[str, Any] | None:
    """What `benchmarks/PROGRAM.json` holds; None where the program was not run yet."""
    return read_json(HERE / f"{program}.json")


def measure_rows(
    out: Path, about: dict[str, Any], rows: Iterable[dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
) -> int:  # fmt: skip
    """Write the record again after each row, so that an interrupted run loses one row only."""
    content: dict[str, Any] = {**about, "rows": []}
    for row in rows:
        content["rows"].append(row)
        write_json(out, content)
        print(table({**content, "rows": [row]}).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(content))
    return 0


# --- tables ---


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a cell's own | is replaced, because it would begin another cell."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def rates_cell(rates: Sequence[float], digits: int = 0) -> str:
    """'429 (353–527)': the median of some rates, the lowest and the highest."""
    low, mid, high = (f"{r:,.{digits}f}" for r in (min(rates), median(rates), max(rates)))
    return f"{mid} ({low}–{high})"


# --- the command line ---


def parser(
    program: str, text: str | None, data: str = "", rounds: int = 0, seconds: float = 0.0
) -> argparse.ArgumentParser:
    """The options that programs share; `data` is the help of --data, "" where there is none."""
    cuda = "cuda" if torch.cuda.is_available() else "cpu"
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{program}", description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    if data:
        add("--data", required=True, metavar="PATH", help=data)
    if rounds:
        add("--rounds", type=positive, default=rounds, help=f"default: {rounds}")
    if seconds:
        add("--seconds", type=float, default=seconds, help=f"of one turn (default: {seconds})")
    add("--device", type=torch.device, default=torch.device(cuda), help=f"default: {cuda}")
    add("--threads", type=positive, metavar="N", help="default: torch's choice")
    add("--out", type=Path, default=HERE / f"{program}.json", metavar="FILE", help="JSON to write")
    return made


def output(parser: argparse.ArgumentParser, args: argparse.Namespace, trial: Path) -> Path:
    """Where a program writes its JSON: --out, but of a --quick run without it `trial`, because a
    trial of the program is no result."""
    return trial if args.quick and args.out == parser.get_default("out") else Path(args.out)


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The parsed options, after --threads has been applied."""
    args = made.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def exit_code(main: Main) -> Main:
    """A command that prints what was missing or wrong and returns 2, without a traceback.

    What it prints may hold any character, whatever the terminal can show.
    """

    @functools.wraps(main)
    def wrapped(arguments: Sequence[str] | None = None) -> int:
        escape_unprintable()
        try:
            return main(arguments)
        except (OSError, ValueError, ImportError) as error:
            print(f"error: {shown_lines(error)}", file=sys.stderr)
            return 2

    return wrapped


# --- a process of its own ---


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child_rows(program: str, task: Any, *options: str) -> Generator[dict[str, Any], None, None]:
    """Run `python -m benchmarks.PROGRAM --child TASK OPTIONS`; yields each row that it replies.

    The process works only while the next row is awaited. Raises ChildProcessError when it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{program}", "--child", json.dumps(task)]
    command += options
    with Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin and process.stdout
        while line := process.stdout.readline():
            yield json.loads(line)
            process.stdin.write("\n")
            process.stdin.flush()
    if process.returncode:
        raise ChildProcessError(f"the process of {program} ended with code {process.returncode}")


def reply_to_parent(rows: Iterable[dict[str, Any]]) -> int:
    """The child's side of `child_rows`: print a row, wait until the next one is wanted."""
    for row in rows:
        print(json.dumps(row), flush=True)
        if not sys.stdin.readline():
            break
    return 0
