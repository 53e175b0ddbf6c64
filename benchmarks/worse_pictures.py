"""What training on worse pictures buys: with darkness, blur and noise beside the usual changes.

    python -m benchmarks.worse_pictures --data path/to/fer2013 --votes path/to/fer2013new.csv \\
        --also path/to/muxspace
    python -m benchmarks.worse_pictures ... --quick     does it run? a few hundred faces

The network and the schedule are those of the paired trials, with heads for labels and votes; pairs
share their seed. Beside what judges there: accuracy on worse pictures, the mean over the nine
corruptions of `lab.corruptions` at five severities. Darkness, blur and noise are what the second
network trained on, shift and scale what both did; nobody trained on the others.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import harness, subjects
from benchmarks.trial_summary import BASE
from benchmarks.trials import Arm, Trials, open_trials, options, run_pairs

__all__ = ["USUAL", "WORSE", "main"]

JUDGED_ON = 1656  # faces that are not in train too, as the committed networks' robustness is
USUAL = Arm(BASE, "pictures turned, moved and mirrored")
CHANGES = subjects.RECIPES["expression_small"].augment or subjects.Augment()
WORSE = Arm(
    "worse", "darker, blurred and with noise too",
    {"augment": replace(CHANGES, darkness=0.9, blur=0.04, noise=0.15)},
)  # fmt: skip


@dataclass(frozen=True)
class WorsePictureTrials(Trials):
    """Paired trials that are judged on worse pictures too."""

    def figures(self, checkpoint: Path, prior_correction: float) -> dict[str, dict[str, Any]]:
        found = super().figures(checkpoint, prior_correction)
        model, _, rule = subjects.load_model(checkpoint, self.device)
        rows = subjects.rows_of(self.faces, "validation", JUDGED_ON)
        right = subjects.right_answers(model, rule, self.faces, "validation", rows, self.device)
        right.pop("clean")
        found["combined"]["worse_pictures"] = mean(float(each.mean()) for each in right.values())
        return found


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = options("worse_pictures", __doc__)
    args = harness.parse(parser, arguments)
    trials = open_trials(args, USUAL, "worse_pictures")
    trials = WorsePictureTrials(**vars(trials))
    out = harness.output(parser, args, trials.runs / "worse_pictures.json")
    about = harness.record("worse_pictures", arguments, args.device)
    about["settings"] = {"judged_on": JUDGED_ON}
    run_pairs([(USUAL, trials), (WORSE, trials)], args.seeds, about, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
