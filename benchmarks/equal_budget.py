"""Every system with the same minutes: the same data, one thread, and three seeds.

    python -m benchmarks.equal_budget --data path/to/fer2013
    python -m benchmarks.equal_budget --data path/to/fer2013 --only tinyvgg --only expression
    python -m benchmarks.equal_budget --data path/to/fer2013 --final    also the test split
    python -m benchmarks.equal_budget ... --quick                       does it run? 300 faces

Each recipe that needs nothing but the data trains from random weights. A few of its steps are
timed; it gets as many epochs as fit into the minutes, with one cycle of the learning rate, in
float32, and the last epoch is kept. A system without epochs sees as many faces as fit; one that
needs far longer than the minutes for a single epoch is left out, and the table says so. The plan is
written to RUNS/plan.json once and holds for all seeds; the minutes that were then taken are
told beside. Best planned on an idle machine.

Judged on validation; with --final on test too, which is logged in RUNS/results. Every run
writes one JSON below --runs; what is there is not run again, and a run that was cut short goes on
after its last epoch. All systems run with seed 0, then with seed 1, and so on.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import harness, subjects
from benchmarks.budget_plan import Planned, Planner, reasons_to_leave_out
from benchmarks.budget_summary import TOLERANCE, summarise, table
from benchmarks.trials import all_records, check_same

if TYPE_CHECKING:
    from lab.data import Faces

__all__ = ["LEFT_OUT", "SYSTEMS", "EqualBudget"]

LEFT_OUT = reasons_to_leave_out(subjects.RECIPES)
SYSTEMS = tuple(name for name in subjects.RECIPES if name not in LEFT_OUT)
MINUTES, QUICK_MINUTES = 10.0, 0.05
VIEWS = "plain"  # one view of a face: no test-time augmentation


@dataclass(frozen=True)
class EqualBudget:
    """What the runs share."""

    faces: "Faces"
    device: torch.device
    runs: Path  # one JSON a run, the plan, and what the trainings write
    planner: Planner
    final: bool

    def run(self, name: str, seed: int) -> dict[str, Any]:
        """The record of one run: read where it is there, else trained, measured and written.

        With `final` a run that was not yet measured on the test split is, once.
        Raises ValueError where the file is of other settings.
        """
        path, planned = self.runs / f"{name}-seed{seed}.json", self.planner.plan(name)
        settings = {
            "system": name, "seed": seed, "recipe": planned.recipe.as_dict(),
            "budget": self.planner.minutes, "fingerprint": self.faces.fingerprint,
        }  # fmt: skip
        known = harness.read_json(path)
        if known is not None:
            check_same(path, known["settings"], settings)
            if not self.final or "test" in known["figures"]:
                return known
        checkpoint = self.checkpoint(name, planned, seed)
        about = known or harness.record("equal_budget", ["--only", name], self.device)
        told = {**about, "settings": settings, "planned_minutes": planned.minutes}
        told |= self.measure(checkpoint)
        harness.write_json(path, told)
        return told

    def checkpoint(self, name: str, planned: Planned, seed: int) -> Path:
        """The trained network; a run that was cut short goes on after its last epoch."""
        recipe = planned.recipe
        run = subjects.Run(
            name, recipe, self.faces, seed, self.device,
            self.runs / "runs" / name / f"seed{seed}", self.runs,
            f"python -m benchmarks.equal_budget --only {name}",
        )  # fmt: skip
        if run.checkpoint.exists():  # trained, but not measured yet
            before = subjects.read_card(run.checkpoint)["recipe"]
            check_same(run.checkpoint, {"recipe": before}, {"recipe": recipe.as_dict()})
            return run.checkpoint
        print(f"{name}, seed {seed}: {recipe.epochs} epochs", flush=True)
        rule, train = subjects.preprocess(recipe), subjects.train_network
        if not recipe.epochs:
            train = subjects.train_svm
        with subjects.TensorBoardLog(run.folder / "board", self.faces.class_names, rule) as board:
            return train(run, board)

    def measure(self, checkpoint: Path) -> dict[str, Any]:
        """Measure a network through the laboratory's own evaluation, which keeps its answers face
        by face and logs that the test split is looked at."""
        folder = subjects.evaluate_checkpoint(
            checkpoint, self.faces, self.runs, self.device, ways=(VIEWS,), final=self.final
        )
        card = subjects.read_card(checkpoint)
        figures = {}
        for result in self.results(checkpoint):
            told = result.evaluation
            figures[result.key.split] = {
                "k": told.k, "n": told.n, "accuracy": told.accuracy, "macro_f1": told.macro_f1,
            }  # fmt: skip
        about = harness.read_json(folder / "checkpoint.json")
        assert about is not None  # evaluating wrote it
        return {"checkpoint": checkpoint.name, "sha256": about["sha256"],
                "minutes": card["minutes"], "parameters": about["parameters"],
                "figures": figures}  # fmt: skip

    def results(self, checkpoint: Path) -> list[Any]:
        """What was measured of a network on these faces, a result for each split."""
        found = subjects.Results(self.runs / "results").measured(checkpoint)
        return [result for result in found
                if result.key.fingerprint == self.faces.fingerprint
                and result.key.views == VIEWS]  # fmt: skip

    def right_answers(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """{split: bool (n,)}: which faces a run's network answers right."""
        found = {}
        for result in self.results(self.runs / "checkpoints" / record["checkpoint"]):
            told = result.answers
            found[result.key.split] = told.probabilities.argmax(1) == told.labels
        return found

    def summary(self) -> dict[str, Any]:
        """Of all runs that are done, those of other calls too."""
        records = all_records(self.runs)
        told = summarise([(record, self.right_answers(record)) for record in records])
        openings = subjects.Results(self.runs / "results").openings()
        kept = ("date", "checkpoint", "sha256", "data", "fingerprint")
        told["openings"] = [{key: asdict(o)[key] for key in kept} for o in openings]
        return told


# --- the command line ---


def options() -> argparse.ArgumentParser:
    parser = harness.parser("equal_budget", __doc__, "FER2013: folder, CSV or .npz")
    parser.set_defaults(threads=1)
    add = parser.add_argument
    add("--minutes", type=minutes, metavar="N", help=f"of each training (default: {MINUTES:g})")
    add("--seeds", type=harness.positive, default=3, help="default: 3")
    add("--only", action="append", choices=SYSTEMS, metavar="NAME", help=f"of {', '.join(SYSTEMS)}")
    add("--runs", type=Path, metavar="FOLDER", help="default: out/equal_budget")
    add("--final", action="store_true", help="read the test split: once, when all is decided")
    add("--quick", action="store_true",
        help="300 faces, 3 seconds each, below out/quick-equal_budget: does it run?")  # fmt: skip
    return parser


def too_slow(planned: Mapping[str, float], budget: float) -> dict[str, str]:
    """{system: why it is left out}: those whose shortest training takes far more minutes."""
    return {name: f"needs {needed:.0f} minutes for its shortest training"
            for name, needed in planned.items() if needed > (1 + TOLERANCE) * budget}  # fmt: skip


def minutes(text: str) -> float:
    """A number above 0, for argparse."""
    if not (value := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{value:g} is not above 0")
    return value


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = options()
    args = harness.parse(parser, arguments)
    if args.quick and args.final:
        raise ValueError("--quick gives no result, so it does not read the test split (--final)")
    runs = args.runs or Path("out/quick-equal_budget" if args.quick else "out/equal_budget")
    budget = args.minutes or (QUICK_MINUTES if args.quick else MINUTES)
    faces = subjects.read(args.data)
    planner = Planner(runs / "plan.json", faces, args.device, budget, args.quick)
    trained = EqualBudget(faces, args.device, runs, planner, args.final)
    out = harness.output(parser, args, runs / "equal_budget.json")
    about = harness.record("equal_budget", arguments, args.device)
    # all plans first, one after another, while the machine is as it is
    planned = {name: planner.plan(name).minutes for name in args.only or SYSTEMS}
    slow = {} if args.quick else too_slow(planned, budget)
    names = [name for name in planned if name not in slow]
    if not names:
        told = "; ".join(f"{name} {reason}" for name, reason in slow.items())
        raise ValueError(f"{budget:g} minutes are too few: {told}; give more --minutes")
    about["settings"] = {
        "minutes": budget, "tolerance": TOLERANCE, "data": faces.name,
        "fingerprint": faces.fingerprint, "left_out": LEFT_OUT | slow,
    }  # fmt: skip
    for seed in range(args.seeds):
        for name in names:
            trained.run(name, seed)
        told = {**about, **trained.summary()}
        harness.write_json(out, told)
    for split in told["splits"]:
        print(f"{split}\n\n{table(told, split)}\n")
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
