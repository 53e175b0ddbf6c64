"""Paired trials of the recipe: each setting against the same training without it, same seeds.

    python -m benchmarks.trials --data path/to/fer2013 --votes path/to/fer2013new.csv \\
        --also path/to/muxspace --seeds 3
    python -m benchmarks.trials ... --only mixup --only average     these arms alone
    python -m benchmarks.trials ... --quick                         does it run? a few hundred faces

A short schedule: `expression_small` at 32 px for 6 epochs of all training faces, one thread,
float32, the last epoch kept. Judged on validation splits, by FER2013's labels and FER+'s votes, and
abroad by Muxspace. No arm trains on that, so its train split judges too: its validation split has
3 faces of fear, each of which moves the mean recall by 5.6 points.

Every run writes one JSON file below --runs; what is there is not run again, and a run that was cut
short goes on after its last epoch. All arms run with seed 0, then with seed 1, and so on, so that a
part of it is a whole comparison.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks import harness, subjects
from benchmarks.subjects import train_network  # loads all of it now: files may change in hours
from benchmarks.trial_summary import BASE, head_table, summarise, table

if TYPE_CHECKING:
    from hf_collate import Batches
    from lab.data import Faces
    from lab.recipe import Recipe

__all__ = ["ARMS", "Arm", "Trials", "check_same", "open_trials", "options", "run_pairs"]

QUICK = {"limit": 300, "limit_eval": 200, "epochs": 2}


@dataclass(frozen=True)
class Arm:
    """One change of the base recipe. With `measured_on` nothing is trained: the network of that
    arm answers with the changed setting."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    measured_on: str = ""


ARMS = {
    arm.name: arm
    for arm in (
        Arm(BASE, "base: heads for label and votes"),
        Arm("label_only", "label head alone", {"heads": ("label",)}),
        Arm("average", "weight averaging, 0.995", {"average": 0.995}),
        Arm("mixup", "mixup, 0.2", {"mixup": 0.2}),
        Arm("same_view", "teacher at the same view, weight 0.6",
            {"teacher": "checkpoints/expression-fer2013.safetensors", "teacher_weight": 0.6,
             "teacher_view": "same"}),
        Arm("weighted_sampling", "weighted sampling, 1", {"weighted_sampling": 1.0}),
        Arm("focal", "focal loss, gamma 2", {"focal_gamma": 2.0}),
        Arm("unaugmented", "last 2 epochs unaugmented", {"final_unaugmented_epochs": 2}),
        Arm("prior_correction", "prior correction, 0.25", {"prior_correction": 0.25}, BASE),
        Arm("label_smoothing", "label smoothing, 0.1", {"label_smoothing": 0.1}),
    )
}  # fmt: skip


def recipe_of(arm: Arm, quick: bool = False) -> "Recipe":
    """The settings of an arm's training."""
    base = replace(
        subjects.RECIPES["expression_small"], size=32, progressive_sizes=(), epochs=6,
        final_unaugmented_epochs=0, heads=("label", "votes"), keep="last", precision="float32",
    )  # fmt: skip
    return replace(base, **{**(QUICK if quick else {}), **arm.changes})


# --- measuring ---


@dataclass(frozen=True)
class Yardsticks:
    """The validation splits that judge, decoded once, as every arm sees them."""

    home: "Batches"
    counts: Tensor  # FER+'s votes of the home faces (N, 10)
    vote_names: tuple[str, ...]
    class_names: Sequence[str]
    abroad: "Mapping[str, Batches]"  # measure → loader; empty without such data

    @classmethod
    def of(cls, faces: "Faces", abroad: "Faces | None", recipe: "Recipe",
           device: torch.device) -> "Yardsticks":  # fmt: skip
        """Raises ValueError where the data have no votes."""
        if (votes := faces.vote_counts("validation")) is None:
            raise ValueError(f"{faces.name} has no votes; give FER+'s file with --votes PATH")
        home, others = loader(faces, "validation", recipe, device), {}
        if abroad is not None:
            known = abroad.with_classes(faces.class_names, faces.name, subset=True)
            others = {f"abroad_{split}": loader(known, split, recipe, device)
                      for split in ("validation", "train")}  # fmt: skip
        return cls(home, votes[0][home.rows], votes[1], faces.class_names, others)

    def figures(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """{measure: figure} of a network's answer; shares in [0, 1], losses in nats. `recalls` has
        the recall of each class abroad, of which some have few faces."""
        logits, labels = subjects.collect(model, self.home, device)
        told = subjects.evaluate(logits, labels, self.class_names)
        crowd = subjects.crowd_figures(logits, self.counts, self.vote_names, self.class_names)
        found = {"accuracy": told.accuracy, "nll": told.loss,
                 "majority": crowd["majority"]["accuracy"],
                 "vote_cross_entropy": crowd["cross_entropy"], "recalls": {}}  # fmt: skip
        for name, batches in self.abroad.items():
            logits, labels = subjects.collect(model, batches, device)
            recalls = recalls_of(subjects.evaluate(logits, labels, self.class_names))
            found["recalls"][name] = recalls
            found[name] = mean(recalls.values())
        return found


def loader(faces: "Faces", split: str, recipe: "Recipe", device: torch.device) -> "Batches":
    """A split as the networks see it, or the part of it that the recipe's `limit_eval` allows."""
    decoded, limit = faces.decoded(subjects.preprocess(recipe))[split], recipe.limit_eval
    rows = subjects.subset_indices(len(decoded), limit) if limit else None
    return subjects.Batches(decoded, 256, device=device, indices=rows)


def recalls_of(told: Any) -> dict[str, float]:
    """Recall of the classes that have faces, disgust left out; answers that name it are wrong."""
    left, per_class = subjects.UNCERTAIN["muxspace"], told.per_class().items()
    return {name: f["recall"] for name, f in per_class if f["support"] and name not in left}


def measure(
    checkpoint: Path, yardsticks: Yardsticks, prior_correction: float, device: torch.device
) -> dict[str, dict[str, Any]]:
    """{answer: {measure: figure}}: of the served answer and of each head alone."""
    model, _, _ = subjects.load_model(checkpoint, device)
    heads = model.answer.weights
    if len(heads) == 1 and prior_correction:
        raise ValueError(f"{checkpoint} has one head; a correction is measured on several")
    ways = {"combined": heads}
    ways |= {head: {name: float(name == head) for name in heads} for head in heads}
    found = {}
    model.answer.prior_correction = prior_correction
    for name, weights in ways.items():
        model.answer.weights = weights
        found[name] = yardsticks.figures(model, device)
    return found


# --- one run ---


@dataclass(frozen=True)
class Trials:
    """What the runs share."""

    faces: "Faces"
    abroad: "Faces | None"
    yardsticks: Yardsticks
    device: torch.device
    runs: Path  # one JSON a run, and what the trainings write
    quick: bool
    program: str = "trials"  # of this folder, which runs them

    def run(self, arm: Arm, seed: int) -> dict[str, Any]:
        """The record of one run: read where it is there, else trained, measured and written.

        Raises ValueError where the file is of other settings.
        """
        path = self.runs / f"{arm.name}-seed{seed}.json"
        recipe = recipe_of(arm, self.quick)
        settings = {
            "arm": arm.name, "seed": seed, "recipe": recipe.as_dict(),
            "fingerprint": self.faces.fingerprint,
            "abroad": self.abroad.fingerprint if self.abroad else None,
        }  # fmt: skip
        if (known := harness.read_json(path)) is not None:
            check_same(path, known["settings"], settings)
            return known
        if arm.measured_on:
            source = ARMS[arm.measured_on]
            self.run(source, seed)
            checkpoint = self.checkpoint(source, seed)
        else:
            checkpoint = self.train(arm, recipe, seed)
        card = subjects.read_card(checkpoint)
        figures = self.figures(checkpoint, recipe.prior_correction)
        about = harness.record(self.program, self.words(arm), self.device)
        told = {**about, "settings": settings, "minutes": card["minutes"], "figures": figures}
        harness.write_json(path, told)
        return told

    def figures(self, checkpoint: Path, prior_correction: float) -> dict[str, dict[str, Any]]:
        """What judges a trained network: {answer: {measure: figure}}."""
        return measure(checkpoint, self.yardsticks, prior_correction, self.device)

    def checkpoint(self, arm: Arm, seed: int) -> Path:
        return self.describe(arm, recipe_of(arm, self.quick), seed).checkpoint

    def describe(self, arm: Arm, recipe: "Recipe", seed: int) -> Any:
        return subjects.Run(
            arm.name, recipe, self.faces, seed, self.device,
            self.runs / "runs" / arm.name / f"seed{seed}", self.runs,
            " ".join([f"python -m benchmarks.{self.program}", *self.words(arm)]),
        )  # fmt: skip

    def words(self, arm: Arm) -> list[str]:
        """What is said on the command line to run this arm alone."""
        return ["--only", arm.name] if self.program == "trials" else []

    def train(self, arm: Arm, recipe: "Recipe", seed: int) -> Path:
        """The trained network; a run that was cut short goes on after its last epoch."""
        run = self.describe(arm, recipe, seed)
        if run.checkpoint.exists():  # trained, but not measured yet
            before = subjects.read_card(run.checkpoint)["recipe"]
            check_same(run.checkpoint, {"recipe": before}, {"recipe": recipe.as_dict()})
            return run.checkpoint
        print(f"{arm.name}, seed {seed}", flush=True)
        rule = subjects.preprocess(recipe)
        with subjects.TensorBoardLog(run.folder / "board", self.faces.class_names, rule) as board:
            return train_network(run, board)


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError naming the settings in which a file differs from what is wanted now."""
    read = subjects.Recipe.from_dict
    known = {**before, **read(before["recipe"]).as_dict()}
    wanted = json.loads(json.dumps({**now, **read(now["recipe"]).as_dict()}))
    known = json.loads(json.dumps(known))
    other = [k for k in wanted if k != "recipe" and known.get(k) != wanted[k]]
    if other:
        raise ValueError(f"{path} is of another {', '.join(other)}; give another --runs")


# --- the command line ---


def options(program: str, about: str | None) -> argparse.ArgumentParser:
    """The options of a program of paired trials; `about` is its docstring."""
    parser = harness.parser(program, about, "FER2013: folder, CSV or .npz")
    parser.set_defaults(threads=1)
    add = parser.add_argument
    add("--votes", type=Path, metavar="FILE", help="FER+'s votes, fer2013new.csv")
    add("--also", metavar="PATH", help="data set abroad, which no arm trains on: Muxspace")
    add("--seeds", type=harness.positive, default=3, help="default: 3")
    add("--runs", type=Path, metavar="FOLDER", help=f"default: out/{program}")
    add(
        "--quick",
        action="store_true",
        help=f"a few hundred faces and 2 epochs below out/quick-{program}: does it run?",
    )
    return parser


def open_trials(args: argparse.Namespace, base: Arm, program: str) -> Trials:
    """Read the data that the options name; `base` says how the networks see them."""
    votes = {"votes": args.votes} if args.votes else {}
    faces = subjects.read(args.data, **votes)
    abroad = subjects.read(args.also) if args.also else None
    yardsticks = Yardsticks.of(faces, abroad, recipe_of(base, args.quick), args.device)
    runs = args.runs or Path("out", f"quick-{program}" if args.quick else program)
    return Trials(faces, abroad, yardsticks, args.device, runs, args.quick, program)


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = options("trials", __doc__)
    parser.add_argument(
        "--only", action="append", choices=ARMS, metavar="ARM", help=f"of {', '.join(ARMS)}"
    )
    args = harness.parse(parser, arguments)
    trials = open_trials(args, ARMS[BASE], "trials")
    out = harness.output(parser, args, trials.runs / "trials.json")
    about = harness.record("trials", arguments, args.device)
    about["settings"] = {
        "recipe": recipe_of(ARMS[BASE], args.quick).as_dict(),
        "arms": {a.name: {"title": a.title, "changes": dict(a.changes)} for a in ARMS.values()},
    }
    for seed in range(args.seeds):
        for name in args.only or ARMS:
            trials.run(ARMS[name], seed)
            told = {**about, "arms": summarise(all_records(trials.runs))}
            harness.write_json(out, told)
            own = {**told, "arms": {name: told["arms"][name]}}
            print(table(own).splitlines()[-1], flush=True)
    print(f"{table(told)}\n\n{head_table(told)}\nwrote {out}")
    return 0


def run_pairs(
    arms: Sequence[tuple[Arm, Trials]], seeds: int, about: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Run each arm with every seed, and after each run write `out`: `about`, the arms' settings and
    what was found. Returns what was written last."""
    base, trials = arms[0]
    settings = {
        "recipe": recipe_of(base, trials.quick).as_dict(),
        "arms": {arm.name: {"title": arm.title} for arm, _ in arms},
    }
    about = {**about, "settings": {**settings, **about.get("settings", {})}}
    for seed in range(seeds):
        for arm, own in arms:
            own.run(arm, seed)
            told = {**about, "arms": summarise(all_records(trials.runs))}
            harness.write_json(out, told)
    print(f"{table(told)}\nwrote {out}")
    return told


def all_records(runs: Path) -> list[dict[str, Any]]:
    """The runs that are done, those of other calls too."""
    found = [harness.read_json(path) for path in subjects.whole_files(runs, "*-seed*.json")]
    return [told for told in found if told]


if __name__ == "__main__":
    sys.exit(main())
