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
from benchmarks.trial_summary import BASE
from benchmarks.trials import Arm, Trials, open_trials, options, run_pairs

__all__ = ["PUBLISHED", "CLEANED", "main"]

LEARNING = {"heads": ("label",), "epochs": 12}
PUBLISHED = Arm(BASE, "labels as published", LEARNING)
CLEANED = Arm("cleaned", "labels as cleaned", LEARNING)
FILE = harness.ROOT / "results" / "cleaned_labels-fer2013.csv"


def open_ways(args: argparse.Namespace) -> list[tuple[Arm, Trials]]:
    """The two ways to label, each with its data; the validation splits that judge are the same."""
    published = open_trials(args, PUBLISHED, "cleaned_labels")
    votes = {"votes": args.votes} if args.votes else {}
    cleaned = subjects.read(args.data, cleaned_labels=args.cleaned_labels, **votes)
    return [(PUBLISHED, published), (CLEANED, replace(published, faces=cleaned))]


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = options("cleaned_labels", __doc__)
    parser.add_argument(
        "--cleaned-labels", type=Path, default=FILE, metavar="FILE",
        help=f"default: results/{FILE.name}",
    )  # fmt: skip
    args = harness.parse(parser, arguments)
    ways = open_ways(args)
    (_, published), (_, cleaned) = ways
    out = harness.output(parser, args, published.runs / "cleaned_labels.json")
    about = harness.record("cleaned_labels", arguments, args.device)
    before, after = published.faces.labels("train"), cleaned.faces.labels("train")
    about["settings"] = {
        "file": {"name": args.cleaned_labels.name, "sha256": cleaned.faces.cleaned},
        "replaced": int((before != after).sum()), "of": len(before),
    }  # fmt: skip
    run_pairs(ways, args.seeds, about, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
