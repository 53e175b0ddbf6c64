"""What cleaned labels buy: the same training with labels as published and as cleaned.

    python -m benchmarks.cleaned_labels --data path/to/fer2013 --votes path/to/fer2013new.csv \\
        --also path/to/muxspace
    python -m benchmarks.cleaned_labels ... --quick     does it run? a few hundred faces

A file of cleaned labels (`experiments.py label_noise` writes one) replaces training labels which
the crowd and a network contradict. The network is that of the paired trials, with the head of
labels alone and twice the epochs, in which it has more time to learn wrong labels by heart.
Validation labels stay as published, and so does the rest; pairs share their seed.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import harness, subjects
from benchmarks.trial_summary import BASE, summarise, table
from benchmarks.trials import Arm, Trials, Yardsticks, all_records, recipe_of

__all__ = ["PUBLISHED", "CLEANED", "main"]

LEARNING = {"heads": ("label",), "epochs": 12}
PUBLISHED = Arm(BASE, "labels as published", LEARNING)
CLEANED = Arm("cleaned", "labels as cleaned", LEARNING)
FILE = harness.ROOT / "results" / "cleaned_labels-fer2013.csv"


def options() -> argparse.ArgumentParser:
    parser = harness.parser("cleaned_labels", __doc__, "FER2013: folder or CSV")
    parser.set_defaults(threads=1)
    add = parser.add_argument
    add("--votes", type=Path, metavar="FILE", help="FER+'s votes, fer2013new.csv")
    add("--cleaned-labels", type=Path, default=FILE, metavar="FILE",
        help=f"default: results/{FILE.name}")  # fmt: skip
    add("--also", metavar="PATH", help="data set abroad, which nothing trains on: Muxspace")
    add("--seeds", type=harness.positive, default=3, help="default: 3")
    add("--runs", type=Path, metavar="FOLDER", help="default: out/cleaned_labels")
    add(
        "--quick",
        action="store_true",
        help="a few hundred faces, below out/quick-cleaned_labels: does it run?",
    )
    return parser


def open_trials(args: argparse.Namespace) -> list[tuple[Arm, Trials]]:
    """The two ways to label, each with its data; the validation splits that judge are the same."""
    votes = {"votes": args.votes} if args.votes else {}
    published = subjects.read(args.data, **votes)
    cleaned = subjects.read(args.data, cleaned_labels=args.cleaned_labels, **votes)
    abroad = subjects.read(args.also) if args.also else None
    recipe = recipe_of(PUBLISHED, args.quick)
    yardsticks = Yardsticks.of(published, abroad, recipe, args.device)
    runs = args.runs or Path("out/quick-cleaned_labels" if args.quick else "out/cleaned_labels")
    first = Trials(published, abroad, yardsticks, args.device, runs, args.quick, "cleaned_labels")
    return [(PUBLISHED, first), (CLEANED, replace(first, faces=cleaned))]


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = options()
    args = harness.parse(parser, arguments)
    ways = open_trials(args)
    (_, published), (_, cleaned) = ways
    out = harness.output(parser, args, published.runs / "cleaned_labels.json")
    about = harness.record("cleaned_labels", arguments, args.device)
    before, after = published.faces.labels("train"), cleaned.faces.labels("train")
    about["settings"] = {
        "recipe": recipe_of(PUBLISHED, args.quick).as_dict(),
        "arms": {arm.name: {"title": arm.title} for arm, _ in ways},
        "file": {"name": args.cleaned_labels.name, "sha256": cleaned.faces.cleaned},
        "replaced": int((before != after).sum()), "of": len(before),
    }  # fmt: skip
    for seed in range(args.seeds):
        for arm, trials in ways:
            trials.run(arm, seed)
            told = {**about, "arms": summarise(all_records(published.runs))}
            harness.write_json(out, told)
    print(f"{table(told)}\nwrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
