"""The command: python -m tools.torture (see the package)."""

import argparse
import faulthandler
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from expression.files import atomic_write, shown
from expression.terminal import escape_unprintable
from tools.torture import record
from tools.torture.cases import Outcome, judge
from tools.torture.page import TITLES, page
from tools.torture.pool import load_attack, run_cases

FILES = ("pictures", "videos", "checkpoints", "onnx_files", "states", "data")  # broken files
EVERY = 30.0  # seconds between two lines of progress


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=list(TITLES), default=list(TITLES), metavar="ATTACK",
        help=f"some of: {', '.join(TITLES)}")  # fmt: skip
    add("--share", type=float, default=1.0, help="of each attack's length (default: 1)")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=2, help="processes side by side (default: 2)")
    add("--case", type=int, help="one case again, in this process; nothing is recorded")
    add("--missing", action="store_true", help="only what the record does not hold yet")
    add(
        "--out",
        type=Path,
        default=record.ROOT / "results",
        help="folder of torture.json, TORTURE.md",
    )
    args = parser.parse_args(arguments)
    if not 0 < args.share <= 1 or args.workers < 1:
        parser.error("--share is above 0 and at most 1, --workers 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where there was a fault."""
    escape_unprintable()
    args = options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes are ended in `finally`
    if args.case is not None:
        return one_case(args)
    words = " ".join(sys.argv[1:] if arguments is None else arguments)
    try:
        return attack(args, f"python -m tools.torture {words}".strip())
    except KeyboardInterrupt:
        print("interrupted; the attacks that ended are kept (--missing goes on)", file=sys.stderr)
        return 130


def attack(args: argparse.Namespace, command: str) -> int:
    """Run the attacks and keep each one's figures as it ends; 1 where there was a fault."""
    kept = record.read(args.out / "torture.json")
    faults = 0
    for name in args.only:
        if args.missing and name in kept:
            continue
        print(f"{name}: {TITLES[name]}", flush=True)
        tally = record.Tally(name, args.seed)
        if name in FILES:
            break_files(tally, args)
        else:
            import_module(f"tools.torture.{name}").run(tally, args.share, args.workers)
        kept[name] = tally.entry(command)
        record.write(args.out / "torture.json", kept)
        with atomic_write(args.out / "TORTURE.md") as file:
            file.write(page(kept).encode("utf-8", "backslashreplace"))
        faults += len(tally.faults)
        print(line(tally), flush=True)
        for fault in tally.faults[:10]:
            print(f"  {fault['case']}: {shown(' '.join(fault['what'].split()))}")
    return 1 if faults else 0


def break_files(tally: record.Tally, args: argparse.Namespace) -> None:
    """All cases of an attack with files, with a line of progress now and then."""
    count = import_module(f"tools.torture.{tally.name}").Attack.count
    count = max(round(count * args.share), 1)
    told = time.monotonic()

    def tell(outcome: Outcome) -> None:
        nonlocal told
        tally.add(outcome)
        if time.monotonic() - told > EVERY:
            told = time.monotonic()
            print(f"  {line(tally)} (of {count:,})", flush=True)

    run_cases(tally.name, range(count), args.seed, args.workers, tell)


def line(tally: record.Tally) -> str:
    slowest = f", slowest {tally.slowest.seconds:.1f} s" if tally.slowest else ""
    peak = f", at most {tally.peak.peak_mb:.0f} MB" if tally.peak else ""
    return (
        f"{tally.tried:,} tried, {tally.answered:,} answered, {tally.refused:,} refused, "
        f"{len(tally.faults)} faults, {time.monotonic() - tally.started:.0f} s{slowest}{peak}"
    )


def one_case(args: argparse.Namespace) -> int:
    """One case, with all that there is to see."""
    if len(args.only) != 1 or args.only[0] not in FILES:
        print(f"--case needs --only with one of {', '.join(FILES)}", file=sys.stderr)
        return 2
    faulthandler.dump_traceback_later(10, repeat=True)
    scratch = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        outcome = judge(load_attack(args.only[0], scratch), args.only[0], args.case, args.seed,
                        scratch)  # fmt: skip
    finally:
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(scratch, ignore_errors=True)
    told = f"{outcome.verdict}: {outcome.words}"
    print(shown(f"{told} ({outcome.seconds:.2f} s, {outcome.peak_mb:.0f} MB)"))
    return 1 if outcome.verdict == "fault" else 0


if __name__ == "__main__":
    sys.exit(main())
